//! The modules keep to their layers: read from the sources as text, so that no import can point upward unseen.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// The layers, lowest first. A module names modules of lower layers only, and none of its own layer's.
///
/// `lib` re-exports from everywhere and so has no layer; nobody may import through it.
const LAYERS: &[&[&str]] = &[
    // Words, numbers and the time.
    &["clock", "config", "error", "ids", "message", "reconnect", "sync", "tests_random"],
    &["gunzip"],
    &["scratch"],
    // What users implement, and what threads are told.
    &["auth", "bell", "cpu", "event", "halted", "headers", "metrics", "own_thread", "router"],
    &["limits", "requests", "subscriptions", "toml_file"],
    &["handler", "idle", "mailbox", "passive_ping", "report", "state"],
    &["thread"],
    // The three parts of a connection: when, what and how. They never name each other; `engine` introduces them.
    &["lifecycle", "pipeline", "transport"],
    &["engine"],
    &["core_plan", "engine_group", "sender", "venue_profile"],
    &["client", "routing", "sources"],
    // What users meet first; `guide` is text alone, and `fuzzing` and `internals` what fuzz targets and benches meet.
    &["builder", "ctrl_c", "fuzzing", "guide", "internals", "manager"],
    &["assemble"],
    &["arbiter"],
];

/// Stands beside the layers: a venue to test against, which must share nothing with what it tests.
const SIMULATOR: &str = "simulator";

#[test]
fn imports_point_only_downward() {
    let mut checked = 0;
    let mut breaches = Vec::new();
    for file in library().iter().filter(|file| !file.is(SIMULATOR) && !file.is("lib")) {
        let own = layer(&file.module[0]);
        assert!(own.is_some(), "{}: the module has no layer yet; give it one", file.path.display());
        for reference in file.shipped().references().filter(|reference| reference.target != file.module[0]) {
            checked += 1;
            let downward = layer(&reference.target).is_some_and(|target| Some(target) < own);
            if !downward {
                breaches.push(file.at(reference.line, &format!("{} names {}", file.module[0], reference.target)));
            }
        }
    }
    assert!(checked > 100, "only {checked} imports found: the reader is blind");
    assert_none(&breaches);
}

#[test]
fn no_module_has_two_layers() {
    let names: Vec<_> = LAYERS.concat();
    assert_eq!(names.iter().collect::<BTreeSet<_>>().len(), names.len());
}

#[test]
fn the_lifecycle_and_the_pipeline_know_neither_each_other_nor_sockets() {
    let mut breaches = Vec::new();
    for (module, strangers) in
        [("lifecycle", ["pipeline", "transport", "engine"]), ("pipeline", ["lifecycle", "transport", "engine"])]
    {
        for file in library().iter().filter(|file| file.is(module)) {
            let references =
                file.code().references().filter(|reference| strangers.contains(&reference.target.as_str()));
            breaches.extend(references.map(|found| file.at(found.line, &format!("{module} names {}", found.target))));
        }
    }
    assert_none(&breaches);
}

#[test]
fn the_lifecycle_sees_no_socket_no_thread_and_no_clock() {
    let mut breaches = Vec::new();
    for file in library().iter().filter(|file| file.is("lifecycle")) {
        for word in ["mio", "net", "thread", "clock"] {
            breaches.extend(file.shipped().lines_with_word(word).map(|line| file.at(line, word)));
        }
    }
    assert_none(&breaches);
}

#[test]
fn only_the_websocket_file_and_its_tests_name_tungstenite() {
    let allowed = |file: &Source| {
        file.is(SIMULATOR)
            || file.module == ["transport", "websocket"]
            || file.module[0] == "transport" && file.module.last().is_some_and(|name| name.starts_with("tests_"))
    };
    let mut breaches = Vec::new();
    for file in library().iter().filter(|file| !allowed(file)) {
        breaches.extend(file.code().lines_with_word("tungstenite").map(|line| file.at(line, "tungstenite")));
    }
    assert_none(&breaches);
}

#[test]
fn only_the_clock_asks_the_machine_what_time_it_is() {
    let mut breaches = Vec::new();
    for file in library().iter().filter(|file| !file.is(SIMULATOR) && !file.is("clock")) {
        for call in ["Instant::now", "SystemTime::now", ".elapsed()"] {
            breaches.extend(file.shipped().lines_with(call).map(|line| file.at(line, call)));
        }
    }
    assert_none(&breaches);
}

#[test]
fn the_simulator_shares_nothing_with_the_engine_it_tests() {
    let mut breaches = Vec::new();
    for file in library() {
        let inside = file.is(SIMULATOR);
        for reference in file.code().references() {
            if inside != (reference.target == SIMULATOR) {
                breaches.push(file.at(reference.line, &format!("{} names {}", file.module[0], reference.target)));
            }
        }
        if !inside {
            let lines = file.code().lines_with_word(SIMULATOR).collect::<Vec<_>>();
            let declares = |line: &usize| file.is("lib") && DECLARATION.contains(&file.line(*line));
            breaches.extend(lines.into_iter().filter(|line| !declares(line)).map(|line| file.at(line, SIMULATOR)));
        }
    }
    assert_none(&breaches);
}

#[test]
fn nothing_that_ships_unwraps() {
    let mut breaches = Vec::new();
    for file in sources() {
        breaches.extend(file.shipped().lines_with(".unwrap()").map(|line| file.at(line, "say why it holds: expect")));
    }
    assert_none(&breaches);
}

#[test]
fn the_reader_follows_groups_parents_and_inline_modules_and_leaves_comments_and_tests_out() {
    let source = Source {
        path: PathBuf::from("src/engine/planted.rs"),
        module: vec!["engine".to_owned(), "planted".to_owned()],
        text: PLANTED.to_owned(),
    };
    let found = |code: &Code| code.references().map(|it| (it.line, it.target)).collect::<Vec<_>>();
    let expected = |pairs: &[(usize, &str)]| pairs.iter().map(|&(n, it)| (n, it.to_owned())).collect::<Vec<_>>();
    let shipped =
        [(2, "builder"), (4, "client"), (5, "sender"), (7, "engine"), (9, "engine"), (11, "routing"), (13, "clock")];
    assert_eq!(found(&source.shipped()), expected(&shipped));
    assert_eq!(source.shipped().lines_with_word("tungstenite").collect::<Vec<_>>(), [13]);
    assert_eq!(found(&source.code()).last(), Some(&(18, "state".to_owned())));
    assert_eq!(source.code().lines_with(".unwrap()").collect::<Vec<_>>(), [19]);
}

const PLANTED: &str = r#"//! crate::lifecycle
use crate::builder::{HasUrl, NoUrl};
use crate::{
    client::{Client, Events},
    sender,
};
use super::ready;
mod sealed {
    use super::super::command::Queue;
    fn root() {
        super::super::super::routing::call();
    }
} fn time() { let url = "ws://host"; crate::clock::now(); let tungstenites = tungstenite::VERSION; // crate::pipeline
}

#[cfg(test)]
mod tests {
    use crate::state::Shared;
    fn fails() { None::<u8>.unwrap(); }
}
"#;

/// The lines of `lib.rs` that may name the simulator.
const DECLARATION: [&str; 2] = [r#"#[cfg(feature = "simulator")]"#, "pub mod simulator;"];

fn layer(module: &str) -> Option<usize> {
    LAYERS.iter().position(|layer| layer.contains(&module))
}

#[track_caller]
fn assert_none(breaches: &[String]) {
    assert!(breaches.is_empty(), "\n{}", breaches.join("\n"));
}

/// One file under `src`.
struct Source {
    path: PathBuf,
    /// Such as `["transport", "websocket"]`; `["transport"]` for its `mod.rs`; `["lib"]` for the root.
    module: Vec<String>,
    text: String,
}

/// All files under `src`.
/// The crate's own; the command in `src/bin` is a user of it like any other.
fn library() -> Vec<Source> {
    sources().into_iter().filter(|file| !file.is("bin")).collect()
}

fn sources() -> Vec<Source> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut sources = Vec::new();
    let mut folders = vec![root.clone()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).expect("a folder of ours") {
            let path = entry.expect("a folder of ours").path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                sources.push(Source::read(&root, &path));
            }
        }
    }
    assert!(sources.len() > 20, "only {} sources found", sources.len());
    sources.sort_by(|a, b| a.path.cmp(&b.path));
    sources
}

impl Source {
    fn read(root: &Path, path: &Path) -> Self {
        let text = fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        let inner = path.strip_prefix(root).expect("it was found there").with_extension("");
        let mut module: Vec<_> = inner.iter().map(|part| part.to_string_lossy().into_owned()).collect();
        if module.last().is_some_and(|last| last == "mod") {
            module.pop();
        }
        let shown = Path::new("src").join(path.strip_prefix(root).expect("it was found there"));
        Self { path: shown, module, text }
    }

    /// Whether it belongs to this module of the crate's root.
    fn is(&self, module: &str) -> bool {
        self.module[0] == module
    }

    fn is_tests(&self) -> bool {
        self.module.iter().any(|part| part == "tests" || part == "model" || part.starts_with("tests_"))
    }

    /// Its lines without comments.
    fn code(&self) -> Code<'_> {
        let lines = self.text.lines().map(without_comment).enumerate().map(|(index, line)| (index + 1, line)).collect();
        Code { source: self, lines }
    }

    /// Its lines without comments and without tests.
    fn shipped(&self) -> Code<'_> {
        let mut code = self.code();
        let (mut behind_cfg, mut in_tests) = (false, self.is_tests());
        code.lines.retain(|(_, line)| {
            // rustfmt puts a top-level module's closing brace at the margin.
            let opens = behind_cfg && opened_module(line).is_some();
            let skipped = in_tests || opens;
            in_tests = skipped && (self.is_tests() || *line != "}");
            behind_cfg =
                ["#[cfg(test)]", "#[cfg(all(loom, test))]"].contains(line) || behind_cfg && line.starts_with("#[");
            !skipped
        });
        code
    }

    fn line(&self, number: usize) -> &str {
        self.text.lines().nth(number - 1).unwrap_or_default()
    }

    fn at(&self, line: usize, what: &str) -> String {
        format!("{}:{line}: {what}: {}", self.path.display(), self.line(line).trim())
    }
}

/// Numbered lines of one file.
struct Code<'a> {
    source: &'a Source,
    lines: Vec<(usize, &'a str)>,
}

/// A path that leads to a module of the crate's root, and where it stands.
struct Reference {
    line: usize,
    /// For an item that the root itself re-exports, that item's name.
    target: String,
}

impl<'a> Code<'a> {
    fn lines_with(&self, text: &str) -> impl Iterator<Item = usize> {
        self.lines.iter().filter(move |(_, line)| line.contains(text)).map(|&(number, _)| number)
    }

    fn lines_with_word(&self, word: &str) -> impl Iterator<Item = usize> {
        let has = move |line: &str| line.split(|c: char| !is_word(c)).any(|found| found == word);
        self.lines.iter().filter(move |(_, line)| has(line)).map(|&(number, _)| number)
    }

    /// Every path that begins with `crate` or `super`, one for each name of a group.
    fn references(&self) -> impl Iterator<Item = Reference> + use<'a> {
        let mut references = Vec::new();
        // The inline modules around the line, each with its indentation.
        let mut around: Vec<(usize, &str)> = Vec::new();
        for (index, &(number, line)) in self.lines.iter().enumerate() {
            let indent = line.len() - line.trim_start().len();
            if line.trim_start().starts_with('}') {
                around.retain(|&(outer, _)| outer < indent);
            }
            for (start, _) in line.match_indices("crate").chain(line.match_indices("super")) {
                let before = &line[..start];
                // A later `super` of a chain was taken with the first; `pub(crate)` leads nowhere.
                if before.ends_with(|c| is_word(c) || c == ':') || !line[start + 5..].starts_with("::") {
                    continue;
                }
                let mut base: Vec<_> = self.source.module.iter().map(String::as_str).collect();
                base.extend(around.iter().map(|&(_, name)| name));
                let mut rest = &line[start..];
                while let Some(behind) = rest.strip_prefix("super::") {
                    base.pop();
                    rest = behind;
                }
                if let Some(behind) = rest.strip_prefix("crate::") {
                    base.clear();
                    rest = behind;
                }
                match (base.first(), rest.strip_prefix('{')) {
                    (Some(module), _) => references.push(Reference { line: number, target: (*module).to_owned() }),
                    (None, None) => references.push(Reference { line: number, target: first_word(rest) }),
                    (None, Some(group)) => {
                        let later = self.lines[index + 1..].iter().copied();
                        references.extend(names_of_group([(number, group)].into_iter().chain(later)));
                    }
                }
            }
            if let Some(name) = opened_module(line) {
                around.push((indent, name));
            }
        }
        references.into_iter()
    }
}

/// The first name of each path in a `{…}` group, from behind its opening brace.
fn names_of_group<'a>(lines: impl Iterator<Item = (usize, &'a str)>) -> Vec<Reference> {
    let (mut names, mut depth, mut awaited) = (Vec::new(), 0, true);
    for (number, line) in lines {
        for (start, c) in line.char_indices() {
            match c {
                '{' => depth += 1,
                '}' if depth == 0 => return names,
                '}' => depth -= 1,
                ',' if depth == 0 => awaited = true,
                c if is_word(c) && awaited => {
                    awaited = false;
                    names.push(Reference { line: number, target: first_word(&line[start..]) });
                }
                _ => {}
            }
        }
    }
    names
}

fn opened_module(line: &str) -> Option<&str> {
    let (before, name) = line.strip_suffix(" {")?.rsplit_once("mod ")?;
    (before.trim().is_empty() || before.trim_start().starts_with("pub")).then_some(name)
}

fn first_word(text: &str) -> String {
    text.chars().take_while(|&c| is_word(c)).collect()
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

/// The `//` of a URL has no blank before it.
fn without_comment(line: &str) -> &str {
    let comment = line.match_indices("//").find(|&(start, _)| line[..start].trim_end().len() < start || start == 0);
    line[..comment.map_or(line.len(), |(start, _)| start)].trim_end()
}

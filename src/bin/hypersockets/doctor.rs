//! `doctor`: what on this host stands between it and low latency. Its checks are data, in `tuning/checks.toml`, which
//! `tuning/check.sh` reads too; both say the same, word for word. Invariant: it reads, and changes nothing.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;
use serde::Deserialize;

use crate::Result;

/// The checks, compiled in.
const CHECKS: &str = include_str!("../../../tuning/checks.toml");

/// Says what on this host costs latency, and how to mend and undo each thing. It changes nothing.
#[derive(Args)]
#[command(after_help = "Examples:
  hypersockets doctor
  hypersockets doctor --core 2 --core 3

Exit codes: 0 nothing was found, 1 something was, 2 the arguments are wrong. Hints do not count.
tuning/README.md explains each check; tuning/apply.sh mends what can be mended while the host runs.")]
pub(crate) struct Doctor {
    /// A core on which a loop or a handler is to run; as often as there are such cores.
    #[arg(long = "core", value_name = "N")]
    cores: Vec<usize>,
    /// Looks at the files below this folder in place of the host's own.
    #[arg(long, value_name = "DIR", default_value = "/", hide_default_value = true)]
    root: PathBuf,
}

impl Doctor {
    pub(crate) fn run(&self) -> Result<ExitCode> {
        if !self.root.is_dir() {
            crate::status::say(&format!("error: {} is no folder", self.root.display()));
            return Ok(ExitCode::from(2));
        }
        for core in &self.cores {
            let place = self.root.join(format!("sys/devices/system/cpu/cpu{core}"));
            if !place.is_dir() {
                crate::status::say(&format!("error: this host has no core {core}"));
                return Ok(ExitCode::from(2));
            }
        }
        let checks: Checks = toml::from_str(CHECKS)?;
        let mut out = std::io::stdout().lock();
        let mut stands_in_the_way = false;
        for check in &checks.check {
            let cores: Vec<Option<usize>> = match check.scope {
                Scope::Host => vec![None],
                Scope::Core => self.cores.iter().copied().map(Some).collect(),
            };
            for core in cores {
                let outcome = check.judge(&self.root, core);
                stands_in_the_way |= check.level == Level::Fail && matches!(outcome, Outcome::Fails { .. });
                check.tell(&outcome, core, &mut out)?;
            }
        }
        if self.cores.is_empty() {
            let advice = "name those of the loop and of the handlers, each by --core N";
            writeln!(out, "note  nothing was asked of any core: {advice}")?;
        }
        Ok(if stands_in_the_way { ExitCode::FAILURE } else { ExitCode::SUCCESS })
    }
}

#[derive(Deserialize)]
struct Checks {
    check: Vec<Check>,
}

/// One check; `checks.toml` says what each field means.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Check {
    id: String,
    level: Level,
    scope: Scope,
    file: String,
    rule: Rule,
    want: String,
    wish: String,
    /// For `apply.sh`.
    #[serde(rename = "set")]
    _set: String,
    why: String,
    mend: String,
    undo: String,
    source: String,
}

#[derive(Deserialize, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
enum Level {
    /// It stands in the way.
    Fail,
    /// It may help, and costs something.
    Hint,
}

#[derive(Deserialize)]
#[serde(rename_all = "snake_case")]
enum Scope {
    /// Once.
    Host,
    /// For each core that was named.
    Core,
}

/// How a file's content is judged; `checks.toml` says what each means.
#[derive(Deserialize, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
enum Rule {
    OneOf,
    NoneOf,
    AtLeast,
    AtMost,
    Selected,
    ListsCore,
    OmitsCore,
    CoreAlone,
    MaskOmitsCore,
    ParameterListsCore,
    LinesAtMost,
    EnabledExitAtMost,
}

enum Outcome {
    Passes,
    /// There is nothing to be looked at; the pattern that found nothing.
    Absent(String),
    Fails {
        /// The first file that fails, and what it says.
        first: (String, String),
        others: usize,
    },
}

impl Check {
    /// Looks at each file of the check.
    fn judge(&self, root: &Path, core: Option<usize>) -> Outcome {
        let number = core.map_or(String::new(), |core| core.to_string());
        let pattern = self.file.replace("{core}", &number);
        let (mut seen, mut fails) = (0, Vec::new());
        for file in files(root, &pattern) {
            let Ok(bytes) = std::fs::read(&file) else { continue };
            seen += 1;
            if !self.passes(&file, &bytes, core.unwrap_or_default()) {
                let name = file.strip_prefix(root).unwrap_or(&file);
                fails.push((format!("/{}", name.display()), shorten(&on_one_line(&bytes))));
            }
        }
        let others = fails.len().saturating_sub(1);
        match fails.into_iter().next() {
            Some(first) => Outcome::Fails { first, others },
            None if seen == 0 && self.rule != Rule::NoneOf => Outcome::Absent(pattern),
            None => Outcome::Passes,
        }
    }

    fn passes(&self, file: &Path, bytes: &[u8], core: usize) -> bool {
        let value = on_one_line(bytes);
        let among = |word: &str| self.want.split('|').any(|wanted| wanted == word);
        let wanted = || self.want.parse::<i64>().unwrap_or_default();
        let last = || value.split(' ').next_back().and_then(last_number);
        match self.rule {
            Rule::OneOf => among(&value),
            Rule::NoneOf => !among(&value),
            Rule::AtLeast => last().is_some_and(|number| number >= wanted()),
            Rule::AtMost => last().is_some_and(|number| number <= wanted()),
            Rule::Selected => {
                let chosen = value.rsplit_once('[').and_then(|(_, rest)| rest.split_once(']'));
                among(chosen.map_or(&value, |(word, _)| word))
            }
            Rule::ListsCore => lists(&value, core),
            Rule::OmitsCore => !lists(&value, core),
            Rule::CoreAlone => value == core.to_string(),
            Rule::MaskOmitsCore => !mask_has(&value, core),
            Rule::ParameterListsCore => {
                let lists_core = |list: &str| lists(list, core);
                value.split(' ').filter_map(|word| word.strip_prefix(&self.want)?.strip_prefix('=')).any(lists_core)
            }
            Rule::LinesAtMost => bytes.iter().filter(|byte| **byte == b'\n').count() as i64 <= wanted(),
            Rule::EnabledExitAtMost => {
                let is_disabled =
                    || std::fs::read(file.with_file_name("disable")).is_ok_and(|it| on_one_line(&it) == "1");
                last().is_some_and(|us| us <= wanted()) || is_disabled()
            }
        }
    }

    fn tell(&self, outcome: &Outcome, core: Option<usize>, out: &mut impl Write) -> std::io::Result<()> {
        let name = core.map_or_else(|| self.id.clone(), |core| format!("{}, core {core}", self.id));
        match outcome {
            Outcome::Passes => writeln!(out, "ok    {name}"),
            Outcome::Absent(pattern) => writeln!(out, "skip  {name}: this host has no {pattern}"),
            Outcome::Fails { first: (file, value), others } => {
                let word = if self.level == Level::Fail { "FAIL" } else { "hint" };
                let more = if *others > 0 { format!(", and {others} more") } else { String::new() };
                writeln!(out, "{word}  {name}: {file} says \"{value}\"{more}; wanted: {}", self.wish)?;
                writeln!(out, "      why:  {}", self.why)?;
                writeln!(out, "      mend: {}", self.mend)?;
                writeln!(out, "      undo: {}", self.undo)?;
                writeln!(out, "      by:   {}", self.source)
            }
        }
    }
}

/// The files below `root` that the pattern means, in the order of their bytes.
fn files(root: &Path, pattern: &str) -> Vec<PathBuf> {
    let mut places = vec![root.to_owned()];
    for part in pattern.split('/').filter(|part| !part.is_empty()) {
        places = places.into_iter().flat_map(|place| matches(&place, part)).collect();
    }
    places.retain(|place| place.is_file());
    places.sort_by(|a, b| a.as_os_str().cmp(b.as_os_str()));
    places
}

/// What a part of a pattern means in a folder: itself, or with a star all that is not hidden.
fn matches(place: &Path, part: &str) -> Vec<PathBuf> {
    if part != "*" {
        return vec![place.join(part)];
    }
    let entries = std::fs::read_dir(place).into_iter().flatten().flatten();
    let shown = entries.filter(|entry| !entry.file_name().as_encoded_bytes().starts_with(b"."));
    shown.map(|entry| entry.path()).collect()
}

/// The text of a file on one line: spaces for what is between its words, and a question mark for each byte that a terminal might
/// take for an order, or that is no ASCII.
fn on_one_line(bytes: &[u8]) -> String {
    let shown = |byte: &u8| match byte {
        b' ' | b'\n' | b'\t' | b'\0' => ' ',
        b'!'..=b'~' => char::from(*byte),
        _ => '?',
    };
    let text: String = bytes.iter().map(shown).collect();
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// A long text by its beginning.
fn shorten(text: &str) -> String {
    match text.char_indices().nth(SHOWN) {
        Some((end, _)) => format!("{}...", &text[..end]),
        None => text.to_owned(),
    }
}

/// Characters of a file that are shown.
const SHOWN: usize = 60;

/// A number, if the word is one: digits, and perhaps a minus. One of more than 18 characters is none.
fn last_number(word: &str) -> Option<i64> {
    let digits = word.strip_prefix('-').unwrap_or(word);
    let is_number = !digits.is_empty() && word.len() <= 18 && digits.bytes().all(|byte| byte.is_ascii_digit());
    is_number.then(|| word.parse().ok()).flatten()
}

/// Whether a list such as `2-5,8` has the core in it. Words that are none, as in `managed_irq,2-5`, are passed over; on the
/// command line the kernel takes `all` too, and `N` for its last cpu.
fn lists(list: &str, core: usize) -> bool {
    let cpu = |text: &str| {
        let is_cpu = text.len() <= 9 && text.bytes().all(|byte| byte.is_ascii_digit());
        is_cpu.then(|| text.parse::<usize>().ok()).flatten().or_else(|| (text == "N").then_some(LAST_CPU))
    };
    list.split(',').any(|part| {
        if part == "all" {
            return true;
        }
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        cpu(first).zip(cpu(last)).is_some_and(|(first, last)| (first..=last).contains(&core))
    })
}

/// Behind every cpu that there is.
const LAST_CPU: usize = 999_999_999;

/// Whether a mask such as `00000000,0000000c` has the bit of the core.
fn mask_has(mask: &str, core: usize) -> bool {
    let word = mask.rsplit(',').nth(core / 32).filter(|word| word.bytes().all(|byte| byte.is_ascii_hexdigit()));
    let word = word.and_then(|word| u32::from_str_radix(word, 16).ok().filter(|_| word.len() <= 8));
    word.is_some_and(|word| word >> (core % 32) & 1 == 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_checks_can_be_read_and_have_names_of_their_own() {
        let checks: Checks = toml::from_str(CHECKS).expect("it is ours");
        let mut names: Vec<_> = checks.check.iter().map(|check| check.id.as_str()).collect();
        let count = names.len();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), count);
    }

    #[test]
    fn lists_and_masks_name_the_cores_that_they_name() {
        assert!(lists("2-5,8", 5) && lists("2-5,8", 8) && !lists("2-5,8", 6) && !lists("", 0) && !lists("(null)", 0));
        assert!(lists("managed_irq,domain,3", 3) && !lists("managed_irq,domain,3", 2));
        assert!(lists("all", 7) && lists("2-N", 7) && !lists("2-N", 1) && !lists("N", 7) && !lists("2-", 2));
        assert!(mask_has("c", 2) && mask_has("00000000,0000000C", 3) && !mask_has("00000001,00000000", 0));
        assert!(mask_has("00000001,00000000", 32) && !mask_has("f", 32) && !mask_has("", 0));
    }
}

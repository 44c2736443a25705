//! Promise: what the documents point at is there: files, headings, examples, benches, tests.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Every Markdown file that belongs to the project.
fn documents() -> Vec<PathBuf> {
    let folders = ["", "tuning", "src/guide"];
    let entries = folders.iter().flat_map(|folder| fs::read_dir(root().join(folder)).expect("part of the project"));
    let mut documents: Vec<_> = entries.map(|entry| entry.expect("readable").path()).collect();
    documents.retain(|path| path.extension().is_some_and(|extension| extension == "md"));
    documents.sort();
    documents
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The text without what stands between fences, where brackets mean something else.
fn prose(text: &str) -> String {
    let mut fenced = false;
    let mut kept = String::new();
    for line in text.lines() {
        if line.trim_start().starts_with("```") {
            fenced = !fenced;
        } else if !fenced {
            kept.push_str(line);
            kept.push('\n');
        }
    }
    kept
}

/// What stands between `](` and `)`.
fn links(prose: &str) -> impl Iterator<Item = &str> {
    prose.split("](").skip(1).filter_map(|rest| rest.split(')').next())
}

/// A heading as GitHub and others make an anchor of it.
fn anchor(heading: &str) -> String {
    let kept = heading.trim().chars().filter(|c| c.is_alphanumeric() || *c == ' ' || *c == '-');
    kept.collect::<String>().to_lowercase().replace(' ', "-")
}

fn anchors(text: &str) -> BTreeSet<String> {
    prose(text).lines().filter(|line| line.starts_with('#')).map(|line| anchor(line.trim_start_matches('#'))).collect()
}

#[test]
fn every_link_leads_to_a_file_and_a_heading_that_are_there() {
    let mut dead = Vec::new();
    let mut followed = 0;
    for document in documents() {
        let text = read(&document);
        for link in links(&prose(&text)) {
            // rustdoc checks its own, and nobody is asked over the network.
            if link.contains("://") || link.starts_with("crate::") {
                continue;
            }
            followed += 1;
            let (file, heading) = link.split_once('#').unwrap_or((link, ""));
            let target = match file {
                "" => document.clone(),
                file => document.parent().expect("a file").join(file),
            };
            let is_there = target.exists() && (heading.is_empty() || anchors(&read(&target)).contains(heading));
            if !is_there {
                dead.push(format!("{}: {link}", document.strip_prefix(root()).expect("below it").display()));
            }
        }
    }
    assert!(dead.is_empty(), "{dead:#?}");
    assert!(followed > 30, "the documents are full of links, and {followed} were found");
}

/// The names in a folder, without their extensions.
fn names_in(folder: &str, extension: &str) -> BTreeSet<String> {
    let entries =
        fs::read_dir(root().join(folder)).expect("part of the project").map(|entry| entry.expect("readable").path());
    let programs =
        entries.filter(|path| path.extension().is_some_and(|it| it == extension) || path.join("main.rs").exists());
    programs.map(|path| path.file_stem().expect("a name").to_string_lossy().into_owned()).collect()
}

#[test]
fn the_readme_lists_each_example_and_no_other() {
    let readme = read(&root().join("README.md"));
    let (_, table) = readme.split_once("## Examples").expect("the heading");
    let (table, _) = table.split_once("\n## ").expect("another heading");
    let rows = table.lines().filter_map(|line| line.strip_prefix("| `")?.split('`').next());
    assert_eq!(rows.map(str::to_owned).collect::<BTreeSet<_>>(), names_in("examples", "rs"));
}

#[test]
fn the_command_at_the_top_of_each_example_names_it() {
    for example in names_in("examples", "rs") {
        let file = root().join(format!("examples/{example}.rs"));
        if file.exists() {
            let text = read(&file);
            let head = text.lines().take_while(|line| line.starts_with("//!")).collect::<String>();
            assert!(head.contains(&format!("--example {example}")), "{example}");
        }
    }
}

#[test]
fn each_test_and_bench_that_a_document_names_is_there() {
    let mut missing = Vec::new();
    for document in documents() {
        let text = read(&document);
        for word in text.split(['`', ' ', '(', ')', ',', '|', '\n']) {
            let is_named = (word.starts_with("tests/") || word.starts_with("src/") || word.starts_with("examples/"))
                && word.ends_with(".rs");
            if is_named && !root().join(word).exists() {
                missing.push(format!("{}: {word}", document.display()));
            }
        }
        for (index, _) in text.match_indices("--bench ") {
            let bench: String = text[index + 8..].chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
            if !root().join(format!("benches/{bench}.rs")).exists() {
                missing.push(format!("{}: --bench {bench}", document.display()));
            }
        }
    }
    assert!(missing.is_empty(), "{missing:#?}");
}

/// The smallest program stays one that is read at a glance.
#[test]
fn the_smallest_program_of_the_readme_has_at_most_30_lines() {
    let readme = read(&root().join("README.md"));
    let (_, program) = readme.split_once("## The smallest program").expect("the heading");
    let lines =
        program.lines().skip_while(|line| !line.starts_with("```rust")).skip(1).take_while(|line| *line != "```");
    assert!(lines.count() <= 30);
}

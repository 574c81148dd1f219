//! The documents: every relative link resolves, code that they name exists, and `docs/configuration.md` is made from the
//! configuration's own words. Write it anew with `GRID_UPDATE_DOCS=1 cargo test -p grid --test docs`.
#![allow(clippy::unwrap_used)] // all of this file is tests and their helpers

use grid_core::config::{explain, parse};
use std::collections::BTreeSet;
use std::fmt::Write;
use std::path::{Path, PathBuf};

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// The project's own Markdown: at the root, in `docs` and in `bench`.
fn documents() -> Vec<PathBuf> {
    let mut found = Vec::new();
    for dir in ["", "docs", "docs/design", "bench"] {
        for entry in std::fs::read_dir(root().join(dir)).unwrap() {
            let path = entry.unwrap().path();
            if path.extension().is_some_and(|e| e == "md") {
                found.push(path);
            }
        }
    }
    found.sort();
    assert!(found.len() >= 8, "only {} documents", found.len());
    found
}

/// Targets of `[text](target)`.
fn links(text: &str) -> Vec<&str> {
    text.split("](").skip(1).filter_map(|rest| rest.split_once(')').map(|(target, _)| target)).collect()
}

/// A heading's anchor: lower case, words joined by dashes, no other signs.
fn anchor(heading: &str) -> String {
    let kept = heading.trim().to_lowercase();
    kept.chars().filter(|c| c.is_alphanumeric() || " -_".contains(*c)).collect::<String>().replace(' ', "-")
}

fn anchors(document: &Path) -> BTreeSet<String> {
    let text = std::fs::read_to_string(document).unwrap();
    text.lines().filter(|l| l.starts_with('#')).map(|l| anchor(l.trim_start_matches('#'))).collect()
}

#[test]
fn every_relative_link_resolves() {
    let mut broken = Vec::new();
    for document in documents() {
        let text = std::fs::read_to_string(&document).unwrap();
        for link in links(&text).into_iter().filter(|l| !l.starts_with("https://")) {
            let (path, wanted) = link.split_once('#').unwrap_or((link, ""));
            let target = if path.is_empty() { document.clone() } else { document.parent().unwrap().join(path) };
            let there = target.exists() && (wanted.is_empty() || anchors(&target).contains(wanted));
            if !there {
                broken.push(format!("{}: {link}", document.display()));
            }
        }
    }
    assert!(broken.is_empty(), "{}", broken.join("\n"));
}

/// `crates/…` in backquotes names a file or a folder that is there; `{a,b}` names each.
#[test]
fn named_files_are_there() {
    let mut missing = Vec::new();
    for document in documents() {
        let text = std::fs::read_to_string(&document).unwrap();
        let quoted = text.split('`').skip(1).step_by(2).filter(|q| q.starts_with("crates/") && !q.contains(' '));
        for name in quoted.flat_map(each) {
            if !root().join(&name).exists() {
                missing.push(format!("{}: {name}", document.display()));
            }
        }
    }
    assert!(missing.is_empty(), "{}", missing.join("\n"));
}

fn each(name: &str) -> Vec<String> {
    let parts = name.split_once('{').and_then(|(before, rest)| rest.split_once('}').map(|(list, after)| (before, list, after)));
    match parts {
        Some((before, list, after)) => list.split(',').map(|one| format!("{before}{one}{after}")).collect(),
        None => vec![name.to_owned()],
    }
}

/// Every key that a file may have, with its default and meaning, in the words of `grid config check`.
fn configuration() -> String {
    let text = "name: NAME\nnodes:\n  - {name: ws1, host: ws1, role: head}\n  - {name: gpu1, host: gpu1, role: worker}\n\
                detector:\n  rules:\n    - {name: RULE, exe: \"*\", action: protect}\n";
    let parsed = parse(text).unwrap();
    let mut out = String::from(
        "# Configuration\n\nOne YAML file. `grid init` writes a commented one for this machine, `grid config check FILE` says \
         what each value means here, `grid config show FILE` prints all values in force. An unknown or contradictory key is \
         an error with its line, column and nearest valid key.\nThis file is made by a test from what the program itself \
         says.\n\n`role` of a node is `head` (or `master`) or `worker`. Times are written `90s`, `2m`, `1h30m` where the key \
         does not name a unit.\n\n| Key | Default | Meaning |\n| --- | --- | --- |\n",
    );
    let not_twice = |path: &str| !path.starts_with("nodes[0]");
    for e in explain(&parsed).iter().filter(|e| not_twice(&e.path)) {
        let path = e.path.replace("[1]", "[]").replace("rules[0]", "rules[]");
        let value = match e.source {
            grid_core::config::Source::Default if e.value != "-" => format!("`{}`", e.value),
            _ => "-".to_owned(),
        };
        let _ = writeln!(out, "| `{path}` | {value} | {} |", e.meaning.replace('|', "\\|"));
    }
    out
}

#[test]
fn the_configuration_is_up_to_date() {
    let (path, want) = (root().join("docs/configuration.md"), configuration());
    if std::env::var_os("GRID_UPDATE_DOCS").is_some() {
        std::fs::write(&path, &want).unwrap();
    }
    let have = std::fs::read_to_string(&path).unwrap_or_default();
    assert_eq!(have, want, "docs/configuration.md is out of date: GRID_UPDATE_DOCS=1 cargo test -p grid --test docs");
}

//! The documents: every relative link resolves, code that they name exists, and `docs/configuration.md` is made from the
//! configuration's own words. Write it anew with `GRID_UPDATE_DOCS=1 cargo test -p grid --test docs`.
#![allow(clippy::unwrap_used)] // all of this file is tests and their helpers

use grid_core::config::{Source, explain, parse};
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

/// Each attack that the threat model names is tried by a test that is there: `FILE: NAME`, below `crates`.
#[test]
fn each_attack_of_the_threat_model_has_its_test() {
    let text = std::fs::read_to_string(root().join("docs/threat-model.md")).unwrap();
    let rows = text.lines().filter(|l| l.starts_with("| ") && !l.starts_with("| ---") && !l.starts_with("| Attack"));
    let (mut tried, mut missing) = (0, Vec::new());
    for row in rows {
        let tests: Vec<_> = row.split('`').skip(1).step_by(2).filter_map(|t| t.split_once(".rs: ")).collect();
        if tests.is_empty() && !row.contains("**nothing yet**") {
            missing.push(format!("no test: {row}"));
        }
        for (file, name) in tests {
            let code = std::fs::read_to_string(root().join("crates").join(format!("{file}.rs"))).unwrap_or_default();
            let is_test = code.contains(&format!("fn {name}("));
            tried += 1;
            if !is_test {
                missing.push(format!("{file}.rs has no {name}"));
            }
        }
    }
    assert!(missing.is_empty(), "{}", missing.join("\n"));
    assert!(tried > 20, "{tried}");
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
    let parts =
        name.split_once('{').and_then(|(before, rest)| rest.split_once('}').map(|(list, after)| (before, list, after)));
    match parts {
        Some((before, list, after)) => list.split(',').map(|one| format!("{before}{one}{after}")).collect(),
        None => vec![name.to_owned()],
    }
}

/// Keys whose value is one of a few words. That each word is read is tested below.
const WORDS: [(&str, &[&str]); 10] = [
    ("role", &["head", "master", "worker"]),
    ("mode", &["dynamic_balancing", "offload_only", "share_and_offload"]),
    ("policy", &["balanced", "conservative", "aggressive", "predictive"]),
    ("auto_offload.mode", &["observe", "off", "on"]),
    ("kind", &["training", "inference", "data_processing", "compute", "io", "batch", "interactive", "daemon"]),
    ("action", &["allow", "protect"]),
    ("at_end", &["recall", "stay", "park", "end"]),
    ("engine", &["local", "ssh"]),
    ("files", &["same", "home"]),
    ("tcp_connections", &["refuse", "close"]),
];

/// A file with this word in place of the first of its key's.
/// No key of words: everything that may be left out is named.
const OPTIONAL: &str = "";

fn sample(key: &str, word: &str) -> String {
    let of =
        |k: &str| if k == key { word.to_owned() } else { WORDS.iter().find(|w| w.0 == k).unwrap().1[0].to_owned() };
    // What has no default is named where the defaults are not what is tried, so that it is explained.
    let optional = if key == OPTIONAL {
        "  ssh_config: /c\n  link_rate_limit: 1MiB\n  link_listen: 192.0.2.1:7443\n  link_dial: h:7443\n  files_patience: 10m\n"
    } else {
        ""
    };
    let of = |k: &str| match k {
        "engine" if key == OPTIONAL => "ssh".to_owned(),
        "role" if key == OPTIONAL => "worker".to_owned(),
        "files" if key == OPTIONAL => "home".to_owned(),
        k => of(k),
    };
    // One head and one worker; where the worker's role is tried, the other is what is left.
    let first = if of("role") == "worker" { "head" } else { "worker" };
    format!(
        "name: NAME\nnodes:\n  - {{name: a, host: a, role: {first}}}\n  - {{name: b, host: b, role: {}}}\n\
         execution:\n  resource_sharing:\n    mode: {}\n    policy: {}\n    auto_offload: {{mode: {}}}\n  engine: {}\n  files: {}\n{optional}\
         detector:\n  tcp_connections: {}\n  rules:\n    - {{name: N, exe: \"*\", comm: c, arg: a, user: u, kind: {}, action: {}}}\n\
         limits: {{at_end: {}}}\nusers: {{daemon: d}}\n",
        of("role"),
        of("mode"),
        of("policy"),
        of("auto_offload.mode"),
        of("engine"),
        of("files"),
        of("tcp_connections"),
        of("kind"),
        of("action"),
        of("at_end"),
    )
}

#[test]
fn every_word_of_the_page_is_read() {
    for (key, words) in WORDS {
        for word in words {
            assert!(parse(&sample(key, word)).is_ok(), "{key}: {word}");
        }
        assert!(parse(&sample(key, "nonsense")).is_err(), "{key} reads anything");
    }
}

/// Every key that a file may have, with its default and meaning, in the words of `grid config check`.
fn configuration() -> String {
    let parsed = parse(&sample(OPTIONAL, "")).unwrap();
    let mut out = String::from(
        "# Configuration\n\nOne YAML file. `grid init` writes a commented one for this machine, `grid config check FILE` says\n\
         what each value means here, `grid config show FILE` prints all values in force. An unknown or contradictory key\n\
         is an error with its line, column and nearest valid key. The original's other keys (`execution.default_nodes` and\n\
         the like) are accepted; `grid config check` says that they are not used.\n\n\
         This file is made by a test from what the program itself says.\n\n| Key | Word | Meaning |\n| --- | --- | --- |\n",
    );
    for (key, words) in WORDS {
        for (n, word) in words.iter().enumerate() {
            // The default comes first, but these have none.
            let default = if n == 0 && !matches!(key, "role" | "kind" | "action") { " (default)" } else { "" };
            let _ = writeln!(out, "| `{key}` | `{word}`{default} | {} |", meaning_of(key, word));
        }
    }
    out.push_str("\n| Key | Default | Meaning |\n| --- | --- | --- |\n");
    let words = ["role", "mode", "policy", "kind", "action", "at_end", "engine", "files", "tcp_connections"];
    for e in explain(&parsed).iter().filter(|e| !e.path.starts_with("nodes[0]")) {
        let path = e.path.replace("[1]", "[]").replace("rules[0]", "rules[]");
        let last = path.rsplit('.').next().unwrap_or_default();
        let default = default_of(&path);
        // What a word means is said after a colon, of the word that is written.
        let meaning = if words.contains(&last) { e.meaning.split(": ").next().unwrap_or_default() } else { &e.meaning };
        let _ = writeln!(out, "| `{path}` | {default} | {} |", meaning.replace('|', "\\|"));
    }
    out
}

/// What a word of a key means: said after a colon, behind the key's own meaning.
fn meaning_of(key: &str, word: &str) -> String {
    let parsed = parse(&sample(key, word)).unwrap();
    let is_it = |path: &str| path.ends_with(&format!(".{key}")) && (key != "mode" || !path.contains("auto_offload"));
    let head = |e: &grid_core::config::Explained| key != "role" || e.path == "nodes[1].role";
    let all = explain(&parsed);
    let said = all.iter().find(|e| is_it(&e.path) && head(e)).unwrap_or_else(|| panic!("{key}"));
    said.meaning.split_once(": ").map_or_else(String::new, |(_, meaning)| meaning.to_owned())
}

/// The value in force in a file that names nothing but its nodes.
fn default_of(path: &str) -> String {
    let bare = "name: N\nnodes:\n  - {name: a, host: a, role: head}\n  - {name: b, host: b, role: worker}\n";
    let all = explain(&parse(bare).unwrap());
    let same = |e: &&grid_core::config::Explained| e.path.replace("[1]", "[]") == path;
    let default = all.iter().find(same).filter(|e| e.source == Source::Default && e.value != "-");
    default.map_or_else(|| "-".to_owned(), |e| format!("`{}`", e.value))
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

/// The part of `docs/privileges.md` that is made from the agents' own table.
#[test]
fn the_agents_capabilities_are_up_to_date() {
    let mut table = String::from("| Capability | What it is for | Without it |\n| --- | --- | --- |\n");
    for kept in &grid_os::rights::AGENT {
        let without = if kept.needed { "all stays" } else { "some stay, or lose something" };
        let _ = writeln!(table, "| `{}` | {} | {without} |", kept.capability, kept.why);
    }
    let (path, start, end) = (root().join("docs/privileges.md"), "<!-- rights -->\n", "<!-- end of rights -->");
    let have = std::fs::read_to_string(&path).unwrap();
    let (before, rest) = have.split_once(start).unwrap();
    let (_, after) = rest.split_once(end).unwrap();
    let want = format!("{before}{start}{table}{end}{after}");
    if std::env::var_os("GRID_UPDATE_DOCS").is_some() {
        std::fs::write(&path, &want).unwrap();
    }
    let have = std::fs::read_to_string(&path).unwrap();
    assert_eq!(have, want, "docs/privileges.md is out of date: GRID_UPDATE_DOCS=1 cargo test -p grid --test docs");
}

#[test]
fn the_unit_hands_nothing_on_to_what_comes_home() {
    let unit = std::fs::read_to_string(root().join("dist/systemd/grid.service")).unwrap();
    // What a restored process would inherit, or could not see.
    for inherited in [
        "NoNewPrivileges",
        "SystemCallFilter",
        "ProtectSystem",
        "PrivateTmp",
        "ProtectHome",
        "UMask",
        "LimitNOFILE",
        "User",
    ] {
        assert!(!unit.lines().any(|line| line.starts_with(&format!("{inherited}="))), "{inherited}");
    }
}

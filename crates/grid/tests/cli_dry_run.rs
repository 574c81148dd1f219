//! Everything that changes something takes `--dry-run`: the definition of the commands is walked, and a command is either
//! on the list of those that only read, or has the option.
#![allow(clippy::unwrap_used)] // all of this file is tests and their helpers

use clap::CommandFactory;
use grid_cli::cli::Cli;
use std::collections::BTreeSet;

/// Commands that read, or print what they were asked for. (`offload scan` notes the plan that it shows, so that it can be
/// applied; nothing is changed by that.)
const READING: [&str; 15] = [
    "boost list",
    "boost show",
    "completions",
    "config check",
    "config show",
    "doctor",
    "events",
    "explain",
    "node list",
    "offload list",
    "offload scan",
    "offload show",
    "plan list",
    "plan show",
    "status",
];

/// Every command that people may type and that has none below it.
fn leaves(command: &clap::Command, path: &str, found: &mut Vec<(String, bool)>) {
    let below: Vec<_> = command.get_subcommands().filter(|c| !c.is_hide_set()).collect();
    if below.is_empty() {
        let dry_run = command.get_arguments().any(|a| a.get_long() == Some("dry-run"));
        found.push((path.to_owned(), dry_run));
    }
    for c in below {
        let path = if path.is_empty() { c.get_name().to_owned() } else { format!("{path} {}", c.get_name()) };
        leaves(c, &path, found);
    }
}

#[test]
fn what_changes_something_can_be_tried_without_changing_anything() {
    let mut found = Vec::new();
    leaves(&Cli::command(), "", &mut found);
    let reads = |name: &str| READING.contains(&name);
    let missing: Vec<_> = found.iter().filter(|(name, dry)| !dry && !reads(name)).map(|(name, _)| name).collect();
    assert!(missing.is_empty(), "without --dry-run, and not listed as reading: {missing:?}");
    let superfluous: Vec<_> = found.iter().filter(|(name, dry)| *dry && reads(name)).map(|(name, _)| name).collect();
    assert!(superfluous.is_empty(), "listed as reading, and with --dry-run: {superfluous:?}");
    let names: BTreeSet<&str> = found.iter().map(|(name, _)| name.as_str()).collect();
    let unknown: Vec<_> = READING.iter().filter(|name| !names.contains(*name)).collect();
    assert!(unknown.is_empty(), "listed and not there: {unknown:?}");
    assert!(found.iter().filter(|(_, dry)| *dry).count() >= 15, "{found:?}");
}

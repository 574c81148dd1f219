//! Everything that changes something takes `--dry-run`: the definition of the commands is walked, and a command is either
//! on the list of those that only read, or has the option. A dry run refuses what the act would refuse.
#![allow(clippy::unwrap_used)] // all of this file is tests and their helpers

use clap::CommandFactory;
use grid_cli::cli::Cli;
use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

/// Commands that read, or print what they were asked for. (`offload scan` notes the plan that it shows, so that it can be
/// applied; nothing is changed by that. `uninstall` only lists.)
const READING: [&str; 17] = [
    "boost list",
    "boost show",
    "completions",
    "config check",
    "config show",
    "doctor",
    "events",
    "explain",
    "lend status",
    "node list",
    "offload list",
    "offload scan",
    "offload show",
    "plan list",
    "plan show",
    "status",
    "uninstall",
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

/// Runs a command in a folder of root's, by this user; what it says and its exit code.
fn run(program: &Path, dir: &Path, uid: u32, words: &[&str]) -> (Option<i32>, String, String) {
    use std::os::unix::process::CommandExt;
    // Should the act not be refused, it ends.
    let mut command = Command::new("timeout");
    command.arg("20").arg(program).arg("--state").arg(dir.join("state")).args(words);
    command.current_dir(dir).env_remove("GRID_OUTPUT").env_remove("GRID_SOCKET").env_remove("SUDO_UID");
    let out = command.uid(uid).gid(uid).output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (out.status.code(), text(out.stdout), text(out.stderr))
}

#[test]
fn a_dry_run_is_refused_as_the_act_is() {
    if !nix::unistd::geteuid().is_root() {
        return eprintln!("SKIPPED: needs root to become somebody else");
    }
    // The program may lie where others cannot reach it; copied by another process, so that no descriptor keeps it busy.
    let place = tempfile::tempdir().unwrap();
    let (dir, program) = (place.path(), place.path().join("grid"));
    assert!(Command::new("cp").arg(env!("CARGO_BIN_EXE_grid")).arg(&program).status().unwrap().success());
    std::fs::set_permissions(dir, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    std::fs::create_dir_all(dir.join("state/control")).unwrap();
    std::fs::write(dir.join("there.yaml"), "").unwrap();
    let user: &[&[&str]] = &[
        &["stop"],
        &["down"],
        &["up", "--local", "1"],
        &["init"],
        &["init", "--output-file", "there.yaml"],
        &["man", "pages"],
        &["man", "there.yaml"],
        &["rescue"],
        &["node", "add", "gpu9"],
        &["node", "remove", "gpu9"],
    ];
    let root: &[&[&str]] = &[
        &["up", "--local", "1", "--daemon-user", "root"],
        &["up", "--local", "1", "--daemon-user", "no-such-user-here"],
        &["--state", "/run/grid-no-state", "up", "--local", "1"],
        &["down"],
        &["init", "--output-file", "there.yaml"],
        &["man", "there.yaml"],
    ];
    let cases = user.iter().map(|w| (65534, *w)).chain(root.iter().map(|w| (0, *w)));
    let check = |uid: u32, words: &[&str]| {
        let act = run(&program, dir, uid, words);
        assert!(act.0.is_some_and(|code| code != 0 && code != 124), "{words:?} is refused: {act:?}");
        assert_eq!(run(&program, dir, uid, &[words, &["--dry-run"]].concat()), act, "{words:?}");
    };
    cases.for_each(|(uid, words)| check(uid, words));
    std::fs::write(dir.join("state/control/stop"), "").unwrap();
    check(65534, &["stop", "--lift"]);
}

//! Bad input: one clear error on stderr, its exit code, nothing on stdout, nothing changed.
#![allow(clippy::unwrap_used)] // all of this file is tests and their helpers

use std::process::{Command, Output, Stdio};

fn grid(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_grid"))
        .args(args)
        .env_remove("GRID_OUTPUT")
        .env_remove("GRID_SOCKET")
        .env("GRID_STATE", "/nonexistent/grid")
        .output()
        .unwrap()
}

/// What stderr says, where the command failed with this code and said nothing on stdout.
fn refused(args: &[&str], code: i32) -> String {
    let out = grid(args);
    let err = String::from_utf8(out.stderr).unwrap();
    assert_eq!(out.status.code(), Some(code), "{args:?}: {err}");
    assert!(out.stdout.is_empty(), "{args:?} wrote to stdout");
    let errors = err.lines().filter(|l| l.starts_with("error")).count();
    assert_eq!(errors, 1, "{args:?}: {err}");
    assert!(err.ends_with(")\n") && err.contains(&format!("exit code {code} (")), "{err}");
    err
}

#[test]
fn amounts_that_cannot_be_meant() {
    for (args, says) in [
        ("cpu 0", "more than zero"),
        ("cpu -1", "more than zero"),
        ("cpu NaN", "not a number of CPUs"),
        ("cpu inf", "not a number of CPUs"),
        ("cpu 1e99", "not a number of CPUs"),
        ("cpu 99999999999", "no machine has that many CPUs"),
        ("cpu two", "not a number of CPUs"),
        ("cpu", "has no amount"),
        ("disk 2", "\"disk\" is not a resource"),
        ("gpu 0", "out of range"),
        ("gpu 1.5", "not a number of GPUs"),
        ("memory 8XB", "not a size"),
        ("memory 99999999999", "no machine has that much memory"),
        ("--memory 8XB", "not a size"),
        ("--memory 8", "has no unit"),
        ("--memory 0GiB", "more than zero"),
        ("--memory -1GiB", "more than zero"),
        ("--memory NaN", "not a size"),
        ("--cpu -1", "more than zero"),
        ("--gpu -1", "not a number of GPUs"),
        ("--cpu 1 --duration 5", "not a duration"),
        ("--cpu 1 --duration 0s", "more than zero"),
        ("--cpu 1 --duration -1h", "more than zero"),
        ("--cpu 1 --priority urgent", "invalid value 'urgent'"),
        ("--cpu 1 --at-end explode", "invalid value 'explode'"),
        ("--cpu 1 cpu 2", "given twice"),
        ("--priority low", "nothing was asked for"),
    ] {
        let mut all = vec!["boost", "request", "head"];
        all.extend(args.split(' '));
        let err = refused(&all, 2);
        assert!(err.contains(says), "{args}: {err}");
    }
}

#[test]
fn words_that_do_not_exist() {
    for (args, says) in [
        (&["frobnicate"][..], "unrecognized subcommand"),
        (&[], "a command is missing"),
        (&["boost"], "a command is missing"),
        (&["status", "--frob"], "unexpected argument"),
        (&["offload", "execute", "0"], "neither the number"),
        (&["offload", "execute", "-5"], "neither the number"),
        (&["offload", "execute", "abc"], "an id such as o-19"),
        (&["offload", "execute", "o-1/../2"], "not an id"),
        (&["offload", "resolve", "o-1"], "required"),
        (&["offload", "show", "../x"], "not an id"),
        (&["explain", "firefox"], "neither a process nor an id"),
        (&["explain", "-5"], "unexpected argument"),
        (&["explain", "E-NOPE"], "not a reason code"),
        (&["up"], "--local <N>|--config <FILE>"),
        (&["up", "--local", "1", "--config", "x"], "cannot be used with"),
        (&["up", "--local", "0"], "not in 1..=16"),
        (&["up", "--local", "1", "--worker-memory", "nonsense"], "not a size"),
        (&["--output", "yaml", "status"], "invalid value 'yaml'"),
    ] {
        let err = refused(args, 2);
        assert!(err.contains(says), "{args:?}: {err}");
    }
}

#[test]
fn without_a_daemon_it_says_how_to_start_one() {
    for args in [&["status"][..], &["boost", "list"], &["offload", "scan"], &["events"], &["plan", "apply", "p-1"]] {
        let err = refused(args, 7);
        let want = "no grid daemon answers at /nonexistent/grid/head.sock: start it with `sudo grid up --local 2`";
        assert!(err.contains(want), "{err}");
    }
}

#[test]
fn a_configuration_that_cannot_be_read() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("c.yaml");
    let name = file.to_str().unwrap();
    assert!(refused(&["config", "check", name], 8).contains("cannot read"));
    std::fs::write(&file, "name: x\nnodez: []\n").unwrap();
    let err = refused(&["config", "check", name], 8);
    assert!(err.contains(&format!("{name}:2:1: ")) && err.contains("nodes"), "{err}");
    std::fs::write(&file, [0xff, 0xfe]).unwrap();
    refused(&["config", "show", name], 8);
}

#[test]
fn a_configuration_that_others_may_write_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("c.yaml");
    let name = file.to_str().unwrap();
    std::fs::write(&file, "name: x\nnodes: [{name: h, role: head}]\n").unwrap();
    let open = std::os::unix::fs::PermissionsExt::from_mode(0o646);
    std::fs::set_permissions(&file, open).unwrap();
    let out = grid(&["up", "--config", name]);
    let err = String::from_utf8_lossy(&out.stderr);
    assert_eq!(out.status.code(), Some(8), "{err}");
    assert!(err.contains("anybody may write it") && err.contains("chmod o-w"), "{err}");
    // The check says it before.
    let checked = refused(&["config", "check", name], 8);
    assert!(checked.contains("anybody may write it") && checked.contains("chmod o-w"), "{checked}");
    if nix::unistd::geteuid().is_root() {
        std::fs::set_permissions(&file, std::os::unix::fs::PermissionsExt::from_mode(0o644)).unwrap();
        std::os::unix::fs::chown(&file, Some(65534), None).unwrap();
        assert!(refused(&["config", "check", name], 8).contains("belongs to uid 65534"));
    }
}

#[test]
fn init_never_overwrites() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("grid.yaml");
    let name = file.to_str().unwrap();
    let out = grid(&["init", "--output-file", name]);
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    let written = std::fs::read(&file).unwrap();
    assert!(grid(&["config", "check", name]).status.success());
    assert!(refused(&["init", "--output-file", name], 4).contains("Nothing was written"));
    assert_eq!(std::fs::read(&file).unwrap(), written);
    refused(&["init", "--output-file", "/nonexistent/grid.yaml"], 9);
    let shown = grid(&["config", "show", name]);
    std::fs::write(&file, shown.stdout).unwrap();
    assert!(grid(&["config", "check", name]).status.success(), "what is shown can be read");
}

#[test]
fn errors_are_json_on_stdout_where_json_was_asked_for() {
    for (args, code, class) in [
        (&["--output", "json", "status"][..], 7, "unreachable"),
        (&["-o", "json", "boost", "request", "head", "cpu", "0"], 2, "usage"),
        (&["status", "--output=json", "--frob"], 2, "usage"),
        (&["-o", "json", "config", "check", "/nonexistent"], 8, "config"),
    ] {
        let out = grid(args);
        assert_eq!(out.status.code(), Some(code), "{args:?}");
        assert!(out.stderr.is_empty(), "{args:?}");
        let reply: serde_json::Value = serde_json::from_slice(&out.stdout).unwrap();
        assert_eq!((reply["version"].as_u64(), reply["error"]["class"].as_str()), (Some(1), Some(class)), "{args:?}");
    }
}

#[test]
fn a_reader_that_goes_away_is_no_panic() {
    let commands = ["--help", "completions bash", "doctor", "-o json status", "up --local 2 --dry-run", "up --local 0"];
    for words in commands.into_iter().chain(["down --dry-run", "agent --config /nonexistent", "status"]) {
        let mut command = Command::new(env!("CARGO_BIN_EXE_grid"));
        command.args(words.split(' ')).env("GRID_STATE", "/nonexistent/grid").env("GRID_CRIU", "/nonexistent/criu");
        // Nobody reads one of the two, and then nobody reads either: a pipe without a reader.
        for (closed, open) in [(1, 2), (2, 1)] {
            let (reader, writer) = std::io::pipe().unwrap();
            drop(reader);
            let (mut heard, to) = std::io::pipe().unwrap();
            let (out, err) = if closed == 1 { (writer, to) } else { (to, writer) };
            let mut child = command.stdout(out).stderr(err).spawn().unwrap();
            command.stdout(Stdio::null()).stderr(Stdio::null());
            let mut said = String::new();
            std::io::Read::read_to_string(&mut heard, &mut said).unwrap();
            let code = child.wait().unwrap().code();
            assert!(!said.contains("panicked"), "{words}, {open} open: {said}");
            assert!(code.is_some_and(|c| c != 101), "{words}, {closed} closed: {code:?}");
        }
    }
}

#[test]
fn help_names_every_exit_code_and_every_command_has_examples() {
    let help = String::from_utf8(grid(&["--help"]).stdout).unwrap();
    for class in grid_types::exit::FaultClass::ALL {
        assert!(help.contains(&format!("{:2}  {}", class.code(), class.meaning())), "{class:?}");
    }
    for args in
        ["status", "boost request", "boost release", "offload scan", "offload recall", "plan apply", "up", "doctor"]
    {
        let mut words: Vec<_> = args.split(' ').collect();
        words.push("--help");
        let help = String::from_utf8(grid(&words).stdout).unwrap();
        assert!(help.contains("Examples:"), "{args}");
    }
}

#[test]
fn doctor_says_what_is_missing() {
    let out = Command::new(env!("CARGO_BIN_EXE_grid"))
        .args(["-o", "json", "doctor"])
        .env("GRID_CRIU", "/nonexistent/criu")
        .output()
        .unwrap();
    assert_eq!(out.status.code(), Some(9));
    let reply: serde_json::Value = serde_json::from_slice(&out.stdout).unwrap();
    let checks = reply["ok"]["checks"].as_array().unwrap();
    let criu = checks.iter().find(|c| c["name"] == "criu").unwrap();
    assert_eq!(criu["state"], "missing");
    assert!(criu["found"].as_str().unwrap().contains("/nonexistent/criu"));
    assert!(criu["get"].as_str().unwrap().contains("install-criu"));
}

#[test]
fn doctor_tells_an_ordinary_user_what_it_cannot_see_and_not_that_it_is_missing() {
    use std::os::unix::process::CommandExt;
    if !nix::unistd::geteuid().is_root() {
        return eprintln!("SKIPPED: needs root to become somebody else");
    }
    let place = tempfile::tempdir().unwrap();
    let program = place.path().join("grid");
    // By another process: a descriptor open for writing, inherited by another test's child, would make it "busy".
    assert!(Command::new("cp").arg(env!("CARGO_BIN_EXE_grid")).arg(&program).status().unwrap().success());
    std::fs::set_permissions(place.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let states = |uid: u32| -> std::collections::BTreeMap<String, String> {
        let mut command = Command::new(&program);
        command.args(["-o", "json", "doctor"]).current_dir(place.path()).env("GRID_STATE", "/var/lib/grid");
        let out = command.env_remove("GRID_CRIU").env("PATH", "/usr/bin:/bin").uid(uid).gid(uid).output().unwrap();
        let reply: serde_json::Value = serde_json::from_slice(&out.stdout).unwrap();
        let all = reply["ok"]["checks"].as_array().unwrap().clone();
        let text = |v: &serde_json::Value| v.as_str().unwrap().to_owned();
        all.iter().map(|c| (text(&c["name"]), text(&c["state"]))).collect()
    };
    let (roots, users) = (states(0), states(65534));
    for (name, state) in &users {
        assert!(state != "missing" || roots[name] == "missing", "{name} is missing for a user and {}", roots[name]);
    }
    for name in ["root", "CAP_SYS_ADMIN", "state directory"] {
        assert_eq!(users[name], "unseen", "{name}");
    }
    assert!(!roots.values().any(|state| state == "unseen"), "{roots:?}");
}

#[test]
fn man_pages_and_completions_come_from_the_same_definitions() {
    let dir = tempfile::tempdir().unwrap();
    assert!(grid(&["man", dir.path().to_str().unwrap()]).status.success());
    assert!(dir.path().join("grid-boost-request.1").exists());
    assert!(!dir.path().join("grid-node-init.1").exists(), "hidden commands stay hidden");
    for shell in ["bash", "zsh", "fish"] {
        let out = grid(&["completions", shell]);
        assert!(out.status.success() && String::from_utf8_lossy(&out.stdout).contains("boost"), "{shell}");
    }
}

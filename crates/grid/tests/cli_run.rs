//! `grid run`: what its command finds, and what its caller gets.
#![allow(clippy::unwrap_used)] // all of this file is tests and their helpers

use std::process::{Command, Output, Stdio};

fn run(words: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_grid"));
    command.arg("run").args(words).env("GRID_STATE", "/nonexistent/state").env_remove("GRID_OUTPUT");
    command.env_remove("GRID_SOCKET").env_remove("GRID_RUN").stdin(Stdio::null()).output().unwrap()
}

fn said(output: &Output) -> (Option<i32>, String, String) {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.code(), text(&output.stdout), text(&output.stderr))
}

fn sh(options: &[&str], script: &str) -> String {
    let output = run(&[options, &["--", "sh", "-c", script]].concat());
    let (code, out, err) = said(&output);
    assert_eq!((code, err.as_str()), (Some(0), ""), "{out}");
    out
}

#[test]
fn the_command_finds_no_io_uring_and_says_so_to_whoever_looks() {
    let script = "grep Seccomp: /proc/$$/status; echo $GRID_RUN $UV_USE_IO_URING";
    assert_eq!(sh(&[], script), "Seccomp:\t2\nno-io-uring 0\n");
    assert_eq!(sh(&["--allow-io-uring"], script), "Seccomp:\t0\n\n");
}

#[test]
fn within_itself_it_adds_no_second_filter() {
    let inner = format!("{} run grep Seccomp_filters: /proc/self/status", env!("CARGO_BIN_EXE_grid"));
    assert_eq!(sh(&[], &inner), "Seccomp_filters:\t1\n");
}

/// The number is that of the process that was started, and descriptors of its caller's are closed.
#[test]
fn the_command_takes_the_place_of_its_starter() {
    let program = env!("CARGO_BIN_EXE_grid");
    let script = format!("exec 7</dev/null; exec {program} run -- sh -c 'echo $PPID $$; ls /proc/$$/fd; exit 7'");
    let child = Command::new("sh").args(["-c", &script]).env_remove("GRID_RUN").stdout(Stdio::piped()).spawn().unwrap();
    let pid = child.id();
    let (code, out, _) = said(&child.wait_with_output().unwrap());
    assert_eq!((code, out), (Some(7), format!("{} {pid}\n0\n1\n2\n", std::process::id())));
}

#[test]
fn what_cannot_be_started_is_told_as_shells_do() {
    for (words, code) in [
        (&["no-such-command"][..], 127),
        (&["/etc/passwd"], 126),
        (&["/"], 126),
        (&[], 2),
        (&["--no-such-option", "true"], 2),
        (&["--boost", "a/b", "true"], 2),
        (&["--boost"], 2),
    ] {
        let (got, out, err) = said(&run(words));
        assert_eq!((got, out.as_str(), err.is_empty()), (Some(code), "", false), "{words:?}: {err}");
    }
}

#[test]
fn a_move_that_fails_leaves_the_command_alone() {
    // Standard error is the helper's, too: it comes to its end when both have ended.
    let (code, out, err) = said(&run(&["--boost", "b-7k2", "--", "sh", "-c", "echo $$; exit 3"]));
    let pid = out.trim();
    assert_eq!(code, Some(3));
    assert!(err.starts_with(&format!("grid run: process {pid} goes on at home: no grid daemon answers")), "{err}");
    assert!(err.contains(&format!("grid offload execute {pid} --boost b-7k2")), "{err}");
    let (code, _, err) = said(&run(&["--boost", "b-7k2", "no-such-command"]));
    assert_eq!((code, err.lines().count()), (Some(127), 1), "{err}");
}

#[test]
fn a_dry_run_starts_nothing() {
    let (code, out, _) = said(&run(&["--dry-run", "--boost", "b-7k2", "--", "false", "-x"]));
    assert_eq!(code, Some(0));
    assert!(out.contains("then moved into b-7k2") && out.ends_with("Nothing was started.\n"), "{out}");
    // What the act refuses without anybody's help it refuses, too.
    let (code, _, err) = said(&run(&["--dry-run", "--", "no-such-command", "-x"]));
    assert!(code == Some(127) && err.contains("Nothing was started"), "{code:?} {err}");
}

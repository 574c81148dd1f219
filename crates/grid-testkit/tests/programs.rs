//! The test programs themselves, unmoved: what they say when all is well, and when it is not.

#![allow(clippy::unwrap_used)] // all of this file is tests and their helpers

use grid_testkit::procs::{self, Detached};
use grid_testkit::report::{self, Line};
use grid_testkit::scratch::Scratch;
use std::path::Path;
use std::process::{Command, Output};
use std::time::Duration;

const PROVER: &str = env!("CARGO_BIN_EXE_prover");
const STAMPER: &str = env!("CARGO_BIN_EXE_stamper");
const FAMILY: &str = env!("CARGO_BIN_EXE_family");

fn run(program: &str, args: &str, dir: &Scratch) -> (Output, Line) {
    let mut command = Command::new(program);
    command.args(args.split_whitespace()).args(["--report", "report"]).current_dir(&**dir).env_clear();
    let output = command.output().unwrap();
    let line = report::last(&dir.join("report")).unwrap().unwrap_or_default();
    (output, line)
}

#[test]
fn prover_gives_one_digest_however_fast_it_runs() {
    let digest = |args: &str| {
        let dir = Scratch::new().unwrap();
        let (output, line) = run(PROVER, args, &dir);
        assert!(output.status.success(), "{output:?}");
        assert!(line.done && line.count == 300, "{line:?}");
        line.digest.unwrap()
    };
    let want = digest("--memory 8MiB --steps 300 --pace-us 0");
    assert_eq!(digest("--memory 8MiB --steps 300 --pace-us 500"), want);
    assert_ne!(digest("--memory 8MiB --steps 300 --pace-us 0 --seed 2"), want);
}

#[test]
fn prover_notices_a_wrong_page_and_says_which() {
    let dir = Scratch::new().unwrap();
    let (output, line) = run(PROVER, "--memory 64KiB --steps 2000 --pace-us 0 --spoil-at 100", &dir);
    assert_eq!(output.status.code(), Some(3));
    assert!(line.done && line.digest.is_none());
    assert!(line.error.unwrap().starts_with("page 0 word 0 holds"));
}

#[test]
fn prover_sees_its_own_downtime() {
    let dir = Scratch::new().unwrap();
    let args = ["--memory", "1MiB", "--seconds", "60", "--report", "report"];
    let process = Detached::start(Path::new(PROVER), &args, &dir).unwrap();
    let report = dir.join("report");
    procs::wait_count(&report, 20, Duration::from_secs(10)).unwrap();
    let signal = |name: &str| {
        let status = Command::new("kill").args([name, &process.pid.to_string()]).status().unwrap();
        assert!(status.success());
    };
    signal("-STOP");
    let before = report::last(&report).unwrap().unwrap().count;
    std::thread::sleep(Duration::from_millis(400)); // the downtime itself
    signal("-CONT");
    let after = procs::wait_count(&report, before + 300, Duration::from_secs(10)).unwrap();
    assert!(after.gap.ns >= 390_000_000 && after.gap.at >= before, "{after:?}");
}

#[test]
fn stamper_reports_its_longest_gaps_in_order() {
    let dir = Scratch::new().unwrap();
    let (output, line) = run(STAMPER, "--memory 4MiB --seconds 0.2 --threads 2", &dir);
    assert!(output.status.success(), "{output:?}");
    assert!(line.done && line.count > 10, "{line:?}");
    assert_eq!(line.gaps.len(), 5);
    assert!(line.gaps.is_sorted_by(|a, b| a.ns >= b.ns) && line.gaps[0] == line.gap);
}

#[test]
fn family_finds_itself_in_order() {
    let dir = Scratch::new().unwrap();
    let (output, line) = run(FAMILY, "--rounds 40", &dir);
    assert_eq!(output.status.code(), Some(7), "{output:?}");
    assert!(line.done && line.count == 40);
}

#[test]
fn family_notices_a_line_that_somebody_else_wrote() {
    let dir = Scratch::new().unwrap();
    let args = ["--rounds", "100", "--report", "report"];
    let _process = Detached::start(Path::new(FAMILY), &args, &dir).unwrap();
    procs::wait_count(&dir.join("report"), 20, Duration::from_secs(10)).unwrap();
    let lines = dir.join("lines.txt");
    let mut text = std::fs::read(&lines).unwrap();
    text[0] = b'7';
    std::fs::write(&lines, text).unwrap();
    let error = procs::wait_done(&dir.join("report"), Duration::from_secs(10)).unwrap_err();
    assert!(error.to_string().contains("lines.txt line 1: \"7\""), "{error}");
}

#[test]
fn bad_arguments_are_said_and_do_nothing() {
    let dir = Scratch::new().unwrap();
    for (program, args) in [(PROVER, "--memory 0"), (STAMPER, "--seconds x"), (PROVER, "--bogus 1")] {
        let (output, _) = run(program, args, &dir);
        assert_eq!(output.status.code(), Some(2), "{args}");
        assert!(!output.stderr.is_empty());
    }
}

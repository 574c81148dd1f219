//! The test programs moved by CRIU alone, without grid: what they say afterwards is what a move by grid must come to.

#![allow(clippy::unwrap_used)] // all of this file is tests and their helpers

use grid_testkit::procs::{self, Detached};
use grid_testkit::report::Line;
use grid_testkit::scratch::Scratch;
use grid_testkit::{criu, report};
use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};
use std::time::Duration;

const LIMIT: Duration = Duration::from_secs(30);

/// Pid 1 of the place where the program is restored: reaps all, and ends as the program ends.
const INIT: &str = r#"
import os, subprocess, sys
open("/proc/sys/kernel/ns_last_pid", "w").write("1000000")  # CRIU's helpers take no number of the program's
subprocess.run(sys.argv[2:], check=True)
while True:
    pid, status = os.wait()
    if pid == int(sys.argv[1]):
        sys.exit(os.waitstatus_to_exitcode(status))
"#;

/// Dumps the process as its owner, with the two capabilities that this takes.
fn dump(process: &Detached, images: &Path) {
    const RIGHTS: &str = "+checkpoint_restore,+sys_ptrace";
    let mut command = Command::new("setpriv");
    command.args(["--reuid=65534", "--regid=65534", "--clear-groups"]);
    command.args([format!("--inh-caps={RIGHTS}"), format!("--ambient-caps={RIGHTS}")]);
    command.arg(criu::path()).args(["--unprivileged", "dump", "-o", "log", "-t", &process.pid.to_string(), "-D"]);
    let output = command.arg(images).output().unwrap();
    assert!(output.status.success(), "{output:?}\n{}", fs::read_to_string(images.join("log")).unwrap_or_default());
}

/// Restores it in PID, mount and IPC namespaces of its own, and waits until it has ended there.
fn restore(process: &Detached, images: &Path) -> ExitStatus {
    let mut command = Command::new("unshare");
    command.args(["--pid", "--mount", "--ipc", "--fork", "--kill-child", "--mount-proc"]);
    command.args(["/usr/bin/python3", "-c", INIT, &process.pid.to_string()]).arg(criu::path());
    command.args(["restore", "--restore-detached", "-o", "restore.log", "-D"]).arg(images);
    let status = command.status().unwrap();
    assert!(images.join("restore.log").exists(), "CRIU did not start");
    status
}

/// Starts `program`, moves it once it is at count 20, and returns how it ended, its last line, and where it was.
fn moved(program: &str, args: &str) -> (ExitStatus, Line, u64) {
    let dir = Scratch::new().unwrap();
    // The folder of the build may be closed to the unprivileged user; a copy beside the report is not.
    let copy: PathBuf = dir.join(Path::new(program).file_name().unwrap());
    fs::copy(program, &copy).unwrap();
    fs::set_permissions(&copy, fs::Permissions::from_mode(0o755)).unwrap();
    let images = dir.join("images");
    fs::create_dir(&images).unwrap();
    chown(&images, Some(procs::NOBODY), Some(procs::NOBODY)).unwrap();

    let args: Vec<&str> = args.split_whitespace().chain(["--report", "report"]).collect();
    let process = Detached::start(&copy, &args, &dir).unwrap();
    let path = dir.join("report");
    procs::wait_count(&path, 20, LIMIT).unwrap();
    dump(&process, &images);
    process.wait_gone(LIMIT).unwrap();
    let at = report::last(&path).unwrap().unwrap();
    assert!(!at.done, "it ended before it was moved: {at:?}");
    let status = restore(&process, &images);
    let last = report::last(&path).unwrap().unwrap();
    assert!(last.done, "{status}: {last:?}; {}", process.stderr().unwrap());
    (status, last, at.count)
}

#[test]
fn prover_ends_with_the_digest_of_an_unmoved_run() {
    if !criu::usable_or_skip() {
        return;
    }
    let dir = Scratch::new().unwrap();
    let program = env!("CARGO_BIN_EXE_prover");
    let unmoved = ["--memory", "32MiB", "--steps", "1500", "--pace-us", "0", "--report", "report"];
    assert!(Command::new(program).args(unmoved).current_dir(&*dir).status().unwrap().success());
    let want = report::last(&dir.join("report")).unwrap().unwrap();

    let (status, last, at) = moved(program, "--memory 32MiB --steps 1500");
    assert!(status.success(), "{status}: {last:?}");
    assert_eq!((last.count, &last.digest), (want.count, &want.digest));
    // It saw the move: its longest gap lies where it was then, or a little after its last report.
    assert!(last.gap.ns > 10_000_000 && last.gap.at >= at && last.gap.at < at + 150, "at {at}: {last:?}");
}

#[test]
fn family_is_whole_after_a_move() {
    if !criu::usable_or_skip() {
        return;
    }
    let (status, last, _) = moved(env!("CARGO_BIN_EXE_family"), "--rounds 200");
    assert_eq!((status.code(), last.count, last.error), (Some(7), 200, None));
}

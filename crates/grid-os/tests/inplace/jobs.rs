//! A job of a shell on a terminal: the shell sees the same process, with another program and that one's end.

use crate::fixture::{descendants, freezers, program, replace};
use grid_os::cgroup::{Controller, Hierarchies};
use nix::fcntl::OFlag;
use nix::pty::{PtyMaster, grantpt, posix_openpt, ptsname_r, unlockpt};
use std::fs::{self, File};
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::process::{Command, Stdio};
use std::time::Duration;

/// The shell starts a job with a listening socket as descriptor 9, waits, and says how it ended.
const SCRIPT: &str = r#"
set -m
cd /usr
python3 -c '
import os, socket, sys
s = socket.socket(); s.bind(("127.0.0.1", 0)); s.listen(); os.dup2(s.fileno(), 9)
os.execv(sys.argv[1], ["subject", "spin", sys.argv[2]])' "$1" "$2" &
echo "job $!"
wait $!
echo "status $?"
"#;

/// With `args` last, as they alone may change.
fn ps(pid: i32) -> (String, String) {
    let out = Command::new("ps").args(["-o", "pid=,ppid=,pgid=,sid=,tty=", "-p", &pid.to_string()]).output().unwrap();
    let args = fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap().replace('\0', " ");
    (String::from_utf8(out.stdout).unwrap(), args)
}

fn links(pid: i32) -> Vec<String> {
    let link = |name| fs::read_link(format!("/proc/{pid}/{name}")).unwrap().display().to_string();
    ["cwd", "fd/0", "fd/1", "fd/2", "fd/9"].map(link).to_vec()
}

/// What follows the first line's mark.
fn said(lines: &mut impl Iterator<Item = String>, mark: &str) -> String {
    lines.find_map(|l| l.trim().strip_prefix(mark).map(str::to_owned)).unwrap()
}

#[test]
fn a_job_of_a_shell_keeps_its_place_and_the_shell_gets_the_new_status() {
    for (number, freezer) in freezers().iter().enumerate() {
        job(number, freezer);
    }
}

/// A terminal's two ends; the second can be opened again and again. Not by `openpty`, whose descriptors every program
/// that another test starts would inherit.
fn terminal() -> (PtyMaster, impl Fn() -> Stdio) {
    let master = posix_openpt(OFlag::O_RDWR | OFlag::O_NOCTTY | OFlag::O_CLOEXEC).unwrap();
    grantpt(&master).unwrap();
    unlockpt(&master).unwrap();
    let name = ptsname_r(&master).unwrap();
    let mut open = File::options();
    open.read(true).write(true).custom_flags(libc::O_NOCTTY);
    (master, move || Stdio::from(open.open(&name).unwrap()))
}

fn job(number: usize, freezer: &Hierarchies) {
    let dir = tempfile::tempdir().unwrap();
    let counters = dir.path().join("counters");
    fs::write(&counters, [0; 4096]).unwrap();
    let (master, slave) = terminal();
    let mut shell = Command::new("setsid")
        .args(["--ctty", "--wait", "bash", "-c", SCRIPT, "bash"])
        .args([program().unwrap(), &counters])
        .stdin(slave())
        .stdout(slave())
        .stderr(slave())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(master).lines().map(|l| l.unwrap());
    let pid: i32 = said(&mut lines, "job ").trim().parse().unwrap();
    said(&mut lines, "ready");
    let (was, open) = (ps(pid), links(pid));
    assert!(was.0.contains("pts/") && open[0] == "/usr" && open[4].starts_with("socket:"), "{was:?} {open:?}");

    let group = freezer.group(&format!("grid-inplace-job-{}-{number}", std::process::id()), &[Controller::Freezer]);
    group.create().unwrap();
    descendants(pid).into_iter().for_each(|pid| group.add(pid).unwrap());
    group.set_frozen(true).unwrap();
    let before = fs::read(&counters).unwrap();
    // It is in the background: reading the terminal would stop it.
    let fifo = dir.path().join("go");
    nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRWXU).unwrap();
    let script = format!("echo new; read line < {}; exit 7", fifo.display());
    replace(pid, &group, "/bin/sh", &["sh", "-c", &script], &[9], &mut |_| {}).unwrap();
    said(&mut lines, "new");
    let now = ps(pid);
    assert_eq!((&now.0, links(pid)), (&was.0, open));
    assert!(was.1.starts_with("subject spin") && now.1.starts_with("sh -c"), "{was:?} {now:?}");
    assert_eq!(fs::read(&counters).unwrap(), before, "the old program ran");
    writeln!(File::options().write(true).open(&fifo).unwrap(), "go").unwrap();
    assert_eq!(said(&mut lines, "status ").trim(), "7");
    assert!(shell.wait().unwrap().success());
    group.kill(Duration::from_secs(5)).unwrap();
    group.remove().unwrap();
}

//! What cannot be moved is refused by name: its code, its exit code, and nothing changed.

#![allow(clippy::unwrap_used)] // all of this file is tests and their helpers

use grid_testkit::cluster::{Cluster, Guest, LIMIT};
use grid_testkit::procs;
use grid_types::event::Event;
use grid_types::exit::FaultClass;
use grid_types::reason::ReasonCode;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};

/// Begins each program: `detached(work)` runs `work` in a process of its own without a living parent; `ready()` writes
/// down who is meant, and stays.
const PRELUDE: &str = r#"
import fcntl, os, pty, signal, socket, struct, sys, time
def ready():
    with open("meant.new", "w") as f: f.write(str(os.getpid()))
    os.rename("meant.new", "meant")
    signal.pause()
def detached(work):
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0: work()
        os._exit(0)
    os.wait()
"#;

/// Starts a program that leads to `ready()`, and returns it with the number of who is meant.
fn start(cluster: &Cluster, code: &str) -> (Guest, i32) {
    let guest = Guest::python(cluster, &format!("{PRELUDE}{code}"));
    let pid = guest.wait_text("meant", |text| !text.is_empty()).parse().unwrap();
    (guest, pid)
}

/// What must be the same before and after a refusal.
fn look(pid: i32) -> (Option<u64>, String, String) {
    let read = |file: &str| std::fs::read_to_string(format!("/proc/{pid}/{file}")).unwrap_or_default();
    let state = read("status").lines().find(|l| l.starts_with("State:")).unwrap_or_default().to_owned();
    (procs::start_ticks(pid), state, read("cgroup"))
}

fn assert_refused(cluster: &Cluster, pid: i32, class: FaultClass, code: ReasonCode) {
    let before = look(pid);
    let words = ["offload", "execute", &pid.to_string()];
    let (exit, error) = cluster.refused(&words);
    assert_eq!((exit, error.class, error.code), (i32::from(class.code()), class, Some(code)), "{error:?}");
    assert!(error.message.contains("nothing was changed") && error.hint.is_some(), "{error:?}");
    let said = cluster.grid(&words);
    assert!(said.code == exit && said.out.is_empty() && said.err.contains(code.as_str()), "{said:?}");
    assert_eq!(look(pid), before);
}

#[test]
fn what_cannot_move_is_refused_with_its_code_and_nothing_changes() {
    let Some(cluster) = Cluster::start(1) else { return };
    cluster.boost("--cpu 1 --memory 1GiB --duration 2m");
    let cases = [
        // One terminal can follow its process; of two, nobody knows which.
        (
            ReasonCode::Tty,
            "
pairs = [pty.openpty(), pty.openpty()]
def work():
    for master, _ in pairs: os.close(master)
    ready()
detached(work)
for _, slave in pairs: os.close(slave)
signal.pause()",
        ),
        // Only what the root holds can have its other end at home: here a child has one that it has not.
        (
            ReasonCode::Pipe,
            "
r, w = os.pipe()
def work():
    os.close(r)
    root = os.getpid()
    if os.fork() == 0:
        while os.getppid() == root: time.sleep(0.02)
        os._exit(0)
    os.close(w)
    ready()
detached(work)
os.close(w)
signal.pause()",
        ),
        // A parent waits for it, and a filter of system calls keeps it here.
        (
            ReasonCode::Seccomp,
            "
import ctypes
class Allow(ctypes.Structure):
    _fields_ = [('count', ctypes.c_ushort), ('code', ctypes.c_char_p)]
if os.fork() == 0:
    libc = ctypes.CDLL(None, use_errno=True)
    allow = struct.pack('HBBI', 6, 0, 0, 0x7fff0000)
    assert libc.prctl(38, 1, 0, 0, 0) == 0
    assert libc.prctl(22, 2, ctypes.byref(Allow(1, allow))) == 0
    ready()
os.wait()",
        ),
        (
            ReasonCode::Lock,
            "
f = open('lock', 'w')
fcntl.flock(f, fcntl.LOCK_EX)
ready()",
        ),
        (
            ReasonCode::Unix,
            "
s = socket.socket(socket.AF_UNIX)
s.bind('socket')
s.listen()
ready()",
        ),
        (
            ReasonCode::Tcp,
            "
server = socket.create_server(('127.0.0.1', 0))
client = socket.create_connection(server.getsockname())
connection, _ = server.accept()
ready()",
        ),
        (
            ReasonCode::Stopped,
            "
def work():
    with open('meant.new', 'w') as f: f.write(str(os.getpid()))
    os.rename('meant.new', 'meant')
    os.kill(os.getpid(), signal.SIGSTOP)
detached(work)
signal.pause()",
        ),
    ];
    for (code, program) in cases {
        println!("{code:?}");
        let (guest, pid) = start(&cluster, program);
        if code == ReasonCode::Stopped {
            cluster.wait("it to stop", || if look(pid).1.contains("stopped") { Ok(()) } else { Err(look(pid).1) });
        }
        assert_refused(&cluster, pid, FaultClass::Refused, code);
        // A detached one is not in the session that ends with the guest.
        let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
        drop(guest);
    }
    let moves = cluster.events().into_iter().filter(|e| matches!(e.event, Event::OffloadStarted { .. })).count();
    assert_eq!((moves, cluster.status().unwrap().away), (0, vec![]));
}

#[test]
fn a_process_that_is_gone_or_not_yours_or_roots_is_refused() {
    let Some(cluster) = Cluster::start(1) else { return };
    cluster.boost("--cpu 1 --memory 1GiB --duration 2m");
    let guest = Guest::script(&cluster, "exec sleep 300");
    let pid = guest.pid();
    // Its owner may, without grid's root.
    let said = cluster.grid_as_user(&["offload", "execute", &pid.to_string(), "--dry-run"]);
    assert_eq!(said.code, 0, "{said:?}");

    // It is far too small and new to be chosen; who has an obstacle is told all the same, as `explain` tells it.
    let locked =
        Guest::python(&cluster, "import fcntl, time\nf = open('lock', 'w')\nfcntl.flock(f, 2)\ntime.sleep(300)");
    cluster.wait("the scan to list it", || {
        let explained = cluster.grid(&["explain", &locked.pid().to_string()]).out;
        let said = cluster.grid(&["offload", "scan", "--code", "E-LOCK"]).out;
        // By itself, or, where so much runs that it is not looked at closely by itself, as one of a tree.
        let lines = [format!("\n  {} ", locked.pid()), format!(" pid {}: holds a lock", locked.pid())];
        let both = explained.contains("E-LOCK") && lines.iter().any(|line| said.contains(line));
        if both { Ok(()) } else { Err(format!("{explained}\n{said}")) }
    });

    // Another ordinary user's process.
    let mut other = Command::new("sleep");
    other.arg("300").uid(1).gid(1).current_dir("/").stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let mut other = other.spawn().unwrap();
    let words = ["offload", "execute", &other.id().to_string()];
    let (exit, error) = cluster.refused_to_user(&words);
    other.kill().unwrap();
    other.wait().unwrap();
    assert_eq!((exit, error.code), (6, Some(ReasonCode::Owner)), "{error:?}");

    // Root's.
    let script = "echo $$ >roots.new && mv roots.new roots && exec sleep 300";
    let mut root = Command::new("setsid");
    root.args(["--fork", "sh", "-c", script]).current_dir(&*guest.dir);
    root.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    assert!(root.status().unwrap().success());
    let roots: i32 = guest.wait_text("roots", |text| text.ends_with('\n')).trim().parse().unwrap();
    cluster.wait("sleep", || {
        let stat = std::fs::read_to_string(format!("/proc/{roots}/stat")).unwrap_or_default();
        if stat.contains("(sleep) S ") { Ok(()) } else { Err(stat) }
    });
    assert_refused(&cluster, roots, FaultClass::Refused, ReasonCode::Root);
    kill(Pid::from_raw(roots), Signal::SIGKILL).unwrap();

    let words = ["offload", "execute", &pid.to_string()];
    kill(Pid::from_raw(pid), Signal::SIGKILL).unwrap();
    guest.process.wait_gone(LIMIT).unwrap();
    let (exit, error) = cluster.refused(&words);
    assert_eq!((exit, error.class), (3, FaultClass::NotFound), "{error:?}");
}

//! Pump and server with a real mount, as root of a mount namespace.

#![allow(clippy::unwrap_used)] // all of this file is tests and their helpers

#[path = "mount/locks.rs"]
mod locked;
#[path = "mount/names.rs"]
mod names;
#[path = "mount/near.rs"]
mod near;
#[path = "mount/watch.rs"]
mod watch;

use grid_home::control::{CONTROL_FD, LOCKS_FD, READY_FD, Word, hand_over, hear, locks};
use grid_home::frame::{self, Kind};
use grid_home::fuse::{READ, Request, is_notice, room};
use grid_home::serve::MOST_WATCHED;
use grid_os::packets;
use grid_os::pidfd::PidFd;
use grid_os::spawn::{Place, spawn};
use nix::libc;
use std::io::Read;
use std::net::Shutdown;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

const OWNER: u32 = 4_000_117;
const LIMIT: Duration = Duration::from_secs(20);

/// What crossed the connections.
#[derive(Default)]
struct Crossed {
    /// Where a name leads, or what attributes a file has, was asked.
    looks: AtomicUsize,
    /// Home said by itself that something changed.
    notices: AtomicUsize,
    /// Content was asked for.
    reads: AtomicUsize,
    /// The most at once.
    read: AtomicUsize,
    /// Each request, by its kind.
    all: std::sync::Mutex<std::collections::BTreeMap<u32, usize>>,
}

impl Crossed {
    fn count(&self, message: &[u8]) {
        const LOOKS: [u32; 2] = [1, 3];
        if is_notice(message) {
            self.notices.fetch_add(1, Ordering::SeqCst);
        }
        let Ok(request) = Request::of(message) else { return };
        *self.all.lock().unwrap().entry(request.operation).or_default() += 1;
        if LOOKS.contains(&request.operation) {
            self.looks.fetch_add(1, Ordering::SeqCst);
        }
        if request.operation == READ {
            self.reads.fetch_add(1, Ordering::SeqCst);
            // What the kernel leaves room for.
            self.read.fetch_max(room(message) - room(&[]), Ordering::SeqCst);
        }
    }
}

/// Passes frames on until the connection breaks.
fn pass_on(mut from: UnixStream, mut to: UnixStream, crossed: &Crossed) {
    while let Ok(frame) = frame::read(&mut from) {
        if frame.kind == Kind::Message {
            crossed.count(&frame.body);
        }
        if frame::write(&mut to, frame.kind, frame.number, frame.heard, &frame.body).is_err() {
            break;
        }
    }
    let _ = (from.shutdown(Shutdown::Both), to.shutdown(Shutdown::Both));
}

struct Lab {
    dir: tempfile::TempDir,
    server: i32,
    pump: i32,
    server_control: OwnedFd,
    pump_control: OwnedFd,
    words: mpsc::Receiver<Word>,
    connection: UnixStream,
    crossed: Arc<Crossed>,
}

/// None where this needs rights that are not there.
fn lab() -> Option<Lab> {
    lab_with(MOST_WATCHED)
}

/// One whose server watches at most so many folders.
fn lab_with(most_watched: usize) -> Option<Lab> {
    if !nix::unistd::geteuid().is_root() || !Path::new("/dev/fuse").exists() {
        println!("SKIPPED: needs root and /dev/fuse");
        return None;
    }
    let dir = tempfile::tempdir().unwrap();
    let open = |path: &Path, mode| std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
    open(dir.path(), 0o755);
    for name in ["data", "server", "pump"] {
        std::fs::create_dir(dir.path().join(name)).unwrap();
    }
    chown(dir.path().join("data"), Some(OWNER), Some(OWNER)).unwrap();
    std::fs::write(dir.path().join("data/file"), "of home").unwrap();
    std::fs::write(dir.path().join("data/secret"), "root's").unwrap();
    open(&dir.path().join("data/secret"), 0o600);
    let listen = |name: &str| {
        let path = dir.path().join(name).join("control");
        (packets::listen(&path, 0o600).unwrap(), path)
    };
    let ((server_door, server_path), (pump_door, pump_path)) = (listen("server"), listen("pump"));
    let locks_door = packets::listen(&dir.path().join("pump/locks"), 0o600).unwrap();
    let server = serve(dir.path(), server_door.as_fd(), most_watched);
    let (rx, tx) = nix::unistd::pipe2(nix::fcntl::OFlag::O_CLOEXEC).unwrap();
    let inherit = vec![(pump_door.as_fd(), CONTROL_FD), (tx.as_fd(), READY_FD), (locks_door.as_fd(), LOCKS_FD)];
    let data = dir.path().join("data").to_string_lossy().into_owned();
    let pump = start("pump", dir.path(), data, inherit);
    drop(tx);
    let (server_control, pump_control) =
        (packets::connect(&server_path).unwrap(), packets::connect(&pump_path).unwrap());
    let (say, words) = mpsc::channel();
    let ear = pump_control.try_clone().unwrap();
    std::thread::spawn(move || {
        while let Ok(Some(word)) = hear(&ear) {
            let _ = say.send(word);
        }
    });
    let connection = UnixStream::pair().unwrap().0;
    let crossed = Arc::default();
    let mut lab = Lab { dir, server, pump, server_control, pump_control, words, connection, crossed };
    lab.connect();
    let mut said = String::new();
    std::fs::File::from(rx).read_to_string(&mut said).unwrap();
    assert_eq!(said, "r");
    Some(lab)
}

fn serve(dir: &Path, door: BorrowedFd<'_>, most_watched: usize) -> i32 {
    start("serve", dir, most_watched.to_string(), vec![(door, CONTROL_FD)])
}

fn start(what: &str, dir: &Path, more: String, inherit: Vec<(BorrowedFd<'_>, i32)>) -> i32 {
    let folder = dir.join(if what == "pump" { "pump" } else { "server" });
    let (program, uid) = (env!("CARGO_BIN_EXE_home-kit").to_owned(), OWNER.to_string());
    let folder = folder.to_string_lossy().into_owned();
    let argv = [program, what.to_owned(), folder, "o-1.1".to_owned(), uid.clone(), uid, more];
    spawn(&argv, &[], &Place { inherit, unshare: libc::CLONE_NEWNS, ..Place::default() }).unwrap().pid
}

impl Lab {
    /// A new connection, in place of the one before.
    fn connect(&mut self) {
        self.offer();
        while self.words.recv_timeout(LIMIT).unwrap() != Word::Up {}
    }

    fn offer(&mut self) {
        let ((near, near_end), (far, far_end)) = (UnixStream::pair().unwrap(), UnixStream::pair().unwrap());
        self.connection = near_end.try_clone().unwrap();
        for (from, to) in [(&near_end, &far_end), (&far_end, &near_end)] {
            let (from, to) = (from.try_clone().unwrap(), to.try_clone().unwrap());
            let crossed = self.crossed.clone();
            std::thread::spawn(move || pass_on(from, to, &crossed));
        }
        hand_over(&self.pump_control, &near).unwrap();
        hand_over(&self.server_control, &far).unwrap();
    }

    /// The server dies, and another one takes its place.
    fn replace_server(&mut self) {
        self.cut();
        end(self.server);
        let path = self.dir.path().join("server/control");
        let door = packets::listen(&path, 0o600).unwrap();
        self.server = serve(self.dir.path(), door.as_fd(), MOST_WATCHED);
        self.server_control = packets::connect(&path).unwrap();
    }

    fn cut(&self) {
        self.connection.shutdown(Shutdown::Both).unwrap();
        while self.words.recv_timeout(LIMIT).unwrap() != Word::Down {}
    }

    fn there(&self, script: &str) -> Command {
        let mut command = Command::new("nsenter");
        command.arg(format!("--mount=/proc/{}/ns/mnt", self.pump)).args(["--", "setpriv"]);
        self.by_owner(command, script)
    }

    /// What runs this with the owner's rights.
    fn by_owner(&self, mut command: Command, script: &str) -> Command {
        command.args(["--clear-groups".into(), format!("--reuid={OWNER}"), format!("--regid={OWNER}")]);
        command.args(["sh", "-c", script]);
        command.env("D", self.dir.path().join("data")).stdin(Stdio::null());
        command
    }

    fn run(&self, script: &str) -> Output {
        self.there(script).output().unwrap()
    }

    fn start(&self, script: &str) -> Child {
        self.there(script).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
    }

    fn data(&self, name: &str) -> String {
        std::fs::read_to_string(self.dir.path().join("data").join(name)).unwrap_or_default()
    }

    fn until(&self, what: &str, is: impl Fn() -> bool) {
        let deadline = Instant::now() + LIMIT;
        while !is() {
            assert!(Instant::now() < deadline, "waited for {what}");
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        [self.pump, self.server].into_iter().for_each(end);
    }
}

fn end(pid: i32) {
    if let Ok(fd) = PidFd::open(pid) {
        let _ = fd.signal(libc::SIGKILL);
        let _ = nix::sys::wait::waitpid(nix::unistd::Pid::from_raw(pid), None);
    }
}

fn text(out: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&out.stdout), String::from_utf8_lossy(&out.stderr))
}

#[test]
fn what_is_read_written_and_run_there_is_home_s_as_the_owner() {
    let Some(lab) = lab() else { return };
    assert_eq!(text(&lab.run("cat $D/file")), "of home");
    assert!(text(&lab.run("cat $D/secret")).contains("denied"));
    assert_eq!(text(&lab.run("echo new >$D/made && mv $D/made $D/moved && stat -c %u:%a $D/moved")), "4000117:644\n");
    assert_eq!(lab.data("moved"), "new\n");
    assert_eq!(text(&lab.run("printf '#!/bin/sh\\necho ran' >$D/p && chmod 755 $D/p && $D/p")), "ran\n");
    assert_eq!(
        text(&lab.run("grep ' / / ' /proc/self/mountinfo | wc -l; ls -d /proc/self /dev/null")),
        "1\n/dev/null\n/proc/self\n"
    );
}

#[test]
fn what_is_read_in_its_order_is_asked_for_in_large_parts() {
    let Some(lab) = lab() else { return };
    std::fs::write(lab.dir.path().join("data/large"), vec![7; 4 << 20]).unwrap();
    assert_eq!(text(&lab.run("dd if=$D/large bs=64k 2>/dev/null | cksum")), text(&lab.run("cksum <$D/large")));
    let read = lab.crossed.read.load(Ordering::SeqCst);
    // Where nobody may set it, it is the kernel's own choice.
    let own = nix::unistd::access("/sys/class/bdi", nix::unistd::AccessFlags::W_OK).is_err();
    assert!(read >= if own { 128 } else { 512 } << 10, "{read} bytes at once");
}

#[test]
fn breaks_are_waited_for_and_nothing_is_done_twice_or_not_at_all() {
    let Some(mut lab) = lab() else { return };
    let script = r#"exec python3 -c "
import os
os.chdir('$D')
log = open('log', 'a', buffering=1)
for n in range(2000):
    print(n, file=log)
    os.mkdir('d')
    os.rename('d', 'e')
    os.rmdir('e')
    os.close(os.open('only', os.O_CREAT | os.O_EXCL))
    os.unlink('only')
""#;
    let writer = lab.start(script);
    for lines in [20, 200, 500, 1000] {
        lab.until("lines", || lab.data("log").lines().count() > lines);
        lab.cut();
        lab.connect();
    }
    let out = writer.wait_with_output().unwrap();
    assert!(out.status.success(), "{}", text(&out));
    let wanted: String = (0..2000).map(|n| format!("{n}\n")).collect();
    assert_eq!(lab.data("log"), wanted);
}

#[test]
fn who_is_killed_while_home_is_away_ends() {
    let Some(lab) = lab() else { return };
    lab.cut();
    let mut reader = lab.start("exec cat $D/file");
    let wchan = format!("/proc/{}/wchan", reader.id());
    lab.until("a question to home", || std::fs::read_to_string(&wchan).is_ok_and(|w| w.contains("request_wait")));
    reader.kill().unwrap();
    let begun = Instant::now();
    assert!(!reader.wait().unwrap().success());
    assert!(begun.elapsed() < LIMIT);
}

#[test]
fn where_the_server_died_who_waits_gets_an_error_and_does_not_wait_for_ever() {
    let Some(mut lab) = lab() else { return };
    let reader = lab.start("exec 3<$D/file; echo opened >$D/opened; while cat $D/file >/dev/null; do :; done; exit 3");
    lab.until("an open file", || lab.data("opened") == "opened\n");
    lab.replace_server();
    lab.offer();
    while lab.words.recv_timeout(LIMIT).unwrap() != Word::Over {}
    let out = reader.wait_with_output().unwrap();
    assert!(!out.status.success(), "{}", text(&out));
}

#[test]
fn no_other_process_of_the_owner_s_reaches_into_the_server() {
    let Some(lab) = lab() else { return };
    let status = std::fs::read_to_string(format!("/proc/{}/status", lab.server)).unwrap();
    let line = |name: &str| status.lines().find(|l| l.starts_with(name)).unwrap().to_owned();
    assert!(line("Uid:").contains(&OWNER.to_string()));
    assert!(line("CapPrm:").ends_with("0000000000000000") && line("NoNewPrivs:").ends_with('1'));
    let mut command = Command::new("setpriv");
    command.args([format!("--reuid={OWNER}"), format!("--regid={OWNER}"), "--clear-groups".into()]);
    let out = command.args(["ls", &format!("/proc/{}/fd", lab.server)]).output().unwrap();
    assert!(!out.status.success(), "{}", text(&out));
}

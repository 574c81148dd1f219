//! A tree beside a far and a shadow at home, as two agents would set them up: real processes, and connections that can be
//! cut.
#![allow(dead_code, unreachable_pub, clippy::unwrap_used, reason = "a part of each test, and each uses a part of it")]

use grid_os::spawn::{Place, Spawned, spawn};
use grid_shadow::config::{FarConfig, FarStream, HomeConfig, HomeStream, SHADOW_ENV, STREAMS_FILE, StreamKind};
use grid_shadow::control::{self, FromFar, FromShadow, ToFar, ToShadow};
use grid_shadow::mux::Snapshot;
use nix::libc;
use nix::sys::socket::{AddressFamily, Backlog, SockFlag, SockType, UnixAddr, accept4, bind, connect, listen, socket};
use std::fs;
use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

pub const KIT: &str = env!("CARGO_BIN_EXE_shadow-kit");
pub const STDIN: u32 = 1;
pub const STDOUT: u32 = 2;
pub const PIPE: usize = 64 << 10;

/// Namespaces take root.
pub fn skipped() -> bool {
    let skipped = !nix::unistd::geteuid().is_root();
    if skipped {
        println!("SKIPPED: a tree's namespaces take root");
    }
    skipped
}

fn listening(path: &Path) -> OwnedFd {
    let socket = socket(AddressFamily::Unix, SockType::SeqPacket, SockFlag::SOCK_CLOEXEC, None).unwrap();
    bind(socket.as_raw_fd(), &UnixAddr::new(path).unwrap()).unwrap();
    listen(&socket, Backlog::new(8).unwrap()).unwrap();
    socket
}

/// A far with its tree.
pub struct Far {
    pub dir: tempfile::TempDir,
    pub init: Spawned,
    pub generation: u64,
    pub control: OwnedFd,
}

/// A stream as the harness makes it: the far's end, and the tree's ends by their numbers from 0.
pub struct Given {
    pub stream: FarStream,
    pub far: Option<OwnedFd>,
    pub tree: Vec<(i32, OwnedFd)>,
}

pub fn stdin_pipe(capacity: usize) -> Given {
    let (rx, tx) = io::pipe().unwrap();
    let _ = nix::fcntl::fcntl(&tx, nix::fcntl::FcntlArg::F_SETPIPE_SZ(capacity as i32));
    let stream = FarStream { id: STDIN, kind: StreamKind::PipeIn { capacity }, fd: Some(0) };
    Given { stream, far: Some(tx.into()), tree: vec![(0, rx.into())] }
}

pub fn stdout_pipe(capacity: usize) -> Given {
    let (rx, tx) = io::pipe().unwrap();
    let _ = nix::fcntl::fcntl(&tx, nix::fcntl::FcntlArg::F_SETPIPE_SZ(capacity as i32));
    let stream = FarStream { id: STDOUT, kind: StreamKind::PipeOut { capacity }, fd: Some(0) };
    Given { stream, far: Some(rx.into()), tree: vec![(1, tx.into())] }
}

pub fn pipes(capacity: usize) -> Vec<Given> {
    vec![stdin_pipe(capacity), stdout_pipe(capacity)]
}

pub fn sh(script: &str) -> Vec<String> {
    ["sh", "-c", script].map(str::to_owned).to_vec()
}

impl Far {
    pub fn start(generation: u64, given: Vec<Given>, command: &[String]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let streams: Vec<FarStream> = given.iter().map(|g| g.stream.clone()).collect();
        let config = FarConfig { shadow: "s".into(), generation, streams, snapshot: None };
        fs::write(dir.path().join(STREAMS_FILE), serde_json::to_vec(&config).unwrap()).unwrap();
        let socket = listening(&dir.path().join("far.sock"));
        let ((ready, ready_tx), (watched, lifeline)) = (io::pipe().unwrap(), io::pipe().unwrap());
        let mut inherit = vec![(ready_tx.as_fd(), 3), (watched.as_fd(), 4), (socket.as_fd(), 5)];
        inherit.extend(given.iter().filter_map(|g| g.far.as_ref()).zip(6..).map(|(fd, n)| (fd.as_fd(), n)));
        inherit.extend(given.iter().flat_map(|g| &g.tree).map(|(n, fd)| (fd.as_fd(), 40 + n)));
        let argv = [&[KIT.to_owned(), dir.path().to_str().unwrap().to_owned()], command].concat();
        let stderr = io::stderr();
        let place = Place {
            unshare: libc::CLONE_NEWPID | libc::CLONE_NEWNS | libc::CLONE_NEWIPC,
            new_session: true,
            inherit,
            stdio: [None, None, Some(stderr.as_fd())],
            ..Place::default()
        };
        let env = [("PATH".to_owned(), std::env::var("PATH").unwrap()), ("TERM".to_owned(), "xterm".to_owned())];
        let init = spawn(&argv, &env, &place).unwrap();
        drop(place);
        drop((ready_tx, given));
        (&ready).read_exact(&mut [0; 1]).unwrap();
        drop(lifeline);
        let control = dial(&dir.path().join("far.sock"));
        let far = Self { dir, init, generation, control };
        assert!(matches!(far.hear(), FromFar::State { active: false, .. }));
        far
    }

    pub fn hear(&self) -> FromFar {
        control::receive(&self.control, true).unwrap().expect("a far that is there").0
    }

    /// What it answers, past what it says unasked.
    pub fn answer(&self) -> FromFar {
        loop {
            let answer = self.hear();
            if answer != FromFar::Down {
                return answer;
            }
        }
    }

    pub fn activate(&self, snapshot: Option<&Snapshot>) {
        control::activate(&self.control, snapshot).unwrap();
        let answer = self.answer();
        assert!(matches!(answer, FromFar::State { active: true, .. }), "{answer:?}");
    }

    pub fn ask(&self, order: &ToFar) -> FromFar {
        control::send(&self.control, order).unwrap();
        self.answer()
    }

    pub fn pause(&self) -> Snapshot {
        control::send(&self.control, &ToFar::Pause).unwrap();
        loop {
            match control::receive(&self.control, true).unwrap().expect("a far that is there") {
                (FromFar::Snapshot, Some(fd)) => return control::unpack(fd).unwrap(),
                (FromFar::Down, _) => {}
                other => panic!("{other:?}"),
            }
        }
    }

    /// The root's number as it is seen from here.
    pub fn root(&self) -> i32 {
        *children(self.init.pid).first().expect("a tree")
    }

    /// Until pid 1 has ended.
    pub fn wait(&self) {
        wait_for(|| !Path::new(&format!("/proc/{}", self.init.pid)).exists() || state(self.init.pid) == 'Z');
    }
}

impl Drop for Far {
    fn drop(&mut self) {
        let _ = grid_os::signals::send(self.init.pid, libc::SIGKILL);
        self.init.reap();
    }
}

/// Processes that it started.
pub fn children(pid: i32) -> Vec<i32> {
    let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    children.split_whitespace().map(|pid| pid.parse().unwrap()).collect()
}

pub fn dial(path: &Path) -> OwnedFd {
    let socket = socket(AddressFamily::Unix, SockType::SeqPacket, SockFlag::SOCK_CLOEXEC, None).unwrap();
    connect(socket.as_raw_fd(), &UnixAddr::new(path).unwrap()).unwrap();
    socket
}

/// The state letter of a process.
pub fn state(pid: i32) -> char {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(") ").and_then(|(_, rest)| rest.chars().next()).unwrap_or('-')
}

/// Until it holds; a failure after ten seconds.
pub fn wait_for(mut holds: impl FnMut() -> bool) {
    let until = std::time::Instant::now() + std::time::Duration::from_secs(10);
    while !holds() {
        assert!(std::time::Instant::now() < until, "it never came to be");
        std::thread::sleep(std::time::Duration::from_millis(2));
    }
}

/// The shadow at home with its agent.
pub struct Home {
    pub shadow: Child,
    pub stdin: Option<io::PipeWriter>,
    pub stdout: Option<io::PipeReader>,
    agent: OwnedFd,
    _dir: tempfile::TempDir,
}

pub fn home_streams() -> Vec<HomeStream> {
    let stream = |id, kind, fds| HomeStream { id, kind, fds };
    vec![
        stream(STDIN, StreamKind::PipeIn { capacity: PIPE }, vec![0]),
        stream(STDOUT, StreamKind::PipeOut { capacity: PIPE }, vec![1]),
    ]
}

impl Home {
    pub fn start() -> Self {
        let ((stdin, tx), (rx, stdout)) = (io::pipe().unwrap(), io::pipe().unwrap());
        let mut home = Self::with(home_streams(), stdin.into(), stdout.into(), &[]);
        (home.stdin, home.stdout) = (Some(tx), Some(rx));
        home
    }

    /// With these standard streams, and further descriptors under their own numbers.
    pub fn with(streams: Vec<HomeStream>, stdin: Stdio, stdout: Stdio, further: &[&OwnedFd]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let socket = dir.path().join("agent.sock");
        let listening = listening(&socket);
        let config = HomeConfig { socket, shadow: "s".into(), streams };
        for fd in further {
            nix::fcntl::fcntl(fd, nix::fcntl::FcntlArg::F_SETFD(nix::fcntl::FdFlag::empty())).unwrap();
        }
        let mut command = Command::new(KIT);
        command.env(SHADOW_ENV, serde_json::to_string(&config).unwrap());
        let shadow = command.stdin(stdin).stdout(stdout).process_group(0).spawn().unwrap();
        drop(command);
        Self::meet(dir, &listening, shadow)
    }

    /// On a terminal, started by a shell that is the session's leader and has what it should do in `$SHADOW`.
    pub fn on_terminal(streams: Vec<HomeStream>, terminal: &str, typed: impl FnOnce()) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let socket = dir.path().join("agent.sock");
        let listening = listening(&socket);
        let config = HomeConfig { socket, shadow: "s".into(), streams };
        let shell = Command::new(KIT)
            .args(["on-terminal", terminal, "bash", "--norc", "--noprofile", "-i"])
            .env("SHADOW", serde_json::to_string(&config).unwrap())
            .env("KIT", KIT)
            .env("PS1", "$ ")
            .env("TERM", "dumb")
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        typed();
        Self::meet(dir, &listening, shell)
    }

    fn meet(dir: tempfile::TempDir, listening: &OwnedFd, shadow: Child) -> Self {
        let agent = accepted(listening);
        let (hello, _) = control::receive::<FromShadow>(&agent, true).unwrap().unwrap();
        assert_eq!(hello, FromShadow::Hello { shadow: "s".into(), generation: 0, linked: false });
        Self { shadow, stdin: None, stdout: None, agent, _dir: dir }
    }

    pub fn pid(&self) -> i32 {
        self.shadow.id() as i32
    }

    pub fn say(&self, message: &ToShadow) {
        control::send(&self.agent, message).unwrap();
    }

    /// Joins it to this far by a connection of TCP that lasts.
    pub fn join(&self, far: &Far) {
        let (ours, theirs) = tcp_pair();
        self.hand_out(far, &ours, &theirs);
    }

    fn hand_out(&self, far: &Far, ours: &TcpStream, theirs: &TcpStream) {
        control::link_far(&far.control, far.generation, theirs.as_fd()).unwrap();
        let answer = far.answer();
        assert!(matches!(answer, FromFar::State { linked: true, .. }), "{answer:?}");
        control::link_shadow(&self.agent, far.generation, ours.as_fd()).unwrap();
    }

    /// Joins it by one that breaks after so many bytes, in the middle of whatever is on its way.
    pub fn join_for(&self, far: &Far, bytes: i64) {
        let ((home, a), (b, tree)) = (tcp_pair(), tcp_pair());
        let left = Arc::new(AtomicI64::new(bytes));
        for (from, to) in [(&a, &b), (&b, &a)].map(|(f, t)| (f.try_clone().unwrap(), t.try_clone().unwrap())) {
            let left = left.clone();
            std::thread::spawn(move || carry(from, to, &left));
        }
        self.hand_out(far, &home, &tree);
    }

    /// Until the shadow says that its connection broke.
    pub fn wait_down(&self) -> bool {
        matches!(control::receive::<FromShadow>(&self.agent, true), Ok(Some((FromShadow::Down, _))))
    }

    pub fn signal(&self, signo: i32) {
        grid_os::signals::send(self.pid(), signo).unwrap();
    }
}

impl Drop for Home {
    fn drop(&mut self) {
        // Under a shell the shadow is its child, and waits for an agent for ever.
        children(self.pid()).into_iter().for_each(|pid| drop(grid_os::signals::send(pid, libc::SIGKILL)));
        let _ = self.shadow.kill();
        let _ = self.shadow.wait();
    }
}

#[allow(unsafe_code)]
fn accepted(listening: &OwnedFd) -> OwnedFd {
    let number = accept4(listening.as_raw_fd(), SockFlag::SOCK_CLOEXEC).unwrap();
    // SAFETY: the number is new, and nobody else's.
    unsafe { OwnedFd::from_raw_fd(number) }
}

fn carry(mut from: TcpStream, mut to: TcpStream, left: &AtomicI64) {
    let mut buffer = vec![0; 32 << 10];
    while let Ok(n @ 1..) = from.read(&mut buffer) {
        let before = left.fetch_sub(n as i64, Ordering::SeqCst);
        let n = n.min(before.max(0) as usize);
        if to.write_all(&buffer[..n]).is_err() || before <= n as i64 {
            break;
        }
    }
    let _ = (from.shutdown(Shutdown::Both), to.shutdown(Shutdown::Both));
}

pub fn tcp_pair() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let ours = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    (ours, listener.accept().unwrap().0)
}

/// Bytes that repeat after a prime number of them: wherever something is lost, repeated or moved, it shows.
pub struct Pattern {
    bytes: Vec<u8>,
    at: usize,
}

const PERIOD: usize = 65_521;

impl Default for Pattern {
    fn default() -> Self {
        let mut x = 1u32;
        let mut next = || {
            x = x.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (x >> 24) as u8
        };
        let once: Vec<u8> = (0..PERIOD).map(|_| next()).collect();
        Self { bytes: once.repeat(5), at: 0 }
    }
}

impl Pattern {
    /// The next `n` bytes, at most 256 KiB.
    pub fn next(&mut self, n: usize) -> &[u8] {
        let from = self.at;
        self.at = (from + n) % PERIOD;
        &self.bytes[from..from + n]
    }
}

/// Writes so many bytes of the pattern and closes.
pub fn produce(mut into: io::PipeWriter, bytes: usize) {
    let (mut pattern, mut left) = (Pattern::default(), bytes);
    while left > 0 {
        let n = left.min(128 << 10);
        into.write_all(pattern.next(n)).unwrap();
        left -= n;
    }
}

/// Reads to the end, checks every byte, and says how many there were.
pub fn check(mut from: impl Read) -> usize {
    let (mut pattern, mut all, mut buffer) = (Pattern::default(), 0, vec![0; 256 << 10]);
    loop {
        let n = from.read(&mut buffer).unwrap();
        if n == 0 {
            return all;
        }
        assert!(buffer[..n] == *pattern.next(n), "wrong bytes after {all}");
        all += n;
    }
}

/// A figure in KiB of `/proc/PID/status`.
pub fn status_kib(pid: i32, field: &str) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|l| l.strip_prefix(field)).unwrap();
    line.trim_matches(|c: char| !c.is_ascii_digit()).parse().unwrap()
}

pub fn path_of(far: &Far, name: &str) -> PathBuf {
    far.dir.path().join(name)
}

//! The far ends of a tree's streams on the node where it lives: made before the tree is restored, held by the tree's
//! pid 1, and joined with the shadow at home once the tree may run.
//!
//! Owns the making of pipes and the dialling. Never reads or writes a stream: that is pid 1's
//! (`grid_shadow::far`).

use crate::agent::{Agent, Input};
use crate::data::Dial;
use crate::link::tracing_line;
use crate::redial::Redial;
use crate::shadow::StreamLink;
use crate::tree::TreePlace;
use grid_os::criu::socket_state;
use grid_os::packets;
use grid_os::spawn::Owner;
use grid_os::terminal::{external, set_settings, settings, stand_in};
use grid_shadow::config::{self, CONTROL_FD, FIRST_STREAM_FD, FarConfig, FarStream, STREAMS_FILE};
use grid_shadow::control::{FromFar, ToFar, activate, link_far, receive, send, unpack};
use grid_shadow::mux::Snapshot;
use grid_types::AttemptId;
use grid_types::streams::{ShadowTerms, Stream, StreamKind};
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::sys::socket::{AddressFamily, Shutdown, SockFlag, SockType, shutdown, socketpair};
use nix::sys::stat::{fstat, major, minor};
use nix::unistd::{Gid, Uid, fchown, pipe2};
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, TcpListener};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// Where the far end before stopped, in the directory of the tree.
const SNAPSHOT_FILE: &str = "snapshot.json";
/// What the pipe of a stream takes. More than a pipe has by itself, so that a wakeup moves more.
const CAPACITY: usize = 256 << 10;
/// A pause takes less.
const ASIDE: Duration = Duration::from_millis(300);
/// A word is heard within this.
const HEARD_WITHIN: Duration = Duration::from_millis(500);
/// A far end that is asked to pause answers within this.
const PAUSE_WITHIN: Duration = Duration::from_secs(2);

/// Both ends of every stream of one tree, until pid 1 and the restored tree have theirs.
pub(crate) struct Ends {
    control: OwnedFd,
    far: Vec<OwnedFd>,
    tree: Vec<(String, OwnedFd)>,
    terminal: Option<OwnedFd>,
    /// The streams under the names that their ends have here.
    pub(crate) here: Vec<Stream>,
}

/// Pid 1's control socket.
pub(crate) fn control_path(place: &TreePlace) -> PathBuf {
    place.dir.0.join("control.sock")
}

impl Ends {
    /// Makes them, and writes down for pid 1 what they are. On a lender (`away`) the ports on which the tree listens must be
    /// free; at home they are its shadow's.
    pub(crate) fn make(place: &TreePlace, terms: &ShadowTerms, owner: Owner, away: bool) -> io::Result<Self> {
        std::fs::create_dir_all(&place.dir.0)?;
        let mut ends = Self {
            control: packets::listen(&control_path(place), 0o600)?,
            far: Vec::new(),
            tree: Vec::new(),
            terminal: None,
            here: Vec::new(),
        };
        let (shadow, generation) = (terms.shadow.to_string(), terms.generation);
        let mut config = FarConfig { shadow, generation, streams: Vec::new(), snapshot: None };
        let mut number = FIRST_STREAM_FD;
        for stream in &terms.streams {
            if let StreamKind::Listener { port, v6 } = stream.kind {
                if away {
                    free(port, v6)?;
                }
                config.streams.push(FarStream { id: stream.id, kind: kind_of(stream.kind), fd: None });
                ends.here.push(stream.clone());
                continue;
            }
            let fd = number;
            number += 1;
            let (tree, far) = pair(stream.kind, terms)?;
            // CRIU, as the owner, opens it anew by its number.
            fchown(&tree, Some(Uid::from_raw(owner.uid)), Some(Gid::from_raw(owner.gid)))?;
            ends.here.push(Stream { name: name_of(tree.as_fd())?, ..stream.clone() });
            match stream.kind {
                StreamKind::Tty => ends.terminal = Some(tree),
                _ => ends.tree.push((stream.name.clone(), tree)),
            }
            ends.far.push(far);
            config.streams.push(FarStream { id: stream.id, kind: kind_of(stream.kind), fd: Some(fd) });
        }
        std::fs::write(place.dir.0.join(STREAMS_FILE), serde_json::to_vec(&config)?)?;
        Ok(ends)
    }

    /// What pid 1 inherits.
    pub(crate) fn inherited(&self) -> Vec<(BorrowedFd<'_>, i32)> {
        let ends = self.far.iter().map(AsFd::as_fd).zip(FIRST_STREAM_FD..);
        std::iter::once((self.control.as_fd(), CONTROL_FD)).chain(ends).collect()
    }

    /// Pid 1 has its ends: nobody else holds them, so that their ends of file are seen.
    pub(crate) fn given_to_init(&mut self) {
        self.far.clear();
    }

    /// What the restored tree gets in place of what its images name.
    pub(crate) fn given_to_tree(&self) -> Vec<(String, BorrowedFd<'_>)> {
        self.tree.iter().map(|(name, end)| (name.clone(), end.as_fd())).collect()
    }

    /// Sockets are set as those were that they stand in for: CRIU takes them as they are given. That the other end sends no
    /// more comes down the stream, behind what it had sent.
    pub(crate) fn set_sockets(&self, images: &Path) -> Result<(), String> {
        for (name, end) in &self.tree {
            let Some(inode) = inode_of(name) else { continue };
            let Some(was) = socket_state(images, inode).map_err(|e| e.to_string())? else { continue };
            let flags = if was.nonblocking { OFlag::O_NONBLOCK } else { OFlag::empty() };
            fcntl(end, FcntlArg::F_SETFL(flags)).map_err(|e| format!("{name}: {}", e.desc()))?;
            if was.sends_no_more {
                shutdown(end.as_raw_fd(), Shutdown::Write).map_err(|e| format!("{name}: {}", e.desc()))?;
            }
        }
        Ok(())
    }

    /// The terminal that the tree gets.
    pub(crate) fn terminal(&self) -> Option<BorrowedFd<'_>> {
        self.terminal.as_ref().map(AsFd::as_fd)
    }

    /// It stands in for the one at home, whatever a restore made of it.
    pub(crate) fn renew_terminal(&self) -> io::Result<()> {
        self.terminal.as_ref().map_or(Ok(()), |slave| set_settings(slave, &external(&settings(slave)?, true)?))
    }

    /// Its device.
    pub(crate) fn terminal_device(&self) -> Option<(u32, u32)> {
        let device = fstat(self.terminal.as_ref()?).ok()?.st_rdev;
        Some((major(device) as u32, minor(device) as u32))
    }
}

/// Nobody listens on this port here.
fn free(port: u16, v6: bool) -> io::Result<()> {
    let at = |any: IpAddr| TcpListener::bind((any, port)).map(drop);
    let tried = if v6 { at(Ipv6Addr::UNSPECIFIED.into()) } else { at(Ipv4Addr::UNSPECIFIED.into()) };
    let taken = |e: io::Error| match e.kind() {
        io::ErrorKind::AddrInUse => Err(io::Error::new(e.kind(), format!("port {port} is in use here"))),
        // Whether it may listen there is its own matter.
        _ => Ok(()),
    };
    tried.or_else(taken)
}

/// The tree's end, and pid 1's.
fn pair(kind: StreamKind, terms: &ShadowTerms) -> io::Result<(OwnedFd, OwnedFd)> {
    let unknown = |what| io::Error::new(io::ErrorKind::InvalidData, what);
    if kind == StreamKind::Tty {
        return stand_in(terms.terminal.as_ref().ok_or_else(|| unknown("a terminal that was not described"))?);
    }
    if kind == StreamKind::Socket {
        return Ok(socketpair(AddressFamily::Unix, SockType::Stream, None, SockFlag::SOCK_CLOEXEC)?);
    }
    let (reads, writes) = pipe2(OFlag::O_CLOEXEC)?;
    fcntl(&writes, FcntlArg::F_SETPIPE_SZ(CAPACITY as i32))?;
    match kind {
        StreamKind::PipeIn => Ok((reads, writes)),
        StreamKind::PipeOut => Ok((writes, reads)),
        StreamKind::Socket | StreamKind::Tty | StreamKind::Listener { .. } => {
            Err(unknown("a stream of a kind that is not made yet"))
        }
    }
}

fn name_of(end: BorrowedFd<'_>) -> io::Result<String> {
    let link = std::fs::read_link(format!("/proc/self/fd/{}", end.as_raw_fd()))?;
    Ok(link.to_string_lossy().into_owned())
}

/// Of `socket:[4711]`.
fn inode_of(name: &str) -> Option<u64> {
    name.strip_prefix("socket:[")?.strip_suffix(']')?.parse().ok()
}

/// What CRIU is told to leave behind of these streams: it saves a pipe's end by itself, a socket's only with the other.
pub(crate) fn left_behind(streams: &[Stream]) -> Vec<String> {
    let sockets = streams.iter().filter(|s| s.kind == StreamKind::Socket);
    sockets.filter_map(|s| inode_of(&s.name)).map(|inode| format!("unix[{inode}]")).collect()
}

/// As both ends of the relay know it.
pub(crate) fn kind_of(kind: StreamKind) -> config::StreamKind {
    match kind {
        StreamKind::PipeIn => config::StreamKind::PipeIn { capacity: CAPACITY },
        StreamKind::PipeOut => config::StreamKind::PipeOut { capacity: CAPACITY },
        StreamKind::Socket => config::StreamKind::Socket,
        StreamKind::Tty => config::StreamKind::Tty,
        StreamKind::Listener { port, v6 } => config::StreamKind::Listener { port, v6 },
    }
}

/// The far end delivers nothing more and says where everything stands, as text for the next one.
pub(crate) fn pause(control: &Path) -> Result<String, String> {
    let ask = || -> io::Result<Option<String>> {
        let socket = packets::connect_at_once(control)?;
        packets::set_patience(&socket, PAUSE_WITHIN)?;
        send(&socket, &ToFar::Pause)?;
        while let Some((word, fd)) = receive::<FromFar>(&socket, true)? {
            match (word, fd) {
                (FromFar::Snapshot, Some(fd)) => return Ok(Some(serde_json::to_string(&unpack(fd)?)?)),
                (FromFar::Refused { why }, _) => return Err(io::Error::other(why)),
                _ => {}
            }
        }
        Ok(None)
    };
    match ask() {
        Ok(Some(snapshot)) => Ok(snapshot),
        Ok(None) => Err("the far end of its streams went away".to_owned()),
        Err(e) => Err(format!("the far end of its streams: {e}")),
    }
}

/// Says one word to the far end of a tree, and waits until it was heard: who says it and leaves at once is taken for
/// gone. A far end that is gone needs no word.
pub(crate) fn tell(control: &Path, word: &ToFar) {
    let Ok(socket) = packets::connect_at_once(control) else { return };
    if packets::set_patience(&socket, HEARD_WITHIN).and_then(|()| send(&socket, word)).is_err() {
        return;
    }
    // It says how it is to whoever comes, and again when it has heeded a word.
    let answers = (0..2).take_while(|_| matches!(receive::<FromFar>(&socket, true), Ok(Some(_))));
    answers.for_each(drop);
}

/// Keeps for the far end to come where the one before stopped.
pub(crate) fn keep_snapshot(place: &TreePlace, snapshot: &str) -> Result<(), String> {
    let file = place.dir.0.join(SNAPSHOT_FILE);
    std::fs::write(&file, snapshot).map_err(|e| format!("{}: {e}", file.display()))
}

/// Keeps the far end of a tree joined with its shadow until it is gone: dials for it, and again whenever it says so.
struct Joiner {
    attempt: AttemptId,
    terms: ShadowTerms,
    control: PathBuf,
    snapshot: PathBuf,
    dial: Option<Dial>,
    node: grid_types::NodeName,
    linked: Arc<AtomicBool>,
    inputs: tokio::sync::mpsc::UnboundedSender<Input>,
}

impl Joiner {
    /// Pid 1 listens to whoever came last: one that was pushed aside (by a pause) comes again a little later.
    fn run(&self) {
        while let Ok(socket) = packets::connect(&self.control) {
            if let Err(e) = self.serve(&socket) {
                tracing_line(&format!("the streams of {}: {e}", self.attempt));
            }
            std::thread::sleep(ASIDE);
        }
    }

    fn serve(&self, socket: &OwnedFd) -> io::Result<()> {
        let before = self.snapshot.exists().then(|| std::fs::read(&self.snapshot)).transpose()?;
        let before: Option<Snapshot> = before.map(|text| serde_json::from_slice(&text)).transpose()?;
        activate(socket, before.as_ref())?;
        let mut redial = Redial::new();
        while let Some((word, _)) = receive::<FromFar>(socket, true)? {
            match word {
                FromFar::Down | FromFar::State { active: true, linked: false, .. } => {
                    self.linked.store(false, Ordering::Relaxed);
                }
                FromFar::State { linked: true, .. } => {
                    self.linked.store(true, Ordering::Relaxed);
                    continue;
                }
                FromFar::Refused { why } => return Err(io::Error::other(why)),
                _ => continue,
            }
            let end = redial.join(|| self.join(), || true)?;
            link_far(socket, self.terms.generation, end.as_fd())?;
            self.linked.store(true, Ordering::Relaxed);
        }
        Ok(())
    }

    /// A connection whose other end the shadow gets.
    fn join(&self) -> io::Result<OwnedFd> {
        match &self.dial {
            Some(dial) => dial.streams(&self.attempt, &self.terms).map(OwnedFd::from),
            None => {
                let (ours, theirs) = std::os::unix::net::UnixStream::pair()?;
                let (attempt, from, shadow) = (self.attempt.clone(), self.node.clone(), self.terms.shadow.clone());
                let link = StreamLink { attempt, from, shadow, generation: self.terms.generation, end: theirs.into() };
                self.inputs.send(Input::StreamLink(link)).map_err(|_| io::Error::other("the agent ends"))?;
                Ok(ours.into())
            }
        }
    }
}

impl Agent {
    /// No tree here waits for its shadow.
    pub(crate) fn all_joined(&self) -> bool {
        let waits = |linked: &Arc<AtomicBool>| !linked.load(Ordering::Relaxed);
        !self.incoming.values().any(|i| !i.alone && i.living_root().is_some() && i.joined.as_ref().is_some_and(waits))
    }

    /// The tree of this attempt runs here: its streams are joined with its shadow, for as long as its pid 1 lives.
    pub(crate) fn join_streams(&mut self, attempt: &AttemptId) {
        let dial = Dial::of(&self.cfg);
        let (node, inputs) = (self.cfg.node.clone(), self.inputs.clone());
        let Some(incoming) = self.incoming.get_mut(attempt) else { return };
        let Some(terms) = incoming.record.stage.shadow.clone() else { return };
        if incoming.joined.is_some() {
            return;
        }
        let linked = incoming.joined.insert(Arc::default()).clone();
        let place = incoming.tree().0;
        let (control, snapshot) = (control_path(place), place.dir.0.join(SNAPSHOT_FILE));
        let joiner = Joiner { attempt: attempt.clone(), terms, control, snapshot, dial, node, linked, inputs };
        std::thread::spawn(move || joiner.run());
    }
}

//! The shadow's way to its agent, which may be away: tried again and again, with longer and longer pauses.

use crate::control::{self, FromShadow, ToShadow};
use nix::sys::socket::{AddressFamily, SockFlag, SockType, UnixAddr, connect, socket};
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// The connection to the agent, or when it is tried next.
#[derive(Debug)]
pub(super) struct Agent {
    path: PathBuf,
    pub(super) socket: Option<OwnedFd>,
    pause: Duration,
    next: Instant,
}

impl Agent {
    pub(super) fn new(path: &Path) -> Self {
        Self { path: path.to_owned(), socket: None, pause: FIRST_PAUSE, next: Instant::now() }
    }

    /// How long until it is tried again; none while there is a connection.
    pub(super) fn due_in(&self) -> Option<Duration> {
        self.socket.is_none().then(|| self.next.saturating_duration_since(Instant::now()))
    }

    /// Connects where it is time to, and says hello.
    pub(super) fn reach(&mut self, hello: impl FnOnce() -> FromShadow) {
        if self.due_in() != Some(Duration::ZERO) {
            return;
        }
        let reached = dial(&self.path).and_then(|socket| control::send(&socket, &hello()).map(|()| socket));
        match reached {
            Ok(socket) => (self.socket, self.pause) = (Some(socket), FIRST_PAUSE),
            Err(_) => self.lost(),
        }
    }

    fn lost(&mut self) {
        self.socket = None;
        self.next = Instant::now() + self.pause;
        self.pause = (self.pause * 2).min(LONGEST_PAUSE);
    }

    /// Says something; not to an agent that is away: it hears all with the hello.
    pub(super) fn say(&mut self, message: &FromShadow) {
        if self.socket.as_ref().is_some_and(|s| control::send(s, message).is_err()) {
            self.lost();
        }
    }

    /// The next message that is there, with its descriptor.
    pub(super) fn hear(&mut self) -> Option<(ToShadow, Option<OwnedFd>)> {
        match control::receive(self.socket.as_ref()?, false) {
            Ok(Some(message)) => Some(message),
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => None,
            Ok(None) | Err(_) => {
                self.lost();
                None
            }
        }
    }
}

fn dial(path: &Path) -> io::Result<OwnedFd> {
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let socket = socket(AddressFamily::Unix, SockType::SeqPacket, flags, None)?;
    connect(socket.as_raw_fd(), &UnixAddr::new(path)?)?;
    Ok(socket)
}

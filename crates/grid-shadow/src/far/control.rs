//! The far's control socket: agents connect one after another, the newest counts.

use crate::control::{self, FromFar, ToFar};
use crate::relay::Name;
use grid_os::poll::PollSet;
use nix::poll::PollFlags;
use nix::sys::socket::{SockFlag, accept4};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

pub(super) const LISTENING: Name = Name::Own(10);
pub(super) const CONNECTED: Name = Name::Own(11);

#[derive(Debug)]
pub(super) struct Control {
    listening: OwnedFd,
    socket: Option<OwnedFd>,
}

impl Control {
    pub(super) fn new(listening: OwnedFd) -> Self {
        Self { listening, socket: None }
    }

    pub(super) fn register(&self, set: &mut PollSet<Name>) {
        set.add(LISTENING, &self.listening, PollFlags::POLLIN);
        if let Some(socket) = &self.socket {
            set.add(CONNECTED, socket, PollFlags::POLLIN);
        }
    }

    /// Takes the agent that connected. An older connection is closed: its agent is gone, or it is the same one.
    pub(super) fn accept(&mut self) -> io::Result<()> {
        let number = accept4(self.listening.as_raw_fd(), SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK)?;
        self.socket = Some(grid_os::descriptors::inherited(number)?);
        Ok(())
    }

    pub(super) fn hear(&mut self) -> Option<(ToFar, Option<OwnedFd>)> {
        match control::receive(self.socket.as_ref()?, false) {
            Ok(Some(message)) => Some(message),
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => None,
            Ok(None) | Err(_) => {
                self.socket = None;
                None
            }
        }
    }

    /// Says something to whoever is there. An agent that does not listen is let go: it hears all when it comes again.
    pub(super) fn say(&mut self, message: &FromFar) {
        self.say_with(message, None);
    }

    pub(super) fn say_with(&mut self, message: &FromFar, fd: Option<BorrowedFd<'_>>) {
        let Some(socket) = &self.socket else { return };
        let said = match fd {
            Some(fd) => control::send_with(socket, message, fd),
            None => control::send(&socket.as_fd(), message),
        };
        if said.is_err() {
            self.socket = None;
        }
    }
}

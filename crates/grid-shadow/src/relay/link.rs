//! The connection to the other end: a stream socket that an agent made.

use crate::mux::{Mux, ProtocolError};
use nix::errno::Errno;
use nix::poll::PollFlags;
use nix::sys::socket::{MsgFlags, recv, sendmsg, setsockopt, sockopt};
use std::io::{self, IoSlice};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

/// Reads in a row before others have their turn.
const READS: usize = 8;
/// An end that is silent for so long is asked; one that does not answer is gone after [`GONE_AFTER_MS`].
const SILENT_S: u32 = 10;
const GONE_AFTER_MS: u32 = 30_000;

/// Why a connection ended.
#[derive(Debug, thiserror::Error)]
pub(super) enum Broke {
    #[error("it was closed")]
    Closed,
    #[error(transparent)]
    Io(#[from] Errno),
    #[error(transparent)]
    Protocol(#[from] ProtocolError),
}

#[derive(Debug)]
pub(super) struct Link {
    socket: OwnedFd,
    full: bool,
}

impl Link {
    pub(super) fn new(socket: OwnedFd) -> io::Result<Self> {
        // Of TCP only; a socketpair has none of it.
        if setsockopt(&socket, sockopt::TcpNoDelay, &true).is_ok() {
            setsockopt(&socket, sockopt::KeepAlive, &true)?;
            setsockopt(&socket, sockopt::TcpKeepIdle, &SILENT_S)?;
            setsockopt(&socket, sockopt::TcpKeepInterval, &(SILENT_S / 2))?;
            setsockopt(&socket, sockopt::TcpUserTimeout, &GONE_AFTER_MS)?;
        }
        Ok(Self { socket, full: false })
    }

    pub(super) fn interest(&self) -> PollFlags {
        if self.full { PollFlags::POLLIN | PollFlags::POLLOUT } else { PollFlags::POLLIN }
    }

    /// Takes what is there, up to a bound. True where something was.
    pub(super) fn receive(&mut self, mux: &mut Mux) -> Result<bool, Broke> {
        self.full = false;
        for turn in 0..READS {
            let space = mux.space();
            let (asked, got) = (space.len(), recv(self.socket.as_raw_fd(), space, MsgFlags::MSG_DONTWAIT));
            match got {
                Ok(0) => return Err(Broke::Closed),
                Ok(n) => {
                    mux.filled(n)?;
                    if n < asked {
                        return Ok(true);
                    }
                }
                Err(Errno::EAGAIN | Errno::EINTR) => return Ok(turn > 0),
                Err(e) => return Err(e.into()),
            }
        }
        Ok(true)
    }

    pub(super) fn flush(&mut self, mux: &mut Mux) -> Result<bool, Broke> {
        let mut moved = false;
        while !self.full {
            let [head, a, b] = mux.output();
            let all = head.len() + a.len() + b.len();
            if all == 0 {
                break;
            }
            let parts = [IoSlice::new(head), IoSlice::new(a), IoSlice::new(b)];
            let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL;
            match sendmsg::<()>(self.socket.as_raw_fd(), &parts, &[], flags, None) {
                Ok(n) => {
                    mux.sent(n);
                    self.full = n < all;
                    moved = true;
                }
                Err(Errno::EAGAIN | Errno::EINTR) => self.full = true,
                Err(e) => return Err(e.into()),
            }
        }
        Ok(moved)
    }
}

impl AsFd for Link {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

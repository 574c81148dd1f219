//! One descriptor that bytes are read from or written to, without ever waiting in it.
//!
//! Descriptors of home are shared with other processes: their flags are never touched.

use nix::errno::Errno;
use nix::fcntl::{OFlag, open};
use nix::sys::socket::{MsgFlags, recv, sendmsg};
use nix::sys::stat::{Mode, SFlag, fstat};
use std::io::{self, IoSlice};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

/// A write of at most this much after `POLLOUT` does not wait in a pipe (POSIX: `PIPE_BUF`).
const CAREFUL: usize = 4096;

/// How it is read and written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Manner {
    /// It does not wait by itself.
    Plain,
    /// Asked each time not to wait.
    Socket,
    /// It may wait: only after poll(2) said yes, and little at once.
    Careful,
}

/// A descriptor for one direction.
#[derive(Clone, Debug)]
pub(crate) struct Port {
    fd: Arc<OwnedFd>,
    manner: Manner,
    /// poll(2) tells of it when the other end is gone, also where nothing is asked.
    pub(crate) tells_end: bool,
}

fn kind(fd: &impl AsFd) -> io::Result<SFlag> {
    Ok(SFlag::from_bits_truncate(fstat(fd)?.st_mode) & SFlag::S_IFMT)
}

impl Port {
    /// Of a descriptor that nobody else uses: it is set not to wait.
    pub(crate) fn own(fd: OwnedFd) -> io::Result<Self> {
        use nix::fcntl::{FcntlArg, fcntl};
        let kind = kind(&fd)?;
        let flags = OFlag::from_bits_retain(fcntl(&fd, FcntlArg::F_GETFL)?);
        fcntl(&fd, FcntlArg::F_SETFL(flags | OFlag::O_NONBLOCK))?;
        let manner = if kind == SFlag::S_IFSOCK { Manner::Socket } else { Manner::Plain };
        Ok(Self { fd: Arc::new(fd), manner, tells_end: kind == SFlag::S_IFIFO })
    }

    /// Of a descriptor that is shared with others: opened anew where that gives the same thing, else handled with care.
    pub(crate) fn shared(fd: BorrowedFd<'_>, write: bool) -> io::Result<Self> {
        let kind = kind(&fd)?;
        let tells_end = kind == SFlag::S_IFIFO;
        let as_is = |manner| Ok(Self { fd: Arc::new(fd.try_clone_to_owned()?), manner, tells_end });
        match kind {
            SFlag::S_IFSOCK => as_is(Manner::Socket),
            // A file's position is shared with others, and it never makes anybody wait.
            SFlag::S_IFREG => as_is(Manner::Plain),
            _ => {
                let path = format!("/proc/self/fd/{}", fd.as_raw_fd());
                let way = if write { OFlag::O_WRONLY } else { OFlag::O_RDONLY };
                let flags = way | OFlag::O_NONBLOCK | OFlag::O_NOCTTY | OFlag::O_CLOEXEC;
                match open(path.as_str(), flags, Mode::empty()) {
                    Ok(fd) => Ok(Self { fd: Arc::new(fd), manner: Manner::Plain, tells_end }),
                    Err(_) => as_is(Manner::Careful),
                }
            }
        }
    }

    pub(crate) fn is_socket(&self) -> bool {
        self.manner == Manner::Socket
    }

    pub(crate) fn read(&self, into: &mut [u8]) -> Result<usize, Errno> {
        match self.manner {
            Manner::Socket => recv(self.fd.as_raw_fd(), into, MsgFlags::MSG_DONTWAIT),
            _ => nix::unistd::read(&*self.fd, into),
        }
    }

    /// Writes of both slices what goes.
    pub(crate) fn write(&self, a: &[u8], b: &[u8]) -> Result<usize, Errno> {
        let both = [IoSlice::new(a), IoSlice::new(b)];
        match self.manner {
            Manner::Plain if b.is_empty() => nix::unistd::write(&*self.fd, a),
            Manner::Plain => nix::sys::uio::writev(&*self.fd, &both),
            Manner::Socket => {
                let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL;
                sendmsg::<()>(self.fd.as_raw_fd(), &both, &[], flags, None)
            }
            Manner::Careful => nix::unistd::write(&*self.fd, &a[..a.len().min(CAREFUL)]),
        }
    }

    /// It must be asked before each write whether it would wait.
    pub(crate) fn is_careful(&self) -> bool {
        self.manner == Manner::Careful
    }
}

impl AsFd for Port {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

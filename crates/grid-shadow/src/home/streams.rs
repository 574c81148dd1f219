//! The descriptors that the original process had: taken over, opened for the relay, and closed when the tree closed its own.

use crate::config::{HomeConfig, HomeStream, StreamKind};
use crate::relay::{End, Port};
use grid_os::descriptors::inherited;
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io;
use std::net::TcpListener;
use std::os::fd::{AsFd, BorrowedFd, IntoRawFd, OwnedFd};

/// A stream at home.
#[derive(Debug)]
pub(super) struct Stream {
    pub(super) kind: StreamKind,
    fds: Vec<(i32, OwnedFd)>,
}

/// Closes what this program does not need: everything but standard streams and what was named.
pub(super) fn close_others(config: &HomeConfig) -> io::Result<()> {
    let named = |fd: i32| fd <= 2 || config.streams.iter().any(|s| s.fds.contains(&fd));
    let open: Vec<i32> = fs::read_dir("/proc/self/fd")?
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .filter(|fd| !named(*fd))
        .collect();
    for fd in open {
        // The one that the list was read through is closed already.
        let _ = nix::unistd::close(fd);
    }
    Ok(())
}

impl Stream {
    pub(super) fn take_over(config: &HomeStream) -> io::Result<Self> {
        let fds = config.fds.iter().map(|fd| Ok((*fd, inherited(*fd)?))).collect::<io::Result<Vec<_>>>()?;
        if fds.is_empty() {
            return Err(io::Error::other(format!("stream {} has no descriptor", config.id)));
        }
        Ok(Self { kind: config.kind, fds })
    }

    /// What the relay reads from and writes to.
    pub(super) fn end(&self) -> io::Result<End> {
        let fd = self.fds[0].1.as_fd();
        let port = |wanted: bool, write| wanted.then(|| Port::shared(fd, write)).transpose();
        // A terminal is read by its own rules: see `tty`.
        let reads = self.kind.goes_in() && self.kind != StreamKind::Tty;
        Ok(End::new(port(reads, false)?, port(self.kind.goes_out(), true)?))
    }

    pub(super) fn fd(&self) -> BorrowedFd<'_> {
        self.fds[0].1.as_fd()
    }

    pub(super) fn listener(&self) -> io::Result<TcpListener> {
        Ok(TcpListener::from(self.fds[0].1.try_clone()?))
    }

    /// Lets go of it. Numbers of standard streams stay taken: nothing else may get them.
    pub(super) fn close(&mut self) {
        let null = File::options().read(true).write(true).open("/dev/null");
        for (number, fd) in self.fds.drain(..) {
            let replaced = match (&null, number) {
                (Ok(null), 0) => nix::unistd::dup2_stdin(null),
                (Ok(null), 1) => nix::unistd::dup2_stdout(null),
                (Ok(null), 2) => nix::unistd::dup2_stderr(null),
                _ => Err(nix::errno::Errno::EBADF),
            };
            if replaced.is_ok() {
                let _ = fd.into_raw_fd();
            }
        }
    }
}

/// All streams, by their ids.
pub(super) fn take_over(config: &HomeConfig) -> io::Result<BTreeMap<u32, Stream>> {
    config.streams.iter().map(|s| Ok((s.id, Stream::take_over(s)?))).collect()
}

//! Unix sockets of packets (`SOCK_SEQPACKET`), on which agents speak to shadows and to the far ends of streams. What is
//! said on them is `grid_shadow::control`'s.
#![allow(unsafe_code)]

use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::sys::socket::{
    AddressFamily, Backlog, SockFlag, SockType, UnixAddr, accept4, bind, connect as connect_to, listen as listen_on,
    setsockopt, socket, sockopt,
};
use nix::sys::time::{TimeVal, TimeValLike};
use std::io;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Duration;

/// So many wait to be accepted; who comes beyond them waits to be one of them.
const BACKLOG: i32 = 64;

fn new(flags: SockFlag) -> io::Result<OwnedFd> {
    Ok(socket(AddressFamily::Unix, SockType::SeqPacket, SockFlag::SOCK_CLOEXEC | flags, None)?)
}

/// Listens here, in place of a stale socket.
///
/// # Errors
/// The system call that failed.
pub fn listen(path: &Path, mode: u32) -> io::Result<OwnedFd> {
    let _ = std::fs::remove_file(path);
    let listener = new(SockFlag::empty())?;
    bind(listener.as_raw_fd(), &UnixAddr::new(path)?)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode))?;
    listen_on(&listener, Backlog::new(BACKLOG).unwrap_or(Backlog::MAXCONN))?;
    Ok(listener)
}

/// The next that comes.
///
/// # Errors
/// The system call that failed.
pub fn accept(listener: &OwnedFd) -> io::Result<OwnedFd> {
    let fd = accept4(listener.as_raw_fd(), SockFlag::SOCK_CLOEXEC)?;
    // SAFETY: the kernel has just made this number, and nobody else knows it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Goes to who listens there, and waits for as long as that one accepts nobody: for a thread that has nothing else to do.
///
/// # Errors
/// The system call that failed.
pub fn connect(path: &Path) -> io::Result<OwnedFd> {
    let socket = new(SockFlag::empty())?;
    connect_to(socket.as_raw_fd(), &UnixAddr::new(path)?)?;
    Ok(socket)
}

/// The same without waiting: who listens there may be a process that its user has stopped. What is received on it waits.
///
/// # Errors
/// The system call that failed; `WouldBlock` where so many came already that there is no room.
pub fn connect_at_once(path: &Path) -> io::Result<OwnedFd> {
    let socket = new(SockFlag::SOCK_NONBLOCK)?;
    connect_to(socket.as_raw_fd(), &UnixAddr::new(path)?)?;
    fcntl(&socket, FcntlArg::F_SETFL(OFlag::empty()))?;
    Ok(socket)
}

/// A receive takes no longer.
///
/// # Errors
/// The system call that failed.
pub fn set_patience(socket: &impl AsFd, patience: Duration) -> io::Result<()> {
    let limit = TimeVal::milliseconds(patience.as_millis() as i64);
    Ok(setsockopt(&socket.as_fd(), sockopt::ReceiveTimeout, &limit)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::descriptors::{receive_packet, send_packet, send_packet_at_once};

    #[test]
    fn packets_cross_and_silence_has_its_limit() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("sock");
        let listener = listen(&path, 0o600).unwrap();
        let ours = connect(&path).unwrap();
        let theirs = accept(&listener).unwrap();
        send_packet(&ours, b"one", None).unwrap();
        send_packet(&ours, b"two", None).unwrap();
        assert_eq!(receive_packet(&theirs, 10, true).unwrap().unwrap().0, b"one");
        assert_eq!(receive_packet(&theirs, 10, true).unwrap().unwrap().0, b"two");
        set_patience(&theirs, Duration::from_millis(10)).unwrap();
        assert_eq!(receive_packet(&theirs, 10, true).unwrap_err().kind(), io::ErrorKind::WouldBlock);
        assert!(listen(&path, 0o600).is_ok(), "a stale socket is replaced");
    }

    /// As a process that its user has stopped. Without that, this hangs.
    #[test]
    fn who_accepts_and_reads_nothing_is_not_waited_for() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("sock");
        let listener = listen(&path, 0o600).unwrap();
        let mut came = Vec::new();
        let full = loop {
            match connect_at_once(&path) {
                Ok(socket) => came.push(socket),
                Err(e) => break e,
            }
        };
        assert_eq!(full.kind(), io::ErrorKind::WouldBlock);
        assert!(came.len() >= BACKLOG as usize, "{}", came.len());
        let ours = came.remove(0);
        let mut said = 0;
        let full = loop {
            match send_packet_at_once(&ours, b"word", Some(listener.as_fd())) {
                Ok(()) => said += 1,
                Err(e) => break e,
            }
        };
        assert_eq!(full.kind(), io::ErrorKind::WouldBlock);
        // It goes on, hears all, and may answer: that is waited for.
        let theirs = accept(&listener).unwrap();
        (0..said).for_each(|_| assert!(receive_packet(&theirs, 10, false).unwrap().is_some()));
        let answer = std::thread::spawn(move || receive_packet(&ours, 10, true).unwrap().unwrap().0);
        send_packet(&theirs, b"answer", None).unwrap();
        assert_eq!(answer.join().unwrap(), b"answer");
    }
}

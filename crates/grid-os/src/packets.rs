//! Unix sockets of packets (`SOCK_SEQPACKET`), on which agents speak to shadows and to the far ends of streams. What is
//! said on them is `grid_shadow::control`'s.
#![allow(unsafe_code)]

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

fn new() -> io::Result<OwnedFd> {
    Ok(socket(AddressFamily::Unix, SockType::SeqPacket, SockFlag::SOCK_CLOEXEC, None)?)
}

/// Listens here, in place of a stale socket.
///
/// # Errors
/// The system call that failed.
pub fn listen(path: &Path, mode: u32) -> io::Result<OwnedFd> {
    let _ = std::fs::remove_file(path);
    let listener = new()?;
    bind(listener.as_raw_fd(), &UnixAddr::new(path)?)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode))?;
    listen_on(&listener, Backlog::new(64).unwrap_or(Backlog::MAXCONN))?;
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

/// Goes to who listens there.
///
/// # Errors
/// The system call that failed.
pub fn connect(path: &Path) -> io::Result<OwnedFd> {
    let socket = new()?;
    connect_to(socket.as_raw_fd(), &UnixAddr::new(path)?)?;
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
    use crate::descriptors::{receive_packet, send_packet};

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
}

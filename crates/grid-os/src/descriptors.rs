//! Descriptors: taking over those that were inherited, passing them between processes, and what is unread behind them.
#![allow(unsafe_code)]

use nix::cmsg_space;
use nix::errno::Errno;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::socket::{ControlMessage, ControlMessageOwned, MsgFlags, recvmsg, sendmsg};
use std::io::{self, IoSlice, IoSliceMut};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

/// Takes over a descriptor that this process was started with. For each number once, before anything else uses it.
///
/// # Errors
/// There is no such descriptor.
pub fn inherited(number: RawFd) -> io::Result<OwnedFd> {
    // SAFETY: plain system call.
    if unsafe { libc::fcntl(number, libc::F_GETFD) } < 0 {
        return Err(io::Error::new(io::ErrorKind::NotFound, format!("descriptor {number} was not inherited")));
    }
    // SAFETY: it is open, and by this function's contract nobody else in this process owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(number) })
}

/// This process may have as many as it may allow itself: how many those are.
///
/// # Errors
/// The system call that failed.
pub fn allow_all() -> io::Result<u64> {
    let (_, most) = getrlimit(Resource::RLIMIT_NOFILE)?;
    setrlimit(Resource::RLIMIT_NOFILE, most, most)?;
    Ok(most)
}

/// A message of one packet, with a descriptor or without.
///
/// # Errors
/// The socket; `WouldBlock` where it is full and does not wait.
pub fn send_packet(socket: &impl AsFd, bytes: &[u8], fd: Option<BorrowedFd<'_>>) -> io::Result<()> {
    send_flagged(socket, bytes, fd, MsgFlags::empty())
}

/// The same to whoever may have stopped reading: it is never waited for.
///
/// # Errors
/// The socket; `WouldBlock` where it is full.
pub fn send_packet_at_once(socket: &impl AsFd, bytes: &[u8], fd: Option<BorrowedFd<'_>>) -> io::Result<()> {
    send_flagged(socket, bytes, fd, MsgFlags::MSG_DONTWAIT)
}

fn send_flagged(socket: &impl AsFd, bytes: &[u8], fd: Option<BorrowedFd<'_>>, flags: MsgFlags) -> io::Result<()> {
    let fds = fd.map(|fd| [fd.as_raw_fd()]);
    let passed = fds.as_ref().map(|fds| ControlMessage::ScmRights(fds));
    let socket = socket.as_fd().as_raw_fd();
    sendmsg::<()>(socket, &[IoSlice::new(bytes)], passed.as_slice(), flags | MsgFlags::MSG_NOSIGNAL, None)?;
    Ok(())
}

/// The next packet of at most `most` bytes and the descriptor that came with it, close-on-exec; none at the end.
/// Further descriptors are closed.
///
/// # Errors
/// The socket, or a packet that is longer; `WouldBlock` where there is none and `wait` is not asked for.
pub fn receive_packet(socket: &impl AsFd, most: usize, wait: bool) -> io::Result<Option<(Vec<u8>, Option<OwnedFd>)>> {
    let mut bytes = vec![0u8; most];
    let mut space = cmsg_space!([RawFd; 8]);
    let (length, cut, mut passed) = {
        let mut parts = [IoSliceMut::new(&mut bytes)];
        let flags = if wait { MsgFlags::empty() } else { MsgFlags::MSG_DONTWAIT } | MsgFlags::MSG_CMSG_CLOEXEC;
        let got = recvmsg::<()>(socket.as_fd().as_raw_fd(), &mut parts, Some(&mut space), flags)?;
        let mut passed = Vec::new();
        for message in got.cmsgs()? {
            if let ControlMessageOwned::ScmRights(fds) = message {
                // SAFETY: the kernel has just made these numbers for this process, and nobody else knows them.
                passed.extend(fds.into_iter().map(|fd| unsafe { OwnedFd::from_raw_fd(fd) }));
            }
        }
        (got.bytes, got.flags.contains(MsgFlags::MSG_TRUNC), passed)
    };
    if cut {
        return Err(io::Error::new(io::ErrorKind::InvalidData, format!("a packet of more than {most} bytes")));
    }
    if length == 0 {
        return Ok(None);
    }
    bytes.truncate(length);
    passed.truncate(1);
    Ok(Some((bytes, passed.pop())))
}

/// Bytes that wait to be read: of a pipe from either end, of a socket or terminal at this end (FIONREAD).
///
/// # Errors
/// It is nothing of that kind.
pub fn unread(fd: &impl AsFd) -> io::Result<u64> {
    let mut count: libc::c_int = 0;
    // SAFETY: the kernel writes one int into a live one.
    let result = unsafe { libc::ioctl(fd.as_fd().as_raw_fd(), libc::FIONREAD, &raw mut count) };
    Errno::result(result)?;
    Ok(u64::try_from(count).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use nix::sys::socket::{AddressFamily, SockFlag, SockType, socketpair};
    use std::io::{Read, Write};

    fn pair() -> (OwnedFd, OwnedFd) {
        socketpair(AddressFamily::Unix, SockType::SeqPacket, None, SockFlag::SOCK_CLOEXEC).unwrap()
    }

    #[test]
    fn a_descriptor_crosses_with_its_message() {
        let (ours, theirs) = pair();
        let (mut reader, writer) = io::pipe().unwrap();
        send_packet(&ours, b"take", Some(writer.as_fd())).unwrap();
        drop(writer);
        let (bytes, fd) = receive_packet(&theirs, 100, true).unwrap().unwrap();
        assert_eq!(bytes, b"take");
        std::fs::File::from(fd.unwrap()).write_all(b"through").unwrap();
        let mut text = String::new();
        reader.read_to_string(&mut text).unwrap();
        assert_eq!(text, "through");
        assert_eq!(receive_packet(&theirs, 100, false).unwrap_err().kind(), io::ErrorKind::WouldBlock);
    }

    #[test]
    fn a_long_packet_is_refused_and_the_end_is_told() {
        let (ours, theirs) = pair();
        send_packet(&ours, &[1; 101], None).unwrap();
        assert!(receive_packet(&theirs, 100, true).is_err());
        drop(ours);
        assert!(receive_packet(&theirs, 100, true).unwrap().is_none());
    }

    #[test]
    fn what_is_unread_is_seen_from_both_ends_of_a_pipe() {
        let (reader, mut writer) = io::pipe().unwrap();
        writer.write_all(&[0; 300]).unwrap();
        assert_eq!((unread(&reader).unwrap(), unread(&writer).unwrap()), (300, 300));
    }
}

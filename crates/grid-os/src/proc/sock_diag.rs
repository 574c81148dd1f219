//! The other ends of Unix sockets, by the kernel's socket diagnostics (sock_diag(7)): the one fact about sockets that
//! `/proc` does not tell.
//!
//! One question for all sockets of the caller's network namespace; needs no privilege.

use nix::sys::socket::sockopt::ReceiveTimeout;
use nix::sys::socket::{AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, recv, send, setsockopt, socket};
use nix::sys::time::TimeVal;
use std::collections::HashMap;
use std::io;
use std::os::fd::{AsFd, AsRawFd};

const SOCK_DIAG_BY_FAMILY: u16 = 20;
const NLM_F_REQUEST_DUMP: u16 = 0x301;
const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
const HEADER: usize = 16;
/// `struct unix_diag_msg`.
const MESSAGE: usize = 16;
const UDIAG_SHOW_PEER: u32 = 4;
const UDIAG_SHOW_RQLEN: u32 = 16;
const UNIX_DIAG_PEER: u16 = 2;
const UNIX_DIAG_RQLEN: u16 = 4;
/// `NLA_TYPE_MASK`.
const TYPE_MASK: u16 = 0x3fff;
const ANSWER_WITHIN_S: i64 = 2;

/// A connected Unix socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Connected {
    /// Inode of its other end, 0 where that is closed.
    pub(super) peer: u64,
    /// Bytes that wait to be read from it.
    unread: u32,
}

/// Bytes that were sent on a connected Unix stream socket and that its other end has not read.
///
/// # Errors
/// The kernel's socket diagnostics, or it is no such socket of this network namespace.
pub fn unread_by_peer(socket: &impl AsFd) -> io::Result<u64> {
    let inode = nix::sys::stat::fstat(socket)?.st_ino;
    let all = unix_sockets()?;
    let peer = all.get(&inode).ok_or(io::ErrorKind::NotFound)?.peer;
    Ok(all.get(&peer).map_or(0, |s| u64::from(s.unread)))
}

/// Inode of each connected socket to that of its other end, 0 where the other end is closed.
pub(super) fn unix_peers() -> io::Result<HashMap<u64, u64>> {
    Ok(unix_sockets()?.into_iter().map(|(inode, s)| (inode, s.peer)).collect())
}

/// Every connected socket, by its inode.
pub(super) fn unix_sockets() -> io::Result<HashMap<u64, Connected>> {
    let diag = socket(AddressFamily::Netlink, SockType::Raw, SockFlag::SOCK_CLOEXEC, SockProtocol::NetlinkSockDiag)?;
    setsockopt(&diag, ReceiveTimeout, &TimeVal::new(ANSWER_WITHIN_S, 0))?;
    send(diag.as_raw_fd(), &request(), MsgFlags::empty())?;
    let mut peers = HashMap::new();
    let mut buffer = vec![0u8; 32 << 10];
    loop {
        let length = recv(diag.as_raw_fd(), &mut buffer, MsgFlags::empty())?;
        if length == 0 || take(&buffer[..length], &mut peers)? {
            return Ok(peers);
        }
    }
}

/// `struct nlmsghdr` and `struct unix_diag_req`: every state, with the peer and what is unread.
fn request() -> Vec<u8> {
    let mut bytes = Vec::with_capacity(40);
    bytes.extend(40u32.to_ne_bytes());
    bytes.extend(SOCK_DIAG_BY_FAMILY.to_ne_bytes());
    bytes.extend(NLM_F_REQUEST_DUMP.to_ne_bytes());
    bytes.extend([0u8; 8]);
    bytes.extend([AddressFamily::Unix as u8, 0, 0, 0]);
    bytes.extend(u32::MAX.to_ne_bytes());
    bytes.extend(0u32.to_ne_bytes());
    bytes.extend((UDIAG_SHOW_PEER | UDIAG_SHOW_RQLEN).to_ne_bytes());
    bytes.extend([0u8; 8]);
    bytes
}

/// Takes in one datagram; true when it was the last.
pub(super) fn take(mut data: &[u8], peers: &mut HashMap<u64, Connected>) -> io::Result<bool> {
    while data.len() >= HEADER {
        let length = word(data, 0) as usize;
        let kind = half(data, 4);
        if length < HEADER || length > data.len() {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "a netlink message of a wrong length"));
        }
        match kind {
            NLMSG_DONE => return Ok(true),
            NLMSG_ERROR => return Err(io::Error::from_raw_os_error((word(data, HEADER) as i32).wrapping_neg())),
            _ if length >= HEADER + MESSAGE => {
                let (inode, attributes) = (word(data, HEADER + 4), &data[HEADER + MESSAGE..length]);
                if let Some(peer) = attribute(attributes, UNIX_DIAG_PEER) {
                    let unread = attribute(attributes, UNIX_DIAG_RQLEN).unwrap_or(0);
                    peers.insert(u64::from(inode), Connected { peer: u64::from(peer), unread });
                }
            }
            _ => {}
        }
        data = data.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    Ok(false)
}

/// The first word of an attribute.
fn attribute(mut attributes: &[u8], kind: u16) -> Option<u32> {
    while attributes.len() >= 8 {
        let length = half(attributes, 0) as usize;
        if length < 4 {
            return None;
        }
        if half(attributes, 2) & TYPE_MASK == kind {
            return Some(word(attributes, 4));
        }
        attributes = attributes.get(length.next_multiple_of(4)..)?;
    }
    None
}

/// Four bytes in the machine's order; 0 past the end.
fn word(data: &[u8], at: usize) -> u32 {
    data.get(at..at + 4).and_then(|b| b.try_into().ok()).map_or(0, u32::from_ne_bytes)
}

fn half(data: &[u8], at: usize) -> u16 {
    data.get(at..at + 2).and_then(|b| b.try_into().ok()).map_or(0, u16::from_ne_bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::MetadataExt;
    use std::os::unix::net::UnixStream;

    #[test]
    fn both_ends_of_a_pair_name_each_other() {
        let (a, b) = UnixStream::pair().unwrap();
        let inode = |s: &UnixStream| std::fs::metadata(format!("/proc/self/fd/{}", s.as_raw_fd())).unwrap().ino();
        let peers = unix_sockets().unwrap();
        assert_eq!(peers[&inode(&a)].peer, inode(&b));
        assert_eq!(peers[&inode(&b)].peer, inode(&a));
    }

    #[test]
    fn what_the_other_end_has_not_read_is_counted() {
        use std::io::{Read, Write};
        let (mut a, mut b) = UnixStream::pair().unwrap();
        a.write_all(&[0; 3000]).unwrap();
        b.read_exact(&mut [0; 1000]).unwrap();
        assert_eq!((unread_by_peer(&a).unwrap(), unread_by_peer(&b).unwrap()), (2000, 0));
    }

    #[test]
    fn broken_messages_are_an_error_and_never_a_loop() {
        let mut peers = HashMap::new();
        assert!(take(&[0u8; 32], &mut peers).is_err());
        assert!(!take(&[1, 2, 3], &mut peers).unwrap());
        assert_eq!(attribute(&[0u8; 16], UNIX_DIAG_PEER), None);
    }
}

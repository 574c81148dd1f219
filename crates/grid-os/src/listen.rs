//! A TCP socket that listens, made for somebody else.

use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, Backlog, SockFlag, SockType, SockaddrStorage, bind, listen, setsockopt, socket, sockopt,
};
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsRawFd, OwnedFd};

/// Listens at this address; at one of IPv6 for IPv4 as well where nobody else does that.
///
/// # Errors
/// The kernel's, with the address: it is in use, or this node does not have it.
pub fn listen_at(at: SocketAddr) -> io::Result<OwnedFd> {
    let made = match make(at, false) {
        Err(Errno::EADDRINUSE) if at.is_ipv6() => make(at, true),
        other => other,
    };
    made.map_err(|e| io::Error::new(io::Error::from(e).kind(), format!("{at}: {}", e.desc())))
}

fn make(at: SocketAddr, v6_only: bool) -> Result<OwnedFd, Errno> {
    let family = if at.is_ipv6() { AddressFamily::Inet6 } else { AddressFamily::Inet };
    let made = socket(family, SockType::Stream, SockFlag::SOCK_CLOEXEC, None)?;
    setsockopt(&made, sockopt::ReuseAddr, &true)?;
    if at.is_ipv6() {
        setsockopt(&made, sockopt::Ipv6V6Only, &v6_only)?;
    }
    bind(made.as_raw_fd(), &SockaddrStorage::from(at))?;
    listen(&made, Backlog::MAXCONN)?;
    Ok(made)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;

    #[test]
    fn one_that_is_taken_is_named() {
        let taken = TcpListener::bind("127.0.0.1:0").unwrap();
        let at = taken.local_addr().unwrap();
        let why = listen_at(at).unwrap_err();
        assert!(why.kind() == io::ErrorKind::AddrInUse && why.to_string().starts_with(&at.to_string()), "{why}");
        drop(taken);
        assert!(listen_at(at).is_ok());
    }
}

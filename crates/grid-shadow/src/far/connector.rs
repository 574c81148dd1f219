//! Connections to the tree's own listeners, made for those that arrived at home.

use crate::config::CONNECTION;
use crate::mux::Report;
use crate::relay::{Connections, Name, Relay};
use grid_os::poll::PollSet;
use nix::errno::Errno;
use nix::poll::PollFlags;
use nix::sys::socket::{
    AddressFamily, SockFlag, SockType, SockaddrIn, SockaddrIn6, SockaddrLike, connect, getsockopt, socket, sockopt,
};
use std::collections::BTreeMap;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddrV4, SocketAddrV6, TcpStream};
use std::os::fd::{AsRawFd, OwnedFd};

/// Connections that are being made: by channel, with the address that is tried where this one fails.
#[derive(Debug, Default)]
pub(super) struct Connector {
    making: BTreeMap<u32, (OwnedFd, Option<(u16, bool)>)>,
}

impl Connector {
    pub(super) fn register(&self, set: &mut PollSet<Name>) {
        for (channel, (socket, _)) in &self.making {
            set.add(Name::Connecting(*channel), socket, PollFlags::POLLOUT);
        }
    }

    /// Begins to connect the channel to the listener on this port.
    pub(super) fn open(&mut self, relay: &mut Relay, channel: u32, port: u16, v6: bool) -> Option<Report> {
        if relay.mux.open(channel, CONNECTION, false).is_err() {
            return Some(Report::Closed { channel });
        }
        self.dial(relay, channel, (port, v6), Some((port, !v6)))
    }

    /// It is there, or it failed.
    pub(super) fn happened(&mut self, relay: &mut Relay, channel: u32) -> Option<Report> {
        let (socket, other) = self.making.remove(&channel)?;
        match getsockopt(&socket, sockopt::SocketError) {
            Ok(0) => Some(join(relay, channel, socket)),
            _ => match other {
                Some(address) => self.dial(relay, channel, address, None),
                None => Some(refused(relay, channel)),
            },
        }
    }

    /// The one who connected is gone, or the tree is.
    pub(super) fn forget(&mut self, channel: u32) {
        self.making.remove(&channel);
    }

    fn dial(
        &mut self,
        relay: &mut Relay,
        channel: u32,
        (port, v6): (u16, bool),
        other: Option<(u16, bool)>,
    ) -> Option<Report> {
        let (socket, outcome) = match begin(port, v6) {
            Ok(begun) => begun,
            Err(_) => return Some(refused(relay, channel)),
        };
        match (outcome, other) {
            (Ok(()), _) => Some(join(relay, channel, socket)),
            (Err(Errno::EINPROGRESS), other) => {
                self.making.insert(channel, (socket, other));
                None
            }
            (Err(_), Some(address)) => self.dial(relay, channel, address, None),
            (Err(_), None) => Some(refused(relay, channel)),
        }
    }
}

fn begin(port: u16, v6: bool) -> Result<(OwnedFd, Result<(), Errno>), Errno> {
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let to = |family, address: &dyn SockaddrLike| {
        let socket = socket(family, SockType::Stream, flags, None)?;
        let outcome = connect_to(&socket, address);
        Ok((socket, outcome))
    };
    if v6 {
        to(AddressFamily::Inet6, &SockaddrIn6::from(SocketAddrV6::new(Ipv6Addr::LOCALHOST, port, 0, 0)))
    } else {
        to(AddressFamily::Inet, &SockaddrIn::from(SocketAddrV4::new(Ipv4Addr::LOCALHOST, port)))
    }
}

fn connect_to(socket: &OwnedFd, address: &dyn SockaddrLike) -> Result<(), Errno> {
    connect(socket.as_raw_fd(), address)
}

fn join(relay: &mut Relay, channel: u32, socket: OwnedFd) -> Report {
    Connections::join(relay, channel, TcpStream::from(socket));
    Report::Opened { channel }
}

fn refused(relay: &mut Relay, channel: u32) -> Report {
    relay.mux.close(channel);
    Report::Closed { channel }
}

//! Connections to listeners, the same at both ends: joined to a channel, half-closed with it, reset with it.

use super::{End, News, Port, Relay};
use crate::mux::CONNECTIONS;
use nix::sys::socket::{setsockopt, sockopt};
use std::net::TcpStream;
use std::os::fd::AsFd;

/// What both ends do with connections.
pub(crate) struct Connections;

impl Connections {
    /// Lets the channel's bytes flow.
    pub(crate) fn join(relay: &mut Relay, channel: u32, stream: TcpStream) {
        // Small answers should not wait for others.
        let _ = stream.set_nodelay(true);
        match Port::own(stream.into()) {
            Ok(port) => {
                relay.ends.insert(channel, End::new(Some(port.clone()), Some(port)));
            }
            Err(_) => relay.news.push(News::Reset(channel)),
        }
    }

    /// Closing it will tell its other end that it was reset.
    pub(crate) fn reset(socket: &impl AsFd) {
        let _ = setsockopt(&socket.as_fd(), sockopt::Linger, &nix::libc::linger { l_onoff: 1, l_linger: 0 });
    }

    /// Resets and forgets it.
    pub(crate) fn drop(relay: &mut Relay, channel: u32) {
        if let Some(end) = relay.ends.remove(&channel)
            && let Some(port) = end.source.as_ref().or(end.sink.as_ref())
        {
            Self::reset(port);
        }
        relay.mux.close(channel);
    }

    /// Does what the news of a connection asks for; its channel where the other end is to be told that it was reset.
    pub(crate) fn tend(relay: &mut Relay, news: News) -> Option<u32> {
        match news {
            News::Ended(channel) if channel >= CONNECTIONS => relay.half_close(channel),
            News::Reset(channel) if channel >= CONNECTIONS => {
                Self::drop(relay, channel);
                return Some(channel);
            }
            _ => {}
        }
        None
    }

    /// Forgets those of which both directions are through.
    pub(crate) fn sweep(relay: &mut Relay) {
        while let Some(channel) = relay.ends.range(CONNECTIONS..).map(|(c, _)| *c).find(|c| relay.mux.is_settled(*c)) {
            relay.ends.remove(&channel);
            relay.mux.close(channel);
        }
    }
}

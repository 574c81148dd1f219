//! Listening sockets of the original process: whoever connects is passed on to the tree's own listener.
//!
//! A connection waits, unread, until the far says that the tree took it. It ends with a handover.

use crate::config::CONNECTION;
use crate::mux::{CONNECTIONS, Order};
use crate::relay::{Connections, Relay};
use std::collections::{BTreeMap, BTreeSet};
use std::io::ErrorKind;
use std::net::{TcpListener, TcpStream};
use std::os::fd::OwnedFd;

/// More have to wait in the kernel's queue.
const MOST: usize = 256;

/// The listeners, and who waits for the tree.
#[derive(Debug, Default)]
pub(super) struct Listeners {
    pub(super) listening: BTreeMap<u32, TcpListener>,
    waiting: BTreeMap<u32, OwnedFd>,
    /// They do not listen: the tree is at home and does so itself. The agent says something when that is over.
    asleep: BTreeSet<u32>,
}

impl Listeners {
    /// There is room for another connection.
    pub(super) fn has_room(&self, relay: &Relay) -> bool {
        relay.mux.connections().len() < MOST
    }

    /// Those that are to be waited for.
    pub(super) fn awake(&self) -> impl Iterator<Item = (&u32, &TcpListener)> {
        self.listening.iter().filter(|(id, _)| !self.asleep.contains(id))
    }

    /// The tree began to listen while it is away.
    pub(super) fn begin(&mut self, listener: u32, socket: OwnedFd) {
        self.listening.insert(listener, TcpListener::from(socket));
        self.asleep.remove(&listener);
    }

    /// It listens there no more.
    pub(super) fn end(&mut self, listener: u32) {
        self.listening.remove(&listener);
        self.asleep.remove(&listener);
    }

    /// They may listen again.
    pub(super) fn wake(&mut self) {
        self.asleep.clear();
    }

    /// Takes the next connection of a listener.
    pub(super) fn accept(&mut self, relay: &mut Relay, listener: u32) {
        let stream = match self.listening.get(&listener).map(TcpListener::accept) {
            Some(Ok((stream, _))) => stream,
            Some(Err(e)) if e.kind() == ErrorKind::InvalidInput => {
                self.asleep.insert(listener);
                return;
            }
            Some(Err(_)) | None => return,
        };
        let opened = relay.mux.next_connection().filter(|c| relay.mux.open(*c, CONNECTION, true).is_ok());
        let Some(channel) = opened else { return };
        if relay.mux.say(&Order::Open { channel, listener }) {
            self.waiting.insert(channel, stream.into());
        } else {
            relay.mux.close(channel);
        }
    }

    /// The tree took it.
    pub(super) fn opened(&mut self, relay: &mut Relay, channel: u32) {
        if let Some(socket) = self.waiting.remove(&channel) {
            relay.mux.let_go(channel);
            Connections::join(relay, channel, TcpStream::from(socket));
        }
    }

    /// The tree did not take it, or reset it.
    pub(super) fn closed(&mut self, relay: &mut Relay, channel: u32) {
        if channel >= CONNECTIONS {
            if let Some(socket) = self.waiting.remove(&channel) {
                Connections::reset(&socket);
            }
            Connections::drop(relay, channel);
        }
    }

    /// The tree is elsewhere: its connections are not.
    pub(super) fn drop_all(&mut self, relay: &mut Relay) {
        for channel in relay.mux.connections() {
            self.closed(relay, channel);
            // Where there is no room for it the far has no use for it either: it never heard of the channel.
            relay.mux.say(&Order::Close { channel });
        }
    }
}

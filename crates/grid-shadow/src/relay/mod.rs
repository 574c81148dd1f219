//! What a shadow and a far have in common: the protocol with the connection that carries it on one side, and the
//! descriptors of the streams on the other.
//!
//! Owns: the connection, and each stream's descriptors. Never waits, never decides what the end of a stream means to its
//! owner: that is told as [`News`].

mod connections;
mod link;
mod port;

pub(crate) use connections::Connections;
pub(crate) use port::Port;

use crate::mux::{Mux, ProtocolError};
use grid_os::poll::PollSet;
use link::Link;
use nix::errno::Errno;
use nix::poll::PollFlags;
use nix::sys::socket::{Shutdown, shutdown};
use std::collections::BTreeMap;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

/// At most so much is read from a stream at once: others have their turn.
const READ: usize = 256 << 10;

/// What a descriptor that is waited for belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Name {
    /// The connection to the other end.
    Link,
    /// Where a channel's bytes come from.
    Source(u32),
    /// Where a channel's bytes go.
    Sink(u32),
    /// A listener, by its stream.
    Listener(u32),
    /// A connection that is being made, by its channel.
    Connecting(u32),
    /// Something of the owner's.
    Own(u32),
}

/// What happened to a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum News {
    /// Everything that the other end sent is delivered, its end is next.
    Ended(u32),
    /// Whoever read what the other end sends is gone.
    SinkGone(u32),
    /// The other end does not take any more of what is read here.
    Unwanted(u32),
    /// There is nothing more to read.
    SourceEnded(u32),
    /// The connection of this channel was reset here.
    Reset(u32),
}

/// The descriptors of a channel.
#[derive(Debug, Default)]
pub(crate) struct End {
    pub(crate) source: Option<Port>,
    pub(crate) sink: Option<Port>,
    /// The sink took less than it was given.
    full: bool,
    /// Nothing is delivered beyond this offset for now.
    pub(crate) until: Option<u64>,
}

impl End {
    pub(crate) fn new(source: Option<Port>, sink: Option<Port>) -> Self {
        Self { full: sink.as_ref().is_some_and(Port::is_careful), source, sink, until: None }
    }
}

/// The protocol and its descriptors.
#[derive(Debug)]
pub(crate) struct Relay {
    pub(crate) mux: Mux,
    pub(crate) ends: BTreeMap<u32, End>,
    pub(crate) news: Vec<News>,
    link: Option<Link>,
    /// Nothing is read from or delivered to the streams.
    pub(crate) still: bool,
    /// Something moved since it was asked last.
    pub(crate) moved: bool,
}

impl Relay {
    pub(crate) fn new(mux: Mux) -> Self {
        Self { mux, ends: BTreeMap::new(), news: Vec::new(), link: None, still: false, moved: false }
    }

    /// Goes on over this connection; an older one is closed.
    pub(crate) fn connect(&mut self, socket: OwnedFd, generation: u64) -> io::Result<()> {
        self.link = Some(Link::new(socket)?);
        self.mux.connect(generation);
        Ok(())
    }

    pub(crate) fn disconnect(&mut self) {
        self.link = None;
        self.mux.disconnect();
    }

    pub(crate) fn has_link(&self) -> bool {
        self.link.is_some()
    }

    /// What is to be waited for.
    pub(crate) fn register(&self, set: &mut PollSet<Name>) {
        if let Some(link) = &self.link {
            set.add(Name::Link, link, link.interest());
        }
        if self.still {
            return;
        }
        for (channel, end) in &self.ends {
            if let Some(source) = &end.source
                && self.mux.room(*channel, 0) > 0
            {
                set.add(Name::Source(*channel), source, PollFlags::POLLIN);
            }
            if let Some(sink) = &end.sink {
                let waits = !self.mux.pending(*channel).0.is_empty();
                if waits || sink.tells_end {
                    let events = if waits { PollFlags::POLLOUT } else { PollFlags::empty() };
                    set.add(Name::Sink(*channel), sink, events);
                }
            }
        }
    }

    /// Something happened to one of those descriptors.
    pub(crate) fn happened(&mut self, name: Name, flags: PollFlags) {
        if flags.is_empty() {
            return;
        }
        match name {
            Name::Link => self.receive(),
            Name::Source(channel) if !self.still => {
                self.read(channel, READ, 0);
            }
            Name::Sink(channel) if !self.still => {
                if let Some(end) = self.ends.get_mut(&channel) {
                    end.full = false;
                    let gone = end.sink.as_ref().is_some_and(|s| s.tells_end) && flags.contains(PollFlags::POLLERR);
                    if gone {
                        self.sink_gone(channel, Errno::EPIPE);
                    } else {
                        self.deliver(channel);
                    }
                }
            }
            _ => {}
        }
    }

    /// Delivers what arrived, tells what came of it, and sends what there is to send.
    pub(crate) fn pump(&mut self) {
        if !self.still {
            // Not a copy of the keys each time: ends are few, and none is added or removed in here.
            let mut at = 0;
            while let Some(channel) = self.ends.range(at..).next().map(|(channel, _)| *channel) {
                self.deliver(channel);
                at = channel + 1;
            }
        }
        while let Some(channel) = self.mux.newly_broken() {
            if let Some(end) = self.ends.get_mut(&channel) {
                end.source = None;
            }
            self.news.push(News::Unwanted(channel));
        }
        self.flush();
    }

    /// Nothing more goes to the sink: its reader sees an end.
    pub(crate) fn half_close(&mut self, channel: u32) {
        let Some(sink) = self.ends.get_mut(&channel).and_then(|e| e.sink.take()) else { return };
        if sink.is_socket() {
            let _ = shutdown(sink.as_fd().as_raw_fd(), Shutdown::Write);
        }
    }

    /// Reads of a source at most `most` bytes, `more` than the window where it may be. False where there is nothing (more)
    /// to be had now.
    pub(crate) fn read(&mut self, channel: u32, most: usize, more: usize) -> bool {
        let Some(source) = self.ends.get(&channel).and_then(|e| e.source.as_ref()) else { return false };
        let space = self.mux.write_space(channel, most, more);
        if space.is_empty() {
            return false;
        }
        match source.read(space) {
            Ok(0) => self.source_ended(channel),
            Ok(n) => {
                self.mux.wrote(channel, n);
                self.moved = true;
                return true;
            }
            Err(Errno::EAGAIN | Errno::EINTR) => {}
            Err(Errno::ECONNRESET) => {
                self.source_ended(channel);
                self.news.push(News::Reset(channel));
            }
            // EIO of a terminal that was hung up, and whatever else: there is nothing more.
            Err(_) => self.source_ended(channel),
        }
        false
    }

    fn source_ended(&mut self, channel: u32) {
        self.mux.end(channel);
        if let Some(end) = self.ends.get_mut(&channel) {
            end.source = None;
        }
        self.moved = true;
        self.news.push(News::SourceEnded(channel));
    }

    fn deliver(&mut self, channel: u32) {
        loop {
            let Some(end) = self.ends.get_mut(&channel) else { return };
            let Some(sink) = end.sink.as_ref() else { return };
            let (a, b) = self.mux.pending(channel);
            let most =
                end.until.map_or(usize::MAX, |at| at.saturating_sub(self.mux.delivered_so_far(channel)) as usize);
            let a = &a[..a.len().min(most)];
            let b = &b[..b.len().min(most - a.len())];
            if a.is_empty() || end.full {
                break;
            }
            match sink.write(a, b) {
                Ok(n) => {
                    end.full = n < a.len() + b.len() || sink.is_careful();
                    self.mux.delivered(channel, n);
                    self.moved = true;
                }
                Err(Errno::EAGAIN | Errno::EINTR) => end.full = true,
                Err(e) => return self.sink_gone(channel, e),
            }
        }
        if self.mux.end_is_due(channel) {
            self.mux.delivered_end(channel);
            self.news.push(News::Ended(channel));
        }
    }

    fn sink_gone(&mut self, channel: u32, why: Errno) {
        self.mux.break_off(channel);
        if let Some(end) = self.ends.get_mut(&channel) {
            end.sink = None;
        }
        self.moved = true;
        self.news.push(News::SinkGone(channel));
        if why == Errno::ECONNRESET {
            self.news.push(News::Reset(channel));
        }
    }

    fn receive(&mut self) {
        let Some(link) = &mut self.link else { return };
        match link.receive(&mut self.mux) {
            Ok(moved) => self.moved |= moved,
            Err(_) => self.disconnect(),
        }
    }

    /// Sends until there is nothing to send or the connection is full.
    pub(crate) fn flush(&mut self) {
        let Some(link) = &mut self.link else { return };
        match link.flush(&mut self.mux) {
            Ok(moved) => self.moved |= moved,
            Err(_) => self.disconnect(),
        }
    }

    /// What the other end said is not to be understood.
    pub(crate) fn give_up(&mut self, _: ProtocolError) {
        self.disconnect();
    }
}

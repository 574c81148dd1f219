//! The protocol between a shadow and a far: reliable byte streams over connections that break, and over handovers.
//!
//! Owns: channels with 64-bit offsets, frames, the control records. Never touches a descriptor, a clock, a thread or a
//! file: bytes in, bytes out (`tests/pure.rs` holds it to that). Invariants: every byte is delivered once and in order, an
//! end and a break are told once, whatever arrives is an error at worst and takes no memory beyond the windows.
//!
//! The same type is both ends. Home numbers generations by what its agent says: the greeting of a higher one ends
//! everything older, and only with it may a receiver stand lower than what it once acknowledged.

mod channel;
mod inbound;
mod outbound;
mod record;
mod ring;
mod snapshot;
mod wire;

#[cfg(test)]
mod properties;
#[cfg(test)]
mod tests;

pub use channel::{Bounds, DRAINED};
pub use record::{MAX_RECORD, Order, Report};
pub use snapshot::{KeptChannel, ReadChannel, Snapshot, SnapshotError};
pub use wire::{MAX_CHANNELS, MAX_DATA, PROTOCOL};

use channel::{Receiver, Sender};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The channel of records.
pub const CONTROL: u32 = 0;
/// Channels of connections begin here; those of the streams lie below.
pub const CONNECTIONS: u32 = 1 << 16;
/// What a control channel holds.
pub const CONTROL_BOUNDS: Bounds = Bounds { window: 64 << 10, retain: 0 };

/// Why a connection is given up. Nothing is lost: the next one goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProtocolError {
    /// Not a header.
    #[error("not a frame")]
    Frame,
    /// A greeting that is none, or at the wrong time.
    #[error("not a greeting")]
    Hello,
    /// The other end speaks another protocol.
    #[error("protocol {0}, not {PROTOCOL}")]
    Version(u32),
    /// A greeting of another generation than the connection was made for.
    #[error("generation {0} was not expected")]
    Generation(u64),
    /// A channel that is not there.
    #[error("no channel {0}")]
    Channel(u32),
    /// An offset that cannot be.
    #[error("an offset out of line")]
    Offset,
    /// More than the window.
    #[error("more bytes than the window")]
    Window,
    /// Not a control record.
    #[error("not a control record")]
    Record,
}

/// One end of the streams of one tree.
#[derive(Debug)]
pub struct Mux {
    senders: BTreeMap<u32, Sender>,
    receivers: BTreeMap<u32, Receiver>,
    /// The highest generation that greeted (home), or its own (far).
    generation: u64,
    /// Connections get rising numbers; those up to here that are not there were closed.
    highest: u32,
    link: Option<Link>,
    turn: u32,
}

/// What lasts as long as a connection.
#[derive(Debug)]
struct Link {
    expected: u64,
    greeted: bool,
    inbound: inbound::Inbound,
    outbound: outbound::Outbound,
}

impl Mux {
    /// With nothing but the control channel.
    pub fn new(generation: u64) -> Self {
        Self {
            senders: BTreeMap::from([(CONTROL, Sender::new(CONTROL_BOUNDS))]),
            receivers: BTreeMap::from([(CONTROL, Receiver::new(CONTROL_BOUNDS.window))]),
            generation,
            highest: CONNECTIONS - 1,
            link: None,
            turn: 0,
        }
    }

    /// The generation of the last greeting at home; a far's own.
    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// This end sends on the channel.
    pub fn add_sender(&mut self, channel: u32, bounds: Bounds) {
        self.senders.insert(channel, Sender::new(bounds));
    }

    /// This end receives on the channel.
    pub fn add_receiver(&mut self, channel: u32, window: usize) {
        self.receivers.insert(channel, Receiver::new(window));
    }

    /// The number of the next connection; none where there are too many.
    pub fn next_connection(&self) -> Option<u32> {
        (self.senders.len().max(self.receivers.len()) < MAX_CHANNELS).then_some(self.highest.checked_add(1)?)
    }

    /// Both directions of a connection. Where it is `held`, nothing is sent before [`Self::let_go`].
    ///
    /// # Errors
    /// Its number is not the next one or higher, or there are too many.
    pub fn open(&mut self, channel: u32, bounds: Bounds, held: bool) -> Result<(), ProtocolError> {
        if self.next_connection().is_none_or(|next| channel < next) {
            return Err(ProtocolError::Channel(channel));
        }
        self.highest = channel;
        self.add_sender(channel, bounds);
        self.add_receiver(channel, bounds.window);
        self.senders.entry(channel).and_modify(|s| s.held = held);
        Ok(())
    }

    /// The other end knows this connection now.
    pub fn let_go(&mut self, channel: u32) {
        self.senders.entry(channel).and_modify(|s| s.held = false);
    }

    /// Both directions of a connection are at their end.
    pub fn is_settled(&self, channel: u32) -> bool {
        self.senders.get(&channel).is_none_or(Sender::settled)
            && self.receivers.get(&channel).is_none_or(Receiver::settled)
    }

    /// Forgets a connection. Frames of it that are still on their way are passed over.
    pub fn close(&mut self, channel: u32) {
        if channel < CONNECTIONS {
            return;
        }
        if let Some(link) = &mut self.link {
            link.inbound.forget(channel);
            // A frame that is half on the wire goes out whole first.
            if link.outbound.keeps(channel) {
                self.senders.entry(channel).and_modify(|s| (s.broken, s.told) = (true, true));
                self.receivers.remove(&channel);
                return;
            }
        }
        self.senders.remove(&channel);
        self.receivers.remove(&channel);
    }

    /// Numbers of the connections that live.
    pub fn connections(&self) -> Vec<u32> {
        self.receivers.range(CONNECTIONS..).map(|(channel, _)| *channel).collect()
    }

    // Sending.

    /// Bytes that the channel takes now; `more` than its window where a frozen tree is drained.
    pub fn room(&self, channel: u32, more: usize) -> usize {
        self.senders.get(&channel).map_or(0, |s| s.room(more))
    }

    /// A slice to read at most `want` bytes into, followed by [`Self::wrote`].
    pub fn write_space(&mut self, channel: u32, want: usize, more: usize) -> &mut [u8] {
        self.senders.get_mut(&channel).map_or(&mut [], |s| s.space(want, more))
    }

    /// That many bytes were read into the slice.
    pub fn wrote(&mut self, channel: u32, n: usize) {
        if let Some(sender) = self.senders.get_mut(&channel) {
            sender.filled(n);
        }
    }

    /// Writes what there is room for; `more` than the window where a frozen tree is drained. How much that was.
    pub fn write(&mut self, channel: u32, bytes: &[u8], more: usize) -> usize {
        let mut done = 0;
        while done < bytes.len() {
            let space = self.write_space(channel, bytes.len() - done, more);
            let n = space.len();
            if n == 0 {
                break;
            }
            space.copy_from_slice(&bytes[done..done + n]);
            self.wrote(channel, n);
            done += n;
        }
        done
    }

    /// Nothing comes after what was written.
    pub fn end(&mut self, channel: u32) {
        if let Some(sender) = self.senders.get_mut(&channel) {
            sender.end();
        }
    }

    /// Nothing more is written.
    pub fn has_ended(&self, channel: u32) -> bool {
        self.senders.get(&channel).is_some_and(Sender::has_ended)
    }

    /// The other end does not read it any more.
    pub fn is_broken(&self, channel: u32) -> bool {
        self.senders.get(&channel).is_none_or(|s| s.broken)
    }

    /// A channel whose reader is gone; each is told once.
    pub fn newly_broken(&mut self) -> Option<u32> {
        let (channel, sender) = self.senders.iter_mut().find(|(_, s)| s.broken && !s.told)?;
        sender.told = true;
        Some(*channel)
    }

    /// Bytes that were written in all.
    pub fn written(&self, channel: u32) -> u64 {
        self.senders.get(&channel).map_or(0, Sender::next)
    }

    /// Everything that was written is acknowledged.
    pub fn all_acknowledged(&self, channel: u32) -> bool {
        self.senders.get(&channel).is_none_or(|s| s.acked() >= s.next())
    }

    // Receiving.

    /// What waits to be delivered, followed by [`Self::delivered`].
    pub fn pending(&self, channel: u32) -> (&[u8], &[u8]) {
        self.receivers.get(&channel).map_or((&[], &[]), Receiver::pending)
    }

    /// The first `n` bytes of what was pending are where they belong.
    pub fn delivered(&mut self, channel: u32, n: usize) {
        if let Some(receiver) = self.receivers.get_mut(&channel) {
            receiver.deliver(n);
        }
    }

    /// Bytes that were delivered in all.
    pub fn delivered_so_far(&self, channel: u32) -> u64 {
        self.receivers.get(&channel).map_or(0, Receiver::delivered)
    }

    /// All bytes are delivered and the end is next; true until [`Self::delivered_end`].
    pub fn end_is_due(&self, channel: u32) -> bool {
        self.receivers.get(&channel).is_some_and(Receiver::end_due)
    }

    /// The end was passed on.
    pub fn delivered_end(&mut self, channel: u32) {
        if let Some(receiver) = self.receivers.get_mut(&channel) {
            receiver.deliver_end();
        }
    }

    /// The end was passed on before.
    pub fn is_done(&self, channel: u32) -> bool {
        self.receivers.get(&channel).is_some_and(Receiver::is_done)
    }

    /// Nobody takes what arrives: the other end is told, and the rest is thrown away.
    pub fn break_off(&mut self, channel: u32) {
        if let Some(receiver) = self.receivers.get_mut(&channel).filter(|r| !r.broken) {
            receiver.break_off();
            let cut = self.link.as_mut().map_or(0, |link| link.inbound.forget(channel));
            receiver.pass_over(cut);
        }
    }

    /// It was broken off here.
    pub fn is_broken_off(&self, channel: u32) -> bool {
        self.receivers.get(&channel).is_none_or(|r| r.broken)
    }

    // Records.

    /// Says something reliably. False where the other end has too much of it still to take: say it again later.
    pub fn say(&mut self, record: &impl Serialize) -> bool {
        self.senders.get_mut(&CONTROL).is_some_and(|s| s.push(&record::encode(record)))
    }

    /// The next record, which stays until [`Self::heard`]; with it what to pass there.
    ///
    /// # Errors
    /// What arrived is none. The connection is of no more use, and neither is its other end.
    pub fn next_record<T: for<'a> Deserialize<'a>>(&self) -> Result<Option<(T, usize)>, ProtocolError> {
        let (a, b) = self.pending(CONTROL);
        record::decode(a, b)
    }

    /// The record was acted on.
    pub fn heard(&mut self, len: usize) {
        self.delivered(CONTROL, len);
    }

    /// Gives back memory that is not used. For quiet moments.
    pub fn shrink(&mut self) {
        self.senders.values_mut().for_each(Sender::shrink);
        self.receivers.values_mut().for_each(Receiver::shrink);
        if let Some(link) = &mut self.link {
            link.inbound.shrink();
        }
    }

    /// Bytes of memory that channels hold.
    pub fn memory(&self) -> usize {
        self.senders.values().map(Sender::memory).sum::<usize>()
            + self.receivers.values().map(Receiver::memory).sum::<usize>()
    }

    // Connections.

    /// A connection was made, for this generation. An older one is forgotten.
    pub fn connect(&mut self, generation: u64) {
        self.disconnect();
        let mut link = Link {
            expected: generation,
            greeted: false,
            inbound: inbound::Inbound::default(),
            outbound: outbound::Outbound::default(),
        };
        let hello = wire::Hello { generation, positions: self.positions() };
        link.outbound.say(&hello.frame());
        self.link = Some(link);
    }

    fn positions(&mut self) -> Vec<wire::Position> {
        let position = |(channel, r): (&u32, &mut Receiver)| {
            (r.acked, r.broken_said) = (r.position(), r.broken);
            wire::Position { channel: *channel, delivered: r.position(), received: r.received(), broken: r.broken }
        };
        self.receivers.iter_mut().map(position).collect()
    }

    /// The connection is no more.
    pub fn disconnect(&mut self) {
        if let Some(link) = self.link.take() {
            for sender in self.senders.values_mut().filter(|s| s.broken) {
                sender.forget();
            }
            drop(link);
            let gone = |channel: &u32, s: &Sender| *channel >= CONNECTIONS && s.broken && s.told;
            let receivers = &self.receivers;
            self.senders.retain(|channel, s| !gone(channel, s) || receivers.contains_key(channel));
        }
    }

    /// There is a connection and the other end has greeted.
    pub fn is_connected(&self) -> bool {
        self.link.as_ref().is_some_and(|l| l.greeted)
    }
}

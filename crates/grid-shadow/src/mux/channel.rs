//! One direction of a channel, at each of its ends: what was taken, sent, delivered and acknowledged.
//!
//! ```text
//! sender    base ── retained ── acked ── on the wire ── sent ── not yet ── next [end]
//! receiver                                        delivered ── held ── received [end]
//! ```
//!
//! Offsets count bytes from the first one of the stream; its end counts as one more. Invariants: a sender forgets nothing
//! that is not acknowledged; a receiver acknowledges what was delivered, and holds at most its window.

use super::ProtocolError;
use super::ring::Ring;
use super::wire::Position;

/// How much one direction of a channel may hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// Bytes that may be taken or sent and not yet acknowledged.
    pub window: usize,
    /// Acknowledged bytes that are kept all the same: the next far may ask for what a frozen reader left in its pipe.
    pub retain: usize,
}

/// More than a window by this much may be held while a frozen tree's last output is drained: the largest pipe.
pub const DRAINED: usize = (1 << 20) + (64 << 10);

#[derive(Debug)]
pub(crate) struct Sender {
    ring: Ring,
    base: u64,
    acked: u64,
    pub(crate) sent: u64,
    ended: bool,
    pub(crate) broken: bool,
    /// The owner was told that it is broken.
    pub(crate) told: bool,
    /// Nothing is sent until the other end has opened it.
    pub(crate) held: bool,
    bounds: Bounds,
}

impl Sender {
    pub(crate) fn new(bounds: Bounds) -> Self {
        Self::from_kept(bounds, 0, &[], false, false)
    }

    pub(crate) fn from_kept(bounds: Bounds, base: u64, bytes: &[u8], ended: bool, broken: bool) -> Self {
        let mut ring = Ring::default();
        ring.push(bytes, bytes.len());
        Self { ring, base, acked: base, sent: base, ended, broken, told: false, held: false, bounds }
    }

    /// Offset behind the last byte that was taken.
    pub(crate) fn next(&self) -> u64 {
        self.base + self.ring.len() as u64
    }

    fn limit(&self) -> u64 {
        self.next() + u64::from(self.ended)
    }

    pub(crate) fn room(&self, more: usize) -> usize {
        let held = (self.next() - self.acked.min(self.next())) as usize;
        if self.ended || self.broken { 0 } else { (self.bounds.window + more).saturating_sub(held) }
    }

    /// Free room, at most `want`; `more` than the window where a frozen tree is drained.
    pub(crate) fn space(&mut self, want: usize, more: usize) -> &mut [u8] {
        let want = want.min(self.room(more));
        self.ring.space(want, self.bounds.retain + self.bounds.window + more)
    }

    pub(crate) fn filled(&mut self, n: usize) {
        self.ring.filled(n);
    }

    /// All or nothing.
    pub(crate) fn push(&mut self, bytes: &[u8]) -> bool {
        bytes.len() <= self.room(0) && self.ring.push(bytes, self.bounds.retain + self.bounds.window) == bytes.len()
    }

    pub(crate) fn end(&mut self) {
        self.ended = true;
    }

    pub(crate) fn has_ended(&self) -> bool {
        self.ended
    }

    pub(crate) fn settled(&self) -> bool {
        self.broken || (self.ended && self.acked == self.limit())
    }

    pub(crate) fn acked(&self) -> u64 {
        self.acked
    }

    /// Bytes that may go on the wire now.
    pub(crate) fn sendable(&self) -> usize {
        if self.broken || self.held {
            return 0;
        }
        self.next().min(self.acked + self.bounds.window as u64).saturating_sub(self.sent) as usize
    }

    pub(crate) fn end_due(&self) -> bool {
        self.ended && !self.broken && !self.held && self.sent == self.next()
    }

    /// The next `most` bytes that are to be sent.
    pub(crate) fn unsent(&self, most: usize) -> (&[u8], &[u8]) {
        self.ring.slices((self.sent - self.base) as usize, most)
    }

    pub(crate) fn ack(&mut self, offset: u64) -> Result<(), ProtocolError> {
        if self.broken {
            return Ok(());
        }
        if offset > self.sent || offset < self.acked {
            return Err(ProtocolError::Offset);
        }
        self.acked = offset;
        self.trim();
        Ok(())
    }

    fn trim(&mut self) {
        let floor = self.acked.min(self.next()).saturating_sub(self.bounds.retain as u64);
        if floor > self.base {
            self.ring.drop_front((floor - self.base) as usize);
            self.base = floor;
        }
    }

    /// A greeting said where the receiver stands. One of a new far may stand lower than what was acknowledged.
    pub(crate) fn resume(&mut self, at: &Position, moved: bool) -> Result<(), ProtocolError> {
        if self.broken {
            return Ok(());
        }
        let least = if moved { self.base } else { self.acked };
        if at.delivered < least || at.received > self.limit() {
            return Err(ProtocolError::Offset);
        }
        (self.acked, self.sent) = (at.delivered, at.received);
        self.trim();
        Ok(())
    }

    /// Nobody reads it: what is held is of no use. Not while a frame of it is half on the wire.
    pub(crate) fn forget(&mut self) {
        self.base = self.next();
        (self.acked, self.sent) = (self.base, self.base);
        self.ring.clear();
    }

    pub(crate) fn shrink(&mut self) {
        self.ring.shrink();
    }

    pub(crate) fn memory(&self) -> usize {
        self.ring.capacity()
    }

    /// Base and bytes of what is not acknowledged.
    pub(crate) fn unacknowledged(&self) -> (u64, Vec<u8>) {
        let from = self.acked.min(self.next());
        (from, self.ring.to_vec((from - self.base) as usize))
    }
}

#[derive(Debug)]
pub(crate) struct Receiver {
    ring: Ring,
    delivered: u64,
    end: Option<u64>,
    /// The end was delivered, too.
    done: bool,
    pub(crate) broken: bool,
    /// What the other end was told last on this connection.
    pub(crate) acked: u64,
    pub(crate) broken_said: bool,
    window: usize,
}

impl Receiver {
    pub(crate) fn new(window: usize) -> Self {
        Self::from_delivered(window, 0, false)
    }

    pub(crate) fn from_delivered(window: usize, delivered: u64, broken: bool) -> Self {
        let ring = Ring::default();
        Self { ring, delivered, end: None, done: false, broken, acked: 0, broken_said: false, window }
    }

    pub(crate) fn received(&self) -> u64 {
        self.delivered + self.ring.len() as u64 + u64::from(self.end.is_some())
    }

    /// Delivered, the end counted as one more.
    pub(crate) fn position(&self) -> u64 {
        self.delivered + u64::from(self.done)
    }

    pub(crate) fn delivered(&self) -> u64 {
        self.delivered
    }

    pub(crate) fn is_done(&self) -> bool {
        self.done
    }

    /// Data of this length begins; nothing is taken yet.
    pub(crate) fn expects(&self, offset: u64, len: usize) -> Result<(), ProtocolError> {
        let fits = self.broken || len <= self.window - self.ring.len();
        if offset != self.received() || self.end.is_some() {
            Err(ProtocolError::Offset)
        } else if !fits {
            Err(ProtocolError::Window)
        } else {
            Ok(())
        }
    }

    pub(crate) fn space(&mut self, left: usize) -> &mut [u8] {
        self.ring.space(left, self.window)
    }

    pub(crate) fn filled(&mut self, n: usize) {
        self.ring.filled(n);
    }

    pub(crate) fn take(&mut self, bytes: &[u8]) {
        let taken = self.ring.push(bytes, self.window);
        debug_assert_eq!(taken, bytes.len());
    }

    /// Bytes that nobody takes any more count as delivered.
    pub(crate) fn pass_over(&mut self, n: usize) {
        self.delivered += n as u64;
    }

    pub(crate) fn ends(&mut self, offset: u64) -> Result<(), ProtocolError> {
        if offset != self.received() || self.end.is_some() {
            return Err(ProtocolError::Offset);
        }
        self.end = Some(offset);
        self.done = self.broken;
        Ok(())
    }

    pub(crate) fn pending(&self) -> (&[u8], &[u8]) {
        self.ring.slices(0, usize::MAX)
    }

    pub(crate) fn deliver(&mut self, n: usize) {
        self.ring.drop_front(n);
        self.delivered += n as u64;
    }

    pub(crate) fn end_due(&self) -> bool {
        !self.done && !self.broken && self.end == Some(self.delivered)
    }

    pub(crate) fn deliver_end(&mut self) {
        self.done = true;
    }

    pub(crate) fn break_off(&mut self) {
        self.delivered += self.ring.len() as u64;
        self.ring.clear();
        self.broken = true;
        self.done = self.end.is_some();
    }

    pub(crate) fn settled(&self) -> bool {
        self.broken || self.done
    }

    /// Worth a message of its own: else it goes along with the next one.
    pub(crate) fn ack_urgent(&self) -> bool {
        let behind = self.position() - self.acked;
        behind > 0 && (self.done || behind >= (self.window / 4) as u64)
    }

    pub(crate) fn shrink(&mut self) {
        self.ring.shrink();
    }

    pub(crate) fn memory(&self) -> usize {
        self.ring.capacity()
    }
}

//! What goes out: short frames gathered in one buffer, and at most one data frame whose payload is lent from its channel.

use super::wire::{Header, Kind, MAX_DATA};
use super::{CONNECTIONS, CONTROL, Mux};

/// The frames that are on their way.
#[derive(Debug, Default)]
pub(super) struct Outbound {
    head: Vec<u8>,
    gone: usize,
    /// Channel and number of bytes of a payload that must follow.
    payload: Option<(u32, usize)>,
}

impl Outbound {
    pub(super) fn say(&mut self, frame: &[u8]) {
        self.head.extend_from_slice(frame);
    }

    /// A frame of this channel is half out.
    pub(super) fn keeps(&self, channel: u32) -> bool {
        self.payload.is_some_and(|(c, _)| c == channel)
    }

    fn is_empty(&self) -> bool {
        self.gone == self.head.len() && self.payload.is_none()
    }
}

impl Mux {
    /// What is to be written to the connection now, in this order; all empty where there is nothing. Followed by
    /// [`Self::sent`].
    pub fn output(&mut self) -> [&[u8]; 3] {
        self.plan();
        let Some(link) = &self.link else { return [&[], &[], &[]] };
        let out = &link.outbound;
        let (a, b) = match out.payload.and_then(|(channel, left)| Some((self.senders.get(&channel)?, left))) {
            Some((sender, left)) => sender.unsent(left),
            None => (&[][..], &[][..]),
        };
        [&out.head[out.gone..], a, b]
    }

    /// The connection took that many bytes of it.
    pub fn sent(&mut self, n: usize) {
        let Some(link) = &mut self.link else { return };
        let out = &mut link.outbound;
        let of_head = n.min(out.head.len() - out.gone);
        out.gone += of_head;
        if out.gone == out.head.len() {
            out.head.clear();
            out.gone = 0;
        }
        let n = n - of_head;
        let Some((channel, left)) = out.payload else { return };
        let sender = self.senders.get_mut(&channel).expect("a channel is kept while its frame is half out");
        sender.sent += n as u64;
        out.payload = (left > n).then_some((channel, left - n));
        if out.payload.is_none() && sender.broken {
            sender.forget();
            if channel >= CONNECTIONS && !self.receivers.contains_key(&channel) {
                self.senders.remove(&channel);
            }
        }
    }

    /// Makes the next frames where the last ones are out.
    fn plan(&mut self) {
        let Some(mut link) = self.link.take_if(|l| l.greeted && l.outbound.is_empty()) else { return };
        let out = &mut link.outbound;
        let data = self.next_channel();
        let mut worth = data.is_some();
        for (channel, sender) in self.senders.iter_mut().filter(|(_, s)| s.end_due()) {
            out.say(&Header { kind: Kind::End, channel: *channel, offset: sender.next(), len: 0 }.bytes());
            sender.sent += 1;
            worth = true;
        }
        for (channel, receiver) in self.receivers.iter_mut().filter(|(_, r)| r.broken && !r.broken_said) {
            out.say(&Header { kind: Kind::Broken, channel: *channel, offset: 0, len: 0 }.bytes());
            receiver.broken_said = true;
            worth = true;
        }
        let urgent =
            |(channel, r): (&u32, &super::Receiver)| r.ack_urgent() || (*channel == CONTROL && r.position() > r.acked);
        if worth || self.receivers.iter().any(urgent) {
            for (channel, r) in self.receivers.iter_mut().filter(|(_, r)| r.position() > r.acked) {
                out.say(&Header { kind: Kind::Ack, channel: *channel, offset: r.position(), len: 0 }.bytes());
                r.acked = r.position();
            }
        }
        if let Some((channel, offset, len)) = data {
            out.say(&Header { kind: Kind::Data, channel, offset, len }.bytes());
            out.payload = Some((channel, len));
        }
        self.link = Some(link);
    }

    /// Whose turn it is: records first, then the channels in turn.
    fn next_channel(&mut self) -> Option<(u32, u64, usize)> {
        let ready = |c: u32| self.senders.get(&c).filter(|s| s.sendable() > 0).map(|_| c);
        let after = self.turn.saturating_add(1);
        let mut in_turn = self.senders.range(after..).chain(self.senders.range(..after));
        let channel = ready(CONTROL).or_else(|| in_turn.find(|(_, s)| s.sendable() > 0).map(|(c, _)| *c))?;
        self.turn = if channel == CONTROL { self.turn } else { channel };
        let sender = &self.senders[&channel];
        Some((channel, sender.sent, sender.sendable().min(MAX_DATA)))
    }
}

//! What a far hands to the next one: where each channel stands, and the output that home has not acknowledged.
//!
//! It comes from another lender. Its size is bounded before it is taken, and the channels must be those of the tree.

use super::channel::{Bounds, DRAINED, Receiver, Sender};
use super::{CONNECTIONS, CONTROL, CONTROL_BOUNDS, Mux};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::collections::BTreeMap;

/// The streams of a tree between two fars.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Snapshot {
    /// Of the far that it was taken from.
    pub generation: u64,
    /// What the tree sends, and its records, by channel.
    pub sent: BTreeMap<u32, KeptChannel>,
    /// What the tree reads, and the orders to it, by channel.
    pub read: BTreeMap<u32, ReadChannel>,
    /// SIGCONT orders that reached the root so far.
    #[serde(default)]
    pub continues: u64,
}

/// A channel from the tree to home.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeptChannel {
    /// Offset of the first byte.
    pub base: u64,
    /// Not acknowledged by home; in JSON as hexadecimal digits.
    #[serde(serialize_with = "to_hex", deserialize_with = "from_hex")]
    pub bytes: Vec<u8>,
    /// Nothing comes after them.
    pub ended: bool,
    /// Home does not read it any more.
    pub broken: bool,
}

/// A channel from home to the tree.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReadChannel {
    /// Bytes that the tree has read.
    pub consumed: u64,
    /// The tree does not read it any more.
    pub broken: bool,
}

/// Why a snapshot is not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SnapshotError {
    /// It has other channels than this tree.
    #[error("the snapshot has other channels than the tree")]
    Channels,
    /// It holds more than any window.
    #[error("the snapshot holds more of channel {0} than can be")]
    Size(u32),
    /// Not of the generation before.
    #[error("the snapshot is of generation {0}")]
    Generation(u64),
}

impl Mux {
    /// What the next far needs. `unread` says how many delivered bytes of a channel the frozen tree has not read.
    pub fn snapshot(&self, unread: impl Fn(u32) -> u64) -> Snapshot {
        let kept = |(channel, s): (&u32, &Sender)| {
            let (base, bytes) = s.unacknowledged();
            (*channel, KeptChannel { base, bytes, ended: s.has_ended(), broken: s.broken })
        };
        let read = |(channel, r): (&u32, &Receiver)| {
            let consumed = r.delivered().saturating_sub(if *channel == CONTROL { 0 } else { unread(*channel) });
            (*channel, ReadChannel { consumed, broken: r.broken })
        };
        Snapshot {
            generation: self.generation,
            sent: self.senders.range(..CONNECTIONS).map(kept).collect(),
            read: self.receivers.range(..CONNECTIONS).map(read).collect(),
            continues: 0,
        }
    }

    /// Goes on where another far stopped. All channels of the tree must have been added before.
    ///
    /// # Errors
    /// It cannot be of this tree; nothing was changed.
    pub fn adopt(&mut self, snapshot: &Snapshot, bounds: impl Fn(u32) -> Bounds) -> Result<(), SnapshotError> {
        let bounds = |channel: u32| if channel == CONTROL { CONTROL_BOUNDS } else { bounds(channel) };
        if !snapshot.sent.keys().eq(self.senders.keys()) || !snapshot.read.keys().eq(self.receivers.keys()) {
            return Err(SnapshotError::Channels);
        }
        if snapshot.generation >= self.generation {
            return Err(SnapshotError::Generation(snapshot.generation));
        }
        let offset = u64::MAX / 8;
        for (channel, kept) in &snapshot.sent {
            if kept.bytes.len() > bounds(*channel).window + DRAINED || kept.base > offset {
                return Err(SnapshotError::Size(*channel));
            }
        }
        if let Some((channel, _)) = snapshot.read.iter().find(|(_, r)| r.consumed > offset) {
            return Err(SnapshotError::Size(*channel));
        }
        for (channel, kept) in &snapshot.sent {
            let sender = Sender::from_kept(bounds(*channel), kept.base, &kept.bytes, kept.ended, kept.broken);
            self.senders.insert(*channel, sender);
        }
        for (channel, read) in &snapshot.read {
            let receiver = Receiver::from_delivered(bounds(*channel).window, read.consumed, read.broken);
            self.receivers.insert(*channel, receiver);
        }
        Ok(())
    }
}

fn to_hex<S: Serializer>(bytes: &[u8], to: S) -> Result<S::Ok, S::Error> {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut text = String::with_capacity(bytes.len() * 2);
    for byte in bytes {
        text.push(DIGITS[usize::from(byte >> 4)].into());
        text.push(DIGITS[usize::from(byte & 15)].into());
    }
    to.serialize_str(&text)
}

fn from_hex<'a, D: Deserializer<'a>>(from: D) -> Result<Vec<u8>, D::Error> {
    use serde::de::Error;
    let text = String::deserialize(from)?;
    let digit = |d: u8| (d as char).to_digit(16).map(|d| d as u8).ok_or_else(|| D::Error::custom("not hexadecimal"));
    if !text.len().is_multiple_of(2) {
        return Err(D::Error::custom("half a byte"));
    }
    text.as_bytes().chunks_exact(2).map(|pair| Ok(digit(pair[0])? << 4 | digit(pair[1])?)).collect()
}

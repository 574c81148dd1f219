//! Frames as bytes: a header of 17 bytes (kind `u8`, channel `u32`, offset `u64`, length `u32`, little-endian) and that much
//! payload. Knows sizes and kinds, not what a frame does to a channel.
//!
//! What arrives is not believed: a length is bounded by its kind before anything of the payload is taken.

use super::ProtocolError;

/// Changes with every change of what follows.
pub const PROTOCOL: u32 = 1;
/// Payload of one data frame.
pub const MAX_DATA: usize = 256 << 10;
/// Bytes of a header.
pub(crate) const HEADER: usize = 17;
/// Channels that live at once.
pub const MAX_CHANNELS: usize = 1 << 10;
const HELLO_HEAD: usize = 16;
const HELLO_ENTRY: usize = 21;
/// Payload of a greeting.
pub(crate) const MAX_HELLO: usize = HELLO_HEAD + MAX_CHANNELS * HELLO_ENTRY;

/// What a frame is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Where each receiver stands. The first frame of a connection, and no other.
    Hello,
    /// Bytes from `offset` on.
    Data,
    /// The stream ends at `offset`.
    End,
    /// Everything below `offset` was delivered; the end counts as one more.
    Ack,
    /// Nobody reads this channel any more.
    Broken,
}

/// A header that was understood.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Header {
    pub(crate) kind: Kind,
    pub(crate) channel: u32,
    pub(crate) offset: u64,
    pub(crate) len: usize,
}

impl Header {
    pub(crate) fn bytes(&self) -> [u8; HEADER] {
        let mut bytes = [0u8; HEADER];
        bytes[0] = self.kind as u8;
        bytes[1..5].copy_from_slice(&self.channel.to_le_bytes());
        bytes[5..13].copy_from_slice(&self.offset.to_le_bytes());
        bytes[13..].copy_from_slice(&(self.len as u32).to_le_bytes());
        bytes
    }

    pub(crate) fn parse(bytes: &[u8; HEADER]) -> Result<Self, ProtocolError> {
        let (kind, most) = match bytes[0] {
            0 => (Kind::Hello, MAX_HELLO),
            1 => (Kind::Data, MAX_DATA),
            2 => (Kind::End, 0),
            3 => (Kind::Ack, 0),
            4 => (Kind::Broken, 0),
            _ => return Err(ProtocolError::Frame),
        };
        let header =
            Self { kind, channel: u32_at(bytes, 1), offset: u64_at(bytes, 5), len: u32_at(bytes, 13) as usize };
        // Offsets of real streams stay far below; so sums of them cannot overflow.
        if header.len > most || header.offset > u64::MAX / 4 || (kind == Kind::Data && header.len == 0) {
            return Err(ProtocolError::Frame);
        }
        Ok(header)
    }
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().expect("four bytes"))
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().expect("eight bytes"))
}

/// Where one receiver stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Position {
    pub(crate) channel: u32,
    pub(crate) delivered: u64,
    pub(crate) received: u64,
    pub(crate) broken: bool,
}

/// The greeting of a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Hello {
    pub(crate) generation: u64,
    pub(crate) positions: Vec<Position>,
}

impl Hello {
    /// The whole frame.
    pub(crate) fn frame(&self) -> Vec<u8> {
        let len = HELLO_HEAD + self.positions.len() * HELLO_ENTRY;
        let mut bytes = Vec::with_capacity(HEADER + len);
        bytes.extend(Header { kind: Kind::Hello, channel: 0, offset: 0, len }.bytes());
        bytes.extend(PROTOCOL.to_le_bytes());
        bytes.extend(self.generation.to_le_bytes());
        bytes.extend((self.positions.len() as u32).to_le_bytes());
        for p in &self.positions {
            bytes.extend(p.channel.to_le_bytes());
            bytes.extend(p.delivered.to_le_bytes());
            bytes.extend(p.received.to_le_bytes());
            bytes.push(u8::from(p.broken));
        }
        bytes
    }

    pub(crate) fn parse(bytes: &[u8]) -> Result<Self, ProtocolError> {
        let count = bytes.len().checked_sub(HELLO_HEAD).ok_or(ProtocolError::Hello)? / HELLO_ENTRY;
        let announced = u32_at(bytes, 12) as usize;
        if announced != count || bytes.len() != HELLO_HEAD + count * HELLO_ENTRY || count > MAX_CHANNELS {
            return Err(ProtocolError::Hello);
        }
        if u32_at(bytes, 0) != PROTOCOL {
            return Err(ProtocolError::Version(u32_at(bytes, 0)));
        }
        let position = |e: &[u8]| Position {
            channel: u32_at(e, 0),
            delivered: u64_at(e, 4),
            received: u64_at(e, 12),
            broken: e[20] != 0,
        };
        let positions: Vec<Position> = bytes[HELLO_HEAD..].chunks_exact(HELLO_ENTRY).map(position).collect();
        let rising = positions.windows(2).all(|w| w[0].channel < w[1].channel);
        if !rising || positions.iter().any(|p| p.delivered > p.received || p.received > u64::MAX / 4) {
            return Err(ProtocolError::Hello);
        }
        Ok(Self { generation: u64_at(bytes, 4), positions })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_and_a_greeting_are_read_back() {
        let header = Header { kind: Kind::Data, channel: 7, offset: 1 << 40, len: MAX_DATA };
        assert_eq!(Header::parse(&header.bytes()), Ok(header));
        let positions = vec![
            Position { channel: 0, delivered: 3, received: 9, broken: false },
            Position { channel: 2, delivered: 0, received: 0, broken: true },
        ];
        let hello = Hello { generation: 4, positions };
        assert_eq!(Hello::parse(&hello.frame()[HEADER..]), Ok(hello));
    }

    #[test]
    fn lengths_offsets_and_kinds_are_bounded() {
        let header = |kind: Kind, offset, len| Header { kind, channel: 0, offset, len }.bytes();
        assert!(Header::parse(&header(Kind::Data, 0, MAX_DATA + 1)).is_err());
        assert!(Header::parse(&header(Kind::Data, 0, 0)).is_err());
        assert!(Header::parse(&header(Kind::End, u64::MAX, 0)).is_err());
        assert!(Header::parse(&header(Kind::Ack, 0, 1)).is_err());
        assert!(Header::parse(&[9; HEADER]).is_err());
        let mut hello = Hello { generation: 1, positions: vec![] }.frame()[HEADER..].to_vec();
        hello[12] = 200;
        assert_eq!(Hello::parse(&hello), Err(ProtocolError::Hello));
    }
}

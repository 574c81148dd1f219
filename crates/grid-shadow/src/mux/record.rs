//! Records of the control channel: what is no byte of a stream. A `u32` length (little-endian) and that much JSON.

use super::ProtocolError;
use grid_types::event::ExitStatus;
use serde::{Deserialize, Serialize};

/// No record is longer.
pub const MAX_RECORD: usize = 16 << 10;

/// From the shadow to the tree.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Order {
    /// A signal that the shadow got.
    Signal {
        /// Its number.
        signo: i32,
        /// For the root's whole process group: it came from the terminal.
        group: bool,
    },
    /// The size of home's terminal.
    Resize {
        /// Rows, columns, width and height in pixels.
        size: [u16; 4],
    },
    /// Home's terminal is gone.
    Hangup,
    /// Somebody connected to a listener of the tree's.
    Open {
        /// The channel of both directions.
        channel: u32,
        /// The stream that is the listener.
        listener: u32,
    },
    /// Forget a connection.
    Close {
        /// Its channel.
        channel: u32,
    },
}

/// From the tree to the shadow.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Report {
    /// The root was stopped.
    Stopped {
        /// By this signal.
        signo: i32,
        /// How many SIGCONT of the shadow's had reached it before: a later one makes this stop void.
        continues: u64,
    },
    /// The root goes on.
    Continued,
    /// The root has ended.
    Exit {
        /// How.
        status: ExitStatus,
        /// Each output's channel and number of bytes in all.
        ends: Vec<(u32, u64)>,
    },
    /// Settings of the tree's terminal.
    Termios {
        /// As the kernel lays them out.
        settings: Vec<u8>,
        /// Bytes of output that came before: home's terminal is set between them and the next ones.
        at: u64,
    },
    /// The tree reads its terminal.
    Hungry,
    /// The tree's listener took the connection.
    Opened {
        /// Its channel.
        channel: u32,
    },
    /// It did not, or the connection was reset.
    Closed {
        /// Its channel.
        channel: u32,
    },
}

/// A record as bytes.
pub(crate) fn encode(record: &impl Serialize) -> Vec<u8> {
    let mut bytes = vec![0u8; 4];
    serde_json::to_writer(&mut bytes, record).expect("records are plain data");
    let len = (bytes.len() - 4) as u32;
    bytes[..4].copy_from_slice(&len.to_le_bytes());
    bytes
}

/// The first record of what arrived and its length in bytes; none where it is not there whole.
pub(crate) fn decode<T: for<'a> Deserialize<'a>>(a: &[u8], b: &[u8]) -> Result<Option<(T, usize)>, ProtocolError> {
    let byte = |at: usize| a.get(at).or_else(|| b.get(at.checked_sub(a.len())?)).copied();
    let (Some(b0), Some(b1), Some(b2), Some(b3)) = (byte(0), byte(1), byte(2), byte(3)) else { return Ok(None) };
    let whole = u32::from_le_bytes([b0, b1, b2, b3]) as usize + 4;
    if whole > MAX_RECORD {
        return Err(ProtocolError::Record);
    }
    if a.len() + b.len() < whole {
        return Ok(None);
    }
    let json: Vec<u8> = a.iter().chain(b).take(whole).skip(4).copied().collect();
    let record = serde_json::from_slice(&json).map_err(|_| ProtocolError::Record)?;
    Ok(Some((record, whole)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_is_read_back_from_wherever_it_is_split() {
        let exit = Report::Exit { status: ExitStatus::Signal(9), ends: vec![(2, 1 << 40)] };
        let bytes = encode(&exit);
        for at in 0..=bytes.len() {
            let (a, b) = bytes.split_at(at);
            assert_eq!(decode(a, b), Ok(Some((exit.clone(), bytes.len()))));
        }
        assert_eq!(decode::<Report>(&bytes[..bytes.len() - 1], &[]), Ok(None));
    }

    #[test]
    fn a_long_record_and_a_strange_one_are_refused() {
        assert!(decode::<Order>(&[0, 0, 1, 0], &[]).is_err());
        assert!(decode::<Order>(&[2, 0, 0, 0], b"{}").is_err());
    }
}

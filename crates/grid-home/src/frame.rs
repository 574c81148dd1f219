//! The wire: frames of a fixed head and a body, the numbers of the head little-endian; a FUSE message is as the kernel made it.

use crate::VERSION;
use serde::{Deserialize, Serialize};
use std::io::{self, IoSlice, Read, Write};

/// No body is longer: a FUSE message of 1 MiB of data and its head.
pub const MOST: usize = (1 << 20) + (64 << 10);
/// Before each body.
pub(crate) const HEAD: usize = 24;

/// What a frame is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// First on each connection, in both directions.
    Hello = 1,
    /// A message of FUSE's.
    Message = 2,
    /// The connection is alive.
    Beat = 3,
}

/// First on each connection.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hello {
    /// [`VERSION`].
    pub version: u32,
    /// The attempt that brought the tree there.
    pub attempt: String,
    /// Of this life of whoever speaks: another one remembers nothing.
    pub life: String,
    /// So many messages were heard.
    pub heard: u64,
}

impl Hello {
    /// Whether this end speaks for that attempt, and in the life (where one is known) that was spoken to before.
    ///
    /// # Errors
    /// Why not.
    pub fn check(&self, attempt: &str, life: Option<&str>) -> Result<(), String> {
        if self.version != VERSION {
            return Err(format!("it speaks version {}, this is {VERSION}", self.version));
        }
        if self.attempt != attempt {
            return Err(format!("it speaks for {}, not for {attempt}", self.attempt));
        }
        match life {
            Some(known) if known != self.life => Err("it is another one than before, which remembers nothing".into()),
            _ => Ok(()),
        }
    }
}

/// One frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// What it is.
    pub kind: Kind,
    /// Of a message: its number.
    pub number: u64,
    /// So many messages its sender had heard.
    pub heard: u64,
    /// Body.
    pub body: Vec<u8>,
}

/// What comes before a body of that length.
pub(crate) fn head(kind: Kind, number: u64, heard: u64, length: usize) -> [u8; HEAD] {
    let mut head = [0; HEAD];
    head[..4].copy_from_slice(&(kind as u32).to_le_bytes());
    head[4..8].copy_from_slice(&(length as u32).to_le_bytes());
    head[8..16].copy_from_slice(&number.to_le_bytes());
    head[16..].copy_from_slice(&heard.to_le_bytes());
    head
}

/// Writes one frame in one call, so that a small one is one packet; no part of it is copied.
///
/// # Errors
/// The connection.
pub fn write(to: &mut impl Write, kind: Kind, number: u64, heard: u64, body: &[u8]) -> io::Result<()> {
    let head = head(kind, number, heard, body.len());
    let mut parts = &mut [IoSlice::new(&head), IoSlice::new(body)][..];
    let mut left = HEAD + body.len();
    while left > 0 {
        match to.write_vectored(parts) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(written) => {
                left -= written;
                IoSlice::advance_slices(&mut parts, written);
            }
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
    Ok(())
}

/// Reads one frame.
///
/// # Errors
/// The connection, or what is no frame.
pub fn read(from: &mut impl Read) -> io::Result<Frame> {
    let mut head = [0; HEAD];
    from.read_exact(&mut head)?;
    let word = |at: usize| u32::from_le_bytes([head[at], head[at + 1], head[at + 2], head[at + 3]]);
    let number = |at: usize| head[at..at + 8].iter().rev().fold(0u64, |all, byte| all << 8 | u64::from(*byte));
    let invalid = |what| io::Error::new(io::ErrorKind::InvalidData, what);
    let kind = match word(0) {
        1 => Kind::Hello,
        2 => Kind::Message,
        3 => Kind::Beat,
        _ => return Err(invalid("a frame of an unknown kind")),
    };
    let length = word(4) as usize;
    if length > MOST {
        return Err(invalid("a frame that is too long"));
    }
    let mut body = vec![0; length];
    from.read_exact(&mut body)?;
    Ok(Frame { kind, number: number(8), heard: number(16), body })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Takes three bytes at a time.
    struct Slow(Vec<u8>);

    impl Write for Slow {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let taken = &bytes[..bytes.len().min(3)];
            self.0.extend(taken);
            Ok(taken.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_frame_comes_as_it_was_written_and_what_is_none_is_refused() {
        let mut bytes = Vec::new();
        write(&mut bytes, Kind::Message, 7, 1 << 40, b"body").unwrap();
        let frame = read(&mut bytes.as_slice()).unwrap();
        assert_eq!(frame, Frame { kind: Kind::Message, number: 7, heard: 1 << 40, body: b"body".to_vec() });
        assert!(read(&mut &bytes[..bytes.len() - 1]).is_err());
        let mut slow = Slow(Vec::new());
        write(&mut slow, Kind::Message, 7, 1 << 40, b"body").unwrap();
        write(&mut slow, Kind::Beat, 0, 1 << 40, b"").unwrap();
        assert_eq!(slow.0[..bytes.len()], bytes);
        assert_eq!(read(&mut &slow.0[bytes.len()..]).unwrap().kind, Kind::Beat);
        let long = [&2u32.to_le_bytes()[..], &u32::MAX.to_le_bytes(), &[0; 16]].concat();
        assert!(read(&mut long.as_slice()).unwrap_err().to_string().contains("too long"));
        assert!(read(&mut [9u8; 24].as_slice()).unwrap_err().to_string().contains("unknown kind"));
    }

    #[test]
    fn who_is_another_is_refused() {
        let hello = Hello { version: VERSION, attempt: "o-1.1".into(), life: "a".into(), heard: 0 };
        assert_eq!(hello.check("o-1.1", None), Ok(()));
        assert_eq!(hello.check("o-1.1", Some("a")), Ok(()));
        assert!(hello.check("o-1.1", Some("b")).unwrap_err().contains("another one"));
        assert!(hello.check("o-1.2", None).unwrap_err().contains("speaks for o-1.1"));
        assert!(Hello { version: VERSION + 1, ..hello }.check("o-1.1", None).unwrap_err().contains("version"));
    }
}

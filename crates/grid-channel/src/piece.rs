//! A stream in pieces, each as it is or compressed (LZ4): how they are written, and read from whoever is at the other end.
//!
//! ```text
//!   u32  length of what follows; its highest bit: compressed
//!   u32  length of the piece, where it is compressed
//!   bytes
//! ```
//! Little-endian. A checksum is not among it: TLS proves each of its records.
//!
//! Invariant: whatever arrives, a piece is never longer than [`PIECE`], nor does it take more memory than that.

use std::io;

/// What crosses at once.
pub(crate) const PIECE: usize = 1 << 18;
/// What goes before a piece, and what more goes before a compressed one.
pub(crate) const HEAD: usize = 4;
const PACKED: u32 = 1 << 31;

/// What a head announces.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Head {
    /// So many bytes, as they are.
    Plain(usize),
    /// So many bytes, the length of the piece among them.
    Packed(usize),
}

/// Reads a head; what no sender of pieces says is an error.
pub(crate) fn head(bytes: [u8; HEAD]) -> io::Result<Head> {
    let word = u32::from_le_bytes(bytes);
    let len = (word & !PACKED) as usize;
    match word & PACKED {
        0 if (1..=PIECE).contains(&len) => Ok(Head::Plain(len)),
        PACKED if (HEAD + 1..=HEAD + PIECE).contains(&len) => Ok(Head::Packed(len)),
        _ => Err(garbled(&format!("a piece of {len} bytes"))),
    }
}

/// Opens what followed a head that announced it compressed; `into` has room for one piece.
pub(crate) fn open<'a>(packed: &[u8], into: &'a mut [u8]) -> io::Result<&'a [u8]> {
    let (len, bytes) = packed.split_first_chunk().ok_or_else(|| garbled("no length"))?;
    let len = u32::from_le_bytes(*len) as usize;
    let room = into.get_mut(..len).filter(|_| (1..=PIECE).contains(&len));
    let room = room.ok_or_else(|| garbled(&format!("a piece of {len} bytes")))?;
    match lz4_flex::block::decompress_into(bytes, room) {
        Ok(got) if got == len => Ok(room),
        Ok(got) => Err(garbled(&format!("{got} bytes in a piece of {len}"))),
        Err(e) => Err(garbled(&e.to_string())),
    }
}

fn garbled(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("the other end sends no pieces: {what}"))
}

/// Writes pieces.
#[derive(Debug, Default)]
pub(crate) struct Packer {
    out: Vec<u8>,
}

impl Packer {
    /// The head of a piece of this length that is sent as it is.
    pub(crate) fn plain(len: usize) -> [u8; HEAD] {
        (len as u32).to_le_bytes()
    }

    /// The piece compressed, with all that goes before; none where that saves nothing to speak of.
    pub(crate) fn pack(&mut self, piece: &[u8]) -> Option<&[u8]> {
        let worth = piece.len() - piece.len() / 8;
        self.out.resize(2 * HEAD + lz4_flex::block::get_maximum_output_size(PIECE), 0);
        let len = lz4_flex::block::compress_into(piece, &mut self.out[2 * HEAD..]).ok().filter(|len| *len <= worth)?;
        self.out[..HEAD].copy_from_slice(&((HEAD + len) as u32 | PACKED).to_le_bytes());
        self.out[HEAD..2 * HEAD].copy_from_slice(&(piece.len() as u32).to_le_bytes());
        Some(&self.out[..2 * HEAD + len])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn opened(packed: &[u8]) -> io::Result<Vec<u8>> {
        let Head::Packed(len) = head(packed[..HEAD].try_into().unwrap())? else { panic!("it is not compressed") };
        assert_eq!(len, packed.len() - HEAD);
        open(&packed[HEAD..], &mut vec![0; PIECE]).map(<[u8]>::to_vec)
    }

    #[test]
    fn the_largest_piece_comes_back() {
        let piece = vec![7; PIECE];
        let mut packer = Packer::default();
        let packed = packer.pack(&piece).unwrap();
        assert!(packed.len() < PIECE / 100);
        assert!(opened(packed).unwrap() == piece);
        assert_eq!(head(Packer::plain(PIECE)).unwrap(), Head::Plain(PIECE));
    }

    #[test]
    fn lengths_that_no_sender_says_are_refused() {
        for word in [0, PIECE as u32 + 1, PACKED, PACKED | HEAD as u32, PACKED | (HEAD + PIECE + 1) as u32, u32::MAX] {
            assert_eq!(head(word.to_le_bytes()).unwrap_err().kind(), io::ErrorKind::InvalidData, "{word:#x}");
        }
    }

    #[test]
    fn a_piece_that_opens_to_more_or_less_than_it_says_is_refused() {
        let mut packer = Packer::default();
        let packed = packer.pack(&[7; 5000]).unwrap().to_vec();
        for said in [0u32, 1, 4999, 5001, PIECE as u32, PIECE as u32 + 1, u32::MAX] {
            let mut lie = packed.clone();
            lie[HEAD..2 * HEAD].copy_from_slice(&said.to_le_bytes());
            assert_eq!(opened(&lie).unwrap_err().kind(), io::ErrorKind::InvalidData, "{said}");
        }
    }

    #[test]
    fn what_does_not_compress_is_sent_as_it_is() {
        let mut state = 1u64;
        let random = |_| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state as u8
        };
        let piece: Vec<u8> = (0..PIECE).map(random).collect();
        assert_eq!(Packer::default().pack(&piece), None);
    }

    proptest! {
        #[test]
        fn what_was_packed_comes_back(
            runs in proptest::collection::vec((any::<u8>(), 1usize..3000), 1..60),
        ) {
            let mut piece: Vec<u8> = runs.iter().flat_map(|(byte, len)| std::iter::repeat_n(*byte, *len)).collect();
            piece.truncate(PIECE);
            let mut packer = Packer::default();
            if let Some(packed) = packer.pack(&piece) {
                prop_assert!(packed.len() <= piece.len() + 2 * HEAD);
                prop_assert!(opened(packed).unwrap() == piece);
            }
        }

        #[test]
        fn whatever_arrives_is_opened_within_one_piece_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..2000)) {
            let mut room = vec![0; PIECE];
            if let Ok(piece) = open(&bytes, &mut room) {
                prop_assert!(piece.len() <= PIECE);
            }
        }
    }
}

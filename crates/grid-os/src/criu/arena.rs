//! Anonymous memory in which received pages wait until they are copied into the restored process.
#![allow(unsafe_code)]

use super::CriuError;
use std::io::{self, Read};

/// Grows in chunks; every chunk is populated when it is made and can be given back piece by piece.
#[derive(Debug)]
pub struct Arena {
    chunks: Vec<Chunk>,
    used: u64,
}

#[derive(Debug)]
struct Chunk {
    base: *mut u8,
    start: u64,
    len: u64,
}

// SAFETY: a chunk is plain memory that only its owner writes; sharing it for reading is sound.
unsafe impl Send for Chunk {}
// SAFETY: as above.
unsafe impl Sync for Chunk {}

/// Smallest chunk: a stream that brings more than was expected grows the arena by this.
const CHUNK: u64 = 32 << 20;

impl Arena {
    /// An arena with room for `expected` bytes, populated now: do it while the source still runs.
    pub fn with_room(expected: u64) -> Result<Self, CriuError> {
        let mut arena = Self { chunks: Vec::new(), used: 0 };
        if expected > 0 {
            arena.grow(expected)?;
        }
        Ok(arena)
    }

    fn grow(&mut self, at_least: u64) -> Result<(), CriuError> {
        let len = at_least.max(CHUNK).next_multiple_of(2 << 20);
        // SAFETY: a fresh anonymous mapping that nobody else knows.
        let base = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                len as usize,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE,
                -1,
                0,
            )
        };
        if base == libc::MAP_FAILED {
            return Err(CriuError::Arena(io::Error::last_os_error()));
        }
        // SAFETY: advice on our own mapping; both are only about speed and may be refused.
        unsafe {
            libc::madvise(base, len as usize, libc::MADV_HUGEPAGE);
            libc::madvise(base, len as usize, libc::MADV_POPULATE_WRITE);
        }
        let start = self.chunks.last().map_or(0, |c| c.start + c.len);
        self.chunks.push(Chunk { base: base.cast(), start, len });
        Ok(())
    }

    /// Reads exactly `len` bytes from the stream into contiguous room and returns its offset.
    pub(crate) fn receive(&mut self, stream: &mut impl Read, len: u64) -> Result<u64, CriuError> {
        let fits = self.chunks.last().is_some_and(|c| c.start + c.len - self.used >= len);
        if !fits {
            // What is left of the last chunk stays unused, so that a run is contiguous.
            self.used = self.chunks.last().map_or(0, |c| c.start + c.len);
            self.grow(len)?;
        }
        let offset = self.used;
        let target = self.slice_mut(offset, len);
        stream.read_exact(target).map_err(CriuError::PageStream)?;
        self.used += len;
        Ok(offset)
    }

    fn locate(&self, offset: u64, len: u64) -> *mut u8 {
        let chunk = self
            .chunks
            .iter()
            .rev()
            .find(|c| c.start <= offset)
            .filter(|c| offset + len <= c.start + c.len)
            .expect("offsets come from receive(), which keeps a run within one chunk");
        // SAFETY: within the chunk, as was just checked.
        unsafe { chunk.base.add((offset - chunk.start) as usize) }
    }

    fn slice_mut(&mut self, offset: u64, len: u64) -> &mut [u8] {
        let at = self.locate(offset, len);
        // SAFETY: a live, populated range of which `self` is the only owner.
        unsafe { std::slice::from_raw_parts_mut(at, len as usize) }
    }

    /// Address of a received run, for the kernel to copy from.
    pub(crate) fn address(&self, offset: u64, len: u64) -> u64 {
        self.locate(offset, len) as u64
    }

    /// Gives the memory of a run back to the system; its bytes are gone.
    pub(crate) fn forget(&self, offset: u64, len: u64) {
        let start = (offset + 4095) & !4095;
        let end = (offset + len) & !4095;
        if end > start {
            let at = self.locate(start, end - start);
            // SAFETY: whole pages of our own mapping whose content is no longer needed.
            unsafe { libc::madvise(at.cast(), (end - start) as usize, libc::MADV_DONTNEED) };
        }
    }
}

impl Drop for Arena {
    fn drop(&mut self) {
        for chunk in &self.chunks {
            // SAFETY: our own mapping, no reference into it outlives the arena.
            unsafe { libc::munmap(chunk.base.cast(), chunk.len as usize) };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_keep_their_bytes_also_where_the_arena_grows() {
        let mut arena = Arena::with_room(4096).unwrap();
        let big = vec![9u8; (CHUNK + 8192) as usize];
        let a = arena.receive(&mut [1u8; 4096].as_slice(), 4096).unwrap();
        let b = arena.receive(&mut big.as_slice(), big.len() as u64).unwrap();
        let c = arena.receive(&mut [2u8; 8192].as_slice(), 8192).unwrap();
        assert_eq!(arena.slice_mut(a, 4096), &[1u8; 4096]);
        assert!(arena.slice_mut(b, big.len() as u64).iter().all(|x| *x == 9));
        assert_eq!(arena.slice_mut(c, 8192), &[2u8; 8192]);
        arena.forget(a, 4096);
        assert_eq!(arena.slice_mut(a, 4096), &[0u8; 4096]);
    }
}

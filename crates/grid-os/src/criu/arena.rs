//! Anonymous memory in which received pages wait until they are copied into the restored process.
#![allow(unsafe_code)]

use super::CriuError;
use super::pages::PAGE;
use std::io::{self, Read};

/// Grows in chunks; every chunk is populated when it is made and can be given back piece by piece. Every chunk but the
/// last is full.
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
const HUGE: u64 = 2 << 20;

impl Arena {
    /// An arena with room for `expected` bytes, populated now: do it while the source still runs.
    pub fn with_room(expected: u64) -> Result<Self, CriuError> {
        let mut arena = Self { chunks: Vec::new(), used: 0 };
        if expected > 0 {
            arena.grow(expected.checked_next_multiple_of(HUGE).unwrap_or(u64::MAX))?;
        }
        Ok(arena)
    }

    fn grow(&mut self, len: u64) -> Result<(), CriuError> {
        // What the source says that it brings is not believed: populating past what is there would end others' processes.
        let available = available_memory().map_err(CriuError::Arena)?;
        if len > available {
            let detail = format!("{len} bytes are announced and {available} are available");
            return Err(CriuError::Arena(io::Error::new(io::ErrorKind::OutOfMemory, detail)));
        }
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

    /// Reads exactly `len` bytes from the stream and names each contiguous piece, in order, by its offset and length.
    /// At most `room` bytes may still come in all, `len` among them: never more than that is mapped beyond what is.
    pub(crate) fn receive(
        &mut self,
        stream: &mut impl Read,
        len: u64,
        room: u64,
        mut piece: impl FnMut(u64, u64),
    ) -> Result<(), CriuError> {
        let mut left = len;
        while left > 0 {
            let mut free = self.free();
            if free == 0 {
                self.grow(left.max(CHUNK.min(room - (len - left))).next_multiple_of(PAGE))?;
                free = self.free();
            }
            let (offset, now) = (self.used, left.min(free));
            stream.read_exact(self.slice_mut(offset, now)).map_err(CriuError::PageStream)?;
            self.used += now;
            left -= now;
            piece(offset, now);
        }
        Ok(())
    }

    /// Bytes that the last chunk can still take.
    fn free(&self) -> u64 {
        self.chunks.last().map_or(0, |c| c.start + c.len - self.used)
    }

    /// Bytes that are mapped.
    #[cfg(test)]
    pub(crate) fn mapped(&self) -> u64 {
        self.chunks.iter().map(|c| c.len).sum()
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

/// Memory that this machine can still give without swapping.
///
/// # Errors
/// `/proc/meminfo` cannot be read.
pub fn available_memory() -> io::Result<u64> {
    let text = std::fs::read_to_string("/proc/meminfo")?;
    let kib =
        text.lines().find_map(|l| l.strip_prefix("MemAvailable:")?.trim().strip_suffix(" kB")?.parse::<u64>().ok());
    kib.map(|k| k.saturating_mul(1024)).ok_or_else(|| io::Error::other("/proc/meminfo has no MemAvailable"))
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
    fn more_than_the_machine_has_is_refused_before_it_is_mapped() {
        for announced in [1 << 50, u64::MAX - (4 << 20)] {
            let error = Arena::with_room(announced).unwrap_err();
            assert!(error.to_string().contains("are available"), "{error}");
        }
    }

    #[test]
    fn runs_keep_their_bytes_also_where_the_arena_grows() {
        let mut arena = Arena::with_room(4096).unwrap();
        let big = (CHUNK + 8192) as usize;
        let mut pieces = |byte: u8, len: usize| {
            let mut all = Vec::new();
            let bytes = vec![byte; len];
            arena.receive(&mut bytes.as_slice(), len as u64, 2 * CHUNK, |o, l| all.push((o, l))).unwrap();
            all
        };
        let (a, b, c) = (pieces(1, 4096), pieces(9, big), pieces(2, 8192));
        assert_eq!((a.len(), b.len(), c.len()), (1, 2, 1), "a run goes on in the next chunk");
        assert_eq!(arena.slice_mut(a[0].0, 4096), &[1u8; 4096]);
        for (offset, len) in b {
            assert!(arena.slice_mut(offset, len).iter().all(|x| *x == 9));
        }
        assert_eq!(arena.slice_mut(c[0].0, 8192), &[2u8; 8192]);
        arena.forget(a[0].0, 4096);
        assert_eq!(arena.slice_mut(a[0].0, 4096), &[0u8; 4096]);
    }
}

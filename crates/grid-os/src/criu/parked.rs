//! A checkpoint that is kept as it came: everything that crosses the page stream, in one file, with its hash.
//!
//! Parking records the stream of a dump; unparking sends the record. So a parked copy is what a destination would have
//! got, byte for byte, and whoever restores it inspects it as it inspects every stream. What is bounded in a stream that
//! is restored is bounded here, too, but nothing is interpreted: pages and images go to the file unread.

use super::CriuError;
use super::images::skip_images;
use super::pages::skip_pages;
use sha2::{Digest, Sha256};
use std::fs::File;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

/// In pieces that do not make a system call of each page.
const PIECE: usize = 1 << 18;

/// What is known of a record: enough to tell whether it is whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seal {
    /// Bytes.
    pub size: u64,
    /// SHA-256, in hex.
    pub sha256: String,
}

/// A stream of which everything that is read is also written to a file.
pub struct Recorder<S> {
    stream: S,
    file: File,
    path: PathBuf,
    hash: Sha256,
    size: u64,
}

impl<S: Read + Write> Recorder<S> {
    /// Into this file, which is new.
    pub fn new(stream: S, file: File, path: &Path) -> Self {
        Self { stream, file, path: path.to_owned(), hash: Sha256::new(), size: 0 }
    }

    /// Records the pages of one dump, at most `limit` bytes of memory; returns how many came.
    ///
    /// # Errors
    /// As [`super::receive_pages`].
    pub fn pages(&mut self, limit: u64) -> Result<u64, CriuError> {
        skip_pages(self, limit)
    }

    /// Records the small images.
    ///
    /// # Errors
    /// As [`super::receive_images`].
    pub fn images(&mut self) -> Result<u64, CriuError> {
        skip_images(self)
    }

    /// Writes everything to the disk for good, and reads it once more.
    ///
    /// # Errors
    /// Where the disk did not take it, or gives back something else.
    pub fn seal(self) -> io::Result<Seal> {
        self.file.sync_all()?;
        // What is in memory proves nothing: it is dropped from there, so that the disk is asked. (Only advice.)
        let _ = nix::fcntl::posix_fadvise(&self.file, 0, 0, nix::fcntl::PosixFadviseAdvice::POSIX_FADV_DONTNEED);
        let seal = Seal { size: self.size, sha256: hex(self.hash) };
        let found = seal_of(&self.path)?;
        if found == seal {
            Ok(seal)
        } else {
            Err(io::Error::other("the disk gives back something else than it was given"))
        }
    }
}

impl<S: Read> Read for Recorder<S> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let n = self.stream.read(into)?;
        self.file.write_all(&into[..n])?;
        self.hash.update(&into[..n]);
        self.size += n as u64;
        Ok(n)
    }
}

impl<S: Write> Write for Recorder<S> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.stream.write(bytes)
    }
    fn flush(&mut self) -> io::Result<()> {
        self.stream.flush()
    }
}

/// Reads a record to its end.
///
/// # Errors
/// Where it cannot be read.
pub fn seal_of(path: &Path) -> io::Result<Seal> {
    let (mut file, mut hash, mut size) = (File::open(path)?, Sha256::new(), 0);
    let mut buffer = vec![0; PIECE];
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(Seal { size, sha256: hex(hash) }),
            n => {
                hash.update(&buffer[..n]);
                size += n as u64;
            }
        }
    }
}

/// Reads so many bytes and forgets them.
pub(super) fn skip(from: &mut impl Read, len: u64) -> io::Result<()> {
    let mut buffer = vec![0; PIECE.min(len as usize)];
    let mut left = len;
    while left > 0 {
        let now = left.min(PIECE as u64) as usize;
        from.read_exact(&mut buffer[..now])?;
        left -= now as u64;
    }
    Ok(())
}

fn hex(hash: Sha256) -> String {
    hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Sent<'a>(&'a [u8]);

    impl Read for Sent<'_> {
        fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
            self.0.read(into)
        }
    }

    impl Write for Sent<'_> {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            Ok(bytes.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// One page of process 12, and one image, as they cross.
    fn stream() -> Vec<u8> {
        let command = |word: u32, pages: u64, vaddr: u64, id: u64| {
            let mut bytes = word.to_ne_bytes().to_vec();
            bytes.extend([0u8; 4]);
            [pages, vaddr, id].iter().for_each(|n| bytes.extend(n.to_ne_bytes()));
            bytes
        };
        let mut all = [command(3, 0, 0, 12 << 8 | 1), command(1, 1, 0x7000, 0), vec![7; 4096]].concat();
        all.extend(command(0x1023, 0, 0, 0));
        all.extend(1u32.to_le_bytes());
        all.extend(5u32.to_le_bytes());
        all.extend(b"a.img");
        all.extend(3u64.to_le_bytes());
        all.extend(b"xyz");
        all
    }

    #[test]
    fn a_record_is_the_stream_and_a_changed_byte_is_seen() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("copy");
        let sent = stream();
        let mut recorder = Recorder::new(Sent(&sent), File::create_new(&path).unwrap(), &path);
        assert_eq!(recorder.pages(1 << 20).unwrap(), 4096);
        assert_eq!(recorder.images().unwrap(), 3);
        let seal = recorder.seal().unwrap();
        let mut kept = std::fs::read(&path).unwrap();
        assert_eq!((&kept, seal.size), (&sent, sent.len() as u64));
        assert_eq!(seal_of(&path).unwrap(), seal);
        kept[1000] ^= 1;
        std::fs::write(&path, kept).unwrap();
        assert_ne!(seal_of(&path).unwrap(), seal);
    }

    #[test]
    fn what_is_too_much_or_no_stream_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let record = |sent: &[u8], limit| {
            let path = dir.path().join("copy");
            let _ = std::fs::remove_file(&path);
            let mut recorder = Recorder::new(Sent(sent), File::create_new(&path).unwrap(), &path);
            recorder.pages(limit).and_then(|_| recorder.images())
        };
        assert!(matches!(record(&stream(), 100), Err(CriuError::TooMuchMemory { .. })));
        assert!(matches!(record(&[9; 64], 1 << 20), Err(CriuError::Hostile(_))));
        assert!(matches!(record(&stream()[..2000], 1 << 20), Err(CriuError::PageStream(_))));
        let mut named = stream();
        let at = named.len() - 16;
        named[at] = b'/';
        assert!(matches!(record(&named, 1 << 20), Err(CriuError::Hostile(_))));
    }
}

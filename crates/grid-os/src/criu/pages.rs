//! The receiving end of CRIU's page-server protocol (`criu/page-xfer.c`): takes a tree's memory off the stream.
//!
//! Pages that userfaultfd can fill later are kept in one anonymous arena and never written to a file; the few others
//! (shared memory, private pages of files, stacks) go into `pages-*.img`, where CRIU's restore reads them. The arena
//! is mapped and populated before the source freezes, so that receiving is a copy into warm memory.

use super::CriuError;
use super::arena::Arena;
use super::images::{PE_LAZY, PE_PRESENT, PagemapWriter};
use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

pub(crate) const PAGE: u64 = 4096;

// Commands of the protocol.
const ADD: u32 = 1;
const HOLE: u32 = 2;
const OPEN: u32 = 3;
const OPEN2: u32 = 4;
const PARENT: u32 = 5;
const ADD_F: u32 = 6;
const CLOSE: u32 = 0x1023;
const FORCE_CLOSE: u32 = 0x1024;
const TYPE_PID: u64 = 1;
const TYPE_SHMEM: u64 = 2;

/// A run of pages of one process that waits in the arena.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Run {
    /// Where it belongs in the process.
    pub vaddr: u64,
    /// Bytes.
    pub len: u64,
    /// Where it waits in the arena.
    pub offset: u64,
}

/// Everything that was received.
#[derive(Debug)]
pub struct ReceivedPages {
    pub(crate) arena: Arena,
    /// Runs by the process's number in its own PID namespace.
    pub runs: BTreeMap<i32, Vec<Run>>,
    /// Bytes received in all.
    pub bytes: u64,
}

struct Open {
    pagemap: PagemapWriter,
    pages: Option<fs::File>,
    pages_path: PathBuf,
    pid: Option<i32>,
}

struct Receiver<'a> {
    dir: &'a Path,
    limit: u64,
    open: Option<Open>,
    next_id: u32,
    out: ReceivedPages,
}

/// Serves one dump's page stream to its end and returns what arrived.
///
/// `arena` was made for the expected amount; more than `limit` bytes in all are refused, so that a source cannot fill
/// the lender's memory.
pub fn receive_pages(
    stream: &mut (impl Read + Write),
    dir: &Path,
    arena: Arena,
    limit: u64,
) -> Result<ReceivedPages, CriuError> {
    let out = ReceivedPages { arena, runs: BTreeMap::new(), bytes: 0 };
    let mut receiver = Receiver { dir, limit, open: None, next_id: 1, out };
    let io = |e| CriuError::PageStream(e);
    loop {
        let mut header = [0u8; 32];
        stream.read_exact(&mut header).map_err(io)?;
        let word = u32::from_ne_bytes([header[0], header[1], header[2], header[3]]);
        let long = |at: usize| u64::from_ne_bytes(header[at..at + 8].try_into().unwrap_or_default());
        let (command, flags) = (word & 0xffff, word >> 16);
        let (pages, vaddr, id) = (long(8), long(16), long(24));
        match command {
            OPEN | OPEN2 => {
                receiver.open(id)?;
                if command == OPEN2 {
                    stream.write_all(&[0]).map_err(io)?;
                }
            }
            PARENT => stream.write_all(&0i32.to_ne_bytes()).map_err(io)?,
            ADD => receiver.add(stream, vaddr, pages, PE_PRESENT)?,
            ADD_F => receiver.add(stream, vaddr, pages, flags)?,
            CLOSE | FORCE_CLOSE => {
                receiver.close()?;
                stream.write_all(&0i32.to_ne_bytes()).map_err(io)?;
                stream.flush().map_err(io)?;
                return Ok(receiver.out);
            }
            HOLE => return Err(CriuError::Hostile("a hole in a page stream without parent images".into())),
            other => return Err(CriuError::Hostile(format!("page-server command {other}"))),
        }
    }
}

impl Receiver<'_> {
    fn open(&mut self, id: u64) -> Result<(), CriuError> {
        self.close()?;
        let (number, kind) = (id >> 8, id & 0xff);
        let (name, pid) = match kind {
            TYPE_PID => (format!("pagemap-{number}.img"), Some(i32::try_from(number).unwrap_or(-1))),
            TYPE_SHMEM => (format!("pagemap-shmem-{number}.img"), None),
            _ => return Err(CriuError::Hostile(format!("page-server object type {kind}"))),
        };
        let pages_id = self.next_id;
        self.next_id += 1;
        let io = |e| CriuError::Images(self.dir.to_owned(), e);
        let pagemap = PagemapWriter::create(&self.dir.join(name), pages_id).map_err(io)?;
        let pages_path = self.dir.join(format!("pages-{pages_id}.img"));
        // CRIU opens the pages file of every pagemap, also where nothing is read from it.
        let pages = Some(fs::File::create(&pages_path).map_err(io)?);
        self.open = Some(Open { pagemap, pages, pages_path, pid });
        Ok(())
    }

    fn close(&mut self) -> Result<(), CriuError> {
        let Some(open) = self.open.take() else { return Ok(()) };
        drop(open.pages);
        open.pagemap.finish().map_err(|e| CriuError::Images(open.pages_path, e))
    }

    fn add(&mut self, stream: &mut impl Read, vaddr: u64, pages: u64, flags: u32) -> Result<(), CriuError> {
        let open = self.open.as_mut().ok_or_else(|| CriuError::Hostile("pages before an object".into()))?;
        let len = pages.checked_mul(PAGE).filter(|l| self.out.bytes.saturating_add(*l) <= self.limit);
        let Some(len) = len else {
            return Err(CriuError::TooMuchMemory { limit: self.limit });
        };
        let images = |e| CriuError::Images(open.pages_path.clone(), e);
        if flags & PE_PRESENT == 0 {
            open.pagemap.entry(vaddr, pages, flags).map_err(images)?;
            return Ok(());
        }
        match open.pid {
            Some(pid) if flags & PE_LAZY != 0 => {
                let offset = self.out.arena.receive(stream, len)?;
                self.out.runs.entry(pid).or_default().push(Run { vaddr, len, offset });
                open.pagemap.entry(vaddr, pages, PE_LAZY).map_err(images)?;
            }
            _ => {
                let file = open.pages.as_mut().ok_or_else(|| CriuError::Hostile("pages after the end".into()))?;
                if io::copy(&mut stream.take(len), file).map_err(CriuError::PageStream)? != len {
                    return Err(CriuError::PageStream(io::ErrorKind::UnexpectedEof.into()));
                }
                open.pagemap.entry(vaddr, pages, PE_PRESENT).map_err(images)?;
            }
        }
        self.out.bytes += len;
        Ok(())
    }
}

#[cfg(test)]
mod limits {
    use super::*;
    use std::io::Cursor;

    fn command(word: u32, pages: u64, vaddr: u64, id: u64) -> Vec<u8> {
        let mut bytes = word.to_ne_bytes().to_vec();
        bytes.extend([0; 4]);
        [pages, vaddr, id].iter().for_each(|n| bytes.extend(n.to_ne_bytes()));
        bytes
    }

    #[test]
    fn more_memory_than_admitted_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let receive = |pages: u64| {
            let mut stream = command(OPEN, 0, 0, 7 << 8 | TYPE_PID);
            stream.extend(command(ADD_F | (PE_PRESENT | PE_LAZY) << 16, pages, 0x10_0000, 7 << 8 | TYPE_PID));
            stream.extend(vec![0x5a; 4 * PAGE as usize]);
            stream.extend(command(CLOSE, 0, 0, 0));
            let arena = Arena::with_room(8 * PAGE).unwrap();
            receive_pages(&mut Cursor::new(stream), dir.path(), arena, 4 * PAGE)
        };
        assert_eq!(receive(4).unwrap().bytes, 4 * PAGE);
        for pages in [5, u64::MAX] {
            assert!(matches!(receive(pages), Err(CriuError::TooMuchMemory { .. })), "{pages}");
        }
    }
}

//! The receiving end of CRIU's page-server protocol (`criu/page-xfer.c`): takes a tree's memory off the stream.
//!
//! Pages that userfaultfd can fill later are kept in one anonymous arena and never written to a file; the few others
//! (shared memory, private pages of files, stacks) go into `pages-*.img`, where CRIU's restore reads them. The arena
//! is mapped and populated before the source freezes, so that receiving is a copy into warm memory.
//!
//! Whoever sends decides every byte. What is refused: more memory than was admitted, addresses that no process has, an
//! object twice, and more runs and objects than any tree has, so that a source cannot fill the lender's memory or disk
//! with what costs it nothing to send.

use super::CriuError;
use super::arena::Arena;
use super::images::{PE_LAZY, PE_PRESENT, PagemapWriter};
use super::parked::skip;
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

/// Addresses of user space end here on every machine that grid runs on (x86-64 with five levels of pages).
const USER_SPACE: u64 = 1 << 56;
/// Processes and shared segments of one tree. Each costs two files.
const MAX_OBJECTS: u32 = 65_536;
/// Runs of pages of one tree: a run for each page of 4 GiB.
const MAX_RUNS: u32 = 1 << 20;

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
    runs: u32,
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
    let mut receiver = Receiver { dir, limit, open: None, next_id: 1, runs: 0, out };
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

/// Reads one dump's page stream to its end and keeps nothing of it: for whoever records it. Bounded as what is received.
pub(super) fn skip_pages(stream: &mut (impl Read + Write), limit: u64) -> Result<u64, CriuError> {
    let io = CriuError::PageStream;
    let (mut bytes, mut runs, mut objects) = (0, 0, 0);
    loop {
        let mut header = [0u8; 32];
        stream.read_exact(&mut header).map_err(io)?;
        let word = u32::from_ne_bytes([header[0], header[1], header[2], header[3]]);
        let long = |at: usize| u64::from_ne_bytes(header[at..at + 8].try_into().unwrap_or_default());
        match word & 0xffff {
            command @ (OPEN | OPEN2) => {
                objects += 1;
                if command == OPEN2 {
                    stream.write_all(&[0]).map_err(io)?;
                }
            }
            PARENT => stream.write_all(&0i32.to_ne_bytes()).map_err(io)?,
            command @ (ADD | ADD_F) => {
                let len = place(long(16), long(8))?;
                runs += 1;
                if command == ADD || (word >> 16) & PE_PRESENT != 0 {
                    bytes += len;
                    if bytes > limit {
                        return Err(CriuError::TooMuchMemory { limit });
                    }
                    skip(stream, len).map_err(io)?;
                }
            }
            CLOSE | FORCE_CLOSE => {
                stream.write_all(&0i32.to_ne_bytes()).map_err(io)?;
                stream.flush().map_err(io)?;
                return Ok(bytes);
            }
            HOLE => return Err(CriuError::Hostile("a hole in a page stream without parent images".into())),
            other => return Err(CriuError::Hostile(format!("page-server command {other}"))),
        }
        if objects > MAX_OBJECTS || runs > MAX_RUNS {
            return Err(CriuError::Hostile(format!("more than {MAX_OBJECTS} objects or {MAX_RUNS} runs of pages")));
        }
    }
}

impl Receiver<'_> {
    fn open(&mut self, id: u64) -> Result<(), CriuError> {
        self.close()?;
        let (number, kind) = (id >> 8, id & 0xff);
        let (name, pid) = match kind {
            TYPE_PID => (format!("pagemap-{number}.img"), Some(process(number)?)),
            TYPE_SHMEM => (format!("pagemap-shmem-{number}.img"), None),
            _ => return Err(CriuError::Hostile(format!("page-server object type {kind}"))),
        };
        let pages_id = self.next_id;
        if pages_id > MAX_OBJECTS {
            return Err(CriuError::Hostile(format!("more than {MAX_OBJECTS} objects with pages")));
        }
        self.next_id += 1;
        let io = |e: io::Error| match e.kind() {
            io::ErrorKind::AlreadyExists => CriuError::Hostile(format!("{name} twice")),
            _ => CriuError::Images(self.dir.to_owned(), e),
        };
        let pagemap = PagemapWriter::create(&self.dir.join(&name), pages_id).map_err(io)?;
        let pages_path = self.dir.join(format!("pages-{pages_id}.img"));
        // CRIU opens the pages file of every pagemap, also where nothing is read from it.
        let pages = Some(fs::File::create_new(&pages_path).map_err(io)?);
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
        let len = place(vaddr, pages)?;
        self.runs += 1;
        if self.runs > MAX_RUNS {
            return Err(CriuError::Hostile(format!("more than {MAX_RUNS} runs of pages")));
        }
        let images = |e| CriuError::Images(open.pages_path.clone(), e);
        if flags & PE_PRESENT == 0 {
            open.pagemap.entry(vaddr, pages, flags).map_err(images)?;
            return Ok(());
        }
        let room = self.limit.saturating_sub(self.out.bytes);
        if len > room {
            return Err(CriuError::TooMuchMemory { limit: self.limit });
        }
        match open.pid {
            Some(pid) if flags & PE_LAZY != 0 => {
                let runs = self.out.runs.entry(pid).or_default();
                let mut at = vaddr;
                self.out.arena.receive(stream, len, room, |offset, len| {
                    runs.push(Run { vaddr: at, len, offset });
                    at += len;
                })?;
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

/// The number of a process in its own PID namespace.
fn process(number: u64) -> Result<i32, CriuError> {
    let pid = i32::try_from(number).ok().filter(|pid| *pid > 0);
    pid.ok_or_else(|| CriuError::Hostile(format!("pages of a process {number}")))
}

/// Bytes of a run that lies where a process can have memory.
fn place(vaddr: u64, pages: u64) -> Result<u64, CriuError> {
    let len = pages.checked_mul(PAGE).filter(|len| *len > 0 && vaddr.is_multiple_of(PAGE));
    len.filter(|len| vaddr.checked_add(*len).is_some_and(|end| end <= USER_SPACE))
        .ok_or_else(|| CriuError::Hostile(format!("{pages} pages at {vaddr:#x}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A stream of which only the reading end has anything to say.
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

    fn command(word: u32, pages: u64, vaddr: u64, id: u64) -> Vec<u8> {
        let mut bytes = word.to_ne_bytes().to_vec();
        bytes.extend([0u8; 4]);
        [pages, vaddr, id].iter().for_each(|n| bytes.extend(n.to_ne_bytes()));
        bytes
    }

    const LAZY: u32 = ADD_F | (PE_PRESENT | PE_LAZY) << 16;
    const PROCESS_12: u64 = 12 << 8 | TYPE_PID;

    fn received(stream: &[Vec<u8>], limit: u64) -> Result<ReceivedPages, CriuError> {
        let dir = tempfile::tempdir().unwrap();
        receive_pages(&mut Sent(&stream.concat()), dir.path(), Arena::with_room(0).unwrap(), limit)
    }

    #[test]
    fn pages_arrive_in_runs_of_their_process() {
        let stream = [
            command(OPEN, 0, 0, PROCESS_12),
            command(LAZY, 2, 0x7000, 0),
            vec![7; 8192],
            command(ADD, 1, 0x9000, 0),
            vec![8; 4096],
            command(CLOSE, 0, 0, 0),
        ];
        let got = received(&stream, 1 << 20).unwrap();
        assert_eq!((got.bytes, got.runs[&12].clone()), (12_288, vec![Run { vaddr: 0x7000, len: 8192, offset: 0 }]));
    }

    #[test]
    fn what_no_tree_has_is_refused() {
        let open = command(OPEN, 0, 0, PROCESS_12);
        let hostile: &[&[Vec<u8>]] = &[
            // An end past the largest number: would wrap where the fault handler looks for a page.
            &[open.clone(), command(LAZY, 1, u64::MAX - 0xfff, 0), vec![0; 4096]],
            &[open.clone(), command(LAZY, 1, USER_SPACE, 0), vec![0; 4096]],
            &[open.clone(), command(LAZY, 1, 0x7001, 0), vec![0; 4096]],
            // Costs the sender nothing, and a record each here.
            &[open.clone(), command(LAZY, 0, 0x7000, 0)],
            &[open.clone(), command(LAZY, u64::MAX / 2, 0x7000, 0)],
            &[command(OPEN, 0, 0, u64::from(u32::MAX) << 8 | TYPE_PID)],
            &[command(OPEN, 0, 0, TYPE_PID)],
            &[open.clone(), open.clone()],
            &[command(OPEN, 0, 0, 9)],
            &[command(LAZY, 1, 0x7000, 0), vec![0; 4096]],
            &[command(HOLE, 1, 0x7000, 0)],
        ];
        for stream in hostile {
            let error = received(stream, 1 << 20).unwrap_err();
            assert!(matches!(error, CriuError::Hostile(_)), "{error}");
        }
    }

    #[test]
    fn holes_and_objects_without_end_are_refused() {
        let mut stream = vec![command(OPEN, 0, 0, PROCESS_12)];
        stream.extend((0..=MAX_RUNS).map(|_| command(ADD_F, 1, 0x7000, 0)));
        assert!(matches!(received(&stream, 1 << 20), Err(CriuError::Hostile(_))));
    }

    #[test]
    fn more_memory_than_admitted_is_refused() {
        let stream = [command(OPEN, 0, 0, PROCESS_12), command(LAZY, 257, 0x7000, 0), vec![0; 257 * 4096]];
        assert!(matches!(received(&stream, 1 << 20), Err(CriuError::TooMuchMemory { limit: 1_048_576 })));
        // Runs that leave the rest of each chunk unused would map more than is admitted.
        let third = 6 << 20;
        let mut stream = vec![command(OPEN, 0, 0, PROCESS_12)];
        for i in 0..3 {
            stream.extend([command(LAZY, third / 4096, 0x10_0000 + i * third, 0), vec![i as u8; third as usize]]);
        }
        stream.push(command(CLOSE, 0, 0, 0));
        let got = received(&stream, 18 << 20).unwrap();
        assert!(got.arena.mapped() <= 18 << 20, "{} mapped", got.arena.mapped());
        assert_eq!(got.runs[&12].iter().map(|r| r.len).sum::<u64>(), 18 << 20);
    }
}

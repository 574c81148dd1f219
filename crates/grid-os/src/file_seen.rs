//! What tells whether a path means the same file on two machines.

use crate::access;
use grid_types::wire::FileSeen;
use nix::libc;
use object::read::elf::{FileHeader, ProgramHeader};
use object::read::{FileKind, ReadCache, ReadRef};
use object::{Endianness, elf};
use sha2::{Digest, Sha256};
use std::fs::File;
use std::io::{self, Read, Seek};
use std::ops::Range;
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;

/// Files that carry no build id are compared by all of their bytes up to this size.
const HASHED: u64 = 64 << 20;

/// No header of a program, and no list of its notes, is longer.
const HEADERS: u64 = 4 << 20;

/// Looks at `path` below `root` (a process's own, `/proc/PID/root`, or `/`), as who asks; the links of `/proc` that lead anywhere
/// are not followed. `written`: somebody has it open for writing, so that its bytes tell nothing.
///
/// # Errors
/// It is not there, or cannot be read.
pub fn look(root: &Path, path: &str, written: bool) -> io::Result<FileSeen> {
    let root = File::options().read(true).custom_flags(libc::O_PATH | libc::O_DIRECTORY).open(root)?;
    // Held before it is opened, so that what is opened is what was looked at, and a plain file: nothing waits for a writer.
    let held = File::from(access::find(root.as_fd(), path)?);
    let meta = held.metadata()?;
    let open = || File::open(format!("/proc/self/fd/{}", held.as_raw_fd()));
    let content = if written || !meta.is_file() { None } else { content(open()?, meta.len())? };
    Ok(FileSeen {
        path: path.to_owned(),
        folder: meta.is_dir(),
        inode: meta.ino(),
        bytes: meta.len(),
        modified_ns: meta.mtime().saturating_mul(1_000_000_000).saturating_add(meta.mtime_nsec()),
        written,
        content,
    })
}

/// The build id that a linker wrote into a program or library; else a hash, where that is quick.
fn content(mut file: File, bytes: u64) -> io::Result<Option<String>> {
    if let Some(id) = build_id(&ReadCache::new(file.try_clone()?)) {
        return Ok(Some(format!("build-id {}", hex(&id))));
    }
    if bytes > HASHED {
        return Ok(None);
    }
    file.rewind()?;
    let (mut file, mut hash, mut buffer) = (file.take(HASHED), Sha256::new(), vec![0; 1 << 16]);
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(Some(format!("sha256 {}", hex(&hash.finalize())))),
            n => hash.update(&buffer[..n]),
        }
    }
}

/// From the program headers: sections, and tables of symbols of any length, are not read.
fn build_id(file: &ReadCache<File>) -> Option<Vec<u8>> {
    let file = Bounded(file);
    match FileKind::parse(file).ok()? {
        FileKind::Elf64 => noted::<elf::FileHeader64<Endianness>>(file),
        FileKind::Elf32 => noted::<elf::FileHeader32<Endianness>>(file),
        _ => None,
    }
}

fn noted<H: FileHeader<Endian = Endianness>>(file: Bounded<'_>) -> Option<Vec<u8>> {
    let header = H::parse(file).ok()?;
    let endian = header.endian().ok()?;
    for program in header.program_headers(endian, file).ok()? {
        let Ok(Some(mut notes)) = program.notes(endian, file) else { continue };
        while let Ok(Some(note)) = notes.next() {
            if note.name() == elf::ELF_NOTE_GNU && note.n_type(endian) == elf::NT_GNU_BUILD_ID {
                return Some(note.desc().to_owned());
            }
        }
    }
    None
}

/// A file of which nothing long is read at once: what its headers say of lengths is whoever wrote them's.
#[derive(Clone, Copy)]
struct Bounded<'a>(&'a ReadCache<File>);

impl<'a> ReadRef<'a> for Bounded<'a> {
    fn len(self) -> Result<u64, ()> {
        self.0.len()
    }

    fn read_bytes_at(self, offset: u64, size: u64) -> Result<&'a [u8], ()> {
        if size > HEADERS { Err(()) } else { self.0.read_bytes_at(offset, size) }
    }

    fn read_bytes_at_until(self, _: Range<u64>, _: u8) -> Result<&'a [u8], ()> {
        Err(())
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_is_known_by_its_build_id_and_another_file_by_its_bytes() {
        let own = std::env::current_exe().unwrap();
        let program = look(Path::new("/"), &own.to_string_lossy(), false).unwrap();
        assert!(program.content.as_ref().is_some_and(|c| c.starts_with("build-id ")), "{program:?}");
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("data"), b"abc").unwrap();
        let data = look(dir.path(), "/data", false).unwrap();
        let abc = "sha256 ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!((data.bytes, data.folder, data.content.as_deref()), (3, false, Some(abc)));
        assert_eq!(look(dir.path(), "/data", true).unwrap().content, None);
        assert!(look(dir.path(), "/", false).unwrap().folder);
        assert_eq!(look(dir.path(), "/none", false).unwrap_err().kind(), io::ErrorKind::NotFound);
    }
}

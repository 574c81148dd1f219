//! What tells whether a path means the same file on two machines.

use grid_types::wire::FileSeen;
use object::Object;
use object::read::ReadCache;
use sha2::{Digest, Sha256};
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// Files that carry no build id are compared by all of their bytes up to this size.
const HASHED: u64 = 64 << 20;

/// Looks at `path` below `root` (a process's own, `/proc/PID/root`, or `/`). `written`: somebody has it open for writing, so
/// that its bytes tell nothing.
///
/// # Errors
/// It is not there, or cannot be read.
pub fn look(root: &Path, path: &str, written: bool) -> io::Result<FileSeen> {
    let place = root.join(path.trim_start_matches('/'));
    let meta = std::fs::metadata(&place)?;
    let content = if written || !meta.is_file() { None } else { content(&place, meta.len())? };
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
fn content(path: &Path, bytes: u64) -> io::Result<Option<String>> {
    let cache = ReadCache::new(File::open(path)?);
    if let Ok(Some(id)) = object::File::parse(&cache).and_then(|file| file.build_id().map(|id| id.map(hex))) {
        return Ok(Some(format!("build-id {id}")));
    }
    if bytes > HASHED {
        return Ok(None);
    }
    let mut hash = Sha256::new();
    let (mut file, mut buffer) = (File::open(path)?, vec![0; 1 << 16]);
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(Some(format!("sha256 {}", hex(&hash.finalize())))),
            n => hash.update(&buffer[..n]),
        }
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

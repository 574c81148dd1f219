//! A file that the library has under a number, open once more: an open description of our own, for a lock.
//!
//! The library tells its attributes and its path, and not its descriptor. A file whose name is gone, or was moved in between,
//! is found among this process's descriptors: the library has one of each file that the worker's kernel remembers.

use fuse_backend_rs::api::filesystem::{Context, FileSystem};
use fuse_backend_rs::passthrough::PassthroughFs;
use nix::libc;
use std::fs::{File, Metadata};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

const DESCRIPTORS: &str = "/proc/self/fd";

/// Opens it for reading and writing, or for what its rights allow of that.
///
/// # Errors
/// It is not there, or may not be opened any more.
pub(crate) fn reopen(library: &PassthroughFs, node: u64) -> io::Result<File> {
    let (wanted, _) = library.getattr(&Context::default(), node, None)?;
    let is_it = |found: &Metadata| (found.dev(), found.ino()) == (wanted.st_dev, wanted.st_ino) && found.is_file();
    let by_name = library.readlinkat_proc_file(node).ok().and_then(|path| hold(&path, libc::O_NOFOLLOW, is_it));
    let held = by_name.or_else(|| among_descriptors(is_it)).ok_or(io::ErrorKind::NotFound)?;
    open_again(&held)
}

/// A descriptor that only holds the file: opening it so waits for nothing and does nothing.
fn hold(path: &Path, flags: i32, is_it: impl Fn(&Metadata) -> bool) -> Option<File> {
    let file = File::options().read(true).custom_flags(libc::O_PATH | flags).open(path).ok()?;
    file.metadata().is_ok_and(|found| is_it(&found)).then_some(file)
}

fn among_descriptors(is_it: impl Fn(&Metadata) -> bool + Copy) -> Option<File> {
    let mut entries = std::fs::read_dir(DESCRIPTORS).ok()?.flatten();
    entries.find_map(|entry| {
        let path: PathBuf = entry.path();
        std::fs::metadata(&path).is_ok_and(|found| is_it(&found)).then(|| hold(&path, 0, is_it)).flatten()
    })
}

fn open_again(held: &File) -> io::Result<File> {
    let path = format!("{DESCRIPTORS}/{}", held.as_raw_fd());
    let with = |read, write| File::options().read(read).write(write).open(&path);
    // A lock for reading needs the one, a lock for writing the other.
    let narrower = |e: &io::Error| matches!(e.raw_os_error(), Some(libc::EACCES | libc::EROFS | libc::ETXTBSY));
    match with(true, true) {
        Err(e) if narrower(&e) => with(true, false).or_else(|_| with(false, true)),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use fuse_backend_rs::passthrough::Config;
    use std::ffi::CString;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn a_file_is_found_by_its_name_and_without_one() {
        let dir = tempfile::tempdir().unwrap();
        let (path, moved) = (dir.path().join("file"), dir.path().join("moved"));
        std::fs::write(&path, "of the library").unwrap();
        let root_dir = dir.path().to_string_lossy().into_owned();
        let library = PassthroughFs::<()>::new(Config { root_dir, ..Config::default() }).unwrap();
        library.import().unwrap();
        let name = CString::new("file").unwrap();
        let node = library.lookup(&Context::default(), 1, &name).unwrap().inode;
        let content = || io::read_to_string(reopen(&library, node).unwrap()).unwrap();
        assert_eq!(content(), "of the library");
        std::fs::rename(&path, &moved).unwrap();
        std::fs::write(&path, "another").unwrap();
        assert_eq!(content(), "of the library");
        std::fs::remove_file(&moved).unwrap();
        assert_eq!(content(), "of the library");
        assert!(reopen(&library, 4711).is_err());
        let folder = library.lookup(&Context::default(), 1, &CString::new(".").unwrap()).unwrap().inode;
        assert!(reopen(&library, folder).is_err());
    }

    #[test]
    fn what_may_only_be_read_is_opened_for_that() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::set_permissions(file.path(), std::fs::Permissions::from_mode(0o444)).unwrap();
        let held = hold(file.path(), 0, |_| true).unwrap();
        assert!(open_again(&held).is_ok());
        let program = hold(Path::new("/proc/self/exe"), 0, |_| true).unwrap();
        let read_only = open_again(&program).unwrap();
        assert!(io::Write::write(&mut &read_only, b"x").is_err());
    }
}

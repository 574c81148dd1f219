//! What whoever asks may do with a file, by the kernel's word and without doing it: for dry runs, which refuse what the act
//! would refuse.

use nix::errno::Errno;
use nix::unistd::{AccessFlags, access};
use std::path::Path;

/// Names may be made and removed in this directory.
pub(super) fn write_in(dir: &Path) -> std::io::Result<()> {
    let dir = if dir.as_os_str().is_empty() { Path::new(".") } else { dir };
    if dir.exists() && !dir.is_dir() {
        return Err(Errno::ENOTDIR.into());
    }
    access(dir, AccessFlags::W_OK | AccessFlags::X_OK).map_err(Into::into)
}

/// This directory may be made where it is not there, and written in.
pub(super) fn make_and_write_in(dir: &Path) -> std::io::Result<()> {
    let dir = std::path::absolute(dir)?;
    if dir.exists() && !dir.is_dir() {
        return Err(Errno::EEXIST.into());
    }
    let there = dir.ancestors().find(|p| p.exists()).unwrap_or(Path::new("/"));
    write_in(there)
}

/// This file may be made: it is not there, and its directory may be written in.
pub(super) fn make(file: &Path) -> std::io::Result<()> {
    if file.symlink_metadata().is_ok() {
        return Err(Errno::EEXIST.into());
    }
    write_in(file.parent().unwrap_or(file))
}

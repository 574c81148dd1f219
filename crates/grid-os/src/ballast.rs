//! A file that holds room on a disk. A database that meets a full disk lets it go and can still write down how what it
//! has begun ends; nothing new is begun until the room is held again.

use std::fs::OpenOptions;
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// Enough for the rows of hundreds of handovers, and for what SQLite needs to open its files.
const BYTES: u64 = 1 << 20;

/// Held room beside a file.
#[derive(Clone, Debug)]
pub struct Ballast(PathBuf);

impl Ballast {
    /// The room held for `file`, in its directory.
    pub fn of(file: &Path) -> Self {
        Self(file.with_extension("reserve"))
    }

    /// Holds the room, where it is not held yet.
    ///
    /// # Errors
    /// Where the disk is full; nothing is left of the try then.
    pub fn hold(&self) -> io::Result<()> {
        let held = std::fs::metadata(&self.0).is_ok_and(|m| m.len() >= BYTES);
        if held {
            return Ok(());
        }
        let file = OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(&self.0)?;
        let allocated = nix::fcntl::posix_fallocate(&file, 0, BYTES as i64);
        allocated.map_err(|e| {
            let _ = self.let_go();
            e.into()
        })
    }

    /// Gives the room back to the disk. False where none was held.
    pub fn let_go(&self) -> bool {
        std::fs::remove_file(&self.0).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn room_is_held_once_and_let_go_once() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("ledger.db");
        let ballast = Ballast::of(&file);
        assert!(!ballast.let_go());
        ballast.hold().unwrap();
        ballast.hold().unwrap();
        assert_eq!(std::fs::metadata(dir.path().join("ledger.reserve")).unwrap().len(), BYTES);
        assert!(ballast.let_go() && !ballast.let_go());
    }
}

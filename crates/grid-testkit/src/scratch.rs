//! Temporary folders for tests. Owns their making and, when dropped, their removal.

use crate::procs::NOBODY;
use std::io;
use std::ops::Deref;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::Path;

/// A temporary folder, gone when dropped. As root, it belongs to the unprivileged user that test programs run as, and
/// the others may enter it: a plain temporary folder is closed to both.
#[derive(Debug)]
pub struct Scratch(tempfile::TempDir);

impl Scratch {
    /// Makes one.
    pub fn new() -> io::Result<Self> {
        Self::within(&std::env::temp_dir())
    }

    /// Makes one in this folder.
    pub fn within(parent: &Path) -> io::Result<Self> {
        Self::within_of(NOBODY, parent)
    }

    /// As [`Scratch::within`], and as root it belongs to this user.
    pub fn within_of(user: u32, parent: &Path) -> io::Result<Self> {
        let dir = tempfile::Builder::new().prefix("grid-test-").tempdir_in(parent)?;
        std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o755))?;
        if nix::unistd::geteuid().is_root() {
            chown(dir.path(), Some(user), Some(user))?;
        }
        Ok(Self(dir))
    }
}

impl Deref for Scratch {
    type Target = Path;
    fn deref(&self) -> &Path {
        self.0.path()
    }
}

//! May this user open that file? Asked of the kernel, as that user, not worked out from mode bits: access lists, read-only
//! mounts and security modules count too.
//!
//! Owns threads that live for one question and take the user's file-system identity (`setfsuid(2)`: with it the kernel
//! takes the capabilities that pass over permissions). Never opens a file for reading or writing, never changes one.
#![allow(unsafe_code)]

use crate::spawn::Owner;
use nix::errno::Errno;
use std::ffi::CString;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

/// To read.
pub const READ: i32 = libc::R_OK;
/// To write.
pub const WRITE: i32 = libc::W_OK;
/// To execute, or to enter a directory.
pub const EXECUTE: i32 = libc::X_OK;

/// Rights that an open file with these flags has used.
pub fn wanted_by(flags: u32) -> i32 {
    match flags as i32 & libc::O_ACCMODE {
        libc::O_WRONLY => WRITE,
        libc::O_RDWR => READ | WRITE,
        _ if flags as i32 & libc::O_PATH != 0 => 0,
        _ => READ,
    }
}

/// Runs `work` on a thread that meets files as this user does.
///
/// # Errors
/// Where the kernel does not let this process take that identity.
pub fn as_owner<T: Send>(owner: Owner, groups: &[u32], work: impl FnOnce() -> T + Send) -> io::Result<T> {
    std::thread::scope(|scope| {
        let asked = scope.spawn(|| become_it(owner, groups).map(|()| work()));
        asked.join().unwrap_or_else(|_| Err(io::Error::other("the look at a file's rights panicked")))
    })
}

/// The system calls themselves: the C library's would change every thread of the process.
fn become_it(owner: Owner, groups: &[u32]) -> io::Result<()> {
    let failed = |_| io::Error::last_os_error();
    // SAFETY: plain system calls that change only this thread's identity.
    unsafe {
        Errno::result(libc::syscall(libc::SYS_setgroups, groups.len(), groups.as_ptr())).map_err(failed)?;
        libc::syscall(libc::SYS_setfsgid, owner.gid);
        libc::syscall(libc::SYS_setfsuid, owner.uid);
        // Neither says whether it worked; a number that cannot be returns what it is now.
        let now = (libc::syscall(libc::SYS_setfsuid, -1), libc::syscall(libc::SYS_setfsgid, -1));
        if now == (i64::from(owner.uid), i64::from(owner.gid)) {
            Ok(())
        } else {
            Err(io::Error::from_raw_os_error(libc::EPERM))
        }
    }
}

/// Finds `path` below `root` as a process whose root that is would: links and `..` do not lead out of it, and the links
/// of `/proc` that lead anywhere are not followed.
pub fn find(root: BorrowedFd<'_>, path: &str) -> Result<OwnedFd, Errno> {
    use nix::fcntl::{OFlag, OpenHow, ResolveFlag, openat2};
    let how = OpenHow::new()
        .flags(OFlag::O_PATH | OFlag::O_CLOEXEC)
        .resolve(ResolveFlag::RESOLVE_IN_ROOT | ResolveFlag::RESOLVE_NO_MAGICLINKS);
    let path = if path.is_empty() { "." } else { path };
    openat2(root, path, how)
}

/// May this thread do that with the file?
pub fn allowed(file: BorrowedFd<'_>, want: i32) -> Result<(), Errno> {
    let flags = libc::AT_EMPTY_PATH | libc::AT_EACCESS;
    // SAFETY: plain system call on a live descriptor and a constant string.
    let result = unsafe { libc::syscall(libc::SYS_faccessat2, file.as_raw_fd(), c"".as_ptr(), want, flags) };
    Errno::result(result).map(drop)
}

/// A file, held without opening it.
pub fn hold(path: &str) -> io::Result<OwnedFd> {
    let path = CString::new(path)?;
    // SAFETY: plain system call on a live string; the descriptor is nobody else's.
    unsafe {
        let fd: RawFd = Errno::result(libc::open(path.as_ptr(), libc::O_PATH | libc::O_CLOEXEC))?;
        Ok(OwnedFd::from_raw_fd(fd))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsFd;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn a_file_is_met_as_its_user_would_meet_it() {
        if !nix::unistd::geteuid().is_root() {
            return println!("SKIPPED: needs root");
        }
        let dir = tempfile::tempdir().unwrap();
        std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
        let closed = dir.path().join("closed");
        std::fs::create_dir(&closed).unwrap();
        for (file, mode) in [("open", 0o644), ("secret", 0o600), ("closed/inside", 0o644)] {
            std::fs::write(dir.path().join(file), "").unwrap();
            std::fs::set_permissions(dir.path().join(file), std::fs::Permissions::from_mode(mode)).unwrap();
        }
        std::fs::set_permissions(&closed, std::fs::Permissions::from_mode(0o700)).unwrap();
        std::os::unix::fs::symlink("/secret", dir.path().join("link")).unwrap();
        let root = hold(&dir.path().to_string_lossy()).unwrap();
        let ask = |path: &str, want: i32| find(root.as_fd(), path).and_then(|file| allowed(file.as_fd(), want));
        let nobody = Owner { uid: 65534, gid: 65534 };
        let cases = [
            ("/open", READ, Ok(())),
            ("/open", WRITE, Err(Errno::EACCES)),
            ("/secret", READ, Err(Errno::EACCES)),
            ("/link", READ, Err(Errno::EACCES)),
            ("/closed/inside", READ, Err(Errno::EACCES)),
            ("/../../open", READ, Ok(())),
            ("/nothing", READ, Err(Errno::ENOENT)),
        ];
        for (path, want, answer) in cases {
            assert_eq!(as_owner(nobody, &[], || ask(path, want)).unwrap(), answer, "{path}");
        }
        assert_eq!(ask("/secret", READ), Ok(()), "the identity was the thread's alone");
    }
}

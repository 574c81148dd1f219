//! A process that cannot be confused with a later one of the same number: a descriptor for it.
#![allow(unsafe_code)]

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

/// Opened on a live process; readable when it has ended.
#[derive(Debug)]
pub struct PidFd(OwnedFd);

impl PidFd {
    /// Opens it. Fails with `ESRCH` where there is no such process.
    pub fn open(pid: i32) -> io::Result<Self> {
        // SAFETY: plain system call; a descriptor that it returns is ours alone.
        unsafe {
            let fd = libc::syscall(libc::SYS_pidfd_open, pid, 0);
            if fd < 0 { Err(io::Error::last_os_error()) } else { Ok(Self(OwnedFd::from_raw_fd(fd as i32))) }
        }
    }

    /// A duplicate of the descriptor that it has under this number, close-on-exec (pidfd_getfd(2)).
    pub fn duplicate(&self, number: i32) -> io::Result<OwnedFd> {
        // SAFETY: plain system call on a live descriptor; one that it returns is ours alone.
        unsafe {
            let fd = libc::syscall(libc::SYS_pidfd_getfd, self.0.as_raw_fd(), number, 0);
            if fd < 0 { Err(io::Error::last_os_error()) } else { Ok(OwnedFd::from_raw_fd(fd as i32)) }
        }
    }

    /// Sends a signal to exactly this process.
    pub fn signal(&self, signal: i32) -> io::Result<()> {
        // SAFETY: plain system call on a live descriptor.
        let result = unsafe {
            libc::syscall(
                libc::SYS_pidfd_send_signal,
                self.0.as_raw_fd(),
                signal,
                std::ptr::null::<libc::siginfo_t>(),
                0,
            )
        };
        if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
    }
}

impl AsFd for PidFd {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl AsRawFd for PidFd {
    fn as_raw_fd(&self) -> i32 {
        self.0.as_raw_fd()
    }
}

impl From<PidFd> for OwnedFd {
    fn from(fd: PidFd) -> OwnedFd {
        fd.0
    }
}

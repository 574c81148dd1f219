//! Becoming another program, for `grid run`: what its caller had stays (number, parent, terminal, standard streams), and what
//! would hinder a move later is left behind (other descriptors, io_uring).
//!
//! Owns the exec and the helper that outlives it. Decides nothing: what is started, and under which filter, is said.
//!
//! Invariant: the program that is started has no child that it did not make.
#![allow(unsafe_code)]

use crate::seccomp;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::os::unix::process::CommandExt;
use std::process::Command;

/// What a program is, beside its words, when it is started in place.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Launch {
    /// It finds no io_uring. Whoever may not install filters as they are gives up new privileges for it: set-user-ID
    /// programs that it starts get no rights.
    pub without_io_uring: bool,
    /// This descriptor stays open beside the standard ones.
    pub keep: Option<RawFd>,
}

/// Becomes `command`, which keeps standard input, output and error and no other descriptor than `keep`. Returns where that failed:
/// nothing was started then, but the filter may be installed, so that the caller can only end.
pub fn become_program(command: &mut Command, launch: Launch) -> io::Error {
    // The standard library would unblock all signals.
    let mask = nix::sys::signal::SigSet::thread_get_mask();
    let prepare = move || {
        if launch.without_io_uring {
            install_filter()?;
        }
        mask.as_ref().ok().map_or(Ok(()), |mask| mask.thread_set_mask())?;
        // SAFETY: marks all above the standard ones close-on-exec.
        let marked = unsafe { libc::syscall(libc::SYS_close_range, 3u32, u32::MAX, libc::CLOSE_RANGE_CLOEXEC) };
        // SAFETY: plain system call on a number.
        if marked < 0 || launch.keep.is_some_and(|fd| unsafe { libc::fcntl(fd, libc::F_SETFD, 0) } < 0) {
            return Err(io::Error::last_os_error());
        }
        Ok(())
    };
    // SAFETY: system calls alone, on memory that is there.
    unsafe { command.pre_exec(prepare) };
    command.exec()
}

/// Without CAP_SYS_ADMIN a filter takes `no_new_privs`.
fn install_filter() -> io::Result<()> {
    match seccomp::without_io_uring() {
        Err(e) if e.raw_os_error() == Some(libc::EACCES) => {
            nix::sys::prctl::set_no_new_privs()?;
            seccomp::without_io_uring()
        }
        other => other,
    }
}

/// Starts a program that is nobody's child here and in a session of its own. Its standard input comes to its end when the
/// caller has become another program, or has ended: the other end is what is returned.
///
/// # Errors
/// What of it failed; then nothing was started.
pub fn start_watcher(command: &mut Command) -> io::Result<OwnedFd> {
    let (theirs, ours) = nix::unistd::pipe2(nix::fcntl::OFlag::O_CLOEXEC)?;
    command.stdin(theirs);
    let leave = || {
        // SAFETY: the single thread of a forked child; the one in between ends without running anybody's destructors.
        unsafe {
            match libc::fork() {
                -1 => Err(io::Error::last_os_error()),
                0 if libc::setsid() < 0 => Err(io::Error::last_os_error()),
                0 => Ok(()),
                _ => libc::_exit(0),
            }
        }
    };
    // SAFETY: system calls alone.
    unsafe { command.pre_exec(leave) };
    let mut between = command.spawn()?;
    between.wait()?;
    Ok(ours)
}

/// Tells the watcher of [`start_watcher`] that nothing was started.
pub fn call_off(watcher: &OwnedFd) {
    // SAFETY: writes one byte of a constant to a live descriptor. A watcher that has ended needs no word.
    unsafe { libc::write(watcher.as_raw_fd(), c"!".as_ptr().cast(), 1) };
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;

    #[test]
    fn a_program_that_is_not_there_is_an_error_of_the_caller() {
        let error = become_program(&mut Command::new("/nonexistent/program"), Launch::default());
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
    }

    #[test]
    fn a_watcher_is_no_child_and_hears_what_became_of_its_starter() {
        let (mut said, tell) = io::pipe().unwrap();
        let mut command = Command::new("/bin/sh");
        command.args(["-c", "cat; ps -o ppid= -p $$"]).stdout(tell);
        let watcher = start_watcher(&mut command).unwrap();
        drop(command);
        call_off(&watcher);
        drop(watcher);
        let mut text = String::new();
        said.read_to_string(&mut text).unwrap();
        let parent: u32 = text.strip_prefix('!').unwrap().trim().parse().unwrap();
        assert_ne!(parent, std::process::id());
    }
}

//! Locks on files, each of an open description's (`F_OFD_SETLK`, `flock`), and waits for them that another thread can end.
//!
//! A description's lock ends with the description, whichever thread took it, and two descriptions of one process exclude each
//! other: so one process can hold locks for many.
#![allow(unsafe_code)]

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, fcntl};
use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction};
use rustix::fs::{FlockOperation, flock};
use std::io;
use std::os::fd::AsFd;

/// What ends a wait; nothing else in a process that uses this may use it.
const WAKES: Signal = Signal::SIGUSR1;
/// The last byte that a file can have: a lock up to there is one up to the file's end, wherever that will be.
pub const LAST: u64 = i64::MAX as u64;

/// How a part of a file is locked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Mode {
    /// With others who read.
    Shared,
    /// Alone.
    Exclusive,
}

/// Bytes of a file, both ends among them; up to [`LAST`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Span {
    /// The first.
    pub start: u64,
    /// The last.
    pub end: u64,
}

impl Span {
    /// The whole file.
    pub const WHOLE: Self = Self { start: 0, end: LAST };
}

fn raw(mode: Option<Mode>, span: Span) -> libc::flock {
    let l_type = match mode {
        None => libc::F_UNLCK,
        Some(Mode::Shared) => libc::F_RDLCK,
        Some(Mode::Exclusive) => libc::F_WRLCK,
    };
    let l_len = if span.end >= LAST { 0 } else { span.end as i64 - span.start as i64 + 1 };
    libc::flock {
        l_type: l_type as libc::c_short,
        l_whence: libc::SEEK_SET as libc::c_short,
        l_start: span.start as i64,
        l_len,
        l_pid: 0,
    }
}

/// Locks bytes for this description, or lets go of them where no mode is given. Does not wait.
///
/// # Errors
/// `WouldBlock` where another has them.
pub fn set(file: &impl AsFd, mode: Option<Mode>, span: Span) -> io::Result<()> {
    fcntl(file.as_fd(), FcntlArg::F_OFD_SETLK(&raw(mode, span)))?;
    Ok(())
}

/// Locks bytes for this description, and waits for them.
///
/// # Errors
/// `Interrupted` by [`wake`].
pub fn wait(file: &impl AsFd, mode: Mode, span: Span) -> io::Result<()> {
    fcntl(file.as_fd(), FcntlArg::F_OFD_SETLKW(&raw(Some(mode), span)))?;
    Ok(())
}

/// A lock in the way of this one, where there is one.
///
/// # Errors
/// The system call.
pub fn in_the_way(file: &impl AsFd, mode: Mode, span: Span) -> io::Result<Option<(Mode, Span)>> {
    let mut asked = raw(Some(mode), span);
    fcntl(file.as_fd(), FcntlArg::F_OFD_GETLK(&mut asked))?;
    let mode = match i32::from(asked.l_type) {
        libc::F_UNLCK => return Ok(None),
        libc::F_RDLCK => Mode::Shared,
        _ => Mode::Exclusive,
    };
    let start = u64::try_from(asked.l_start).unwrap_or(0);
    let end = if asked.l_len == 0 { LAST } else { (asked.l_start + asked.l_len - 1) as u64 };
    Ok(Some((mode, Span { start, end })))
}

/// `flock(2)`: locks the file for this description, or lets go of it.
///
/// # Errors
/// `WouldBlock` where another has it and `wait` is not asked for; `Interrupted` by [`wake`].
pub fn set_whole(file: &impl AsFd, mode: Option<Mode>, wait: bool) -> io::Result<()> {
    let operation = match (mode, wait) {
        (None, _) => FlockOperation::Unlock,
        (Some(Mode::Shared), true) => FlockOperation::LockShared,
        (Some(Mode::Shared), false) => FlockOperation::NonBlockingLockShared,
        (Some(Mode::Exclusive), true) => FlockOperation::LockExclusive,
        (Some(Mode::Exclusive), false) => FlockOperation::NonBlockingLockExclusive,
    };
    Ok(flock(file.as_fd(), operation)?)
}

extern "C" fn nothing(_: libc::c_int) {}

/// Makes waits of this thread such that [`wake`] ends them. Returns its number.
///
/// # Errors
/// The system call.
pub fn can_be_woken() -> io::Result<i32> {
    // Without SA_RESTART: a wait that is woken returns.
    let action = SigAction::new(SigHandler::Handler(nothing), SaFlags::empty(), SigSet::empty());
    // SAFETY: the handler does nothing, so it may run anywhere.
    unsafe { sigaction(WAKES, &action) }?;
    let mut woken = SigSet::empty();
    woken.add(WAKES);
    woken.thread_unblock()?;
    Ok(nix::unistd::gettid().as_raw())
}

/// Ends a wait of that thread of this process. One that has not begun yet is not ended: who wakes does it until it is heard.
pub fn wake(thread: i32) {
    // SAFETY: plain system call; the signal's handler does nothing.
    let _ = Errno::result(unsafe { libc::syscall(libc::SYS_tgkill, libc::getpid(), thread, WAKES as libc::c_int) });
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::File;
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::sync::mpsc;

    fn two() -> (tempfile::NamedTempFile, File, File) {
        let file = tempfile::NamedTempFile::new().unwrap();
        let open = || File::options().read(true).write(true).open(file.path()).unwrap();
        let (one, other) = (open(), open());
        (file, one, other)
    }

    #[test]
    fn two_descriptions_exclude_each_other_and_a_lock_ends_with_its_own() {
        let (_file, one, other) = two();
        let (head, all) = (Span { start: 0, end: 9 }, Span::WHOLE);
        set(&one, Some(Mode::Exclusive), head).unwrap();
        assert_eq!(set(&other, Some(Mode::Shared), all).unwrap_err().kind(), io::ErrorKind::WouldBlock);
        assert_eq!(in_the_way(&other, Mode::Shared, all).unwrap(), Some((Mode::Exclusive, head)));
        set(&other, Some(Mode::Exclusive), Span { start: 10, end: LAST }).unwrap();
        set(&one, None, all).unwrap();
        set(&other, Some(Mode::Shared), all).unwrap();
        assert_eq!(in_the_way(&one, Mode::Shared, all).unwrap(), None);
        set_whole(&one, Some(Mode::Exclusive), false).unwrap();
        assert_eq!(
            set_whole(&other, Some(Mode::Shared), false).unwrap_err().kind(),
            io::ErrorKind::WouldBlock,
            "flock is another kind"
        );
        drop(one);
        set_whole(&other, Some(Mode::Shared), false).unwrap();
    }

    #[test]
    fn a_wait_ends_where_it_is_woken() {
        let (_file, one, other) = two();
        set(&one, Some(Mode::Exclusive), Span::WHOLE).unwrap();
        let (thread, began) = mpsc::channel();
        let ended = AtomicBool::new(false);
        std::thread::scope(|threads| {
            let waits = threads.spawn(|| {
                thread.send(can_be_woken().unwrap()).unwrap();
                let woken = wait(&other, Mode::Exclusive, Span::WHOLE).unwrap_err();
                ended.store(true, Ordering::Relaxed);
                woken
            });
            let number = began.recv().unwrap();
            while !ended.load(Ordering::Relaxed) {
                wake(number);
                std::thread::yield_now();
            }
            assert_eq!(waits.join().unwrap().kind(), io::ErrorKind::Interrupted);
        });
    }
}

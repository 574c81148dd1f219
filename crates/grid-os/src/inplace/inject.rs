//! The system calls that one thread is made to do: keep descriptors, disarm timers, execute. Owns their order and how
//! their results are judged; decides nothing else.
//!
//! ```text
//!  trap ─▶ mask empty: what is pending comes out and is taken ─▶ fcntl, setitimer: entry, exit, each
//!       ─▶ execve: entry ─▶ the new program's mask ─▶ the other threads end ─▶ loaded ─▶ let go
//!                                                  └▶ exit: an error, and the end
//! ```

use super::memory::{Layout, Memory};
use super::registers::{self, Outcome};
use super::trace::{Event, Tracees};
use super::{InPlaceError, Replaced, Replacement, Step};
use nix::errno::Errno;
use std::ffi::CString;
use std::fs;
use std::io;
use std::os::fd::RawFd;
use std::os::unix::ffi::OsStrExt;

/// From the traps to the new program.
pub(super) fn replace(
    tracees: &mut Tracees,
    replacement: &Replacement<'_>,
    note: &mut dyn FnMut(Step),
) -> Result<Replaced, InPlaceError> {
    let pid = tracees.pid;
    if !registers::is_64_bit(tracees.tid).map_err(tracees.control("read the registers of"))? {
        return Err(InPlaceError::NotSixtyFour { pid });
    }
    tracees.block_signals(false)?;
    let (instruction, layout) = write_strings(tracees, replacement)?;
    for fd in replacement.keep {
        keep(tracees, instruction, *fd)?;
    }
    disarm_timers(tracees, instruction, layout.no_timer)?;
    note(Step::Written);
    execute(tracees, replacement, instruction, &layout, note)?;
    note(Step::Executed);
    tracees.let_go()?;
    Ok(Replaced { swallowed: std::mem::take(&mut tracees.swallowed), stopped: tracees.stopped })
}

/// Where the calls are made from, and what they point at, which is in the process's memory then.
fn write_strings(tracees: &Tracees, replacement: &Replacement<'_>) -> Result<(u64, Layout), InPlaceError> {
    let pid = tracees.pid;
    let failed = |action| move |source| InPlaceError::Memory { action, pid, source };
    let not_a_program = || InPlaceError::Program(replacement.program.to_owned());
    let program = CString::new(replacement.program.as_os_str().as_bytes()).map_err(|_| not_a_program())?;
    if !replacement.program.is_absolute() {
        return Err(not_a_program());
    }
    let memory = Memory::open(tracees.tid).map_err(failed("open"))?;
    let instruction = memory.instruction().ok_or(InPlaceError::NoInstruction { pid })?;
    let needed = Layout::size(&program, replacement.argv, replacement.env);
    let base = memory.room(needed).ok_or(InPlaceError::NoRoom { pid, needed })?;
    let layout = Layout::at(base, &program, replacement.argv, replacement.env);
    memory.write(base, &layout.bytes).map_err(failed("write"))?;
    if let Some(critical_section) = tracees.undivert() {
        memory.write(critical_section, &[0; 8]).map_err(failed("write"))?;
    }
    Ok((instruction, layout))
}

/// Takes close-on-exec from a descriptor that has it.
fn keep(tracees: &mut Tracees, instruction: u64, fd: RawFd) -> Result<(), InPlaceError> {
    let pid = tracees.pid;
    // The thread's own: one may have a table of descriptors for itself.
    let info = fs::read_to_string(format!("/proc/{pid}/task/{}/fdinfo/{fd}", tracees.tid));
    let info = info.map_err(|source| InPlaceError::Keep { fd, pid, source })?;
    let flags = info.lines().find_map(|l| i32::from_str_radix(l.strip_prefix("flags:")?.trim(), 8).ok());
    if flags.unwrap_or(libc::O_CLOEXEC) & libc::O_CLOEXEC == 0 {
        return Ok(());
    }
    let set = [fd as u64, libc::F_SETFD as u64, 0];
    match call(tracees, instruction, libc::SYS_fcntl, set)? {
        Ok(_) => Ok(()),
        Err(e) => Err(InPlaceError::Keep { fd, pid, source: e.into() }),
    }
}

/// Interval timers survive an exec, and the old program's alarm would end the new one.
fn disarm_timers(tracees: &mut Tracees, instruction: u64, no_timer: u64) -> Result<(), InPlaceError> {
    for timer in [libc::ITIMER_REAL, libc::ITIMER_VIRTUAL, libc::ITIMER_PROF] {
        let set = [timer as u64, no_timer, 0];
        call(tracees, instruction, libc::SYS_setitimer, set)?.map_err(|e| InPlaceError::Call {
            call: "setitimer",
            pid: tracees.pid,
            source: e.into(),
        })?;
    }
    Ok(())
}

/// One call from entry to exit.
fn call(
    tracees: &mut Tracees,
    instruction: u64,
    number: i64,
    arguments: [u64; 3],
) -> Result<Result<i64, Errno>, InPlaceError> {
    let put = registers::put_call(tracees.tid, instruction, number, arguments);
    put.map_err(tracees.control("set the registers of"))?;
    loop {
        for _ in ["entry", "exit"] {
            expect_call(tracees.go_on(instruction)?, tracees.pid)?;
        }
        match registers::outcome(tracees.tid).map_err(tracees.control("read the registers of"))? {
            Outcome::Done(result) => return Ok(Ok(result)),
            Outcome::Failed(e) => return Ok(Err(e)),
            Outcome::Again => {}
        }
    }
}

/// An exec that nobody asked for cannot be: the thread makes the calls it is given.
fn expect_call(event: Event, pid: i32) -> Result<(), InPlaceError> {
    let odd = || InPlaceError::Wait { pid, source: io::Error::other("it executed another program by itself") };
    if event == Event::Call { Ok(()) } else { Err(odd()) }
}

/// The exec, to the moment when the new program is loaded. Where the kernel refuses it, the old program is stopped at the
/// exit of the call, and stays there until it is ended.
fn execute(
    tracees: &mut Tracees,
    replacement: &Replacement<'_>,
    instruction: u64,
    layout: &Layout,
    note: &mut dyn FnMut(Step),
) -> Result<(), InPlaceError> {
    let arguments = [layout.program, layout.argv, layout.envp];
    let put = registers::put_call(tracees.tid, instruction, libc::SYS_execve, arguments);
    put.map_err(tracees.control("set the registers of"))?;
    loop {
        expect_call(tracees.go_on(instruction)?, tracees.pid)?;
        // What comes from here on is for the new program.
        tracees.block_signals(replacement.hold_signals)?;
        note(Step::Entered);
        if tracees.go_on(instruction)? == Event::Executed {
            return Ok(());
        }
        let source = match registers::outcome(tracees.tid).map_err(tracees.control("read the registers of"))? {
            Outcome::Again => continue,
            Outcome::Failed(e) => e.into(),
            Outcome::Done(result) => io::Error::other(format!("it returned {result}")),
        };
        let (program, pid) = (replacement.program.to_owned(), tracees.pid);
        return Err(InPlaceError::Exec { program, pid, source });
    }
}

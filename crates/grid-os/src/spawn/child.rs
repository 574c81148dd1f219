//! What runs between fork and exec, in the child: raw system calls on data that was prepared before.

use super::report::{
    Failed, STEP_CLOCKS, STEP_CWD, STEP_DESCRIPTORS, STEP_EXEC, STEP_JOIN, STEP_OWNER, STEP_SESSION, STEP_UNSHARE,
    report,
};
use super::{AWAY, Keeper, Owner, Place, Prepared};
use std::ffi::{CStr, CString};
use std::os::fd::{AsRawFd, OwnedFd, RawFd};

/// So many descriptors are given at most, standard ones included.
const MOST: usize = 64;

#[repr(C)]
struct CapHeader {
    version: u32,
    pid: i32,
}

#[repr(C)]
#[derive(Clone, Copy)]
struct CapData {
    effective: u32,
    permitted: u32,
    inheritable: u32,
}

fn check(result: libc::c_long) -> Result<libc::c_long, i32> {
    if result < 0 {
        // SAFETY: reads this thread's errno.
        Err(unsafe { *libc::__errno_location() })
    } else {
        Ok(result)
    }
}

/// Runs in the forked child. Returns what failed; does not return where the exec succeeds.
pub(super) fn child(place: &Place<'_>, prepared: &Prepared) -> Failed {
    match child_steps(place, prepared) {
        Ok(never) => match never {},
        Err(failed) => failed,
    }
}

enum Never {}

/// Says at which step an errno came.
fn at<T>(step: i32, result: Result<T, i32>) -> Result<T, Failed> {
    result.map_err(|errno| (errno, step))
}

fn child_steps(place: &Place<'_>, prepared: &Prepared) -> Result<Never, Failed> {
    for (index, file) in (0..).zip(&prepared.procs) {
        at(index, write_word(file, c"0"))?;
    }
    // Before another mount namespace is joined: its /proc does not know us.
    if let Some(offsets) = &prepared.clocks {
        at(STEP_CLOCKS, own_clocks(offsets))?;
    }
    if place.killable {
        // Where it is not protected there is nothing to take back.
        let _ = write_word(c"/proc/self/oom_score_adj", c"0");
    }
    namespaces(place, prepared)?;
    if place.new_session {
        // SAFETY: plain system call.
        at(STEP_SESSION, check(unsafe { libc::setsid() }.into()))?;
    }
    if let Some(keeper) = &place.session {
        at(STEP_SESSION, in_session(keeper, prepared))?;
    }
    let late = late(place);
    if let Some((pidfd, namespaces)) = place.join.filter(|(_, namespaces)| namespaces & late != 0) {
        // SAFETY: plain system call on a live descriptor.
        at(STEP_JOIN, check(unsafe { libc::setns(pidfd.as_raw_fd(), namespaces & late) }.into()))?;
    }
    at(STEP_DESCRIPTORS, descriptors(place, prepared))?;
    at(STEP_CWD, enter(prepared))?;
    // While this is root still, who needs not give up new privileges for it.
    if place.filtered {
        at(STEP_OWNER, crate::seccomp::without_io_uring().map_err(|e| e.raw_os_error().unwrap_or(libc::EINVAL)))?;
    }
    if let Some(owner) = place.become_owner {
        at(STEP_OWNER, become_owner(owner, &place.groups, place.capabilities))?;
    }
    reset_signals();
    at(STEP_EXEC, exec(prepared.held.as_ref().map(|(program, _)| program), &prepared.argv, &prepared.envp))
}

/// What is joined last, where the mounts are another machine's.
fn late(place: &Place<'_>) -> i32 {
    if place.carried { libc::CLONE_NEWNS } else { 0 }
}

fn own_clocks(offsets: &CStr) -> Result<(), i32> {
    // SAFETY: plain system call.
    check(unsafe { libc::unshare(libc::CLONE_NEWTIME) }.into())?;
    write_word(c"/proc/self/timens_offsets", offsets)
}

/// Joins and makes namespaces. Only children are in a PID namespace that is joined or made: it goes on in one, and leaves.
fn namespaces(place: &Place<'_>, prepared: &Prepared) -> Result<(), Failed> {
    let mut new_pid_namespace = place.unshare & libc::CLONE_NEWPID != 0;
    if let Some((pidfd, namespaces)) = &place.join {
        // SAFETY: plain system call on a live descriptor.
        at(STEP_JOIN, check(unsafe { libc::setns(pidfd.as_raw_fd(), namespaces & !late(place)) }.into()))?;
        new_pid_namespace |= namespaces & libc::CLONE_NEWPID != 0;
    }
    if place.unshare != 0 {
        // SAFETY: plain system call.
        at(STEP_UNSHARE, check(unsafe { libc::unshare(place.unshare) }.into()))?;
    }
    if new_pid_namespace {
        // SAFETY: still the single thread of a forked child.
        match at(STEP_UNSHARE, check(unsafe { libc::fork() }.into()))? {
            0 => {}
            pid => {
                report(prepared.report.as_raw_fd(), pid as i32, 0, 0);
                // SAFETY: ends the intermediate.
                unsafe { libc::_exit(0) }
            }
        }
    }
    Ok(())
}

/// Enters the working directory.
fn enter(prepared: &Prepared) -> Result<(), i32> {
    // SAFETY: plain system calls on a live descriptor and a prepared string.
    unsafe {
        match (&prepared.held, &prepared.cwd) {
            (Some((_, Some(cwd))), _) => check(libc::fchdir(cwd.as_raw_fd()).into())?,
            (_, Some(cwd)) => check(libc::chdir(cwd.as_ptr()).into())?,
            _ => 0,
        };
    }
    Ok(())
}

/// Leads a session of the terminal, and goes on in a child that has it in the foreground. Does not return in the leader.
fn in_session(keeper: &Keeper<'_>, prepared: &Prepared) -> Result<(), i32> {
    let slave = keeper.slave.as_raw_fd();
    // SAFETY: plain system calls on live descriptors, in the single thread of a forked child. Only who is in the
    // foreground may say who is, unless SIGTTOU is ignored.
    unsafe {
        check(libc::setsid().into())?;
        check(libc::ioctl(slave, libc::TIOCSCTTY, 0).into())?;
        libc::signal(libc::SIGTTOU, libc::SIG_IGN);
        if check(libc::fork().into())? == 0 {
            check(libc::setpgid(0, 0).into())?;
            check(libc::tcsetpgrp(slave, libc::getpid()).into())?;
            libc::signal(libc::SIGTTOU, libc::SIG_DFL);
            return Ok(());
        }
        for group in &prepared.keeper_procs {
            libc::write(group.as_raw_fd(), c"0".as_ptr().cast(), 1);
        }
        for fd in 0..3 {
            libc::dup2(prepared.null.as_raw_fd(), fd);
        }
        libc::syscall(libc::SYS_close_range, 3u32, u32::MAX, libc::CLOSE_RANGE_CLOEXEC);
        let _ = exec(None, &prepared.keeper, &[]);
        libc::_exit(127)
    }
}

/// One write to a file of the kernel's; `0` to a `cgroup.procs` means oneself.
fn write_word(file: &CStr, word: &CStr) -> Result<(), i32> {
    // SAFETY: opens, writes to and closes a file; both strings were prepared.
    unsafe {
        let fd = check(libc::open(file.as_ptr(), libc::O_WRONLY | libc::O_CLOEXEC).into())? as i32;
        let written = check(libc::write(fd, word.as_ptr().cast(), word.count_bytes()) as libc::c_long);
        libc::close(fd);
        written.map(|_| ())
    }
}

/// Moves the inherited descriptors to their numbers. All others are close-on-exec or closed here.
fn descriptors(place: &Place<'_>, prepared: &Prepared) -> Result<(), i32> {
    if place.inherit.len() + place.stdio.len() > MOST {
        return Err(libc::E2BIG);
    }
    // First out of the way of every number that is to be given, then to its number.
    let null = prepared.null.as_raw_fd();
    let mut moved = [0 as RawFd; MOST];
    let stdio = place.stdio.iter().map(|fd| fd.map_or(null, |f| f.as_raw_fd()));
    let wanted = stdio.zip(0..).chain(place.inherit.iter().map(|(fd, n)| (fd.as_raw_fd(), *n)));
    let mut count = 0;
    for (slot, (from, _)) in moved.iter_mut().zip(wanted.clone()) {
        // SAFETY: plain system call on live descriptors.
        *slot = check(unsafe { libc::fcntl(from, libc::F_DUPFD_CLOEXEC, AWAY) }.into())? as RawFd;
        count += 1;
    }
    let mut highest = 2;
    for (slot, (_, to)) in moved[..count].iter().zip(wanted) {
        // SAFETY: dup2 clears close-on-exec on the new number.
        check(unsafe { libc::dup2(*slot, to) }.into())?;
        highest = highest.max(to);
    }
    // SAFETY: marks everything above the given numbers close-on-exec.
    unsafe {
        libc::syscall(libc::SYS_close_range, (highest + 1) as u32, u32::MAX, libc::CLOSE_RANGE_CLOEXEC);
    }
    Ok(())
}

fn become_owner(owner: Owner, groups: &[u32], capabilities: &[u32]) -> Result<(), i32> {
    // SAFETY: plain system calls that change only this process's credentials.
    unsafe {
        check(libc::prctl(libc::PR_SET_KEEPCAPS, 1, 0, 0, 0).into())?;
        check(libc::setgroups(groups.len(), groups.as_ptr()).into())?;
        check(libc::setresgid(owner.gid, owner.gid, owner.gid).into())?;
        check(libc::setresuid(owner.uid, owner.uid, owner.uid).into())?;
        let header = CapHeader { version: 0x2008_0522, pid: 0 };
        let mut data = [CapData { effective: 0, permitted: 0, inheritable: 0 }; 2];
        for cap in capabilities {
            let word = &mut data[(cap / 32) as usize];
            let bit = 1u32 << (cap % 32);
            word.effective |= bit;
            word.permitted |= bit;
            word.inheritable |= bit;
        }
        check(libc::syscall(libc::SYS_capset, &header, data.as_ptr()))?;
        for cap in capabilities {
            check(libc::prctl(libc::PR_CAP_AMBIENT, libc::PR_CAP_AMBIENT_RAISE, *cap as libc::c_ulong, 0, 0).into())?;
        }
    }
    Ok(())
}

/// The runtime ignores SIGPIPE and may block signals; a program that we start gets the defaults.
fn reset_signals() {
    // SAFETY: plain system calls on a local set.
    unsafe {
        libc::signal(libc::SIGPIPE, libc::SIG_DFL);
        let mut none: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&mut none);
        libc::sigprocmask(libc::SIG_SETMASK, &none, std::ptr::null_mut());
    }
}

fn exec(program: Option<&OwnedFd>, words: &[CString], environment: &[CString]) -> Result<Never, i32> {
    const MAX: usize = 64;
    let mut argv = [std::ptr::null::<libc::c_char>(); MAX];
    let mut envp = [std::ptr::null::<libc::c_char>(); MAX];
    if words.len() >= MAX || environment.len() >= MAX {
        return Err(libc::E2BIG);
    }
    for (slot, text) in argv.iter_mut().zip(words) {
        *slot = text.as_ptr();
    }
    for (slot, text) in envp.iter_mut().zip(environment) {
        *slot = text.as_ptr();
    }
    // SAFETY: NUL-terminated arrays of NUL-terminated strings that outlive the call.
    unsafe {
        match program {
            Some(held) => libc::syscall(
                libc::SYS_execveat,
                held.as_raw_fd(),
                c"".as_ptr(),
                argv.as_ptr(),
                envp.as_ptr(),
                libc::AT_EMPTY_PATH,
            ),
            None => libc::execve(argv[0], argv.as_ptr(), envp.as_ptr()).into(),
        }
    };
    Err(check(-1).err().unwrap_or(libc::ENOEXEC))
}

//! Starting a program in a place: control groups, namespaces, an owner's identity with few capabilities, and only
//! the descriptors it should have.
//!
//! The only home of `fork` in grid, beside the helper of `launch.rs`. What runs between fork and exec is async-signal-safe: raw system calls on data
//! that was prepared before.
#![allow(unsafe_code)]

use std::ffi::{CStr, CString};
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::path::{Path, PathBuf};

/// `CAP_SYS_PTRACE` and `CAP_CHECKPOINT_RESTORE`: all that a dump as the owner needs.
pub const DUMP_CAPS: &[u32] = &[19, 40];
/// With `CAP_SYS_ADMIN`, without which nobody reads a filter of system calls, or suspends it to reach into its process.
pub const DUMP_FILTERED_CAPS: &[u32] = &[19, 21, 40];
/// With these a restore as the owner works, too. `CAP_SETPCAP` trims the bounding set (CRIU trims it anew, also where
/// it is trimmed already); it cannot add a capability to what is permitted.
pub const RESTORE_CAPS: &[u32] = &[8, 19, 40];

/// Who the program runs as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Owner {
    /// User.
    pub uid: u32,
    /// Group.
    pub gid: u32,
}

/// Where and as whom a program is started.
#[derive(Debug, Default)]
pub struct Place<'a> {
    /// `cgroup.procs` files to join before anything else.
    pub cgroup_procs: Vec<PathBuf>,
    /// Join these namespaces of another process (`CLONE_NEW*` bits), through its pidfd.
    pub join: Option<(BorrowedFd<'a>, i32)>,
    /// The mounts that are joined show another machine's files: the program and the working directory are this machine's
    /// all the same, and whoever leads the session of a terminal stays outside.
    pub carried: bool,
    /// Make these namespaces anew (`CLONE_NEW*` bits).
    pub unshare: i32,
    /// Become this owner and keep only `capabilities`.
    pub become_owner: Option<Owner>,
    /// Supplementary groups of the owner that is become.
    pub groups: Vec<u32>,
    /// Capabilities that the owner keeps, also over an exec.
    pub capabilities: &'static [u32],
    /// Be under the filter of `grid run`.
    pub filtered: bool,
    /// Live in a time namespace of one's own with these offsets.
    pub clocks: Option<Clocks>,
    /// The kernel's killer may choose it as any other, also where this process is kept from that.
    pub killable: bool,
    /// Working directory, entered while still root and within the namespaces that were joined.
    pub cwd: Option<PathBuf>,
    /// Lead a new session.
    pub new_session: bool,
    /// Belong to a session of this terminal instead, which a process that stays leads.
    pub session: Option<Keeper<'a>>,
    /// Descriptors that the program inherits, each under the number it is given.
    pub inherit: Vec<(BorrowedFd<'a>, RawFd)>,
    /// Standard input, output and error; none = `/dev/null`.
    pub stdio: [Option<BorrowedFd<'a>>; 3],
}

/// A process that leads the session of a terminal and stays, so that the session outlives the program that is started in
/// it: the kernel hangs up the session of a leader that ends.
#[derive(Clone, Debug)]
pub struct Keeper<'a> {
    /// The terminal.
    pub slave: BorrowedFd<'a>,
    /// What the leader runs.
    pub argv: Vec<String>,
    /// `cgroup.procs` files of the leader's groups.
    pub cgroup_procs: Vec<PathBuf>,
}

/// Offsets of a time namespace against this one, seconds and nanoseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Clocks {
    /// Of `CLOCK_MONOTONIC`.
    pub monotonic: (i64, u32),
    /// Of `CLOCK_BOOTTIME`.
    pub boottime: (i64, u32),
}

impl Clocks {
    /// As `/proc/PID/timens_offsets` takes them.
    fn text(self) -> String {
        let ((ms, mn), (bs, bn)) = (self.monotonic, self.boottime);
        format!("monotonic {ms} {mn}\nboottime {bs} {bn}\n")
    }
}

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

/// Everything that the child needs, prepared before the fork.
struct Prepared {
    argv: Vec<CString>,
    envp: Vec<CString>,
    procs: Vec<CString>,
    clocks: Option<CString>,
    cwd: Option<CString>,
    /// Both held, where the mounts are another machine's.
    held: Option<(OwnedFd, Option<OwnedFd>)>,
    keeper: Vec<CString>,
    /// Opened before other mounts are joined, to be written to behind that.
    keeper_procs: Vec<OwnedFd>,
    null: OwnedFd,
    report: OwnedFd,
}

/// A program that was started.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Spawned {
    /// Its number as the caller sees it.
    pub pid: i32,
    /// It is a child of the caller, who must reap it. One that starts in another PID namespace is not: its pid 1 reaps
    /// it, and a pidfd tells its end.
    pub child: bool,
}

impl Spawned {
    /// Waits for the end of a child: the code it ended with, none where a signal ended it or it is no child.
    pub fn exit_code(self) -> Option<i32> {
        use nix::sys::wait::{WaitStatus, waitpid};
        let pid = nix::unistd::Pid::from_raw(self.pid);
        loop {
            match waitpid(pid, None) {
                Ok(WaitStatus::Exited(_, code)) => return Some(code),
                Err(nix::errno::Errno::EINTR) => {}
                _ => return None,
            }
        }
    }

    /// Waits for the end of a child; returns at once for what is not one.
    pub fn reap(self) {
        if self.child {
            let pid = nix::unistd::Pid::from_raw(self.pid);
            while nix::sys::wait::waitpid(pid, None) == Err(nix::errno::Errno::EINTR) {}
        }
    }
}

/// Starts `argv` in `place` with exactly the environment `env`.
///
/// # Errors
/// Any system call that failed on the way, also those of the child before its exec.
pub fn spawn(argv: &[String], env: &[(String, String)], place: &Place<'_>) -> io::Result<Spawned> {
    let (report_rx, report_tx) = nix::unistd::pipe2(nix::fcntl::OFlag::O_CLOEXEC)?;
    let null = std::fs::File::options().read(true).write(true).open("/dev/null");
    let (report_tx, null) = (high(report_tx)?, high(null.map_err(|e| named(e, "opening /dev/null"))?)?);
    let group = |path: &PathBuf| {
        let file = std::fs::File::options().write(true).open(path);
        high(file.map_err(|e| named(e, &format!("joining {}", path.display())))?)
    };
    let c = |s: &str| CString::new(s).map_err(|_| io::Error::other("a NUL byte in an argument"));
    let held = match place.carried {
        true => {
            let cwd = place.cwd.as_ref().map(|cwd| hold(&cwd.to_string_lossy())).transpose()?;
            Some((hold(argv.first().map_or("", String::as_str))?, cwd))
        }
        false => None,
    };
    let prepared = Prepared {
        held,
        argv: argv.iter().map(|a| c(a)).collect::<io::Result<_>>()?,
        envp: env.iter().map(|(k, v)| c(&format!("{k}={v}"))).collect::<io::Result<_>>()?,
        procs: place.cgroup_procs.iter().map(|p| c(&p.to_string_lossy())).collect::<io::Result<_>>()?,
        clocks: place.clocks.map(|clocks| c(&clocks.text())).transpose()?,
        cwd: place.cwd.as_ref().map(|cwd| c(&cwd.to_string_lossy())).transpose()?,
        keeper: place.session.iter().flat_map(|k| &k.argv).map(|a| c(a)).collect::<io::Result<_>>()?,
        keeper_procs: place.session.iter().flat_map(|k| &k.cgroup_procs).map(group).collect::<io::Result<_>>()?,
        null,
        report: report_tx,
    };
    // SAFETY: the child calls only async-signal-safe functions on prepared memory and then execs or exits.
    match unsafe { libc::fork() } {
        -1 => Err(io::Error::last_os_error()),
        0 => {
            let (error, step) = child(place, &prepared);
            report(prepared.report.as_raw_fd(), 0, error, step);
            // SAFETY: ends the child without running destructors of the parent's copy.
            unsafe { libc::_exit(127) }
        }
        first => {
            drop(prepared);
            outcome(report_rx, first, argv, place)
        }
    }
}

/// A file, out of the way, held without opening it.
fn hold(path: &str) -> io::Result<OwnedFd> {
    high(crate::access::hold(path)?)
}

/// So many descriptors are given at most, standard ones included.
const MOST: usize = 64;
/// Numbers from here on are out of the way of those that a program is given.
const AWAY: RawFd = 500;

fn high(fd: impl Into<OwnedFd>) -> io::Result<OwnedFd> {
    use std::os::fd::FromRawFd;
    let fd: OwnedFd = fd.into();
    // SAFETY: the new descriptor is owned by nobody else.
    unsafe {
        let new = libc::fcntl(fd.as_raw_fd(), libc::F_DUPFD_CLOEXEC, AWAY);
        if new < 0 { Err(io::Error::last_os_error()) } else { Ok(OwnedFd::from_raw_fd(new)) }
    }
}

/// Reads the reports: `(pid, 0, _)` from the intermediate where there is one, `(0, errno, step)` where something failed. End
/// of file without an error means that the exec happened.
fn outcome(report_rx: OwnedFd, first: i32, argv: &[String], place: &Place<'_>) -> io::Result<Spawned> {
    use std::io::Read;
    let mut file = std::fs::File::from(report_rx);
    let mut all = Vec::new();
    file.read_to_end(&mut all)?;
    let mut pid = first;
    let mut failed = None;
    for record in all.chunks_exact(12) {
        let word = |i: usize| i32::from_ne_bytes([record[i], record[i + 1], record[i + 2], record[i + 3]]);
        if word(0) != 0 {
            pid = word(0);
        }
        if word(4) != 0 {
            failed = Some((io::Error::from_raw_os_error(word(4)), word(8)));
        }
    }
    if pid != first || failed.is_some() {
        // The intermediate has exited, or the child failed: reap it.
        let _ = nix::sys::wait::waitpid(nix::unistd::Pid::from_raw(first), None);
    }
    match failed {
        Some((error, step)) => Err(named(error, &step_name(step, argv, place))),
        None => Ok(Spawned { pid, child: pid == first }),
    }
}

fn report(fd: RawFd, pid: i32, error: i32, step: i32) {
    let mut record = [0u8; 12];
    record[..4].copy_from_slice(&pid.to_ne_bytes());
    record[4..8].copy_from_slice(&error.to_ne_bytes());
    record[8..].copy_from_slice(&step.to_ne_bytes());
    // SAFETY: writes 12 bytes from a live buffer; atomic on a pipe.
    unsafe { libc::write(fd, record.as_ptr().cast(), record.len()) };
}

/// The same kind of error, with what it was about.
fn named(error: io::Error, what: &str) -> io::Error {
    io::Error::new(error.kind(), format!("{what}: {error}"))
}

/// What the child was doing when it failed.
fn step_name(step: i32, argv: &[String], place: &Place<'_>) -> String {
    match step {
        STEP_CLOCKS => "setting the clocks of its time namespace".into(),
        STEP_JOIN => "joining the namespaces".into(),
        STEP_UNSHARE => "making namespaces".into(),
        STEP_SESSION => "leading a session".into(),
        STEP_DESCRIPTORS => "giving it its descriptors".into(),
        STEP_CWD => format!("entering {}", place.cwd.as_deref().unwrap_or_else(|| Path::new("/")).display()),
        STEP_OWNER => "becoming its owner".into(),
        STEP_EXEC => format!("starting {}", argv.first().map_or("", String::as_str)),
        group => match usize::try_from(group).ok().and_then(|index| place.cgroup_procs.get(index)) {
            Some(file) => format!("joining {}", file.display()),
            None => "starting".into(),
        },
    }
}

/// Steps of the child, said with its error. Those from 0 on are its groups, in their order.
const STEP_CLOCKS: i32 = -1;
const STEP_JOIN: i32 = -2;
const STEP_UNSHARE: i32 = -3;
const STEP_SESSION: i32 = -4;
const STEP_DESCRIPTORS: i32 = -5;
const STEP_CWD: i32 = -6;
const STEP_OWNER: i32 = -7;
const STEP_EXEC: i32 = -8;

/// An errno and the step that it came from.
type Failed = (i32, i32);

fn check(result: libc::c_long) -> Result<libc::c_long, i32> {
    if result < 0 {
        // SAFETY: reads this thread's errno.
        Err(unsafe { *libc::__errno_location() })
    } else {
        Ok(result)
    }
}

/// Runs in the forked child. Returns what failed; does not return where the exec succeeds.
fn child(place: &Place<'_>, prepared: &Prepared) -> Failed {
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

/// Hard resource limits of this process, in the kernel's order (`RLIMIT_CPU` = 0): nobody that it starts has higher ones.
pub fn hard_limits() -> Vec<u64> {
    /// `RLIM_NLIMITS`.
    const COUNT: libc::c_int = 16;
    let one = |number: libc::c_int| {
        let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
        // SAFETY: fills a live local.
        let result = unsafe { libc::getrlimit(number as _, &raw mut limit) };
        if result == 0 { limit.rlim_max } else { 0 }
    };
    (0..COUNT).map(one).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_that_does_not_exist_is_an_error_of_the_caller() {
        let error = spawn(&["/nonexistent/program".into()], &[], &Place::default()).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
        assert!(error.to_string().starts_with("starting /nonexistent/program: "), "{error}");
    }

    #[test]
    fn a_program_starts_and_ends() {
        let spawned = spawn(&["/bin/true".into()], &[], &Place::default()).unwrap();
        assert!(spawned.child);
        let pid = nix::unistd::Pid::from_raw(spawned.pid);
        let status = nix::sys::wait::waitpid(pid, None).unwrap();
        assert_eq!(status, nix::sys::wait::WaitStatus::Exited(pid, 0));
    }
}

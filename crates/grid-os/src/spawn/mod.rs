//! Starting a program in a place: control groups, namespaces, an owner's identity with few capabilities, and only
//! the descriptors it should have.
//!
//! The only home of `fork` in grid, beside the helper of `launch.rs`. What runs between fork and exec is async-signal-safe: raw system calls on data
//! that was prepared before.
#![allow(unsafe_code)]

mod child;
mod report;

use self::child::child;
use self::report::{named, outcome, report};
use std::ffi::CString;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::path::PathBuf;

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

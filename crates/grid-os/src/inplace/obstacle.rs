//! A look from outside, before a freeze: what would make it impossible to replace this program in place? Reads `/proc`,
//! stops nothing, changes nothing. A process can change after the look; then the replacement says what failed.

use crate::access;
use crate::spawn::Owner;
use std::fs;
use std::io;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

/// Why a process cannot become another program in place.
#[derive(Debug, thiserror::Error)]
pub enum Obstacle {
    /// Only x86-64 is known.
    #[error("replacing a program in place is unsupported on this architecture")]
    Unsupported,
    /// It has ended.
    #[error("process {pid} has ended")]
    Ended {
        /// Which.
        pid: i32,
    },
    /// It could not be looked at.
    #[error("read {path}: {source}")]
    Read {
        /// What.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// A debugger has it.
    #[error("thread {tid} is traced by process {tracer}")]
    Traced {
        /// Which thread.
        tid: i32,
        /// By whom.
        tracer: i32,
    },
    /// A filter of system calls may refuse the exec, or end the process for it.
    #[error("thread {tid} runs under seccomp")]
    Seccomp {
        /// Which thread.
        tid: i32,
    },
    /// It may not be traced: by its owner, its rights, or Yama.
    #[error("process {pid} may not be traced: {source}{}", yama_note())]
    NotPermitted {
        /// Which.
        pid: i32,
        /// What the kernel said.
        source: io::Error,
    },
    /// It is no 64-bit program.
    #[error("process {pid} runs no x86-64 program")]
    NotSixtyFour {
        /// Which.
        pid: i32,
    },
    /// No private executable mapping with a system call, or no private writable one.
    #[error("process {pid} has no private {0} memory", what)]
    NoMemory {
        /// Which.
        pid: i32,
        /// `executable` or `writable`.
        what: &'static str,
    },
    /// It runs in the memory of its parent, as after `vfork(2)`.
    #[error("process {pid} shares its memory with its parent {parent}")]
    SharedMemory {
        /// Which.
        pid: i32,
        /// With whom.
        parent: i32,
    },
    /// The new program could not be executed by the process.
    #[error("{program} cannot be executed by process {pid}: {source}")]
    Program {
        /// Which program.
        program: PathBuf,
        /// By which process.
        pid: i32,
        /// What the kernel said.
        source: io::Error,
    },
}

/// The least that arguments and environment take: a page.
const ROOM: usize = 4096;

/// Could this process become `program` in place? `program` is absolute, as the process sees it.
///
/// # Errors
/// The first obstacle.
pub fn can_exec_in_place(pid: i32, program: &Path) -> Result<(), Obstacle> {
    if !cfg!(target_arch = "x86_64") {
        return Err(Obstacle::Unsupported);
    }
    if crate::proc::has_ended(pid) {
        return Err(Obstacle::Ended { pid });
    }
    let status = threads_are_free(pid)?;
    is_64_bit(pid)?;
    memory(pid)?;
    own_memory(pid, &status)?;
    let refused = |source| Obstacle::Program { program: program.to_owned(), pid, source };
    executable(pid, &status, program).map_err(refused)
}

/// Text of a file of `/proc`; where the process ended meanwhile, that is the obstacle.
fn read(pid: i32, file: &str) -> Result<String, Obstacle> {
    let path = PathBuf::from(format!("/proc/{pid}/{file}"));
    match fs::read_to_string(&path) {
        Ok(text) => Ok(text),
        Err(_) if crate::proc::has_ended(pid) => Err(Obstacle::Ended { pid }),
        Err(source) => Err(Obstacle::Read { path, source }),
    }
}

/// The numbers after `KEY:` of a `status`.
fn numbers(status: &str, key: &str) -> Vec<u32> {
    let line = status.lines().find_map(|l| l.strip_prefix(key)?.strip_prefix(':'));
    line.unwrap_or_default().split_ascii_whitespace().filter_map(|w| w.parse().ok()).collect()
}

/// No thread is traced or filtered. Gives the status of the process.
fn threads_are_free(pid: i32) -> Result<String, Obstacle> {
    let path = PathBuf::from(format!("/proc/{pid}/task"));
    // That of `grid run` lets every exec pass.
    let ours = crate::seccomp::is_claimed_by(pid);
    let list = fs::read_dir(&path).map_err(|source| Obstacle::Read { path, source })?;
    for tid in list.flatten().filter_map(|e| e.file_name().to_str()?.parse::<i32>().ok()) {
        // A thread that ended meanwhile is no obstacle.
        let Ok(status) = fs::read_to_string(format!("/proc/{pid}/task/{tid}/status")) else { continue };
        if let Some(tracer) = numbers(&status, "TracerPid").first().filter(|t| **t != 0) {
            return Err(Obstacle::Traced { tid, tracer: *tracer as i32 });
        }
        let filtered = numbers(&status, "Seccomp").first().is_some_and(|mode| *mode != 0);
        if filtered && !(ours && crate::seccomp::count(&status) == 1) {
            return Err(Obstacle::Seccomp { tid });
        }
    }
    read(pid, "status")
}

fn is_64_bit(pid: i32) -> Result<(), Obstacle> {
    use std::io::Read;
    // e_ident, e_type, e_machine of an ELF header.
    let mut head = [0; 20];
    let exe = PathBuf::from(format!("/proc/{pid}/exe"));
    let got = fs::File::open(&exe).and_then(|mut file| file.read_exact(&mut head));
    match got {
        Ok(()) if head.starts_with(b"\x7fELF\x02") && head[18..] == [62, 0] => Ok(()),
        Ok(()) => Err(Obstacle::NotSixtyFour { pid }),
        Err(source) => Err(Obstacle::Read { path: exe, source }),
    }
}

#[cfg(target_arch = "x86_64")]
fn memory(pid: i32) -> Result<(), Obstacle> {
    // The kernel lets its memory be opened by whom it lets trace it; Yama is asked, too.
    let memory = super::memory::Memory::open(pid).map_err(|source| Obstacle::NotPermitted { pid, source })?;
    memory.instruction().ok_or(Obstacle::NoMemory { pid, what: "executable" })?;
    memory.room(ROOM).map(drop).ok_or(Obstacle::NoMemory { pid, what: "writable" })
}

#[cfg(not(target_arch = "x86_64"))]
fn memory(_: i32) -> Result<(), Obstacle> {
    let _ = ROOM;
    Err(Obstacle::Unsupported)
}

/// Strings are written into its memory: that must be nobody else's.
#[allow(unsafe_code)]
fn own_memory(pid: i32, status: &str) -> Result<(), Obstacle> {
    /// Of `linux/kcmp.h`.
    const KCMP_VM: libc::c_int = 1;
    let Some(parent) = numbers(status, "PPid").first().map(|p| *p as i32) else { return Ok(()) };
    // SAFETY: plain system call; it compares and changes nothing. Where it cannot tell, it is an error, and no obstacle.
    let compared = unsafe { libc::syscall(libc::SYS_kcmp, pid, parent, KCMP_VM, 0, 0) };
    if parent != 0 && compared == 0 { Err(Obstacle::SharedMemory { pid, parent }) } else { Ok(()) }
}

/// The kernel's word, as the process's user, from the process's own root.
fn executable(pid: i32, status: &str, program: &Path) -> io::Result<()> {
    let path =
        program.to_str().filter(|p| p.starts_with('/')).ok_or_else(|| io::Error::from_raw_os_error(libc::EINVAL))?;
    let root = access::hold(&format!("/proc/{pid}/root"))?;
    // Real, effective, saved, of the file system: the last meets files.
    let last = |key| numbers(status, key).last().copied().unwrap_or(u32::MAX);
    let owner = Owner { uid: last("Uid"), gid: last("Gid") };
    let ask = || -> io::Result<()> {
        let file = access::find(root.as_fd(), path)?;
        if nix::sys::stat::fstat(&file)?.st_mode & libc::S_IFMT != libc::S_IFREG {
            return Err(io::Error::from_raw_os_error(libc::EACCES));
        }
        Ok(access::allowed(file.as_fd(), access::EXECUTE)?)
    };
    access::as_owner(owner, &numbers(status, "Groups"), ask)?
}

/// Where Yama is strict, that is why.
fn yama_note() -> String {
    let scope = fs::read_to_string("/proc/sys/kernel/yama/ptrace_scope").unwrap_or_default();
    match scope.trim() {
        "" | "0" => String::new(),
        scope => format!(" (kernel.yama.ptrace_scope is {scope})"),
    }
}

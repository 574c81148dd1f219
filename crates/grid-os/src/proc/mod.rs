//! Readers of `/proc`: what runs here, cheaply for all processes and deeply for a few.
//!
//! Owns the knowledge of the kernel's text formats. It never judges, never writes, never keeps a process's environment,
//! and never takes a listing that failed for an empty one: a directory that cannot be listed is an error, a single fact
//! that cannot be read is named in [`ProcDeep::unreadable`](grid_types::facts::ProcDeep::unreadable).
//!
//! ```text
//! all_stats ──► Sample (one readdir, one stat per process)       every pass, all processes
//!    │
//!    └─ tree(sample, pid) ──► TreeFacts = deep() per member      on demand, candidates only
//!          └─ one pass over the others' descriptors, only where the tree holds something that can be shared
//! ```
//!
//! The root is replaceable, so that saved trees serve as test input.

mod deep;
mod fds;
mod guest;
mod locks;
mod maps;
mod oomd;
mod signals;
mod sock_diag;
mod sockets;
mod stat;
mod tree;

pub use deep::terminal_of;
pub use signals::{is_killed, pending};
pub use sock_diag::unread_by_peer;
pub use stat::{Sample, ticks_ms};

/// Entrance for the fuzzers to the kernel's socket diagnostics: one datagram of its answer.
#[cfg(fuzzing)]
pub fn fuzzing_peers(datagram: &[u8]) {
    let _ = sock_diag::take(datagram, &mut std::collections::HashMap::new());
}

use crate::clock;
use grid_types::units::BootMs;
use std::collections::BTreeSet;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

/// What went wrong while reading `/proc`.
#[derive(Debug, thiserror::Error)]
pub enum ProcError {
    /// The list of processes, or of a process's descriptors, could not be read. Never the same as "nothing there".
    #[error("cannot list {path}: {source}")]
    List {
        /// Directory.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A file could not be read.
    #[error("cannot read {path}: {source}")]
    Read {
        /// File.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A file was read and not understood.
    #[error("cannot make sense of {path}: {what}")]
    Parse {
        /// File.
        path: PathBuf,
        /// What was expected.
        what: &'static str,
    },
    /// The process is gone.
    #[error("process {pid} is gone")]
    Gone {
        /// Its number.
        pid: i32,
    },
    /// The node's boot could not be told.
    #[error(transparent)]
    Clock(#[from] clock::ClockError),
}

/// State letter and start time (ticks after boot, field 22) out of the text of a `/proc/PID/stat`.
fn state_and_start(stat: &str) -> Option<(char, u64)> {
    let mut fields = stat.rsplit_once(')')?.1.split_ascii_whitespace();
    let state = fields.next()?.chars().next()?;
    Some((state, fields.nth(18)?.parse().ok()?))
}

fn live_state_and_start(pid: i32) -> Option<(char, u64)> {
    state_and_start(&std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
}

/// Start time of a process of this machine, in ticks after boot; also of one that has ended and was not reaped.
pub fn start_ticks(pid: i32) -> Option<u64> {
    live_state_and_start(pid).map(|(_, start)| start)
}

/// A process of this machine was stopped, as by SIGSTOP.
pub fn is_stopped(pid: i32) -> bool {
    live_state_and_start(pid).is_some_and(|(state, _)| state == 'T')
}

/// A process of this machine has ended: it is gone, or waits to be reaped.
pub fn has_ended(pid: i32) -> bool {
    live_state_and_start(pid).is_none_or(|(state, _)| matches!(state, 'Z' | 'X'))
}

/// A `/proc` to read: the kernel's, or a saved one.
#[derive(Debug)]
pub struct ProcRoot {
    proc: PathBuf,
    cgroup: PathBuf,
    live: bool,
    boot_id: OnceLock<String>,
    online: OnceLock<BTreeSet<u32>>,
}

impl ProcRoot {
    /// A mounted procfs, usually `/proc`; control groups are looked up under `/sys/fs/cgroup`.
    pub fn new(proc: impl Into<PathBuf>) -> Self {
        Self {
            proc: proc.into(),
            cgroup: PathBuf::from("/sys/fs/cgroup"),
            live: true,
            boot_id: OnceLock::new(),
            online: OnceLock::new(),
        }
    }

    /// A saved tree: `DIR/proc` and `DIR/sys/fs/cgroup`. The time is that of its `uptime`, owners are those of `status`,
    /// and links are not followed.
    pub fn saved(dir: impl AsRef<Path>) -> Self {
        let dir = dir.as_ref();
        Self { cgroup: dir.join("sys/fs/cgroup"), live: false, ..Self::new(dir.join("proc")) }
    }

    /// The id of the boot that this tree is of.
    pub fn boot_id(&self) -> Result<&str, ProcError> {
        if let Some(id) = self.boot_id.get() {
            return Ok(id);
        }
        let id = clock::boot_id_under(&self.proc)?;
        Ok(self.boot_id.get_or_init(|| id))
    }

    /// Now, in nanoseconds since boot.
    fn now_ns(&self) -> Result<u64, ProcError> {
        if self.live {
            return Ok(clock::boot_ns());
        }
        let text = self.text("uptime")?;
        let seconds: f64 = text
            .split_whitespace()
            .next()
            .and_then(|s| s.parse().ok())
            .ok_or(ProcError::Parse { path: self.proc.join("uptime"), what: "seconds" })?;
        Ok((seconds * 1e9) as u64)
    }

    /// Now, in milliseconds since boot.
    pub fn now(&self) -> Result<BootMs, ProcError> {
        Ok(BootMs(self.now_ns()? / 1_000_000))
    }

    /// CPUs that are online; empty where that cannot be told.
    fn online(&self) -> &BTreeSet<u32> {
        self.online.get_or_init(|| {
            let text = self.text("stat").unwrap_or_default();
            text.lines().filter_map(|l| l.strip_prefix("cpu")?.split(' ').next()?.parse().ok()).collect()
        })
    }

    fn path(&self, relative: &str) -> PathBuf {
        self.proc.join(relative)
    }

    /// A file under the root as text; bytes that are no UTF-8 are replaced.
    fn text(&self, relative: &str) -> Result<String, ProcError> {
        let path = self.path(relative);
        match std::fs::read(&path) {
            Ok(bytes) => {
                Ok(String::from_utf8(bytes).unwrap_or_else(|e| String::from_utf8_lossy(e.as_bytes()).into_owned()))
            }
            Err(source) => Err(ProcError::Read { path, source }),
        }
    }

    /// The target of a link under the root.
    fn link(&self, relative: &str) -> Result<String, ProcError> {
        let path = self.path(relative);
        match std::fs::read_link(&path) {
            Ok(target) => Ok(target.to_string_lossy().into_owned()),
            Err(source) => Err(ProcError::Read { path, source }),
        }
    }

    /// True while the process exists.
    pub fn exists(&self, pid: i32) -> bool {
        self.path(&pid.to_string()).is_dir()
    }
}

/// Reading failed because the process ended meanwhile.
fn vanished(error: &std::io::Error) -> bool {
    error.kind() == ErrorKind::NotFound || error.raw_os_error() == Some(nix::libc::ESRCH)
}

#[cfg(test)]
mod tests;

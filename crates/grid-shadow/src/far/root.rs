//! The tree's root as pid 1 sees it: which process it is, and signals to it or its group.

use grid_os::signals;
use grid_os::tree_init::TreeDir;
use nix::libc;
use nix::unistd::{Pid, getpgid, getsid};
use std::cell::Cell;
use std::fs;

/// Finds the root by the file that the agent writes, and remembers it: the directory goes where the cluster is taken
/// down while the tree lives on at home.
#[derive(Debug)]
pub(crate) struct Root {
    dir: TreeDir,
    known: Cell<Option<i32>>,
}

impl Root {
    pub(crate) fn new(dir: TreeDir) -> Self {
        Self { dir, known: Cell::new(None) }
    }

    /// Its number in this PID namespace, where it is known.
    pub(crate) fn pid(&self) -> Option<i32> {
        let known = self.known.get().or_else(|| self.dir.root().filter(|pid| *pid > 1));
        self.known.set(known);
        known
    }

    /// Sends it, or its process group, a signal. One that is gone hears nothing.
    pub(super) fn signal(pid: i32, signo: i32, group: bool) {
        let leader = getpgid(Some(Pid::from_raw(pid))).map_or(0, Pid::as_raw);
        let target = if group && leader > 1 { -leader } else { pid };
        let signo = if stops_by_default(pid, signo) && is_alone(pid, leader) { libc::SIGSTOP } else { signo };
        let _ = signals::send(target, signo);
    }
}

/// The kernel throws a terminal's stop away where a group is orphaned, that is, where no member's parent is in another
/// group of the same session: `is_current_pgrp_orphaned`. At home the shell is that parent. Here it is pid 1.
fn is_alone(pid: i32, leader: i32) -> bool {
    let of_root = getsid(Some(Pid::from_raw(pid)));
    let ours = nix::unistd::getpgrp().as_raw();
    of_root.is_err() || of_root != getsid(None) || leader == ours
}

/// A stop of the terminal's that the process neither handles, ignores nor blocks.
fn stops_by_default(pid: i32, signo: i32) -> bool {
    if ![libc::SIGTSTP, libc::SIGTTIN, libc::SIGTTOU].contains(&signo) {
        return false;
    }
    let Ok(status) = fs::read_to_string(format!("/proc/{pid}/status")) else { return false };
    let bit = 1u64 << (signo - 1);
    let has = |name: &str| {
        let line = status.lines().find_map(|l| l.strip_prefix(name));
        line.and_then(|l| u64::from_str_radix(l.trim_start_matches(':').trim(), 16).ok()).is_some_and(|s| s & bit != 0)
    };
    !has("SigIgn") && !has("SigCgt") && !has("SigBlk")
}

//! Pid 1 of a moved tree: reaps, writes down how the root ended, and relays the tree's streams where it has any.
//!
//! Ends with the last process of the tree once the root has ended and home knows; at once by SIGTERM, where the agent
//! died before it named a root, and where the cluster is gone and the shadow at home goes, too.

use crate::far::Far;
use crate::far::root::Root;
use crate::relay::Name;
use grid_os::descriptors::inherited;
use grid_os::poll::PollSet;
use grid_os::signals::{Change, next_change};
use grid_os::tree_init::{LIFELINE, PUMP_FILE, Terms, TreeDir, end_all, record, set_up};
use nix::errno::Errno;
use nix::libc;
use nix::poll::PollFlags;
use nix::sys::signalfd::SignalFd;
use std::io;
use std::os::fd::OwnedFd;

const SIGNALS: Name = Name::Own(20);
const WATCHED: Name = Name::Own(21);
/// Buffers are given back after so long a pause.
const QUIET_MS: u32 = 1000;
/// Between two looks at what nobody tells of.
const LOOK_MS: u32 = 20;

struct Init<'a> {
    dir: &'a TreeDir,
    root: Root,
    signals: SignalFd,
    /// None once its other end is gone.
    lifeline: Option<OwnedFd>,
    far: Option<Far>,
    /// Brings the head's files, in this namespace: no process of the tree's.
    pump: Option<i32>,
    root_ended: bool,
    /// Something became of the root that the far has not acted on.
    changed: bool,
}

/// The body of pid 1. Says that it is ready by one byte on descriptor 3, then serves until nothing is left of the tree. An
/// agent that dies before it named a root lets go of the lifeline (descriptor 4): then there is nothing to wait for, and
/// everything in the namespace ends.
///
/// # Errors
/// What failed while the namespace was set up, or streams that cannot be; afterwards it does not fail.
pub fn run(dir: &TreeDir, terms: Terms) -> io::Result<()> {
    // Before rights are given up, and before the agent is told that all is well.
    let (lifeline, far) = (Some(inherited(LIFELINE)?), Far::inherit(dir)?);
    let signals = set_up(terms)?;
    let root = Root::new(dir.clone());
    let mut init = Init { dir, root, signals, lifeline, far, pump: None, root_ended: false, changed: false };
    let served = init.serve();
    // Of one whose shadow was killed nobody asks how it ended.
    dir.tidy(init.far.as_ref().is_none_or(Far::heard));
    served
}

impl Init<'_> {
    fn serve(&mut self) -> io::Result<()> {
        let mut set = PollSet::default();
        // Children may have ended before anybody waited.
        let mut news = true;
        loop {
            // Remembered while its file is there.
            if self.root.pid().is_some() && self.pump.is_none() {
                // It was there before the root; 0 is nobody.
                self.pump = Some(dir_number(&self.dir.0).unwrap_or(0));
            }
            let done = self.far.as_ref().is_some_and(Far::done) || self.is_orphaned();
            if (std::mem::take(&mut news) || done) && self.reap() {
                return Ok(());
            }
            if let Some(far) = self.far.as_mut().filter(|_| std::mem::take(&mut self.changed)) {
                set.clear();
                far.handle(&set);
            }
            let quiet = self.wait(&mut set)?;
            news = set.happened(0).is_some_and(|(_, flags)| !flags.is_empty());
            if self.is_over(&set, news) {
                end_all();
                return Ok(());
            }
            if let Some(far) = &mut self.far {
                far.handle(&set);
                if quiet {
                    far.shrink();
                }
            }
        }
    }

    /// True where nothing happened for a while after something did.
    fn wait(&mut self, set: &mut PollSet<Name>) -> io::Result<bool> {
        set.clear();
        set.add(SIGNALS, &self.signals, PollFlags::POLLIN);
        if let Some(lifeline) = &self.lifeline {
            set.add(WATCHED, lifeline, PollFlags::POLLIN);
        }
        let (mut busy, mut looks, mut alone) = (false, false, false);
        if let Some(far) = &mut self.far {
            (busy, looks, alone) = (far.take_moved(), far.looks(), far.is_alone());
            far.register(set);
        }
        // Nobody says that the cluster is gone.
        set.wait(if looks { Some(LOOK_MS) } else { (busy || alone).then_some(QUIET_MS) })?;
        let happened = (0..).map_while(|at| set.happened(at)).any(|(_, flags)| !flags.is_empty());
        Ok(busy && !happened)
    }

    /// Takes SIGTERM, and the agent's end where it named no root.
    fn is_over(&mut self, set: &PollSet<Name>, signalled: bool) -> bool {
        let mut told = false;
        while signalled && let Ok(Some(info)) = self.signals.read_signal() {
            told |= info.ssi_signo as i32 == libc::SIGTERM;
        }
        let gone = set.happened(1).is_some_and(|(name, flags)| name == WATCHED && !flags.is_empty());
        let abandoned = gone && !self.dir.root_file().exists();
        if gone {
            self.lifeline = None;
        }
        // A shadow that ended with the root was not ended by anybody: what the root left behind goes on.
        let given_up = !self.root_ended && self.is_orphaned() && self.far.as_ref().is_some_and(Far::was_joined);
        told || abandoned || given_up
    }

    /// It has no shadow (any more), and nobody can join the two: the cluster is gone (the tree lived on at home), or the
    /// attempt was given up. Whoever ended the shadow means the tree.
    fn is_orphaned(&self) -> bool {
        let gone = || !self.dir.0.exists() || self.dir.left_file().exists();
        self.far.as_ref().is_none_or(Far::is_alone) && gone()
    }

    /// Takes what became of children. True where nothing is left to wait for.
    fn reap(&mut self) -> bool {
        loop {
            match next_change() {
                Ok(Some((pid, change))) => self.take(pid, change),
                Ok(None) if !self.is_left_with_pump() => return false,
                Err(Errno::EINTR) => {}
                Ok(None) | Err(_) => {
                    let heard = self.far.as_ref().is_none_or(Far::done);
                    // While the cluster is down nobody waits for the exit status but a shadow that is there; it is written
                    // down.
                    return (self.root_ended && heard) || self.is_orphaned();
                }
            }
        }
    }

    /// Nobody else is there any more.
    fn is_left_with_pump(&self) -> bool {
        let Some(pump) = self.pump.filter(|pump| *pump != 0) else { return false };
        let children = std::fs::read_to_string("/proc/self/task/1/children").unwrap_or_default();
        children.split_whitespace().eq([pump.to_string()])
    }

    /// Others than the root are CRIU's helpers and orphans of the tree.
    fn take(&mut self, pid: i32, change: Change) {
        if self.root.pid() != Some(pid) {
            return;
        }
        if let Change::Ended(status) = change {
            record(self.dir, status);
            self.root_ended = true;
        }
        self.changed = true;
        match (&mut self.far, change) {
            (Some(far), Change::Ended(status)) => far.child_exited(status),
            (Some(far), Change::Stopped(signo)) => far.child_stopped(signo),
            (Some(far), Change::Continued) => far.child_continued(),
            (None, _) => {}
        }
    }
}

/// The number that the pump wrote down, where there is one.
fn dir_number(dir: &std::path::Path) -> Option<i32> {
    std::fs::read_to_string(dir.join(PUMP_FILE)).ok()?.trim().parse().ok()
}

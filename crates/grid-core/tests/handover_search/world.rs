//! The modelled world: two agents, a lossy network, the copies of one process, two attempts to move it.
//!
//! Plain small data, so that a state is cheap to copy and to hash. The machines are the shipped ones, kept by number
//! in [`crate::machines::Machines`].

use crate::machines::{Down, Up};
use grid_core::handover::HomeCopy;
use grid_types::handover::{DestinationState, SourceState};

/// Attempts that the model makes.
pub(crate) const ATTEMPTS: usize = 2;

/// The copy at home.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Home {
    Running,
    /// By the hold cgroup of this attempt.
    Frozen(u8),
    Gone,
    Rebooted,
}

/// The copy at the destination that an attempt staged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Staged {
    None,
    Frozen,
    Running,
    Dead,
}

/// CRIU at the source, for one attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Dump {
    NotBegun,
    /// The attempt is being written down and said; CRIU is not there yet.
    Starting,
    Running,
    /// Ended well, and the agent does not know yet.
    Done,
    /// Ended badly, and the agent does not know yet.
    Failed,
    /// Ended, and the agent knows.
    Known,
}

/// The image stream of one attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Image {
    Streaming,
    Complete,
    Restored,
    Broken,
}

/// A list of actions under way: which, and how far.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Queue {
    pub(crate) list: u16,
    pub(crate) next: u8,
}

impl Queue {
    pub(crate) const EMPTY: Queue = Queue { list: 0, next: 0 };
}

/// The source's agent, for one attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct SourceSlot {
    pub(crate) machine: Option<u8>,
    pub(crate) queue: Queue,
    pub(crate) ledger: Option<SourceState>,
    pub(crate) kept_kill: bool,
    pub(crate) reports: u8,
    pub(crate) dump: Dump,
    /// The home copy ran on after the image was taken.
    pub(crate) outrun: bool,
}

/// The destination's agent, for one attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct DestinationSlot {
    pub(crate) machine: Option<u8>,
    pub(crate) queue: Queue,
    pub(crate) ledger: Option<DestinationState>,
    pub(crate) released: bool,
    pub(crate) copy: Staged,
    pub(crate) image: Image,
    pub(crate) fence: bool,
    /// Its agent has decided to let go of whatever is here.
    pub(crate) doomed: bool,
}

/// Everything.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct World {
    pub(crate) home: Home,
    pub(crate) source_up: bool,
    pub(crate) destination_up: bool,
    pub(crate) source: [SourceSlot; ATTEMPTS],
    pub(crate) destination: [DestinationSlot; ATTEMPTS],
    /// One bit for each message on its way. Once sent, it may arrive at any time, also twice.
    pub(crate) net: u32,
    pub(crate) faults_left: u8,
    /// A destination's copy ran, and nobody has accepted a repeat since.
    pub(crate) ran_away: bool,
    /// Something outside the protocol ended the process, or a person did.
    pub(crate) excused: bool,
}

/// Reports that the model tells apart.
pub(crate) mod told {
    pub(crate) const MOVED: u8 = 1;
    pub(crate) const FAILED: u8 = 2;
    pub(crate) const IN_DOUBT: u8 = 4;
    pub(crate) const OVER: u8 = 8;
    pub(crate) const RESOLVED: u8 = 16;
}

impl World {
    /// Before the first attempt.
    pub(crate) fn new(faults_left: u8) -> World {
        let source = SourceSlot {
            machine: None,
            queue: Queue::EMPTY,
            ledger: None,
            kept_kill: false,
            reports: 0,
            dump: Dump::NotBegun,
            outrun: false,
        };
        let destination = DestinationSlot {
            machine: None,
            queue: Queue::EMPTY,
            ledger: None,
            released: false,
            copy: Staged::None,
            image: Image::Streaming,
            fence: false,
            doomed: false,
        };
        World {
            home: Home::Running,
            source_up: true,
            destination_up: true,
            source: [source; ATTEMPTS],
            destination: [destination; ATTEMPTS],
            net: 0,
            faults_left,
            ran_away: false,
            excused: false,
        }
    }

    /// The home copy as the kernel shows it to the agent that recovers attempt `k`.
    pub(crate) fn home_of(&self, k: usize) -> HomeCopy {
        match self.home {
            Home::Running => HomeCopy::Runs,
            Home::Frozen(by) if usize::from(by) == k => HomeCopy::Frozen,
            Home::Frozen(_) => HomeCopy::Runs,
            Home::Gone => HomeCopy::Gone,
            Home::Rebooted => HomeCopy::Rebooted,
        }
    }

    pub(crate) fn home_alive(&self) -> bool {
        matches!(self.home, Home::Running | Home::Frozen(_))
    }

    /// True where a copy is left from which the process can go on without repeating work.
    pub(crate) fn viable(&self) -> bool {
        self.home_alive() || (0..ATTEMPTS).any(|k| self.fresh_at_destination(k))
    }

    fn fresh_at_destination(&self, k: usize) -> bool {
        let d = &self.destination[k];
        // Restored but not written down as staged, with the agent gone: nobody knows that the gate passed it.
        let known =
            d.machine.is_some() || matches!(d.ledger, Some(DestinationState::Staged | DestinationState::Running));
        let there = (known && matches!(d.copy, Staged::Frozen | Staged::Running)) || d.image == Image::Complete;
        there && !d.doomed && !self.source[k].outrun
    }

    /// Takes away what is on its way to a source that heeds nothing but `Ready` and `Started` any more: whether it
    /// arrives makes no difference, and it would multiply the worlds.
    pub(crate) fn forget_idle_words(&mut self) {
        for k in 0..ATTEMPTS {
            if matches!(self.source[k].ledger, Some(SourceState::Aborted | SourceState::Released)) {
                for up in [Up::StageFailed, Up::NeverRan, Up::Gone] {
                    self.net &= !up.bit(k);
                }
                let refused = [DestinationState::Refused, DestinationState::Lost];
                if self.destination[k].ledger.is_some_and(|l| refused.contains(&l)) {
                    for down in [Down::Stage, Down::Query, Down::Released, Down::ReleasedKill] {
                        self.net &= !down.bit(k);
                    }
                }
            }
        }
    }

    /// The copy at home is let run by attempt `k`.
    pub(crate) fn thaw_home(&mut self, k: usize) -> Result<(), &'static str> {
        if self.home != Home::Frozen(k as u8) {
            return Ok(());
        }
        self.home = Home::Running;
        self.one_runs()?;
        if self.ran_away {
            return Err("work repeated: home runs again after the destination ran");
        }
        for k in 0..ATTEMPTS {
            if matches!(self.destination[k].image, Image::Complete | Image::Restored) {
                self.source[k].outrun = true;
            }
        }
        Ok(())
    }

    /// The copy that attempt `k` staged is let run.
    pub(crate) fn thaw_staged(&mut self, k: usize) -> Result<(), &'static str> {
        if self.destination[k].copy != Staged::Frozen {
            return Ok(());
        }
        self.destination[k].copy = Staged::Running;
        self.one_runs()?;
        if self.source[k].outrun {
            return Err("stale image: the home copy ran on after it was taken");
        }
        self.ran_away = true;
        Ok(())
    }

    fn one_runs(&self) -> Result<(), &'static str> {
        let away = self.destination.iter().filter(|d| d.copy == Staged::Running).count();
        let home = usize::from(self.home == Home::Running);
        if home + away > 1 { Err("two runnable copies") } else { Ok(()) }
    }

    /// True where all is settled and told: one copy runs, or one is held and reported, or it ended from outside.
    pub(crate) fn settled(&self) -> bool {
        let busy = self.source.iter().any(|s| s.queue != Queue::EMPTY)
            || self.destination.iter().any(|d| d.queue != Queue::EMPTY || d.copy == Staged::Frozen);
        if busy || !self.source_up || !self.destination_up {
            return false;
        }
        let away = self.destination.iter().position(|d| d.copy == Staged::Running);
        match (self.home, away) {
            (Home::Running, None) => self.all_told(|s| s == SourceState::Aborted, told::FAILED | told::RESOLVED),
            (Home::Running, Some(_)) => false,
            (Home::Frozen(k), None) => {
                let s = &self.source[usize::from(k)];
                s.ledger == Some(SourceState::InDoubt) && s.reports & told::IN_DOUBT != 0
            }
            (Home::Frozen(_), Some(_)) => false,
            (Home::Gone | Home::Rebooted, Some(k)) => {
                let s = &self.source[k];
                self.destination[k].released && s.ledger == Some(SourceState::Released) && s.reports & told::MOVED != 0
            }
            (Home::Gone | Home::Rebooted, None) => {
                self.excused && self.all_told(|s| matches!(s, SourceState::Aborted | SourceState::Released), u8::MAX)
            }
        }
    }

    fn all_told(&self, state: impl Fn(SourceState) -> bool, reports: u8) -> bool {
        self.source.iter().all(|s| s.ledger.is_none_or(|l| state(l) && s.reports & reports != 0))
    }
}

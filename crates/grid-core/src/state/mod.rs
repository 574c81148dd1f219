//! The head's state: nothing but the fold over the journal's events.
//!
//! Owns what is so, and which events are legal next. [`State::apply`] is used twice: before an event is written (an error
//! means it must not be), and at restart for replay. Invariants, tested over random sequences: a journal replayed is the
//! live state; a refused event changes nothing; leases are never over-committed by their guests; a process is in at most
//! one live offload; a boost ends only when no guest is left in it.

mod apply;
mod boosts;
mod members;
mod offloads;
mod parking;
mod query;
#[cfg(test)]
mod tests;
mod trust;

use crate::auto_offload::{Cooldowns, Metrics};
use crate::boost::IllegalTransition;
use grid_types::boost::Boost;
use grid_types::event::{Actor, AddedNode, Cordon, Keep, OffloadPhase, OffloadRecord};
use grid_types::lend::Closed;
use grid_types::plan::Plan;
use grid_types::policy::AutoMode;
use grid_types::stop::Stop;
use grid_types::{AttemptId, BoostId, NodeName, OffloadId, PlanId, ProcId, Resources, UnixMs};
use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// When a node was heard of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NodeState {
    /// Heard of, since then.
    Seen(UnixMs),
    /// Silent since then.
    Silent(UnixMs),
}

/// Everything that the journal says.
#[derive(Clone, Debug, PartialEq)]
pub struct State {
    /// Place of the last event.
    pub seq: u64,
    /// Boosts, live ones and the last ended ones.
    pub boosts: BTreeMap<BoostId, Boost>,
    /// Offloads, live ones and the last settled ones.
    pub offloads: BTreeMap<OffloadId, OffloadRecord>,
    /// The last plans, oldest first.
    pub plans: VecDeque<Plan>,
    /// As last switched; none where it never was, and the configuration counts.
    pub auto_mode: Option<AutoMode>,
    /// Nodes, as last journalled.
    pub nodes: BTreeMap<NodeName, NodeState>,
    /// Nodes that were added while the cluster ran.
    pub added: BTreeMap<NodeName, AddedNode>,
    /// Nodes that take nothing new.
    pub cordoned: BTreeMap<NodeName, Cordon>,
    /// Nodes whose owners lend nothing new, and why at first.
    pub no_lending: BTreeMap<NodeName, Closed>,
    /// Cool-downs of processes.
    pub cooldowns: Cooldowns,
    /// Counters.
    pub metrics: Metrics,
    /// Starts of the daemon.
    pub starts: u64,
    /// The order to stop, where one was recorded and not lifted since.
    pub stopped: Option<Stop>,
    /// Processes that their owners keep where they are.
    pub kept: BTreeMap<ProcId, Keep>,
    /// Boosts whose lender has taken them back: their guests are frozen.
    pub frozen: BTreeSet<BoostId>,
    /// Those of them that the owner of the lender took back himself.
    pub taken_back: BTreeSet<BoostId>,
    /// What the lender's kernel read back of each boost's limits, when it became active.
    enforced: BTreeMap<BoostId, String>,
    /// Who asked for the last move of each offload.
    causes: BTreeMap<OffloadId, Actor>,
    /// Guests whose recall failed since the end of their boost began: not tried again by itself.
    recall_failed: BTreeSet<OffloadId>,
    history: usize,
}

impl Default for State {
    fn default() -> Self {
        Self::new(100)
    }
}

impl State {
    /// An empty state that keeps `history` ended boosts, settled offloads and plans each (at least one).
    pub fn new(history: u32) -> Self {
        Self {
            seq: 0,
            boosts: BTreeMap::new(),
            offloads: BTreeMap::new(),
            plans: VecDeque::new(),
            auto_mode: None,
            nodes: BTreeMap::new(),
            added: BTreeMap::new(),
            cordoned: BTreeMap::new(),
            cooldowns: Cooldowns::default(),
            metrics: Metrics::default(),
            starts: 0,
            stopped: None,
            kept: BTreeMap::new(),
            frozen: BTreeSet::new(),
            taken_back: BTreeSet::new(),
            no_lending: BTreeMap::new(),
            enforced: BTreeMap::new(),
            causes: BTreeMap::new(),
            recall_failed: BTreeSet::new(),
            history: usize::try_from(history).unwrap_or(usize::MAX).max(1),
        }
    }
}

/// An event that must not be written now. Nothing has been changed.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum ApplyError {
    /// The journal has a hole, or an event twice.
    #[error("journal entry {got} follows {last}")]
    Sequence {
        /// The last one applied.
        last: u64,
        /// The one that came.
        got: u64,
    },
    /// No such boost.
    #[error("there is no boost {0}")]
    UnknownBoost(BoostId),
    /// No such offload.
    #[error("there is no offload {0}")]
    UnknownOffload(OffloadId),
    /// The id is taken.
    #[error("{0} exists already")]
    Exists(String),
    /// Not a transition of a boost's life.
    #[error("{boost}: {source}")]
    Boost {
        /// Which.
        boost: BoostId,
        /// What.
        source: IllegalTransition,
    },
    /// A boost that is written down must be granting.
    #[error("{0} is not granting: a lease is written down before the engine is called")]
    NotGranting(BoostId),
    /// An extension with an epoch that is not the next.
    #[error("{boost}: epoch {got} does not follow {last}")]
    Epoch {
        /// Which.
        boost: BoostId,
        /// Present epoch.
        last: u64,
        /// The event's.
        got: u64,
    },
    /// Its capacity cannot go back yet.
    #[error("{boost} cannot end: {} still in it", list(.guests))]
    GuestsInside {
        /// Which.
        boost: BoostId,
        /// Who is there.
        guests: Vec<OffloadId>,
    },
    /// Not a transition of an offload's life.
    #[error("{offload} is {phase:?} and cannot become {event}")]
    Offload {
        /// Which.
        offload: OffloadId,
        /// Its phase.
        phase: OffloadPhase,
        /// What was tried.
        event: &'static str,
    },
    /// Of an attempt that is not the present one.
    #[error("{offload}: attempt {got} is stale, {current} is the present one")]
    StaleAttempt {
        /// Which.
        offload: OffloadId,
        /// Present.
        current: AttemptId,
        /// The event's.
        got: AttemptId,
    },
    /// The process is in another live offload.
    #[error("process {process} is in {offload} already")]
    ProcessBusy {
        /// Which process.
        process: ProcId,
        /// Where it is.
        offload: OffloadId,
    },
    /// The boost takes no guests, or is on another node.
    #[error("{boost} takes no guest for {destination}")]
    NoGuests {
        /// Which.
        boost: BoostId,
        /// Destination of the event.
        destination: NodeName,
    },
    /// It does not fit in what is left.
    #[error("{boost} has {free} left, {needed} needed")]
    OverCommitted {
        /// Which.
        boost: BoostId,
        /// Left.
        free: Resources,
        /// Needed.
        needed: Resources,
    },
    /// Somebody is there, or may be.
    #[error("{node} cannot be removed: {what} is there")]
    NodeInUse {
        /// Which.
        node: NodeName,
        /// A boost or an offload.
        what: String,
    },
    /// It is so already.
    #[error("{0}")]
    Already(&'static str),
    /// The plan was settled already.
    #[error("{0} was settled already")]
    PlanSettled(PlanId),
}

fn list(ids: &[OffloadId]) -> String {
    ids.iter().map(OffloadId::as_str).collect::<Vec<_>>().join(", ")
}

//! Plans: exact next steps with their reasons. A plan leaves no choice to whoever executes it.

use crate::ids::{BoostId, LeaseId, NodeName, PlanId, ProcId};
use crate::policy::ProcessKind;
use crate::reason::Reason;
use crate::units::{BootMs, Bytes, MilliCpu, Millis, Resources, UnixMs};
use serde::{Deserialize, Serialize};

/// How hard a move is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Complexity {
    /// One process, plain files.
    Low,
    /// Several processes, listening sockets, large memory.
    Medium,
    /// More can go wrong.
    High,
}

/// What the detector found out about one process tree: two answers, each with reasons.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Verdict {
    /// Root of the tree.
    pub id: ProcId,
    /// What people see: file name of the executable or script, at most a line, never the environment.
    pub title: String,
    /// Owner.
    pub uid: u32,
    /// What it is for, and the rule that said so.
    pub kind: ProcessKind,
    /// Why that kind.
    pub kind_why: String,
    /// Processes in the tree.
    pub processes: u32,
    /// Threads in the tree.
    pub threads: u32,
    /// Measured use.
    pub used: Resources,
    /// Age of the root.
    pub age: Millis,
    /// Why grid would not choose it by itself; empty = worth it.
    pub not_worth: Vec<Reason>,
    /// Why it cannot be moved; empty = it can. `None` where the dear facts were not read.
    pub cannot: Option<Vec<Reason>>,
    /// Why it is worth it, for people.
    pub worth: Vec<String>,
    /// Why it can move, for people ("2 processes, 4 threads, 6 files; no socket, no device").
    pub can: String,
    /// How hard.
    pub complexity: Complexity,
    /// 0 to 1: how sure the detector is that moving helps and works.
    pub confidence: f64,
    /// Anything the process may notice.
    pub notices: Vec<String>,
}

impl Verdict {
    /// Grid may choose it by itself, and it can move.
    pub fn is_candidate(&self) -> bool {
        self.not_worth.is_empty() && self.can_move()
    }
    /// It can move, if a person names it.
    pub fn can_move(&self) -> bool {
        self.cannot.as_ref().is_some_and(|r| r.is_empty())
    }
}

/// Where a process shall go and why: the original's "recommendation".
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PlanStep {
    /// What moves.
    pub process: ProcId,
    /// For people.
    pub title: String,
    /// Owner.
    pub uid: u32,
    /// From.
    pub source: NodeName,
    /// To.
    pub destination: NodeName,
    /// Into this lease.
    pub lease: LeaseId,
    /// Needed.
    pub needed: Resources,
    /// Free in the lease before this step.
    pub available: Resources,
    /// Memory that crosses.
    pub memory: Bytes,
    /// CPU that leaves the source.
    pub cpu: MilliCpu,
    /// Predicted freeze; none where nothing has been measured yet.
    pub frozen: Option<Millis>,
    /// 0 to 1.
    pub confidence: f64,
    /// How hard.
    pub complexity: Complexity,
    /// Why.
    pub reason: String,
}

/// A process that the plan leaves where it is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Stay {
    /// What stays.
    pub process: ProcId,
    /// For people.
    pub title: String,
    /// Measured use.
    pub used: Resources,
    /// Why.
    pub reasons: Vec<Reason>,
}

/// What asked for a plan.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "trigger", rename_all = "snake_case")]
pub enum Trigger {
    /// A boost became active.
    BoostActivated {
        /// Which.
        boost: BoostId,
    },
    /// The head is short.
    Pressure {
        /// Of what: "memory 88 %".
        detail: String,
    },
    /// A person asked what could move.
    Scan,
    /// A person named a process.
    Named {
        /// Its number.
        pid: i32,
    },
}

/// Exact next steps.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Plan {
    /// Its id.
    pub id: PlanId,
    /// What asked for it.
    pub trigger: Trigger,
    /// When, wall clock.
    pub made_at: UnixMs,
    /// Not to be executed after this, on the head's CLOCK_BOOTTIME.
    pub valid_until: BootMs,
    /// What moves, in order.
    pub steps: Vec<PlanStep>,
    /// What was considered and stays.
    pub stays: Vec<Stay>,
    /// What became of it.
    pub outcome: PlanOutcome,
}

/// What became of a plan.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PlanOutcome {
    /// Nothing yet.
    #[default]
    Made,
    /// Shown only: auto-offload observes.
    Observed,
    /// Shown only, for pressure that then cleared by itself after so long.
    Cleared(Millis),
    /// Executed.
    Applied,
    /// Refused: the world had changed, or the checker objected.
    Refused(String),
}

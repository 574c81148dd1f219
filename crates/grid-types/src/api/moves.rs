//! What is asked of processes: whether they may move, to move, to come home, to be parked.

use crate::event::{OffloadRecord, Resolution};
use crate::ids::{NodeName, ProcId};
use crate::plan::{Plan, Verdict};
use crate::reason::ReasonCode;
use crate::units::{Bytes, Millis};
use serde::{Deserialize, Serialize};

/// Recalling, home or onwards.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct RecallAsk {
    /// To this node; absent = home.
    #[serde(default)]
    pub to: Option<String>,
    /// Close its established TCP connections.
    #[serde(default)]
    pub close_tcp: bool,
    /// Only say what would happen.
    #[serde(default)]
    pub dry_run: bool,
}

/// Parking.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct ParkAsk {
    /// Which: the number of a process, or an offload's id, a prefix of it, or `last`.
    pub what: String,
    /// On this node's disk; absent = its lender's, or a worker's.
    #[serde(default)]
    pub on: Option<String>,
    /// Only say what would happen.
    #[serde(default)]
    pub dry_run: bool,
}

/// What is parked, or would be.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ParkReply {
    /// What, by its identity at home.
    pub process: ProcId,
    /// For people.
    pub title: String,
    /// Memory that it holds.
    pub memory: Bytes,
    /// Where it runs.
    pub from: NodeName,
    /// Whose disk.
    pub node: NodeName,
    /// It; none with `dry_run`.
    pub offload: Option<OffloadView>,
}

/// Unparking, home or into a lease.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct UnparkAsk {
    /// To this node; absent = home.
    #[serde(default)]
    pub to: Option<String>,
    /// From now on it has a `/tmp` and a `/dev/shm` of its own, empty ones.
    #[serde(default)]
    pub private_tmp: bool,
    /// Only say what would happen.
    #[serde(default)]
    pub dry_run: bool,
}

/// What a scan found.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ScanReply {
    /// Processes that were looked at.
    pub scanned: u32,
    /// The plan that would be executed; `grid plan apply ID` does exactly that.
    pub plan: Plan,
    /// Trees that were looked at closely, the movable ones first.
    pub verdicts: Vec<Verdict>,
    /// Processes that stay, by the first reason found.
    pub stays: Vec<StayCount>,
}

/// How many stay for one reason.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StayCount {
    /// The reason.
    pub code: ReasonCode,
    /// Processes.
    pub count: u32,
}

/// Everything about one process.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ExplainReply {
    /// The detector's two answers.
    pub verdict: Verdict,
    /// Where it would fit, or the numbers for why not.
    pub fits: Vec<String>,
    /// The plan for it alone, not kept: its step or its reasons to stay.
    pub plan: Plan,
    /// Age of the facts.
    pub age: Millis,
    /// The offload it belongs to, where it is away or was.
    pub offload: Option<OffloadView>,
}

/// Asking for a move.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct OffloadAsk {
    /// Which process.
    pub pid: i32,
    /// Only to this node.
    pub to: Option<String>,
    /// Only into this boost.
    pub boost: Option<String>,
    /// Close its established TCP connections.
    #[serde(default)]
    pub close_tcp: bool,
    /// Only say what would happen.
    pub dry_run: bool,
}

/// A move that began, or would.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct OffloadReply {
    /// The plan that it follows.
    pub plan: Plan,
    /// It; none with `dry_run`.
    pub offload: Option<OffloadView>,
}

/// A moved process as it is now.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct OffloadView {
    /// The record.
    pub record: OffloadRecord,
    /// Root's number on the node where it lives, as its agent says.
    pub pid_there: Option<i32>,
    /// Since its last change.
    pub since: Millis,
    /// Its lender has taken its lease back and keeps it frozen.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub frozen: bool,
}

/// A person's decision.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct ResolveAsk {
    /// What.
    pub decision: Resolution,
    /// Whoever asks says that the other machine, which is silent, is off and does not come back with its copy.
    #[serde(default)]
    pub gone: bool,
    /// Only say what would happen.
    #[serde(default)]
    pub dry_run: bool,
}

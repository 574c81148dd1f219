//! The head's API: HTTP and JSON over a Unix socket. Every reply is a [`Reply`] with a version; errors too.
//!
//! | call | body | answers |
//! |---|---|---|
//! | `GET /v1/status` | | [`Status`] |
//! | `GET /v1/nodes` | | `[NodeView]` |
//! | `POST /v1/nodes/NODE/cordon`, `…/uncordon` | [`DryRun`] | [`NodeView`] |
//! | `POST /v1/nodes/NODE/drain` | [`DrainAsk`] | [`DrainReply`] |
//! | `POST /v1/nodes` | [`NodeJoin`] | [`NodeView`]: the supervisor tells that a node is one of the cluster's |
//! | `POST /v1/nodes/NODE/leave` | [`NodeLeave`] | [`LeaveReply`]: it may be removed, and takes nothing new |
//! | `POST /v1/nodes/NODE/gone` | [`NodeGone`] | `true`: it is removed; `false`: it was none |
//! | `GET /v1/between/NODE/NODE` | | [`MachineReply`](crate::machine::MachineReply) |
//! | `GET /v1/boosts`, `GET /v1/boosts/ID` | | `[BoostView]`, [`BoostView`] |
//! | `POST /v1/boosts` | [`BoostAsk`] | [`BoostReply`] |
//! | `POST /v1/boosts/ID/extend` | [`ExtendAsk`] | [`BoostView`] |
//! | `POST /v1/boosts/ID/release` | [`ReleaseAsk`] | [`BoostView`] |
//! | `POST /v1/boosts/ID/reclaim` | [`ReclaimAsk`] | [`ReclaimReply`] |
//! | `GET /v1/scan` | | [`ScanReply`] |
//! | `GET /v1/explain/PID` | | [`ExplainReply`] |
//! | `POST /v1/offloads` | [`OffloadAsk`] | [`OffloadReply`] |
//! | `GET /v1/offloads`, `GET /v1/offloads/ID[?settled]` | | `[OffloadView]`, [`OffloadView`]; `settled` waits for the end of a move under way |
//! | `POST /v1/offloads/ID/cancel`, `…/recall`, `…/resolve` | [`DryRun`], [`RecallAsk`], [`ResolveAsk`] | [`OffloadView`] |
//! | `POST /v1/offloads/ID/unpark` | [`UnparkAsk`] | [`OffloadView`] |
//! | `POST /v1/parks` | [`ParkAsk`] | [`ParkReply`] |
//! | `GET /v1/plans`, `GET /v1/plans/ID` | | `[Plan]`, [`Plan`] |
//! | `POST /v1/plans/ID/apply` | [`DryRun`] | `[OffloadView]`, none with `dry_run` |
//! | `GET /v1/events?after=N[&follow]` | | one [`EventRecord`](crate::event::EventRecord) a line |
//! | `GET /v1/metrics` | | counters since the journal began, in Prometheus' text format |
//! | `POST /v1/auto` | [`AutoAsk`] | [`AutoView`] |
//! | `GET /v1/keeps`, `POST /v1/keeps` | , [`KeepAsk`] | `[KeepView]`, [`KeepView`] |
//! | `POST /v1/stop` | | [`StopNoted`]: notes that the stop file came or went, and whose hand it was |
//!
//! `ID` may be an unambiguous prefix, or `last`.

use crate::boost::{Boost, Priority};
use crate::event::{Actor, AddedNode, Cordon, Keep, OffloadRecord, Resolution};
use crate::exit::FaultClass;
use crate::facts::NodeFacts;
use crate::ids::{BoostId, NodeName, OffloadId, ProcId};
use crate::plan::{Plan, Verdict};
use crate::policy::{AtEnd, AutoMode, NodeConfig};
use crate::reason::ReasonCode;
use crate::stop::StopView;
use crate::units::{Bytes, MilliCpu, Millis, Resources, UnixMs};
use serde::{Deserialize, Serialize};

/// Version of the API; a field is only ever added within one.
pub const API_VERSION: u32 = 1;

/// What every call answers.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Reply<T> {
    /// [`API_VERSION`].
    pub version: u32,
    /// The answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ok: Option<T>,
    /// Or what went wrong.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<ApiError>,
}

/// What went wrong: one message, what each part of it rests on, and what to do.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ApiError {
    /// Its class, which is the exit code.
    pub class: FaultClass,
    /// Its reason code, where it is a refusal.
    pub code: Option<ReasonCode>,
    /// What failed, in one sentence, and that nothing was changed where that is so.
    pub message: String,
    /// One line for each node or process that has a part in it.
    pub details: Vec<String>,
    /// What to do.
    pub hint: Option<String>,
}

/// A node as it is seen now.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct NodeView {
    /// Its name.
    pub node: NodeName,
    /// It is the head.
    pub head: bool,
    /// `ready`, `silent`, `unknown` (never seen).
    pub state: String,
    /// Time since it was heard of; none = never.
    pub seen: Option<Millis>,
    /// Last facts, however old.
    pub facts: Option<NodeFacts>,
    /// What it could lend now; none where nothing is known, or it lends nothing.
    pub lendable: Option<Resources>,
    /// What it has lent.
    pub lent: Resources,
    /// Why it lends nothing, where it does not.
    pub why: Option<String>,
    /// What its owner lends at most, where that is less than the configuration's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limited: Option<String>,
    /// It takes nothing new since then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cordoned: Option<Cordon>,
    /// It was added while the cluster ran.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub added: Option<AddedNode>,
}

/// A node that was reached, and is one of the cluster's from now on. Repeated, it changes nothing.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct NodeJoin {
    /// What it is.
    pub node: NodeConfig,
    /// Who wants it.
    pub by: Actor,
}

/// A node that shall be removed: where nothing is there, it takes nothing new from now on.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct NodeLeave {
    /// Also where it does not answer.
    #[serde(default)]
    pub unreachable: bool,
    /// And with what lives there, which counts as lost.
    #[serde(default)]
    pub give_up: bool,
    /// Only say what would happen.
    #[serde(default)]
    pub dry_run: bool,
    /// Who wants it.
    pub by: Actor,
}

/// That a node may be removed.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct LeaveReply {
    /// It, as it was.
    pub node: NodeView,
    /// It answers: what is there can be ended.
    pub answers: bool,
    /// Boosts that count as lost: only of a node that does not answer.
    pub lost: Vec<BoostId>,
    /// What lived there and counts as lost, for people: only where somebody gave it up.
    #[serde(default)]
    pub given_up: Vec<String>,
}

/// A node that was removed. Repeated, it changes nothing.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct NodeGone {
    /// What could not be ended or removed there.
    #[serde(default)]
    pub left: Option<String>,
    /// Who wanted it.
    pub by: Actor,
}

/// A boost as it is now.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct BoostView {
    /// The record, with its state.
    pub boost: Boost,
    /// Until its end; zero where it is past.
    pub ends_in: Millis,
    /// What its guests need, promised.
    pub promised: Resources,
    /// Memory charged to the lease as its lender reports it.
    pub memory_used: Option<Bytes>,
    /// Processes in it.
    pub processes: Option<u32>,
    /// Who lives in it.
    pub guests: Vec<OffloadId>,
    /// What the lender's kernel reported of its limits.
    pub enforced: Option<String>,
}

/// Asking for a boost.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct BoostAsk {
    /// Who shall have the capacity.
    pub borrower: String,
    /// CPUs; absent = none asked.
    pub cpu: Option<MilliCpu>,
    /// Memory; absent with CPUs asked = what the plan needs.
    pub memory: Option<Bytes>,
    /// GPUs.
    pub gpu: Option<u32>,
    /// How urgent.
    pub priority: Priority,
    /// For how long; absent = the policy's default.
    pub duration: Option<Millis>,
    /// Only this lender.
    pub from: Option<String>,
    /// What happens with guests at the end.
    pub at_end: Option<AtEnd>,
    /// Only say what would happen.
    pub dry_run: bool,
}

/// A granted boost.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct BoostReply {
    /// It. With `dry_run`, as it would be (state `granting`), and nothing was changed.
    pub boost: BoostView,
    /// From the request to the capacity being held.
    pub took: Millis,
    /// What auto-offload is set to, and so whether processes move now.
    pub auto: AutoMode,
    /// Nothing was changed.
    pub dry_run: bool,
}

/// Longer.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct ExtendAsk {
    /// By so much.
    pub by: Millis,
    /// Only say what would happen.
    #[serde(default)]
    pub dry_run: bool,
}

/// Release.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub struct ReleaseAsk {
    /// End guests by force in place of recalling them.
    pub end: bool,
    /// Only say what would happen.
    pub dry_run: bool,
}

/// A lender takes a lease back.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub struct ReclaimAsk {
    /// How long to wait for the guests to leave.
    #[serde(default)]
    pub within: Millis,
    /// End by force what is there then.
    #[serde(default)]
    pub end: bool,
    /// Let its guests run there again in place of taking it back.
    #[serde(default)]
    pub lift: bool,
    /// Only say what would happen.
    #[serde(default)]
    pub dry_run: bool,
}

/// What was taken back.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ReclaimReply {
    /// The boost as it is at the deadline, or earlier.
    pub boost: BoostView,
    /// From the lender's hearing of it until its kernel had confirmed that the guests are frozen (or thawed); none with
    /// `dry_run`.
    pub frozen: Option<Millis>,
    /// In all.
    pub took: Millis,
}

/// Everything away from a node.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub struct DrainAsk {
    /// How long to wait for what lives there to leave.
    #[serde(default)]
    pub within: Millis,
    /// Only say what would happen.
    #[serde(default)]
    pub dry_run: bool,
}

/// What a drain came to, or would.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct DrainReply {
    /// The node.
    pub node: NodeName,
    /// What was lent there when it began, as it is at the end.
    pub boosts: Vec<BoostView>,
    /// For a dry run: what would be done first with each.
    pub steps: Vec<DrainStep>,
    /// What stays on its disk.
    pub parked: Vec<OffloadView>,
    /// In all.
    pub took: Millis,
}

/// What a drain would do first with a boost.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DrainStep {
    /// Which.
    pub boost: BoostId,
    /// What, for people.
    pub what: String,
}

/// `dry_run` alone.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub struct DryRun {
    /// Only say what would happen.
    pub dry_run: bool,
}

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
    /// Only say what would happen.
    #[serde(default)]
    pub dry_run: bool,
}

/// Switching auto-offload.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct AutoAsk {
    /// To.
    pub mode: AutoMode,
    /// Only say what would happen.
    #[serde(default)]
    pub dry_run: bool,
}

/// Auto-offload as it is now.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct AutoView {
    /// Its mode.
    pub mode: AutoMode,
    /// What it would have moved since the daemon's journal began.
    pub would_have_moved: u64,
    /// What it moved by itself; what people moved does not count.
    pub moved: u64,
}

/// Keeping a process where it is, or letting it go.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub struct KeepAsk {
    /// Which process.
    pub pid: i32,
    /// For so long; none = until it ends.
    pub span: Option<Millis>,
    /// Keep it no longer.
    pub drop: bool,
    /// Only say what would happen.
    pub dry_run: bool,
}

/// A process that is kept where it is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct KeepView {
    /// The record.
    pub keep: Keep,
    /// Until its end; none where it ends with the process.
    pub ends_in: Option<Millis>,
}

/// That the order to stop came or went was noted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StopNoted {
    /// The order that stands.
    pub stopped: Option<StopView>,
}

/// Everything at a glance.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Status {
    /// Name of the cluster.
    pub cluster: String,
    /// Wall clock of the head.
    pub now: UnixMs,
    /// Nodes, the head first.
    pub nodes: Vec<NodeView>,
    /// Auto-offload.
    pub auto: AutoView,
    /// Boosts that hold capacity.
    pub boosts: Vec<BoostView>,
    /// What is away, moving, returning or in doubt.
    pub away: Vec<OffloadView>,
    /// What somebody should know.
    pub warnings: Vec<String>,
    /// The order to stop that stands.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stopped: Option<StopView>,
}

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
//! | `GET /v1/scan[?closer]` | | [`ScanReply`]; `closer` adds each process that was looked at closely |
//! | `GET /v1/explain/PID` | | [`ExplainReply`] |
//! | `POST /v1/offloads` | [`OffloadAsk`] | [`OffloadReply`] |
//! | `GET /v1/offloads`, `GET /v1/offloads/ID[?settled]` | | `[OffloadView]`, [`OffloadView`]; `settled` waits for the end of a move under way |
//! | `POST /v1/offloads/ID/cancel`, `…/recall`, `…/resolve` | [`DryRun`], [`RecallAsk`], [`ResolveAsk`] | [`OffloadView`] |
//! | `POST /v1/offloads/ID/unpark` | [`UnparkAsk`] | [`OffloadView`] |
//! | `POST /v1/parks` | [`ParkAsk`] | [`ParkReply`] |
//! | `GET /v1/plans`, `GET /v1/plans/ID` | | `[Plan]`, [`Plan`](crate::plan::Plan) |
//! | `POST /v1/plans/ID/apply` | [`DryRun`] | `[OffloadView]`, none with `dry_run` |
//! | `GET /v1/events?after=N[&follow]` | | one [`EventRecord`](crate::event::EventRecord) a line |
//! | `GET /v1/metrics` | | counters since the journal began, in Prometheus' text format |
//! | `GET /v1/auto`, `POST /v1/auto` | , [`AutoAsk`] | [`AutoView`] |
//! | `GET /v1/keeps`, `POST /v1/keeps` | , [`KeepAsk`] | `[KeepView]`, [`KeepView`] |
//! | `POST /v1/stop` | | [`StopNoted`]: notes that the stop file came or went, and whose hand it was |
//!
//! `ID` may be an unambiguous prefix, or `last`.

mod boosts;
mod moves;
mod nodes;

pub use boosts::*;
pub use moves::*;
pub use nodes::*;

use crate::event::Keep;
use crate::exit::FaultClass;
use crate::policy::AutoMode;
use crate::reason::ReasonCode;
use crate::stop::StopView;
use crate::units::{Millis, UnixMs};
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

/// `dry_run` alone.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub struct DryRun {
    /// Only say what would happen.
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

//! What is asked of boosts.

use crate::boost::{Boost, Priority};
use crate::ids::OffloadId;
use crate::policy::{AtEnd, AutoMode};
use crate::units::{Bytes, MilliCpu, Millis, Resources};
use serde::{Deserialize, Serialize};

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
    /// How urgent; absent = normal.
    #[serde(default)]
    pub priority: Priority,
    /// For how long; absent = the policy's default.
    pub duration: Option<Millis>,
    /// Only this lender.
    pub from: Option<String>,
    /// What happens with guests at the end.
    pub at_end: Option<AtEnd>,
    /// Only say what would happen.
    #[serde(default)]
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

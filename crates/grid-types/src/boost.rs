//! Boosts and leases as records.

use crate::ids::{BoostId, LeaseId, NodeName};
use crate::policy::AtEnd;
use crate::units::{BootMs, Millis, Resources, UnixMs};
use serde::{Deserialize, Serialize};

/// How urgent a boost is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Priority {
    /// Yields to all others.
    Low,
    /// The default.
    #[default]
    Normal,
    /// Before normal ones.
    High,
    /// Before all.
    Critical,
}

/// What somebody asks for.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct BoostRequest {
    /// Who shall have the capacity.
    pub borrower: NodeName,
    /// How much.
    pub amount: Resources,
    /// How urgent.
    pub priority: Priority,
    /// For how long; none = the policy's default.
    pub duration: Option<Millis>,
    /// Only this lender.
    pub from: Option<NodeName>,
    /// What happens with guests at the end; none = the policy's default.
    pub at_end: Option<AtEnd>,
}

/// Where a boost is in its life. Legal transitions: `grid_core::boost::transition`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "snake_case")]
pub enum BoostState {
    /// The lease is written down and the engine is called.
    Granting,
    /// The lender holds the capacity.
    Active,
    /// Its time is over or it was released; guests are going home.
    Ending {
        /// Why.
        why: EndReason,
    },
    /// Its time is over and guests still live in it, said loudly.
    Overdue {
        /// Why they are still there.
        detail: String,
    },
    /// Over; the capacity went back because the lease's cgroup was empty.
    Ended {
        /// Why.
        why: EndReason,
        /// When.
        at: UnixMs,
    },
    /// Never active.
    Failed {
        /// What failed.
        detail: String,
    },
}

/// Why a boost ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EndReason {
    /// Its time.
    Expired,
    /// Somebody released it.
    Released,
    /// The lender took it back.
    Reclaimed,
    /// Everything is moved away from its lender.
    Drained,
    /// The lender was lost.
    LenderLost,
}

/// A boost with its lease.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Boost {
    /// Its id.
    pub id: BoostId,
    /// The lease that makes it real.
    pub lease: LeaseId,
    /// Who has the capacity.
    pub borrower: NodeName,
    /// Who lends it.
    pub lender: NodeName,
    /// How much.
    pub amount: Resources,
    /// How urgent.
    pub priority: Priority,
    /// When it was granted, wall clock, for people.
    pub granted_at: UnixMs,
    /// When it ends, on the head's CLOCK_BOOTTIME.
    pub until: BootMs,
    /// Boot id of the head when `until` was written; after a reboot `until_unix` counts.
    pub boot_id: String,
    /// When it ends, wall clock.
    pub until_unix: UnixMs,
    /// Raised with each extension; a lender refuses older ones.
    pub epoch: u64,
    /// What happens with guests at the end.
    pub at_end: AtEnd,
    /// Why this lender.
    pub chosen: String,
    /// Its state.
    #[serde(flatten)]
    pub state: BoostState,
}

impl BoostState {
    /// Capacity is promised: it counts against the lender.
    pub fn holds_capacity(&self) -> bool {
        !matches!(self, BoostState::Ended { .. } | BoostState::Failed { .. })
    }
}

//! Builders for the tests of every decision.

use super::{LenderView, Lent, Terms};
use crate::boost::Clock;
use grid_types::boost::{Boost, BoostState, Priority};
use grid_types::plan::{Complexity, Verdict};
use grid_types::policy::{AtEnd, NodeSharing, Policy, ProcessKind};
use grid_types::{BoostId, BootMs, Bytes, LeaseId, MilliCpu, Millis, ProcId, Resources, UnixMs};

pub(crate) const BOOT: &str = "boot-1";

/// CPU in thousandths, memory in MiB, GPUs.
pub(crate) fn res(cpu: u32, mib: u64, gpu: u32) -> Resources {
    Resources { cpu: MilliCpu(cpu), memory: Bytes(mib << 20), gpu }
}

pub(crate) fn clock(ms: u64) -> Clock {
    Clock { boot: BootMs(ms), boot_id: BOOT.into(), unix: UnixMs(1_000_000 + ms) }
}

pub(crate) fn policy() -> Policy {
    Policy::default()
}

pub(crate) fn lender(node: &str, total: Resources, used: Resources) -> LenderView {
    LenderView {
        node: node.into(),
        total,
        used: Some(used),
        sharing: NodeSharing::default(),
        leases: Vec::new(),
        lease_use: Resources::default(),
        says: None,
        cordoned: false,
        older: None,
        silent_for: None,
    }
}

pub(crate) fn lent(id: &str, amount: Resources) -> Lent {
    Lent { boost: id.into(), amount, until_unix: UnixMs(12 * 3_600_000 + 40 * 60_000) }
}

pub(crate) fn terms(amount: Resources) -> Terms {
    Terms {
        borrower: "head".into(),
        amount,
        priority: Priority::Normal,
        duration: Millis(3_600_000),
        from: None,
        at_end: AtEnd::Recall,
    }
}

pub(crate) fn boost(id: &str, lender: &str, amount: Resources, state: BoostState) -> Boost {
    Boost {
        id: BoostId::from(id),
        lease: LeaseId::from(id),
        borrower: "head".into(),
        lender: lender.into(),
        amount,
        priority: Priority::Normal,
        granted_at: UnixMs(1_000_000),
        until: BootMs(10_000),
        boot_id: BOOT.into(),
        until_unix: UnixMs(1_010_000),
        epoch: 1,
        at_end: AtEnd::Recall,
        chosen: String::new(),
        state,
    }
}

pub(crate) fn proc_id(pid: i32) -> ProcId {
    ProcId { pid, start_ticks: pid as u64 * 100, boot_id: BOOT.into() }
}

pub(crate) fn verdict(pid: i32, used: Resources) -> Verdict {
    Verdict {
        id: proc_id(pid),
        title: format!("job{pid}"),
        uid: 1000,
        kind: ProcessKind::Compute,
        kind_why: String::new(),
        processes: 1,
        threads: 1,
        used,
        age: Millis(100_000),
        not_worth: Vec::new(),
        cannot: Some(Vec::new()),
        worth: Vec::new(),
        can: String::new(),
        complexity: Complexity::Low,
        confidence: 0.9,
        notices: Vec::new(),
    }
}

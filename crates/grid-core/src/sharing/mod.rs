//! Boost-aware decisions: does the head need help, and where does a process go that shall be relieved.
//!
//! Owns the rules D1–D8. Two questions, two functions: [`fits_capacity`] sums free and boosted (*does the head need
//! help*); [`fits_whole`] asks *where*: the head alone, or one lease alone, must hold the whole tree. A process that the
//! boosted head should hold runs in the boost's lease, which is what makes the boost real. Never moves anything.

mod mode;
#[cfg(test)]
mod tests;

pub use mode::{DIRECT_BELOW, Decision, Keep, SHARED_BELOW, Situation, decide, may_share, memory_rule_says_away};

use grid_types::boost::{Boost, BoostState};
use grid_types::{BoostId, LeaseId, MilliCpu, NodeName, Resources};

/// A lease as a place for processes.
#[derive(Clone, Debug, PartialEq)]
pub struct LeaseView {
    /// Which.
    pub lease: LeaseId,
    /// The boost it makes real.
    pub boost: BoostId,
    /// The lender.
    pub node: NodeName,
    /// All of it.
    pub amount: Resources,
    /// Not yet needed by processes inside or on their way.
    pub free: Resources,
}

/// D1: the capacity that active boosts add to a node, and their names for the reasons. Empty is always a valid value
/// (D8: without any boost manager decisions are those of the head alone).
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Boosted {
    /// Sum by CPU, memory, GPU.
    pub sum: Resources,
    /// The boosts in it.
    pub boosts: Vec<(BoostId, Resources)>,
    /// D6: set where boosts could not be read; they then count as none, and this says so in the reasons and the log.
    pub unread: Option<String>,
}

impl Boosted {
    /// Sums the active boosts of `borrower`.
    pub fn of<'a>(boosts: impl IntoIterator<Item = &'a Boost>, borrower: &NodeName) -> Self {
        let mut all = Self::default();
        for b in boosts.into_iter().filter(|b| b.borrower == *borrower && b.state == BoostState::Active) {
            all.sum = all.sum.saturating_add(&b.amount);
            all.boosts.push((b.id.clone(), b.amount));
        }
        all
    }

    /// D6: boosts could not be read.
    pub fn unreadable(error: impl Into<String>) -> Self {
        Self { unread: Some(error.into()), ..Self::default() }
    }

    /// For the reasons: "boosts b-7k2 2.0 CPU 8.0 GiB"; none where there are none.
    pub fn text(&self) -> Option<String> {
        if let Some(error) = &self.unread {
            return Some(format!("boosts unreadable, counted as none: {error}"));
        }
        let names: Vec<_> = self.boosts.iter().map(|(id, r)| format!("{id} {r}")).collect();
        (!names.is_empty()).then(|| format!("boosts {}", names.join(", ")))
    }
}

/// D2: free plus boosted is at least the need, for CPU, memory and GPU at once.
pub fn fits_capacity(need: &Resources, free: &Resources, boosted: &Resources) -> bool {
    holds(need, &free.saturating_add(boosted))
}

/// One place holds the need. CPU may exceed it by a twentieth: a measurement of two busy threads reads 2.03 CPUs at
/// times, and a cgroup's CPU limit slows without breaking. Memory and GPUs are never rounded.
pub fn holds(need: &Resources, free: &Resources) -> bool {
    cpu_holds(need.cpu, free.cpu) && need.memory <= free.memory && need.gpu <= free.gpu
}

fn cpu_holds(need: MilliCpu, free: MilliCpu) -> bool {
    u64::from(need.0) * 100 <= u64::from(free.0) * 105
}

/// Where a tree fits whole.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Whole<'a> {
    /// In this lease.
    Lease(&'a LeaseView),
    /// On the head alone.
    Head,
    /// Only the sum of head and leases would hold it: it stays, `E-SPLIT`.
    Split,
    /// Nowhere, and not in the sum either.
    Nowhere,
}

/// Where `need` fits whole: in one lease alone (best fit: the least memory, then CPU left over; then the id), else on
/// the head alone, else nowhere. An unknown head (`None`) holds nothing.
pub fn fits_whole<'a>(
    need: &Resources,
    head_free: Option<&Resources>,
    leases: impl IntoIterator<Item = &'a LeaseView>,
) -> Whole<'a> {
    let all: Vec<&LeaseView> = leases.into_iter().collect();
    let best = all.iter().filter(|l| holds(need, &l.free)).min_by_key(|l| {
        let left = l.free.saturating_sub(need);
        (left.gpu, left.memory, left.cpu, l.lease.clone())
    });
    if let Some(lease) = best {
        return Whole::Lease(lease);
    }
    let Some(free) = head_free else { return Whole::Nowhere };
    if holds(need, free) {
        return Whole::Head;
    }
    let sum = all.iter().fold(Resources::default(), |s, l| s.saturating_add(&l.free));
    if !all.is_empty() && fits_capacity(need, free, &sum) { Whole::Split } else { Whole::Nowhere }
}

/// A node of the scheduler's view, for new work.
#[derive(Clone, Debug, PartialEq)]
pub struct SchedNode {
    /// Which.
    pub node: NodeName,
    /// Free now; `None` where unknown, which is not eligible.
    pub free: Option<Resources>,
    /// What active boosts add to it.
    pub boosted: Resources,
}

/// D5: the nodes that hold `need`, boosts counted, best fit first (least memory, then CPU left over; then the name).
pub fn eligible<'a>(nodes: &'a [SchedNode], need: &Resources) -> Vec<&'a SchedNode> {
    let room = |n: &SchedNode| n.free.map(|f| f.saturating_add(&n.boosted));
    let mut fit: Vec<_> = nodes.iter().filter(|n| room(n).is_some_and(|r| holds(need, &r))).collect();
    fit.sort_by_key(|n| {
        let left = room(n).unwrap_or_default().saturating_sub(need);
        (left.memory, left.cpu, n.node.clone())
    });
    fit
}

//! What others ask of the state.

use super::State;
use crate::boost::Guest;
use crate::lease::Lent;
use crate::plan::Busy;
use crate::sharing::{Boosted, LeaseView};
use grid_types::boost::{Boost, BoostState};
use grid_types::event::{OffloadPhase, OffloadRecord};
use grid_types::plan::Plan;
use grid_types::policy::AutoMode;
use grid_types::{BoostId, BootMs, Millis, NodeName, PlanId, ProcId, Resources};
use std::collections::BTreeMap;

impl State {
    /// Boosts that hold capacity.
    pub fn live_boosts(&self) -> impl Iterator<Item = &Boost> {
        self.boosts.values().filter(|b| b.state.holds_capacity())
    }

    /// Live leases on a lender, as `LenderView` takes them.
    pub fn lent_by(&self, node: &NodeName) -> Vec<Lent> {
        self.live_boosts()
            .filter(|b| b.lender == *node)
            .map(|b| Lent { boost: b.id.clone(), amount: b.amount, until_unix: b.until_unix })
            .collect()
    }

    /// Sum of the live leases on a lender.
    pub fn promised(&self, node: &NodeName) -> Resources {
        self.live_boosts()
            .filter(|b| b.lender == *node)
            .fold(Resources::default(), |sum, b| sum.saturating_add(&b.amount))
    }

    /// What a lease has left: its amount less what its guests need. None where there is no such live boost.
    pub fn lease_free(&self, boost: &BoostId) -> Option<Resources> {
        let b = self.boosts.get(boost).filter(|b| b.state.holds_capacity())?;
        let needed = self.guests(boost).iter().fold(Resources::default(), |s, o| s.saturating_add(&o.needed));
        Some(b.amount.saturating_sub(&needed))
    }

    /// Active leases of a borrower, as the planner takes them; not those on a node that takes nothing new.
    pub fn leases_of(&self, borrower: &NodeName) -> Vec<LeaseView> {
        self.boosts
            .values()
            .filter(|b| b.borrower == *borrower && b.state == BoostState::Active)
            .filter(|b| !self.cordoned.contains_key(&b.lender))
            .map(|b| LeaseView {
                lease: b.lease.clone(),
                boost: b.id.clone(),
                node: b.lender.clone(),
                amount: b.amount,
                free: self.lease_free(&b.id).unwrap_or_default(),
            })
            .collect()
    }

    /// D1: what active boosts add to a node.
    pub fn boosted(&self, node: &NodeName) -> Boosted {
        Boosted::of(self.boosts.values(), node)
    }

    /// Offloads that count against a boost's lease.
    pub fn guests(&self, boost: &BoostId) -> Vec<&OffloadRecord> {
        self.offloads.values().filter(|o| o.counts_against(boost)).collect()
    }

    /// The same as `boost::at_end` takes them. A recall counts as failed where one failed since the end began.
    pub fn guests_at_end(&self, boost: &BoostId) -> Vec<Guest> {
        self.guests(boost)
            .into_iter()
            .map(|o| Guest {
                offload: o.id.clone(),
                title: o.title.clone(),
                needed: o.needed,
                phase: o.phase,
                recall_failed: self
                    .recall_failed
                    .contains(&o.id)
                    .then(|| o.reasons.last().map_or("unknown".to_owned(), ToString::to_string)),
            })
            .collect()
    }

    /// Processes that are away: everything that lives, or may live, somewhere else.
    pub fn away(&self) -> Vec<&OffloadRecord> {
        let away = |p: OffloadPhase| p.is_guest() && p != OffloadPhase::Moving;
        self.offloads.values().filter(|o| away(o.phase)).collect()
    }

    /// The live offload of a process.
    pub fn offload_of(&self, process: &ProcId) -> Option<&OffloadRecord> {
        self.offloads.values().find(|o| o.process == *process && o.phase.is_guest())
    }

    /// The offload that says where the process with this number at home is: the newest that has come about. One that failed
    /// left it where it was.
    pub fn newest_of(&self, pid: i32) -> Option<&OffloadRecord> {
        let of_pid = self.offloads.values().filter(|o| o.process.pid == pid && o.phase != OffloadPhase::Failed);
        of_pid.max_by_key(|o| o.started_at)
    }

    /// What the planner must not take: in flight, away, cooling down.
    pub fn busy(&self, cooldown: Millis, now: BootMs) -> BTreeMap<ProcId, Busy> {
        let mut busy: BTreeMap<_, _> =
            self.cooldowns.cooling(cooldown, now).map(|(p, left)| (p.clone(), Busy::Cooldown(left))).collect();
        for o in self.offloads.values().filter(|o| o.phase.is_guest()) {
            let why = if o.phase == OffloadPhase::Moving { Busy::Moving } else { Busy::Away };
            busy.insert(o.process.clone(), why(o.id.clone()));
        }
        busy
    }

    /// A plan that is still in the history.
    pub fn plan(&self, id: &PlanId) -> Option<&Plan> {
        self.plans.iter().find(|p| p.id == *id)
    }

    /// The mode that counts: as last switched, else as configured.
    pub fn mode(&self, configured: AutoMode) -> AutoMode {
        self.auto_mode.unwrap_or(configured)
    }
}

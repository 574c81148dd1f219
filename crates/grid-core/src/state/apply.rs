//! The fold: one event at a time, each refused or applied whole.

use super::{ApplyError, NodeState, State};
use grid_types::PlanId;
use grid_types::event::{Event, EventRecord};
use grid_types::plan::{Plan, PlanOutcome};

impl State {
    /// Applies one event. The first may have any place in the journal (older ones may have been pruned); each other
    /// follows the one before.
    ///
    /// # Errors
    /// [`ApplyError`]; nothing has been changed.
    pub fn apply(&mut self, rec: &EventRecord) -> Result<(), ApplyError> {
        if rec.seq == 0 || (self.seq != 0 && rec.seq != self.seq + 1) {
            return Err(ApplyError::Sequence { last: self.seq, got: rec.seq });
        }
        self.fold(rec)?;
        self.seq = rec.seq;
        self.trim();
        Ok(())
    }

    /// The record that an event would be, to be applied and then written: the next place in the journal.
    pub fn next_seq(&self) -> u64 {
        self.seq + 1
    }

    fn fold(&mut self, rec: &EventRecord) -> Result<(), ApplyError> {
        use Event as E;
        match &rec.event {
            E::DaemonStarted { .. } => self.starts += 1,
            E::NodeSeen { node } => {
                self.nodes.insert(node.clone(), NodeState::Seen(rec.at));
            }
            E::NodeSilent { node } => {
                self.nodes.insert(node.clone(), NodeState::Silent(rec.at));
            }
            E::NodeAdded { .. } | E::NodeRemoved { .. } => self.member_event(rec)?,
            E::Stopped { .. }
            | E::StopLifted {}
            | E::KeepSet { .. }
            | E::KeepDropped { .. }
            | E::NodeCordoned { .. }
            | E::NodeUncordoned { .. }
            | E::LendingClosed { .. }
            | E::LendingOpen { .. } => self.trust_event(rec)?,
            E::PressureSkipped { .. } => {}
            E::AutoModeSet { mode } => self.auto_mode = Some(*mode),
            E::BoostRefused { .. } => self.metrics.boosts_refused += 1,
            E::HookFinished { outcome, took, .. } => self.metrics.hook(outcome, *took),
            E::PlanMade { plan } => self.plan_made(plan)?,
            E::PlanSettled { plan, outcome } => self.plan_settled(plan, outcome)?,
            E::LeaseGranted { .. }
            | E::BoostActivated { .. }
            | E::BoostFailed { .. }
            | E::BoostExtended { .. }
            | E::BoostEnding { .. }
            | E::BoostOverdue { .. }
            | E::GuestsFrozen { .. }
            | E::GuestsThawed { .. }
            | E::BoostEnded { .. } => self.boost_event(rec)?,
            E::OffloadStarted { .. }
            | E::OffloadMoved { .. }
            | E::OffloadListens { .. }
            | E::OffloadFailed { .. }
            | E::RecallStarted { .. }
            | E::Recalled { .. }
            | E::RecallFailed { .. }
            | E::OnwardStarted { .. }
            | E::OnwardMoved { .. }
            | E::OnwardFailed { .. }
            | E::ParkStarted { .. }
            | E::Parked { .. }
            | E::ParkFailed { .. }
            | E::UnparkStarted { .. }
            | E::Unparked { .. }
            | E::UnparkFailed { .. }
            | E::ProcessEnded { .. }
            | E::OffloadInDoubt { .. }
            | E::OffloadResolved { .. } => {
                self.offload_event(rec)?;
                self.note_cause(rec);
            }
        }
        Ok(())
    }

    fn plan_made(&mut self, plan: &Plan) -> Result<(), ApplyError> {
        if self.plans.iter().any(|p| p.id == plan.id) {
            return Err(ApplyError::Exists(plan.id.to_string()));
        }
        self.metrics.plan(plan);
        self.plans.push_back(plan.clone());
        Ok(())
    }

    /// A plan that has left the history settles without a trace. An observed one may still be applied or refused.
    fn plan_settled(&mut self, id: &PlanId, outcome: &PlanOutcome) -> Result<(), ApplyError> {
        let Some(plan) = self.plans.iter_mut().find(|p| p.id == *id) else { return Ok(()) };
        let open = matches!(plan.outcome, PlanOutcome::Made)
            || (plan.outcome == PlanOutcome::Observed && *outcome != PlanOutcome::Observed);
        let open = open && (plan.outcome == PlanOutcome::Observed || !matches!(outcome, PlanOutcome::Cleared(_)));
        if !open || *outcome == PlanOutcome::Made {
            return Err(ApplyError::PlanSettled(id.clone()));
        }
        self.metrics.settled(plan, outcome);
        plan.outcome = outcome.clone();
        Ok(())
    }

    /// Keeps the history within its bound. Live records are never dropped.
    fn trim(&mut self) {
        let most = self.history;
        while self.plans.len() > most {
            self.plans.pop_front();
        }
        let mut ended: Vec<_> =
            self.boosts.values().filter(|b| !b.state.holds_capacity()).map(|b| (b.granted_at, b.id.clone())).collect();
        ended.sort();
        for (_, id) in ended.iter().take(ended.len().saturating_sub(most)) {
            self.boosts.remove(id);
            self.enforced.remove(id);
        }
        let mut settled: Vec<_> =
            self.offloads.values().filter(|o| !o.phase.is_guest()).map(|o| (o.since, o.id.clone())).collect();
        settled.sort();
        for (_, id) in settled.iter().take(settled.len().saturating_sub(most)) {
            self.offloads.remove(id);
            self.causes.remove(id);
        }
        self.cooldowns.trim(most.saturating_mul(4));
    }
}

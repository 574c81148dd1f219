//! Events by which people hold grid back, and who stands behind an event.

use super::{ApplyError, State};
use grid_types::event::{Actor, Direction, Event, EventRecord, Keep};
use grid_types::plan::{Plan, PlanOutcome, Trigger};
use grid_types::{BootMs, OffloadId, PlanId, ProcId};

impl State {
    pub(super) fn trust_event(&mut self, rec: &EventRecord) -> Result<(), ApplyError> {
        match &rec.event {
            Event::Stopped { stop } if self.stopped.as_ref() == Some(stop) => {
                return Err(ApplyError::Already("that order to stop is recorded already"));
            }
            Event::Stopped { stop } => self.stopped = Some(stop.clone()),
            Event::StopLifted {} if self.stopped.is_none() => {
                return Err(ApplyError::Already("no order to stop stands"));
            }
            Event::StopLifted {} => self.stopped = None,
            // Again, with another end: the last word counts.
            Event::KeepSet { keep } => drop(self.kept.insert(keep.process.clone(), keep.clone())),
            Event::KeepDropped { process, .. } => {
                self.kept.remove(process).ok_or(ApplyError::Already("it is not kept"))?;
            }
            _ => {}
        }
        Ok(())
    }

    /// Remembers who asked for a move: what comes of it is theirs.
    pub(super) fn note_cause(&mut self, rec: &EventRecord) {
        if let Event::OffloadStarted { offload, .. } | Event::RecallStarted { offload, .. } = &rec.event {
            self.causes.insert(offload.clone(), rec.actor.clone());
        }
    }

    /// Who asked for the last move of this offload.
    pub fn cause(&self, offload: &OffloadId) -> Actor {
        self.causes.get(offload).cloned().unwrap_or(Actor::Daemon)
    }

    /// The plan by which an event happens.
    pub fn plan_of(&self, event: &Event) -> Option<PlanId> {
        match event {
            Event::OffloadStarted { plan, .. } => plan.clone(),
            Event::PlanSettled { plan, .. } => Some(plan.clone()),
            Event::PlanMade { plan } => Some(plan.id.clone()),
            Event::OffloadMoved { offload, .. }
            | Event::OffloadFailed { offload, .. }
            | Event::OffloadInDoubt { offload, .. } => {
                let out = |o: &&grid_types::event::OffloadRecord| o.direction == Direction::Out;
                self.offloads.get(offload).filter(out)?.plan.clone()
            }
            _ => None,
        }
    }

    /// The newest plan that pressure made after this place in the journal and that was only shown.
    pub fn observed_since(&self, seq: u64) -> Option<PlanId> {
        let newer =
            |p: &&Plan| p.id.as_str().strip_prefix("p-").and_then(|n| n.parse::<u64>().ok()).is_some_and(|n| n > seq);
        let shown = |p: &&Plan| {
            p.outcome == PlanOutcome::Observed && matches!(p.trigger, Trigger::Pressure { .. }) && !p.steps.is_empty()
        };
        self.plans.iter().rev().take_while(newer).find(shown).map(|p| p.id.clone())
    }

    /// Processes that are kept at this moment.
    pub fn kept_now(&self, now: BootMs) -> impl Iterator<Item = &Keep> {
        self.kept.values().filter(move |k| k.holds(now))
    }

    /// The record of a process that is kept, by its number.
    pub fn kept_pid(&self, pid: i32) -> Option<&ProcId> {
        self.kept.keys().find(|p| p.pid == pid)
    }
}

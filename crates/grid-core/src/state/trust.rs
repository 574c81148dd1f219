//! Events by which people hold grid back, and who stands behind an event.

use super::{ApplyError, State};
use grid_types::event::{Actor, Cordon, Direction, Event, EventRecord, Keep};
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
            Event::NodeCordoned { node } if self.cordoned.contains_key(node) => {
                return Err(ApplyError::Already("it is cordoned already"));
            }
            Event::NodeCordoned { node } => {
                self.cordoned.insert(node.clone(), Cordon { since: rec.at, by: rec.actor.clone() });
            }
            Event::NodeUncordoned { node } => {
                self.cordoned.remove(node).ok_or(ApplyError::Already("it is not cordoned"))?;
            }
            Event::LendingClosed { node, closed } => drop(self.no_lending.insert(node.clone(), closed.clone())),
            Event::LendingOpen { node } => {
                self.no_lending.remove(node).ok_or(ApplyError::Already("it lends already"))?;
            }
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
        if let Event::OffloadStarted { offload, .. }
        | Event::RecallStarted { offload, .. }
        | Event::OnwardStarted { offload, .. }
        | Event::ParkStarted { offload, .. }
        | Event::UnparkStarted { offload, .. } = &rec.event
        {
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

#[cfg(test)]
mod tests {
    use super::super::tests::{moved, push, push_by, started, with_boost};
    use super::*;
    use crate::lease::fixtures::res;
    use grid_types::event::KeepEnd;
    use grid_types::plan::Trigger as T;
    use grid_types::stop::Stop;
    use grid_types::{Millis, UnixMs};

    fn stop(mark: &str) -> Event {
        let stop = Stop { file: "/s/control/stop".into(), uid: 0, since: UnixMs(1), mark: mark.into() };
        Event::Stopped { stop }
    }

    #[test]
    fn an_order_to_stop_is_recorded_once_and_lifted_once() {
        let mut s = State::default();
        assert!(push(&mut s, Event::StopLifted {}).is_err());
        push(&mut s, stop("1")).unwrap();
        assert!(push(&mut s, stop("1")).is_err());
        push(&mut s, stop("2")).unwrap();
        assert_eq!(s.stopped.as_ref().map(|s| s.mark.as_str()), Some("2"));
        push(&mut s, Event::StopLifted {}).unwrap();
        assert_eq!(s.stopped, None);
    }

    #[test]
    fn a_cordoned_node_takes_no_guest_and_is_known_with_who_said_so() {
        let mut s = with_boost();
        let node = s.boosts[&"b-1".into()].lender.clone();
        assert_eq!(s.leases_of(&"head".into()).len(), 1);
        let person = Actor::User { uid: 0, name: None, tty: None };
        push_by(&mut s, &person, Event::NodeCordoned { node: node.clone() }).unwrap();
        assert!(push(&mut s, Event::NodeCordoned { node: node.clone() }).is_err());
        assert_eq!((s.cordoned[&node].by.clone(), s.leases_of(&"head".into()).len()), (person, 0));
        assert_eq!(s.promised(&node), s.boosts[&"b-1".into()].amount, "what is lent stays lent");
        push(&mut s, Event::NodeUncordoned { node: node.clone() }).unwrap();
        assert!(push(&mut s, Event::NodeUncordoned { node }).is_err());
        assert_eq!(s.leases_of(&"head".into()).len(), 1);
    }

    #[test]
    fn a_keep_holds_until_its_time_and_is_dropped_once() {
        let mut s = State::default();
        let process = ProcId { pid: 7, start_ticks: 1, boot_id: "b".into() };
        let keep = |until| Keep { process: process.clone(), title: "x".into(), uid: 1000, until, since: UnixMs(1) };
        push(&mut s, Event::KeepSet { keep: keep(Some(BootMs(100))) }).unwrap();
        assert_eq!((s.kept_now(BootMs(99)).count(), s.kept_now(BootMs(100)).count()), (1, 0));
        push(&mut s, Event::KeepSet { keep: keep(None) }).unwrap();
        assert_eq!((s.kept.len(), s.kept_now(BootMs(u64::MAX)).count()), (1, 1), "the last word counts");
        assert_eq!(s.kept_pid(7), Some(&process));
        let dropped = Event::KeepDropped { process, why: KeepEnd::Dropped };
        push(&mut s, dropped.clone()).unwrap();
        assert!(push(&mut s, dropped).is_err() && s.kept.is_empty());
    }

    #[test]
    fn what_grid_moved_by_itself_is_counted_apart_from_what_people_moved() {
        let mut s = with_boost();
        let rule = Actor::Rule { name: "auto-offload".into() };
        let person = Actor::User { uid: 1000, name: None, tty: None };
        for (id, pid, by) in [("o-1", 1, &rule), ("o-2", 2, &person)] {
            push_by(&mut s, by, started(id, id, pid, res(100, 100, 0))).unwrap();
            push(&mut s, moved(id, id)).unwrap();
        }
        assert_eq!((s.metrics.offloaded, s.metrics.offloaded_by_itself), (2, 1));
    }

    #[test]
    fn what_the_lenders_kernel_read_back_outlives_the_daemon() {
        assert_eq!(with_boost().enforced(&"b-1".into()).map(String::as_str), Some("cpu 2.0"));
        assert_eq!(State::default().enforced(&"b-1".into()), None);
    }

    #[test]
    fn what_became_of_a_plan_that_was_only_shown_is_recorded() {
        let plan = |s: &State, outcome| Plan {
            id: PlanId::new(format!("p-{}", s.next_seq())),
            trigger: T::Pressure { detail: "memory 88 %".into() },
            made_at: UnixMs(1),
            valid_until: BootMs(9),
            steps: Vec::new(),
            stays: Vec::new(),
            outcome,
        };
        let mut s = State::default();
        let made = plan(&s, PlanOutcome::Made);
        let settle = |outcome| Event::PlanSettled { plan: made.id.clone(), outcome };
        let rule = Actor::Rule { name: "pressure".into() };
        push_by(&mut s, &rule, Event::PlanMade { plan: made.clone() }).unwrap();
        let cleared = settle(PlanOutcome::Cleared(Millis(40_000)));
        assert!(push(&mut s, cleared.clone()).is_err(), "it was not shown yet");
        push(&mut s, settle(PlanOutcome::Observed)).unwrap();
        push(&mut s, cleared.clone()).unwrap();
        assert_eq!(s.plan(&made.id).map(|p| p.outcome.clone()), Some(PlanOutcome::Cleared(Millis(40_000))));
        assert!(push(&mut s, cleared).is_err());
        assert_eq!(s.plan_of(&settle(PlanOutcome::Applied)), Some(made.id));
    }
}

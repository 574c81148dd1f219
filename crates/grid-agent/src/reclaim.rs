//! A lender takes a lease back: its guests are frozen at once, so that the CPU is the lender's, and stay so until they leave.
//!
//! Invariants: nothing is ended here; what could not leave is frozen again, also after a restart. A guest that CRIU reads
//! at this moment is left to it, which stops it too. A frozen guest is let run for the moment in which CRIU seizes it.

use crate::agent::Agent;
use crate::lease::{failed, no_lease};
use crate::link::tracing_line;
use crate::source::refuse_when_stopped;
use grid_core::activity::why;
use grid_types::reason::{Reason, ReasonCode};
use grid_types::wire::Answer;
use grid_types::{AttemptId, LeaseId, Millis};
use std::time::Instant;

impl Agent {
    /// What the head asks for. What the owner of this machine took back stays his.
    pub(crate) fn reclaim_lease(&mut self, id: &LeaseId, freeze: bool) -> Result<Answer, Reason> {
        let his = self.leases.get(id).is_some_and(|lease| lease.record.taken_back.is_some());
        if his && !freeze {
            return Err(Reason::new(ReasonCode::Owner, self.taken_by_owner(id)));
        }
        self.set_guests(id, freeze)
    }

    /// Freezes the guests of a lease, or lets them run again. Written down before it is answered.
    pub(crate) fn set_guests(&mut self, id: &LeaseId, freeze: bool) -> Result<Answer, Reason> {
        let begun = Instant::now();
        if freeze {
            refuse_when_stopped(&self.cfg.stop)?;
        }
        let lease = self.leases.get_mut(id).ok_or_else(|| no_lease(id))?;
        let before = std::mem::replace(&mut lease.record.reclaimed, freeze);
        lease.frozen_at = freeze.then(|| lease.frozen_at.unwrap_or(begun));
        let record = lease.record.clone();
        let guests = self.guests(id);
        let done = guests.iter().try_for_each(|guest| self.set_guest(guest, freeze));
        // Rounded up: what is said is a bound.
        let took = Millis(begun.elapsed().as_micros().div_ceil(1000) as u64);
        let done = done.and_then(|()| self.ledger.put_lease(id, &record).map_err(|e| e.to_string()));
        match done {
            Ok(()) => Ok(Answer::GuestsSet { guests: guests.len() as u32, took }),
            Err(e) => {
                self.undo_reclaim(id, before, &guests);
                Err(failed(e))
            }
        }
    }

    fn undo_reclaim(&mut self, id: &LeaseId, reclaimed: bool, guests: &[AttemptId]) {
        if let Some(lease) = self.leases.get_mut(id) {
            lease.record.reclaimed = reclaimed;
        }
        for guest in guests {
            self.set_guest(guest, reclaimed).unwrap_or_else(|e| tracing_line(&e));
        }
    }

    pub(crate) fn set_guest(&self, guest: &AttemptId, frozen: bool) -> Result<(), String> {
        if !frozen && self.sleep.holds(guest) {
            return Ok(());
        }
        let read_by_criu = self.sources.values().any(|s| s.is_read_of(guest));
        match self.incoming.get(guest) {
            Some(incoming) if !read_by_criu => incoming.tree().0.group.set_frozen(frozen).map_err(|e| e.to_string()),
            _ => Ok(()),
        }
    }

    /// The tree that this attempt brought lives in a lease that its lender took back; since when, where it is known.
    pub(crate) fn reclaimed(&self, came_by: Option<&AttemptId>) -> Option<Instant> {
        let lease = self.incoming.get(came_by?)?.record.stage.lease.as_ref()?;
        let taken = self.leases.get(lease).filter(|lease| lease.record.reclaimed)?;
        Some(taken.frozen_at.unwrap_or_else(Instant::now))
    }

    /// The lender took this lease back, and its guests are frozen.
    pub(crate) fn is_taken(&self, lease: Option<&LeaseId>) -> bool {
        lease.and_then(|id| self.leases.get(id)).is_some_and(|lease| lease.record.reclaimed)
    }

    /// A guest that did not get away is frozen again, where its lender took the lease back, or its machine sleeps.
    pub(crate) fn freeze_if_held(&self, came_by: Option<&AttemptId>) -> Result<(), String> {
        let Some(guest) = came_by else { return Ok(()) };
        let held = self.reclaimed(came_by).is_some() || self.sleep.holds(guest);
        if held { self.set_guest(guest, true) } else { Ok(()) }
    }

    /// Into a lease that was taken back nobody comes, and it gets no more time.
    pub(crate) fn not_reclaimed(&self, id: &LeaseId) -> Result<(), Reason> {
        let Some(lease) = self.leases.get(id).filter(|lease| lease.record.reclaimed) else { return Ok(()) };
        let what = match lease.record.taken_back {
            Some(_) => self.taken_by_owner(id),
            None => {
                format!("{} took {id} back; it lets it run again with grid boost reclaim {id} --lift", self.cfg.node)
            }
        };
        Err(Reason::new(ReasonCode::Owner, what))
    }

    /// Who gives it back, and how.
    fn taken_by_owner(&self, id: &LeaseId) -> String {
        let node = &self.cfg.node;
        match self.rule_that_takes() {
            Some(state) => format!(
                "{node} took {id} back by its owner's rule: {}; or he takes the rule away there: grid lend rule --remove {}",
                why(state),
                state.rule.when.measure().as_str()
            ),
            None => format!("the owner of {node} took {id} back himself; he gives it back there: grid lend on"),
        }
    }

    /// Whoever died before all of its guests were frozen has the others frozen now.
    pub(crate) fn recover_reclaimed(&self) {
        let taken = self.leases.iter().filter(|(_, lease)| lease.record.reclaimed).map(|(id, _)| id.clone());
        for id in taken.collect::<Vec<_>>() {
            for guest in self.guests(&id) {
                self.set_guest(&guest, true).unwrap_or_else(|e| tracing_line(&e));
            }
        }
    }
}

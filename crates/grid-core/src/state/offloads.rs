//! Events of offloads.
//!
//! ```text
//!  started ──► Moving ── moved ──► Away ── recall started ──► Returning ── recalled ──► Home
//!    ▲           │ failed           ▲                            │
//!    └── Failed ◄┘                  └────── recall failed ───────┘
//!
//!  Away ── onward started ──► Onward ── onward moved ──► Away (elsewhere), or onward failed ──► Away (as before)
//!
//!  started to park, or Away ── park started ──► Parking ── parked ──► Parked ── unpark started ──► Unparking
//!      park failed: Failed, or Away as before         unparked: Home, or Away; unpark failed: Parked as before
//!
//!  Moving, Returning, Onward, Parking, Unparking ── in doubt ──► InDoubt ── proof either way, or a person's decision
//!  any live phase, Home ── ended ──► Ended (status known) or Lost (unknown, or dropped in doubt)
//! ```

use super::{ApplyError, State};
use grid_types::boost::BoostState;
use grid_types::event::{
    Actor, Direction, Event, EventRecord, OffloadPhase as P, OffloadRecord, OnwardTo, ParkedAt, Resolution,
};
use grid_types::reason::{Reason, ReasonCode};
use grid_types::{AttemptId, BoostId, NodeName, OffloadId, Resources};

impl State {
    pub(super) fn offload_event(&mut self, rec: &EventRecord) -> Result<(), ApplyError> {
        if let Event::OffloadStarted { .. } = &rec.event {
            return self.started(rec);
        }
        if let Event::OffloadListens { offload, all } = &rec.event {
            let known = self.offloads.get_mut(offload).ok_or_else(|| ApplyError::UnknownOffload(offload.clone()))?;
            // Its phase does not change by that, nor since when it is in it.
            known.listens.clone_from(all);
            return Ok(());
        }
        let Some((id, attempt, name)) = about(&rec.event) else { return Ok(()) };
        let offload = self.offloads.get(id).ok_or_else(|| ApplyError::UnknownOffload(id.clone()))?;
        let begins = matches!(
            rec.event,
            Event::RecallStarted { .. }
                | Event::OnwardStarted { .. }
                | Event::ParkStarted { .. }
                | Event::UnparkStarted { .. }
        );
        if let Some(got) = attempt.filter(|a| !begins && **a != offload.attempt) {
            let current = offload.attempt.clone();
            return Err(ApplyError::StaleAttempt { offload: id.clone(), current, got: got.clone() });
        }
        let phase = next_phase(offload, &rec.event);
        let Some(phase) = phase else {
            return Err(ApplyError::Offload { offload: id.clone(), phase: offload.phase, event: name });
        };
        self.still_held(offload, phase)?;
        if let Event::OnwardStarted { destination, boost, .. } = &rec.event {
            self.room(boost, destination, &offload.needed)?;
        }
        if let Event::UnparkStarted { to: Some(to), .. } = &rec.event {
            self.room(&to.boost, &to.node, &offload.needed)?;
        }
        let mut next = offload.clone();
        (next.phase, next.since) = (phase, rec.at);
        if !phase.is_guest() {
            next.listens.clear();
        }
        self.note(&mut next, rec);
        self.offloads.insert(next.id.clone(), next);
        Ok(())
    }

    /// Nothing comes back to life in a lease whose capacity went back on proof that it was empty, nor twice.
    fn still_held(&self, o: &OffloadRecord, next: P) -> Result<(), ApplyError> {
        if let Some(other) = self.offload_of(&o.process).filter(|other| next.is_guest() && other.id != o.id) {
            return Err(ApplyError::ProcessBusy { process: o.process.clone(), offload: other.id.clone() });
        }
        let lost = |id: &BoostId| self.boosts.get(id).is_none_or(|b| !b.state.holds_capacity());
        let mut leases = o.boost.iter().chain(o.onward.as_ref().map(|to| &to.boost));
        match leases.find(|id| next.is_guest() && lost(id)) {
            Some(id) => Err(ApplyError::NoGuests { boost: id.clone(), destination: o.destination.clone() }),
            None => Ok(()),
        }
    }

    fn started(&mut self, rec: &EventRecord) -> Result<(), ApplyError> {
        let Some(mut record) = record_of(rec) else { return Ok(()) };
        if let Some(before) = self.offloads.get(&record.id) {
            if before.phase != P::Failed || before.process != record.process {
                return Err(ApplyError::Exists(record.id.to_string()));
            }
            record.attempts = before.attempts + 1;
            record.started_at = before.started_at;
            record.reasons.clone_from(&before.reasons);
        }
        if let Some(other) = self.offload_of(&record.process) {
            let (process, offload) = (record.process.clone(), other.id.clone());
            return Err(ApplyError::ProcessBusy { process, offload });
        }
        if let Some(boost) = &record.boost {
            self.room(boost, &record.destination, &record.needed)?;
        }
        self.offloads.insert(record.id.clone(), record);
        Ok(())
    }

    fn room(&self, id: &BoostId, destination: &NodeName, needed: &Resources) -> Result<(), ApplyError> {
        let boost = self.boost(id)?;
        if boost.state != BoostState::Active || boost.lender != *destination {
            return Err(ApplyError::NoGuests { boost: id.clone(), destination: destination.clone() });
        }
        let free = self.lease_free(id).unwrap_or_default();
        if needed.fits_in(&free) {
            Ok(())
        } else {
            Err(ApplyError::OverCommitted { boost: id.clone(), free, needed: *needed })
        }
    }

    /// What an event adds to the record, the counters and the cool-downs.
    fn note(&mut self, o: &mut OffloadRecord, rec: &EventRecord) {
        match &rec.event {
            Event::OffloadMoved { figures, .. } => {
                o.figures = Some(figures.clone());
                self.metrics.offloaded += 1;
                let by_itself = matches!(self.causes.get(&o.id), Some(Actor::Rule { .. }));
                self.metrics.offloaded_by_itself += u64::from(by_itself);
                self.metrics.moved(figures);
                self.cooldowns.moved(&o.process, rec.boot_at);
            }
            Event::OffloadFailed { reason, .. } => {
                o.parked = None;
                o.reasons.push(reason.clone());
                *self.metrics.failed.entry(reason.code).or_default() += 1;
                self.cooldowns.failed(&o.process, rec.boot_at);
            }
            Event::ProcessEnded { status, .. } => {
                o.exit = *status;
                self.recall_failed.remove(&o.id);
                self.metrics.ended_away += 1;
            }
            Event::OffloadInDoubt { detail, .. } => {
                o.reasons.push(Reason::new(ReasonCode::Doubt, detail.clone()));
                self.metrics.in_doubt += 1;
            }
            _ => {
                self.note_way_back(o, rec);
                self.note_way_on(o, rec);
                self.note_parking(o, rec);
            }
        }
    }

    fn note_way_on(&mut self, o: &mut OffloadRecord, rec: &EventRecord) {
        match &rec.event {
            Event::OnwardStarted { attempt, destination, boost, .. } => {
                o.attempt = attempt.clone();
                o.attempts += 1;
                o.direction = Direction::Onward;
                o.onward = Some(OnwardTo { node: destination.clone(), boost: boost.clone() });
                self.recall_failed.remove(&o.id);
            }
            Event::OnwardMoved { figures, .. } => {
                if let Some(to) = o.onward.take() {
                    (o.destination, o.boost) = (to.node, Some(to.boost));
                }
                // As after any move out: away, where it was to go.
                o.direction = Direction::Out;
                o.figures = Some(figures.clone());
                self.metrics.moved_on += 1;
                self.metrics.moved(figures);
            }
            Event::OnwardFailed { reason, .. } => {
                o.onward = None;
                o.reasons.push(reason.clone());
                self.recall_failed.insert(o.id.clone());
            }
            // Thawed where it was.
            Event::OffloadResolved { .. } => o.onward = None,
            _ => {}
        }
    }

    fn note_way_back(&mut self, o: &mut OffloadRecord, rec: &EventRecord) {
        match &rec.event {
            Event::RecallStarted { attempt, .. } => {
                o.attempt = attempt.clone();
                o.attempts += 1;
                o.direction = Direction::Back;
                self.recall_failed.remove(&o.id);
            }
            Event::RecallFailed { reason, .. } => {
                o.reasons.push(reason.clone());
                self.recall_failed.insert(o.id.clone());
            }
            Event::Recalled { pid, process, figures, .. } => {
                o.figures = Some(figures.clone());
                o.home_pid = Some(*pid);
                o.home.clone_from(process);
                self.recall_failed.remove(&o.id);
                self.metrics.recalled += 1;
                self.metrics.moved(figures);
                if let Some(process) = process {
                    self.cooldowns.moved(process, rec.boot_at);
                }
            }
            _ => {}
        }
    }
}

fn record_of(rec: &EventRecord) -> Option<OffloadRecord> {
    let Event::OffloadStarted { offload, attempt, process, title, uid, source, destination, boost, needed, plan, park } =
        &rec.event
    else {
        return None;
    };
    let parked =
        park.then(|| ParkedAt { node: destination.clone(), attempt: attempt.clone(), since: None, bytes: None });
    Some(OffloadRecord {
        id: offload.clone(),
        process: process.clone(),
        title: title.clone(),
        uid: *uid,
        source: source.clone(),
        destination: destination.clone(),
        boost: boost.clone(),
        onward: None,
        parked,
        plan: plan.clone(),
        phase: if *park { P::Parking } else { P::Moving },
        direction: if *park { Direction::Park } else { Direction::Out },
        attempt: attempt.clone(),
        attempts: 1,
        needed: *needed,
        figures: None,
        listens: Vec::new(),
        exit: None,
        home: None,
        home_pid: None,
        since: rec.at,
        started_at: rec.at,
        reasons: Vec::new(),
    })
}

/// Offload, attempt where the event carries one, and a name for messages.
fn about(event: &Event) -> Option<(&OffloadId, Option<&AttemptId>, &'static str)> {
    Some(match event {
        Event::OffloadMoved { offload, attempt, .. } => (offload, Some(attempt), "away"),
        Event::OffloadFailed { offload, attempt, .. } => (offload, Some(attempt), "failed"),
        Event::RecallStarted { offload, attempt } => (offload, Some(attempt), "returning"),
        Event::Recalled { offload, attempt, .. } => (offload, Some(attempt), "home"),
        Event::RecallFailed { offload, attempt, .. } => (offload, Some(attempt), "away again"),
        Event::OnwardStarted { offload, attempt, .. } => (offload, Some(attempt), "on its way on"),
        Event::OnwardMoved { offload, attempt, .. } => (offload, Some(attempt), "away elsewhere"),
        Event::OnwardFailed { offload, attempt, .. } => (offload, Some(attempt), "away as before"),
        Event::ParkStarted { offload, attempt, .. } => (offload, Some(attempt), "being parked"),
        Event::Parked { offload, attempt, .. } => (offload, Some(attempt), "parked"),
        Event::ParkFailed { offload, attempt, .. } => (offload, Some(attempt), "not parked"),
        Event::UnparkStarted { offload, attempt, .. } => (offload, Some(attempt), "being unparked"),
        Event::Unparked { offload, attempt, .. } => (offload, Some(attempt), "unparked"),
        Event::UnparkFailed { offload, attempt, .. } => (offload, Some(attempt), "parked as before"),
        Event::OffloadInDoubt { offload, attempt, .. } => (offload, Some(attempt), "in doubt"),
        Event::ProcessEnded { offload, .. } => (offload, None, "ended"),
        Event::OffloadResolved { offload, .. } => (offload, None, "resolved"),
        _ => return None,
    })
}

/// The legal transitions. In doubt, only events of the way that was under way are proof.
fn next_phase(o: &OffloadRecord, event: &Event) -> Option<P> {
    use Direction::{Back, Onward, Out, Park, Unpark};
    let (phase, direction) = (o.phase, o.direction);
    // Where it lives until it is parked, and where it lives once it is not any more.
    let before = if o.boost.is_some() { P::Away } else { P::Failed };
    let after = if o.onward.is_some() { P::Away } else { P::Home };
    let ended = |status: &Option<_>| if status.is_some() { P::Ended } else { P::Lost };
    Some(match (phase, direction, event) {
        (P::Moving, _, Event::OffloadMoved { .. }) => P::Away,
        (P::InDoubt | P::Lost, Out, Event::OffloadMoved { .. }) => P::Away,
        (P::Moving, _, Event::OffloadFailed { .. }) | (P::InDoubt, Out, Event::OffloadFailed { .. }) => P::Failed,
        (P::Away, _, Event::RecallStarted { .. }) => P::Returning,
        (P::Returning, _, Event::Recalled { .. }) | (P::InDoubt | P::Lost, Back, Event::Recalled { .. }) => P::Home,
        (P::Returning, _, Event::RecallFailed { .. }) | (P::InDoubt, Back, Event::RecallFailed { .. }) => P::Away,
        (P::Away, _, Event::OnwardStarted { .. }) => P::Onward,
        (P::Onward, _, Event::OnwardMoved { .. }) | (P::InDoubt | P::Lost, Onward, Event::OnwardMoved { .. }) => {
            P::Away
        }
        (P::Onward, _, Event::OnwardFailed { .. }) | (P::InDoubt, Onward, Event::OnwardFailed { .. }) => P::Away,
        (P::Away, _, Event::ParkStarted { .. }) => P::Parking,
        (P::Parking, _, Event::Parked { .. }) | (P::InDoubt | P::Lost, Park, Event::Parked { .. }) => P::Parked,
        (P::Parking, _, Event::ParkFailed { .. }) | (P::InDoubt, Park, Event::ParkFailed { .. }) => before,
        (P::Parked, _, Event::UnparkStarted { .. }) => P::Unparking,
        (P::Unparking, _, Event::Unparked { .. }) | (P::InDoubt | P::Lost, Unpark, Event::Unparked { .. }) => after,
        (P::Unparking, _, Event::UnparkFailed { .. }) | (P::InDoubt, Unpark, Event::UnparkFailed { .. }) => P::Parked,
        (moving, _, Event::OffloadInDoubt { .. }) if moving.is_under_way() => P::InDoubt,
        // Thawed at the owner of the attempt: at home on the way out, at the lender on the way back.
        (P::InDoubt, Out, Event::OffloadResolved { decision: Resolution::AcceptRepeat, .. }) => P::Home,
        (P::InDoubt, Park, Event::OffloadResolved { decision: Resolution::AcceptRepeat, .. })
            if before == P::Failed =>
        {
            P::Home
        }
        (P::InDoubt, Unpark, Event::OffloadResolved { decision: Resolution::AcceptRepeat, .. }) => P::Parked,
        (P::InDoubt, Back | Onward | Park, Event::OffloadResolved { decision: Resolution::AcceptRepeat, .. }) => {
            P::Away
        }
        (P::InDoubt, _, Event::OffloadResolved { decision: Resolution::Drop, .. }) => P::Lost,
        (live, _, Event::ProcessEnded { status, .. }) if live.is_guest() || live == P::Home => ended(status),
        (P::Lost, _, Event::ProcessEnded { status: Some(_), .. }) => P::Ended,
        _ => return None,
    })
}

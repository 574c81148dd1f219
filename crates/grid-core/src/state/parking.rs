//! What events of parking add to an offload's record.

use super::State;
use grid_types::event::{Direction, Event, EventRecord, MoveFigures, OffloadRecord, ParkedAt, Resolution};
use grid_types::{AttemptId, ProcId};

impl State {
    pub(super) fn note_parking(&mut self, o: &mut OffloadRecord, rec: &EventRecord) {
        match &rec.event {
            Event::ParkStarted { attempt, node, .. } => {
                begin(o, attempt, Direction::Park);
                let (node, attempt) = (node.clone(), attempt.clone());
                o.parked = Some(ParkedAt { node, attempt, since: None, bytes: None });
                self.recall_failed.remove(&o.id);
            }
            Event::Parked { figures, .. } => {
                o.figures = Some(figures.clone());
                if let Some(parked) = &mut o.parked {
                    (parked.since, parked.bytes) = (Some(rec.at), figures.bytes);
                    o.destination = parked.node.clone();
                }
                o.boost = None;
                self.recall_failed.remove(&o.id);
                self.metrics.moved(figures);
            }
            Event::ParkFailed { reason, .. } => {
                o.parked = None;
                o.reasons.push(reason.clone());
                match o.boost {
                    Some(_) => drop(self.recall_failed.insert(o.id.clone())),
                    None => self.cooldowns.failed(&o.process, rec.boot_at),
                }
            }
            Event::UnparkStarted { attempt, to, .. } => {
                begin(o, attempt, Direction::Unpark);
                o.onward.clone_from(to);
            }
            Event::Unparked { process, figures, .. } => self.unparked(o, process.as_ref(), figures, rec),
            Event::UnparkFailed { reason, .. } => {
                // As before: parked since then.
                o.since = o.parked.as_ref().and_then(|p| p.since).unwrap_or(o.since);
                o.onward = None;
                o.reasons.push(reason.clone());
            }
            // Runs where it was before it was to be parked.
            Event::OffloadResolved { decision: Resolution::AcceptRepeat, .. } if o.direction == Direction::Park => {
                o.parked = None;
            }
            _ => {}
        }
    }

    fn unparked(&mut self, o: &mut OffloadRecord, process: Option<&ProcId>, figures: &MoveFigures, rec: &EventRecord) {
        o.figures = Some(figures.clone());
        o.parked = None;
        match o.onward.take() {
            // As after any move out, or back.
            Some(to) => (o.destination, o.boost, o.direction) = (to.node, Some(to.boost), Direction::Out),
            None => {
                (o.home, o.home_pid, o.direction) = (process.cloned(), process.map(|p| p.pid), Direction::Back);
            }
        }
        self.metrics.moved(figures);
        self.cooldowns.moved(process.unwrap_or(&o.process), rec.boot_at);
    }
}

/// Another attempt, this way.
fn begin(o: &mut OffloadRecord, attempt: &AttemptId, direction: Direction) {
    o.attempt = attempt.clone();
    o.attempts += 1;
    o.direction = direction;
}

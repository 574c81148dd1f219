//! `grid stop`: what this agent does when the order comes, and what it says of it.
//!
//! The file is the order: it is looked at before every freeze, and its coming is an input like any other, so it is heeded
//! without the daemon. A move that is past its commit finishes; every other is undone by the same way as a cancel.

use super::Outgoing;
use crate::agent::{Agent, Input};
use crate::link::tracing_line;
use grid_core::handover::{HomeCopy, SourceInput};
use grid_types::handover::SourceState;
use grid_types::reason::{Reason, ReasonCode};
use grid_types::stop::{Stop, StopAnswer, StopPlace};
use grid_types::{AttemptId, Millis};
use std::time::Instant;

/// An order is not older than this when it is noticed, unless it came while this agent did not run.
const FRESH_MS: u64 = 60_000;

/// An order that is being heeded.
pub(crate) struct Heeded {
    answer: StopAnswer,
    /// Undone ones that may still be frozen.
    open: Vec<AttemptId>,
    seen: Instant,
    /// From the order to its being noticed.
    lag: u64,
    /// That it was heeded has been said.
    told: bool,
}

/// Refuses to begin what freezes.
pub(crate) fn refuse(place: &StopPlace) -> Result<(), Reason> {
    match grid_os::stop::standing(place) {
        Some(stop) => Err(refusal(&stop)),
        None => Ok(()),
    }
}

fn refusal(stop: &Stop) -> Reason {
    Reason::new(ReasonCode::Stop, format!("grid is stopped by {}", stop.file.display()))
}

impl Heeded {
    pub(crate) fn answer(&self) -> &StopAnswer {
        &self.answer
    }
}

impl Outgoing {
    /// A process of it is frozen, or may be in a moment: CRIU or its hold keeps it.
    fn may_be_frozen(&self) -> bool {
        self.dumping || (self.hold.exists() && self.hold.is_frozen().unwrap_or(true))
    }
}

impl Agent {
    /// Heeds an order that stands, and those that come, for ever.
    pub(crate) fn watch_stop(&mut self) {
        self.stop_changed();
        let (place, inputs) = (self.cfg.stop.clone(), self.inputs.clone());
        let known = grid_os::stop::standing(&place);
        grid_os::stop::watch(place, known, move |_| inputs.send(Input::StopChanged).is_ok());
    }

    pub(crate) fn stop_changed(&mut self) {
        self.tell_stop(None);
        let Some(stop) = grid_os::stop::standing(&self.cfg.stop) else {
            let _ = std::fs::remove_file(self.cfg.stop.answer(&self.cfg.node));
            self.heeded = None;
            return;
        };
        if self.heeded.as_ref().is_some_and(|h| h.answer.mark == stop.mark) {
            return;
        }
        let lag = grid_os::clock::unix_ms().0.saturating_sub(stop.since.0);
        let seen = Instant::now();
        let (undone, finishing) = self.undo_uncommitted(&refusal(&stop));
        let answer = StopAnswer { node: self.cfg.node.clone(), mark: stop.mark, undone, finishing, took: None };
        let lag = if lag < FRESH_MS { lag } else { 0 };
        self.heeded = Some(Heeded { open: answer.undone.clone(), answer, seen, lag, told: false });
        self.stop_settled();
    }

    /// Undoes what is before its commit; what is past it is named.
    fn undo_uncommitted(&mut self, why: &Reason) -> (Vec<AttemptId>, Vec<AttemptId>) {
        let (mut undone, mut finishing) = (Vec::new(), Vec::new());
        for (attempt, outgoing) in &mut self.sources {
            match outgoing.machine.state {
                // Where the machine rebooted, the staged copy is the only one: nothing is frozen here.
                SourceState::Running | SourceState::Frozen if outgoing.machine.home != HomeCopy::Rebooted => {
                    outgoing.undone_by = Some(why.clone());
                    undone.push(attempt.clone());
                }
                SourceState::Running | SourceState::Frozen | SourceState::Committed => finishing.push(attempt.clone()),
                _ => {}
            }
        }
        for attempt in &undone {
            self.step_source(attempt, SourceInput::CancelRequested);
        }
        (undone, finishing)
    }

    /// Answers once nothing of what was undone is frozen, and at once that it was heeded. Called after every input.
    pub(crate) fn stop_settled(&mut self) {
        let Some(mut heeded) = self.heeded.take_if(|h| h.answer.took.is_none()) else { return };
        heeded.open.retain(|a| self.sources.get(a).is_some_and(Outgoing::may_be_frozen));
        if heeded.open.is_empty() {
            heeded.answer.took = Some(Millis(heeded.lag + heeded.seen.elapsed().as_millis() as u64));
        }
        let news = !std::mem::replace(&mut heeded.told, true) || heeded.answer.took.is_some();
        if news && let Err(e) = grid_os::stop::answer(&self.cfg.stop, &heeded.answer) {
            tracing_line(&format!("stopped, and cannot say so in {}: {e}", self.cfg.stop.answers.display()));
        }
        self.heeded = Some(heeded);
        if news {
            self.answer_head();
        }
    }
}

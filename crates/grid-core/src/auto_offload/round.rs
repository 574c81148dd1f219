//! One round of automatic moves: steps in order, a failure never stops the next, and a report of all of it.

use grid_types::plan::{Plan, PlanStep};
use grid_types::reason::Reason;
use grid_types::{BoostId, NodeName, OffloadId, ProcId};
use std::collections::VecDeque;

/// What became of one step.
#[derive(Clone, Debug, PartialEq)]
pub enum StepResult {
    /// It runs at the destination.
    Moved(OffloadId),
    /// It did not move, and runs where it was.
    Failed(Reason),
}

/// Everything a round did.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Report {
    /// The boost that set it off, where one did.
    pub boost: Option<BoostId>,
    /// Processes considered.
    pub scanned: usize,
    /// Steps planned.
    pub found: usize,
    /// Moved: process, destination, offload.
    pub moved: Vec<(ProcId, NodeName, OffloadId)>,
    /// Failed: process, why.
    pub failed: Vec<(ProcId, Reason)>,
    /// O4: the scan itself failed; nothing was planned.
    pub scan_error: Option<String>,
}

impl Report {
    /// O4: a scan that failed, as a report: it is logged and never propagates.
    pub fn of_failed_scan(boost: Option<BoostId>, error: impl Into<String>) -> Self {
        Self { boost, scan_error: Some(error.into()), ..Self::default() }
    }

    /// O5, O3: the lines of the log.
    pub fn lines(&self) -> Vec<String> {
        let of = self.boost.as_ref().map_or("pressure".to_owned(), ToString::to_string);
        if let Some(error) = &self.scan_error {
            return vec![format!("{of}: scan failed, nothing was moved: {error}")];
        }
        if self.found == 0 {
            return vec![format!("{of}: no process of {} can move now", self.scanned)];
        }
        let mut lines = vec![format!("{of}: {} of {} processes to move", self.found, self.scanned)];
        lines.extend(self.moved.iter().map(|(p, to, id)| format!("{of}: {p} moved to {to} as {id}")));
        lines.extend(self.failed.iter().map(|(p, why)| format!("{of}: {p} stays: {why}")));
        lines
    }
}

/// A round under way. The shell takes a step with [`Round::next_step`], executes it, and says what became of it with
/// [`Round::done`], until there is none.
#[derive(Clone, Debug)]
pub struct Round {
    left: VecDeque<PlanStep>,
    current: Option<PlanStep>,
    report: Report,
}

impl Round {
    /// A round over a checked plan, made from a scan of so many processes.
    pub fn new(boost: Option<BoostId>, plan: &Plan, scanned: usize) -> Self {
        let report = Report { boost, scanned, found: plan.steps.len(), ..Report::default() };
        Self { left: plan.steps.iter().cloned().collect(), current: None, report }
    }

    /// The next step to execute; none where the round is over. A step that was taken before and not said done is lost.
    pub fn next_step(&mut self) -> Option<PlanStep> {
        self.current = self.left.pop_front();
        self.current.clone()
    }

    /// What became of the step that was taken last.
    pub fn done(&mut self, result: StepResult) {
        let Some(step) = self.current.take() else { return };
        match result {
            StepResult::Moved(id) => self.report.moved.push((step.process, step.destination, id)),
            StepResult::Failed(why) => self.report.failed.push((step.process, why)),
        }
    }

    /// The report so far.
    pub fn report(&self) -> &Report {
        &self.report
    }
}

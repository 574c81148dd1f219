//! O9: counters of automatic and manual moves. Folded from the journal, so a restart loses none.

use grid_types::event::{HookOutcome, MoveFigures};
use grid_types::plan::{Plan, PlanOutcome, Trigger};
use grid_types::reason::ReasonCode;
use grid_types::{Bytes, Millis};
use std::collections::BTreeMap;

/// Counters since the journal began.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Metrics {
    /// Boosts that became active.
    pub activations: u64,
    /// Boosts that failed after they were granted.
    pub boosts_failed: u64,
    /// Requests that no lender could hold.
    pub boosts_refused: u64,
    /// Processes that plans of boosts and of pressure considered.
    pub scanned: u64,
    /// Steps of plans that were only observed.
    pub observed: u64,
    /// Moves that reached their destination.
    pub offloaded: u64,
    /// Moves that failed, by reason.
    pub failed: BTreeMap<ReasonCode, u64>,
    /// Processes that plans left where they were, by their first reason.
    pub skipped: BTreeMap<ReasonCode, u64>,
    /// Processes that came home.
    pub recalled: u64,
    /// Processes that ended away.
    pub ended_away: u64,
    /// Moves in doubt.
    pub in_doubt: u64,
    /// Hooks by outcome: done, failed, panicked, timed_out, skipped.
    pub hooks: BTreeMap<&'static str, u64>,
    /// Time that hooks took in all.
    pub hook_time: Millis,
    /// Bytes that crossed.
    pub bytes: Bytes,
    /// Freezes in all.
    pub downtime: Millis,
    /// The longest freeze.
    pub downtime_longest: Millis,
    /// Moves in all, request to start.
    pub move_time: Millis,
}

impl Metrics {
    pub(crate) fn plan(&mut self, plan: &Plan) {
        if !matches!(plan.trigger, Trigger::BoostActivated { .. } | Trigger::Pressure { .. }) {
            return;
        }
        self.scanned += (plan.steps.len() + plan.stays.len()) as u64;
        for stay in &plan.stays {
            if let Some(first) = stay.reasons.first() {
                *self.skipped.entry(first.code).or_default() += 1;
            }
        }
    }

    pub(crate) fn settled(&mut self, plan: &Plan, outcome: &PlanOutcome) {
        if *outcome == PlanOutcome::Observed {
            self.observed += plan.steps.len() as u64;
        }
    }

    pub(crate) fn moved(&mut self, figures: &MoveFigures) {
        self.bytes.0 = self.bytes.0.saturating_add(figures.bytes.0);
        self.downtime.0 = self.downtime.0.saturating_add(figures.downtime.0);
        self.downtime_longest = self.downtime_longest.max(figures.downtime);
        self.move_time.0 = self.move_time.0.saturating_add(figures.total.0);
    }

    pub(crate) fn hook(&mut self, outcome: &HookOutcome, took: Millis) {
        let key = match outcome {
            HookOutcome::Done { .. } => "done",
            HookOutcome::Failed { .. } => "failed",
            HookOutcome::Panicked => "panicked",
            HookOutcome::TimedOut => "timed_out",
            HookOutcome::Skipped { .. } => "skipped",
        };
        *self.hooks.entry(key).or_default() += 1;
        self.hook_time.0 = self.hook_time.0.saturating_add(took.0);
    }
}

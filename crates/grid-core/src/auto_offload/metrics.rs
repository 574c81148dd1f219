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
    /// Those of them that a rule chose, and no person.
    pub offloaded_by_itself: u64,
    /// Moves that failed, by reason.
    pub failed: BTreeMap<ReasonCode, u64>,
    /// Processes that plans left where they were, by their first reason.
    pub skipped: BTreeMap<ReasonCode, u64>,
    /// Processes that came home.
    pub recalled: u64,
    /// Moves from one lender to another.
    pub moved_on: u64,
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
    /// The counters in Prometheus' text format.
    pub fn prometheus(&self) -> String {
        let seconds = |ms: Millis| format!("{:.3}", ms.0 as f64 / 1000.0);
        let mut lines = Vec::new();
        let mut counter = |name: &str, help: &str, values: Vec<(String, String)>| {
            lines.push(format!("# HELP grid_{name} {help}\n# TYPE grid_{name} counter"));
            lines.extend(values.into_iter().map(|(labels, value)| format!("grid_{name}{labels} {value}")));
        };
        let mut plain =
            |name: &str, help: &str, value: u64| counter(name, help, vec![(String::new(), value.to_string())]);
        plain("boosts_activated_total", "Boosts that became active.", self.activations);
        plain("boosts_failed_total", "Boosts that failed after they were granted.", self.boosts_failed);
        plain("boosts_refused_total", "Requests that no lender could hold.", self.boosts_refused);
        plain("scanned_total", "Processes that plans of boosts and of pressure considered.", self.scanned);
        plain("observed_total", "Moves that were only shown.", self.observed);
        plain("offloaded_total", "Moves that reached their destination.", self.offloaded);
        plain("offloaded_by_itself_total", "Moves that a rule chose, and no person.", self.offloaded_by_itself);
        plain("recalled_total", "Processes that came home.", self.recalled);
        plain("moved_on_total", "Moves from one lender to another.", self.moved_on);
        plain("ended_away_total", "Processes that ended away.", self.ended_away);
        plain("in_doubt_total", "Moves in doubt.", self.in_doubt);
        plain("moved_bytes_total", "Memory that crossed, in bytes.", self.bytes.0);
        let by_code = |map: &BTreeMap<ReasonCode, u64>| {
            map.iter().map(|(code, n)| (format!("{{code=\"{code}\"}}"), n.to_string())).collect()
        };
        counter("offload_failed_total", "Moves that failed, by reason.", by_code(&self.failed));
        counter(
            "skipped_total",
            "Processes that plans left where they were, by their first reason.",
            by_code(&self.skipped),
        );
        let hooks = self.hooks.iter().map(|(outcome, n)| (format!("{{outcome=\"{outcome}\"}}"), n.to_string()));
        counter("hooks_total", "Hooks that ran for boosts, by outcome.", hooks.collect());
        let mut time =
            |name: &str, help: &str, value: Millis| counter(name, help, vec![(String::new(), seconds(value))]);
        time("hook_seconds_total", "Time that hooks took.", self.hook_time);
        time("downtime_seconds_total", "Freezes in all.", self.downtime);
        time("move_seconds_total", "Moves in all, from the request to the start.", self.move_time);
        lines.join("\n") + "\n"
    }

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
        let downtime = figures.downtime.unwrap_or_default();
        self.bytes.0 = self.bytes.0.saturating_add(figures.bytes.unwrap_or_default().0);
        self.downtime.0 = self.downtime.0.saturating_add(downtime.0);
        self.downtime_longest = self.downtime_longest.max(downtime);
        self.move_time.0 = self.move_time.0.saturating_add(figures.total.unwrap_or_default().0);
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

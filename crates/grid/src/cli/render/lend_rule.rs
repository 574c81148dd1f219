//! The rules of `grid lend`: what each is, and what it comes to now.

use super::Clock;
use crate::cli::lend::{LendChange, LendStatus};
use grid_core::activity;
use grid_types::lend_rule::{RulePhase, RuleState, Seen, Then};
use grid_types::units::{Millis, UnixMs};
use std::fmt::Write;

/// What a machine does whose rule is in force. `by`: whose rule, in brackets.
pub(super) fn does(state: &RuleState, by: &str) -> String {
    match state.rule.then {
        Then::Off => format!("lends nothing new now, by a rule{by}"),
        Then::Reclaim => format!("lends nothing now, by a rule{by}, and takes back what it had lent"),
    }
}

/// Each rule, and below it what it comes to now.
pub(super) fn rules(s: &LendStatus, clock: Clock) -> String {
    let all = s.order.as_ref().map(|order| order.rules.as_slice()).unwrap_or_default();
    let states = s.answer.as_ref().map(|answer| answer.rules.as_slice()).unwrap_or_default();
    let mut out = String::new();
    for rule in all {
        let _ = writeln!(out, "  rule     {rule}");
        let now = states.iter().find(|state| state.rule == *rule).and_then(|state| rule_now(state, clock));
        let _ = now.map(|now| writeln!(out, "           {now}"));
    }
    out
}

/// `IN FORCE since 12:05:10: your own processes use 3.2 CPU; lends again 5m00s after that`; nothing while it is calm.
fn rule_now(state: &RuleState, clock: Clock) -> Option<String> {
    let ago = |at: UnixMs| Millis(clock.now.0.saturating_sub(at.0) / 1000 * 1000);
    let seen = state.seen.as_ref().map(|seen| match seen {
        Seen::Input { terminal, at } => format!(": input {} ago on {terminal}", ago(*at)),
        Seen::Load(cpu) => format!(": your own processes use {cpu} CPU"),
        Seen::Memory(free) => format!(": {free} are available"),
    });
    let seen = seen.unwrap_or_default();
    match (state.phase, state.again()) {
        (RulePhase::Calm, _) => None,
        (RulePhase::Rising { since }, _) => {
            Some(format!("not yet in force{seen}, since {}; in force after {}", ago(since), state.rule.hold))
        }
        (RulePhase::InForce { since, .. }, Some(again)) => {
            Some(format!("IN FORCE since {}{seen}; lends again at {}", clock.time(since), clock.time(again)))
        }
        (RulePhase::InForce { since, .. }, None) => {
            let begun = ago(UnixMs(since.0.saturating_sub(state.rule.hold.0)));
            let after = state.rule.quiet;
            Some(format!("IN FORCE since {}{seen} since {begun}; lends again {after} after that", clock.time(since)))
        }
    }
}

/// All rules of the word, and which of them says no already.
pub(super) fn changed(c: &LendChange) -> String {
    let mut out: String = c.order.rules.iter().map(|rule| format!("  rule     {rule}\n")).collect();
    let states = c.answer.as_ref().map(|answer| answer.rules.as_slice()).unwrap_or_default();
    let in_force = activity::in_force(states).filter(|state| !c.dry_run && c.order.rules.contains(&state.rule));
    if let Some(state) = in_force {
        let _ = writeln!(out, "Now a rule is in force: {}.", activity::why(state));
    }
    out
}

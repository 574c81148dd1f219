//! `grid plan …`, and dry runs.

use super::scan::{moved_bytes, step_cells, valid};
use super::table::Table;
use super::{Clock, count, moved, reasons};
use grid_types::api::OffloadView;
use grid_types::event::OffloadPhase;
use grid_types::plan::{Plan, PlanOutcome, Trigger};
use std::fmt::Write;

fn trigger(t: &Trigger) -> String {
    match t {
        Trigger::BoostActivated { boost } => format!("{boost} became active"),
        Trigger::Pressure { detail } => format!("pressure: {detail}"),
        Trigger::Scan => "a scan".to_owned(),
        Trigger::Named { pid } => format!("{pid} was named"),
    }
}

fn outcome(plan: &Plan, clock: Clock) -> String {
    match &plan.outcome {
        PlanOutcome::Made => valid(plan, clock.boot),
        PlanOutcome::Observed => format!("observed, not done ({})", valid(plan, clock.boot)),
        PlanOutcome::Cleared(after) => format!("observed, not done: it cleared by itself after {after}"),
        PlanOutcome::Applied => "done".to_owned(),
        PlanOutcome::Refused(why) => format!("refused: {why}"),
    }
}

/// Plans, and what became of them.
pub fn plans(all: &[Plan], clock: Clock) -> String {
    let mut table = Table::new(&["PLAN", "MADE", "BECAUSE", "MOVES", "OUTCOME"]);
    for p in all {
        let pids: Vec<_> = p.steps.iter().map(|s| s.process.to_string()).collect();
        let moves = if pids.is_empty() { "nothing".to_owned() } else { pids.join(", ") };
        table.row([p.id.to_string(), clock.time(p.made_at), trigger(&p.trigger), moves, outcome(p, clock)]);
    }
    match all {
        [] => "No plan was made.  Make one: grid offload scan\n".to_owned(),
        _ => table.text() + "Nothing was changed.  One in full: grid plan show ID\n",
    }
}

/// The steps and stays of a plan.
fn body(plan: &Plan) -> String {
    let mut table = Table::new(&["PID", "COMMAND", "CPU", "MEM", "TO", "FROZEN", "RISK"]);
    plan.steps.iter().for_each(|s| table.row(step_cells(s)));
    let mut out = table.text();
    for s in &plan.steps {
        let _ = writeln!(out, "  {}  needs {} of {}; {}", s.process, s.needed, s.available, s.reason);
    }
    for s in &plan.stays {
        let _ = writeln!(out, "  {} {} stays: {}", s.process, s.title, reasons(&s.reasons));
    }
    out
}

/// One plan, step by step.
pub fn plan(plan: &Plan, clock: Clock) -> String {
    let mut out = format!(
        "{} of {}, because {}: {}\n",
        plan.id,
        clock.time(plan.made_at),
        trigger(&plan.trigger),
        outcome(plan, clock)
    );
    out.push_str(&body(plan));
    let open = matches!(plan.outcome, PlanOutcome::Made | PlanOutcome::Observed);
    match (plan.steps.len(), clock.left(plan.valid_until)) {
        (0, _) => out + "Nothing was changed.\n",
        (_, Some(_)) if open => out + &format!("Nothing was changed.  Do exactly this: grid plan apply {}\n", plan.id),
        (_, None) if open => out + "Nothing was changed.  It is past its time: grid offload scan\n",
        _ => out + "Nothing was changed.\n",
    }
}

/// What moving one process would do.
pub fn would_move(plan: &Plan, pid: i32) -> String {
    let head = match plan.steps.len() {
        0 => format!("{pid} would stay.\n"),
        n => format!("{} would move, {}.\n", count(n, "process tree", "process trees"), moved_bytes(plan)),
    };
    let next = match plan.steps.len() {
        0 => format!("Why: grid explain {pid}"),
        _ => format!("Do it: grid offload execute {pid}"),
    };
    format!("{head}{}Nothing was changed.  {next}\n", body(plan))
}

/// What became of an applied plan.
pub fn applied(id: &str, settled: &[OffloadView]) -> String {
    let mut out: String = settled.iter().map(moved).collect();
    let done = settled.iter().filter(|v| matches!(v.record.phase, OffloadPhase::Away | OffloadPhase::Ended)).count();
    let _ = writeln!(out, "plan {id}: {done} of {} moved.  What is away: grid status", settled.len());
    out
}

#[cfg(test)]
mod tests {
    use super::super::samples;
    use super::*;

    #[test]
    fn a_plan_in_full_and_in_the_list() {
        let mut p = samples::scan().plan;
        insta::assert_snapshot!(plan(&p, samples::clock()));
        p.outcome = PlanOutcome::Observed;
        insta::assert_snapshot!(plans(&[p], samples::clock()));
    }

    #[test]
    fn a_dry_run() {
        let mut p = samples::accepted().plan;
        insta::assert_snapshot!(would_move(&p, 4711));
        p.steps.clear();
        insta::assert_snapshot!(would_move(&p, 4711));
    }

    #[test]
    fn an_applied_plan_counts_what_really_moved() {
        let mut failed = samples::away();
        failed.record.phase = OffloadPhase::Failed;
        insta::assert_snapshot!(applied("p-52", &[samples::away(), failed]));
    }
}

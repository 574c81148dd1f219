//! `grid boost …`.

use super::status::{boost_table, inside};
use super::{Clock, count, held, known};
use grid_types::api::{BoostReply, BoostView};
use grid_types::boost::{Boost, BoostState, EndReason};
use grid_types::plan::Plan;
use grid_types::policy::{AtEnd, AutoMode};
use std::fmt::Write;

/// A boost that was granted, or would be. `plan` is the one that it caused, where auto-offload observes.
pub fn boost_granted(r: &BoostReply, plan: Option<&Plan>, clock: Clock) -> String {
    let b = &r.boost.boost;
    if r.dry_run {
        let span = known(b.until.0.checked_sub(clock.boot.0).map(grid_types::Millis));
        return format!(
            "{} would lend {} for {span} to {}\n  chosen     {}\n  at end     {}\nNothing was changed.\n",
            b.lender,
            held(&b.amount),
            b.borrower,
            b.chosen,
            at_end(b.at_end)
        );
    }
    let mut out = format!(
        "{} active on {} in {}: {} until {}\n",
        b.id,
        b.lender,
        r.took,
        held(&b.amount),
        clock.time(b.until_unix)
    );
    let _ = writeln!(out, "  enforced   {}", known(r.boost.enforced.as_ref()));
    let _ = writeln!(out, "  chosen     {}", b.chosen);
    let _ = writeln!(out, "  at end     {} (--at-end)", at_end(b.at_end));
    out + &moves(r, plan)
}

fn at_end(at_end: AtEnd) -> &'static str {
    match at_end {
        AtEnd::Recall => "comes home if it fits, else goes to another lease, else stays and is reported; never ended",
        AtEnd::Stay => "stays and is reported; never ended",
        AtEnd::Park => "parked on its lender's disk; where that fails it stays and is reported; never ended",
        AtEnd::End => "what lives in it is ENDED by force",
    }
}

fn moves(r: &BoostReply, plan: Option<&Plan>) -> String {
    const ON: &str = "from now on: grid offload auto on";
    match (r.auto, plan) {
        (AutoMode::On, _) => "  moves      begin now: auto-offload is `on`.  Watch: grid events --follow\n".to_owned(),
        (AutoMode::Off, _) => format!(
            "  moves      none: auto-offload is `off`\n             what could: grid offload scan        {ON}\n"
        ),
        (AutoMode::Observe, Some(plan)) if plan.steps.is_empty() => format!(
            "  moves      none: auto-offload is `observe`, and plan {} found nothing to move\n             why: grid offload scan        {ON}\n",
            plan.id
        ),
        (AutoMode::Observe, Some(plan)) => {
            let pids: Vec<_> = plan.steps.iter().map(|s| s.process.to_string()).collect();
            format!(
                "  moves      none yet: auto-offload is `observe`. Plan {0} would move {1}\n             do it: grid plan apply {0}        {ON}\n",
                plan.id,
                pids.join(", ")
            )
        }
        (AutoMode::Observe, None) => format!(
            "  moves      none yet: auto-offload is `observe`\n             what it would move: grid plan list        {ON}\n"
        ),
    }
}

/// A boost's state in words.
pub(super) fn state(state: &BoostState) -> String {
    match state {
        BoostState::Granting => "being granted".to_owned(),
        BoostState::Active => "active".to_owned(),
        BoostState::Ending { why } => format!("ending, {}", end_reason(*why)),
        BoostState::Overdue { .. } => "OVERDUE".to_owned(),
        BoostState::Ended { why, .. } => format!("ended, {}", end_reason(*why)),
        BoostState::Failed { .. } => "failed".to_owned(),
    }
}

/// Why a boost ended, in a word or two.
pub(super) fn end_reason(why: EndReason) -> &'static str {
    match why {
        EndReason::Expired => "its time was over",
        EndReason::Released => "released",
        EndReason::Reclaimed => "taken back by its lender",
        EndReason::Drained => "its lender was drained",
        EndReason::LenderLost => "its lender was lost",
    }
}

/// Boosts that hold capacity; those that ended are told in one line.
pub fn boosts(all: &[BoostView]) -> String {
    let live: Vec<BoostView> = all.iter().filter(|b| b.boost.state.holds_capacity()).cloned().collect();
    let over = all.len() - live.len();
    let mut out = boost_table(&live);
    if live.is_empty() {
        out.push_str("No boost holds capacity.  Ask for one: grid boost request head --cpu 2 --memory 1GiB\n");
    }
    if over > 0 {
        let _ = writeln!(
            out,
            "{} not listed: over, or never active.  See one: grid boost show ID",
            count(over, "boost", "boosts")
        );
    }
    out
}

/// All about one boost.
pub fn boost(v: &BoostView, clock: Clock) -> String {
    let b = &v.boost;
    let mut out = format!("{} {}: {} lends {} to {}\n", b.id, state(&b.state), b.lender, held(&b.amount), b.borrower);
    if let BoostState::Overdue { detail } | BoostState::Failed { detail } = &b.state {
        let _ = writeln!(out, "  because    {detail}");
    }
    let left = if b.state.holds_capacity() && v.ends_in.0 > 0 { format!(", in {}", v.ends_in) } else { String::new() };
    let _ = writeln!(out, "  granted    {}", clock.time(b.granted_at));
    let _ = writeln!(out, "  until      {}{left}", clock.time(b.until_unix));
    let _ = writeln!(out, "  enforced   {}", known(v.enforced.as_ref()));
    let _ = writeln!(out, "  chosen     {}", b.chosen);
    let _ = writeln!(out, "  at end     {}", at_end(b.at_end));
    let guests: Vec<_> = v.guests.iter().map(ToString::to_string).collect();
    let promised = if v.promised.is_zero() { String::new() } else { format!(", {} promised", held(&v.promised)) };
    let _ = writeln!(out, "  inside     {}{promised}", inside(v));
    if !guests.is_empty() {
        let _ = writeln!(out, "  guests     {}", guests.join(", "));
    }
    out + &next(b)
}

fn next(b: &Boost) -> String {
    match b.state {
        BoostState::Ended { .. } | BoostState::Failed { .. } => "Nothing of it is held.\n".to_owned(),
        _ => format!(
            "Nothing was changed.  Longer: grid boost extend {0} --by 30m; give it back: grid boost release {0}\n",
            b.id
        ),
    }
}

/// After an extension.
pub fn boost_extended(v: &BoostView, clock: Clock, dry_run: bool) -> String {
    let b = &v.boost;
    let (id, until, left) = (&b.id, clock.time(b.until_unix), v.ends_in);
    match dry_run {
        true => format!("{id} would be extended until {until}, {left} from now. Nothing was changed.\n"),
        false => format!("{id} extended until {until}, {left} from now.\n"),
    }
}

/// After a release, or what it would do.
pub fn boost_released(v: &BoostView, by_force: bool, dry_run: bool) -> String {
    let b = &v.boost;
    let (amount, lender) = (held(&b.amount), &b.lender);
    let guests = match (v.guests.len(), by_force) {
        (0, _) => "nothing lives in it".to_owned(),
        (n, true) => format!("{} ENDED by force: {}", count(n, "guest", "guests"), ids(v)),
        (n, false) => format!("{} first, if it fits there: {}", count(n, "guest goes home", "guests go home"), ids(v)),
    };
    if dry_run {
        return format!(
            "{} would give {amount} back to {lender}: {guests}.\nNothing was changed.  Do it: grid boost release {0}{1}\n",
            b.id,
            if by_force { " --end" } else { "" }
        );
    }
    match &b.state {
        BoostState::Ended { .. } => {
            format!("{} released: {amount} went back to {lender}; its cgroup was empty.\n", b.id)
        }
        BoostState::Overdue { detail } => {
            format!("{} is OVERDUE: {detail}\n{amount} of {lender} stay held.  What lives in it: {}\n", b.id, ids(v))
        }
        _ => format!(
            "{} is ending: {guests}.\n{amount} go back to {lender} when it is empty.  Follow: grid boost show {0}\n",
            b.id
        ),
    }
}

fn ids(v: &BoostView) -> String {
    v.guests.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::super::samples;
    use super::*;

    fn reply() -> BoostReply {
        let auto = AutoMode::Observe;
        BoostReply { boost: samples::boost(), took: grid_types::Millis(38), auto, dry_run: false }
    }

    #[test]
    fn granted_with_the_plan_that_it_caused() {
        insta::assert_snapshot!(boost_granted(&reply(), Some(&samples::scan().plan), samples::clock()));
    }

    #[test]
    fn granted_and_moving() {
        let r = BoostReply { auto: AutoMode::On, ..reply() };
        insta::assert_snapshot!(boost_granted(&r, None, samples::clock()));
    }

    #[test]
    fn a_dry_run_says_that_nothing_changed() {
        let r = BoostReply { dry_run: true, ..reply() };
        insta::assert_snapshot!(boost_granted(&r, None, samples::clock()));
    }

    #[test]
    fn one_in_full() {
        insta::assert_snapshot!(boost(&samples::boost(), samples::clock()));
    }

    #[test]
    fn a_release_says_what_becomes_of_guests() {
        let mut b = samples::boost();
        b.boost.state = BoostState::Ending { why: EndReason::Released };
        let mut over = samples::boost();
        over.guests.clear();
        over.boost.state = BoostState::Ended { why: EndReason::Released, at: samples::clock().now };
        let text =
            [boost_released(&b, false, false), boost_released(&b, true, true), boost_released(&over, false, false)];
        insta::assert_snapshot!(text.concat());
    }

    #[test]
    fn no_boost_says_how_to_get_one() {
        insta::assert_snapshot!(boosts(&[]));
    }
}

//! `grid boost reclaim`.

use super::{count, held};
use grid_types::api::{ReclaimAsk, ReclaimReply};
use grid_types::boost::BoostState;

/// What its lender has, and what still lives there.
pub fn reclaimed(r: &ReclaimReply, ask: &ReclaimAsk) -> String {
    let b = &r.boost.boost;
    let (id, lender, amount) = (&b.id, &b.lender, held(&b.amount));
    let guests = count(r.boost.guests.len(), "guest", "guests");
    let Some(frozen) = r.frozen else { return would(r, ask) };
    if ask.lift {
        return format!("{id}: {guests} thawed in {frozen} on {lender}; it holds {amount} as before.\n");
    }
    let freeze = format!("{id} is taken back: its guests on {lender} were frozen within {frozen}.\n");
    let rest = match &b.state {
        BoostState::Ended { .. } => format!("{amount} went back to {lender} after {}; its cgroup was empty.\n", r.took),
        BoostState::Overdue { detail } => format!(
            "{id} is OVERDUE: {detail}\nThey stay frozen: {lender} has its CPU, and not their memory.  Let them run there again: grid boost reclaim {id} --lift\n   or end them: grid boost release {id} --end\n"
        ),
        _ => format!("{guests} still on the way after {}.  Follow: grid boost show {id}\n", r.took),
    };
    freeze + &rest
}

fn would(r: &ReclaimReply, ask: &ReclaimAsk) -> String {
    let b = &r.boost.boost;
    let (id, lender) = (&b.id, &b.lender);
    let guests = count(r.boost.guests.len(), "guest", "guests");
    if ask.lift {
        return format!(
            "{guests} of {id} would run again on {lender}.\nNothing was changed.  Do it: grid boost reclaim {id} --lift\n"
        );
    }
    let late = if ask.end { "is ENDED by force" } else { "stays frozen, and is reported" };
    format!(
        "{lender} would freeze {guests} of {id} at once; then each goes as `--at-end` says. What is there after {} {late}.\nNothing was changed.  Do it: grid boost reclaim {id} --within {1}{2}\n",
        ask.within,
        ask.within.to_string().replace(' ', ""),
        if ask.end { " --end" } else { "" }
    )
}

#[cfg(test)]
mod tests {
    use super::super::samples;
    use super::*;
    use grid_types::boost::EndReason;
    use grid_types::units::{Millis, UnixMs};

    #[test]
    fn what_is_back_and_what_is_not() {
        let ask = ReclaimAsk { within: Millis(30_000), ..ReclaimAsk::default() };
        let reply = |state: BoostState, frozen| {
            let mut boost = samples::boost();
            boost.boost.state = state;
            ReclaimReply { boost, frozen, took: Millis(412) }
        };
        let ended = BoostState::Ended { why: EndReason::Reclaimed, at: UnixMs(1) };
        let detail = "frozen there: o-19 python3 prep.py stays: needs 1.0 CPU 3.4 GiB at home, 8.0 CPU 1.0 GiB free there; no other lease is active";
        let overdue = BoostState::Overdue { detail: detail.into() };
        let ending = BoostState::Ending { why: EndReason::Reclaimed };
        let took = Some(Millis(3));
        let text = [
            reclaimed(&reply(BoostState::Active, None), &ask),
            reclaimed(&reply(BoostState::Active, None), &ReclaimAsk { end: true, ..ask }),
            reclaimed(&reply(ended, took), &ask),
            reclaimed(&reply(overdue.clone(), took), &ask),
            reclaimed(&reply(ending, took), &ask),
            reclaimed(&reply(overdue, took), &ReclaimAsk { lift: true, ..ask }),
        ];
        insta::assert_snapshot!(text.concat());
    }
}

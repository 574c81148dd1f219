//! `grid node cordon`, `uncordon`, `drain`.

use super::event::actor;
use super::{Clock, count, held};
use grid_types::api::{BoostView, DrainAsk, DrainReply, NodeView};
use grid_types::boost::BoostState;
use grid_types::event::Cordon;
use std::fmt::Write;

/// `cordoned by root at 12:04:12`.
pub(super) fn cordon(c: &Cordon, clock: Clock) -> String {
    format!("cordoned by {} at {}", actor(&c.by), clock.time(c.since))
}

/// A node takes nothing new, or may again, or would.
pub fn cordoned(n: &NodeView, on: bool, dry_run: bool, clock: Clock) -> String {
    let node = &n.node;
    let lent = if n.lent.is_zero() {
        "nothing is lent there".to_owned()
    } else {
        format!("{} stay lent there", held(&n.lent))
    };
    match (on, dry_run, &n.cordoned) {
        (true, true, Some(c)) => format!("{node} is {} already. Nothing was changed.\n", cordon(c, clock)),
        (true, true, None) => format!("{node} would take nothing new; {lent}. Nothing was changed.\n"),
        (true, false, _) => format!(
            "{node} takes nothing new; {lent}.\nMove that away: grid node drain {node}   let it take something again: grid node uncordon {node}\n"
        ),
        (false, true, Some(_)) => format!("{node} would take something new again. Nothing was changed.\n"),
        (false, true, None) => format!("{node} is not cordoned. Nothing was changed.\n"),
        (false, false, _) => format!("{node} may take something new.  What it lends: grid node list\n"),
    }
}

/// What a drain came to, or would.
pub fn drained(r: &DrainReply, ask: &DrainAsk) -> String {
    let node = &r.node;
    let mut out = match ask.dry_run {
        true => format!("{node} would take nothing new, and its boosts would end:\n"),
        false => format!("{node} takes nothing new, and its boosts end:\n"),
    };
    if r.boosts.is_empty() {
        out = out
            .replace(", and its boosts would end:", "; nothing is lent there.")
            .replace(", and its boosts end:", "; nothing is lent there.");
    }
    for b in &r.boosts {
        let step = r.steps.iter().find(|step| step.boost == b.boost.id).map(|step| step.what.clone());
        let _ = writeln!(out, "  {} {}: {}", b.boost.id, held(&b.boost.amount), step.unwrap_or_else(|| became(b)));
    }
    for o in &r.parked {
        let (id, title) = (&o.record.id, &o.record.title);
        let _ = writeln!(out, "  {id} {title} STAYS parked on its disk: grid offload unpark {id}");
    }
    let open = |b: &&BoostView| b.boost.state.holds_capacity();
    let left = r.boosts.iter().filter(open).count();
    out + &match (ask.dry_run, left) {
        (true, _) => format!("Nothing was changed.  Do it: grid node drain {node}\n"),
        (false, 0) => {
            format!("Nobody's processes run on {node}, after {}.  Use it again: grid node uncordon {node}\n", r.took)
        }
        (false, n) => format!(
            "{} not gone after {}.  Look again: grid node drain {node}   use it again: grid node uncordon {node}\n",
            count(n, "boost is", "boosts are"),
            r.took
        ),
    }
}

fn became(b: &BoostView) -> String {
    match &b.boost.state {
        BoostState::Ended { .. } => "went back; its control group was empty".to_owned(),
        BoostState::Overdue { detail } => format!("STAYS: {detail}"),
        _ => format!("{} still on the way", count(b.guests.len(), "guest", "guests")),
    }
}

#[cfg(test)]
mod tests {
    use super::super::samples;
    use super::*;
    use grid_types::api::DrainStep;
    use grid_types::boost::EndReason;
    use grid_types::event::Actor;
    use grid_types::units::{Millis, UnixMs};

    #[test]
    fn what_a_cordon_says() {
        let node = samples::status().nodes.remove(2);
        let by = Actor::User { uid: 0, name: Some("root".into()), tty: None };
        let known = NodeView { cordoned: Some(Cordon { since: samples::clock().now, by }), ..node.clone() };
        let all = [
            (true, true, &known),
            (true, true, &node),
            (true, false, &known),
            (false, true, &known),
            (false, true, &node),
            (false, false, &node),
        ];
        let text: String = all.into_iter().map(|(on, dry, node)| cordoned(node, on, dry, samples::clock())).collect();
        insta::assert_snapshot!(text);
    }

    #[test]
    fn what_a_drain_moves_and_what_stays() {
        let ask = |dry_run| DrainAsk { within: Millis(60_000), dry_run };
        let with = |state| {
            let mut boost = samples::boost();
            boost.boost.state = state;
            boost
        };
        let ended = with(BoostState::Ended { why: EndReason::Drained, at: UnixMs(1) });
        let stays = with(BoostState::Overdue { detail: "o-19 python3 prep.py: at-end is stay".into() });
        let ending = with(BoostState::Ending { why: EndReason::Drained });
        let reply = |boosts| DrainReply {
            node: "gpu2".into(),
            boosts,
            steps: Vec::new(),
            parked: Vec::new(),
            took: Millis(2_100),
        };
        let dry = DrainReply {
            steps: vec![DrainStep { boost: "b-7k2".into(), what: "o-19 home".into() }],
            ..reply(vec![samples::boost()])
        };
        let text = [
            drained(&dry, &ask(true)),
            drained(&reply(vec![ended.clone()]), &ask(false)),
            drained(&DrainReply { parked: vec![samples::away()], ..reply(vec![ended, stays, ending]) }, &ask(false)),
            drained(&reply(Vec::new()), &ask(false)),
        ];
        insta::assert_snapshot!(text.join("\n"));
    }
}

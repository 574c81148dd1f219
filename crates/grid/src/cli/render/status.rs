//! `grid status`.

use super::table::Table;
use super::{Clock, about_self, ago, held, known, mode, offload};
use grid_types::api::{AutoView, BoostView, NodeView, OffloadView, Status};
use grid_types::event::OffloadPhase;
use grid_types::facts::NodeFacts;
use std::fmt::Write;

/// Everything at a glance: the head, the other nodes, what is lent and who lives in it, what is away, warnings.
pub fn status(s: &Status, clock: Clock) -> String {
    let mut out = String::new();
    for head in s.nodes.iter().filter(|n| n.head) {
        let _ = writeln!(out, "{}", head_line(head));
    }
    if let Some(stop) = &s.stopped {
        out.push_str(&super::trust::stop_line(stop, clock));
    }
    let _ = writeln!(out, "{}", auto_line(&s.auto));
    out.push_str(&others(&s.nodes, clock));
    out.push_str(&boost_table(&s.boosts));
    out.push_str(&away_table(&s.away));
    out.push_str(&super::park::parked_table(&s.away));
    for warning in &s.warnings {
        let _ = writeln!(out, "warning: {warning}");
    }
    out
}

fn head_line(n: &NodeView) -> String {
    let name = about_self(n);
    let Some(f) = &n.facts else { return format!("{name}   nothing known yet") };
    let mut line = format!("{name}   {}", used(f));
    if let Some(psi) = f.psi_memory {
        let _ = write!(line, ", memory pressure some {:.1} full {:.1}", psi.some_avg10, psi.full_avg10);
    }
    line
}

/// `5.9 of 8 cores busy, 28.1 of 32.0 GiB used`.
fn used(f: &NodeFacts) -> String {
    let used = grid_types::Bytes(f.memory_total.0.saturating_sub(f.memory_available.0));
    let memory = super::used_of(used, f.memory_total);
    format!("{} of {} cores busy, {memory} used", known(f.cpu_used), super::cpus(f.cpu_total))
}

fn auto_line(a: &AutoView) -> String {
    let mode = mode(a.mode);
    format!("autopilot  {mode}: would have moved {}, moved {}      (grid plan list)", a.would_have_moved, a.moved)
}

fn others(nodes: &[NodeView], clock: Clock) -> String {
    let mut table = Table::new(&["NODE", "STATE", "LENDABLE", "LENT", "SEEN"]);
    for n in nodes.iter().filter(|n| !n.head) {
        let lendable = n.lendable.filter(|_| n.state == "ready");
        let lent = if n.lent.is_zero() && n.state != "ready" { "-".to_owned() } else { held(&n.lent) };
        let seen = n.seen.map_or_else(|| "never".to_owned(), ago);
        let why = match &n.cordoned {
            Some(by) => Some(super::cordon::cordon(by, clock)),
            None => n.why.clone().filter(|_| n.state == "ready"),
        };
        let why = why.map_or_else(String::new, |w| format!("  ({w})"));
        let limited = if n.state == "ready" { super::limited(n) } else { String::new() };
        table.row([
            n.node.to_string(),
            n.state.clone(),
            known(lendable),
            lent,
            seen + &super::link(n) + &why + &limited,
        ]);
    }
    table.text()
}

/// Boosts, with what is measured inside.
pub(super) fn boost_table(boosts: &[BoostView]) -> String {
    let mut table = Table::new(&["BOOST", "LENDER", "HOLDS", "ENDS IN", "INSIDE"]);
    for b in boosts {
        let ends = match &b.boost.state {
            grid_types::boost::BoostState::Active => b.ends_in.to_string(),
            other => super::boost::state(other),
        };
        table.row([b.boost.id.to_string(), b.boost.lender.to_string(), held(&b.boost.amount), ends, inside(b)]);
    }
    table.text()
}

/// `3.2 GiB, 2 processes`, as the lender's kernel counts.
pub(super) fn inside(b: &BoostView) -> String {
    let processes = b.processes.map(|n| super::count(n as usize, "process", "processes"));
    match (b.memory_used, processes) {
        (None, None) => "-".to_owned(),
        (memory, processes) => format!("{}, {}", known(memory), known(processes)),
    }
}

fn away_table(away: &[OffloadView]) -> String {
    let mut table = Table::new(&["AWAY", "PID", "COMMAND", "ON", "SINCE", "SILENT", "BACK WITH"]);
    for v in away.iter().filter(|v| v.record.phase != OffloadPhase::Parked) {
        let r = &v.record;
        let on = match r.phase {
            OffloadPhase::Away if v.frozen => format!("{}: FROZEN", r.destination),
            OffloadPhase::Away => r.destination.to_string(),
            other => format!("{}: {}", r.destination, super::phase(other)),
        };
        let silent = known(r.figures.as_ref().and_then(|f| f.downtime));
        table.row([
            r.id.to_string(),
            r.process.pid.to_string(),
            r.title.clone(),
            on,
            v.since.to_string(),
            silent,
            offload::back_with(v),
        ]);
    }
    table.text()
}

#[cfg(test)]
mod tests {
    use super::super::samples;

    #[test]
    fn a_day_with_one_silent_node() {
        insta::assert_snapshot!(super::status(&samples::status(), samples::clock()));
    }

    #[test]
    fn a_link_is_direct_or_says_why_not() {
        use grid_types::facts::{LinkFacts, Way};
        let mut node = samples::status().nodes.remove(2);
        let mut said = |way, why: Option<&str>| {
            let facts = node.facts.as_mut().unwrap();
            facts.link = Some(LinkFacts { way, address: "ws1.lab:7443".into(), why: why.map(str::to_owned) });
            super::others(std::slice::from_ref(&node), samples::clock())
        };
        assert!(said(Way::Direct, None).contains("0.4 s ago  (link direct)"));
        let text = said(Way::Ssh, Some("no answer within 2 s"));
        assert!(text.contains("(link by ssh; ws1.lab:7443: no answer within 2 s)"), "{text}");
        node.state = "silent".into();
        assert!(!super::others(&[node], samples::clock()).contains("link"));
    }

    #[test]
    fn nothing_known_is_shown_as_nothing_known() {
        let mut s = samples::status();
        s.nodes[0].facts = None;
        s.nodes[2].seen = None;
        s.nodes[2].lendable = None;
        s.nodes[2].state = "unknown".into();
        s.boosts[0].memory_used = None;
        s.boosts[0].processes = None;
        s.away[0].record.phase = grid_types::event::OffloadPhase::InDoubt;
        s.warnings.clear();
        insta::assert_snapshot!(super::status(&s, samples::clock()));
    }
}

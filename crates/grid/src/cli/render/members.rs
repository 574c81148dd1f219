//! `grid node add`, `grid node remove`, `grid upgrade`, and `grid explain` of a node.

use super::event::actor;
use super::{Clock, cordon, count, event};
use crate::up::{NodeAdded, NodeRemoved, Upgraded};
use grid_types::api::NodeView;
use grid_types::event::EventRecord;
use std::fmt::Write;

/// The cluster is another program's now, or would be.
pub fn upgraded(u: &Upgraded) -> String {
    let (is, was) = match u.from == u.to {
        true => (&u.to, format!("another build of {}", u.from)),
        false => (&u.to, u.from.clone()),
    };
    let away = match u.away.len() {
        0 => "Nothing is away.".to_owned(),
        n => format!(
            "{} away, which {} on.",
            count(n, "process is", "processes are"),
            if n == 1 { "goes" } else { "go" }
        ),
    };
    if u.same {
        return format!("The cluster is this grid ({is}) already. Nothing was changed.\n");
    }
    if u.dry_run {
        return format!("The cluster would be grid {is} (it is {was}). {away} Nothing was changed.\n");
    }
    let mut out = format!("The cluster is grid {is} after {} (it was {was}). {away}\n", u.took);
    for node in &u.late {
        let _ = writeln!(out, "  {node} is not heard of yet: it becomes this grid when it is reached (grid node list)");
    }
    out
}

/// A worker was taken in, or would be.
pub fn added(a: &NodeAdded) -> String {
    let (node, host, folder) = (&a.node, &a.host, a.folder.display());
    if a.dry_run {
        return format!(
            "{node} would be reached by ssh at {host}, get grid and CRIU in {folder}, and lend {} at most.\n\
             The machine was not asked. Nothing was changed.\n",
            a.lends
        );
    }
    let lends = match a.view.as_ref().map(|view| (view.lendable, view.why.as_deref())) {
        Some((Some(amount), _)) => format!("lends {amount} now"),
        Some((None, why)) => format!("lends nothing now: {}", why.unwrap_or("unknown")),
        None => "is not heard of".to_owned(),
    };
    format!(
        "{node} is one of the cluster's after {}: reached by ssh at {host}, in {folder}; it {lends}.\n\
         It is there again after grid down and grid up.  Let it go: grid node remove {node}\n",
        a.took
    )
}

/// A worker was let go, or would be.
pub fn removed(r: &NodeRemoved) -> String {
    let (node, folder) = (&r.node, r.folder.display());
    let mut out = String::new();
    for one in &r.given_up {
        let _ = writeln!(
            out,
            "  {one} {} as LOST; its shadow ends with 113",
            if r.dry_run { "would count" } else { "counts" }
        );
    }
    if !r.lost.is_empty() {
        let lost: Vec<&str> = r.lost.iter().map(|id| id.as_str()).collect();
        let _ = writeln!(out, "  {} {} as lost", lost.join(", "), if r.dry_run { "would count" } else { "counts" });
    }
    let fate = match (r.purge, r.dry_run) {
        (true, true) => "would go too",
        (true, false) => "are gone too",
        (false, _) => "stay",
    };
    if r.dry_run {
        out += &match r.answers {
            true => format!("{node} would be let go: its daemons end; programs, logs and ledger in {folder} {fate}.\n"),
            false => {
                format!("{node} does not answer: its daemons and {folder} would stay there, and could not come back.\n")
            }
        };
        return out + "Nothing was changed.\n";
    }
    match &r.left {
        None => {
            let _ = writeln!(
                out,
                "{node} is no node of the cluster any more, after {}: its daemons ended; programs, logs and ledger in {folder} {fate}.",
                r.took
            );
        }
        Some(why) => {
            let _ = writeln!(
                out,
                "{node} is no node of the cluster any more, after {}, and cannot come back. It could not be told: {why}\n\
                 Its daemons and {folder} may still be there; the next grid up ends them where it reaches it, or there:\n  \
                 sudo {folder}/bin/grid node-stop --purge {folder}",
                r.took
            );
        }
    }
    let file = "The configuration file lists it; it stays out all the same.  ";
    let _ = writeln!(out, "{}Take it in again: grid node add {node}{}", if r.of_file { file } else { "" }, host_of(r));
    out
}

fn host_of(r: &NodeRemoved) -> String {
    if r.of_file || r.host == r.node.as_str() { String::new() } else { format!(" --host {}", r.host) }
}

/// A node that is one, or was.
pub fn explain_node(name: &str, view: Option<&NodeView>, events: &[EventRecord], clock: Clock) -> String {
    let mut out = match view {
        Some(view) => super::nodes(std::slice::from_ref(view)).lines().take(2).map(|l| format!("{l}\n")).collect(),
        None => format!("{name} is no node of this cluster any more.\n"),
    };
    if let Some(a) = view.and_then(|v| v.added.as_ref()) {
        let _ = writeln!(out, "added by {} at {}, as {}", actor(&a.by), clock.time(a.since), a.host);
    }
    if let Some(c) = view.and_then(|v| v.cordoned.as_ref()) {
        let _ = writeln!(out, "{}", cordon::cordon(c, clock));
    }
    for record in events {
        let _ = writeln!(out, "{}", event(record, clock));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::super::samples;
    use super::*;
    use grid_types::event::{Actor, AddedNode, Event};
    use grid_types::{Bytes, MilliCpu, Millis, Resources};

    #[test]
    fn what_an_addition_says() {
        let lends = Resources { cpu: MilliCpu(4000), memory: Bytes(8 << 30), gpu: 0 };
        let view = samples::status().nodes.remove(2);
        let done = NodeAdded {
            node: "gpu2".into(),
            host: "gpu2.lab".into(),
            lends,
            folder: "/var/lib/grid/workers/grid-1a2b-gpu2".into(),
            view: Some(view),
            took: Millis(2_300),
            dry_run: false,
        };
        let dry = NodeAdded { view: None, dry_run: true, ..done.clone() };
        insta::assert_snapshot!([added(&dry), added(&done)].join("\n"));
    }

    #[test]
    fn what_a_removal_says_and_what_stays() {
        let done = NodeRemoved {
            node: "gpu2".into(),
            host: "gpu2.lab".into(),
            folder: "/var/lib/grid/workers/grid-1a2b-gpu2".into(),
            answers: true,
            purge: false,
            of_file: false,
            lost: Vec::new(),
            given_up: Vec::new(),
            left: None,
            took: Millis(900),
            dry_run: false,
        };
        let silent = NodeRemoved {
            answers: false,
            lost: vec!["b-7k2".into()],
            given_up: vec!["o-19 4711 python3 prep.py".into()],
            ..done.clone()
        };
        let text = [
            removed(&NodeRemoved { dry_run: true, ..done.clone() }),
            removed(&NodeRemoved { purge: true, of_file: true, ..done }),
            removed(&NodeRemoved { dry_run: true, ..silent.clone() }),
            removed(&NodeRemoved { left: Some("gpu2 (gpu2.lab): ssh: timed out".into()), ..silent }),
        ];
        insta::assert_snapshot!(text.join("\n"));
    }

    #[test]
    fn a_node_is_explained_by_what_was_said_of_it() {
        let clock = samples::clock();
        let by = Actor::User { uid: 0, name: Some("root".into()), tty: Some("pts/3".into()) };
        let record = |seq, event| EventRecord {
            seq,
            at: clock.now,
            boot_at: clock.boot,
            boot_id: "x".into(),
            actor: by.clone(),
            plan: None,
            event,
        };
        let came = record(7, Event::NodeAdded { node: "gpu2".into(), host: "gpu2.lab".into() });
        let went = record(9, Event::NodeRemoved { node: "gpu2".into(), left: Some("gpu2: ssh: timed out".into()) });
        let added = Some(AddedNode { host: "gpu2.lab".into(), since: clock.now, by: by.clone() });
        let view = NodeView { added, ..samples::status().nodes.remove(2) };
        let text = [
            explain_node("gpu2", Some(&view), std::slice::from_ref(&came), clock),
            explain_node("gpu2", None, &[came, went], clock),
        ];
        insta::assert_snapshot!(text.join("\n"));
    }
}

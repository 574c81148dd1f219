//! What `grid up` and `grid down` would do, and do not.

use super::{Plan, UpError, down};
use crate::cli::Client;
use grid_types::api::Status;
use grid_types::exit::FaultClass;
use std::fmt::Write;
use std::path::Path;

/// The cluster that would be made.
pub fn would_start(plan: &Plan) -> String {
    let mut out = format!("State in {}, control groups {}.\n", plan.state.display(), plan.cgroup);
    if let Some(pid) = down::supervisor(&plan.state) {
        let _ = writeln!(out, "It would be refused: a cluster of this state is up already (pid {pid}).");
    }
    if !nix::unistd::geteuid().is_root() {
        out.push_str("It would be refused: it needs root.\n");
    }
    if let Some((orphan, _)) = down::orphans(&plan.state) {
        let names: Vec<&str> = orphan.nodes.iter().map(|n| n.name.as_str()).collect();
        let _ = writeln!(out, "A cluster that lost its supervisor would be taken over: {}.", names.join(", "));
        return out + "Nothing was changed.\n";
    }
    for node in &plan.nodes {
        let (l, at) = (&node.limits, node.address_node);
        let _ = writeln!(out, "  {}  {l} in all, at {at}, in namespaces of its own", node.name);
    }
    out + "Nothing was changed.\n"
}

/// What would end, or come home.
///
/// # Errors
/// No cluster is up, or it cannot be told what is away.
pub async fn would_stop(state: &Path, recall_first: bool, give_up: bool) -> Result<String, UpError> {
    let pid = down::supervisor(state);
    let answer: Result<crate::cli::Answer<Status>, _> = Client::new(state.join("head.sock")).get("/v1/status").await;
    let away = match (answer, pid) {
        (Ok(status), _) => status.ok.away,
        (Err(_), None) if down::orphans(state).is_some() => {
            return Ok(if give_up {
                "The cluster lost its supervisor and its daemon: it would END, with whatever lives in it.\nNothing was changed.\n"
            } else {
                "It would be refused: the cluster lost its supervisor and its daemon, and nobody can tell what lives in it.\n\
                 grid up takes it over.  Nothing was changed.\n"
            }
            .to_owned());
        }
        (Err(_), None) => {
            let what = format!("no cluster of {} is up. Nothing was changed.", state.display());
            return Err(UpError::new(FaultClass::NotFound, what));
        }
        (Err(e), Some(_)) => {
            let what = format!("it cannot be told what is still away: {e}. Nothing was changed.");
            return Err(UpError::new(FaultClass::Unreachable, what));
        }
    };
    let mut out = String::new();
    for o in &away {
        let (r, fate) = (
            &o.record,
            match (recall_first, give_up) {
                (true, _) => "would come home first",
                (false, true) => "would END",
                (false, false) => "is away: it would be refused",
            },
        );
        let _ = writeln!(out, "  {} {} on {} {fate}", r.process.pid, r.title, r.destination);
    }
    if away.is_empty() {
        out.push_str("Nothing is away: daemon, agents and workers would end.\n");
    }
    Ok(out + "Nothing was changed.\n")
}

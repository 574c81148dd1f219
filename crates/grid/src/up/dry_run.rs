//! What `grid up` and `grid down` would do, and do not. What the act would refuse is refused, by the same code.

use super::down::StillAway;
use super::{Plan, UpError, account, cluster, down, others};
use crate::cli::Client;
use std::fmt::Write;
use std::path::Path;

/// The cluster that would be made.
///
/// # Errors
/// Why it would not be.
pub fn would_start(plan: &Plan) -> Result<String, UpError> {
    cluster::check(plan)?;
    let mut out = format!("State in {}, control groups {}.\n", plan.state.display(), plan.cgroup);
    if let Some((orphan, _)) = down::orphans(&plan.state) {
        let names: Vec<&str> = orphan.nodes.iter().map(|n| n.name.as_str()).collect();
        let _ = writeln!(out, "A cluster that lost its supervisor would be taken over: {}.", names.join(", "));
        return Ok(out + "Nothing was changed.\n");
    }
    others::can_listen(plan)?;
    account::can_hand_over(&plan.head_dir(), cluster::account_of(plan)?)?;
    for node in &plan.nodes {
        let (l, at) = (&node.limits, node.address_node);
        let _ = writeln!(out, "  {}  {l} in all, at {at}, in namespaces of its own", node.name);
    }
    for worker in &plan.remote {
        let (l, at) = (worker.lends, &worker.host);
        let _ = writeln!(
            out,
            "  {}  {l} in all, reached by ssh at {at}, in {}",
            worker.name,
            plan.folder_of(worker).display()
        );
    }
    if let Some(link) = plan.config.policy.engine.direct_link() {
        let _ = writeln!(out, "  workers would come directly to {} first, dialled as {}", link.listen, link.dial);
    }
    Ok(out + "Nothing was changed.\n")
}

/// What would end, or come home. That what is away can come home is taken for granted: it is found out by trying.
///
/// # Errors
/// Why nothing would end.
pub async fn would_stop(state: &Path, recall_first: bool, still_away: StillAway) -> Result<String, UpError> {
    let found = down::found(state)?;
    let known = down::try_away(&Client::new(state.join("head.sock"))).await;
    if known.is_err() && still_away == StillAway::Ends {
        let out = "Nobody can tell what lives in it: it would END, with whatever does.\nNothing was changed.\n";
        return Ok(out.to_owned());
    }
    let away = down::to_end(known, recall_first || still_away != StillAway::Refuses, &found)?;
    let fate = match still_away {
        _ if recall_first => "would come home first",
        StillAway::IsLeft => "would run on there",
        _ => "would END",
    };
    let mut out = String::new();
    for o in &away {
        let r = &o.record;
        let _ = writeln!(out, "  {} {} on {} {fate}", r.process.pid, r.title, r.destination);
    }
    if away.is_empty() {
        out.push_str("Nothing is away: daemon, agents and workers would end.\n");
    }
    Ok(out + "Nothing was changed.\n")
}

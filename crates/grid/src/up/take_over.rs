//! A cluster that lost its supervisor, or is handed over to another grid: everything of the head's is started anew by this
//! one, and what lives on the workers goes on.

use super::cluster::{daemons, keep, remove};
use super::down::Ending;
use super::plan::Plan;
use super::ready::Begun;
use super::worker::{Node, make_again};
use super::written::replace_program;
use super::{UpError, down, failed, tell};
use grid_os::cgroup::Group;
use grid_types::api::Status;
use grid_types::exit::FaultClass;
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use std::time::{Duration, Instant};

/// Workers that live on are kept as they are, but for their agents where those are another grid's; others are made again. The
/// head's agent and daemon are started anew, and recover from what they wrote down.
///
/// # Errors
/// Why it does not answer. Nothing has ended that lives on a worker, and the next one finds the cluster as this one did.
pub(super) async fn take_over(
    plan: Plan,
    root: &Group,
    ready: impl FnOnce(&Plan, Duration, &Status),
) -> Result<(), UpError> {
    let start = Instant::now();
    tell(&format!("grid: taking over the cluster of {}", plan.state.display()));
    daemons(&plan, root)?
        .kill(Duration::from_secs(5))
        .map_err(|e| UpError::new(FaultClass::Environment, e.to_string()))?;
    reap();
    down::write_pid(&plan.state).map_err(failed(&plan.state.display().to_string()))?;
    down::note_left(&plan.state, false).map_err(failed("the note of what was left"))?;
    replace_program(&plan)?;
    let mut nodes = Vec::new();
    for node in &plan.nodes {
        let made = match Node::find(&plan, node) {
            Some(lives) => lives.renew_agent(&plan, node).map(|()| lives),
            None => make_again(&plan, node, root),
        };
        nodes.push(made.map_err(|e| UpError::new(FaultClass::Environment, format!("{}: {e}", node.name)))?);
    }
    let outcome = keep(&plan, root, &mut nodes, Begun::TakenOver, |status| ready(&plan, start.elapsed(), status)).await;
    match outcome {
        Ok(Ending::Left) => Ok(()),
        Ok(Ending::Whole) => {
            remove(&plan, &nodes, root);
            Ok(())
        }
        Err(e) => Err(UpError { message: format!("{}. What lives on the workers goes on", e.message), ..e }),
    }
}

/// Where this process was the supervisor before, as an older grid, what it kept has ended as its child.
fn reap() {
    while let Ok(status) = waitpid(None, Some(WaitPidFlag::WNOHANG)) {
        if status == WaitStatus::StillAlive {
            return;
        }
    }
}

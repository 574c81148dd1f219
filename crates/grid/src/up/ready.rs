//! Waiting until a cluster answers, and the words where one of its daemons could not be started.

use super::plan::Plan;
use super::supervise::Kept;
use super::worker::Node;
use super::{UpError, down};
use grid_types::api::{NodeView, Status};
use grid_types::exit::FaultClass;
use nix::sys::signal::Signal;
use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;
use std::time::{Duration, Instant};

/// The cluster answers within this, or it is said why not.
const READY_WITHIN: Duration = Duration::from_secs(15);
/// The same, where programs may have to be copied to other machines first.
pub(super) const REACHED_WITHIN: Duration = Duration::from_secs(180);

/// What a supervisor began with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Begun {
    /// Nothing.
    Made,
    /// A cluster that was up, and lost its supervisor.
    TakenOver,
}

/// Waits until the daemon answers and every worker can lend. A cluster that was up before is up again without those that ssh
/// does not reach: what lives there goes on, and they are dialled for as long as it takes.
pub(super) async fn await_ready(
    plan: &Plan,
    nodes: &[Node],
    begun: Begun,
    agent: &mut Kept,
    daemon: &mut Kept,
    others: &mut [Kept],
) -> Result<Status, UpError> {
    let within = if plan.over_ssh() && begun == Begun::Made { REACHED_WITHIN } else { READY_WITHIN };
    let deadline = Instant::now() + within;
    loop {
        could_start("the head's agent", agent)?;
        could_start("the head's daemon", daemon)?;
        others.iter_mut().try_for_each(|other| could_start("a worker", other))?;
        for (node, made) in plan.nodes.iter().zip(nodes) {
            made.ended(plan, node).map_or(Ok(()), Err)?;
        }
        // The socket is there before the daemon answers on it.
        let asked = tokio::time::timeout(Duration::from_millis(500), down::status(plan)).await;
        let late = Instant::now() > deadline;
        let missing = match asked.unwrap_or_else(|_| Err("the daemon does not answer yet".to_owned())) {
            Ok(status) => match status.nodes.iter().find(|n| !measured(n)) {
                None => return Ok(status),
                Some(_) if late && begun == Begun::TakenOver && only_far_ones_miss(plan, &status) => return Ok(status),
                Some(node) => format!("{} is {}, its use not measured yet", node.node, node.state),
            },
            Err(e) => e,
        };
        if late {
            let said = format!("agent: {}; daemon: {}", agent.last_words(), daemon.last_words());
            let what = format!("the cluster did not answer within {} s: {missing}. {said}", within.as_secs());
            return Err(UpError::new(FaultClass::Unreachable, what));
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

fn only_far_ones_miss(plan: &Plan, status: &Status) -> bool {
    let far = |n: &NodeView| plan.remote.iter().any(|worker| worker.name == n.node);
    status.nodes.iter().filter(|n| !measured(n)).all(far)
}

/// It was heard of, and its use is known: it can lend.
pub(super) fn measured(node: &NodeView) -> bool {
    node.state == "ready" && node.facts.as_ref().is_some_and(|f| f.cpu_used.is_some())
}

/// An error where this program has ended already: with its class, and what it said.
fn could_start(what: &str, kept: &mut Kept) -> Result<(), UpError> {
    let Some(status) = kept.ended() else { return Ok(()) };
    Err(ended_as(&format!("{what} could not start"), status, &kept.last_words()))
}

/// The same, where it may have been killed: that it does not say itself.
pub(super) fn ended_as(what: &str, status: ExitStatus, said: &str) -> UpError {
    match (status.code(), status.signal()) {
        (None, Some(signal)) => {
            let name = Signal::try_from(signal).map_or_else(|_| signal.to_string(), |signal| signal.to_string());
            why_ended(&format!("{what} (killed by {name})"), FaultClass::Internal, said)
        }
        (code, _) => ended_with(what, code.unwrap_or(-1), said),
    }
}

/// The error where a program of ours ended with this code and these last words.
pub(super) fn ended_with(what: &str, code: i32, said: &str) -> UpError {
    let class = FaultClass::ALL.into_iter().find(|c| i32::from(c.code()) == code).unwrap_or(FaultClass::Internal);
    why_ended(what, class, said)
}

pub(super) fn not_started(what: &dyn std::fmt::Display, class: FaultClass, said: &str) -> UpError {
    why_ended(&format!("{what} could not start"), class, said)
}

fn why_ended(what: &str, class: FaultClass, said: &str) -> UpError {
    let last = |mark: &str| said.lines().rev().flat_map(|l| l.rsplit("; ")).find_map(|l| l.trim().strip_prefix(mark));
    let why = last("error: ").unwrap_or(said.trim());
    let error = UpError::new(class, if what.is_empty() { why.to_owned() } else { format!("{what}: {why}") });
    match last("do: ") {
        Some(hint) => error.hint(hint),
        None => error,
    }
}

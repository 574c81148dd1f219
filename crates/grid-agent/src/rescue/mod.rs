//! `grid rescue`: what agents left held, found and let go of without any of them.
//!
//! Looks at control groups first, because these are always there, and at ledgers where they can be read. What is done with
//! each copy is the word of `grid_core::handover::rescue`. Invariants: a node is touched only while its agent's lock is
//! held here; what must be written down is written before anything is let run; CRIU is never signalled.

mod act;
mod find;

use crate::lock;
use find::{Cluster, Home, Node, Staged};
use grid_core::handover::{HomeCopy, HomeFacts, Rescue, Row, StagedFacts, TreeCopy, Why, rescue_home, rescue_staged};
use grid_os::cgroup::Hierarchies;
use grid_types::handover::SourceState;
use grid_types::{AttemptId, NodeName};
use serde::Serialize;
use std::io;
use std::path::Path;

/// What is asked for.
#[derive(Clone, Debug, Default)]
pub struct RescueAsk {
    /// Only say what would happen.
    pub dry_run: bool,
    /// Attempts whose copy at home is thawed though its work may be repeated.
    pub accept_repeat: Vec<AttemptId>,
}

/// Which end of its move a copy is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Side {
    /// At its source.
    Home,
    /// At its destination.
    Staged,
}

/// What became of a copy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Fate {
    /// It was frozen and runs again.
    Thawed,
    /// Nothing had frozen it: it ran on, and is back in its own groups.
    PutBack,
    /// Nothing holds it, it runs, and it was left as it is: whether it is the only one cannot be proved.
    Runs,
    /// A staged copy that never ran was ended.
    Ended,
    /// Left to a program that runs.
    Left,
    /// Stays held.
    Held,
    /// It should have been let go, and that failed: it is as it was.
    Failed,
}

/// One copy that was held, or was about to be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Rescued {
    /// On which node.
    pub node: NodeName,
    /// Of which attempt.
    pub attempt: AttemptId,
    /// Which end.
    pub side: Side,
    /// What it is.
    pub title: String,
    /// Its processes, as this machine numbers them.
    pub pids: Vec<i32>,
    /// What became of it, or would.
    pub fate: Fate,
    /// Why.
    pub why: String,
    /// What to do about it, where it is still held.
    pub todo: Option<String>,
}

/// Everything that was found.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Found {
    /// Copies.
    pub copies: Vec<Rescued>,
    /// Nodes whose agents run: what is theirs was left to them.
    pub running: Vec<NodeName>,
    /// Ledgers that could not be read, and why.
    pub unreadable: Vec<String>,
}

/// Looks, and lets go of what is provably free. `group`: name of the cluster's control groups (`grid-1a2b`).
///
/// # Errors
/// Where not even the control groups or the locks can be looked at. Nothing was changed then.
pub fn rescue(state: &Path, group: &str, ask: &RescueAsk) -> io::Result<Found> {
    let cluster = Cluster { group: group.to_owned(), freezers: Hierarchies::detect()?.by_freezer() };
    let mut nodes = Vec::new();
    // Every lock before the first look, so that no agent starts in between.
    for name in cluster.node_names(&state.join("nodes"))? {
        let dir = state.join("nodes").join(name.as_str());
        let lock = lock::try_take(&dir, dir.is_dir() && !ask.dry_run)?;
        nodes.push(Node::new(name, dir, lock));
    }
    for node in &mut nodes {
        node.look(&cluster, !ask.dry_run);
    }
    let mut found = Found {
        copies: Vec::new(),
        running: nodes.iter().filter(|n| n.runs()).map(|n| n.name.clone()).collect(),
        unreadable: nodes.iter().filter_map(|n| n.unreadable.clone()).collect(),
    };
    let trees = cluster.running_trees(&nodes);
    for node in &mut nodes {
        for home in std::mem::take(&mut node.homes) {
            let elsewhere = trees.iter().any(|(at, attempt)| *attempt == home.attempt && *at != home.group.path());
            found.copies.extend(rescue_one_home(node, &home, elsewhere, ask));
        }
    }
    for node in &nodes {
        for staged in &node.staged {
            let source = source_of(&nodes, staged);
            found.copies.extend(rescue_one_staged(node, staged, source, ask));
        }
    }
    Ok(found)
}

/// What the source of a staged copy says, as it is by now.
fn source_of(nodes: &[Node], staged: &Staged) -> Row<SourceState> {
    let from = staged.row.as_ref().map(|(_, _, record)| record.from());
    match nodes.iter().find(|n| Some(&n.name) == from) {
        Some(node) if node.rows.is_some() => node.source_state(&staged.attempt).map_or(Row::Unknown, Row::State),
        _ => Row::Unreadable,
    }
}

fn rescue_one_home(node: &mut Node, home: &Home, runs_elsewhere: bool, ask: &RescueAsk) -> Option<Rescued> {
    let facts = HomeFacts {
        row: node.row(home.row.as_ref().map(|(state, _)| *state)),
        agent_runs: node.runs(),
        criu_runs: home.criu_runs,
        copy: home.copy,
        runs_elsewhere,
        accept_repeat: ask.accept_repeat.contains(&home.attempt),
    };
    let decision = rescue_home(&facts);
    let done = match decision {
        Rescue::Thaw { persist, .. } if !ask.dry_run => act::thaw_home(node, home, persist),
        _ => Ok(()),
    };
    // Also of a dry run: what comes after is told as it would be.
    if let (Rescue::Thaw { persist: true, .. }, Ok(())) = (decision, &done) {
        node.aborted(&home.attempt);
    }
    let copy = Rescued::found(node, &home.attempt, Side::Home, home.title(), &home.pids);
    told(decision, done, home.copy == HomeCopy::Runs, copy)
}

fn rescue_one_staged(node: &Node, staged: &Staged, source: Row<SourceState>, ask: &RescueAsk) -> Option<Rescued> {
    let facts = StagedFacts {
        row: node.row(staged.row.as_ref().map(|(state, released, _)| (*state, *released))),
        agent_runs: node.runs(),
        criu_runs: staged.criu_runs,
        copy: staged.copy,
        source,
    };
    let decision = rescue_staged(&facts);
    let done = match decision {
        Rescue::Thaw { persist, .. } if !ask.dry_run => act::thaw_staged(node, staged, persist),
        Rescue::End(_) if !ask.dry_run => act::end_staged(node, staged),
        _ => Ok(()),
    };
    let copy = Rescued::found(node, &staged.attempt, Side::Staged, staged.title(), &staged.pids);
    told(decision, done, staged.copy == TreeCopy::Runs, copy)
}

impl Rescued {
    /// One about which nothing is decided yet.
    fn found(node: &Node, attempt: &AttemptId, side: Side, title: String, pids: &[i32]) -> Self {
        let (node, attempt, pids) = (node.name.clone(), attempt.clone(), pids.to_vec());
        Self { node, attempt, side, title, pids, fate: Fate::Left, why: String::new(), todo: None }
    }
}

/// What is said of a copy. `runs`: it did when it was found.
fn told(decision: Rescue, done: Result<(), String>, runs: bool, copy: Rescued) -> Option<Rescued> {
    let (fate, why) = match decision {
        Rescue::Nothing => return None,
        Rescue::Leave(why) => (Fate::Left, why),
        Rescue::Thaw { why, .. } if runs => (Fate::PutBack, why),
        Rescue::Thaw { why, .. } => (Fate::Thawed, why),
        Rescue::End(why) => (Fate::Ended, why),
        Rescue::Hold(why) if runs => (Fate::Runs, why),
        Rescue::Hold(why) => (Fate::Held, why),
    };
    if let Err(why) = done {
        let now = if runs { "it runs as before" } else { "it is held as before" };
        return Some(Rescued {
            fate: Fate::Failed,
            why,
            todo: Some(format!("{now}; mend that, then: grid rescue")),
            ..copy
        });
    }
    let stays = matches!(fate, Fate::Held | Fate::Runs);
    let todo = stays.then(|| what_to_do(why, &copy.attempt, copy.side));
    Some(Rescued { fate, why: why.to_string(), todo, ..copy })
}

fn what_to_do(why: Why, attempt: &AttemptId, side: Side) -> String {
    let up = "grid up: the agents ask each other and decide";
    match (why, side) {
        (Why::RunsElsewhere, _) => "nothing: it lives on there".to_owned(),
        (Why::MovedOn, _) => "grid up: its agent ends this copy".to_owned(),
        (Why::LedgerUnreadable | Why::AttemptUnknown, Side::Home) => {
            format!(
                "put the ledger back and grid up; if its other copy is surely gone: grid rescue --accept-repeat {attempt}"
            )
        }
        (_, Side::Home) => {
            format!("{up}; if its other copy is surely gone: grid rescue --accept-repeat {attempt}")
        }
        (Why::LedgerUnreadable | Why::AttemptUnknown, Side::Staged) => "put the ledger back, then grid up".to_owned(),
        (_, Side::Staged) => up.to_owned(),
    }
}

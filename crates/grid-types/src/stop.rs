//! `grid stop`: where the order stands, and what agents say that became of it.
//!
//! The order is a file, so that it can be given and heeded when no daemon runs. Its folder says who may give it: root,
//! and the group that may boost.

use crate::ids::{AttemptId, NodeName};
use crate::units::{Millis, UnixMs};
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};

/// Stops every grid on the machine: root's alone.
pub const MACHINE_WIDE: &str = "/etc/grid/stop";

/// Where orders to stop are looked for, and where agents answer.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct StopPlace {
    /// While any of these files is there, nothing is frozen.
    pub files: Vec<PathBuf>,
    /// The one of them that stands for the head's order, on another machine than the head's: its agent makes and removes it.
    #[serde(default)]
    pub of_head: Option<PathBuf>,
    /// Folder of the answers, one file a node: only agents write there.
    pub answers: PathBuf,
}

impl StopPlace {
    /// Of a cluster with this directory of state.
    pub fn of(state: &Path) -> Self {
        let files = vec![state.join("control/stop"), PathBuf::from(MACHINE_WIDE)];
        Self { files, of_head: None, answers: state.join("stopped") }
    }

    /// Of a worker on another machine than its head, with this folder.
    pub fn of_worker(folder: &Path) -> Self {
        let of_head = folder.join("control/stopped-by-head");
        let mut place = Self::of(folder);
        place.files.insert(1, of_head.clone());
        Self { of_head: Some(of_head), ..place }
    }

    /// The cluster's own file, which `grid stop` makes.
    pub fn own(&self) -> PathBuf {
        self.files.first().cloned().unwrap_or_default()
    }

    /// Where this node answers.
    pub fn answer(&self, node: &NodeName) -> PathBuf {
        self.answers.join(node.as_str())
    }
}

/// An order to stop that stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stop {
    /// The file.
    pub file: PathBuf,
    /// Whose file it is, as the kernel says.
    pub uid: u32,
    /// Since when, wall clock.
    pub since: UnixMs,
    /// Tells this order from another one in the same place.
    pub mark: String,
}

/// What an agent made of an order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StopAnswer {
    /// Which agent.
    pub node: NodeName,
    /// The order's mark.
    pub mark: String,
    /// Moves that were not past their commit, and were undone.
    pub undone: Vec<AttemptId>,
    /// Moves past their commit: they finish.
    pub finishing: Vec<AttemptId>,
    /// From the order to the moment when no process of a move that was undone was frozen, by the agent's clocks; none
    /// while one is.
    pub took: Option<Millis>,
}

/// An order to stop and what became of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StopView {
    /// The order.
    pub stop: Stop,
    /// Name of its giver, where it is known.
    pub by: Option<String>,
    /// Answers to this order so far.
    pub answers: Vec<StopAnswer>,
}

impl StopView {
    /// Moves that were undone.
    pub fn undone(&self) -> usize {
        self.answers.iter().map(|a| a.undone.len()).sum()
    }

    /// Until nothing uncommitted was frozen on any node that answered; none while something is.
    pub fn took(&self) -> Option<Millis> {
        self.answers.iter().map(|a| a.took).try_fold(Millis(0), |most, took| Some(most.max(took?)))
    }
}

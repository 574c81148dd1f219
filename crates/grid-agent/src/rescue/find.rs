//! Finding what is held: the control groups of a cluster, and what ledgers say of them.

use crate::ledger::{Ledger, LedgerError};
use crate::lock::AgentLock;
use crate::{destination, source};
use grid_core::handover::{HomeCopy, Row, TreeCopy};
use grid_os::cgroup::{Controller, Group, Hierarchies};
use grid_os::proc::has_ended;
use grid_types::handover::{DestinationState, SourceState};
use grid_types::{AttemptId, NodeName};
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// CRIU of a dead agent ends by itself: its stream is closed.
const CRIU_ENDS_WITHIN: Duration = Duration::from_secs(10);
/// The end of a PID namespace reaches its last member within this.
const KILLED_WITHIN: Duration = Duration::from_millis(500);
/// Groups of a node in which no trees live.
const NOT_TREES: [&str; 4] = ["hold", "criu", "agent", "daemons"];
/// No process's group is deeper.
const DEPTH: usize = 16;

/// The control groups of a cluster, whichever freezer it held with.
pub(super) struct Cluster {
    pub(super) group: String,
    pub(super) freezers: Vec<Hierarchies>,
}

/// One node, as far as it can be known from outside.
pub(super) struct Node {
    pub(super) name: NodeName,
    dir: PathBuf,
    /// None: its agent runs.
    lock: Option<AgentLock>,
    pub(super) rows: Option<Rows>,
    pub(super) unreadable: Option<String>,
    pub(super) homes: Vec<Home>,
    pub(super) staged: Vec<Staged>,
}

/// What a ledger says.
#[derive(Default)]
pub(super) struct Rows {
    sources: BTreeMap<AttemptId, (SourceState, source::Record)>,
    destinations: BTreeMap<AttemptId, (DestinationState, bool, destination::Record)>,
}

/// A copy at its source.
pub(super) struct Home {
    pub(super) attempt: AttemptId,
    pub(super) group: Group,
    /// The group was made for this attempt; else it is the tree's own.
    pub(super) made_for_it: bool,
    pub(super) pids: Vec<i32>,
    pub(super) copy: HomeCopy,
    pub(super) criu_runs: bool,
    pub(super) row: Option<(SourceState, source::Record)>,
}

/// A copy at its destination.
pub(super) struct Staged {
    pub(super) attempt: AttemptId,
    pub(super) group: Group,
    pub(super) pids: Vec<i32>,
    pub(super) copy: TreeCopy,
    pub(super) criu_runs: bool,
    pub(super) row: Option<(DestinationState, bool, destination::Record)>,
}

impl Home {
    pub(super) fn title(&self) -> String {
        self.row.as_ref().map_or_else(|| comm(&self.pids), |(_, record)| record.stage.title.clone())
    }
}

impl Staged {
    pub(super) fn title(&self) -> String {
        self.row.as_ref().map_or_else(|| comm(&self.pids), |(.., record)| record.stage.title.clone())
    }
}

fn comm(pids: &[i32]) -> String {
    let first = pids.first().and_then(|pid| std::fs::read_to_string(format!("/proc/{pid}/comm")).ok());
    first.map_or("-".to_owned(), |text| text.trim().to_owned())
}

impl Cluster {
    /// Nodes that have state, or control groups.
    pub(super) fn node_names(&self, nodes: &Path) -> io::Result<Vec<NodeName>> {
        let mut names: BTreeSet<String> = BTreeSet::new();
        if nodes.exists() {
            let dirs = std::fs::read_dir(nodes)?.flatten().filter(|e| e.path().is_dir());
            names.extend(dirs.map(|e| e.file_name().to_string_lossy().into_owned()));
        }
        for h in &self.freezers {
            names.extend(h.mount(Controller::Freezer).iter().flat_map(|m| children(&m.join(&self.group))));
        }
        Ok(names.into_iter().map(NodeName::new).collect())
    }

    fn group(&self, h: &Hierarchies, path: &str) -> Group {
        h.group(path, &[Controller::Freezer, Controller::Kill])
    }

    /// Groups that were made to hold a tree that leaves this node, by attempt.
    fn holds(&self, node: &NodeName) -> Vec<(AttemptId, Group)> {
        let mut found = Vec::new();
        for h in &self.freezers {
            let Some(mount) = h.mount(Controller::Freezer) else { continue };
            let hold = format!("{}/{node}/hold", self.group);
            let own = children(&mount.join(&hold)).into_iter();
            found.extend(own.map(|a| (AttemptId::new(&a), self.group(h, &format!("{hold}/{a}")))));
            if h.is_v2(Controller::Freezer) {
                let prefix = source::hold_prefix(&format!("{}/{node}", self.group));
                let mut below = Vec::new();
                named(mount, "", &prefix, DEPTH, &mut below);
                let attempt =
                    |path: &str| path.rsplit('/').next().and_then(|n| n.strip_prefix(&prefix)).map(AttemptId::new);
                found.extend(below.iter().filter_map(|p| Some((attempt(p)?, self.group(h, p)))));
            }
        }
        each_once(found)
    }

    /// Groups of trees that came to this node, by attempt.
    fn trees(&self, node: &NodeName) -> Vec<(AttemptId, Group)> {
        let mut found = Vec::new();
        for h in &self.freezers {
            let Some(mount) = h.mount(Controller::Freezer) else { continue };
            let at = format!("{}/{node}", self.group);
            for lease in children(&mount.join(&at)).into_iter().filter(|l| !NOT_TREES.contains(&l.as_str())) {
                let trees = children(&mount.join(&at).join(&lease)).into_iter().filter(|t| t != "init");
                found.extend(trees.map(|t| (AttemptId::new(&t), self.group(h, &format!("{at}/{lease}/{t}")))));
            }
        }
        each_once(found)
    }

    fn criu_runs(&self, node: &NodeName, attempt: &AttemptId) -> bool {
        let path = format!("{}/{node}/criu/{attempt}", self.group);
        self.freezers.iter().any(|h| !living(&self.group(h, &path)).is_empty())
    }

    /// Trees of any node that run at this moment: their group's path, and the attempt that brought them.
    pub(super) fn running_trees(&self, nodes: &[Node]) -> Vec<(String, AttemptId)> {
        let runs = |g: &Group| !living(g).is_empty() && !g.is_frozen().unwrap_or(false);
        let of_node = |n: &Node| self.trees(&n.name).into_iter().filter(|(_, g)| runs(g)).collect::<Vec<_>>();
        nodes.iter().flat_map(of_node).map(|(a, g)| (g.path().to_owned(), a)).collect()
    }
}

impl Node {
    pub(super) fn new(name: NodeName, dir: PathBuf, lock: Option<AgentLock>) -> Self {
        Self { name, dir, lock, rows: None, unreadable: None, homes: Vec::new(), staged: Vec::new() }
    }

    /// Its agent runs.
    pub(super) fn runs(&self) -> bool {
        self.lock.is_none()
    }

    pub(super) fn ledger(&self) -> PathBuf {
        self.dir.join("ledger.db")
    }

    pub(super) fn row<S>(&self, state: Option<S>) -> Row<S> {
        match (&self.rows, state) {
            (None, _) => Row::Unreadable,
            (Some(_), None) => Row::Unknown,
            (Some(_), Some(state)) => Row::State(state),
        }
    }

    pub(super) fn source_state(&self, attempt: &AttemptId) -> Option<SourceState> {
        self.rows.as_ref()?.sources.get(attempt).map(|(state, _)| *state)
    }

    pub(super) fn aborted(&mut self, attempt: &AttemptId) {
        if let Some(row) = self.rows.as_mut().and_then(|r| r.sources.get_mut(attempt)) {
            row.0 = SourceState::Aborted;
        }
    }

    /// Reads everything of it. `wait`: for CRIU, which ends by itself.
    pub(super) fn look(&mut self, cluster: &Cluster, wait: bool) {
        if !self.runs() {
            match Rows::read(&self.ledger()) {
                Ok(rows) => self.rows = Some(rows),
                Err(why) => self.unreadable = Some(format!("{}: {why}", self.name)),
            }
        }
        let wait = wait && !self.runs();
        let begun = Instant::now();
        let criu = |attempt: &AttemptId| {
            while wait && cluster.criu_runs(&self.name, attempt) && begun.elapsed() < CRIU_ENDS_WITHIN {
                std::thread::sleep(Duration::from_millis(10));
            }
            cluster.criu_runs(&self.name, attempt)
        };
        let mut homes: Vec<Home> = Vec::new();
        for (attempt, group) in cluster.holds(&self.name) {
            let criu_runs = criu(&attempt);
            let row = self.rows.as_ref().and_then(|r| r.sources.get(&attempt).cloned());
            homes.extend(Home::of(attempt, group, true, criu_runs, row));
        }
        let mut staged = Vec::new();
        let trees = cluster.trees(&self.name);
        if wait {
            trees.iter().for_each(|(_, group)| bury(group));
        }
        for (attempt, group) in trees {
            match self.rows.as_ref().and_then(|r| r.held_by(group.path())) {
                Some((later, row)) => {
                    let criu_runs = criu(&later);
                    homes.extend(Home::of(later, group, false, criu_runs, Some(row)));
                }
                None => {
                    let criu_runs = criu(&attempt);
                    let row = self.rows.as_ref().and_then(|r| r.destinations.get(&attempt).cloned());
                    staged.extend(Staged::of(attempt, group, criu_runs, row));
                }
            }
        }
        (self.homes, self.staged) = (homes, staged);
    }
}

impl Home {
    /// None where nothing is held: the group is empty, or is the tree's own and runs.
    fn of(
        attempt: AttemptId,
        group: Group,
        made_for_it: bool,
        criu_runs: bool,
        row: Option<(SourceState, source::Record)>,
    ) -> Option<Self> {
        let pids = living(&group);
        let frozen = group.is_frozen().unwrap_or(false);
        let held = !pids.is_empty() && (made_for_it || frozen);
        let copy = if frozen { HomeCopy::Frozen } else { HomeCopy::Runs };
        held.then_some(Self { attempt, group, made_for_it, pids, copy, criu_runs, row })
    }
}

impl Staged {
    /// None where nothing is held.
    fn of(
        attempt: AttemptId,
        group: Group,
        criu_runs: bool,
        row: Option<(DestinationState, bool, destination::Record)>,
    ) -> Option<Self> {
        let pids = living(&group);
        let frozen = group.is_frozen().unwrap_or(false);
        let copy = if frozen { TreeCopy::Frozen } else { TreeCopy::Runs };
        let before_go =
            row.as_ref().is_some_and(|(s, ..)| matches!(s, DestinationState::Empty | DestinationState::Staged));
        let held = !pids.is_empty() && (frozen || before_go);
        held.then_some(Self { attempt, group, pids, copy, criu_runs, row })
    }
}

impl Rows {
    /// Reads a copy, so that the file itself stays as it is.
    fn read(path: &Path) -> Result<Self, String> {
        let text = |e: LedgerError| e.to_string();
        let ledger = Ledger::open_copy(path)?;
        let sources = ledger.sources::<source::Record>().map_err(text)?;
        let destinations = ledger.destinations::<destination::Record>().map_err(text)?;
        Ok(Self {
            sources: sources.into_iter().map(|r| (r.attempt, (r.state, r.detail))).collect(),
            destinations: destinations.into_iter().map(|r| (r.attempt, (r.state, r.released, r.detail))).collect(),
        })
    }

    /// The attempt that holds a tree in its own group: it decides, and not the attempt that had brought the tree. Of
    /// several, the one that went furthest; a tree leaves once.
    fn held_by(&self, path: &str) -> Option<(AttemptId, (SourceState, source::Record))> {
        let furthest = |state: SourceState| match state {
            SourceState::Released => 3,
            SourceState::Committed | SourceState::InDoubt => 2,
            SourceState::Running | SourceState::Frozen => 1,
            SourceState::Aborted => 0,
        };
        let rows = self.sources.iter().filter(|(_, (_, record))| record.hold == path);
        rows.max_by_key(|(_, (state, _))| furthest(*state)).map(|(a, row)| (a.clone(), row.clone()))
    }
}

/// A group may be there in v1 and in v2: the freezer that holds it counts, else the one that has its processes.
fn each_once(found: Vec<(AttemptId, Group)>) -> Vec<(AttemptId, Group)> {
    let mut by_path: BTreeMap<String, Vec<(AttemptId, Group)>> = BTreeMap::new();
    for (attempt, group) in found {
        by_path.entry(group.path().to_owned()).or_default().push((attempt, group));
    }
    let rank = |(_, group): &(AttemptId, Group)| match group.is_frozen() {
        Ok(true) => 2,
        _ => u8::from(!living(group).is_empty()),
    };
    by_path.into_values().filter_map(|same| same.into_iter().rev().max_by_key(rank)).collect()
}

/// Processes of a group that have not ended, and will not end as soon as they are thawed.
fn living(group: &Group) -> Vec<i32> {
    group.pids().into_iter().filter(|pid| !has_ended(*pid) && !is_killed(*pid)).collect()
}

/// SIGKILL waits for it: it runs no instruction of its own again. So it is with what was frozen in a PID namespace that
/// ended.
fn is_killed(pid: i32) -> bool {
    std::fs::read_to_string(format!("/proc/{pid}/status")).is_ok_and(|status| grid_os::proc::is_killed(&status))
}

/// Lets those go that were killed while they were frozen, where nobody else is in their group. Their namespace may have
/// ended a moment ago, and the kernel be about to kill them: that is waited for.
fn bury(group: &Group) {
    let begun = Instant::now();
    let held = || !group.pids().is_empty() && group.is_frozen().unwrap_or(false);
    while held() && begun.elapsed() < KILLED_WITHIN {
        if living(group).is_empty() {
            let _ = group.set_frozen(false);
            return;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn children(dir: &Path) -> Vec<String> {
    let dirs = std::fs::read_dir(dir).into_iter().flatten().flatten();
    let mut names: Vec<String> = dirs
        .filter(|e| e.file_type().is_ok_and(|t| t.is_dir()))
        .map(|e| e.file_name().to_string_lossy().into_owned())
        .collect();
    names.sort();
    names
}

/// Groups below `path` whose name begins like this.
fn named(mount: &Path, path: &str, prefix: &str, depth: usize, found: &mut Vec<String>) {
    if depth == 0 {
        return;
    }
    for name in children(&mount.join(path)) {
        let below = if path.is_empty() { name.clone() } else { format!("{path}/{name}") };
        match name.starts_with(prefix) {
            true => found.push(below),
            false => named(mount, &below, prefix, depth - 1, found),
        }
    }
}

//! Which processes may move: two answers for every tree, each with reasons as data.
//!
//! *Is it worth moving* is deny-by-default: whatever grid does not know to be harmless stays, unless a rule of the user's
//! says otherwise or a person names it. *Can it move* comes from the process's real state and nobody can overrule it. A
//! fact that could not be read is a reason to stay. It reads nothing itself and never acts.
//!
//! ```text
//! stats ──► first_pass ──► look: roots, largest first ──► (grid-os reads the tree) ──► judge ──► Verdict
//!                     └──► stays, each with its reason                                   │
//!                 below(root) ◄── where only the root itself is left alone ◄─────────────┘  passes_below
//! ```

mod classify;
mod filter;
mod first_pass;
mod glob;
mod movable;
mod names;
mod rules;
mod score;
mod streams;
mod title;
mod worth;

pub use filter::filtered;
pub use first_pass::{FirstPass, below, first_pass};
pub use movable::connections;
pub use streams::{begun, streams};
pub use title::{masked, title};

use grid_types::facts::{Namespaces, TreeFacts};
use grid_types::ids::ProcId;
use grid_types::plan::Verdict;
use grid_types::policy::Detector;
use grid_types::reason::{Reason, ReasonCode};
use grid_types::units::Bytes;
use std::collections::{BTreeMap, BTreeSet, HashSet};

/// What the detector has to know beside the process and the policy.
#[derive(Clone, Debug, Default)]
pub struct DetectContext {
    /// Processes of grid: daemons, workers, shadows. All their descendants count as grid's too.
    pub own_pids: BTreeSet<i32>,
    /// Parts of control group paths that are grid's (`/grid/`).
    pub own_cgroups: Vec<String>,
    /// Namespaces of the agent: a process in others lives in a container or a sandbox.
    pub own_ns: Namespaces,
    /// Roots of trees that grid restored on this node. They live in namespaces of grid's making, below grid's processes,
    /// and may move again.
    pub tree_roots: BTreeSet<i32>,
    /// Who asks, by uid; none where grid chooses by itself. Anyone but root sees and moves only their own.
    pub asked_by: Option<u32>,
    /// A person named the process: mere protections become notices.
    pub named: bool,
    /// Names of users.
    pub users: BTreeMap<u32, String>,
    /// Memory of this node, for proportions.
    pub node_memory: Bytes,
    /// Moved or refused a moment ago.
    pub recent: HashSet<ProcId>,
    /// Kept here by `grid keep`.
    pub kept: HashSet<ProcId>,
    /// Being moved, or shadows of what is away.
    pub away: BTreeSet<i32>,
    /// Directories whose files are each node's own (`/dev/shm`, `/run`).
    pub private_paths: Vec<String>,
    /// CRIU's CUDA plugin and the driver's checkpoint support are both here.
    pub gpu_checkpoint: bool,
}

impl DetectContext {
    fn user(&self, uid: u32) -> String {
        self.users.get(&uid).cloned().unwrap_or_else(|| format!("uid {uid}"))
    }

    /// The asker may not see or move processes of this owner.
    fn is_anothers(&self, uid: u32) -> bool {
        self.asked_by.is_some_and(|asker| asker != 0 && asker != uid)
    }
}

/// Both answers about a tree.
pub fn judge(tree: &TreeFacts, ctx: &DetectContext, policy: &Detector) -> Verdict {
    let root = &tree.root.stat;
    let used = tree.used();
    let class = classify::classify(tree, ctx, policy);
    let mut notices = Vec::new();
    let mut not_worth = worth::reasons(tree, ctx, policy, &class);
    if ctx.named {
        let (hard, soft): (Vec<_>, Vec<_>) = not_worth.into_iter().partition(|r| is_hard(r.code));
        notices.extend(soft.into_iter().map(|r| format!("grid would not choose it by itself: {}", r.detail)));
        not_worth = hard;
    }
    let looked_at = tree.root.deep.is_some();
    let cannot = looked_at.then(|| match not_worth.iter().find(|r| r.code == ReasonCode::Kernel) {
        // Nothing else that could be said of it matters.
        Some(kernel) => vec![kernel.clone()],
        None => movable::reasons(tree, ctx, policy.tcp_connections),
    });
    notices.extend(score::notices(tree));
    notices.extend(movable::closing(tree, policy.tcp_connections));
    let complexity = score::complexity(tree, used.memory);
    Verdict {
        id: root.id.clone(),
        title: title(&tree.root, ctx.is_anothers(root.uid)),
        uid: root.uid,
        kind: class.kind,
        processes: tree.all().count() as u32,
        threads: tree.all().map(|p| p.stat.threads).sum(),
        used,
        age: root.age,
        worth: if not_worth.is_empty() { worth::worth(tree, ctx, &class, used) } else { Vec::new() },
        can: if cannot.as_ref().is_some_and(Vec::is_empty) { score::inventory(tree) } else { String::new() },
        complexity,
        confidence: score::confidence(tree, class.kind, complexity, cannot.as_deref()),
        kind_why: class.why,
        not_worth,
        cannot,
        notices,
    }
}

/// Not even a person who names the process overrules these.
fn is_hard(code: ReasonCode) -> bool {
    matches!(code, ReasonCode::Grid | ReasonCode::Kernel | ReasonCode::Owner | ReasonCode::Away | ReasonCode::Keep)
}

/// Only the root itself is left alone, so its children deserve a look of their own: [`below`].
pub fn passes_below(verdict: &Verdict) -> bool {
    let only_itself = |r: &Reason| {
        use ReasonCode::{Database, Desktop, Leader, Protected, Root, Service, Shell};
        matches!(r.code, Shell | Desktop | Database | Service | Leader | Protected | Root)
    };
    verdict.not_worth.iter().any(only_itself) && !verdict.not_worth.iter().any(|r| is_hard(r.code))
}

#[cfg(test)]
mod first_pass_tests;
#[cfg(test)]
mod movable_tests;
#[cfg(test)]
mod saved;
#[cfg(test)]
mod testkit;
#[cfg(test)]
mod tests;

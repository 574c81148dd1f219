//! Filters of system calls: that of `grid run` moves with its tree, any other one keeps it.
//!
//! What is known before a dump is a claim (`ProcDeep::claims_run`); the dump shows the filter itself, and one that is
//! another's ends the move then. A child that has one filter, and whose parent has that of `grid run`, inherited it,
//! whatever it made of its environment: nobody can get rid of a filter.

use grid_types::facts::{ProcFacts, TreeFacts};
use std::collections::HashSet;

/// Why a process stays, in words; none where its filter, or that it has none, is no reason.
pub(super) fn obstacle(tree: &TreeFacts, p: &ProcFacts) -> Option<&'static str> {
    let ours = ours(tree);
    let filtered = p.deep.as_ref().is_some_and(|deep| deep.seccomp != 0);
    match (filtered, ours.contains(&p.stat.id.pid)) {
        (true, false) => Some("runs under a seccomp filter"),
        (false, _) if !ours.is_empty() => Some("is not under the filter of `grid run`, as others of its tree are"),
        _ => None,
    }
}

/// The whole tree is under the filter of `grid run`, where it may move at all.
pub fn filtered(tree: &TreeFacts) -> bool {
    ours(tree).contains(&tree.root.stat.id.pid)
}

/// Parents come before their children.
fn ours(tree: &TreeFacts) -> HashSet<i32> {
    let mut ours = HashSet::new();
    for p in tree.all() {
        let Some(deep) = p.deep.as_ref().filter(|deep| deep.seccomp == 2 && deep.filters == 1) else { continue };
        if deep.claims_run || ours.contains(&p.stat.ppid) {
            ours.insert(p.stat.id.pid);
        }
    }
    ours
}

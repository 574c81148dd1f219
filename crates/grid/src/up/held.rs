//! What a cluster that ends leaves frozen: let go where that is provably right, told where it must stay.

use super::{Plan, tell};
use grid_agent::{Fate, Found, RescueAsk, Rescued};
use std::collections::BTreeSet;

/// Lets go of what was not past its commit; what must stay held is told, and its processes returned.
pub(super) fn let_go(plan: &Plan) -> BTreeSet<i32> {
    let found = grid_agent::rescue(&plan.state, &plan.cgroup, &RescueAsk::default()).unwrap_or_else(|e| {
        tell(&format!("grid: what is held frozen could not be looked at: {e}; grid rescue"));
        Found::default()
    });
    let held = |c: &&Rescued| !matches!(c.fate, Fate::Thawed | Fate::PutBack | Fate::Ended);
    for c in found.copies.iter().filter(held) {
        let todo = c.todo.as_deref().unwrap_or("grid rescue");
        let how = if c.fate == Fate::Runs { "runs, and stays in its group" } else { "stays held" };
        tell(&format!("grid: {} {} on {} {how}: {}. Do: {todo}", c.attempt, c.title, c.node, c.why));
    }
    found.copies.iter().filter(held).flat_map(|c| c.pids.iter().copied()).collect()
}

//! `grid rescue`: asks nobody. The agent's own code looks and acts, under the agents' locks.

use super::args::RescueArgs;
use super::failure::Failure;
use super::output::Printed;
use super::render;
use grid_agent::{Fate, RescueAsk};
use grid_types::AttemptId;
use grid_types::exit::FaultClass;
use std::path::Path;

pub(super) fn rescue(state: &Path, args: &RescueArgs, format: super::Format) -> Result<Printed, Failure> {
    if !nix::unistd::geteuid().is_root() {
        return Err(Failure::new(FaultClass::Permission, "only root may rescue processes. Nothing was changed.")
            .hint("sudo grid rescue --dry-run"));
    }
    let state = std::path::absolute(state).unwrap_or_else(|_| state.to_owned());
    let ask =
        RescueAsk { dry_run: args.dry_run, accept_repeat: args.accept_repeat.iter().map(AttemptId::new).collect() };
    let failed = |e: std::io::Error| {
        Failure::new(FaultClass::Environment, format!("{}: {e}. Nothing was changed.", state.display()))
            .hint("what is frozen by hand: grep -l FROZEN /sys/fs/cgroup/freezer/grid-*/*/*/*/freezer.state")
    };
    let found = grid_agent::rescue(&state, &crate::up::cgroup(&state), &ask).map_err(failed)?;
    let quiet = found.copies.iter().map(|c| c.attempt.to_string()).collect::<Vec<_>>().join("\n");
    let printed = Printed::local(&found, render::rescued(&found, args.dry_run), quiet)?;
    let class = |fate| found.copies.iter().any(|c| c.fate == fate);
    let wrong = match () {
        () if class(Fate::Failed) => FaultClass::Internal,
        () if class(Fate::Held) => FaultClass::InDoubt,
        () => return Ok(printed),
    };
    printed.print(format);
    Err(Failure::shown(wrong))
}

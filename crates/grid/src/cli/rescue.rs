//! `grid rescue`: asks nobody. The agent's own code looks and acts, under the agents' locks.

use super::args::RescueArgs;
use super::failure::Failure;
use super::output::Printed;
use super::render;
use grid_agent::{Fate, RescueAsk};
use grid_os::cgroup::Controller;
use grid_types::AttemptId;
use grid_types::exit::FaultClass;
use std::path::Path;

pub(super) fn rescue(state: &Path, args: &RescueArgs, format: super::Format) -> Result<Printed, Failure> {
    if !nix::unistd::geteuid().is_root() {
        return Err(Failure::new(FaultClass::Permission, "only root may rescue processes. Nothing was changed.")
            .hint("sudo grid rescue --dry-run"));
    }
    let state = std::path::absolute(state).unwrap_or_else(|_| state.to_owned());
    let cgroup = crate::up::cgroup(&state);
    let groups = || grid_os::cgroup::Hierarchies::detect().map(|h| h.group(&cgroup, &[Controller::Freezer]).exists());
    // A mistyped path must not read as "nothing is held"; but a folder that is lost does not hide what is.
    if !state.join("conf").is_dir() && !groups().unwrap_or(true) {
        let what = format!("{} is no state of grid's. Nothing was looked at.", state.display());
        return Err(Failure::new(FaultClass::NotFound, what).hint("--state DIR, as it was given to grid up"));
    }
    let ask =
        RescueAsk { dry_run: args.dry_run, accept_repeat: args.accept_repeat.iter().map(AttemptId::new).collect() };
    let failed = |e: std::io::Error| {
        Failure::new(FaultClass::Environment, format!("{}: {e}. Nothing was changed.", state.display()))
            .hint("what is frozen by hand: grep -l FROZEN /sys/fs/cgroup/freezer/grid-*/*/*/*/freezer.state")
    };
    let found = grid_agent::rescue(&state, &cgroup, &ask).map_err(failed)?;
    let unknown = |a: &&AttemptId| !found.copies.iter().any(|c| c.attempt == **a);
    if let Some(attempt) = ask.accept_repeat.iter().find(unknown) {
        let what = format!("no copy of {attempt} is held here. What could be rescued without a person's word was.");
        return Err(Failure::new(FaultClass::NotFound, what).hint("grid rescue --dry-run lists what is held"));
    }
    let quiet = found.copies.iter().map(|c| c.attempt.to_string()).collect::<Vec<_>>().join("\n");
    let printed = Printed::local(&found, render::rescued(&found, args.dry_run), quiet)?;
    let class = |fate| found.copies.iter().any(|c| c.fate == fate);
    let wrong = match () {
        () if class(Fate::Failed) => FaultClass::Internal,
        () if class(Fate::Held) || class(Fate::Runs) => FaultClass::InDoubt,
        () => return Ok(printed),
    };
    printed.print(format);
    Err(Failure::shown(wrong))
}

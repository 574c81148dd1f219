//! Which rights grid's programs have: what each capability is for, whether it is held here, and, where a cluster runs,
//! what its processes hold and have given up, read from the kernel.

use super::{Check, State};
use crate::up;
use grid_os::rights::{AGENT, Rights, names, set_of};
use serde::Serialize;
use std::fmt::Write;
use std::path::{Path, PathBuf};

/// How a capability that is not held is to be had.
const SUDO: &str = "run as root of the machine, not of a container";

/// A process of the cluster, and what it may do.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Running {
    program: String,
    pid: i32,
    uid: u32,
    keeps: Vec<String>,
    dropped: Vec<String>,
    /// A program that it starts cannot have more either.
    for_good: bool,
}

/// The agents' capabilities, as this process holds them.
pub(super) fn capabilities() -> Vec<Check> {
    let own = Rights::of(std::process::id() as i32);
    let (held, bounding) = (own.as_ref().map(|r| r.permitted), own.as_ref().map_or(0, |r| r.bounding));
    let check = |kept: &grid_os::rights::Kept| {
        let (there, found) = match &held {
            Ok(set) if set & kept.capability.bitmask() != 0 => (true, "held"),
            Ok(_) => (false, "not held"),
            Err(_) => (false, "-"),
        };
        let state = match (there, kept.needed) {
            (true, _) => State::Ok,
            (false, true) => State::Missing,
            (false, false) => State::Note,
        };
        let check = Check {
            name: kept.capability.to_string(),
            state,
            found: found.to_owned(),
            enables: kept.why,
            get: (!there).then(|| SUDO.to_owned()),
        };
        // What the bounding set still has, root would have.
        let for_root = !there && !nix::unistd::geteuid().is_root() && bounding & kept.capability.bitmask() != 0;
        if for_root { check.unseen() } else { check }
    };
    AGENT.iter().map(check).collect()
}

/// The processes of the cluster of this state.
pub(super) fn running(state: &Path) -> Vec<Running> {
    let state = std::path::absolute(state).unwrap_or_else(|_| state.to_owned());
    let all = grid_os::rights::all_capabilities();
    let entries = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    let mut pids: Vec<i32> = entries.filter_map(|e| e.file_name().to_str()?.parse().ok()).collect();
    pids.sort_unstable();
    let one = |pid: i32| {
        let program = program_of(pid, &state)?;
        let rights = Rights::of(pid).ok()?;
        let holds = rights.permitted | rights.handed_on;
        Some(Running {
            program,
            pid,
            uid: rights.uid,
            keeps: names(holds),
            dropped: names(all & !holds),
            for_good: rights.bounding & !holds == 0,
        })
    };
    pids.into_iter().filter_map(one).collect()
}

/// What this process is of the cluster, by its arguments.
fn program_of(pid: i32, state: &Path) -> Option<String> {
    let text = std::fs::read(format!("/proc/{pid}/cmdline")).ok()?;
    let words: Vec<String> = text.split(|b| *b == 0).map(|w| String::from_utf8_lossy(w).into_owned()).collect();
    let argument = |i: usize| words.get(i).map(PathBuf::from).unwrap_or_default();
    let node = |config: PathBuf| {
        let stem = config.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        (config.parent() == Some(&state.join("conf"))).then_some(stem)
    };
    match words.get(1)?.as_str() {
        "daemon" => node(argument(4)).map(|_| "the head's daemon".to_owned()),
        "agent" => node(argument(3)).map(|n| format!("agent of {}", if n == "hub" { "the head" } else { &n })),
        "node-init" => node(argument(3)).map(|n| format!("pid 1 of {n}")),
        "tree-init" => argument(2).starts_with(up::run_dir(state)).then(|| "pid 1 of a moved tree".to_owned()),
        _ => None,
    }
}

/// What runs, for people; nothing where nothing does.
pub(super) fn human(running: &[Running]) -> String {
    if running.is_empty() {
        return String::new();
    }
    let width = running.iter().map(|r| r.program.len()).max().unwrap_or(0).max("RIGHTS OF".len());
    let mut out = format!("{:width$}  {:>8}  {:>6}  {:>5}  DROPPED\n", "RIGHTS OF", "PID", "UID", "KEEPS");
    for r in running {
        let keeps = if r.keeps.is_empty() { "none".to_owned() } else { r.keeps.len().to_string() };
        let for_good = if r.for_good { ", for good" } else { "; hands the agent's on" };
        let _ = writeln!(
            out,
            "{:width$}  {:>8}  {:>6}  {keeps:>5}  {}{for_good}",
            r.program,
            r.pid,
            r.uid,
            r.dropped.len()
        );
    }
    let agents = names(grid_os::rights::all_capabilities() & !set_of(&AGENT));
    let _ = writeln!(out, "An agent keeps those listed above; it has given up {}.", agents.join(" "));
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_runs_is_told_for_people() {
        let of = |program: &str, uid, keeps: u64, for_good| Running {
            program: program.into(),
            pid: 4711,
            uid,
            keeps: names(keeps),
            dropped: names(0xff & !keeps),
            for_good,
        };
        let text = human(&[
            of("the head's daemon", 61200, 0, true),
            of("agent of gpu1", 0, 0b11, true),
            of("pid 1 of gpu1", 0, 0, false),
        ]);
        let rows: Vec<&str> = text.lines().take(4).collect();
        insta::assert_snapshot!(rows.join("\n"));
        assert!(text.contains("CAP_SYS_MODULE") && !text.contains(" CAP_KILL"));
        assert_eq!(human(&[]), "");
    }

    #[test]
    fn each_kept_capability_is_a_check() {
        let checks = capabilities();
        assert_eq!(checks.len(), AGENT.len());
        assert!(checks.iter().all(|c| !c.enables.is_empty()));
    }
}

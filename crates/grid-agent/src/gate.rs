//! The lender's gate: the staged tree, frozen, is inspected from outside before it is called ready.
//!
//! Restoring is a privilege boundary: what arrived decides what the processes are. Nothing of it is believed.

use crate::tree::{executable, is_zombie};
use grid_os::cgroup::{Controller, Group};
use grid_os::proc::ProcRoot;
use grid_types::facts::FdKind;
use grid_types::wire::{Manifest, Stage};

/// Refuses a tree that is not what was announced, or more than a guest may be.
pub(crate) fn inspect(group: &Group, stage: &Stage, manifest: &Manifest) -> Result<(), String> {
    let proc = ProcRoot::new("/proc");
    // CRIU has left the freezer's group; on v1 it may still end in the others.
    let members = group.with(&[Controller::Freezer]).pids();
    let pids: Vec<i32> = members.into_iter().filter(|pid| !is_zombie(*pid)).collect();
    if pids.len() != manifest.processes as usize {
        let names: Vec<String> = pids.iter().map(|pid| name(*pid)).collect();
        let names = names.join(", ");
        return Err(refusal(&format!(
            "{} processes arrived ({names}), {} were announced",
            pids.len(),
            manifest.processes
        )));
    }
    for pid in pids {
        inspect_one(&proc, pid, stage, manifest)?;
    }
    Ok(())
}

fn name(pid: i32) -> String {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(')')
        .map_or_else(|| pid.to_string(), |(name, rest)| format!("{name}){}", &rest[..2.min(rest.len())]))
}

fn refusal(what: &str) -> String {
    format!("the lender's gate refused it: {what}")
}

fn inspect_one(proc: &ProcRoot, pid: i32, stage: &Stage, manifest: &Manifest) -> Result<(), String> {
    let deep = proc.deep(pid).map_err(|e| refusal(&format!("process {pid} could not be inspected: {e}")))?;
    if deep.uids.iter().any(|uid| *uid == 0 || *uid != stage.uid) {
        return Err(refusal(&format!("process {pid} has uids {:?}, {} was announced", deep.uids, stage.uid)));
    }
    if deep.cap_eff != 0 {
        return Err(refusal(&format!("process {pid} holds capabilities {:#x}", deep.cap_eff)));
    }
    for fd in &deep.fds {
        if let FdKind::Device { path } = &fd.kind {
            return Err(refusal(&format!("process {pid} holds device {path}")));
        }
    }
    match executable(pid) {
        Some(exe) if manifest.executables.contains(&exe) => Ok(()),
        exe => Err(refusal(&format!("process {pid} runs {exe:?}, which was not announced"))),
    }
}

//! The lender's gate: the staged tree, frozen, is inspected from outside before it is called ready.
//!
//! Restoring is a privilege boundary: what arrived decides what the processes are. Nothing of it is believed. It is
//! quick, because the tree waits frozen meanwhile: a few small files for each process.

use crate::tree::{executable, has_ended};
use grid_os::cgroup::{Controller, Group};
use grid_types::wire::{Manifest, Stage};
use std::os::unix::fs::FileTypeExt;

/// Devices that give nothing away and take nothing.
const HARMLESS: [&str; 5] = ["/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom"];
/// Sets of capabilities that must be empty: what the process has, could take, and would hand on.
const CAPABILITY_SETS: [&str; 3] = ["CapEff", "CapPrm", "CapAmb"];

/// Refuses a tree that is not what was announced, or more than a guest may be.
pub(crate) fn inspect(group: &Group, stage: &Stage, manifest: &Manifest) -> Result<(), String> {
    // CRIU has left the freezer's group; on v1 it may still end in the others.
    let members = group.with(&[Controller::Freezer]).pids();
    let pids: Vec<i32> = members.into_iter().filter(|pid| !has_ended(*pid)).collect();
    if pids.len() != manifest.processes as usize {
        let names = pids.iter().map(|pid| name(*pid)).collect::<Vec<_>>().join(", ");
        let (arrived, announced) = (pids.len(), manifest.processes);
        return Err(refusal(&format!("{arrived} processes arrived ({names}), {announced} were announced")));
    }
    pids.into_iter().try_for_each(|pid| inspect_one(pid, stage, manifest))
}

fn name(pid: i32) -> String {
    let comm = std::fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
    format!("{pid} {}", comm.trim())
}

fn refusal(what: &str) -> String {
    format!("the lender's gate refused it: {what}")
}

fn inspect_one(pid: i32, stage: &Stage, manifest: &Manifest) -> Result<(), String> {
    let unread = |e: std::io::Error| refusal(&format!("process {pid} could not be inspected: {e}"));
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).map_err(unread)?;
    check_identity(&status, stage).map_err(|what| refusal(&format!("process {pid} {what}")))?;
    for fd in std::fs::read_dir(format!("/proc/{pid}/fd")).map_err(unread)? {
        let link = fd.map_err(unread)?.path();
        let kind = std::fs::metadata(&link).map_err(unread)?.file_type();
        let target = std::fs::read_link(&link).map_err(unread)?;
        let device = kind.is_block_device() || kind.is_char_device();
        if device && !HARMLESS.iter().any(|harmless| target.as_os_str() == *harmless) {
            return Err(refusal(&format!("process {pid} holds device {}", target.display())));
        }
    }
    match executable(pid) {
        Some(exe) if manifest.executables.contains(&exe) => Ok(()),
        exe => Err(refusal(&format!("process {pid} runs {exe:?}, which was not announced"))),
    }
}

/// Every id is the announced owner's, none is root's, and no capability is held.
fn check_identity(status: &str, stage: &Stage) -> Result<(), String> {
    let field = |name: &str| {
        let line = status.lines().find_map(|l| l.strip_prefix(name)?.strip_prefix(':'));
        line.map(str::trim).ok_or_else(|| format!("shows no {name}"))
    };
    for (name, announced) in [("Uid", stage.uid), ("Gid", stage.gid)] {
        let ids = field(name)?;
        if announced == 0 || ids.split_whitespace().any(|id| id.parse() != Ok(announced)) {
            return Err(format!("has {name} {ids}, {announced} was announced"));
        }
    }
    for set in CAPABILITY_SETS {
        let held = field(set)?;
        if held.bytes().any(|b| b != b'0') {
            return Err(format!("holds capabilities: {set} {held}"));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stage(uid: u32, gid: u32) -> Stage {
        Stage {
            offload: "o-1".into(),
            title: String::new(),
            uid,
            gid,
            groups: Vec::new(),
            lease: None,
            expected: grid_types::Bytes(0),
            admitted: grid_types::Bytes(0),
            processes: 1,
            shell_job: false,
        }
    }

    fn status(uid: &str, gid: &str, effective: &str) -> String {
        format!("Name:\tx\nUid:\t{uid}\nGid:\t{gid}\nCapPrm:\t0000\nCapEff:\t{effective}\nCapAmb:\t0000\n")
    }

    #[test]
    fn only_the_announced_owner_without_capabilities_passes() {
        let owner = "7\t7\t7\t7";
        assert_eq!(check_identity(&status(owner, owner, "0000"), &stage(7, 7)), Ok(()));
        for (uid, gid, effective) in [
            ("7\t0\t7\t7", owner, "0000"),
            (owner, "7\t7\t0\t7", "0000"),
            (owner, owner, "0020"),
            ("8\t8\t8\t8", owner, "0000"),
        ] {
            assert!(check_identity(&status(uid, gid, effective), &stage(7, 7)).is_err(), "{uid} {gid} {effective}");
        }
        assert!(check_identity(&status("0\t0\t0\t0", owner, "0000"), &stage(0, 7)).is_err(), "root is nobody's guest");
        assert!(check_identity("Name:\tx\n", &stage(7, 7)).is_err(), "what cannot be seen is refused");
    }
}

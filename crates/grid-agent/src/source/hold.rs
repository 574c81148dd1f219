//! The tree that leaves: what it consists of, how it is held, and how it is let run again.

use super::{Outgoing, Record};
use crate::preflight::resident;
use crate::tree::start_ticks;
use grid_core::handover::HomeCopy;
use grid_os::cgroup::{Controller, Group};
use grid_types::facts::{ProcFacts, TreeFacts, in_private_tmp};
use grid_types::policy::TcpPolicy;
use grid_types::streams::ShadowTerms;
use grid_types::wire::{FileSeen, Manifest, MoveOrder, Stage};

pub(super) fn stage_of(
    order: &MoveOrder,
    tree: &TreeFacts,
    shadow: Option<ShadowTerms>,
    files: Vec<FileSeen>,
) -> Stage {
    let root = &tree.root;
    let session_inside = tree.all().any(|p| p.stat.id.pid == root.stat.sid);
    Stage {
        offload: order.offload.clone(),
        title: grid_core::detect::title(root, false),
        uid: root.stat.uid,
        gid: group_id(root.stat.id.pid).unwrap_or(root.stat.uid),
        groups: groups(root.stat.id.pid),
        lease: order.lease.clone(),
        expected: resident(tree),
        admitted: order.admitted,
        processes: tree.all().count() as u32,
        shell_job: !session_inside,
        filtered: grid_core::detect::filtered(tree),
        close_tcp: order.detector.tcp_connections == TcpPolicy::Close,
        shadow,
        files,
        home_files: order.home_files,
        files_patience: order.files_patience,
        own_paths: order.own_paths.clone(),
        probes: Vec::new(),
        park: order.park,
        private_tmp: order.private_tmp,
        highest_pid: tree.all().map(highest).max().unwrap_or(0),
    }
}

/// In its innermost PID namespace; threads, whose numbers are not looked up, got theirs after their process, mostly.
fn highest(p: &ProcFacts) -> i32 {
    let own = p.deep.as_ref().and_then(|deep| deep.ns_pids.last().copied()).unwrap_or(p.stat.id.pid);
    own.saturating_add(p.stat.threads.cast_signed())
}

pub(super) fn group_id(pid: i32) -> Option<u32> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    status.lines().find_map(|l| l.strip_prefix("Gid:"))?.split_whitespace().next()?.parse().ok()
}

fn groups(pid: i32) -> Vec<u32> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find_map(|l| l.strip_prefix("Groups:")).unwrap_or_default();
    line.split_whitespace().filter_map(|g| g.parse().ok()).collect()
}

/// What the held tree consists of now that it is frozen. Its executables are read from the kernel, as the other side
/// will read them. Where it is to be parked, its files are noted.
pub(super) fn manifest(hold: &Group, streams: Option<String>, park: bool, private_tmp: bool) -> Manifest {
    let alive: Vec<i32> = hold.pids().into_iter().filter(|pid| !crate::tree::has_ended(*pid)).collect();
    let threads = alive.iter().map(|pid| crate::tree::threads(*pid)).sum();
    let mut files = if park { crate::park::marks(&alive) } else { Vec::new() };
    // Its own come along.
    files.retain(|file| !(private_tmp && in_private_tmp(&file.path)));
    let exes: Vec<Option<String>> = alive.into_iter().map(crate::tree::executable).collect();
    let mut executables: Vec<String> = exes.iter().flatten().cloned().collect();
    executables.sort_unstable();
    executables.dedup();
    Manifest { processes: exes.len() as u32, threads, executables, streams, files, private_tmp }
}

/// Signals that wait in a frozen process, for itself or for its leader thread.
pub(super) fn pending_signals(pid: i32) -> Vec<i32> {
    let Ok(status) = std::fs::read_to_string(format!("/proc/{pid}/status")) else { return Vec::new() };
    let pending = grid_os::proc::pending(&status);
    (1..=64).filter(|s| pending & (1 << (s - 1)) != 0).collect()
}

pub(super) fn home_copy(record: &Record, hold: &Group, boot_id: &str) -> HomeCopy {
    if record.boot_id != boot_id {
        return HomeCopy::Rebooted;
    }
    let alive = record.members.iter().any(|m| start_ticks(m.pid) == Some(m.start_ticks));
    match (alive, hold.exists() && hold.is_frozen().unwrap_or(false)) {
        (false, _) => HomeCopy::Gone,
        (true, true) => HomeCopy::Frozen,
        (true, false) => HomeCopy::Runs,
    }
}

/// Takes the running tree into its hold. A child of a held member is held from its birth; one that was born after the
/// tree was looked at and before its parent was held is looked for until none is found. Left outside, it would run on at
/// home while its copy is staged.
pub(super) fn take_hold(outgoing: &Outgoing) -> Result<(), String> {
    if outgoing.holds_where_it_lives() {
        return Ok(());
    }
    outgoing.hold.create().map_err(|e| e.to_string())?;
    for member in &outgoing.record.members {
        match outgoing.hold.add(member.pid) {
            Ok(()) => {}
            Err(_) if start_ticks(member.pid) != Some(member.start_ticks) => {}
            Err(e) => return Err(e.to_string()),
        }
    }
    loop {
        let strays = strays(&outgoing.hold)?;
        for pid in &strays {
            match outgoing.hold.add(*pid) {
                Ok(()) => {}
                Err(_) if crate::tree::has_ended(*pid) => {}
                Err(e) => return Err(e.to_string()),
            }
        }
        if strays.is_empty() {
            return Ok(());
        }
    }
}

/// Living children of held processes that are not held themselves.
fn strays(hold: &Group) -> Result<Vec<i32>, String> {
    let sample = grid_os::proc::ProcRoot::new("/proc").all_stats(None).map_err(|e| e.to_string())?;
    let held = hold.pids();
    let stray = |p: &&grid_types::facts::ProcStat| {
        held.contains(&p.ppid) && !held.contains(&p.id.pid) && !matches!(p.state, 'Z' | 'X')
    };
    Ok(sample.procs.iter().filter(stray).map(|p| p.id.pid).collect())
}

/// Lets the copy at home run and puts its processes back where they were.
pub(super) fn thaw_home(outgoing: &Outgoing) -> Result<(), String> {
    if !outgoing.hold.exists() {
        return Ok(());
    }
    outgoing.hold.set_frozen(false).map_err(|e| e.to_string())?;
    if outgoing.dumping || outgoing.holds_where_it_lives() {
        return Ok(());
    }
    put_back(&outgoing.hold, Some(&outgoing.record));
    outgoing.hold.remove().map_err(|e| e.to_string())
}

/// Puts what is in a hold back where it was taken from; where nobody knows, beside the hold: on v2 that is the group it
/// was taken from, on v1 the root.
pub(crate) fn put_back(hold: &Group, record: Option<&Record>) {
    let beside = hold.path().rsplit_once('/').map(|(above, _)| above.to_owned()).filter(|_| hold.freezes_by_v2());
    for pid in hold.pids() {
        let members = record.map_or(&[][..], |r| &r.members);
        let home = members.iter().find(|m| m.pid == pid).or(members.first());
        let path = home.and_then(|m| m.group.clone()).or(beside.clone()).unwrap_or_default();
        let _ = hold.sibling(&path).with(&[Controller::Freezer]).add(pid);
    }
}

/// How the group is named in which a tree of this node is held on v2, as a child of the group where it lives. It names
/// the cluster, which may not be the only one on its machine.
pub(crate) fn hold_prefix(cgroup: &str) -> String {
    format!("grid-hold-{}-", cgroup.strip_prefix("grid-").unwrap_or(cgroup).replace('/', "-"))
}

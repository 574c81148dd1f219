//! The processes that images would make: how many, whose, with what rights, running what.

use super::files::Files;
use super::messages::{Core, Creds, Inventory, Mm, PsTree, TaskCore, ThreadCore};
use super::{Announced, Images};

/// `CRTOOLS_IMAGES_V1_1`.
const IMAGES_VERSION: u32 = 2;
/// `COMPEL_TASK_DEAD` and `COMPEL_TASK_ZOMBIE`: they wait for their parents and run nothing.
const ENDED: [u32; 2] = [2, 6];
/// `SCHED_OTHER`, `SCHED_BATCH`, `SCHED_IDLE`.
const ORDINARY: [u32; 3] = [0, 3, 5];

pub(super) fn check(images: &Images, files: &Files, announced: &Announced<'_>) -> Result<(), String> {
    let inventory: Inventory = images.one("inventory.img")?;
    if inventory.version != IMAGES_VERSION {
        return Err(format!("images of version {}, {IMAGES_VERSION} is known", inventory.version));
    }
    if let Some(plugin) = inventory.plugins.and_then(|p| p.plugins.into_iter().next()) {
        return Err(format!("images that want CRIU's plugin {plugin:?}"));
    }
    let tree: Vec<PsTree> = images.all("pstree.img")?;
    let (mut processes, mut threads) = (0, 0);
    for item in &tree {
        let core: Core = images.one(&format!("core-{}.img", item.pid))?;
        let task = core.task.as_ref().ok_or_else(|| format!("process {} has no task", item.pid))?;
        if ENDED.contains(&task.state) {
            continue;
        }
        processes += 1;
        threads += item.threads.len() as u32;
        check_task(item.pid, task, announced)?;
        check_executable(item.pid, images, files, announced)?;
    }
    if (processes, threads) != (announced.processes, announced.threads) {
        let (p, t) = (announced.processes, announced.threads);
        return Err(format!("{processes} processes with {threads} threads, {p} with {t} were announced"));
    }
    // Every thread has a core of its own; also those that no tree names are looked at.
    images.names("core-").try_for_each(|name| check_core(name, &images.one(name)?, announced))
}

fn check_core(name: &str, core: &Core, announced: &Announced<'_>) -> Result<(), String> {
    let pid = name.trim_start_matches("core-").trim_end_matches(".img");
    if core.task.as_ref().is_some_and(|task| ENDED.contains(&task.state)) {
        return Ok(());
    }
    let thread = core.thread.as_ref().ok_or_else(|| format!("process {pid} has no thread"))?;
    let creds = thread.creds.as_ref().ok_or_else(|| format!("process {pid} says not whose it is"))?;
    let rights = check_ids(creds, announced).and_then(|()| check_rights(creds)).and_then(|()| check_turn(thread));
    rights.map_err(|what| format!("process {pid} {what}"))
}

fn check_ids(creds: &Creds, announced: &Announced<'_>) -> Result<(), String> {
    let owner = announced.owner;
    let uids = [creds.uid, creds.euid, creds.suid, creds.fsuid];
    let gids = [creds.gid, creds.egid, creds.sgid, creds.fsgid];
    if let Some(uid) = uids.into_iter().find(|uid| *uid != owner.uid) {
        return Err(format!("would have uid {uid}, {} was announced", owner.uid));
    }
    if let Some(gid) = gids.into_iter().find(|gid| *gid != owner.gid) {
        return Err(format!("would have gid {gid}, {} was announced", owner.gid));
    }
    if creds.groups != announced.groups {
        return Err(format!("would have the groups {:?}, {:?} were announced", creds.groups, announced.groups));
    }
    Ok(())
}

fn check_rights(creds: &Creds) -> Result<(), String> {
    let sets = [
        ("inheritable", &creds.cap_inh),
        ("permitted", &creds.cap_prm),
        ("effective", &creds.cap_eff),
        ("ambient", &creds.cap_amb),
    ];
    if let Some((name, set)) = sets.into_iter().find(|(_, set)| set.iter().any(|word| *word != 0)) {
        return Err(format!("would have {name} capabilities {set:x?}"));
    }
    if creds.secbits != 0 {
        return Err(format!("would have securebits {:#x}", creds.secbits));
    }
    Ok(())
}

fn check_turn(thread: &ThreadCore) -> Result<(), String> {
    match (thread.nice.unwrap_or(0), thread.policy.unwrap_or(0)) {
        (nice, _) if nice < 0 => Err(format!("would have nice {nice}")),
        (_, policy) if !ORDINARY.contains(&policy) => Err(format!("would have scheduling policy {policy}")),
        _ => Ok(()),
    }
}

fn check_task(pid: u32, task: &TaskCore, announced: &Announced<'_>) -> Result<(), String> {
    if let Some(adj) = task.oom_score_adj.filter(|adj| *adj < 0) {
        return Err(format!("process {pid} would have oom_score_adj {adj}"));
    }
    let limits = task.rlimits.as_ref().map(|r| r.rlimits.as_slice()).unwrap_or_default();
    for (number, (asked, own)) in limits.iter().zip(announced.limits).enumerate() {
        if asked.max > *own {
            return Err(format!(
                "process {pid} would have resource limit {number} at {}, {own} is this node's",
                asked.max
            ));
        }
    }
    Ok(())
}

fn check_executable(pid: u32, images: &Images, files: &Files, announced: &Announced<'_>) -> Result<(), String> {
    let mm: Mm = images.one(&format!("mm-{pid}.img"))?;
    let exe = files.path(mm.exe_file_id).ok_or_else(|| format!("process {pid} has no executable"))?;
    // The kernel says ` (deleted)` behind the name of what is gone.
    let known = |name: &String| name == exe || name.strip_suffix(" (deleted)") == Some(exe);
    if announced.executables.iter().any(known) {
        Ok(())
    } else {
        Err(format!("process {pid} would run {exe}, which was not announced"))
    }
}

//! Whose it is and what it may: ids, groups, capabilities, limits, its turn on the CPU.

use grid_types::gate::{Guest, Rights, Terms};

/// `SCHED_OTHER`, `SCHED_BATCH`, `SCHED_IDLE`.
const ORDINARY: [u32; 3] = [0, 3, 5];

pub(super) fn check(guest: &Guest, terms: &Terms) -> Result<(), String> {
    if guest.threads.is_empty() {
        return Err("shows no threads".into());
    }
    for thread in &guest.threads {
        ids(thread, terms)?;
        capabilities(thread)?;
        tracer(thread)?;
        filters(thread, terms)?;
    }
    limits(guest, terms)?;
    turn(guest)
}

fn ids(thread: &Rights, terms: &Terms) -> Result<(), String> {
    for (name, ids, announced) in [("uid", &thread.uids, terms.uid), ("gid", &thread.gids, terms.gid)] {
        // Four of each: real, effective, saved, file system.
        if announced == 0 || ids.len() != 4 || ids.iter().any(|id| *id != announced) {
            return Err(format!("has {name}s {ids:?}, {announced} was announced"));
        }
    }
    if thread.groups != terms.groups {
        return Err(format!("has the groups {:?}, {:?} were announced", thread.groups, terms.groups));
    }
    Ok(())
}

fn capabilities(thread: &Rights) -> Result<(), String> {
    for name in ["CapInh", "CapPrm", "CapEff", "CapAmb"] {
        match thread.capabilities.get(name) {
            Some(0) => {}
            Some(held) => return Err(format!("holds capabilities: {name} {held:x}")),
            None => return Err(format!("shows no {name}")),
        }
    }
    Ok(())
}

fn tracer(thread: &Rights) -> Result<(), String> {
    if thread.tracer == 0 { Ok(()) } else { Err(format!("is traced by {}", thread.tracer)) }
}

/// Whoever was under the filter of `grid run` is so here; nobody brings another one.
fn filters(thread: &Rights, terms: &Terms) -> Result<(), String> {
    match terms.filters {
        Some(announced) if announced != thread.filters => {
            Err(format!("is under {} filters of system calls, {announced} were announced", thread.filters))
        }
        _ => Ok(()),
    }
}

fn limits(guest: &Guest, terms: &Terms) -> Result<(), String> {
    for (name, own) in &terms.limits {
        let above = match (guest.limits.get(name), own) {
            (None, _) => return Err(format!("shows no {name}")),
            (Some(_), None) => false,
            (Some(None), Some(_)) => true,
            (Some(Some(theirs)), Some(own)) => theirs > own,
        };
        if above {
            return Err(format!("has a higher {name} than this node"));
        }
    }
    Ok(())
}

fn turn(guest: &Guest) -> Result<(), String> {
    match guest {
        g if g.oom_score_adj < 0 => Err(format!("has oom_score_adj {}", g.oom_score_adj)),
        g if g.nice < 0 => Err(format!("has nice {}", g.nice)),
        g if !ORDINARY.contains(&g.policy) => Err(format!("has scheduling policy {}", g.policy)),
        _ => Ok(()),
    }
}

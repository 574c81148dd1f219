//! The lender's gate: may this staged tree be let run here?
//!
//! Owns the judgement over what was read from outside of every process, frozen. It never believes what arrived: whatever
//! the images said, this is what the kernel says that they became. Every check is one function of facts; the first that
//! fails refuses, with the process, what it has, and what was announced or is allowed.
//!
//! What it cannot see is in `docs/design/lenders-gate.md`.

mod files;
mod place;
mod rights;
#[cfg(test)]
mod tests;

use grid_types::gate::{Guest, Mount, Terms};

/// Refuses a tree that is not what was announced, or more than a guest may be. `mounts` are the tree's mounts now.
///
/// # Errors
/// What was wrong, for people.
pub fn judge(tree: &[Guest], mounts: &[Mount], terms: &Terms) -> Result<(), String> {
    number(tree, terms)?;
    place::mounts(mounts, terms)?;
    for guest in tree {
        let checks = [rights::check, place::check, files::check];
        checks
            .iter()
            .try_for_each(|check| check(guest, terms))
            .map_err(|what| format!("process {} {what}", guest.pid))?;
    }
    Ok(())
}

/// What the gate would say of a process that still runs at home, as far as that can be known there: its rights.
///
/// # Errors
/// What was wrong, for people.
pub fn foresee(guest: &Guest, terms: &Terms) -> Result<(), String> {
    rights::check(guest, terms)
}

fn number(tree: &[Guest], terms: &Terms) -> Result<(), String> {
    let threads: usize = tree.iter().map(|guest| guest.threads.len()).sum();
    if tree.len() != terms.processes as usize {
        let names: Vec<String> = tree.iter().map(|guest| format!("{} {}", guest.pid, guest.comm)).collect();
        let (arrived, announced) = (tree.len(), terms.processes);
        return Err(format!("{arrived} processes arrived ({}), {announced} were announced", names.join(", ")));
    }
    if threads != terms.threads as usize {
        return Err(format!("{threads} threads arrived, {} were announced", terms.threads));
    }
    Ok(())
}

//! Where it lives: namespaces, mounts, control groups, session.

use grid_types::gate::{Guest, Mount, Terms};

/// A tree may have time namespaces of its own: its clocks go on in them.
const OWN: [&str; 2] = ["time", "time_for_children"];

pub(super) fn check(guest: &Guest, terms: &Terms) -> Result<(), String> {
    namespaces(guest, terms)?;
    cgroups(guest, terms)?;
    session(guest)?;
    if guest.root == "/" { Ok(()) } else { Err(format!("has its root at {}", guest.root)) }
}

fn namespaces(guest: &Guest, terms: &Terms) -> Result<(), String> {
    for (name, made) in terms.namespaces.iter().filter(|(name, _)| !OWN.contains(&name.as_str())) {
        match guest.namespaces.get(name) {
            Some(theirs) if theirs == made => {}
            Some(theirs) => return Err(format!("lives in {theirs}, the tree's is {made}")),
            None => return Err(format!("shows no {name} namespace")),
        }
    }
    Ok(())
}

fn cgroups(guest: &Guest, terms: &Terms) -> Result<(), String> {
    match guest.cgroups.iter().find(|line| !terms.cgroups.contains(line)) {
        Some(foreign) => Err(format!("lives in the control group {foreign}")),
        None if guest.cgroups.len() != terms.cgroups.len() => Err("lives not in all of its control groups".into()),
        None => Ok(()),
    }
}

fn session(guest: &Guest) -> Result<(), String> {
    match guest.threads.iter().find(|t| t.session == 0 || t.group == 0) {
        Some(t) if t.session == 0 => Err("belongs to a session from outside".into()),
        Some(_) => Err("belongs to a process group from outside".into()),
        None => Ok(()),
    }
}

/// The tree's mounts are those that were made for it, and let no program of a guest's become another user.
pub(super) fn mounts(now: &[Mount], terms: &Terms) -> Result<(), String> {
    if let Some(new) = now.iter().find(|m| !terms.mounts.contains(m)) {
        return Err(format!("a mount at {} appeared ({})", new.point, new.fstype));
    }
    if let Some(gone) = terms.mounts.iter().find(|m| !now.contains(m)) {
        return Err(format!("the mount at {} is gone or changed", gone.point));
    }
    let open = |m: &&Mount| !m.options.split(',').any(|option| option == "nosuid");
    match now.iter().find(open).filter(|_| terms.guest) {
        Some(m) => Err(format!("the mount at {} is not nosuid", m.point)),
        None => Ok(()),
    }
}

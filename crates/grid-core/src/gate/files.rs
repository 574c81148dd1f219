//! What it runs and holds open.

use grid_types::gate::{Guest, OpenFile, Terms};

/// `null`, `zero`, `full`, `random`, `urandom`, by number: a name says nothing.
const HARMLESS: [(u32, u32); 5] = [(1, 3), (1, 5), (1, 7), (1, 8), (1, 9)];
/// What the kernel makes without a name and CRIU restores.
const ANONYMOUS: [&str; 8] = [
    "pipe:[",
    "socket:[",
    "anon_inode:[eventpoll]",
    "anon_inode:[eventfd]",
    "anon_inode:[timerfd]",
    "anon_inode:[signalfd]",
    "anon_inode:inotify",
    "anon_inode:[inotify]",
];
/// Memory that has a name and no place.
const MEMORY: [&str; 3] = ["/memfd:", "/SYSV", "/dev/zero (deleted)"];
/// File systems through which a node is ruled.
const RULING: [&str; 13] = [
    "sysfs",
    "cgroup",
    "cgroup2",
    "debugfs",
    "tracefs",
    "securityfs",
    "bpf",
    "configfs",
    "pstore",
    "efivarfs",
    "nsfs",
    "devpts",
    "binfmt_misc",
];

pub(super) fn check(guest: &Guest, terms: &Terms) -> Result<(), String> {
    if !terms.executables.contains(&guest.exe) {
        return Err(format!("runs {}, which was not announced", guest.exe));
    }
    // They are closed before they come, where that was agreed on; else they do not come.
    if let Some(end) = guest.connections.first() {
        return Err(format!("has a TCP connection to {end}"));
    }
    guest.open.iter().try_for_each(|file| open_file(file, terms).map_err(|what| format!("holds {}: {what}", file.what)))
}

fn open_file(file: &OpenFile, terms: &Terms) -> Result<(), String> {
    let target = file.target.as_str();
    if ANONYMOUS.iter().any(|known| target.starts_with(known)) || MEMORY.iter().any(|known| target.starts_with(known)) {
        return Ok(());
    }
    if !target.starts_with('/') {
        return Err(format!("{target}, of a kind that no guest holds"));
    }
    if file.device.is_some() && file.device == terms.terminal {
        return Ok(());
    }
    if let Some((major, minor)) = file.device.filter(|device| !HARMLESS.contains(device)) {
        return Err(format!("device {target} ({major}:{minor})"));
    }
    let under = |dir: &&String| target.strip_prefix(dir.as_str()).is_some_and(|r| r.is_empty() || r.starts_with('/'));
    if let Some(dir) = terms.closed.iter().find(under) {
        return Err(format!("{target}; no guest opens what is in {dir}"));
    }
    on_a_mount(file, target, terms)
}

/// A file lies on a mount that the tree has, and on none through which the node is ruled. Of `/proc` that is the
/// tree's own, in which there is nobody else.
fn on_a_mount(file: &OpenFile, target: &str, terms: &Terms) -> Result<(), String> {
    let Some(id) = file.mount else { return Ok(()) };
    let mount =
        terms.mounts.iter().find(|m| m.id == id).ok_or_else(|| format!("{target}, on a mount of another tree"))?;
    let own_proc = terms.mounts.iter().rev().find(|m| m.point == "/proc").map(|m| m.id);
    if RULING.contains(&mount.fstype.as_str()) || mount.fstype == "proc" && own_proc != Some(id) {
        return Err(format!("{target}, in the node's {}", mount.fstype));
    }
    Ok(())
}

//! The lender's gate: what arrives is inspected before CRIU reads it, and what it became before it is called ready.
//!
//! Restoring is a privilege boundary: what arrived decides what the processes are. Nothing of it is believed. The facts
//! are read here, from outside, while the tree is frozen; the judgement is `grid_core::gate`. Who may come at all
//! (which owner, with which groups) is this node's own to say, not the sender's.

use crate::agent::Agent;
use crate::tree::{InitProcess, TreePlace, has_ended, owner_of};
use grid_core::gate::judge;
use grid_os::access::{EXECUTE, READ, allowed, as_owner, find, hold, wanted_by};
use grid_os::cgroup::Controller;
use grid_os::criu::{Announced, CriuError, inspect};
use grid_os::proc::ProcRoot;
use grid_os::spawn::Owner;
use grid_os::users;
use grid_types::gate::{Guest, OpenFile, Terms};
use grid_types::wire::{Manifest, Stage};
use nix::errno::Errno;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// Each refusal of the gate begins so; the other end knows it by that.
pub(crate) const SIGN: &str = "the lender's gate";

/// What this agent keeps to itself.
#[derive(Clone, Debug)]
pub(crate) struct Own {
    /// Paths that no guest opens: images, ledgers, sockets.
    pub(crate) closed: Vec<String>,
}

impl Agent {
    pub(crate) fn own(&self) -> Own {
        let dirs = [&self.cfg.run_dir, &self.cfg.state_dir];
        Own { closed: dirs.map(|dir| dir.to_string_lossy().into_owned()).to_vec() }
    }
}

/// What was true of the tree's place before anything was restored in it.
pub(crate) struct Gate<'a> {
    place: &'a TreePlace,
    proc: ProcRoot,
    owner: Owner,
    terms: Terms,
    close_tcp: bool,
    private_tmp: bool,
    init: i32,
    root: OwnedFd,
}

impl<'a> Gate<'a> {
    /// Refuses an owner that may not come, and notes how the tree's place is. Nothing is frozen yet.
    pub(crate) fn before(
        place: &'a TreePlace,
        stage: &Stage,
        own: &Own,
        init: InitProcess,
        terminal: Option<(u32, u32)>,
    ) -> Result<Self, String> {
        check_owner(stage).map_err(refusal)?;
        let unread = |e: &dyn std::fmt::Display| refusal(format!("the tree's place could not be read: {e}"));
        let proc = ProcRoot::new("/proc");
        let groups = proc.cgroup_lines(init.pid).map_err(|e| unread(&e))?;
        let (inits, trees) = (place.init_group.path(), place.group.path());
        let terms = Terms {
            uid: stage.uid,
            gid: stage.gid,
            groups: stage.groups.clone(),
            namespaces: proc.namespace_links(init.pid).map_err(|e| unread(&e))?,
            filters: Some(own_filters().map_err(|e| unread(&e))? + u32::from(stage.filtered)),
            cgroups: groups.iter().map(|line| beside(line, inits, trees)).collect(),
            mounts: proc.mount_table(init.pid).map_err(|e| unread(&e))?,
            limits: proc.hard_limits(std::process::id() as i32).map_err(|e| unread(&e))?,
            closed: own.closed.clone(),
            terminal,
            guest: stage.lease.is_some(),
            ..Terms::default()
        };
        let root = hold(&format!("/proc/{}/root", init.pid)).map_err(|e| unread(&e))?;
        let owner = owner_of(stage);
        let (close_tcp, private_tmp) = (stage.close_tcp, stage.private_tmp);
        Ok(Self { place, proc, owner, terms, close_tcp, private_tmp, init: init.pid, root })
    }

    /// Before CRIU: what the images would make.
    pub(crate) fn inspect_images(&self, manifest: &Manifest) -> Result<(), String> {
        let announced = Announced {
            private_tmp: self.private_tmp,
            owner: self.owner,
            groups: &self.terms.groups,
            processes: manifest.processes,
            threads: manifest.threads,
            executables: &manifest.executables,
            terminal: self.terms.terminal.is_some(),
            close_tcp: self.close_tcp,
            limits: &grid_os::spawn::hard_limits(),
            closed: &self.terms.closed,
            root: self.root.as_fd(),
        };
        inspect(&self.place.images, &announced).map_err(|e: CriuError| e.to_string())
    }

    /// After CRIU: what became of them. Refuses a tree that is not what was announced, or more than a guest may be.
    pub(crate) fn inspect(&self, manifest: &Manifest) -> Result<(), String> {
        let terms = Terms {
            processes: manifest.processes,
            threads: manifest.threads,
            executables: manifest.executables.clone(),
            ..self.terms.clone()
        };
        // CRIU has left the freezer's group; on v1 it may still end in the others.
        let members = self.place.group.with(&[Controller::Freezer]).pids();
        let alive = members.into_iter().filter(|pid| !has_ended(*pid));
        let unread = |e| refusal(format!("a process could not be inspected: {e}"));
        let tree: Vec<Guest> = alive.map(|pid| self.proc.guest(pid)).collect::<Result<_, _>>().map_err(unread)?;
        let mounts = self.proc.mount_table(self.init).map_err(unread)?;
        judge(&tree, &mounts, &terms).and_then(|()| check_rights(&tree, &terms, self.root.as_fd())).map_err(refusal)
    }
}

/// Everything that they hold open is the owner's to open, whoever opened it; asked below `root`.
pub(crate) fn check_rights(tree: &[Guest], terms: &Terms, root: BorrowedFd<'_>) -> Result<(), String> {
    let one = |guest: &Guest| {
        let check = |file| check_file(file, terms.uid, root).map_err(|what| format!("process {} {what}", guest.pid));
        guest.open.iter().try_for_each(check)
    };
    as_owner(Owner { uid: terms.uid, gid: terms.gid }, &terms.groups, || tree.iter().try_for_each(one))
        .map_err(|e| format!("the rights to its files could not be looked at: {e}"))?
}

/// On the owner's thread. A file without a name comes along, and CRIU makes it as the owner. CRIU opens an executable
/// and a directory to read, too.
fn check_file(file: &OpenFile, uid: u32, root: BorrowedFd<'_>) -> Result<(), String> {
    let path = file.target.as_str();
    let nameless = !path.starts_with('/') || path.ends_with(" (deleted)") || path.starts_with("/memfd:");
    // A terminal is made for it, the owner's; whether it is that one is judged by its device.
    if nameless || path.starts_with("/SYSV") || path.starts_with("/dev/pts/") {
        return Ok(());
    }
    let want = match file.what.as_str() {
        "the working directory" | "its executable" => READ | EXECUTE,
        "a mapping" => READ,
        _ => wanted_by(file.flags),
    };
    match find(root, path).and_then(|found| allowed(found.as_fd(), want)) {
        Ok(()) | Err(Errno::ENOENT) => Ok(()),
        Err(e) => Err(format!("holds {}: {path}, which uid {uid} may not open ({})", file.what, e.desc())),
    }
}

fn refusal(what: String) -> String {
    format!("{SIGN} refused it: {what}")
}

/// Whatever is started here is under these (in a container's, say).
fn own_filters() -> std::io::Result<u32> {
    std::fs::read_to_string("/proc/self/status").map(|status| grid_os::seccomp::count(&status))
}

/// The tree's group of a hierarchy, from its pid 1's line: beside it where it has a group of its own, else the same.
fn beside(line: &str, inits: &str, trees: &str) -> String {
    match line.strip_suffix(inits.trim_matches('/')) {
        Some(head) if head.ends_with('/') => format!("{head}{}", trees.trim_matches('/')),
        _ => line.to_owned(),
    }
}

/// Whoever comes is no root, and is in no group in which this node's own user of that number is not.
fn check_owner(stage: &Stage) -> Result<(), String> {
    let (uid, gid) = (stage.uid, stage.gid);
    if uid == 0 || gid == 0 {
        return Err(format!("uid {uid}, gid {gid}: root is nobody's guest"));
    }
    // A user that this node does not know is in no group but one of its own number.
    let unread = |e: std::io::Error| format!("its users could not be read: {e}");
    let known = match users::user_of(uid).map_err(unread)? {
        Some(user) => users::groups_of(&user).map_err(unread)?,
        None => vec![uid],
    };
    match stage.groups.iter().chain([&gid]).find(|group| !known.contains(group)) {
        Some(group) => Err(format!("uid {uid} is not in group {group} here (it is in {known:?})")),
        None => Ok(()),
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn stage(uid: u32, gid: u32, groups: &[u32]) -> Stage {
        Stage {
            offload: "o-1".into(),
            title: String::new(),
            uid,
            gid,
            groups: groups.to_vec(),
            lease: None,
            expected: grid_types::Bytes(0),
            admitted: grid_types::Bytes(0),
            processes: 1,
            shell_job: false,
            filtered: false,
            close_tcp: false,
            shadow: None,
            files: Vec::new(),
            home_files: false,
            files_patience: None,
            park: false,
            private_tmp: false,
            own_paths: Default::default(),
            probes: Vec::new(),
            highest_pid: 0,
        }
    }

    #[test]
    fn an_owner_comes_only_as_this_node_knows_it() {
        assert_eq!(check_owner(&stage(4_000_001, 4_000_001, &[])), Ok(()), "unknown here, alone in its group");
        for (uid, gid, groups) in [
            (0, 7, &[][..]),
            (4_000_001, 0, &[]),
            (4_000_001, 6, &[]),
            (4_000_001, 4_000_001, &[0]),
            (4_000_001, 4_000_001, &[4_000_001, 6]),
        ] {
            assert!(check_owner(&stage(uid, gid, groups)).is_err(), "{uid} {gid} {groups:?}");
        }
    }

    #[test]
    fn the_trees_group_lies_beside_its_pid_ones() {
        let of = |line| beside(line, "grid-x/gpu1/b-1/init", "grid-x/gpu1/b-1/o-1.1");
        assert_eq!(of("freezer:/grid-x/gpu1/b-1/init"), "freezer:/grid-x/gpu1/b-1/o-1.1");
        assert_eq!(of("pids:/init"), "pids:/init");
        assert_eq!(of("cpuset:/"), "cpuset:/");
    }
}

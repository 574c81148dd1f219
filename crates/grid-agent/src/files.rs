//! The files of a tree that goes to another machine: what they are here, and whether they are the same there. Before
//! anything is frozen.

use crate::agent::Agent;
use crate::home::shown;
use crate::probe::shares;
use crate::tree::owner_of;
use grid_core::same_file::same;
use grid_os::access::as_owner;
use grid_os::file_seen::look as look_at;
use grid_os::mount::reach;
use grid_types::NodeName;
use grid_types::facts::{FdKind, TreeFacts, in_private_tmp};
use grid_types::reason::{Reason, ReasonCode};
use grid_types::wire::{FileSeen, ProbeFile, Stage};
use nix::libc::{O_ACCMODE, O_RDONLY};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// No tree uses more files.
const MOST_FILES: usize = 1 << 14;

/// What of the file system is each machine's own, and means the same on each.
const ITS_OWN: [&str; 3] = ["/dev", "/proc", "/sys"];

/// Every file and folder that the tree uses by its name.
pub(crate) fn used(tree: &TreeFacts) -> Result<Vec<FileSeen>, Reason> {
    let mut seen = Vec::new();
    for process in tree.all() {
        let Some(deep) = &process.deep else { continue };
        let mut paths: BTreeMap<&str, bool> = BTreeMap::new();
        for path in deep.exe.iter().chain(&deep.cwd).chain(&deep.mapped_files) {
            paths.entry(path).or_default();
        }
        for fd in &deep.fds {
            if let FdKind::File { path, deleted: false } = &fd.kind {
                let written = fd.flags.is_none_or(|flags| flags & O_ACCMODE as u32 != O_RDONLY as u32);
                *paths.entry(path).or_default() |= written;
            }
        }
        let root = format!("/proc/{}/root", process.stat.id.pid);
        let its_own = |path: &str| tree.private_tmp.is_some() && in_private_tmp(path);
        for (path, written) in paths.into_iter().filter(|(path, _)| counts(path) && !its_own(path)) {
            let look = look_at(Path::new(&root), path, written);
            seen.push(look.map_err(|e| Reason::new(ReasonCode::File, format!("{path}: {e}")))?);
        }
    }
    seen.sort_by(|a, b| (&a.path, b.written).cmp(&(&b.path, a.written)));
    seen.dedup_by(|later, first| later.path == first.path);
    Ok(seen)
}

fn counts(path: &str) -> bool {
    let own = |dir: &str| path.strip_prefix(dir).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
    !path.ends_with(" (deleted)") && !ITS_OWN.into_iter().any(own)
}

/// Of what a tree that comes uses, what must be the same here.
pub(crate) struct TheSame {
    node: NodeName,
    stage: Stage,
}

impl TheSame {
    /// Each file that it uses is the same file here. Of what its owner may not read here nothing is told, not even whether it
    /// is there: whoever sends the list may be lying.
    pub(crate) fn are_the_same(&self) -> Result<(), Reason> {
        let Self { node, stage } = self;
        shares(node, stage)?;
        if shown(stage) {
            let own: Vec<PathBuf> = stage.own_paths.all().map(PathBuf::from).collect();
            reach(owner_of(stage), &stage.groups, &own)
                .map_err(|e| Reason::new(ReasonCode::File, format!("{node}: its own {e}")))?;
        }
        let wrong = || -> Vec<String> {
            let look = |file: &FileSeen| look_at(Path::new("/"), &file.path, file.written).ok();
            let seen = |file: &&FileSeen| counts(&file.path);
            stage.files.iter().filter(seen).filter_map(|file| same(file, look(file).as_ref()).err()).collect()
        };
        let failed = |e| Reason::new(ReasonCode::File, format!("{node}: its files as their owner: {e}"));
        let detail = match as_owner(owner_of(stage), &stage.groups, wrong).map_err(failed)?.as_slice() {
            [] => return Ok(()),
            [one] => format!("{node}: {one}"),
            [one, rest @ ..] => format!("{node}: {one}, and {} more like that", rest.len()),
        };
        Err(Reason::new(ReasonCode::File, detail))
    }
}

impl Agent {
    /// What is to be looked at before a tree comes. Home believes no worker which folders are shared, but only what was said
    /// when the tree left.
    pub(crate) fn files_of(&self, from: &NodeName, stage: &Stage) -> Result<TheSame, Reason> {
        let gate = |detail| Err(Reason::new(ReasonCode::Gate, detail));
        if stage.files.len() > MOST_FILES {
            return gate(format!("{} files, and {MOST_FILES} are the most", stage.files.len()));
        }
        let mut stage = stage.clone();
        // Parked, it runs nowhere here.
        if stage.park {
            (stage.files, stage.probes) = (Vec::new(), Vec::new());
        }
        if self.is_hub() && *from != self.cfg.node {
            let left = self.stage_that_left(&stage.offload).map(|left| left.own_paths.shared).unwrap_or_default();
            let known = |probe: &ProbeFile| {
                left.iter().any(|folder| Path::new(&probe.path).parent() == Some(Path::new(folder)))
            };
            if let Some(other) = stage.probes.iter().find(|probe| !known(probe)) {
                return gate(format!("{} is in no folder that it was to share", other.path));
            }
        }
        Ok(TheSame { node: self.cfg.node.clone(), stage })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn what_is_each_machine_s_own_does_not_count() {
        for (path, is) in
            [("/usr/lib/libc.so", true), ("/dev/null", false), ("/devices/x", true), ("/x (deleted)", false)]
        {
            assert_eq!(counts(path), is, "{path}");
        }
    }

    #[test]
    fn what_its_owner_may_not_read_or_reach_is_not_told() {
        if !nix::unistd::geteuid().is_root() {
            // Only root takes another's identity.
            return println!("SKIPPED: this is not root");
        }
        let dir = tempfile::tempdir().unwrap();
        let mode = |path: &Path, mode| std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
        let (file, link) = (dir.path().join("file"), dir.path().join("link"));
        std::fs::write(&file, "abc").unwrap();
        std::os::unix::fs::symlink("/proc/self/root/etc/hostname", &link).unwrap();
        let sees = |path: &Path, uid| {
            let seen = look_at(Path::new("/"), &path.to_string_lossy(), false).unwrap_or_else(|_| FileSeen {
                path: path.to_string_lossy().into_owned(),
                folder: false,
                inode: 0,
                bytes: 0,
                modified_ns: 0,
                written: false,
                content: None,
            });
            let stage = Stage { files: vec![seen], ..crate::gate::tests::stage(uid, uid, &[]) };
            TheSame { node: "n".into(), stage }.are_the_same().is_ok()
        };
        mode(dir.path(), 0o711);
        mode(&file, 0o604);
        assert!(sees(&file, 65_534));
        mode(&file, 0o600);
        assert!(!sees(&file, 65_534) && sees(&file, 0), "its own mode");
        mode(&file, 0o604);
        mode(dir.path(), 0o700);
        assert!(!sees(&file, 65_534), "behind a closed folder");
        mode(dir.path(), 0o711);
        assert!(!sees(&link, 65_534), "through a link of /proc");
        // Not opened, which would wait for who writes.
        let fifo = dir.path().join("fifo");
        nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::from_bits_truncate(0o644)).unwrap();
        assert_eq!(look_at(Path::new("/"), &fifo.to_string_lossy(), false).unwrap().content, None);
    }
}

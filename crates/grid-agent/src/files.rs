//! The files of a tree that goes to another machine: what they are here, and whether they are the same there. Before
//! anything is frozen.

use crate::agent::Agent;
use grid_core::same_file::same;
use grid_os::file_seen::look as look_at;
use grid_types::facts::{FdKind, TreeFacts, in_private_tmp};
use grid_types::reason::{Reason, ReasonCode};
use grid_types::wire::{FileSeen, Stage};
use nix::libc::{O_ACCMODE, O_RDONLY};
use std::collections::BTreeMap;
use std::fs::Metadata;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

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

/// By its mode alone.
fn may_read(meta: &Metadata, stage: &Stage) -> bool {
    let mode = meta.mode();
    if meta.uid() == stage.uid {
        return mode & 0o400 != 0;
    }
    let in_group = meta.gid() == stage.gid || stage.groups.contains(&meta.gid());
    mode & if in_group { 0o040 } else { 0o004 } != 0
}

impl Agent {
    /// Each file that it uses is the same file here. Of what its owner may not read here nothing is told, not even whether it
    /// is there: whoever sends the list may be lying.
    pub(crate) fn has_the_same(&self, stage: &Stage) -> Result<(), Reason> {
        // Parked, it runs nowhere here.
        if stage.park {
            return Ok(());
        }
        self.shares(stage)?;
        let look = |file: &FileSeen| {
            let meta = std::fs::metadata(&file.path).ok().filter(|meta| may_read(meta, stage));
            meta.and_then(|_| look_at(Path::new("/"), &file.path, file.written).ok())
        };
        let wrong: Vec<String> = stage.files.iter().filter_map(|file| same(file, look(file).as_ref()).err()).collect();
        match wrong.as_slice() {
            [] => Ok(()),
            [one] => Err(Reason::new(ReasonCode::File, format!("{}: {one}", self.cfg.node))),
            [one, rest @ ..] => {
                let detail = format!("{}: {one}, and {} more like that", self.cfg.node, rest.len());
                Err(Reason::new(ReasonCode::File, detail))
            }
        }
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
    fn what_its_owner_may_not_read_is_not_told() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let meta = |mode| {
            std::fs::set_permissions(file.path(), std::fs::Permissions::from_mode(mode)).unwrap();
            file.path().metadata().unwrap()
        };
        let own = meta(0o600).uid();
        let stage = |uid, gid| crate::gate::tests::stage(uid, gid, &[]);
        assert!(may_read(&meta(0o600), &stage(own, 1)));
        assert!(!may_read(&meta(0o600), &stage(own + 1, 1)));
        assert!(may_read(&meta(0o604), &stage(own + 1, u32::MAX)));
        assert!(!may_read(&meta(0o604), &stage(own + 1, meta(0o604).gid())));
        assert!(may_read(&meta(0o640), &stage(own + 1, meta(0o640).gid())));
    }
}

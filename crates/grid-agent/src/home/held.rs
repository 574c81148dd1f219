//! On the lender: which locks a tree has on the head's files. The kernel here lists none of them, nor does CRIU see them: the
//! tree's pump knows.

use super::view::locks_path;
use crate::agent::Agent;
use crate::destination::Incoming;
use grid_home::control::locks;
use grid_home::locks::Lock;
use grid_types::AttemptId;
use grid_types::facts::{ProcDeep, TreeFacts};
use grid_types::reason::ReasonCode;
use std::io;
use std::path::{Path, PathBuf};

/// Where that is asked, where it sees the head's files.
fn asked_at(incoming: &Incoming) -> Option<PathBuf> {
    super::shown(&incoming.record.stage).then(|| locks_path(incoming.tree().0))
}

fn held(at: &Path) -> io::Result<Vec<Lock>> {
    match locks(at) {
        // One of an older grid, which left them to the kernel here.
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        other => other,
    }
}

impl Agent {
    /// Where its locks are asked for once it stands still.
    pub(crate) fn locks_of(&self, came_by: Option<&AttemptId>) -> Option<PathBuf> {
        self.incoming.get(came_by?).and_then(asked_at)
    }

    /// As if the kernel had listed them: each with the process that took it, or the root where that has ended.
    pub(crate) fn add_locks(&self, came_by: &AttemptId, tree: &mut TreeFacts) {
        let Some(at) = self.locks_of(Some(came_by)) else { return };
        let mut deeps: Vec<&mut ProcDeep> = members(tree).collect();
        match (held(&at), deeps.as_mut_slice()) {
            (_, []) => {}
            (Err(e), [root, ..]) => root.unreadable.push(format!("locks on the head's files: {e}")),
            (Ok(locks), deeps) => locks.iter().for_each(|lock| {
                let of = deeps.iter().position(|deep| deep.ns_pids.last() == Some(&(lock.pid as i32)));
                deeps[of.unwrap_or(0)].locks.push(lock.inode);
            }),
        }
    }
}

fn members(tree: &mut TreeFacts) -> impl Iterator<Item = &mut ProcDeep> {
    std::iter::once(&mut tree.root).chain(&mut tree.descendants).filter_map(|p| p.deep.as_mut())
}

/// Said of a tree that stands still: it has no lock.
pub(crate) fn none_is_held(at: &Path) -> Result<(), String> {
    let code = ReasonCode::Lock.as_str();
    match held(at) {
        Ok(locks) => match locks.first() {
            None => Ok(()),
            Some(lock) => Err(format!("{code} it took a lock on the head's file of inode {} meanwhile", lock.inode)),
        },
        Err(e) => Err(format!("{code} whether it holds locks on the head's files is not known: {e}")),
    }
}

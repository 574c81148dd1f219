//! At the worker: which locks the tree has. Its kernel lists none of them, for they are home's.

use super::message::{About, Owner, Wish};
use super::ranges::Ranges;
use grid_os::file_lock::Mode;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// The bits of a node's number that are the file's inode number at home, where that is not a very large one.
const INODE: u64 = (1 << 47) - 1;

/// A lock that somebody of the tree has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Lock {
    /// The process that took it, by its number in the tree's namespace.
    pub pid: u32,
    /// Inode number of the file.
    pub inode: u64,
    /// Alone, and not with others.
    pub exclusive: bool,
    /// By flock(2).
    pub flock: bool,
}

struct Kept {
    handle: u64,
    pid: u32,
    ranges: Ranges,
}

/// All of them: what was granted, and not let go of.
#[derive(Default)]
pub(crate) struct Held(BTreeMap<Owner, Kept>);

impl Held {
    /// Home did what this asked for.
    pub(crate) fn done(&mut self, what: &About) {
        match what {
            About::Set(wish) => self.set(wish),
            About::Flush { node, owner } => {
                self.0.remove(&Owner { node: *node, owner: *owner, flock: false });
            }
            About::Release { node, handle } => {
                self.0.retain(|owner, kept| owner.node != *node || kept.handle != *handle);
            }
            _ => {}
        }
    }

    fn set(&mut self, wish: &Wish) {
        let new = || Kept { handle: 0, pid: 0, ranges: Ranges::default() };
        let kept = self.0.entry(wish.whose).or_insert_with(new);
        kept.ranges.set(wish.span, wish.mode, wish.unique);
        if wish.mode.is_some() {
            (kept.handle, kept.pid) = (wish.handle, wish.pid);
        }
        if kept.ranges.is_empty() {
            self.0.remove(&wish.whose);
        }
    }

    /// Each once.
    pub(crate) fn list(&self) -> BTreeSet<Lock> {
        let lock = |(owner, kept): (&Owner, &Kept)| {
            let exclusive = kept.ranges.strongest()? == Mode::Exclusive;
            Some(Lock { pid: kept.pid, inode: owner.node & INODE, exclusive, flock: owner.flock })
        };
        self.0.iter().filter_map(lock).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::super::message::tests::wish;
    use super::*;
    use grid_os::file_lock::Span;

    #[test]
    fn what_was_granted_is_held_until_it_is_let_go_of() {
        let mut held = Held::default();
        let part = Span { start: 0, end: 9 };
        let set = |owner, mode, span| About::Set(wish(1, owner, mode, span));
        held.done(&set(5, Some(Mode::Shared), Span::WHOLE));
        held.done(&set(6, Some(Mode::Exclusive), part));
        let lock = |exclusive| Lock { pid: 42, inode: 7, exclusive, flock: false };
        assert_eq!(held.list(), [lock(false), lock(true)].into());
        held.done(&set(6, None, Span { start: 0, end: 4 }));
        assert_eq!(held.list().len(), 2, "a part of it is held still");
        held.done(&set(6, None, Span { start: 5, end: 20 }));
        assert_eq!(held.list(), [lock(false)].into());
        held.done(&About::Flush { node: 7, owner: 6 });
        held.done(&About::Release { node: 7, handle: 106 });
        assert_eq!(held.list(), [lock(false)].into(), "another's");
        held.done(&About::Flush { node: 7, owner: 5 });
        assert!(held.list().is_empty());
        let flock = Wish { whose: Owner { flock: true, node: 7, owner: 5 }, ..wish(2, 5, Some(Mode::Shared), part) };
        held.done(&About::Set(flock));
        held.done(&About::Flush { node: 7, owner: 5 });
        assert_eq!(held.list(), [Lock { flock: true, ..lock(false) }].into(), "a description outlives who closes it");
        held.done(&About::Release { node: 7, handle: 105 });
        assert!(held.list().is_empty());
    }
}

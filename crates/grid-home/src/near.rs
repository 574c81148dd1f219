//! What the pump answers by itself, because home has said before that there is nothing to it: pure bookkeeping.
//!
//! - That a file is closed. Home's part of it is to let go of whoever's locks, and to say what its file system says then: who
//!   never asked for a lock of that file, and has it open where closing says nothing, need not wait for home.
//! - That a file has no capabilities, which the kernel asks before it writes: while who opened it for writing has it open, and
//!   for as long as other attributes are believed.
//!
//! Home says so with two bits of its own in the answer to an opening, which the kernel does not get to see.

use crate::fuse::{ANSWER_HEAD, CREATE, FLUSH, GETLK, GETXATTR, HEAD, OPEN, RELEASE, Request, SETLK, SETLKW, SETXATTR};
use crate::fuse::{attributes_of, u32_at, u64_at};
use crate::locks::message::About;
use crate::watch::ATTRIBUTES;
use nix::libc;
use std::collections::{BTreeSet, HashMap, HashSet};
use std::time::Instant;

/// Home's file system says nothing to who closes this file.
pub(crate) const QUIET: u32 = 1 << 31;
/// It has no capabilities; who gives it some tells the kernel that its attributes changed.
pub(crate) const BARE: u32 = 1 << 30;
/// By which a file's capabilities are asked for.
pub(crate) const CAPABILITIES: &[u8] = b"security.capability\0";
/// `struct fuse_entry_out`, before what the answer to an opening is, where that made the file.
const ENTRY: usize = 128;

/// Where an answer has the flags of what it opened, if it opened something.
fn flags_at(operation: u32, answer: &[u8]) -> Option<usize> {
    let at = match operation {
        OPEN => ANSWER_HEAD + 8,
        CREATE => ANSWER_HEAD + ENTRY + 8,
        _ => return None,
    };
    (answer.len() >= at + 8).then_some(at)
}

/// The bits of home's own in an answer.
pub(crate) fn bits(operation: u32, answer: &[u8]) -> u32 {
    flags_at(operation, answer).map_or(0, |at| u32_at(answer, at) & (QUIET | BARE))
}

/// And how it gets them.
pub(crate) fn set_bits(operation: u32, answer: &mut [u8], bits: u32) {
    if let Some(at) = flags_at(operation, answer) {
        let flags = u32_at(answer, at) & !(QUIET | BARE) | bits;
        answer[at..at + 4].copy_from_slice(&flags.to_ne_bytes());
    }
}

/// What home has said, and who asked for what.
#[derive(Default)]
pub(crate) struct Near {
    /// File, whose, and the open file by which a lock was asked for.
    lockers: BTreeSet<(u64, u64, u64)>,
    /// Open files.
    quiet: HashSet<u64>,
    /// Files, the open file that keeps this so, and since when.
    bare: HashMap<u64, (u64, Instant)>,
}

impl Near {
    /// The kernel asks. The error (0: none) that is the answer, where home need not be asked.
    pub(crate) fn asked(&mut self, request: &Request, message: &[u8]) -> Option<i32> {
        let (node, handle) = (request.node, u64_at(message, HEAD));
        match request.operation {
            SETLK | SETLKW | GETLK => {
                self.lockers.insert((node, u64_at(message, HEAD + 8), handle));
            }
            FLUSH => {
                let About::Flush { owner, .. } = About::of(message) else { return None };
                let asked = self.lockers.range((node, owner, 0)..=(node, owner, u64::MAX)).next();
                return (self.quiet.contains(&handle) && asked.is_none()).then_some(0);
            }
            RELEASE => self.release(node, handle),
            GETXATTR => {
                let is_of_them = message.get(HEAD + 8..) == Some(CAPABILITIES);
                return (is_of_them && self.is_bare(node)).then_some(libc::ENODATA);
            }
            SETXATTR => self.changed(node),
            _ => {}
        }
        None
    }

    fn is_bare(&self, node: u64) -> bool {
        self.bare.get(&node).is_some_and(|(_, since)| since.elapsed() < ATTRIBUTES)
    }

    fn release(&mut self, node: u64, handle: u64) {
        self.quiet.remove(&handle);
        if self.bare.get(&node).is_some_and(|(by, _)| *by == handle) {
            self.bare.remove(&node);
        }
        if !self.lockers.is_empty() {
            self.lockers.retain(|(of, _, by)| (*of, *by) != (node, handle));
        }
    }

    fn changed(&mut self, node: u64) {
        self.bare.remove(&node);
    }

    /// Home answers.
    pub(crate) fn answered(&mut self, request: &Request, answer: &mut [u8]) {
        let operation = request.operation;
        let bits = bits(operation, answer);
        if bits == 0 {
            return;
        }
        set_bits(operation, answer, 0);
        let node = if operation == CREATE { u64_at(answer, ANSWER_HEAD) } else { request.node };
        let handle = flags_at(operation, answer).map_or(0, |at| u64_at(answer, at - 8));
        if bits & QUIET != 0 {
            self.quiet.insert(handle);
        }
        if bits & BARE != 0 {
            self.bare.insert(node, (handle, Instant::now()));
        }
    }

    /// Home says what changed.
    pub(crate) fn told(&mut self, notice: &[u8]) {
        if let Some(node) = attributes_of(notice) {
            self.changed(node);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fuse::{attributes_changed, content_changed, error, name_changed};

    const FILE: u64 = 7;
    const HANDLE: u64 = 70;

    fn asks(near: &mut Near, operation: u32, body: &[u8]) -> Option<i32> {
        let message = [&[0; HEAD], body].concat();
        let mut message = message;
        message[4..8].copy_from_slice(&operation.to_ne_bytes());
        near.asked(&Request { operation, unique: 1, node: FILE, thread: 1 }, &message)
    }

    fn words(words: &[u64]) -> Vec<u8> {
        words.iter().flat_map(|word| word.to_ne_bytes()).collect()
    }

    fn closes(near: &mut Near, handle: u64, owner: u64) -> Option<i32> {
        asks(near, FLUSH, &words(&[handle, 0, owner]))
    }

    fn capabilities(near: &mut Near) -> Option<i32> {
        asks(near, GETXATTR, &[&[0; 8], CAPABILITIES].concat())
    }

    fn opened(near: &mut Near, operation: u32, handle: u64, bits: u32) -> Vec<u8> {
        let entry = if operation == CREATE { words(&[&[FILE], &[0; 15][..]].concat()) } else { Vec::new() };
        let mut answer = [&[0; ANSWER_HEAD][..], &entry, &words(&[handle, 2])].concat();
        set_bits(operation, &mut answer, bits);
        let node = if operation == CREATE { 1 } else { FILE };
        near.answered(&Request { operation, unique: 1, node, thread: 1 }, &mut answer);
        answer
    }

    #[test]
    fn who_closes_waits_for_home_where_that_may_say_something_or_has_locks_of_its() {
        let mut near = Near::default();
        opened(&mut near, OPEN, HANDLE, 0);
        assert_eq!(closes(&mut near, HANDLE, 1), None, "home may say something");
        for operation in [OPEN, CREATE] {
            let answer = opened(&mut near, operation, HANDLE, QUIET);
            assert_eq!(answer[answer.len() - 8..], words(&[2]), "the kernel sees nothing of it");
            assert_eq!(closes(&mut near, HANDLE, 1), Some(0));
            assert_eq!(closes(&mut near, HANDLE + 1, 1), None);
        }
        for operation in [SETLK, SETLKW, GETLK] {
            assert_eq!(asks(&mut near, operation, &words(&[HANDLE, 1, 0, 0, 0, 0])), None);
            assert_eq!((closes(&mut near, HANDLE, 1), closes(&mut near, HANDLE, 2)), (None, Some(0)));
            assert_eq!(closes(&mut near, HANDLE, 1), None, "one that waits may get it after that");
            asks(&mut near, RELEASE, &words(&[HANDLE, 0, 0]));
            assert_eq!(closes(&mut near, HANDLE, 1), None, "it is closed");
            opened(&mut near, OPEN, HANDLE, QUIET);
            assert_eq!(closes(&mut near, HANDLE, 1), Some(0), "who asked for a lock by it has it no more");
        }
    }

    #[test]
    fn capabilities_are_asked_for_unless_home_said_that_there_are_none() {
        let mut near = Near::default();
        let none = Some(libc::ENODATA);
        assert_eq!(capabilities(&mut near), None);
        for operation in [OPEN, CREATE] {
            opened(&mut near, operation, HANDLE, BARE);
            assert_eq!(capabilities(&mut near), none);
            assert_eq!(asks(&mut near, GETXATTR, &[&[0; 8][..], b"user.other\0"].concat()), None);
            asks(&mut near, RELEASE, &words(&[HANDLE + 1, 0, 0]));
            assert_eq!(capabilities(&mut near), none);
            asks(&mut near, RELEASE, &words(&[HANDLE, 0, 0]));
            assert_eq!(capabilities(&mut near), None);
        }
        for changed in [attributes_changed(FILE), content_changed(FILE)] {
            opened(&mut near, OPEN, HANDLE, BARE);
            near.told(&name_changed(FILE, b"x"));
            near.told(&attributes_changed(FILE + 1));
            assert_eq!(capabilities(&mut near), none);
            near.told(&changed);
            assert_eq!(capabilities(&mut near), None);
        }
        opened(&mut near, OPEN, HANDLE, BARE);
        asks(&mut near, SETXATTR, &[0; 8]);
        assert_eq!(capabilities(&mut near), None);
    }

    #[test]
    fn an_answer_that_opened_nothing_has_no_bits() {
        let mut failed = error(1, libc::ENOENT);
        set_bits(OPEN, &mut failed, QUIET);
        assert_eq!((bits(OPEN, &failed), &failed), (0, &error(1, libc::ENOENT)));
        assert_eq!(bits(1, &[0xff; 200]), 0);
    }
}

//! Files whose last name is gone. The worker's kernel may know such a name for a while longer, and what it opens by it must
//! not be the old file: to sqlite a journal that is deleted already would be one that is to be played back.
//!
//! Who opens one is told `ESTALE`: the kernel then looks the names up anew and asks once more. Who comes a second time had
//! no name (`/proc/self/fd/N`), and gets the file.

use crate::lock;
use std::collections::VecDeque;
use std::sync::Mutex;

/// So many are remembered; who opens by a name does not come again.
const MOST: usize = 1024;

/// Who was told so.
#[derive(Default)]
pub(crate) struct Nameless(Mutex<VecDeque<(u64, u32)>>);

impl Nameless {
    /// Whether that thread is told to look again for that file.
    pub(crate) fn is_stale(&self, node: u64, thread: u32) -> bool {
        let mut told = lock(&self.0);
        if let Some(at) = told.iter().position(|one| *one == (node, thread)) {
            told.remove(at);
            return false;
        }
        told.truncate(MOST - 1);
        told.push_front((node, thread));
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_is_told_once_and_few_are_remembered() {
        let nameless = Nameless::default();
        assert!(nameless.is_stale(1, 7) && nameless.is_stale(1, 8) && nameless.is_stale(2, 7));
        assert!(!nameless.is_stale(1, 7) && !nameless.is_stale(1, 8) && nameless.is_stale(1, 7));
        for node in 10..10 + MOST as u64 {
            assert!(nameless.is_stale(node, 7));
        }
        assert!(nameless.is_stale(2, 7), "it is forgotten");
    }
}

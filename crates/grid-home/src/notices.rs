//! What home said by itself and the kernel was not told yet. Telling it may wait for a lock that whoever waits for an answer
//! holds, so it is told by a thread that writes no answers; that one must never wait for this queue, so what does not fit
//! is left out.

use crate::lock;
use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, PoisonError};

/// More wait only where the kernel is not told for long, or home says what it should not.
const MOST: usize = 1 << 16;

/// A bounded queue.
#[derive(Default)]
pub struct Notices {
    waiting: Mutex<VecDeque<Box<[u8]>>>,
    wake: Condvar,
}

impl Notices {
    /// Puts a notice at the end, without waiting. False where there is no room: what it tells of is then believed for as long
    /// as the kernel was told at first.
    pub fn put(&self, notice: &[u8]) -> bool {
        let mut waiting = lock(&self.waiting);
        let fits = waiting.len() < MOST;
        if fits {
            waiting.push_back(notice.into());
            self.wake.notify_one();
        }
        fits
    }

    /// Puts an answer at the end: what was told before it is to be believed before it. There is always room, since the kernel
    /// asked for it.
    pub fn put_answer(&self, answer: &[u8]) {
        let mut waiting = lock(&self.waiting);
        waiting.push_back(answer.into());
        self.wake.notify_one();
    }

    /// Waits for the next one.
    pub fn next(&self) -> Box<[u8]> {
        let mut waiting = lock(&self.waiting);
        loop {
            if let Some(notice) = waiting.pop_front() {
                return notice;
            }
            waiting = self.wake.wait(waiting).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn they_come_in_their_order_and_no_more_wait_than_may() {
        let notices = Notices::default();
        std::thread::scope(|scope| {
            let first = scope.spawn(|| notices.next());
            assert!(notices.put(&[1]));
            assert_eq!(*first.join().unwrap(), [1]);
        });
        for n in 0..MOST {
            assert!(notices.put(&n.to_ne_bytes()));
        }
        assert!(!notices.put(&[2]));
        notices.put_answer(&[4]);
        assert_eq!([notices.next(), notices.next()], [0usize, 1].map(|n| Box::from(n.to_ne_bytes())));
        assert!(notices.put(&[3]));
        let last = (0..MOST).map(|_| notices.next()).collect::<Vec<_>>();
        assert_eq!([&last[MOST - 2][..], &last[MOST - 1]], [&[4u8][..], &[3]]);
    }
}

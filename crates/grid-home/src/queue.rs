//! Requests that wait to be answered, for several threads. Who waits for one sleeps by itself: where one sleeps for all, as in
//! a channel behind a lock, each request wakes two.

use crate::lock;
use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, PoisonError};

struct State<T> {
    waiting: VecDeque<T>,
    /// So many want to take one.
    idle: usize,
    /// So many want to put one.
    full: usize,
}

/// A bounded queue.
pub(crate) struct Queue<T> {
    most: usize,
    state: Mutex<State<T>>,
    more: Condvar,
    room: Condvar,
}

impl<T> Queue<T> {
    /// In which at most so many wait.
    pub(crate) fn new(most: usize) -> Self {
        let state = State { waiting: VecDeque::new(), idle: 0, full: 0 };
        Self { most, state: Mutex::new(state), more: Condvar::new(), room: Condvar::new() }
    }

    /// Puts one at the end, once there is room.
    pub(crate) fn put(&self, one: T) {
        let mut state = lock(&self.state);
        while state.waiting.len() >= self.most {
            state.full += 1;
            state = self.room.wait(state).unwrap_or_else(PoisonError::into_inner);
            state.full -= 1;
        }
        state.waiting.push_back(one);
        let is_awaited = state.idle > 0;
        drop(state);
        if is_awaited {
            self.more.notify_one();
        }
    }

    /// Waits for the first.
    pub(crate) fn next(&self) -> T {
        let mut state = lock(&self.state);
        loop {
            if let Some(one) = state.waiting.pop_front() {
                let is_awaited = state.full > 0;
                drop(state);
                if is_awaited {
                    self.room.notify_one();
                }
                return one;
            }
            state.idle += 1;
            state = self.more.wait(state).unwrap_or_else(PoisonError::into_inner);
            state.idle -= 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_comes_once_however_many_take_and_put() {
        const EACH: usize = 500;
        let queue = Queue::new(3);
        let mut taken: Vec<usize> = std::thread::scope(|scope| {
            let takers = [(); 4].map(|()| scope.spawn(|| (0..EACH).map(|_| queue.next()).collect::<Vec<_>>()));
            for from in 0..4 {
                let queue = &queue;
                scope.spawn(move || (0..EACH).for_each(|n| queue.put(from * EACH + n)));
            }
            takers.into_iter().flat_map(|taker| taker.join().unwrap()).collect()
        });
        taken.sort_unstable();
        assert!(taken.into_iter().eq(0..4 * EACH));
    }

    #[test]
    fn they_come_in_their_order() {
        let queue = Queue::new(3);
        (0..3).for_each(|n| queue.put(n));
        assert_eq!([queue.next(), queue.next(), queue.next()], [0, 1, 2]);
    }
}

//! Requests for locks that are not answered yet, and how their waits end: pure bookkeeping.

use std::collections::BTreeMap;

/// Why nobody waits for a lock any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum End {
    /// It got a signal. Where it has got its lock by then, it hears of that.
    Interrupted,
    /// It was let go, and hears nothing.
    LetGo,
}

#[derive(Default)]
struct Open {
    ended: Option<End>,
    /// What waits for it.
    thread: Option<i32>,
}

/// By the number of the request.
#[derive(Default)]
pub(super) struct Asked(BTreeMap<u64, Open>);

impl Asked {
    /// One came.
    pub(super) fn heard(&mut self, unique: u64) {
        self.0.entry(unique).or_default();
    }

    /// Nobody waits for it any more. False where it is answered already.
    pub(super) fn end(&mut self, unique: u64, end: End) -> bool {
        let Some(open) = self.0.get_mut(&unique) else { return false };
        open.ended = open.ended.max(Some(end));
        true
    }

    /// Whether that thread is to wait for it.
    pub(super) fn may_wait(&mut self, unique: u64, thread: i32) -> bool {
        let Some(open) = self.0.get_mut(&unique).filter(|open| open.ended.is_none()) else { return false };
        open.thread = Some(thread);
        true
    }

    pub(super) fn is_ended(&self, unique: u64) -> bool {
        self.0.get(&unique).is_none_or(|open| open.ended.is_some())
    }

    /// The thread that waits for it and is to stop.
    pub(super) fn to_wake(&self, unique: u64) -> Option<i32> {
        self.0.get(&unique).filter(|open| open.ended.is_some())?.thread
    }

    /// It is answered now. True where that is not heard.
    pub(super) fn answered(&mut self, unique: u64) -> bool {
        self.0.remove(&unique).is_some_and(|open| open.ended == Some(End::LetGo))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_got_a_signal_does_not_begin_to_wait_and_who_waits_is_woken() {
        let mut asked = Asked::default();
        (1..4).for_each(|unique| asked.heard(unique));
        assert!(asked.end(1, End::Interrupted) && asked.is_ended(1) && !asked.may_wait(1, 10));
        assert_eq!(asked.to_wake(1), None);
        assert!(asked.may_wait(2, 20) && !asked.is_ended(2));
        assert_eq!(asked.to_wake(2), None);
        assert!(asked.end(2, End::LetGo) && asked.end(2, End::Interrupted));
        assert_eq!(asked.to_wake(2), Some(20));
        assert!(asked.answered(2), "being let go outweighs a signal");
        assert_eq!(asked.to_wake(2), None);
        assert!(!asked.answered(1) && !asked.answered(3));
        assert!(!asked.end(3, End::LetGo), "it was answered before");
    }
}

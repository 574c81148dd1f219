//! How many may stand at a door who have not shown who they are, and how much is said of those who were sent away.

use std::collections::BTreeMap;
use std::time::Duration;

/// Those who are showing who they are. One place (`K`) alone cannot take every space.
#[derive(Clone, Debug)]
pub struct Crowd<K> {
    all: usize,
    each: usize,
    here: BTreeMap<K, usize>,
}

impl<K: Ord> Crowd<K> {
    /// `all` at a time, `each` of them from one place.
    pub fn of(all: usize, each: usize) -> Self {
        Self { all, each, here: BTreeMap::new() }
    }

    /// One more from there; false where there is no room.
    pub fn enter(&mut self, from: K) -> bool {
        let room = self.here.values().sum::<usize>() < self.all;
        let own = self.here.get(&from).copied().unwrap_or(0);
        if !room || own >= self.each {
            return false;
        }
        self.here.insert(from, own + 1);
        true
    }

    /// One who entered from there is known, or gone.
    pub fn leave(&mut self, from: &K) {
        match self.here.get_mut(from) {
            Some(n) if *n > 1 => *n -= 1,
            _ => drop(self.here.remove(from)),
        }
    }
}

/// Lines about strangers: so many within a span, and of the rest how many there were, said with the first line after it.
#[derive(Clone, Debug, Default)]
pub struct Hush {
    since: Option<Duration>,
    said: u32,
    unsaid: u64,
}

impl Hush {
    /// Lines in each span.
    pub const LINES: u32 = 10;
    /// It.
    pub const SPAN: Duration = Duration::from_secs(60);

    /// Whether the next line is said: with the number of those before it that were not.
    pub fn say(&mut self, now: Duration) -> Option<u64> {
        if self.since.is_none_or(|since| now.saturating_sub(since) >= Self::SPAN) {
            (self.since, self.said) = (Some(now), 0);
        }
        if self.said == Self::LINES {
            self.unsaid += 1;
            return None;
        }
        self.said += 1;
        Some(std::mem::take(&mut self.unsaid))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn one_place_cannot_take_every_space() {
        let mut crowd = Crowd::of(5, 3);
        assert_eq!((0..9).filter(|_| crowd.enter("a")).count(), 3);
        assert_eq!((0..9).filter(|_| crowd.enter("b")).count(), 2);
        assert!(!crowd.enter("c"));
        crowd.leave(&"a");
        assert!(crowd.enter("c") && !crowd.enter("a"));
    }

    #[test]
    fn a_flood_is_ten_lines_a_minute_and_a_number() {
        let mut hush = Hush::default();
        let at = |ms: u64| Duration::from_millis(ms);
        let said = (0..5_000u64).filter(|n| hush.say(at(*n)).is_some()).count();
        assert_eq!(said, 10);
        assert_eq!(hush.say(at(59_999)), None);
        assert_eq!(hush.say(at(60_000)), Some(4_991));
        assert_eq!(hush.say(at(60_001)), Some(0));
    }

    proptest! {
        #[test]
        fn never_more_than_allowed_and_all_room_comes_back(steps in proptest::collection::vec((0u8..4, any::<bool>()), 0..300)) {
            let mut crowd = Crowd::of(6, 3);
            let mut inside: Vec<u8> = Vec::new();
            for (from, enters) in steps {
                if enters {
                    let own = inside.iter().filter(|one| **one == from).count();
                    prop_assert_eq!(crowd.enter(from), inside.len() < 6 && own < 3);
                    if inside.len() < 6 && own < 3 {
                        inside.push(from);
                    }
                } else if let Some(place) = inside.iter().position(|one| *one == from) {
                    inside.remove(place);
                    crowd.leave(&from);
                }
            }
            inside.iter().for_each(|from| crowd.leave(from));
            prop_assert!(crowd.here.is_empty());
        }
    }
}

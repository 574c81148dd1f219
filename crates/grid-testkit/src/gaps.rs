//! The longest gaps between stamps of a clock: how a program sees its own downtime. Owns the ranking; reads no clock.

use serde::{Deserialize, Serialize};

/// A span between two stamps.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Gap {
    /// How long, in nanoseconds.
    pub ns: u64,
    /// The program's count at the gap's end, before its next step: where it went on.
    pub at: u64,
    /// The wall clock at the gap's end, in nanoseconds since 1970.
    pub ended_ns: u64,
}

/// The longest gaps so far, longest first.
#[derive(Clone, Debug)]
pub struct Gaps {
    keep: usize,
    last: Option<u64>,
    top: Vec<Gap>,
}

impl Gaps {
    /// Keeps the `keep` longest (at least one).
    pub fn new(keep: usize) -> Self {
        Self { keep: keep.max(1), last: None, top: Vec::new() }
    }

    /// A stamp, once for each step and before it: the clock says `now_ns`, and `count` steps are done.
    pub fn stamp(&mut self, count: u64, now_ns: u64) {
        let ns = self.last.replace(now_ns).map_or(0, |last| now_ns.saturating_sub(last));
        self.record(Gap { ns, at: count, ended_ns: now_ns });
    }

    fn record(&mut self, gap: Gap) {
        if gap.ns == 0 || (self.top.len() == self.keep && self.top.last().is_some_and(|least| gap.ns <= least.ns)) {
            return;
        }
        let place = self.top.partition_point(|g| g.ns >= gap.ns);
        self.top.insert(place, gap);
        self.top.truncate(self.keep);
    }

    /// The longest gaps of both.
    pub fn merge(&mut self, other: &Gaps) {
        other.top.iter().for_each(|gap| self.record(*gap));
    }

    /// The longest gaps, longest first.
    pub fn top(&self) -> &[Gap] {
        &self.top
    }

    /// The longest gap; zero before the second stamp.
    pub fn longest(&self) -> Gap {
        self.top.first().copied().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_are_kept_in_order_with_where_they_were() {
        let mut gaps = Gaps::new(2);
        for (count, now) in [(0, 100), (1, 110), (2, 180), (3, 185), (4, 215)] {
            gaps.stamp(count, now);
        }
        let seen: Vec<_> = gaps.top().iter().map(|g| (g.ns, g.at, g.ended_ns)).collect();
        assert_eq!(seen, [(70, 2, 180), (30, 4, 215)]);
    }

    #[test]
    fn a_clock_set_back_is_no_gap() {
        let mut gaps = Gaps::new(3);
        gaps.stamp(0, 100);
        gaps.stamp(1, 50);
        gaps.stamp(2, 60);
        assert_eq!(gaps.longest(), Gap { ns: 10, at: 2, ended_ns: 60 });
        assert_eq!(gaps.top().len(), 1);
    }

    #[test]
    fn merged_gaps_are_ranked_together() {
        let (mut a, mut b) = (Gaps::new(2), Gaps::new(2));
        [0, 5, 25].into_iter().for_each(|now| a.stamp(0, now));
        [0, 10, 40].into_iter().for_each(|now| b.stamp(0, now));
        a.merge(&b);
        assert_eq!(a.top().iter().map(|g| g.ns).collect::<Vec<_>>(), [30, 20]);
    }
}

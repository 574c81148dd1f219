//! Which way a worker's connections take to their head: directly, or through the forward that ssh keeps.
//!
//! ```text
//!            went                    failed
//!   Untried ──────► Works ◄────────► Fails{times, again} ── a probe after a pause that doubles ──► went: Works
//! ```
//! The direct way is the first as long as it is not known to fail; then ssh's is, so that nobody waits for an address that
//! does not answer. Which one fails is found out by whoever dials, or by a probe where nobody did for a while; that it works
//! again by a probe. Times are spans since some start of the caller's.

use std::time::Duration;

/// Between a failure and the first probe; each further pause is twice as long.
const SHORTEST: Duration = Duration::from_secs(1);
/// The longest pause.
const LONGEST: Duration = Duration::from_secs(30);

pub use grid_types::facts::Way;

/// What is known of the direct way.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
enum Direct {
    #[default]
    Untried,
    Works {
        /// When somebody came through last.
        seen: Duration,
    },
    Fails {
        why: String,
        times: u32,
        again: Duration,
    },
}

/// The ways of one worker that was told a direct one.
#[derive(Clone, Debug, Default)]
pub struct Ways {
    direct: Direct,
}

impl Ways {
    /// The ways in the order in which the next connection tries them.
    pub fn order(&self) -> [Way; 2] {
        match self.direct {
            Direct::Untried | Direct::Works { .. } => [Way::Direct, Way::Ssh],
            // Where ssh's is broken too, the pause is nobody's gain.
            Direct::Fails { .. } => [Way::Ssh, Way::Direct],
        }
    }

    /// Somebody came through directly.
    pub fn went(&mut self, now: Duration) {
        self.direct = Direct::Works { seen: now };
    }

    /// Somebody did not. Several who tried at once count as one.
    pub fn failed(&mut self, now: Duration, why: String) {
        let times = match &self.direct {
            Direct::Fails { times, again, .. } if now < *again => *times,
            Direct::Fails { times, .. } => times.saturating_add(1),
            Direct::Untried | Direct::Works { .. } => 1,
        };
        let pause = SHORTEST.saturating_mul(1 << (times - 1).min(16)).min(LONGEST);
        self.direct = Direct::Fails { why, times, again: now.saturating_add(pause) };
    }

    /// How long it is to the next probe; none where there is nothing to be found out.
    pub fn probe_in(&self, now: Duration) -> Option<Duration> {
        match &self.direct {
            Direct::Fails { again, .. } => Some(again.saturating_sub(now)),
            // What is known of it is shown, and is no older than this.
            Direct::Works { seen } => Some(seen.saturating_add(LONGEST).saturating_sub(now)),
            Direct::Untried => None,
        }
    }

    /// The way that connections take, and why not the direct one. None before anybody tried.
    pub fn known(&self) -> Option<(Way, Option<&str>)> {
        match &self.direct {
            Direct::Untried => None,
            Direct::Works { .. } => Some((Way::Direct, None)),
            Direct::Fails { why, .. } => Some((Way::Ssh, Some(why))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn s(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn the_direct_way_is_first_until_it_fails_and_again_when_it_works() {
        let mut ways = Ways::default();
        assert_eq!((ways.order(), ways.known(), ways.probe_in(s(0))), ([Way::Direct, Way::Ssh], None, None));
        ways.failed(s(5), "timed out".into());
        assert_eq!((ways.order(), ways.known()), ([Way::Ssh, Way::Direct], Some((Way::Ssh, Some("timed out")))));
        assert_eq!((ways.probe_in(s(5)), ways.probe_in(s(9))), (Some(s(1)), Some(s(0))));
        ways.went(s(9));
        assert_eq!((ways.order(), ways.known()), ([Way::Direct, Way::Ssh], Some((Way::Direct, None))));
        // Where nobody dials it is looked at all the same.
        assert_eq!((ways.probe_in(s(9)), ways.probe_in(s(99))), (Some(s(30)), Some(s(0))));
    }

    #[test]
    fn pauses_double_to_half_a_minute_and_begin_anew_after_it_worked() {
        let mut ways = Ways::default();
        let mut now = s(0);
        let mut pauses = Vec::new();
        for _ in 0..40 {
            ways.failed(now, String::new());
            let pause = ways.probe_in(now).unwrap();
            pauses.push(pause.as_secs());
            now += pause;
        }
        assert_eq!(pauses[..7], [1, 2, 4, 8, 16, 30, 30]);
        assert_eq!(pauses.last(), Some(&30));
        ways.went(now);
        ways.failed(now, String::new());
        assert_eq!(ways.probe_in(now), Some(s(1)));
    }

    #[test]
    fn many_who_fail_at_once_do_not_make_the_pause_longer() {
        let mut ways = Ways::default();
        for n in 0..100 {
            ways.failed(s(0), n.to_string());
        }
        assert_eq!((ways.probe_in(s(0)), ways.known()), (Some(s(1)), Some((Way::Ssh, Some("99")))));
    }
}

//! When a boost's time is over: on the head's CLOCK_BOOTTIME within one boot, on the wall clock across a reboot.

use grid_types::boost::{Boost, BoostState};
use grid_types::{BoostId, BootMs, Millis, UnixMs};

/// A moment on the head's clocks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Clock {
    /// CLOCK_BOOTTIME.
    pub boot: BootMs,
    /// The boot that `boot` counts from.
    pub boot_id: String,
    /// Wall clock; decides only where the boot is another one.
    pub unix: UnixMs,
}

impl Clock {
    /// Time left until the boost's end, zero where it has passed.
    pub fn left(&self, boost: &Boost) -> Millis {
        if boost.boot_id == self.boot_id {
            Millis(boost.until.0.saturating_sub(self.boot.0))
        } else {
            Millis(boost.until_unix.0.saturating_sub(self.unix.0))
        }
    }
}

/// Its end is still to come by time (one that is ending or overdue has had it).
fn runs_by_time(boost: &Boost) -> bool {
    matches!(boost.state, BoostState::Granting | BoostState::Active)
}

/// The boosts whose time is over and whose end has not begun, the longest past first.
pub fn due<'a>(boosts: impl IntoIterator<Item = &'a Boost>, now: &Clock) -> Vec<BoostId> {
    let mut due: Vec<_> = boosts.into_iter().filter(|b| runs_by_time(b) && now.left(b) == Millis(0)).collect();
    due.sort_by(|a, b| a.until_unix.cmp(&b.until_unix).then(a.id.cmp(&b.id)));
    due.into_iter().map(|b| b.id.clone()).collect()
}

/// How long the shell may sleep before [`due`] can have something new.
pub fn next_deadline<'a>(boosts: impl IntoIterator<Item = &'a Boost>, now: &Clock) -> Option<Millis> {
    boosts.into_iter().filter(|b| runs_by_time(b)).map(|b| now.left(b)).min()
}

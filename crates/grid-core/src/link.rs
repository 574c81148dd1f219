//! How bytes cross a link to another machine: whether the next piece is compressed, and how long a limited stream waits.
//!
//! Times are spans since some start of the caller's.

use std::time::Duration;

/// Pieces that are smaller are not worth a thought.
const LEAST: usize = 4 << 10;
/// After pieces that did not pay, so many pass before the next is tried, at most; more where a try costs much.
const MOST_PASSED: u32 = 64;
/// A try in vain takes at most about this part of the time that the pieces take which pass for it.
const TRY_COSTS: f64 = 1.0 / 16.0;
/// What is older than so many bytes, or seconds of a full link, counts half.
const TRIED_OVER: f64 = 1e6;
const LINK_OVER: f64 = 0.1;

/// Decides for one direction of one stream which pieces are compressed.
///
/// Only while the link is the slower part: the output took no more when the piece before was handed over, so that the time
/// is there. And only where that is worth it: compressing a piece and sending what is left of it takes less time than
/// sending all of it. Both speeds are measured on the way, so that a link that is fast enough costs no CPU at all.
#[derive(Clone, Debug, Default)]
pub struct Pace {
    /// The last piece found the output full.
    full: bool,
    /// When it was found full last without the stream having been idle since, and what had been sent until then.
    since: Option<(Duration, u64)>,
    sent: u64,
    /// What left the output, and in how long.
    link: Sums,
    /// What was compressed, in how long, and what is left of it.
    tried: Sums,
    /// Pieces to pass before the next try, and how many that were the last time.
    pass: u32,
    passed: u32,
}

impl Pace {
    /// Whether the next piece, of so many bytes, is to be compressed.
    pub fn compress(&mut self, bytes: usize) -> bool {
        if !self.full || bytes < LEAST {
            return false;
        }
        if self.pays() {
            self.passed = 0;
            return true;
        }
        // What comes next may be of another kind.
        if self.pass > 0 {
            self.pass -= 1;
            return false;
        }
        self.passed = (self.passed * 2).clamp(1, MOST_PASSED);
        self.pass = self.passed.max(self.dear());
        true
    }

    fn pays(&self) -> bool {
        let known = self.link.rate().zip(self.tried.rate());
        known.is_some_and(|(link, speed)| link < speed * (1.0 - self.tried.left / self.tried.bytes))
    }

    /// Pieces that the link carries in the time that makes up for one try.
    fn dear(&self) -> u32 {
        let pieces = self.link.rate().zip(self.tried.rate()).map_or(0.0, |(link, speed)| link / speed / TRY_COSTS);
        pieces.min(1e6) as u32
    }

    /// A piece of `from` bytes was compressed to `to` bytes in this time.
    pub fn compressed(&mut self, took: Duration, from: usize, to: usize) {
        self.tried.fade(self.tried.bytes > TRIED_OVER);
        self.tried.add(from as f64, took);
        self.tried.left += to as f64;
    }

    /// Nothing was there to be sent: the link is not the slower part, and may have been idle.
    pub fn idle(&mut self) {
        self.full = false;
        self.since = None;
    }

    /// A piece of so many bytes was handed over. `full`: when the output took no more, and how much of it it had by then.
    pub fn sent(&mut self, bytes: usize, full: Option<(Duration, usize)>) {
        self.full = full.is_some();
        if let Some((now, part)) = full {
            let sent = self.sent + part as u64;
            // As full as it was then: what was handed over since is what left.
            if let Some((then, before)) = self.since.filter(|(then, _)| now > *then) {
                self.link.fade(self.link.seconds > LINK_OVER);
                self.link.add((sent - before) as f64, now - then);
            }
            self.since = Some((now, sent));
        }
        self.sent += bytes as u64;
    }
}

/// What was measured, the older of it counting less and less. Sums, and not a mean of rates: a link takes some megabytes at
/// once into its buffers, and then nothing for long.
#[derive(Clone, Debug, Default)]
struct Sums {
    bytes: f64,
    seconds: f64,
    left: f64,
}

impl Sums {
    fn fade(&mut self, now: bool) {
        if now {
            *self = Self { bytes: self.bytes / 2.0, seconds: self.seconds / 2.0, left: self.left / 2.0 };
        }
    }

    fn add(&mut self, bytes: f64, took: Duration) {
        self.bytes += bytes;
        self.seconds += took.as_secs_f64().max(1e-9);
    }

    fn rate(&self) -> Option<f64> {
        (self.seconds > 0.0).then(|| self.bytes / self.seconds)
    }
}

/// Lets at most so many bytes a second pass: a token bucket that may go into debt, so that a piece is never cut for it.
#[derive(Clone, Debug)]
pub struct Bucket {
    /// Bytes a second.
    rate: u64,
    /// When all that was taken will have passed.
    even: Duration,
}

impl Bucket {
    /// What was not used for so long may be used at once.
    pub const BURST: Duration = Duration::from_millis(20);

    /// A bucket of this rate in bytes a second, at least 1.
    pub fn of(rate: u64) -> Self {
        Self { rate: rate.max(1), even: Duration::ZERO }
    }

    /// Takes these bytes out; whoever takes them sends them after this wait.
    pub fn take(&mut self, now: Duration, bytes: u64) -> Duration {
        let nanos = (u128::from(bytes) * 1_000_000_000).div_ceil(u128::from(self.rate));
        let span = Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX));
        self.even = self.even.max(now.saturating_sub(Self::BURST)).saturating_add(span);
        self.even.saturating_sub(now)
    }
}

/// Bytes a second to count with: what was measured, and never more than the limit.
pub fn expected_rate(measured: Option<u64>, limit: Option<u64>) -> Option<u64> {
    match (measured, limit) {
        (Some(measured), Some(limit)) => Some(measured.min(limit)),
        (measured, limit) => measured.or(limit),
    }
}

#[cfg(test)]
#[path = "link_tests.rs"]
mod tests;

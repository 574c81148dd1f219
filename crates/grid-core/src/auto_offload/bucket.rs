//! A token bucket over activations.

use grid_types::policy::AutoOffload;
use grid_types::{BootMs, Millis};

/// So many at once, and one more after each span. Starts full. A span of zero means no limit; a burst of zero, never.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bucket {
    burst: u32,
    refill: Millis,
    tokens: u32,
    /// Up to here refills are counted.
    counted: BootMs,
}

impl Bucket {
    /// A full bucket.
    pub fn new(burst: u32, refill: Millis, now: BootMs) -> Self {
        Self { burst, refill, tokens: burst, counted: now }
    }

    /// A full bucket as the policy says.
    pub fn of(policy: &AutoOffload, now: BootMs) -> Self {
        Self::new(policy.burst, policy.refill, now)
    }

    /// Takes a token.
    ///
    /// # Errors
    /// There is none; so long until there is.
    pub fn take(&mut self, now: BootMs) -> Result<(), Millis> {
        self.refill_until(now);
        if self.tokens == 0 {
            let next = self.counted.0.saturating_add(self.refill.0);
            return Err(Millis(next.saturating_sub(now.0).max(1)));
        }
        self.tokens -= 1;
        Ok(())
    }

    /// Tokens there are at `now`.
    pub fn tokens(&mut self, now: BootMs) -> u32 {
        self.refill_until(now);
        self.tokens
    }

    fn refill_until(&mut self, now: BootMs) {
        if self.refill.0 == 0 {
            self.tokens = self.burst;
            return;
        }
        if now < self.counted {
            self.counted = now; // another boot: its clock starts again
        }
        let spans = (now.0 - self.counted.0) / self.refill.0;
        self.counted.0 += spans * self.refill.0;
        let more = u32::try_from(spans).unwrap_or(u32::MAX);
        self.tokens = self.tokens.saturating_add(more).min(self.burst);
        if self.tokens == self.burst {
            self.counted = now; // a full bucket saves nothing up
        }
    }
}

//! Cool-down of processes: what was moved or refused is left alone for a while, longer after each failure.

use grid_types::{BootMs, Millis, ProcId};
use std::collections::BTreeMap;

/// Doublings of the cool-down, at most.
const MOST_DOUBLINGS: u32 = 5;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Touch {
    at: BootMs,
    failures: u32,
}

/// When each process was last moved or refused, on the head's CLOCK_BOOTTIME. Identities of another boot never match,
/// so a reboot needs no clean-up.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cooldowns {
    touched: BTreeMap<ProcId, Touch>,
}

impl Cooldowns {
    /// It was moved, here or home.
    pub fn moved(&mut self, process: &ProcId, at: BootMs) {
        self.touched.insert(process.clone(), Touch { at, failures: 0 });
    }

    /// A move of it failed: each failure in a row doubles the cool-down, up to 32 times.
    pub fn failed(&mut self, process: &ProcId, at: BootMs) {
        let failures = self.touched.get(process).map_or(0, |t| t.failures);
        self.touched.insert(process.clone(), Touch { at, failures: failures.saturating_add(1) });
    }

    /// So long to go; none where it may be taken.
    pub fn left(&self, process: &ProcId, base: Millis, now: BootMs) -> Option<Millis> {
        self.touched.get(process).and_then(|t| t.left(base, now))
    }

    /// All that are cooling down now.
    pub fn cooling(&self, base: Millis, now: BootMs) -> impl Iterator<Item = (&ProcId, Millis)> {
        self.touched.iter().filter_map(move |(p, t)| t.left(base, now).map(|left| (p, left)))
    }

    /// Forgets the oldest beyond `most`.
    pub fn trim(&mut self, most: usize) {
        while self.touched.len() > most {
            let oldest = self.touched.iter().min_by_key(|(p, t)| (t.at, (*p).clone())).map(|(p, _)| p.clone());
            let Some(oldest) = oldest else { return };
            self.touched.remove(&oldest);
        }
    }
}

impl Touch {
    fn left(&self, base: Millis, now: BootMs) -> Option<Millis> {
        let doublings = self.failures.saturating_sub(1).min(MOST_DOUBLINGS);
        let until = self.at.0.saturating_add(base.0.saturating_mul(1 << doublings));
        (until > now.0).then(|| Millis(until - now.0))
    }
}

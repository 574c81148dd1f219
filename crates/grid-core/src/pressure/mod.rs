//! Pressure of the head: from samples to an event, with hysteresis and hold times, so that a spike is none.
//!
//! Owns *when the head is short*. Never acts. Invariants: unknown or stale facts neither raise nor clear anything (they
//! stop the hold time, they are never zero); the level is monotonic in every input (see `formula`).
//!
//! ```text
//!  calm ── level ≥ trigger ──► rising ── held 30 s (critical: 5 s) ──► sustained ──┐ again after each
//!   ▲           below trigger ──┘ calm                                    │  ▲─────┘ cool-down
//!   └────────── below release for 10 s, says Cleared ◄────────────────────┘
//! ```

mod formula;
mod monitor;
#[cfg(test)]
mod tests;

pub use formula::{Levels, levels, mean};
pub use monitor::{CLEAR_HOLD, CRITICAL_HOLD, HOLD, HYSTERESIS, Monitor, Pressure, PressureKind};

//! `make demo`: a cluster on this machine, a boost, and live moves into it, told as it happens. Owns the order of the
//! steps and what is printed; every figure is measured, and a step that does not come out as it must ends the demo
//! with what was expected and what was seen.
//!
//! ```text
//! 1 cluster -> 2 programs -> 3 boost -> 4 moved -> 5 terminal -> 6 finished -> 7 returned
//!      any deviation, panic, Ctrl-C -> everything taken down -> exit 1 (130)
//! ```

mod config;
mod kernel;
mod place;
mod programs;
mod steps;
mod terminal;

use place::Place;
use std::time::Instant;

/// Runs it; the exit code.
pub fn run() -> u8 {
    let start = Instant::now();
    match told(start) {
        Ok(()) => 0,
        Err(why) => {
            crate::say!("FAILED after {} s: {why}", start.elapsed().as_secs());
            1
        }
    }
}

fn told(start: Instant) -> Result<(), String> {
    crate::criu::usable()?;
    let place = Place::make()?;
    place.watch_signals()?;
    let outcome = steps::run(&place);
    if place.interrupted() {
        // The thread that was told ends the process when everything is down.
        loop {
            std::thread::park();
        }
    }
    match outcome {
        Ok(()) => {
            let grid = place.shown(place.local.program());
            place.remove();
            crate::say!(
                "OK in {} s.  Next: sudo {grid} up --local 2, then sudo {grid} offload scan",
                start.elapsed().as_secs()
            );
            Ok(())
        }
        Err(why) => {
            place.take_down();
            Err(format!("{why}\n  everything was taken down; logs stay in {}", place.shown(&place.dir)))
        }
    }
}

/// A number as people read it: `18,951`.
fn grouped(n: u64) -> String {
    let digits = n.to_string();
    let mut out = String::new();
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// `Err` with what was expected and seen, unless they are the same.
fn expect<T: PartialEq + std::fmt::Debug>(what: &str, want: &T, seen: &T) -> Result<(), String> {
    if want == seen { Ok(()) } else { Err(format!("{what}: expected {want:?}, saw {seen:?}")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_grouped_by_thousands() {
        assert_eq!(
            ["7", "999", "1,000", "18,951", "1,234,567"],
            [7, 999, 1000, 18_951, 1_234_567].map(grouped).as_ref()
        );
    }
}

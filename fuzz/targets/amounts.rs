//! What people type: sizes, shares of CPUs, durations, and whole command lines.
#![no_main]

use grid_cli::cli::Cli;
use grid_types::{Bytes, MilliCpu, Millis};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    if let Ok(bytes) = text.parse::<Bytes>() {
        assert!(bytes.0 <= 1 << 60, "{text:?} is {}", bytes.0);
        let _ = bytes.to_string();
    }
    if let Ok(cpu) = text.parse::<MilliCpu>() {
        assert!(cpu.0 > 0, "{text:?} is no CPU at all");
        let _ = cpu.to_string();
    }
    if let Ok(millis) = text.parse::<Millis>() {
        assert!(millis.0 > 0, "{text:?} is no time at all");
        let _ = millis.to_string();
    }
    let words = std::iter::once("grid").chain(text.split(' ')).map(Into::into);
    let _ = Cli::read(words);
});

//! The configuration file. A text that is accepted, shown and read again means the same.
#![no_main]

use grid_core::config;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    match config::parse(text) {
        Ok(parsed) => {
            let shown = config::show(&parsed);
            let again = config::parse(&shown).unwrap_or_else(|e| panic!("shown as\n{shown}\nwhich is refused: {e}"));
            assert_eq!(parsed.config, again.config, "shown as\n{shown}");
            let _ = config::explain(&parsed);
        }
        Err(errors) => assert!(!errors.to_string().is_empty()),
    }
});

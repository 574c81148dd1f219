//! What a CRIU says: the messages of its RPC, its log, its version. Success is what it said it is, and nothing else.
#![no_main]

use grid_os::criu::fuzzing;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    // Each message is a byte of length and that much.
    let mut messages = Vec::new();
    let mut rest = data;
    while let Some((len, tail)) = rest.split_first() {
        let (message, tail) = tail.split_at(usize::from(*len).min(tail.len()));
        messages.push(message);
        rest = tail;
    }
    messages.truncate(32);
    let (result, notified) = fuzzing::answers(&messages);
    assert!(notified.len() <= messages.len());
    if let Some(success) = result {
        assert!(!success || notified.iter().all(|script| script != "fails"), "a step failed and CRIU's yes counted");
    }
    let text = String::from_utf8_lossy(data);
    fuzzing::version(&text);
    fuzzing::log_errors(&text);
});

//! The links between daemons: greetings of strangers, and frames of peers. What was understood and is sent again is the
//! same, and no id that was read names another place.
#![no_main]

use grid_os::frames::{read_frame, read_hello, receive, send};
use grid_types::wire::{Body, Frame, Hello, Manifest, Party, Welcome};
use libfuzzer_sys::fuzz_target;
use std::cell::RefCell;

thread_local! {
    static RUNTIME: RefCell<tokio::runtime::Runtime> =
        RefCell::new(tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime"));
}

fuzz_target!(|data: &[u8]| {
    RUNTIME.with_borrow(|runtime| {
        runtime.block_on(async {
            if let Ok(Hello::Agent { node, .. }) = read_hello(&mut &*data, "fuzz").await {
                plain(node.as_str());
            }
            let _ = read_frame::<Welcome>(&mut &*data, "fuzz").await;
            let mut rest = data;
            while let Ok(frame) = read_frame::<Frame>(&mut rest, "fuzz").await {
                check(&frame);
            }
        });
    });
    let _ = receive::<Manifest>(&mut &*data, 4 << 20);
});

fn check(frame: &Frame) {
    if let Party::Agent(node) = &frame.from {
        plain(node.as_str());
    }
    match &frame.body {
        Body::Down { message, .. } => plain(message.attempt().as_str()),
        Body::Up { message } => plain(message.attempt().as_str()),
        _ => {}
    }
    let mut sent = Vec::new();
    send(&mut sent, frame).expect("what was read can be written");
    let again: Frame = receive(&mut sent.as_slice(), 64 << 20).expect("what was written can be read");
    assert_eq!(format!("{frame:?}"), format!("{again:?}"));
}

fn plain(id: &str) {
    assert!(!id.is_empty() && !id.starts_with('.') && !id.contains(['/', '\0']), "{id:?} leads somewhere else");
}

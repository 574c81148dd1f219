//! Who comes to the socket of shadows is believed where the kernel says that it is that process, and nobody else.

#![allow(clippy::unwrap_used)] // all of this file is tests and their helpers

#[allow(dead_code)] // each file of tests uses a part of it
mod shadow;

use grid_os::descriptors::{receive_packet, send_packet};
use grid_os::packets;
use shadow::Job;
use std::path::PathBuf;
use std::time::Duration;

/// Where a shadow came from, and how it calls itself: as its owner can read it.
fn terms(pid: i32) -> (PathBuf, String) {
    let environment = std::fs::read(format!("/proc/{pid}/environ")).unwrap();
    let text = environment.split(|b| *b == 0).find_map(|v| v.strip_prefix(b"GRID_SHADOW=")).unwrap();
    let terms: serde_json::Value = serde_json::from_slice(text).unwrap();
    (terms["socket"].as_str().unwrap().into(), terms["shadow"].as_str().unwrap().to_owned())
}

#[test]
fn who_says_that_it_is_anothers_shadow_gets_no_stream_and_takes_none() {
    let script = "(while :; do echo line; sleep 0.01; done) | (meant; exec cat) | cat >out";
    let Some(job) = Job::start(script) else { return };
    job.flows(10);
    let (pid, _) = job.move_meant();
    job.flows(10);
    let (socket, shadow) = terms(pid);
    let hello = serde_json::json!({"hello": {"shadow": shadow, "generation": 9, "linked": false}});
    let impostor = packets::connect(&socket).unwrap();
    packets::set_patience(&impostor, Duration::from_millis(500)).unwrap();
    send_packet(&impostor, hello.to_string().as_bytes(), None).unwrap();
    send_packet(&impostor, b"not json", None).unwrap();
    let heard = receive_packet(&impostor, 1 << 14, true);
    assert!(matches!(heard, Ok(None) | Err(_)), "{heard:?}");
    job.flows(30);
    // Nor does one of an unknown name, or of another word, end anything.
    for word in [r#"{"hello":{"shadow":"o-999.1","generation":1,"linked":true}}"#, r#"{"what":1}"#, ""] {
        let stranger = packets::connect(&socket).unwrap();
        let _ = send_packet(&stranger, word.as_bytes(), None);
    }
    job.flows(30);
    assert_eq!(terms(pid).1, shadow);
}

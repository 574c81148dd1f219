//! Who comes to the socket of shadows is believed where the kernel says that it is that process, and nobody else.

#![allow(clippy::unwrap_used)] // all of this file is tests and their helpers

#[allow(dead_code)] // each file of tests uses a part of it
mod shadow;

use grid_os::descriptors::{receive_packet, send_packet};
use grid_os::packets;
use grid_testkit::procs;
use shadow::Job;
use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Command, Stdio};
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

/// As user 4711, comes a thousand times, and says nothing but `there` here; then it comes on and on.
const CROWD: &str = r#"
import os, socket, sys, threading, time
os.setgroups([]); os.setgid(4711); os.setuid(4711)
def come():
    one = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    one.connect(sys.argv[1])
    return one
came = [come() for _ in range(1000)]
print("there", flush=True)
threading.Thread(target=lambda: os._exit(len(sys.stdin.read()))).start()
while True:
    came = came[1:] + [come()]
    time.sleep(0.002)
"#;

fn descriptors(pid: i32) -> usize {
    std::fs::read_dir(format!("/proc/{pid}/fd")).unwrap().count()
}

#[test]
fn a_crowd_of_strangers_takes_few_descriptors_and_keeps_no_shadow_away() {
    let script = "(while :; do echo line; sleep 0.01; done) | (meant; exec cat) | cat >out";
    let Some(job) = Job::start(script) else { return };
    job.flows(10);
    let (pid, _) = job.move_meant();
    job.flows(10);
    let (socket, _) = terms(pid);
    let agent = job.cluster.agent_pid("head");
    let before = descriptors(agent);
    let mut crowd = Command::new("/usr/bin/python3")
        .args(["-c", CROWD])
        .arg(&socket)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut said = String::new();
    BufReader::new(crowd.stdout.take().unwrap()).read_line(&mut said).unwrap();
    assert_eq!(said, "there\n");
    let taken = descriptors(agent).saturating_sub(before);
    assert!(taken < 64, "{taken} of 1000 are held");
    // A shadow that comes finds room beside them: it is heard, or nothing flows.
    job.cluster.bring_home(job.cluster.offloads()[0].record.id.as_str());
    job.flows(30);
    job.cluster.move_out(pid);
    job.flows(30);
    assert!(procs::is_shadow(pid));
    drop(crowd.stdin.take());
    assert!(crowd.wait().unwrap().success());
}

#[test]
fn who_comes_while_no_descriptor_is_left_is_let_in_when_there_is_one() {
    let script = "(while :; do echo line; sleep 0.01; done) | (meant; exec cat) | cat >out";
    let Some(job) = Job::start(script) else { return };
    job.flows(10);
    let (pid, _) = job.move_meant();
    let (socket, _) = terms(pid);
    let agent = job.cluster.agent_pid("head");
    let limit = |most: &str| {
        let most = format!("--nofile={most}:");
        let done = Command::new("prlimit").args(["--pid", &agent.to_string(), &most]).status().unwrap();
        assert!(done.success());
    };
    limit("3");
    let early = packets::connect(&socket).unwrap();
    let nobody = || job.cluster.log("agent").contains("nobody is let in at the shadows' socket for now");
    job.cluster.wait("a lack of descriptors", || if nobody() { Ok(()) } else { Err(()) });
    limit("1024");
    for stranger in [early, packets::connect(&socket).unwrap()] {
        let _ = send_packet(&stranger, b"something", None);
        assert!(!matches!(receive_packet(&stranger, 100, true), Ok(Some(_))));
    }
    job.flows(10);
    job.cluster.bring_home(job.cluster.offloads()[0].record.id.as_str());
    job.flows(10);
}

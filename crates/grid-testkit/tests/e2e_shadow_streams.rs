//! A process in the middle of a pipeline moves: its neighbours stay at home, and of what flows between them nothing is
//! lost, repeated or reordered, whatever dies meanwhile.

#![allow(clippy::unwrap_used)] // all of this file is tests and their helpers

#[allow(dead_code)] // each file of tests uses a part of it
mod shadow;

use grid_types::event::{ExitStatus, OffloadPhase};
use shadow::{Job, anonymous_kib, descriptors, field, title};
use std::fs;
use std::time::{Duration, Instant};

/// The numbers to `count` through a process that moves, into a file.
fn pipeline(count: usize, pause: f64) -> Option<Job> {
    Job::start(&format!(
        "python3 lines.py {count} {pause} | (meant; exec /usr/bin/python3 seen.py) | cat >out
         told ${{PIPESTATUS[@]}}"
    ))
}

/// Lines without end through a process that moves, into `taker`.
fn endless(taker: &str) -> Option<Job> {
    Job::start(&format!(
        "(while :; do echo line; sleep 0.01; done) | (meant; exec cat) | {taker} >out
         told ${{PIPESTATUS[@]}}"
    ))
}

#[test]
fn every_line_comes_once_and_in_order_over_out_home_and_out_again() {
    let Some(job) = pipeline(2500, 0.004) else { return };
    job.flows(20);
    let (pid, out) = job.move_meant();
    assert!(title(pid).contains("seen.py @gpu1"), "{}", title(pid));
    job.flows(50);
    let home = job.cluster.bring_home(out.record.id.as_str());
    job.flows(50);
    job.wait_title(pid, "@head");
    job.cluster.move_out(home.record.home_pid.unwrap());
    job.flows(50);
    job.wait_title(pid, "@gpu1");
    // The producer's end of file came to it, its own to the consumer, and its exit status to the shell.
    assert_eq!(job.status(), "0 5 0");
    job.all_came(2500);
}

#[test]
fn it_ends_at_home_after_a_recall_as_it_would_have() {
    let Some(job) = pipeline(800, 0.004) else { return };
    job.flows(20);
    let (_, out) = job.move_meant();
    job.flows(20);
    job.cluster.bring_home(out.record.id.as_str());
    assert_eq!(job.status(), "0 5 0");
    job.all_came(800);
}

#[test]
fn a_consumer_that_ends_first_ends_the_pipeline_by_sigpipe() {
    let Some(job) = endless("head -n 400") else { return };
    job.move_meant();
    assert_eq!(job.status(), "141 141 0");
    assert_eq!(job.lines(), 400);
}

#[test]
fn agents_and_the_daemon_die_and_the_link_is_cut_while_lines_flow() {
    let Some(job) = pipeline(6000, 0.002) else { return };
    job.flows(20);
    job.move_meant();
    job.flows(50);
    for what in ["daemon", "head", "gpu1"] {
        let pid = if what == "daemon" { job.cluster.daemon_pid() } else { job.cluster.agent_pid(what) };
        job.cluster.kill9(pid);
        job.flows(100);
    }
    job.cluster.wait_ready();
    job.cluster.set_link(false);
    let cut = Instant::now();
    job.rests(Duration::from_secs(3), || job.lines());
    println!("the link was cut for {:?}", cut.elapsed());
    job.cluster.set_link(true);
    job.flows(100);
    job.starts_right();
    assert_eq!(job.status(), "0 5 0");
    job.all_came(6000);
}

#[test]
fn a_worker_that_is_lost_ends_the_shadow_with_113_and_a_word() {
    let Some(job) = endless("cat") else { return };
    let (_, out) = job.move_meant();
    job.flows(20);
    job.cluster.cut_power("gpu1");
    assert_eq!(job.status(), "141 113 0");
    let said = job.guest.read("stderr");
    assert!(said.contains("gpu1") && said.contains("113"), "{said}");
    job.cluster.wait_phase(out.record.id.as_str(), OffloadPhase::Lost);
}

/// 20 MiB from `make.py`, which says how far it is, to `take.py`, which takes nothing before it may.
const MUCH: &str = r#"
cat >make.py <<'E'
import hashlib, os
h = hashlib.sha256()
for i in range(320):
    block = i.to_bytes(4, "big") * 16384
    h.update(block)
    at = 0
    while at < len(block): at += os.write(1, block[at:at + 4096])
    open("sent", "w").write(str(i + 1))
open("made", "w").write(h.hexdigest())
E
cat >take.py <<'E'
import hashlib, os, sys, time
while not os.path.exists("go"): time.sleep(0.02)
open("taken", "w").write(hashlib.sha256(sys.stdin.buffer.read()).hexdigest())
E
python3 make.py | (meant; exec cat) | python3 take.py
told ${PIPESTATUS[@]}
"#;

#[test]
fn a_consumer_that_sleeps_stops_the_producer_and_nothing_grows() {
    let Some(job) = Job::start(MUCH) else { return };
    let (pid, out) = job.move_meant();
    let sent = job.rests(Duration::from_secs(1), || job.guest.read("sent"));
    let tree = job.copies("cat")[0];
    let (here, there) = (anonymous_kib(pid), anonymous_kib(field(tree, "PPid").parse().unwrap()));
    println!("{sent} of 320 blocks of 64 KiB; the shadow holds {here} KiB, the far end {there} KiB");
    assert!(sent.parse::<u64>().unwrap() < 160, "the producer was not stopped: {sent}");
    assert!(here < 6 << 10 && there < 6 << 10, "{here} KiB, {there} KiB");
    // What is in flight comes along.
    job.cluster.bring_home(out.record.id.as_str());
    job.go(0);
    assert_eq!(job.status(), "0 0 0");
    assert_eq!(job.guest.read("taken"), job.guest.read("made"));
}

#[test]
fn what_was_recalled_before_the_cluster_ended_goes_on_behind_its_shadow() {
    let Some(mut job) = pipeline(3000, 0.003) else { return };
    let (pid, out) = job.move_meant();
    job.flows(50);
    let said = job.cluster.grid(&["down", "--recall-first"]);
    assert!(said.code == 0 && said.out.contains("is home"), "{said:?}");
    assert!(title(pid).contains("@head"), "{}", title(pid));
    job.flows(50);
    assert_eq!(job.status(), "0 5 0");
    job.all_came(3000);
    // How it ended was written down meanwhile, for whoever comes next.
    job.up_again();
    let ended = job.cluster.wait_phase(out.record.id.as_str(), OffloadPhase::Ended);
    assert_eq!(ended.record.exit, Some(ExitStatus::Code(5)));
}

/// Each line changes a page of its memory; in the end it tells what the memory is.
const PROVER: &str = r#"
cat >prove.py <<'E'
import hashlib, sys
memory = bytearray(8 << 20)
for line in sys.stdin:
    n = int(line)
    page = n * 7919 % 2048 * 4096
    memory[page:page + 32] = hashlib.sha256(bytes(memory[page:page + 32]) + line.encode()).digest()
    print(n, "seen", flush=True)
open(sys.argv[1], "w").write(hashlib.sha256(memory).hexdigest())
E
cat >numbers.py <<'E'
import os, time
n = 0
while not os.path.exists("go"):
    print(n, flush=True)
    n += 1
    time.sleep(0.01)
E
python3 numbers.py | (meant; exec /usr/bin/python3 prove.py digest) | cat >out
statuses="${PIPESTATUS[@]}"
seq 0 $(($(wc -l <out) - 1)) | python3 prove.py want >/dev/null
told "$statuses"
"#;

#[test]
fn twenty_moves_leave_a_prover_right_and_nothing_behind() {
    let Some(job) = Job::start(PROVER) else { return };
    let (pid, mut view) = job.move_meant();
    let agents = || ["head", "gpu1"].map(|node| descriptors(job.cluster.agent_pid(node)));
    let look = || (descriptors(pid), agents(), job.cluster.namespaces());
    let mut seen = Vec::new();
    for _ in 0..9 {
        job.flows(5);
        let home = job.cluster.bring_home(view.record.id.as_str());
        job.flows(5);
        view = job.cluster.move_out(home.record.home_pid.unwrap());
        seen.push(job.rests(Duration::from_millis(300), look));
    }
    println!("the shadow's descriptors, the agents', namespaces: {seen:?}");
    assert_eq!(seen[1], seen[8], "{seen:?}");
    job.cluster.bring_home(view.record.id.as_str());
    job.go(0);
    assert_eq!(job.status(), "0 0 0");
    job.starts_right();
    let digest = fs::read_to_string(job.guest.dir.join("digest")).unwrap();
    assert_eq!(digest, job.guest.read("want"));
}

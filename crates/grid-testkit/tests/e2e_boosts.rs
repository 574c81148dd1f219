//! What a boost promises: capacity that is really held and really limited, and an end that leaves nothing behind.

#![allow(clippy::unwrap_used)] // all of this file is tests and their helpers

use grid_testkit::cluster::{Cluster, Guest, LIMIT};
use grid_testkit::procs;
use grid_types::api::BoostView;
use grid_types::boost::{BoostState, EndReason};
use grid_types::event::{Event, ExitStatus, OffloadPhase};
use grid_types::exit::FaultClass;
use grid_types::reason::ReasonCode;
use grid_types::units::Resources;
use std::path::Path;
use std::time::{Duration, Instant};

/// CPU time that these processes have had, by the kernel's count.
fn cpu_time(pids: &[i32]) -> Duration {
    let ticks = |pid: &i32| {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
        let fields: Vec<&str> = stat.rsplit_once(')').unwrap().1.split_whitespace().collect();
        fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap()
    };
    Duration::from_millis(pids.iter().map(ticks).sum::<u64>() * 10)
}

/// Who works there, but for shadows: they do no work.
fn working_in(dir: &Path) -> Vec<i32> {
    let there = |pid: &i32| {
        std::fs::read_link(format!("/proc/{pid}/cwd")).is_ok_and(|cwd| cwd == dir) && !procs::is_shadow(*pid)
    };
    procs::all().into_iter().filter(there).collect()
}

#[test]
fn a_process_in_a_lease_of_one_cpu_gets_one_cpu() {
    let Some(cluster) = Cluster::start(1) else { return };
    let spin = "import os, time\nwhile not os.path.exists('go'): time.sleep(0.02)\nos.fork()\nwhile True: pass";
    let guest = Guest::python(&cluster, spin);
    cluster.boost("--cpu 1 --memory 1GiB --duration 2m");
    cluster.move_out(guest.pid());
    guest.process.wait_shadow(LIMIT).unwrap();
    // Two that spin there: without a limit they would have two CPUs.
    std::fs::write(guest.dir.join("go"), "").unwrap();
    let pids = cluster.wait("both", || Some(working_in(&guest.dir)).filter(|pids| pids.len() == 2).ok_or("not two"));
    let (begun, before) = (Instant::now(), cpu_time(&pids));
    let used = cluster.wait("two seconds of CPU", || {
        let used = cpu_time(&pids) - before;
        if used.as_secs() >= 2 { Ok(used) } else { Err(used) }
    });
    let share = used.as_secs_f64() / begun.elapsed().as_secs_f64();
    println!("{share:.2} CPUs");
    assert!(share <= 1.15, "{share:.2} CPUs in a lease of one");
}

#[test]
fn two_requests_at_once_cannot_have_the_same_capacity() {
    let Some(cluster) = Cluster::start(1) else { return };
    let lender = cluster.status().unwrap().nodes.remove(1);
    let all = lender.lendable.unwrap();
    let (cpu, memory) = (format!("{}m", all.cpu.0), format!("{}MiB", all.memory.0 >> 20));
    let words = ["boost", "request", "head", "--cpu", &cpu, "--memory", &memory, "--duration", "2m"];
    let mut both = [cluster.begin(&words), cluster.begin(&words)];
    let mut codes = both.each_mut().map(|child| child.wait().unwrap().code().unwrap());
    codes.sort_unstable();
    assert_eq!(codes, [0, i32::from(FaultClass::NoCapacity.code())]);
    let status = cluster.status().unwrap();
    assert_eq!(status.boosts.len(), 1);
    assert!(status.nodes[1].lent.fits_in(&all), "{:?}", status.nodes[1]);
    // The refusal names the node and its numbers.
    let (code, error) = cluster.refused(&words);
    assert_eq!((code, error.code), (5, Some(ReasonCode::NoFit)));
    assert!(error.details.iter().any(|line| line.starts_with("gpu1") && line.contains(" of ")), "{error:?}");
    let id = status.boosts[0].boost.id.to_string();
    let after: BoostView = cluster.ask(&["boost", "release", &id]);
    assert!(matches!(after.boost.state, BoostState::Ended { why: EndReason::Released, .. }), "{after:?}");
    assert_eq!(cluster.status().unwrap().nodes[1].lent, Resources::default());
}

/// Waits for the boost's end and returns the journal.
fn until_ended(cluster: &Cluster, id: &str) -> Vec<Event> {
    cluster.wait("the boost to end", || {
        let events: Vec<Event> = cluster.events().into_iter().map(|r| r.event).collect();
        let ended = |e: &Event| matches!(e, Event::BoostEnded { boost, .. } if boost.as_str() == id);
        if events.iter().any(ended) { Ok(events) } else { Err(format!("{:?}", events.last())) }
    })
}

fn place(events: &[Event], what: &str, is_it: impl Fn(&Event) -> bool) -> usize {
    events.iter().position(is_it).unwrap_or_else(|| panic!("no {what} in {events:#?}"))
}

const UNTIL_TERM: &str = "
import os, signal
signal.signal(signal.SIGTERM, lambda *_: os._exit(4))
open('ready', 'w').close()
while True: signal.pause()
";

#[test]
fn at_its_time_a_boost_sends_its_guests_home_and_ends() {
    let Some(cluster) = Cluster::start(1) else { return };
    let guest = Guest::python(&cluster, UNTIL_TERM);
    cluster.wait("its handler", || if guest.dir.join("ready").exists() { Ok(()) } else { Err("none") });
    let boost = cluster.boost("--cpu 1 --memory 256MiB --duration 3s");
    let moved = cluster.move_out(guest.pid());
    let events = until_ended(&cluster, boost.boost.id.as_str());
    let order = [
        place(&events, "move", |e| matches!(e, Event::OffloadMoved { .. })),
        place(&events, "end", |e| matches!(e, Event::BoostEnding { why: EndReason::Expired, .. })),
        place(&events, "recall", |e| matches!(e, Event::RecallStarted { .. })),
        place(&events, "return", |e| matches!(e, Event::Recalled { .. })),
        place(&events, "end", |e| matches!(e, Event::BoostEnded { why: EndReason::Expired, .. })),
    ];
    assert!(order.is_sorted(), "{events:#?}");
    let ending = cluster.events().into_iter().find(|r| matches!(r.event, Event::BoostEnding { .. })).unwrap();
    assert!(ending.boot_at >= boost.boost.until, "not before its time");
    let home = cluster.wait_phase(moved.record.id.as_str(), OffloadPhase::Home);
    let pid = nix::unistd::Pid::from_raw(home.record.home_pid.unwrap());
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM).unwrap();
    let ended = cluster.wait_phase(moved.record.id.as_str(), OffloadPhase::Ended);
    assert_eq!(ended.record.exit, Some(ExitStatus::Code(4)));
}

#[test]
fn a_boost_that_was_asked_to_end_its_guests_does() {
    let Some(cluster) = Cluster::start(1) else { return };
    let guest = Guest::script(&cluster, "exec sleep 300");
    let boost = cluster.boost("--cpu 1 --memory 256MiB --duration 3s --at-end end");
    let moved = cluster.move_out(guest.pid());
    until_ended(&cluster, boost.boost.id.as_str());
    let ended = cluster.wait_phase(moved.record.id.as_str(), OffloadPhase::Ended);
    assert_eq!(ended.record.exit, Some(ExitStatus::Signal(9)));
    assert_eq!(working_in(&guest.dir), Vec::<i32>::new());
    guest.process.wait_gone(LIMIT).unwrap();
}

/// Told by a file to do it, leaves a grandchild in a session of its own, and ends.
const LEAVES_A_GRANDCHILD: &str = r#"
import os, sys, time
while not os.path.exists("go"): time.sleep(0.02)
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        while True:
            with open("beats", "a") as f: f.write("x\n")
            time.sleep(0.02)
    os._exit(0)
os.wait()
sys.exit(6)
"#;

#[test]
fn a_grandchild_in_a_session_of_its_own_does_not_survive_its_lease() {
    let Some(cluster) = Cluster::start(1) else { return };
    let guest = Guest::python(&cluster, LEAVES_A_GRANDCHILD);
    let boost = cluster.boost("--cpu 1 --memory 256MiB --duration 2m");
    let moved = cluster.move_out(guest.pid());
    std::fs::write(guest.dir.join("go"), "").unwrap();
    guest.wait_text("beats", |text| text.lines().count() > 10);
    let ended = cluster.wait_phase(moved.record.id.as_str(), OffloadPhase::Ended);
    assert_eq!(ended.record.exit, Some(ExitStatus::Code(6)));
    let after: BoostView = cluster.ask(&["boost", "release", boost.boost.id.as_str()]);
    assert!(matches!(after.boost.state, BoostState::Ended { .. }), "{after:?}");
    assert_eq!(working_in(&guest.dir), Vec::<i32>::new());
    guest.process.wait_gone(LIMIT).unwrap();
    assert_eq!(cluster.status().unwrap().nodes[1].lent, Resources::default());
}

//! Workers reached by a real ssh over a link that is slow, limited, or changes what it carries.

#![allow(clippy::unwrap_used)] // all of this file is tests and their helpers

use grid_testkit::cluster::{Cluster, Guest, undisturbed};
use grid_testkit::lab::Lab;
use grid_testkit::{cost, procs};
use grid_types::event::OffloadPhase;
use std::io::{Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

const MIB: u64 = 1 << 20;

#[test]
fn memory_that_compresses_crosses_a_slow_link_in_fewer_bytes_and_is_right() {
    let lab = Lab::start();
    let Some(cluster) = Cluster::configured(&lab.config("same")) else { return };
    cluster.boost("--cpu 1 --memory 1GiB --duration 5m");
    let args = "--memory 64MiB --steps 8000 --bits 8";
    let guest = Guest::reporting(&cluster, "prover", args);
    lab.set_rate(16 * MIB).unwrap();
    let (sent, _) = lab.carried().unwrap();
    let out = cluster.move_out(guest.pid());
    let (sent_then, got) = lab.carried().unwrap();
    println!("{} bytes for 64 MiB, {:?}", sent_then - sent, out.record.figures);
    assert!(sent_then - sent < 46 * MIB, "{} bytes for 64 MiB", sent_then - sent);
    guest.goes_on();
    cluster.bring_home(out.record.id.as_str());
    let (_, got_then) = lab.carried().unwrap();
    assert!(got_then - got < 46 * MIB, "{} bytes for 64 MiB", got_then - got);
    guest.goes_on();
    let again = cluster.move_out(guest.pid());
    let last = guest.wait_done();
    assert_eq!(last.digest, undisturbed(args).digest);
    cluster.wait_phase(again.record.id.as_str(), OffloadPhase::Ended);
}

#[test]
fn no_more_memory_leaves_a_machine_than_its_limit_allows_and_what_could_not_keep_to_it_stays() {
    let lab = Lab::start();
    let config = lab.config("same").replace("engine: ssh,", "engine: ssh, link_rate_limit: 24MiB,")
        + "limits: {max_frozen: 5s}\n";
    let Some(cluster) = Cluster::configured(&config) else { return };
    cluster.boost("--cpu 1 --memory 1GiB --duration 5m");
    let guest = Guest::reporting(&cluster, "prover", "--memory 48MiB --steps 1000000");
    let dump = |figures: Option<grid_types::event::MoveFigures>| figures.unwrap().dump.unwrap().0;
    let out = cluster.move_out(guest.pid());
    let took = dump(out.record.figures);
    assert!((1_900..4_000).contains(&took), "48 MiB at 24 MiB/s took {took} ms");
    guest.goes_on();
    let home = cluster.bring_home(out.record.id.as_str());
    let took = dump(home.record.figures);
    assert!((1_900..4_000).contains(&took), "48 MiB at 24 MiB/s took {took} ms on its way home");
    guest.goes_on();
    guest.never_went_back();

    let large = Guest::reporting(&cluster, "prover", "--memory 200MiB --steps 1000000");
    let said = cluster.grid(&["offload", "execute", &large.pid().to_string()]);
    assert!(said.code == 4 && said.err.contains("E-MAXFROZEN"), "{said:?}");
    assert!(said.err.contains("execution.link_rate_limit is 24 MiB/s"), "{said:?}");
    large.goes_on();
    assert!(cluster.events().iter().all(|e| !format!("{:?}", e.event).contains(&format!("pid: {}", large.pid()))));
}

/// It works in the guest's folder, on whichever machine.
fn runs_in(pid: i32, guest: &Guest) -> bool {
    std::fs::read_link(format!("/proc/{pid}/cwd")).is_ok_and(|cwd| cwd == *guest.dir)
}

/// Counts, and is larger once it is told so.
const GROWER: &str = r#"
import itertools, os, time
log, more = open("log", "a", buffering=1), b""
for n in itertools.count():
    print(n, file=log)
    if not more and os.path.exists("grow"):
        more = os.urandom(200 << 20)
    time.sleep(0.002)
"#;

#[test]
fn what_grew_too_large_for_the_limit_while_it_was_away_is_not_frozen_on_its_way_home() {
    let lab = Lab::start();
    let config = lab.config("same").replace("engine: ssh,", "engine: ssh, link_rate_limit: 24MiB,")
        + "limits: {max_frozen: 5s}\n";
    let Some(cluster) = Cluster::configured(&config) else { return };
    cluster.boost("--cpu 1 --memory 1GiB --duration 5m");
    let guest = Guest::python(&cluster, GROWER);
    let more = || {
        let from = guest.numbered("log");
        guest.wait_text("log", |text| text.lines().count() > from + 100);
    };
    more();
    let out = cluster.move_out(guest.pid());
    more();
    std::fs::write(guest.dir.join("grow"), "").unwrap();
    let large = || {
        let largest = procs::all().into_iter().filter(|pid| runs_in(*pid, &guest)).map(cost::rss).max();
        if largest > Some(200 * MIB) { Ok(()) } else { Err(largest) }
    };
    cluster.wait("it to grow", large);
    let said = cluster.grid(&["offload", "recall", out.record.id.as_str()]);
    assert!(said.code == 4 && said.err.contains("E-MAXFROZEN"), "{said:?}");
    assert!(said.err.contains("execution.link_rate_limit is 24 MiB/s"), "{said:?}");
    cluster.wait_phase(out.record.id.as_str(), OffloadPhase::Away);
    more();
}

/// Between ssh and the head's end of the channel: once so many bytes have gone to the worker on one connection, changes one.
/// Returns how many are to go; none while it is zero.
fn spoiler(cluster: &Cluster) -> Arc<AtomicU64> {
    let door = cluster.state().join("channel/door.sock");
    let real = door.with_extension("real");
    std::fs::rename(&door, &real).unwrap();
    let listener = UnixListener::bind(&door).unwrap();
    let after = Arc::new(AtomicU64::new(0));
    let told = after.clone();
    std::thread::spawn(move || {
        for worker in listener.incoming().flatten() {
            let head = UnixStream::connect(&real).unwrap();
            let (from, to) = (worker.try_clone().unwrap(), head.try_clone().unwrap());
            std::thread::spawn(move || pass(from, to, |_| {}));
            let (told, mut passed) = (told.clone(), 0);
            let spoil = move |bytes: &mut [u8]| {
                passed += bytes.len() as u64;
                let due = |after: u64| (after > 0 && passed > after).then_some(0);
                if told.fetch_update(Ordering::SeqCst, Ordering::SeqCst, due).is_ok() {
                    bytes[bytes.len() / 2] ^= 1;
                }
            };
            std::thread::spawn(move || pass(head, worker, spoil));
        }
    });
    after
}

fn pass(mut from: UnixStream, mut to: UnixStream, mut change: impl FnMut(&mut [u8])) {
    let mut buffer = vec![0; 1 << 16];
    while let Ok(n @ 1..) = from.read(&mut buffer) {
        change(&mut buffer[..n]);
        if to.write_all(&buffer[..n]).is_err() {
            break;
        }
    }
    let _ = from.shutdown(std::net::Shutdown::Read);
    let _ = to.shutdown(std::net::Shutdown::Write);
}

#[test]
fn a_byte_that_is_changed_on_the_way_fails_the_move_and_the_process_goes_on_at_home() {
    let lab = Lab::start();
    let Some(cluster) = Cluster::configured(&lab.config("same")) else { return };
    let after = spoiler(&cluster);
    // The links that are there go past it.
    lab.drop_connections();
    cluster.wait("ssh to be there again", || {
        let text = std::fs::read_to_string(cluster.state().join("log/reach-gpu1.log")).unwrap_or_default();
        if text.matches("is reached at").count() > 1 { Ok(()) } else { Err(text) }
    });
    cluster.wait_heard();
    cluster.boost("--cpu 1 --memory 1GiB --duration 5m");
    let args = "--memory 64MiB --steps 12000";
    let guest = Guest::reporting(&cluster, "prover", args);
    after.store(20 * MIB, Ordering::SeqCst);
    let said = cluster.grid(&["offload", "execute", &guest.pid().to_string()]);
    assert_eq!(after.load(Ordering::SeqCst), 0, "no byte was changed: {said:?}");
    assert!(said.code == 4 && said.out.contains("Nothing was changed"), "{said:?}");
    guest.goes_on();
    guest.never_went_back();
    // The link is as it was.
    cluster.move_out(guest.pid());
    assert_eq!(guest.wait_done().digest, undisturbed(args).digest);
}

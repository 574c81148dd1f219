//! Real processes moved by a real cluster: out, home, out again, to their end. Every program runs as an unprivileged
//! user, was started without grid, and says itself whether anything of it was lost or done twice.

#![allow(clippy::unwrap_used)] // all of this file is tests and their helpers

use grid_testkit::cluster::{Cluster, Guest, LIMIT, undisturbed};
use grid_types::api::BoostView;
use grid_types::boost::BoostState;
use grid_types::event::{ExitStatus, OffloadPhase};
use grid_types::units::Resources;

/// Ends the boost, and sees the lender have everything back.
fn release(cluster: &Cluster, boost: &BoostView) {
    let after: BoostView = cluster.ask(&["boost", "release", boost.boost.id.as_str()]);
    assert!(matches!(after.boost.state, BoostState::Ended { .. }), "{after:?}");
    let status = cluster.status().unwrap();
    assert!(status.boosts.is_empty() && status.away.is_empty(), "{status:?}");
    assert!(status.nodes.iter().all(|n| n.lent == Resources::default()), "{:?}", status.nodes);
}

#[test]
fn a_prover_ends_at_the_destination_with_the_digest_of_an_undisturbed_run() {
    let Some(cluster) = Cluster::start(2) else { return };
    let want = undisturbed("--memory 64MiB --steps 3000");
    let guest = Guest::reporting(&cluster, "prover", "--memory 64MiB --steps 3000");
    let boost = cluster.boost("--cpu 1 --memory 1GiB --duration 2m");
    let moved = cluster.move_out(guest.pid());
    let figures = moved.record.figures.unwrap();
    let (bytes, downtime) = (figures.bytes.unwrap().0, figures.downtime.unwrap().0);
    assert!(bytes >= 64 << 20 && downtime > 0 && figures.processes == 1, "{figures:?}");
    guest.process.wait_shadow(LIMIT).unwrap();

    let last = guest.wait_done();
    assert_eq!((last.count, last.digest), (want.count, want.digest));
    let ended = cluster.wait_phase(moved.record.id.as_str(), OffloadPhase::Ended);
    assert_eq!(ended.record.exit, Some(ExitStatus::Code(0)));
    let said = cluster.grid(&["offload", "show", moved.record.id.as_str()]);
    assert!(said.code == 0 && said.out.contains("exit status 0"), "{said:?}");
    guest.process.wait_gone(LIMIT).unwrap();
    release(&cluster, &boost);
}

#[test]
fn a_prover_goes_out_comes_home_and_goes_out_again() {
    let Some(cluster) = Cluster::start(2) else { return };
    let args = "--memory 64MiB --steps 8000";
    let guest = Guest::reporting(&cluster, "prover", args);
    let boost = cluster.boost("--cpu 1 --memory 1GiB --duration 2m");
    let out = cluster.move_out(guest.pid());
    guest.goes_on();
    let home = cluster.bring_home(out.record.id.as_str());
    guest.goes_on();
    let pid = home.record.home_pid.unwrap();
    assert!(std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap().contains("\nUid:\t65534\t65534"));
    let again = cluster.move_out(pid);
    assert_ne!(again.record.id, out.record.id);
    let last = guest.wait_done();
    assert_eq!(last.digest, undisturbed(args).digest);
    cluster.wait_phase(again.record.id.as_str(), OffloadPhase::Ended);
    release(&cluster, &boost);
}

#[test]
fn a_process_that_came_home_ends_there_like_any_other() {
    let Some(cluster) = Cluster::start(1) else { return };
    let guest = Guest::reporting(&cluster, "prover", "--memory 32MiB --steps 4000");
    let boost = cluster.boost("--cpu 1 --memory 1GiB --duration 2m");
    let out = cluster.move_out(guest.pid());
    cluster.bring_home(out.record.id.as_str());
    release(&cluster, &boost);
    let last = guest.wait_done();
    assert_eq!(last.digest, undisturbed("--memory 32MiB --steps 4000").digest);
    let ended = cluster.wait_phase(out.record.id.as_str(), OffloadPhase::Ended);
    assert_eq!(ended.record.exit, Some(ExitStatus::Code(0)));
}

#[test]
fn a_family_of_processes_keeps_all_it_has_and_its_exit_status() {
    let Some(cluster) = Cluster::start(1) else { return };
    let guest = Guest::reporting(&cluster, "family", "--rounds 400");
    let boost = cluster.boost("--cpu 1 --memory 1GiB --duration 2m");
    let moved = cluster.move_out(guest.pid());
    assert_eq!(moved.record.figures.unwrap().processes, 2);
    let last = guest.wait_done();
    assert_eq!((last.count, last.error), (400, None));
    let ended = cluster.wait_phase(moved.record.id.as_str(), OffloadPhase::Ended);
    assert_eq!(ended.record.exit, Some(ExitStatus::Code(7)), "{}", guest.process.stderr().unwrap());
    release(&cluster, &boost);
}

#[test]
fn the_freezer_of_cgroup_v2_holds_as_well() {
    let Some(cluster) = Cluster::frozen_by_v2(1) else { return };
    let args = "--memory 64MiB --steps 6000";
    let guest = Guest::reporting(&cluster, "prover", args);
    let boost = cluster.boost("--cpu 1 --memory 1GiB --duration 2m");
    let out = cluster.move_out(guest.pid());
    guest.goes_on();
    let home = cluster.bring_home(out.record.id.as_str());
    let pid = home.record.home_pid.unwrap();
    let groups = std::fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap();
    assert!(groups.lines().any(|l| l.starts_with("0::/grid-")), "it is in a group of v2: {groups}");
    let last = guest.wait_done();
    assert_eq!(last.digest, undisturbed(args).digest);
    release(&cluster, &boost);
}

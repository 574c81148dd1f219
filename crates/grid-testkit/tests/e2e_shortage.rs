//! A full disk under a ledger, and no memory at the destination: before the commit it runs on at home, after it where it
//! went, and nothing stays frozen.

#![allow(clippy::unwrap_used)] // all of this file is tests and their helpers

use grid_testkit::cluster::{Cluster, Guest, LIMIT};
use grid_types::api::OffloadView;
use grid_types::event::{ExitStatus, OffloadPhase};
use grid_types::exit::FaultClass;
use grid_types::fault::{Effect, FaultPoint};
use grid_types::reason::ReasonCode;

const CONFIG: &str = "
name: shortage
nodes:
  - {name: head, role: head, resource_sharing: {can_share: false}}
  - {name: gpu1, role: worker, resource_sharing: {can_share: true, max_share_cpu: 8, max_share_memory_gb: 2}}
";
const PROVER: &str = "--memory 16MiB --steps 4000";

fn only_move(cluster: &Cluster) -> OffloadView {
    cluster.offloads().into_iter().next_back().unwrap()
}

/// The disk fills up at this step. What was begun comes to its end all the same, and nothing more is begun.
fn the_disk_is_full(node: &'static str, point: FaultPoint) {
    let Some(cluster) = Cluster::with_small_disk(CONFIG, node) else { return };
    cluster.boost("--cpu 2 --memory 1GiB --duration 5m");
    let (guest, other) = (Guest::reporting(&cluster, "prover", PROVER), Guest::reporting(&cluster, "prover", PROVER));
    let mut armed = cluster.arm(node, point, Effect::Hang);
    let mut command = cluster.begin(&["offload", "execute", &guest.pid().to_string()]);
    cluster.wait("the step", || armed.is_hit());
    cluster.fill_disk();
    armed.lift();
    command.wait().unwrap();
    cluster.wait_phase(only_move(&cluster).record.id.as_str(), OffloadPhase::Away);
    guest.process.wait_shadow(LIMIT).unwrap();
    guest.goes_on();
    // Nothing more is begun, and that is said before anything is frozen.
    let said = cluster.grid(&["offload", "execute", &other.pid().to_string()]);
    assert_eq!(said.code, i32::from(FaultClass::Refused.code()), "{said:?}");
    assert!((said.out + &said.err).contains(ReasonCode::Disk.as_str()));
    assert!(other.process.runs_here());
    other.goes_on();
    // With room again all is well again.
    cluster.empty_disk();
    cluster.move_out(other.pid());
    guest.wait_done();
    other.wait_done();
}

#[test]
fn the_disk_under_the_source_s_ledger_is_full_in_mid_move() {
    the_disk_is_full("head", FaultPoint::PersistFrozen);
}

#[test]
fn the_disk_under_the_lender_s_ledger_is_full_in_mid_move() {
    the_disk_is_full("gpu1", FaultPoint::PersistStaged);
}

#[test]
fn no_memory_while_restoring_leaves_it_at_home() {
    let Some(cluster) = Cluster::faulty(CONFIG) else { return };
    let boost = cluster.boost("--cpu 1 --memory 512MiB --duration 5m").boost;
    let guest = Guest::reporting(&cluster, "prover", "--memory 128MiB --steps 4000");
    let mut armed = cluster.arm("gpu1", FaultPoint::StartRestore, Effect::Hang);
    let mut command = cluster.begin(&["offload", "execute", &guest.pid().to_string()]);
    cluster.wait("the step", || armed.is_hit());
    cluster.squeeze("gpu1", boost.lease.as_str(), 16 << 20);
    armed.lift();
    assert!(!command.wait().unwrap().success());
    let failed = cluster.wait_phase(only_move(&cluster).record.id.as_str(), OffloadPhase::Failed);
    println!("{:?}", failed.record.reasons);
    assert!(guest.process.runs_here());
    guest.wait_done();
}

#[test]
fn a_guest_that_outgrows_its_lease_ends_there_and_is_not_started_again() {
    let Some(cluster) = Cluster::start(1) else { return };
    cluster.boost("--cpu 1 --memory 256MiB --duration 5m");
    let code = "import os, time
while not os.path.exists('grow'): time.sleep(0.01)
hoard = []
while True: hoard.append(bytearray(1 << 20))";
    let (guest, neighbour) = (Guest::python(&cluster, code), Guest::reporting(&cluster, "prover", PROVER));
    let moved = cluster.move_out(guest.pid());
    cluster.boost("--cpu 1 --memory 256MiB --duration 5m");
    cluster.move_out(neighbour.pid());
    std::fs::write(guest.dir.join("grow"), "").unwrap();
    let ended = cluster.wait_phase(moved.record.id.as_str(), OffloadPhase::Ended);
    assert_eq!(ended.record.exit, Some(ExitStatus::Signal(9)));
    guest.process.wait_gone(LIMIT).unwrap();
    neighbour.wait_done();
}

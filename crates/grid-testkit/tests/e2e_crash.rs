//! `kill -9` of the daemon and of agents, before, during and after moves. The prover's digest and its `done` are the
//! proof that there was exactly one of it all the time: nothing lost, nothing done twice.

#![allow(clippy::unwrap_used)] // all of this file is tests and their helpers

use grid_testkit::cluster::{Cluster, Guest, LIMIT, undisturbed};
use grid_types::api::{BoostView, OffloadView};
use grid_types::event::{ExitStatus, OffloadPhase};
use grid_types::fault::{Effect, FaultPoint};
use grid_types::reason::ReasonCode;

/// Its dump takes long enough to be hit in the middle.
const LARGE: &str = "--memory 768MiB --steps 6000";
const SMALL: &str = "--memory 64MiB --steps 6000";
const NODES: &str = "
name: crash
nodes:
  - {name: head, role: head, resource_sharing: {can_share: false}}
  - {name: gpu1, role: worker, resource_sharing: {can_share: true, max_share_cpu: 8, max_share_memory_gb: 4}}
";
const BOOST: &str = "--cpu 1 --memory 3GiB --duration 3m";

fn ends_right(guest: &Guest, args: &str) {
    let (last, want) = (guest.wait_done(), undisturbed(args));
    assert_eq!((last.count, last.digest), (want.count, want.digest), "{}", guest.process.stderr().unwrap());
}

/// It ended where it had gone, and its exit status is known.
fn ended_with_0(cluster: &Cluster, id: &str) {
    let ended = cluster.wait_phase(id, OffloadPhase::Ended);
    assert_eq!(ended.record.exit, Some(ExitStatus::Code(0)));
}

/// It never left, and can be moved as if nothing had been.
fn stayed(cluster: &Cluster, guest: &Guest, view: &OffloadView) -> OffloadView {
    let failed = cluster.wait_phase(view.record.id.as_str(), OffloadPhase::Failed);
    assert!(guest.process.runs_here(), "it is at home: {failed:?}");
    guest.goes_on();
    failed
}

#[test]
fn the_daemon_dies_while_a_process_moves() {
    let Some(cluster) = Cluster::start(1) else { return };
    let guest = Guest::reporting(&cluster, "prover", LARGE);
    cluster.boost(BOOST);
    let (view, mut command) = cluster.begin_move(guest.pid());
    cluster.kill9(cluster.daemon_pid());
    command.wait().unwrap();
    cluster.wait_ready();
    cluster.wait_phase(view.record.id.as_str(), OffloadPhase::Away);
    guest.goes_on();
    ends_right(&guest, LARGE);
    ended_with_0(&cluster, view.record.id.as_str());
}

#[test]
fn the_daemon_dies_right_after_the_commit() {
    let Some(cluster) = Cluster::start(1) else { return };
    let guest = Guest::reporting(&cluster, "prover", SMALL);
    cluster.boost(BOOST);
    let (view, mut command) = cluster.begin_move(guest.pid());
    let daemon = cluster.daemon_pid();
    cluster
        .wait("the copy at home to be let go", || if guest.process.runs_here() { Err("it is there") } else { Ok(()) });
    cluster.kill9(daemon);
    command.wait().unwrap();
    cluster.wait_ready();
    let id = view.record.id.as_str();
    let away = cluster.wait_phase(id, OffloadPhase::Away);
    assert!(away.record.figures.is_some(), "{away:?}");
    // What people moved is not grid's doing, and what the lender's kernel read back is known still.
    assert_eq!(cluster.status().unwrap().auto.moved, 0);
    let enforced = cluster.ask::<Vec<BoostView>>(&["boost", "list"]).remove(0).enforced;
    assert!(enforced.is_some_and(|text| text.contains("reads cpu 1.0")), "{away:?}");
    // The way home is known too.
    cluster.wait("its number there", || cluster.wait_phase(id, OffloadPhase::Away).pid_there.ok_or("none"));
    cluster.bring_home(id);
    ends_right(&guest, SMALL);
    ended_with_0(&cluster, id);
}

#[test]
fn the_agent_at_home_dies_before_the_commit() {
    let Some(cluster) = Cluster::start(1) else { return };
    let guest = Guest::reporting(&cluster, "prover", LARGE);
    cluster.boost(BOOST);
    let (view, mut command) = cluster.begin_move(guest.pid());
    cluster.kill9(cluster.agent_pid("head"));
    command.wait().unwrap();
    cluster.wait_ready();
    stayed(&cluster, &guest, &view);
    ends_right(&guest, LARGE);
}

#[test]
fn the_agent_at_home_dies_while_a_process_is_away() {
    let Some(cluster) = Cluster::start(1) else { return };
    let guest = Guest::reporting(&cluster, "prover", SMALL);
    cluster.boost(BOOST);
    let moved = cluster.move_out(guest.pid());
    cluster.kill9(cluster.agent_pid("head"));
    cluster.wait_ready();
    guest.goes_on();
    cluster.bring_home(moved.record.id.as_str());
    // The tree at home hangs on an agent too: on its record, not on its life.
    cluster.kill9(cluster.agent_pid("head"));
    ends_right(&guest, SMALL);
    ended_with_0(&cluster, moved.record.id.as_str());
}

#[test]
fn the_lenders_agent_dies_after_the_move() {
    let Some(cluster) = Cluster::start(1) else { return };
    let guest = Guest::reporting(&cluster, "family", "--rounds 500");
    cluster.boost(BOOST);
    let moved = cluster.move_out(guest.pid());
    cluster.kill9(cluster.agent_pid("gpu1"));
    guest.goes_on();
    cluster.wait_ready();
    let last = guest.wait_done();
    assert_eq!((last.count, last.error), (500, None));
    let ended = cluster.wait_phase(moved.record.id.as_str(), OffloadPhase::Ended);
    assert_eq!(ended.record.exit, Some(ExitStatus::Code(7)));
}

#[test]
fn the_lenders_agent_dies_while_it_stages() {
    let Some(cluster) = Cluster::start(1) else { return };
    let guest = Guest::reporting(&cluster, "prover", LARGE);
    cluster.boost(BOOST);
    let (view, mut command) = cluster.begin_move(guest.pid());
    cluster.kill9(cluster.agent_pid("gpu1"));
    command.wait().unwrap();
    stayed(&cluster, &guest, &view);
    cluster.wait_ready();
    // And it can go once all is well again.
    let moved = cluster.move_out(guest.pid());
    ends_right(&guest, LARGE);
    ended_with_0(&cluster, moved.record.id.as_str());
}

#[test]
fn a_cluster_whose_head_died_whole_is_taken_over_with_its_guests() {
    let Some(mut cluster) = Cluster::start(1) else { return };
    let guest = Guest::reporting(&cluster, "prover", SMALL);
    cluster.boost(BOOST);
    let moved = cluster.move_out(guest.pid());
    let worker = cluster.node_pid("gpu1");
    cluster.behead();
    guest.goes_on();
    // Nothing is ended unasked, and what to do is said.
    let said = cluster.grid(&["down", "--recall-first"]);
    assert!(said.code == 7 && said.err.contains("grid up takes the cluster over"), "{said:?}");
    assert!(cluster.grid(&["up", "--local", "1", "--dry-run"]).out.contains("would be taken over: gpu1"));
    cluster.up_again(&["--local", "1"]);
    assert_eq!(cluster.node_pid("gpu1"), worker, "the worker is the same");
    guest.goes_on();
    cluster.bring_home(moved.record.id.as_str());
    ends_right(&guest, SMALL);
    ended_with_0(&cluster, moved.record.id.as_str());
}

#[test]
fn an_embedded_cluster_that_left_what_was_away_is_taken_over_with_it() {
    let Some(mut cluster) = Cluster::start(1) else { return };
    let guest = Guest::reporting(&cluster, "prover", SMALL);
    cluster.boost(BOOST);
    let moved = cluster.move_out(guest.pid());
    let worker = cluster.node_pid("gpu1");
    let said = cluster.grid(&["down", "--leave"]);
    assert!(said.code == 0 && said.out.contains("runs on at gpu1"), "{said:?}");
    cluster.supervisor_ended();
    guest.goes_on();
    cluster.up_again(&["--local", "1"]);
    assert_eq!(cluster.node_pid("gpu1"), worker, "the worker is the same");
    cluster.bring_home(moved.record.id.as_str());
    ends_right(&guest, SMALL);
    ended_with_0(&cluster, moved.record.id.as_str());
}

#[test]
fn a_move_is_cancelled_before_the_commit() {
    let Some(cluster) = Cluster::start(1) else { return };
    let guest = Guest::reporting(&cluster, "prover", LARGE);
    cluster.boost(BOOST);
    let (view, mut command) = cluster.begin_move(guest.pid());
    let said: OffloadView = cluster.ask(&["offload", "cancel", view.record.id.as_str()]);
    assert_eq!(said.record.phase, OffloadPhase::Failed);
    assert_eq!(said.record.reasons.last().map(|r| r.code), Some(ReasonCode::Cancelled));
    assert!(!command.wait().unwrap().success(), "the command that moved it says that it did not move");
    stayed(&cluster, &guest, &view);
    ends_right(&guest, LARGE);
}

#[test]
fn the_lenders_agent_dies_while_a_process_goes_home() {
    let Some(cluster) = Cluster::start(1) else { return };
    let guest = Guest::reporting(&cluster, "prover", LARGE);
    cluster.boost(BOOST);
    let moved = cluster.move_out(guest.pid());
    let id = moved.record.id.as_str();
    let mut command = cluster.begin(&["offload", "recall", id]);
    cluster.wait("CRIU to dump on the lender", || cluster.criu_runs_on("gpu1"));
    cluster.kill9(cluster.agent_pid("gpu1"));
    command.wait().unwrap();
    cluster.wait_ready();
    // It was before the commit: it is still away, and its next way home is open.
    cluster.wait_phase(id, OffloadPhase::Away);
    guest.goes_on();
    cluster.bring_home(id);
    ends_right(&guest, LARGE);
    ended_with_0(&cluster, id);
}

/// What the agent that died had measured is told; what it took with it is told as unknown.
#[test]
fn a_move_that_ends_after_its_agent_died_has_no_figures_that_nobody_measured() {
    let Some(cluster) = Cluster::faulty(NODES) else { return };
    let guest = Guest::reporting(&cluster, "prover", SMALL);
    cluster.boost("--cpu 1 --memory 1GiB --duration 3m");
    let armed = cluster.arm("head", FaultPoint::SendGo, Effect::Hang);
    let mut command = cluster.begin(&["offload", "execute", &guest.pid().to_string()]);
    cluster.wait("the commit", || armed.is_hit());
    cluster.kill9(cluster.agent_pid("head"));
    drop(armed);
    command.wait().unwrap();
    let id = cluster.offloads().remove(0).record.id.to_string();
    let figures = cluster.wait_phase(&id, OffloadPhase::Away).record.figures.unwrap();
    assert!(figures.bytes.is_some_and(|b| b.0 > 64 << 20) && figures.processes == 1, "{figures:?}");
    assert_eq!((figures.downtime, figures.total, figures.dumped_as_owner), (None, None, Some(true)));
    let said = cluster.grid(&["offload", "show", &id]).out;
    assert!(said.contains("in 1 process, silent for -, - in all, dumped as its owner"), "{said}");
    ends_right(&guest, SMALL);
}

/// The copy at home is frozen or about to be, the other is being restored: the commit may or may not come first. Either
/// way there is one copy that goes on.
fn an_agent_dies_around_the_commit(node: &str) {
    let Some(cluster) = Cluster::start(1) else { return };
    let guest = Guest::reporting(&cluster, "prover", LARGE);
    cluster.boost(BOOST);
    let agent = cluster.agent_pid(node);
    let (view, mut command) = cluster.begin_move(guest.pid());
    cluster.wait("CRIU to restore on the lender", || cluster.criu_runs_on("gpu1"));
    cluster.kill9(agent);
    command.wait().unwrap();
    cluster.wait_ready();
    let settled = cluster.wait("the move to be over", || {
        let view = cluster.offloads().into_iter().find(|o| o.record.id == view.record.id).ok_or("unknown")?;
        match view.record.phase {
            OffloadPhase::Away | OffloadPhase::Failed => Ok(view.record.phase),
            _ => Err("it is under way"),
        }
    });
    println!("{settled:?}");
    match settled {
        OffloadPhase::Failed => assert!(guest.process.runs_here()),
        _ => guest.process.wait_shadow(LIMIT).unwrap(),
    }
    guest.goes_on();
    ends_right(&guest, LARGE);
    if settled == OffloadPhase::Away {
        ended_with_0(&cluster, view.record.id.as_str());
    }
}

#[test]
fn the_agent_at_home_dies_around_the_commit() {
    an_agent_dies_around_the_commit("head");
}

#[test]
fn the_lenders_agent_dies_around_the_commit() {
    an_agent_dies_around_the_commit("gpu1");
}

/// Nobody but a person can say of a silent machine that it does not come back. Where it does all the same, its copy is ended.
#[test]
fn a_silent_machine_is_said_to_be_gone_and_the_copy_at_home_goes_on() {
    let Some(cluster) = Cluster::faulty(NODES) else { return };
    let guest = Guest::reporting(&cluster, "prover", "--memory 64MiB --steps 1000000");
    cluster.boost(BOOST);
    let mut armed = cluster.arm("gpu1", FaultPoint::SendStarted, Effect::Hang);
    let mut command = cluster.begin(&["offload", "execute", &guest.pid().to_string()]);
    cluster.wait("it to run there", || armed.is_hit());
    let resolve = |gone: &[&str]| cluster.grid(&[&["offload", "resolve", "last", "--accept-repeat"], gone].concat());
    let said = resolve(&["--gone"]);
    assert!(said.code == 12 && said.err.contains("gpu1 answers"), "{said:?}");
    cluster.set_asleep("gpu1", true);
    cluster.wait("it to count as silent", || {
        let said = resolve(&[]);
        if said.code == 12 && said.err.contains("--gone") { Ok(()) } else { Err(said) }
    });
    let said = resolve(&["--gone"]);
    assert_eq!(said.code, 0, "{said:?}");
    assert_eq!(cluster.offloads()[0].record.phase, OffloadPhase::Home);
    command.wait().unwrap();
    guest.goes_on();
    assert!(guest.process.runs_here());
    armed.lift();
    cluster.set_asleep("gpu1", false);
    cluster.wait("the copy there to end", || {
        let said = cluster.grid(&["boost", "release", "last"]);
        if said.code == 0 { Ok(()) } else { Err(said) }
    });
    guest.goes_on();
}

//! Automatic offloading when a boost becomes active. The rules name this test's own programs and protect all others:
//! what else runs on the machine is never touched.

#![allow(clippy::unwrap_used)] // all of this file is tests and their helpers

use grid_testkit::cluster::{Cluster, Guest, own_programs, undisturbed};
use grid_types::api::OffloadView;
use grid_types::event::{Event, HookOutcome, OffloadPhase};
use grid_types::plan::{Plan, PlanOutcome};

const CONFIG: &str = "
name: auto
nodes:
  - {name: head, role: head, resource_sharing: {can_share: false}}
  - {name: gpu1, role: worker, resource_sharing: {can_share: true, max_share_cpu: 8, max_share_memory_gb: 2}}
";

/// A cluster in this mode, and so many provers on its head.
fn start(mode: &str, guests: usize, args: &str) -> Option<(Cluster, Vec<Guest>)> {
    let cluster = Cluster::configured(&own_programs(CONFIG, &format!("{{mode: {mode}}}")))?;
    let guests = (0..guests).map(|_| Guest::reporting(&cluster, "prover", args)).collect();
    Some((cluster, guests))
}

/// What the built-in hook said of the only boost.
fn hook_said(cluster: &Cluster) -> HookOutcome {
    cluster.wait("the hook to finish", || {
        let finished = |e| match e {
            Event::HookFinished { outcome, .. } => Some(outcome),
            _ => None,
        };
        cluster.events().into_iter().find_map(|r| finished(r.event)).ok_or("it runs")
    })
}

#[test]
fn an_activated_boost_is_filled_with_at_most_five_processes() {
    let args = "--memory 16MiB --steps 6000";
    let Some((cluster, guests)) = start("'on'", 6, args) else { return };
    cluster.boost("--cpu 6 --memory 1GiB --duration 2m");
    let said = hook_said(&cluster);
    assert!(matches!(said, HookOutcome::Done { .. }), "{said:?}");
    let moved: Vec<OffloadView> = cluster.offloads();
    assert_eq!(moved.len(), 5, "{said:?}");
    assert_eq!(cluster.status().unwrap().auto.moved, 5, "these it chose by itself");
    assert!(moved.iter().all(|o| o.record.figures.is_some()), "{moved:#?}");
    cluster.wait("five to have left home", || match guests.iter().filter(|g| g.process.runs_here()).count() {
        1 => Ok(()),
        other => Err(other),
    });
    let want = undisturbed(args).digest;
    for guest in &guests {
        assert_eq!(guest.wait_done().digest, want);
    }
    for offload in moved {
        cluster.wait_phase(offload.record.id.as_str(), OffloadPhase::Ended);
    }
}

#[test]
fn observing_moves_nothing_and_its_plan_can_be_applied_once() {
    let args = "--memory 16MiB --steps 5000";
    let Some((cluster, guests)) = start("observe", 2, args) else { return };
    cluster.boost("--cpu 6 --memory 1GiB --duration 2m");
    let said = hook_said(&cluster);
    assert!(matches!(&said, HookOutcome::Done { detail } if detail.contains("would move 2 of")), "{said:?}");
    assert!(cluster.offloads().is_empty() && guests.iter().all(|g| g.process.runs_here()));
    let plan: Plan = cluster.ask(&["plan", "show", "last"]);
    assert_eq!((plan.steps.len(), &plan.outcome), (2, &PlanOutcome::Observed));

    let moved: Vec<OffloadView> = cluster.ask(&["plan", "apply", plan.id.as_str()]);
    assert_eq!(moved.len(), 2);
    assert!(moved.iter().all(|o| o.record.phase == OffloadPhase::Away), "{moved:#?}");
    let (code, error) = cluster.refused(&["plan", "apply", plan.id.as_str()]);
    assert_eq!(code, 12, "{error:?}");
    let want = undisturbed(args).digest;
    for guest in &guests {
        assert_eq!(guest.wait_done().digest, want);
    }
}

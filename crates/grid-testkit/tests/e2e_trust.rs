//! Holding grid back: `grid stop` with and without the daemon, `grid keep`, and who stands behind each event.

#![allow(clippy::unwrap_used)] // all of this file is tests and their helpers

use grid_testkit::cluster::{Cluster, Guest, LIMIT, own_programs, undisturbed};
use grid_testkit::procs::NOBODY;
use grid_types::api::{BoostView, KeepView, OffloadView, ScanReply};
use grid_types::boost::BoostState;
use grid_types::event::{Actor, Event, EventRecord, HookOutcome, OffloadPhase};
use grid_types::reason::ReasonCode;
use grid_types::stop::{StopAnswer, StopPlace};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::process::Command;

/// Two people and a group without names on this machine; the group may boost, and stop.
const BOB: u32 = 65533;
const BOOSTERS: u32 = 64243;
const SMALL: &str = "--memory 16MiB --steps 16000";
const LARGE: &str = "--memory 768MiB --steps 16000";

const CONFIG: &str = "
name: trust
nodes:
  - {name: head, role: head, resource_sharing: {can_share: false}}
  - {name: gpu1, role: worker, resource_sharing: {can_share: true, max_share_cpu: 8, max_share_memory_gb: 4}}
users: {boost_group: '64243'}
";

fn cluster(mode: &str) -> Option<Cluster> {
    Cluster::configured(&own_programs(CONFIG, mode))
}

fn ends_right(guest: &Guest, args: &str) {
    let (last, want) = (guest.wait_done(), undisturbed(args));
    assert_eq!((last.count, last.digest), (want.count, want.digest), "{}", guest.process.stderr().unwrap());
}

fn answers(cluster: &Cluster) -> Vec<StopAnswer> {
    let place = StopPlace::of(cluster.state());
    let dir = std::fs::read_dir(place.answers).unwrap().flatten();
    dir.filter_map(|e| serde_json::from_slice(&std::fs::read(e.path()).ok()?).ok()).collect()
}

fn by(record: &EventRecord) -> (Option<u32>, Option<&str>) {
    match &record.actor {
        Actor::User { uid, tty, .. } => (Some(*uid), tty.as_deref()),
        Actor::Rule { name } => (None, Some(name)),
        Actor::Lender { .. } | Actor::Daemon => (None, None),
    }
}

fn find(cluster: &Cluster, what: &str, is_it: impl Fn(&Event) -> bool) -> EventRecord {
    let all = cluster.events();
    all.iter().rev().find(|r| is_it(&r.event)).cloned().unwrap_or_else(|| panic!("no {what} in {all:#?}"))
}

#[test]
fn stop_thaws_what_is_not_committed_and_lets_what_has_moved_go_on() {
    let Some(cluster) = cluster("off") else { return };
    let (away, moving) = (Guest::reporting(&cluster, "prover", SMALL), Guest::reporting(&cluster, "prover", LARGE));
    let boost = cluster.boost("--cpu 2 --memory 3GiB --duration 5m");
    let there = cluster.move_out(away.pid());
    let (view, mut command) = cluster.begin_move(moving.pid());

    let would = cluster.grid(&["stop", "--dry-run"]);
    assert!(would.code == 0 && would.out.contains("is under way"), "{would:?}");
    let said = cluster.grid(&["stop"]);
    assert!(said.code == 0 && said.out.contains("1 move undone"), "{said:?}");
    command.wait().unwrap();
    let undone = cluster.wait_phase(view.record.id.as_str(), OffloadPhase::Failed);
    assert_eq!(undone.record.reasons.last().map(|r| r.code), Some(ReasonCode::Stop), "{undone:?}");
    moving.goes_on();
    away.goes_on();
    let status = cluster.status().unwrap().stopped.unwrap();
    assert!(status.undone() == 1 && status.took().is_some(), "{status:?}");

    // Nothing that freezes begins, and each refusal names its fix.
    let id = there.record.id.as_str();
    for words in [&["offload", "execute", &moving.pid().to_string()][..], &["offload", "recall", id]] {
        let (code, error) = cluster.refused(words);
        assert_eq!((code, error.code), (4, Some(ReasonCode::Stop)), "{error:?}");
        assert!(error.hint.unwrap().contains("grid stop --lift"));
    }
    // A boost may be released; what lives in it cannot come home now, and that is said.
    let released: BoostView = cluster.ask(&["boost", "release", boost.boost.id.as_str()]);
    assert!(
        matches!(&released.boost.state, BoostState::Overdue { detail } if detail.contains("stopped")),
        "{released:?}"
    );

    let lifted = cluster.grid(&["stop", "--lift"]);
    assert!(lifted.code == 0 && lifted.out.contains("may move again"), "{lifted:?}");
    assert_eq!(cluster.status().unwrap().stopped, None);
    cluster.bring_home(id);
    ends_right(&away, SMALL);
    ends_right(&moving, LARGE);
    let is_stop = |e: &Event| matches!(e, Event::Stopped { .. });
    assert_eq!(by(&find(&cluster, "stop", is_stop)).0, Some(0));
    assert_eq!(by(&find(&cluster, "lift", |e| matches!(e, Event::StopLifted {}))).0, Some(0));
}

#[test]
fn agents_heed_the_file_without_the_daemon() {
    let Some(cluster) = cluster("off") else { return };
    let guest = Guest::reporting(&cluster, "prover", LARGE);
    cluster.boost("--cpu 1 --memory 3GiB --duration 5m");
    let (view, mut command) = cluster.begin_move(guest.pid());
    let daemon = Pid::from_raw(cluster.daemon_pid());
    kill(daemon, Signal::SIGSTOP).unwrap();
    // Not even the command: a file by anybody's hand who may write there.
    std::fs::write(cluster.state().join("control/stop"), "").unwrap();
    let head = cluster.wait("the head's agent to have nothing frozen", || {
        answers(&cluster).into_iter().find(|a| a.node.as_str() == "head" && a.took.is_some()).ok_or("no answer")
    });
    assert_eq!(head.undone, std::slice::from_ref(&view.record.attempt), "{head:?}");
    guest.goes_on();
    kill(daemon, Signal::SIGCONT).unwrap();
    command.wait().unwrap();
    cluster.wait_phase(view.record.id.as_str(), OffloadPhase::Failed);
    // The daemon finds it when it looks again, and says whose file it is.
    let stopped = cluster.wait("the daemon to note it", || {
        cluster.events().into_iter().find(|r| matches!(r.event, Event::Stopped { .. })).ok_or("not yet")
    });
    assert_eq!(by(&stopped), (Some(0), None));
    std::fs::remove_file(cluster.state().join("control/stop")).unwrap();
    cluster.wait("agents to forget it", || if answers(&cluster).is_empty() { Ok(()) } else { Err("they have not") });
    cluster.move_out(guest.pid());
    ends_right(&guest, LARGE);
}

#[test]
fn an_order_by_hand_is_in_the_journal_however_short_it_stood() {
    // The daemon's own look at the file comes far too late.
    let text = own_programs(CONFIG, "{mode: 'off', check_interval_seconds: 3600}");
    let Some(cluster) = Cluster::configured(&text) else { return };
    let file = cluster.state().join("control/stop");
    for _ in 0..3 {
        std::fs::write(&file, "").unwrap();
        std::thread::sleep(std::time::Duration::from_millis(50));
        std::fs::remove_file(&file).unwrap();
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
    assert_eq!(cluster.grid(&["stop"]).code, 0);
    assert_eq!(cluster.grid(&["stop", "--lift"]).code, 0);
    let orders = || -> Vec<_> {
        let all = cluster.events();
        let word = |r: &EventRecord| match r.event {
            Event::Stopped { .. } => Some(("stopped", by(r).0)),
            Event::StopLifted {} => Some(("lifted", by(r).0)),
            _ => None,
        };
        all.iter().filter_map(word).collect()
    };
    let by_hand = [("stopped", Some(0)), ("lifted", None)].repeat(3);
    let want = [by_hand, vec![("stopped", Some(0)), ("lifted", Some(0))]].concat();
    cluster
        .wait("the orders to be recorded", || if orders() == want { Ok(()) } else { Err(format!("{:?}", orders())) });
    // Nothing comes after them: each is told once.
    std::thread::sleep(std::time::Duration::from_millis(1500));
    assert_eq!(orders(), want);
}

#[test]
fn root_and_the_group_may_stop_and_nobody_else() {
    let Some(cluster) = cluster("off") else { return };
    for words in [&["stop"][..], &["stop", "--lift"]] {
        if words.len() == 2 {
            assert_eq!(cluster.grid(&["stop"]).code, 0);
        }
        let (code, error) = cluster.refused_to(BOB, &[], words);
        assert_eq!((code, error.code), (6, Some(ReasonCode::Right)), "{error:?}");
    }
    let lifted = cluster.grid_as(BOB, &[BOOSTERS], &["stop", "--lift"]);
    assert!(lifted.code == 0 && lifted.out.contains("Lifted"), "{lifted:?}");
    let said = cluster.grid_as(BOB, &[BOOSTERS], &["stop"]);
    assert!(said.code == 0 && said.out.contains("heeded by  gpu1, head"), "{said:?}");
    assert_eq!(by(&find(&cluster, "stop", |e| matches!(e, Event::Stopped { .. }))).0, Some(BOB));
    // It outlives the daemon and the agents.
    cluster.kill9(cluster.daemon_pid());
    cluster.kill9(cluster.agent_pid("head"));
    cluster.wait_ready();
    let guest = Guest::reporting(&cluster, "prover", SMALL);
    let (_, error) = cluster.refused(&["offload", "execute", &guest.pid().to_string()]);
    assert_eq!(error.code, Some(ReasonCode::Stop));
}

#[test]
fn stopped_grid_says_why_it_does_nothing_by_itself() {
    let Some(cluster) = cluster("{mode: 'on'}") else { return };
    let guest = Guest::reporting(&cluster, "prover", SMALL);
    assert_eq!(cluster.grid(&["stop"]).code, 0);
    cluster.boost("--cpu 2 --memory 1GiB --duration 5m");
    let outcome = cluster.wait("the hook to say why", || {
        let said = |r: EventRecord| match r.event {
            Event::HookFinished { outcome, .. } => Some(outcome),
            _ => None,
        };
        cluster.events().into_iter().find_map(said).ok_or("not yet")
    });
    assert!(matches!(&outcome, HookOutcome::Skipped { detail } if detail.contains("grid is stopped")), "{outcome:?}");
    assert!(guest.process.runs_here() && cluster.offloads().is_empty());
}

#[test]
fn what_its_owner_keeps_stays_until_it_is_let_go() {
    let Some(cluster) = cluster("off") else { return };
    let guest = Guest::reporting(&cluster, "prover", "--memory 16MiB --steps 20000");
    let pid = guest.pid().to_string();
    cluster.boost("--cpu 2 --memory 1GiB --duration 5m");
    let shown: ScanReply = cluster.ask(&["offload", "scan"]);
    assert!(shown.plan.steps.iter().any(|s| s.process.pid == guest.pid()), "{shown:#?}");

    let (code, error) = cluster.refused_to(BOB, &[], &["keep", &pid]);
    assert_eq!((code, error.code), (6, Some(ReasonCode::Owner)), "{error:?}");
    let would: KeepView = cluster.ask_as(NOBODY, &[], &["keep", &pid, "--for", "2h", "--dry-run"]);
    assert!(would.ends_in.is_some());
    assert_eq!(cluster.ask::<Vec<KeepView>>(&["keep", "--list"]), []);
    cluster.ask_as::<KeepView>(NOBODY, &[], &["keep", &pid]);
    let kept: Vec<KeepView> = cluster.ask_as(NOBODY, &[], &["keep", "--list"]);
    assert_eq!(kept.iter().map(|k| k.keep.process.pid).collect::<Vec<_>>(), [guest.pid()]);
    assert_eq!(cluster.ask_as::<Vec<KeepView>>(BOB, &[], &["keep", "--list"]), [], "others do not see it");
    assert_eq!(by(&find(&cluster, "keep", |e| matches!(e, Event::KeepSet { .. }))).0, Some(NOBODY));

    // Also after a restart, also for root, also by a plan that was made before.
    cluster.kill9(cluster.daemon_pid());
    cluster.wait_ready();
    let (code, error) = cluster.refused(&["offload", "execute", &pid]);
    assert_eq!((code, error.code), (4, Some(ReasonCode::Keep)), "{error:?}");
    assert!(error.hint.unwrap().contains("grid keep --drop"));
    let (_, error) = cluster.refused(&["plan", "apply", shown.plan.id.as_str()]);
    assert!(error.details.iter().any(|d| d.contains("E-KEEP")), "{error:?}");
    let scan: ScanReply = cluster.ask(&["offload", "scan"]);
    assert!(scan.plan.steps.is_empty() && scan.stays.iter().any(|s| s.code == ReasonCode::Keep), "{scan:#?}");

    let (code, error) = cluster.refused_to(BOB, &[], &["keep", "--drop", &pid]);
    assert_eq!((code, error.code), (6, Some(ReasonCode::Owner)), "{error:?}");
    cluster.ask_as::<KeepView>(NOBODY, &[], &["keep", "--drop", &pid]);
    cluster.move_out(guest.pid());
}

#[test]
fn a_keep_ends_with_its_time_and_with_its_process() {
    let Some(cluster) = cluster("off") else { return };
    let guest = Guest::reporting(&cluster, "prover", SMALL);
    let pid = guest.pid().to_string();
    let ended = |n: usize| {
        cluster.wait("the keep to end", || {
            let _: Vec<KeepView> = cluster.ask(&["keep", "--list"]);
            let all = cluster.events();
            let dropped: Vec<_> = all.iter().filter(|r| matches!(r.event, Event::KeepDropped { .. })).collect();
            dropped.get(n).map(|r| format!("{:?}", r.event)).ok_or("it has not")
        })
    };
    cluster.ask::<KeepView>(&["keep", &pid, "--for", "1s"]);
    assert!(ended(0).contains("Expired"));
    cluster.ask::<KeepView>(&["keep", &pid]);
    kill(Pid::from_raw(guest.pid()), Signal::SIGKILL).unwrap();
    guest.process.wait_gone(LIMIT).unwrap();
    assert!(ended(1).contains("Ended"));
}

/// Runs a command in a terminal of its own, script(1), by this user.
fn in_a_terminal(cluster: &Cluster, words: &str) {
    let line = format!("{} --state {} {words}", cluster.program().display(), cluster.state().display());
    let mut command = Command::new("script");
    command.args(["--quiet", "--return", "--command", &line, "/dev/null"]).stdin(std::process::Stdio::null());
    let out = command.output().unwrap();
    assert!(out.status.success(), "{words}: {out:?}");
}

#[test]
fn every_event_says_who_stands_behind_it() {
    if Command::new("script").arg("--version").output().is_err() {
        return println!("SKIPPED: there is no script(1) to make a terminal");
    }
    let Some(cluster) = cluster("{mode: observe}") else { return };
    let guest = Guest::reporting(&cluster, "prover", "--memory 16MiB --steps 20000");
    in_a_terminal(&cluster, "boost request head --cpu 2 --memory 1GiB --duration 5m");
    in_a_terminal(&cluster, &format!("offload execute {}", guest.pid()));
    let moved: OffloadView = cluster.offloads().remove(0);
    let home: OffloadView = cluster.ask_as(NOBODY, &[], &["offload", "recall", moved.record.id.as_str()]);
    // What came home lives on after the cluster.
    kill(Pid::from_raw(home.record.home_pid.unwrap()), Signal::SIGKILL).unwrap();
    cluster.wait_phase(moved.record.id.as_str(), OffloadPhase::Ended);
    for record in cluster.events() {
        let (uid, word) = by(&record);
        let who = format!("{record:?}");
        match &record.event {
            Event::LeaseGranted { .. } | Event::BoostActivated { .. } => {
                assert!(uid == Some(0) && word.is_some_and(|tty| tty.starts_with("pts/")), "{who}");
            }
            // What an order came to is whose order it was, by the plan that it followed.
            Event::OffloadStarted { .. } | Event::OffloadMoved { .. } => {
                assert!(uid == Some(0) && word.is_some_and(|tty| tty.starts_with("pts/")), "{who}");
                assert_eq!(record.plan, moved.record.plan, "{who}");
            }
            // Without a terminal none is said.
            Event::RecallStarted { .. } | Event::Recalled { .. } => {
                assert_eq!((uid, word, &record.plan), (Some(NOBODY), None, &None), "{who}");
            }
            Event::HookFinished { .. } => assert_eq!((uid, word), (None, Some("hook auto-offload")), "{who}"),
            Event::PlanMade { .. } | Event::PlanSettled { .. } => {
                let rule = word == Some("auto-offload") && uid.is_none();
                assert!((rule || uid == Some(0)) && record.plan.is_some(), "{who}");
            }
            // Nobody's doing that grid knows of.
            Event::ProcessEnded { .. }
            | Event::DaemonStarted { .. }
            | Event::NodeSeen { .. }
            | Event::NodeSilent { .. } => {
                assert_eq!((uid, word), (None, None), "{who}");
            }
            other => panic!("whose is it: {other:?}"),
        }
    }
    let shown = cluster.grid(&["events"]).out;
    let plan = moved.record.plan.unwrap();
    assert!(shown.contains(&format!(", plan {plan}]")) && shown.contains("[root, pts/"), "{shown}");
}

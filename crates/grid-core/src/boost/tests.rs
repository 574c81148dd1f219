use super::*;
use crate::lease::fixtures::*;
use grid_types::boost::BoostState as S;
use grid_types::event::OffloadPhase;
use grid_types::policy::AtEnd;
use grid_types::{BootMs, Millis, OffloadId, Resources};

fn states() -> Vec<S> {
    vec![
        S::Granting,
        S::Active,
        S::Ending { why: EndReason::Released },
        S::Overdue { detail: "x".into() },
        S::Ended { why: EndReason::Expired, at: UnixMs(1) },
        S::Failed { detail: "x".into() },
    ]
}

fn events() -> Vec<BoostEvent> {
    vec![
        BoostEvent::Activated,
        BoostEvent::Failed { detail: "x".into() },
        BoostEvent::Extended,
        BoostEvent::EndBegun { why: EndReason::LenderLost },
        BoostEvent::Overdue { detail: "x".into() },
        BoostEvent::LeaseEmpty { why: EndReason::Expired, at: UnixMs(1) },
    ]
}

#[test]
fn every_pair_of_state_and_event_is_decided() {
    let table: Vec<String> = states()
        .iter()
        .map(|s| {
            let row: String =
                events().into_iter().map(|e| transition(s, e).map_or(".", |n| &state_name(&n)[..2])).collect();
            format!("{:8} {row}", state_name(s))
        })
        .collect();
    assert_eq!(
        table,
        [
            "granting acfa.en..",
            "active   ..acen..",
            "ending   ...enoven",
            "overdue  ..acen.en",
            "ended    ......",
            "failed   ......",
        ]
    );
}

#[test]
fn capacity_returns_only_when_the_lease_is_empty() {
    for s in states() {
        for e in events() {
            let empty = matches!(e, BoostEvent::LeaseEmpty { .. } | BoostEvent::Failed { .. });
            if let Ok(next) = transition(&s, e)
                && !next.holds_capacity()
            {
                assert!(empty, "{s:?}");
            }
        }
    }
}

#[test]
fn a_release_under_way_only_becomes_stronger() {
    let reclaimed = S::Ending { why: EndReason::Reclaimed };
    assert!(transition(&reclaimed, BoostEvent::EndBegun { why: EndReason::Released }).is_err());
    assert!(transition(&reclaimed, BoostEvent::EndBegun { why: EndReason::LenderLost }).is_ok());
    let err = transition(&S::Failed { detail: String::new() }, BoostEvent::Activated).unwrap_err();
    assert_eq!(err.to_string(), "a boost that is failed cannot become active");
}

#[test]
fn deadlines_hold_across_a_reboot() {
    let b = boost("b-1", "gpu1", Resources::default(), S::Active); // until boot 10,000 and wall clock 1,010,000
    assert!(due([&b], &clock(9_999)).is_empty());
    assert_eq!(due([&b], &clock(10_000)), vec![b.id.clone()]);
    let rebooted = |unix| Clock { boot: BootMs(50), boot_id: "boot-2".into(), unix: UnixMs(unix) };
    assert_eq!(next_deadline([&b], &rebooted(1_009_000)), Some(Millis(1_000)));
    assert_eq!(due([&b], &rebooted(1_010_000)), vec![b.id.clone()]);
    // Within one boot the wall clock is not asked: a step of it ends nothing.
    let stepped = Clock { unix: UnixMs(9_000_000), ..clock(5_000) };
    assert!(due([&b], &stepped).is_empty());
}

#[test]
fn what_is_ending_is_not_due_again() {
    let b = boost("b-1", "gpu1", Resources::default(), S::Overdue { detail: String::new() });
    assert!(due([&b], &clock(99_999)).is_empty());
    assert_eq!(next_deadline([&b], &clock(0)), None);
}

fn guest(id: &str, mib: u64, phase: OffloadPhase) -> Guest {
    Guest { offload: id.into(), title: "job".into(), needed: res(500, mib, 0), phase, recall_failed: None }
}

fn ending(at_end: AtEnd) -> grid_types::boost::Boost {
    let mut b = boost("b-1", "gpu1", res(2_000, 4_096, 0), S::Ending { why: EndReason::Expired });
    b.at_end = at_end;
    b
}

fn home(cpu: u32, mib: u64) -> Room {
    Room { home: Some(res(cpu, mib, 0)), others: Vec::new() }
}

fn other(boost: &str, mib: u64) -> OtherLease {
    OtherLease { boost: boost.into(), free: res(1_000, mib, 0) }
}

/// What is free at home and in other leases, and what becomes of guests of 100, 500 and 3,000 MiB.
#[test]
fn home_comes_first_then_another_lease_and_then_they_stay() {
    let guests = [100, 500, 3_000].map(|mib| guest(&format!("o-{mib}"), mib, OffloadPhase::Away));
    let step = |home_mib: Option<u64>, others: &[OtherLease]| {
        let room = Room { home: home_mib.map(|mib| res(4_000, mib, 0)), others: others.to_vec() };
        match at_end(&ending(AtEnd::Recall), &guests, &room) {
            EndStep::RecallHome { offloads } => {
                format!("home {}", offloads.iter().map(|o| o.as_str()).collect::<Vec<_>>().join(" "))
            }
            EndStep::MoveOn { moves } => {
                let text = moves.iter().map(|(o, b)| format!("{o}>{b}")).collect::<Vec<_>>().join(" ");
                format!("on {text}")
            }
            EndStep::StayOverdue { detail } => format!("stay {}", detail.rsplit(": ").next().unwrap()),
            other => format!("{other:?}"),
        }
    };
    let cases: [(Option<u64>, &[OtherLease], &str); 7] = [
        (Some(4_000), &[], "home o-100 o-500 o-3000"),
        (Some(700), &[other("b-2", 9_000)], "home o-100 o-500"),
        (Some(50), &[other("b-2", 9_000)], "on o-100>b-2 o-500>b-2"),
        (Some(50), &[other("b-2", 9_000), other("b-3", 600)], "on o-100>b-3 o-500>b-3 o-3000>b-2"),
        (None, &[other("b-2", 150)], "on o-100>b-2"),
        (
            Some(50),
            &[other("b-2", 60)],
            "stay needs 0.5 CPU 2.9 GiB at home, 4.0 CPU 50 MiB free there; the other lease has no room for it",
        ),
        (None, &[], "stay needs 0.5 CPU 2.9 GiB at home, what is free there is unknown; no other lease is active"),
    ];
    for (home, others, expected) in cases {
        assert_eq!(step(home, others), expected, "{home:?} {others:?}");
    }
}

#[test]
fn guests_go_home_where_they_fit_whole_and_else_stay_loudly() {
    let guests = [guest("o-1", 3_000, OffloadPhase::Away), guest("o-2", 800, OffloadPhase::Away)];
    let b = ending(AtEnd::Recall);
    let step = at_end(&b, &guests, &home(4_000, 1_000));
    assert_eq!(step, EndStep::RecallHome { offloads: vec![OffloadId::from("o-2")] });
    assert_eq!(
        at_end(&b, &guests[..1], &home(4_000, 200)),
        EndStep::StayOverdue {
            detail:
                "o-1 job stays: needs 0.5 CPU 2.9 GiB at home, 4.0 CPU 200 MiB free there; no other lease is active"
                    .into()
        }
    );
    assert!(matches!(at_end(&b, &guests, &Room::default()), EndStep::StayOverdue { .. }));
    assert_eq!(at_end(&b, &[], &Room::default()), EndStep::Close);
}

#[test]
fn a_failed_recall_is_not_tried_for_ever() {
    let mut g = guest("o-1", 10, OffloadPhase::Away);
    g.recall_failed = Some("E-LINK".into());
    assert_eq!(
        at_end(&ending(AtEnd::Recall), &[g], &home(4_000, 4_000)),
        EndStep::StayOverdue { detail: "o-1 job stays: recall failed: E-LINK".into() }
    );
}

#[test]
fn only_the_request_that_asked_for_it_ends_guests() {
    let guests = [guest("o-1", 10, OffloadPhase::Away)];
    assert!(matches!(at_end(&ending(AtEnd::End), &guests, &Room::default()), EndStep::EndGuests { .. }));
    assert!(matches!(at_end(&ending(AtEnd::Stay), &guests, &home(9_000, 9_000)), EndStep::StayOverdue { .. }));
    let moving = [guest("o-1", 10, OffloadPhase::Moving)];
    assert!(matches!(at_end(&ending(AtEnd::End), &moving, &Room::default()), EndStep::Wait { .. }));
    let mut lost = ending(AtEnd::Recall);
    lost.state = S::Ending { why: EndReason::LenderLost };
    assert!(matches!(at_end(&lost, &guests, &home(9_000, 9_000)), EndStep::StayOverdue { .. }));
}

#[test]
fn where_that_was_asked_for_guests_are_parked_and_what_cannot_be_stays() {
    let mut failed = guest("o-2", 10, OffloadPhase::Away);
    failed.recall_failed = Some("E-DISK".into());
    let guests = [guest("o-1", 3_000, OffloadPhase::Away), failed];
    let park = EndStep::Park { offloads: vec!["o-1".into()] };
    assert_eq!(at_end(&ending(AtEnd::Park), &guests, &home(9_000, 9_000)), park);
    let stays = EndStep::StayOverdue { detail: "o-2 job stays: it could not be parked: E-DISK".into() };
    assert_eq!(at_end(&ending(AtEnd::Park), &guests[1..], &home(9_000, 9_000)), stays);
    let under_way = [guest("o-1", 10, OffloadPhase::Parking)];
    assert!(matches!(at_end(&ending(AtEnd::Park), &under_way, &Room::default()), EndStep::Wait { .. }));
    assert_eq!(at_end(&ending(AtEnd::Park), &[], &Room::default()), EndStep::Close);
}

//! Onto a disk and back: what is parked holds no lease, is not forgotten, and comes back as what it was.

use super::*;

const ID: &str = "o-1";

fn figures() -> MoveFigures {
    MoveFigures { bytes: Some(Bytes(7)), ..MoveFigures::default() }
}

fn park(attempt: &str) -> Event {
    Event::ParkStarted { offload: ID.into(), attempt: attempt.into(), node: "gpu2".into() }
}

fn parked(attempt: &str) -> Event {
    Event::Parked { offload: ID.into(), attempt: attempt.into(), figures: figures() }
}

fn unpark(attempt: &str, to: Option<&str>) -> Event {
    let to = to.map(|boost| OnwardTo { node: "gpu1".into(), boost: boost.into() });
    Event::UnparkStarted { offload: ID.into(), attempt: attempt.into(), to }
}

fn unparked(attempt: &str) -> Event {
    Event::Unparked { offload: ID.into(), attempt: attempt.into(), process: Some(proc_id(5)), figures: figures() }
}

fn failed(attempt: &str, parking: bool) -> Event {
    let (offload, attempt, reason) = (ID.into(), attempt.into(), why());
    match parking {
        true => Event::ParkFailed { offload, attempt, reason },
        false => Event::UnparkFailed { offload, attempt, reason },
    }
}

/// Away in b-1.
fn away() -> State {
    let mut s = with_boost();
    push(&mut s, started(ID, "a-1", 1, res(500, 700, 0))).unwrap();
    push(&mut s, moved(ID, "a-1")).unwrap();
    s
}

/// Being parked, from home.
fn from_home() -> State {
    let mut s = with_boost();
    let Event::OffloadStarted { offload, attempt, process, title, uid, source, needed, plan, .. } =
        started(ID, "a-1", 1, res(500, 700, 0))
    else {
        unreachable!()
    };
    let destination = "gpu2".into();
    let start = Event::OffloadStarted {
        offload,
        attempt,
        process,
        title,
        uid,
        source,
        destination,
        boost: None,
        needed,
        plan,
        park: true,
    };
    push(&mut s, start).unwrap();
    s
}

fn of(s: &State) -> &grid_types::event::OffloadRecord {
    &s.offloads[&ID.into()]
}

#[test]
fn a_guest_gives_its_room_back_only_when_it_is_on_the_disk() {
    let mut s = away();
    push(&mut s, park("a-2")).unwrap();
    assert_eq!((of(&s).phase, s.guests(&"b-1".into()).len()), (OffloadPhase::Parking, 1));
    assert!(matches!(push(&mut s, parked("a-1")), Err(ApplyError::StaleAttempt { .. })));
    push(&mut s, parked("a-2")).unwrap();
    assert_eq!((of(&s).phase, s.guests(&"b-1".into()).len()), (OffloadPhase::Parked, 0));
    let at = of(&s).parked.clone().unwrap();
    assert_eq!((at.node.as_str(), at.attempt.as_str(), at.bytes), ("gpu2", "a-2", Some(Bytes(7))));
    assert_eq!((of(&s).destination.as_str(), s.away().len()), ("gpu2", 1));
    // Its lease may end; it stays what it is, whatever else is forgotten.
    push(&mut s, Event::BoostEnding { boost: "b-1".into(), why: EndReason::Released }).unwrap();
    push(&mut s, Event::BoostEnded { boost: "b-1".into(), why: EndReason::Released }).unwrap();
    assert_eq!(of(&s).phase, OffloadPhase::Parked);
    push(&mut s, unpark("a-3", None)).unwrap();
    push(&mut s, unparked("a-3")).unwrap();
    assert_eq!((of(&s).phase, of(&s).home_pid, of(&s).parked.clone()), (OffloadPhase::Home, Some(5), None));
}

#[test]
fn where_it_fails_it_is_where_it_was() {
    let mut s = away();
    push(&mut s, park("a-2")).unwrap();
    push(&mut s, failed("a-2", true)).unwrap();
    assert_eq!((of(&s).phase, of(&s).parked.clone()), (OffloadPhase::Away, None));
    assert!(s.guests_at_end(&"b-1".into())[0].recall_failed.is_some(), "it is not tried again by itself");
    let mut s = from_home();
    assert_eq!((of(&s).phase, s.guests(&"b-1".into()).len()), (OffloadPhase::Parking, 0));
    push(&mut s, failed("a-1", true)).unwrap();
    assert_eq!(of(&s).phase, OffloadPhase::Failed);
    let mut s = from_home();
    push(&mut s, parked("a-1")).unwrap();
    let since = of(&s).since;
    push(&mut s, unpark("a-2", None)).unwrap();
    push(&mut s, failed("a-2", false)).unwrap();
    assert_eq!((of(&s).phase, of(&s).since), (OffloadPhase::Parked, since), "as old as before");
}

#[test]
fn into_a_lease_it_counts_from_the_order_on_and_needs_room() {
    let mut s = from_home();
    push(&mut s, parked("a-1")).unwrap();
    push(&mut s, unpark("a-2", Some("b-1"))).unwrap();
    assert_eq!((of(&s).phase, s.guests(&"b-1".into()).len()), (OffloadPhase::Unparking, 1));
    push(&mut s, unparked("a-2")).unwrap();
    assert_eq!((of(&s).phase, of(&s).boost.clone()), (OffloadPhase::Away, Some("b-1".into())));
    assert_eq!((of(&s).destination.as_str(), of(&s).direction), ("gpu1", Direction::Out));
    let mut s = from_home();
    push(&mut s, parked("a-1")).unwrap();
    push(&mut s, started("o-2", "c-1", 2, res(500, 700, 0))).unwrap();
    assert!(matches!(push(&mut s, unpark("a-2", Some("b-1"))), Err(ApplyError::OverCommitted { .. })));
}

#[test]
fn in_doubt_a_person_decides_and_what_is_killed_has_ended() {
    let doubt =
        |attempt: &str| Event::OffloadInDoubt { offload: ID.into(), attempt: attempt.into(), detail: "x".into() };
    let resolved = |decision| Event::OffloadResolved { offload: ID.into(), decision };
    let mut s = from_home();
    push(&mut s, doubt("a-1")).unwrap();
    push(&mut s, resolved(Resolution::AcceptRepeat)).unwrap();
    assert_eq!((of(&s).phase, of(&s).parked.clone()), (OffloadPhase::Home, None));
    let mut s = from_home();
    push(&mut s, parked("a-1")).unwrap();
    push(&mut s, unpark("a-2", None)).unwrap();
    push(&mut s, doubt("a-2")).unwrap();
    push(&mut s, resolved(Resolution::AcceptRepeat)).unwrap();
    assert_eq!(of(&s).phase, OffloadPhase::Parked);
    push(&mut s, Event::ProcessEnded { offload: ID.into(), status: Some(ExitStatus::Signal(9)) }).unwrap();
    assert_eq!(of(&s).phase, OffloadPhase::Ended);
}

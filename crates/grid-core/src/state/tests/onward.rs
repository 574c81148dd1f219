//! From one lender to another: the process counts against both leases until its way is decided.

use super::*;

/// Away in b-1, with b-2 of the same lender's beside it.
fn away() -> State {
    let mut s = with_boost();
    push(&mut s, granted("b-2", "gpu2", res(2_000, 1_000, 0))).unwrap();
    push(&mut s, activated("b-2")).unwrap();
    push(&mut s, started("o-1", "a-1", 1, res(500, 700, 0))).unwrap();
    push(&mut s, moved("o-1", "a-1")).unwrap();
    s
}

fn onward(attempt: &str, boost: &str) -> Event {
    let (attempt, boost) = (attempt.into(), boost.into());
    Event::OnwardStarted { offload: "o-1".into(), attempt, destination: "gpu2".into(), boost }
}

fn guests(s: &State) -> [usize; 2] {
    ["b-1", "b-2"].map(|b| s.guests(&b.into()).len())
}

#[test]
fn it_counts_against_both_until_it_has_arrived() {
    let mut s = away();
    push(&mut s, onward("a-2", "b-2")).unwrap();
    assert_eq!((guests(&s), s.away().len()), ([1, 1], 1));
    assert!(matches!(push(&mut s, moved("o-1", "a-1")), Err(ApplyError::StaleAttempt { .. })));
    let figures = MoveFigures::default();
    push(&mut s, Event::OnwardMoved { offload: "o-1".into(), attempt: "a-2".into(), figures }).unwrap();
    let o = &s.offloads[&"o-1".into()];
    assert_eq!((guests(&s), o.phase, o.destination.as_str()), ([0, 1], OffloadPhase::Away, "gpu2"));
    push(&mut s, Event::RecallStarted { offload: "o-1".into(), attempt: "a-3".into() }).unwrap();
}

#[test]
fn where_it_fails_it_is_where_it_was_and_is_not_tried_again_by_itself() {
    let mut s = away();
    push(&mut s, onward("a-2", "b-2")).unwrap();
    push(&mut s, Event::OnwardFailed { offload: "o-1".into(), attempt: "a-2".into(), reason: why() }).unwrap();
    let o = &s.offloads[&"o-1".into()];
    assert_eq!((guests(&s), o.phase, o.destination.as_str()), ([1, 0], OffloadPhase::Away, "gpu1"));
    assert!(s.guests_at_end(&"b-1".into())[0].recall_failed.is_some());
}

#[test]
fn only_what_has_room_takes_it() {
    let mut s = away();
    assert!(matches!(push(&mut s, onward("a-2", "b-1")), Err(ApplyError::NoGuests { .. })), "gpu1 holds b-1, not gpu2");
    push(&mut s, granted("b-3", "gpu2", res(100, 100, 0))).unwrap();
    push(&mut s, activated("b-3")).unwrap();
    assert!(matches!(push(&mut s, onward("a-2", "b-3")), Err(ApplyError::OverCommitted { .. })));
    assert_eq!(guests(&s), [1, 0]);
}

#[test]
fn in_doubt_a_person_lets_it_run_where_it_was() {
    let mut s = away();
    push(&mut s, onward("a-2", "b-2")).unwrap();
    let doubt = Event::OffloadInDoubt { offload: "o-1".into(), attempt: "a-2".into(), detail: "x".into() };
    push(&mut s, doubt).unwrap();
    assert_eq!(guests(&s), [1, 1]);
    let decision = Resolution::AcceptRepeat;
    push(&mut s, Event::OffloadResolved { offload: "o-1".into(), decision }).unwrap();
    let o = &s.offloads[&"o-1".into()];
    assert_eq!((guests(&s), o.phase, o.destination.as_str()), ([1, 0], OffloadPhase::Away, "gpu1"));
}

//! Where a process began to listen while it is away.

use super::*;
use grid_types::event::Listens;

fn listens(ports: &[u16]) -> Event {
    let one = |port: &u16| Listens { at: ([127, 0, 0, 1], *port).into(), refused: None };
    Event::OffloadListens { offload: "o-1".into(), all: ports.iter().map(one).collect() }
}

#[test]
fn it_is_noted_as_a_whole_changes_no_phase_and_ends_with_being_away() {
    let mut s = with_boost();
    assert!(matches!(push(&mut s, listens(&[80])), Err(ApplyError::UnknownOffload(_))));
    push(&mut s, started("o-1", "a-1", 1, res(500, 700, 0))).unwrap();
    push(&mut s, moved("o-1", "a-1")).unwrap();
    let before = s.offloads[&"o-1".into()].clone();
    push(&mut s, listens(&[8000, 8001])).unwrap();
    push(&mut s, listens(&[8001])).unwrap();
    let o = &s.offloads[&"o-1".into()];
    assert_eq!((o.phase, o.since, o.listens.len()), (before.phase, before.since, 1));
    push(&mut s, Event::RecallStarted { offload: "o-1".into(), attempt: "a-2".into() }).unwrap();
    assert_eq!(s.offloads[&"o-1".into()].listens.len(), 1);
    let (offload, attempt, figures) = ("o-1".into(), "a-2".into(), MoveFigures::default());
    push(&mut s, Event::Recalled { offload, attempt, pid: 9, process: None, figures }).unwrap();
    assert!(s.offloads[&"o-1".into()].listens.is_empty());
}

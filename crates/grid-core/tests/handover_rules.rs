//! The handover's rules, one by one, as plain data. What they add up to is searched in `handover_search`.

use grid_core::handover::{
    Destination, DestinationAction as D, DestinationInput as DIn, DestinationReport, GoneProof, HomeCopy, Source,
    SourceAction as S, SourceInput as SIn, SourceReport, TreeCopy, answer_unknown, answer_unknown_at_source,
};
use grid_types::event::Resolution;
use grid_types::handover::{DestinationState as DS, SourceState as SS, ToDestination, ToSource};
use grid_types::ids::AttemptId;

fn a() -> AttemptId {
    AttemptId::from("a-1")
}

fn source(state: SS, home: HomeCopy) -> Source {
    let mut source = Source::new(a());
    (source.state, source.home) = (state, home);
    source
}

fn destination(state: DS) -> Destination {
    Destination { state, ..Destination::new(a()) }
}

fn go() -> ToDestination {
    ToDestination::Go { attempt: a() }
}
fn abort() -> ToDestination {
    ToDestination::Abort { attempt: a() }
}
fn query() -> ToDestination {
    ToDestination::Query { attempt: a() }
}
fn released(signals: &[i32]) -> ToDestination {
    ToDestination::Released { attempt: a(), signals: signals.to_vec() }
}
fn ready() -> ToSource {
    ToSource::Ready { attempt: a() }
}
fn started() -> ToSource {
    ToSource::Started { attempt: a() }
}
fn never_ran() -> ToSource {
    ToSource::NeverRan { attempt: a() }
}
fn gone() -> ToSource {
    ToSource::Gone { attempt: a() }
}

/// Without the reports, whose wording is not a rule.
fn deeds(actions: Vec<S>) -> Vec<S> {
    actions.into_iter().filter(|action| !matches!(action, S::Report(_))).collect()
}
fn d_deeds(actions: Vec<D>) -> Vec<D> {
    actions.into_iter().filter(|action| !matches!(action, D::Report(_))).collect()
}

#[test]
fn ready_and_frozen_commit_in_either_order() {
    let commit = [S::Persist(SS::Committed), S::Send(go())];
    let mut s = Source::new(a());
    assert_eq!(s.step(SIn::Frozen), [S::Persist(SS::Frozen)]);
    assert_eq!(s.step(SIn::Received(ready())), commit);
    let mut s = Source::new(a());
    assert_eq!(s.step(SIn::Received(ready())), []);
    assert_eq!(s.step(SIn::Frozen), [vec![S::Persist(SS::Frozen)], commit.to_vec()].concat());
}

#[test]
fn any_error_before_the_commit_is_written_then_thawed() {
    let detail = || "x".to_owned();
    let inputs = [
        SIn::CancelRequested,
        SIn::DeadlineReached,
        SIn::LinkLost,
        SIn::Received(ToSource::StageFailed { attempt: a(), detail: detail() }),
        SIn::Received(never_ran()),
        SIn::Received(gone()),
        SIn::DestinationGone { proof: GoneProof::BootChanged },
    ];
    let frozen = [S::Persist(SS::Aborted), S::Send(abort()), S::Thaw];
    let dumping = [S::Persist(SS::Aborted), S::CloseStream, S::Send(abort()), S::Thaw];
    for input in inputs {
        assert_eq!(deeds(source(SS::Frozen, HomeCopy::Frozen).step(input.clone())), frozen, "{input:?}");
        assert_eq!(deeds(source(SS::Running, HomeCopy::Runs).step(input.clone())), dumping, "{input:?}");
    }
    assert_eq!(deeds(Source::new(a()).step(SIn::DumpFailed { detail: detail() })), dumping);
}

#[test]
fn a_dump_that_ends_after_its_cancel_is_thawed_again() {
    let mut s = Source::new(a());
    s.step(SIn::CancelRequested);
    assert_eq!(s.step(SIn::Frozen), [S::Thaw]);
}

#[test]
fn after_the_commit_nothing_but_proof_thaws() {
    let inputs = [
        SIn::Frozen,
        SIn::DumpFailed { detail: String::new() },
        SIn::CancelRequested,
        SIn::DeadlineReached,
        SIn::LinkLost,
        SIn::LinkUp,
        SIn::Tick,
        SIn::FrozenCopyDied { signal: None },
        SIn::Resolve(Resolution::AcceptRepeat),
        SIn::Resolve(Resolution::Drop),
        SIn::DestinationGone { proof: GoneProof::Person },
        SIn::Received(ready()),
        SIn::Received(started()),
        SIn::Received(gone()),
        SIn::Received(ToSource::StageFailed { attempt: a(), detail: String::new() }),
    ];
    for input in inputs {
        let actions = source(SS::Committed, HomeCopy::Frozen).step(input.clone());
        assert!(!actions.contains(&S::Thaw), "{input:?}: {actions:?}");
    }
    let actions = source(SS::Committed, HomeCopy::Frozen).step(SIn::Received(never_ran()));
    assert_eq!(deeds(actions), [S::Persist(SS::Aborted), S::Thaw]);
}

#[test]
fn messages_of_another_attempt_are_ignored() {
    let other = AttemptId::from("a-0");
    let mut s = source(SS::Committed, HomeCopy::Frozen);
    assert_eq!(s.step(SIn::Received(ToSource::NeverRan { attempt: other.clone() })), []);
    let mut d = destination(DS::Staged);
    assert_eq!(d.step(DIn::Received(ToDestination::Go { attempt: other })), []);
}

#[test]
fn a_release_keeps_the_signals_before_it_speaks() {
    let mut s = source(SS::Committed, HomeCopy::Frozen);
    assert_eq!(s.step(SIn::SignalsPending(vec![15])), []);
    let want = [
        S::KeepSignals(vec![15]),
        S::Persist(SS::Released),
        S::Send(released(&[15])),
        S::DiscardCopy { lives_on: true },
    ];
    assert_eq!(deeds(s.step(SIn::Received(started()))), want);
    assert_eq!(s.step(SIn::Received(started())), [S::Send(released(&[15]))]);
}

#[test]
fn a_kill_after_the_commit_follows_the_process() {
    let mut s = source(SS::Committed, HomeCopy::Frozen);
    assert_eq!(s.step(SIn::FrozenCopyDied { signal: Some(9) }), [S::KeepSignals(vec![9])]);
    let actions = deeds(s.step(SIn::Received(started())));
    assert_eq!(actions, [S::KeepSignals(vec![9]), S::Persist(SS::Released), S::Send(released(&[9]))]);
}

#[test]
fn a_kill_before_the_commit_ends_the_staged_copy() {
    let mut s = source(SS::Frozen, HomeCopy::Frozen);
    let report = S::Report(SourceReport::DiedFrozen { signal: Some(9) });
    let want = [S::Persist(SS::Aborted), S::Send(abort()), report];
    assert_eq!(s.step(SIn::FrozenCopyDied { signal: Some(9) }), want);
}

#[test]
fn in_doubt_is_held_until_a_person_decides() {
    let mut s = source(SS::Committed, HomeCopy::Frozen);
    assert_eq!(deeds(s.step(SIn::Received(gone()))), [S::Persist(SS::InDoubt)]);
    assert_eq!(s.step(SIn::Received(started())), []);
    assert_eq!(s.step(SIn::Tick), [S::Send(query())]);
    let mut repeats = s.clone();
    let actions = repeats.step(SIn::Resolve(Resolution::AcceptRepeat));
    assert_eq!(deeds(actions), [S::Persist(SS::Aborted), S::Thaw]);
    assert_eq!(repeats.step(SIn::Received(started())), [S::Send(abort())]);
    let actions = s.step(SIn::Resolve(Resolution::Drop));
    assert_eq!(deeds(actions), [S::Persist(SS::Released), S::DiscardCopy { lives_on: false }]);
}

#[test]
fn a_source_recovers_from_what_it_wrote() {
    use HomeCopy::{Frozen, Gone, Rebooted, Runs};
    let aborted = vec![S::Persist(SS::Aborted), S::Send(abort()), S::Thaw];
    let cases = [
        (SS::Frozen, Frozen, aborted),
        (SS::Frozen, Rebooted, vec![S::Send(query())]),
        (SS::Frozen, Gone, vec![S::Persist(SS::Aborted), S::Send(abort())]),
        (SS::Committed, Frozen, vec![S::Send(go())]),
        (SS::Committed, Rebooted, vec![S::Send(go())]),
        (SS::Committed, Runs, vec![S::Persist(SS::InDoubt)]),
        (SS::Released, Frozen, vec![S::Send(released(&[])), S::DiscardCopy { lives_on: true }]),
        (SS::Aborted, Frozen, vec![S::Send(abort()), S::Thaw]),
        (SS::InDoubt, Frozen, vec![S::Send(query())]),
        (SS::InDoubt, Rebooted, vec![S::Persist(SS::Released)]),
    ];
    for (ledger, home, want) in cases {
        let (_, actions) = Source::recover(a(), ledger, home, Vec::new());
        assert_eq!(deeds(actions), want, "{ledger:?} {home:?}");
    }
}

#[test]
fn the_only_copy_goes_forward_after_a_reboot_whatever_people_or_links_do() {
    for input in [SIn::CancelRequested, SIn::DeadlineReached, SIn::LinkLost] {
        let (mut s, _) = Source::recover(a(), SS::Frozen, HomeCopy::Rebooted, Vec::new());
        assert_eq!(deeds(s.step(input)), []);
        assert_eq!(s.step(SIn::Received(ready())), [S::Persist(SS::Committed), S::Send(go())]);
    }
}

#[test]
fn what_a_destination_answers_hangs_on_its_ledger() {
    let cases = [
        (DS::Empty, None),
        (DS::Staged, Some(ready())),
        (DS::Running, Some(started())),
        (DS::Ended, Some(started())),
        (DS::Refused, Some(never_ran())),
        (DS::Lost, Some(gone())),
    ];
    for (state, word) in cases {
        let want: Vec<D> = word.map(D::Send).into_iter().collect();
        assert_eq!(destination(state).step(DIn::Received(query())), want, "{state:?}");
    }
}

#[test]
fn go_is_taken_once_and_only_when_staged() {
    let mut d = destination(DS::Staged);
    let want = [D::Persist(DS::Running), D::ArmFence, D::Thaw, D::Send(started())];
    assert_eq!(d_deeds(d.step(DIn::Received(go()))), want);
    assert_eq!(d.step(DIn::Received(go())), [D::Send(started())]);
    let refused = d_deeds(destination(DS::Empty).step(DIn::Received(go())));
    assert_eq!(refused, [D::Persist(DS::Refused), D::Discard, D::Send(never_ran())]);
    assert_eq!(destination(DS::Refused).step(DIn::Received(go())), [D::Send(never_ran())]);
}

#[test]
fn the_fence_holds_until_the_owner_has_spoken() {
    let mut d = destination(DS::Running);
    assert_eq!(d_deeds(d.step(DIn::FenceExpired)), [D::Refreeze, D::Send(started())]);
    assert_eq!(d.step(DIn::FenceExpired), []);
    let want = [D::DisarmFence, D::DeliverSignals(vec![15]), D::PersistReleased, D::Thaw];
    assert_eq!(d_deeds(d.step(DIn::Received(released(&[15])))), want);
    assert_eq!(d.step(DIn::Received(released(&[15]))), []);
    assert_eq!(d.step(DIn::FenceExpired), []);
}

#[test]
fn an_abort_ends_what_is_not_released_and_nothing_else() {
    let refused = d_deeds(destination(DS::Staged).step(DIn::Received(abort())));
    assert_eq!(refused, [D::Persist(DS::Refused), D::Discard, D::Send(never_ran())]);
    let overruled = destination(DS::Running).step(DIn::Received(abort()));
    assert_eq!(overruled[..2], [D::Persist(DS::Lost), D::Discard]);
    let mut away = Destination { released: true, ..destination(DS::Running) };
    assert_eq!(away.step(DIn::Received(abort())), []);
}

#[test]
fn an_end_that_was_seen_says_started() {
    let want = [D::Persist(DS::Ended), D::DisarmFence, D::Send(started()), D::Report(DestinationReport::Ended)];
    assert_eq!(destination(DS::Running).step(DIn::TreeEnded), want);
}

#[test]
fn a_destination_recovers_from_what_it_wrote() {
    use TreeCopy::{Ended, Frozen, Gone, Runs};
    let failed = |why: &str| D::Send(ToSource::StageFailed { attempt: a(), detail: why.to_owned() });
    let gone_when = "the staged copy was gone when the agent restarted";
    let cases = [
        (DS::Staged, false, Frozen, vec![D::Send(ready())]),
        (DS::Staged, false, Runs, vec![D::Persist(DS::Lost), D::Discard, D::DisarmFence, D::Send(gone())]),
        (DS::Staged, false, Gone, vec![D::Persist(DS::Refused), D::Discard, failed(gone_when)]),
        (DS::Staged, false, Ended, vec![D::Persist(DS::Refused), D::Discard, failed(gone_when)]),
        (DS::Running, false, Frozen, vec![D::Send(started())]),
        (DS::Running, false, Runs, vec![D::ArmFence, D::Send(started())]),
        (DS::Running, true, Frozen, vec![D::Thaw]),
        (DS::Running, true, Runs, vec![]),
        (DS::Running, false, Gone, vec![D::Persist(DS::Lost), D::DisarmFence, D::Send(gone())]),
        (DS::Running, false, Ended, vec![D::Persist(DS::Ended), D::DisarmFence, D::Send(started())]),
        (DS::Running, true, Ended, vec![D::Persist(DS::Ended), D::DisarmFence]),
        (DS::Refused, false, Frozen, vec![D::Discard, D::Send(never_ran())]),
    ];
    for (ledger, released, copy, want) in cases {
        let (_, actions) = Destination::recover(a(), ledger, released, copy);
        assert_eq!(d_deeds(actions), want, "{ledger:?} {released} {copy:?}");
    }
}

#[test]
fn a_copy_recovered_before_its_thaw_runs_when_the_owner_speaks() {
    let (mut d, _) = Destination::recover(a(), DS::Running, false, TreeCopy::Frozen);
    assert!(d.step(DIn::Received(released(&[]))).contains(&D::Thaw));
}

#[test]
fn unknown_attempts_are_refused_or_doubted_and_remembered() {
    assert_eq!(answer_unknown(&abort()), [D::Persist(DS::Refused), D::Send(never_ran())]);
    for message in [go(), query()] {
        assert_eq!(answer_unknown(&message), [D::Persist(DS::Lost), D::Send(gone())]);
    }
    assert_eq!(answer_unknown(&released(&[])), []);
    let reported = [S::Report(SourceReport::UnknownAttempt(a()))];
    assert_eq!(answer_unknown_at_source(&started()), reported);
}

#[test]
fn a_person_is_always_answered() {
    let refused = |actions: Vec<S>| matches!(actions[..], [S::Report(SourceReport::ResolveRefused { .. })]);
    for state in [SS::Running, SS::Frozen, SS::Committed, SS::Released, SS::Aborted] {
        assert!(refused(source(state, HomeCopy::Frozen).step(SIn::Resolve(Resolution::Drop))), "{state:?}");
    }
    let late = source(SS::Committed, HomeCopy::Frozen).step(SIn::CancelRequested);
    assert_eq!(late, [S::Report(SourceReport::CancelTooLate)]);
}

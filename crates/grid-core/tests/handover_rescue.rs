//! `grid rescue` over every combination of what can be known: what may be thawed or ended, and what may never be.
#![allow(clippy::unwrap_used)] // all of this file is tests and their helpers

use grid_core::handover::{HomeCopy, HomeFacts, Rescue, Row, StagedFacts, TreeCopy, Why, rescue_home, rescue_staged};
use grid_types::handover::{DestinationState as D, SourceState as S};

const SOURCES: [Row<S>; 8] = [
    Row::Unreadable,
    Row::Unknown,
    Row::State(S::Running),
    Row::State(S::Frozen),
    Row::State(S::Committed),
    Row::State(S::Released),
    Row::State(S::Aborted),
    Row::State(S::InDoubt),
];
const HOMES: [HomeCopy; 4] = [HomeCopy::Runs, HomeCopy::Frozen, HomeCopy::Gone, HomeCopy::Rebooted];
const COPIES: [TreeCopy; 4] = [TreeCopy::Frozen, TreeCopy::Runs, TreeCopy::Ended, TreeCopy::Gone];
const BOTH: [bool; 2] = [false, true];

fn destinations() -> Vec<Row<(D, bool)>> {
    let states = [D::Empty, D::Staged, D::Running, D::Ended, D::Lost, D::Refused];
    let rows = states.into_iter().flat_map(|s| BOTH.map(|released| Row::State((s, released))));
    [Row::Unreadable, Row::Unknown].into_iter().chain(rows).collect()
}

fn homes() -> Vec<HomeFacts> {
    let mut all = Vec::new();
    for row in SOURCES {
        for copy in HOMES {
            for bits in 0..16u8 {
                let bit = |i: u8| bits & (1 << i) != 0;
                let (agent_runs, criu_runs, runs_elsewhere, accept_repeat) = (bit(0), bit(1), bit(2), bit(3));
                all.push(HomeFacts { row, agent_runs, criu_runs, copy, runs_elsewhere, accept_repeat });
            }
        }
    }
    all
}

fn stageds() -> Vec<StagedFacts> {
    let mut all = Vec::new();
    for row in destinations() {
        for copy in COPIES {
            for source in SOURCES {
                for (agent_runs, criu_runs) in BOTH.into_iter().flat_map(|a| BOTH.map(|c| (a, c))) {
                    all.push(StagedFacts { row, agent_runs, criu_runs, copy, source });
                }
            }
        }
    }
    all
}

/// The whole table for a held copy of which nothing runs, one line a state of the ledger.
#[test]
fn a_copy_at_home_by_its_ledger() {
    let of = |row, accept_repeat| {
        let (copy, no) = (HomeCopy::Frozen, false);
        rescue_home(&HomeFacts { row, agent_runs: no, criu_runs: no, copy, runs_elsewhere: no, accept_repeat })
    };
    let thaw = |persist, why| Rescue::Thaw { persist, why };
    let want = [
        (Row::Unreadable, Rescue::Hold(Why::LedgerUnreadable), thaw(false, Why::Accepted)),
        (Row::Unknown, Rescue::Hold(Why::AttemptUnknown), thaw(false, Why::Accepted)),
        (Row::State(S::Running), thaw(true, Why::NotCommitted), thaw(true, Why::NotCommitted)),
        (Row::State(S::Frozen), thaw(true, Why::NotCommitted), thaw(true, Why::NotCommitted)),
        (Row::State(S::Committed), Rescue::Hold(Why::Committed), thaw(true, Why::Accepted)),
        (Row::State(S::Released), Rescue::Hold(Why::MovedOn), Rescue::Hold(Why::MovedOn)),
        (Row::State(S::Aborted), thaw(false, Why::Aborted), thaw(false, Why::Aborted)),
        (Row::State(S::InDoubt), Rescue::Hold(Why::InDoubt), thaw(true, Why::Accepted)),
    ];
    for (row, plain, accepted) in want {
        assert_eq!((of(row, false), of(row, true)), (plain, accepted), "{row:?}");
    }
}

#[test]
fn at_home_nothing_is_thawed_without_proof_or_a_persons_word() {
    for f in homes() {
        let decision = rescue_home(&f);
        let text = format!("{f:?}: {decision:?}");
        if f.agent_runs {
            assert_eq!(decision, Rescue::Leave(Why::AgentRuns), "{text}");
            continue;
        }
        if !f.copy.is_alive() {
            assert_eq!(decision, Rescue::Nothing, "{text}");
            continue;
        }
        if f.criu_runs {
            assert_eq!(decision, Rescue::Leave(Why::CriuRuns), "{text}");
            continue;
        }
        assert!(!matches!(decision, Rescue::End(_) | Rescue::Leave(_) | Rescue::Nothing), "{text}");
        let proved = matches!(f.row, Row::State(S::Running | S::Frozen | S::Aborted));
        let committed = f.row == Row::State(S::Released) || f.runs_elsewhere;
        if let Rescue::Thaw { persist, .. } = decision {
            assert!(proved || (f.accept_repeat && !committed), "{text}");
            // A ledger that does not say `Aborted` yet is made to say it first: a late word cannot run it twice.
            let says_so = f.row == Row::State(S::Aborted);
            assert_eq!(persist, !says_so && matches!(f.row, Row::State(_)), "{text}");
        } else {
            assert!(!proved, "what is proved is not held: {text}");
        }
    }
}

#[test]
fn staged_copies_are_ended_only_where_both_ledgers_prove_it_and_thawed_only_where_they_are_the_only_one() {
    for f in stageds() {
        let decision = rescue_staged(&f);
        let text = format!("{f:?}: {decision:?}");
        if f.agent_runs {
            assert_eq!(decision, Rescue::Leave(Why::AgentRuns), "{text}");
            continue;
        }
        let there = matches!(f.copy, TreeCopy::Frozen | TreeCopy::Runs);
        match decision {
            Rescue::End(_) => {
                let never_ran = matches!(f.row, Row::State((D::Empty | D::Staged | D::Refused, _)));
                let let_run = f.row_is(D::Staged) && f.copy == TreeCopy::Runs;
                let owner = f.source == Row::State(S::Aborted) || f.row_is(D::Refused);
                assert!(there && !f.criu_runs && never_ran && !let_run && owner, "{text}");
            }
            Rescue::Thaw { persist, .. } => {
                let Row::State((D::Running, released)) = f.row else { panic!("{text}") };
                let only = released || f.source == Row::State(S::Released);
                assert!(only && f.copy == TreeCopy::Frozen && !f.criu_runs && persist != released, "{text}");
            }
            Rescue::Nothing => assert!(!there || (f.row_is(D::Running) && f.copy == TreeCopy::Runs), "{text}"),
            Rescue::Leave(why) => assert!(why == Why::CriuRuns && f.criu_runs && there, "{text}"),
            Rescue::Hold(_) => assert!(there && !f.criu_runs, "{text}"),
        }
    }
}

/// Both ends of one attempt rescued one after the other, the source first: never two that run, never none but a held one.
#[test]
fn rescuing_both_ends_leaves_one_copy_that_runs_or_one_that_is_held() {
    // Pairs of ledgers that the machines can leave behind, with nothing of them running.
    let pairs = [
        (S::Running, D::Empty),
        (S::Running, D::Staged),
        (S::Frozen, D::Staged),
        (S::Frozen, D::Refused),
        (S::Aborted, D::Staged),
        (S::Aborted, D::Refused),
        (S::Committed, D::Staged),
        (S::Committed, D::Running),
        (S::Committed, D::Refused),
        (S::InDoubt, D::Lost),
        (S::Released, D::Running),
    ];
    for (source, destination) in pairs {
        let no = false;
        let home = rescue_home(&HomeFacts {
            row: Row::State(source),
            agent_runs: no,
            criu_runs: no,
            copy: if source == S::Released { HomeCopy::Gone } else { HomeCopy::Frozen },
            runs_elsewhere: no,
            accept_repeat: no,
        });
        let thawed = matches!(home, Rescue::Thaw { .. });
        let staged = rescue_staged(&StagedFacts {
            row: Row::State((destination, no)),
            agent_runs: no,
            criu_runs: no,
            copy: TreeCopy::Frozen,
            source: Row::State(if thawed { S::Aborted } else { source }),
        });
        let runs_there = matches!(staged, Rescue::Thaw { .. });
        assert!(!(thawed && runs_there), "two copies: {source:?} {destination:?}");
        let held = matches!(home, Rescue::Hold(_)) || matches!(staged, Rescue::Hold(_));
        assert!(thawed || runs_there || held, "lost: {source:?} {destination:?}");
        let ended = matches!(staged, Rescue::End(_));
        assert!(!ended || thawed || matches!(home, Rescue::Hold(_)), "{source:?} {destination:?}");
    }
}

trait RowIs {
    fn row_is(&self, state: D) -> bool;
}

impl RowIs for StagedFacts {
    fn row_is(&self, state: D) -> bool {
        matches!(self.row, Row::State((s, _)) if s == state)
    }
}

//! A lender that goes to sleep: its guests stand still before it does, and run again when their home has confirmed each.
//!
//! Meanwhile their home may have given them up, and somebody may have started the work again: a machine that wakes cannot
//! know that, and its links may look alive for long. So it asks, and only an answer to this asking counts.
//!
//! Invariant: a guest that was there when the machine was said to sleep is let run only after the machine was said to be
//! awake, and by an answer to what was asked after that.

use grid_types::AttemptId;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;

/// What an agent knows of it. Written down before what follows from it is done.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sleep {
    asleep: bool,
    /// How often it slept: answers to an earlier asking are old.
    epoch: u64,
    /// Stand still until their home has spoken.
    held: BTreeSet<AttemptId>,
}

/// What happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SleepInput {
    /// The machine is about to sleep; these live there.
    Sleeps(Vec<AttemptId>),
    /// It is awake.
    Wakes,
    /// A tree that came before is to be let run now.
    Came(AttemptId),
    /// Its home says that it still lives here.
    Confirmed {
        /// Which.
        attempt: AttemptId,
        /// Of the asking that this answers.
        epoch: u64,
    },
    /// It is not here any more.
    Gone(AttemptId),
    /// What was asked may have been lost.
    AskAgain,
}

/// What is done, in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SleepAction {
    /// Writes the state down.
    Persist,
    /// Freezes it, confirmed.
    Freeze(AttemptId),
    /// Asks its home.
    Ask {
        /// Which.
        attempt: AttemptId,
        /// The asking.
        epoch: u64,
    },
    /// Lets it run, unless something else holds it.
    LetRun(AttemptId),
}

impl Sleep {
    /// The machine is said to sleep.
    pub fn is_asleep(&self) -> bool {
        self.asleep
    }

    /// It stands still for this.
    pub fn holds(&self, attempt: &AttemptId) -> bool {
        self.held.contains(attempt)
    }

    /// All that do.
    pub fn held(&self) -> impl Iterator<Item = &AttemptId> {
        self.held.iter()
    }

    /// Takes one input.
    pub fn step(&mut self, input: SleepInput) -> Vec<SleepAction> {
        match input {
            SleepInput::Sleeps(guests) => self.sleeps(guests),
            SleepInput::Came(attempt) if self.asleep => {
                self.held.insert(attempt.clone());
                vec![SleepAction::Persist, SleepAction::Freeze(attempt)]
            }
            SleepInput::Wakes if self.asleep => {
                self.asleep = false;
                let ask = self.ask();
                [SleepAction::Persist].into_iter().chain(ask).collect()
            }
            SleepInput::AskAgain => self.ask(),
            SleepInput::Confirmed { attempt, epoch } if !self.asleep && epoch == self.epoch => {
                if !self.held.remove(&attempt) {
                    return Vec::new();
                }
                vec![SleepAction::Persist, SleepAction::LetRun(attempt)]
            }
            SleepInput::Gone(attempt) if self.held.remove(&attempt) => vec![SleepAction::Persist],
            _ => Vec::new(),
        }
    }

    /// Said again, it freezes what came meanwhile, and what could not be frozen before.
    fn sleeps(&mut self, guests: Vec<AttemptId>) -> Vec<SleepAction> {
        let before = self.clone();
        if !std::mem::replace(&mut self.asleep, true) {
            self.epoch += 1;
        }
        self.held.extend(guests);
        let persist = (*self != before).then_some(SleepAction::Persist);
        persist.into_iter().chain(self.held.iter().cloned().map(SleepAction::Freeze)).collect()
    }

    fn ask(&self) -> Vec<SleepAction> {
        let ask = |attempt: &AttemptId| SleepAction::Ask { attempt: attempt.clone(), epoch: self.epoch };
        self.held.iter().filter(|_| !self.asleep).map(ask).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn one() -> AttemptId {
        "o-1.1".into()
    }

    fn let_run(actions: &[SleepAction]) -> bool {
        actions.contains(&SleepAction::LetRun(one()))
    }

    #[test]
    fn it_runs_again_by_the_answer_to_what_was_asked_after_waking() {
        let mut sleep = Sleep::default();
        let confirmed = |epoch| SleepInput::Confirmed { attempt: one(), epoch };
        assert_eq!(sleep.step(SleepInput::Sleeps(vec![one()])), [SleepAction::Persist, SleepAction::Freeze(one())]);
        assert!(sleep.step(SleepInput::AskAgain).is_empty() && sleep.step(confirmed(1)).is_empty());
        let ask = |epoch| SleepAction::Ask { attempt: one(), epoch };
        assert_eq!(sleep.step(SleepInput::Wakes), [SleepAction::Persist, ask(1)]);
        // It sleeps once more before the answer is there.
        sleep.step(SleepInput::Sleeps(Vec::new()));
        assert_eq!(sleep.step(SleepInput::Wakes), [SleepAction::Persist, ask(2)]);
        assert!(sleep.step(confirmed(1)).is_empty() && sleep.holds(&one()));
        assert_eq!(sleep.step(SleepInput::AskAgain), [ask(2)]);
        assert_eq!(sleep.step(confirmed(2)), [SleepAction::Persist, SleepAction::LetRun(one())]);
        assert!(sleep.step(confirmed(2)).is_empty() && sleep.step(SleepInput::AskAgain).is_empty());
    }

    #[test]
    fn who_comes_while_it_sleeps_waits_and_who_is_gone_is_forgotten() {
        let mut sleep = Sleep::default();
        assert!(sleep.step(SleepInput::Came(one())).is_empty());
        sleep.step(SleepInput::Sleeps(Vec::new()));
        assert_eq!(sleep.step(SleepInput::Came(one())), [SleepAction::Persist, SleepAction::Freeze(one())]);
        assert_eq!(sleep.step(SleepInput::Gone(one())), [SleepAction::Persist]);
        assert!(sleep.step(SleepInput::Gone(one())).is_empty());
        assert_eq!(sleep.step(SleepInput::Wakes), [SleepAction::Persist]);
        assert!(sleep.step(SleepInput::Wakes).is_empty());
    }

    fn input() -> impl Strategy<Value = SleepInput> {
        prop_oneof![
            any::<bool>().prop_map(|here| SleepInput::Sleeps(here.then(one).into_iter().collect())),
            Just(SleepInput::Wakes),
            Just(SleepInput::Came(one())),
            (0u64..6).prop_map(|epoch| SleepInput::Confirmed { attempt: one(), epoch }),
            Just(SleepInput::AskAgain),
        ]
    }

    proptest! {
        /// Whatever order things come in, also answers that nobody asked for.
        #[test]
        fn nobody_runs_while_it_sleeps_or_by_an_answer_to_an_earlier_asking(inputs in proptest::collection::vec(input(), 0..40)) {
            let mut sleep = Sleep::default();
            let (mut asleep, mut asked) = (false, None);
            for input in inputs {
                match input {
                    SleepInput::Sleeps(_) => (asleep, asked) = (true, None),
                    SleepInput::Wakes => asleep = false,
                    _ => {}
                }
                let answered = match &input {
                    SleepInput::Confirmed { epoch, .. } => Some(*epoch),
                    _ => None,
                };
                let actions = sleep.step(input);
                if let Some(epoch) = actions.iter().find_map(|a| match a {
                    SleepAction::Ask { epoch, .. } => Some(*epoch),
                    _ => None,
                }) {
                    asked = Some(epoch);
                }
                prop_assert_eq!(sleep.is_asleep(), asleep);
                prop_assert!(!let_run(&actions) || (!asleep && answered.is_some() && answered == asked));
                let persisted = actions.iter().position(|a| *a == SleepAction::Persist);
                let lets_run = actions.iter().position(|a| matches!(a, SleepAction::LetRun(_)));
                prop_assert!(lets_run.is_none_or(|at| persisted.is_some_and(|first| first < at)));
            }
        }
    }
}

//! This machine goes to sleep, and wakes: what `grid_core::sleep` decides is done here, and home answers who asks.
//!
//! Guests are the trees that live in a lease. What came home stands still with its machine, and nobody else has it.

use crate::agent::Agent;
use crate::destination::Incoming;
use crate::link::tracing_line;
use crate::source::refuse_when_stopped;
use grid_core::sleep::{SleepAction, SleepInput};
use grid_types::reason::{Reason, ReasonCode};
use grid_types::wire::ShadowWord;
use grid_types::{AttemptId, NodeName};

impl Agent {
    /// Does what the owner's word says of it. A word that cannot be read changes nothing.
    pub(crate) fn heed_sleep(&mut self) -> Result<(), String> {
        match self.word.order().map(|order| order.asleep.is_some()) {
            Ok(true) => {
                if !self.sleep.is_asleep() {
                    refuse_when_stopped(&self.cfg.stop).map_err(|reason| reason.to_string())?;
                }
                self.step_sleep(SleepInput::Sleeps(self.all_guests()))
            }
            Ok(false) if self.sleep.is_asleep() => self.step_sleep(SleepInput::Wakes),
            Ok(false) => Ok(()),
            Err(_) => Ok(()),
        }
    }

    fn all_guests(&self) -> Vec<AttemptId> {
        self.incoming.iter().filter(|(_, incoming)| incoming.is_guest()).map(|(attempt, _)| attempt.clone()).collect()
    }

    /// To be let run by the handover: true where it stands still instead, until this machine is awake.
    pub(crate) fn waits_for_waking(&mut self, attempt: &AttemptId) -> Result<bool, String> {
        if self.is_guest(attempt) {
            self.step_sleep(SleepInput::Came(attempt.clone()))?;
        }
        Ok(self.sleep.holds(attempt))
    }

    fn is_guest(&self, attempt: &AttemptId) -> bool {
        self.incoming.get(attempt).is_some_and(Incoming::is_guest)
    }

    /// How many stand still.
    pub(crate) fn standing(&self) -> u32 {
        self.sleep.held().filter(|attempt| self.is_guest(attempt)).count() as u32
    }

    /// What is not here any more is forgotten, and home is asked of the others.
    pub(crate) fn tick_sleep(&mut self) {
        let gone: Vec<AttemptId> = self.sleep.held().filter(|attempt| !self.is_guest(attempt)).cloned().collect();
        for attempt in gone {
            self.step_sleep(SleepInput::Gone(attempt)).unwrap_or_else(|e| tracing_line(&e));
        }
        self.step_sleep(SleepInput::AskAgain).unwrap_or_else(|e| tracing_line(&e));
    }

    fn step_sleep(&mut self, input: SleepInput) -> Result<(), String> {
        let mut trouble = Ok(());
        for action in self.sleep.step(input) {
            match action {
                SleepAction::Persist => self.ledger.put_sleep(&self.sleep).map_err(|e| e.to_string())?,
                SleepAction::Freeze(attempt) => trouble = trouble.and(self.set_guest(&attempt, true)),
                SleepAction::LetRun(attempt) => trouble = trouble.and(self.let_run(&attempt)),
                SleepAction::Ask { attempt, epoch } => self.ask_home(attempt, epoch),
            }
        }
        trouble
    }

    fn let_run(&mut self, attempt: &AttemptId) -> Result<(), String> {
        match self.reclaimed(Some(attempt)) {
            Some(_) => Ok(()),
            None => self.set_guest(attempt, false),
        }
    }

    fn ask_home(&mut self, attempt: AttemptId, epoch: u64) {
        let Some(incoming) = self.incoming.get(&attempt) else { return };
        // Home has forgotten it where its root is over and only what that left behind lives on.
        let shadow = incoming.record.stage.shadow.is_some() && incoming.living_root().is_some();
        // Until its owner has heard that it runs here, the handover asks.
        if let (true, Some(home)) = (incoming.is_released(), self.home_node()) {
            self.say_of_shadow(&home, attempt, ShadowWord::Awake { epoch, shadow });
        }
    }

    /// At home: may what lives there run on, after its machine has slept?
    pub(crate) fn heed_awake(&mut self, from: &NodeName, attempt: AttemptId, epoch: u64, shadow: bool) {
        if !shadow || self.is_still_there(&attempt, from) {
            self.say_of_shadow(from, attempt, ShadowWord::MayRun { epoch });
        }
    }

    pub(crate) fn heed_may_run(&mut self, from: &NodeName, attempt: AttemptId, epoch: u64) {
        if self.home_node().as_ref() == Some(from) {
            let confirmed = SleepInput::Confirmed { attempt, epoch };
            self.step_sleep(confirmed).unwrap_or_else(|e| tracing_line(&e));
        }
    }

    /// Who stands still for its machine's sleep cannot be moved before home has spoken.
    pub(crate) fn not_asleep(&self, came_by: Option<&AttemptId>) -> Result<(), Reason> {
        if !came_by.is_some_and(|attempt| self.sleep.holds(attempt)) {
            return Ok(());
        }
        let what =
            format!("{} slept, and what lives there goes on as soon as its home has confirmed it", self.cfg.node);
        Err(Reason::new(ReasonCode::Silent, what))
    }

    /// Nobody comes while this machine goes to sleep, into a lease of before either.
    pub(crate) fn not_going_to_sleep(&self) -> Result<(), Reason> {
        match self.sleep.is_asleep() {
            true => Err(Reason::new(ReasonCode::NoLend, format!("{}: its machine goes to sleep", self.cfg.node))),
            false => Ok(()),
        }
    }
}

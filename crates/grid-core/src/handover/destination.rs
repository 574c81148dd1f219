//! The destination's side of one attempt. It stages, waits for the owner's word, and remembers what it refused.
//!
//! ```text
//!          Staged             Go                  Released
//!  Empty ────────► Staged ═══ take() ═══► Running ────────► Running, released ──► Ended
//!    │  failed, Abort │                    │  ▲ Released         │
//!    └───────┬────────┘       fence: 2 s   ▼  │                  │ gone unseen
//!            ▼                        Running, refrozen          ▼
//!         Refused                          └── gone unseen ──► Lost
//! ```
//!
//! Invariants:
//!
//! - A copy is thawed only after `Running` is durable, and that is written only on `Go`, by [`Destination::take`].
//! - `NeverRan` is said only when `Refused` is durable and the copy is gone, and `Refused` is written only from `Empty`
//!   and `Staged`. So the word is proof for ever.
//! - Until `Released` the copy runs at most for the fence's 2 s; then it is frozen until the owner has spoken.
//! - A released copy is nobody's but its own: no message of the handover stops it.

use super::TreeCopy;
use grid_types::handover::{DestinationState, ToDestination, ToSource};
use grid_types::ids::AttemptId;

/// What happened at the destination.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DestinationInput {
    /// The source wants to stage here. (`Received(Stage)` is the same.)
    StageRequested,
    /// Restored, confirmed frozen, the gate passed it.
    Staged,
    /// Could not be staged, or the gate or the lender refused it. Also for a staged copy, until `Go`.
    StageFailed {
        /// Why.
        detail: String,
    },
    /// The source's agent said something.
    Received(ToDestination),
    /// The link to the source broke.
    LinkLost,
    /// There is a link to the source (again).
    LinkUp,
    /// Time to say `Ready` or `Started` again.
    Tick,
    /// 2 s (CLOCK_BOOTTIME) since `ArmFence`, and no `Released`.
    FenceExpired,
    /// The tree was seen to end here after it was let run.
    TreeEnded,
    /// The staged copy was killed while frozen. The shell looks before it hands in `Go`, and says this first.
    StagedCopyDied,
    /// The source's machine rebooted: the copy here is the only one. It asks; the source's ledger answers, `Abort` if
    /// that is recorded (the copy here is stale then), else `Go`. It never starts by itself.
    SourceRebooted,
}

/// What the shell at the destination does, in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DestinationAction {
    /// Writes the state to the ledger, durably, before any later action of the same list.
    Persist(DestinationState),
    /// Writes down, durably, that the source's copy is gone (the row's `released`).
    PersistReleased,
    /// Sends; it may get lost.
    Send(ToSource),
    /// Lets the copy here run.
    Thaw,
    /// Freezes the running copy, confirmed.
    Refreeze,
    /// Kills what is staged and empties the tree's cgroup, confirmed.
    Discard,
    /// Sends these signals to the tree's root. May be repeated after a crash, never left out.
    DeliverSignals(Vec<i32>),
    /// Starts the 2 s of the fence.
    ArmFence,
    /// Ends them.
    DisarmFence,
    /// Tells the head.
    Report(DestinationReport),
}

/// What the head learns.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DestinationReport {
    /// Staged and frozen here.
    Staged,
    /// A copy is held frozen here and waits for the owner's word.
    Held {
        /// Why it waits.
        detail: String,
    },
    /// It runs here.
    Started,
    /// It runs here, and the source's copy is gone.
    Released,
    /// Refused; nothing of it is left here.
    Refused {
        /// Why.
        detail: String,
    },
    /// It ended here.
    Ended,
    /// It is gone from here unseen.
    Lost {
        /// What is known.
        detail: String,
    },
}

/// The destination's machine of one attempt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Destination {
    /// The attempt.
    pub attempt: AttemptId,
    /// As the ledger has it once the actions returned so far are executed.
    pub state: DestinationState,
    /// The source said that its copy is gone.
    pub released: bool,
    /// `Running`, but frozen until the owner has spoken.
    pub refrozen: bool,
}

impl Destination {
    /// A new attempt, of which nothing is here.
    pub fn new(attempt: AttemptId) -> Self {
        Self { attempt, state: DestinationState::Empty, released: false, refrozen: false }
    }

    /// After a restart of the agent, once no CRIU of this attempt is left. `copy` is read from the tree's cgroup, which
    /// is named after the attempt.
    pub fn recover(
        attempt: AttemptId,
        ledger: DestinationState,
        released: bool,
        copy: TreeCopy,
    ) -> (Self, Vec<DestinationAction>) {
        let mut destination = Self { attempt, state: ledger, released, refrozen: false };
        let actions = match ledger {
            DestinationState::Empty => destination.refuse_failed("the agent was restarted while it staged"),
            DestinationState::Staged => destination.resume_staged(copy),
            DestinationState::Running => destination.resume_running(copy),
            DestinationState::Refused => vec![DestinationAction::Discard, destination.never_ran()],
            DestinationState::Lost => vec![DestinationAction::Discard, destination.gone()],
            DestinationState::Ended => vec![DestinationAction::Report(DestinationReport::Ended)],
        };
        (destination, actions)
    }

    fn resume_staged(&mut self, copy: TreeCopy) -> Vec<DestinationAction> {
        match copy {
            TreeCopy::Frozen => vec![self.ready()],
            // Somebody else thawed it: it cannot be said that it never ran.
            TreeCopy::Runs => {
                let mut actions = self.lose("the staged copy was let run by somebody else");
                actions.insert(1, DestinationAction::Discard);
                actions
            }
            TreeCopy::Ended | TreeCopy::Gone => self.refuse_failed("the staged copy was gone when the agent restarted"),
        }
    }

    fn resume_running(&mut self, copy: TreeCopy) -> Vec<DestinationAction> {
        match (self.released, copy) {
            (_, TreeCopy::Ended) => self.tree_ended(),
            (_, TreeCopy::Gone) => self.lose("it was let run here, and its end was not seen"),
            (true, TreeCopy::Frozen) => vec![DestinationAction::Thaw],
            (true, TreeCopy::Runs) => Vec::new(),
            // Not thawed yet, or refrozen by the fence: nobody can tell, so the owner speaks first.
            (false, TreeCopy::Frozen) => {
                self.refrozen = true;
                vec![self.started(), held("the agent was restarted; waiting for the owner's word")]
            }
            (false, TreeCopy::Runs) => vec![DestinationAction::ArmFence, self.started()],
        }
    }

    /// Takes one input. Messages of another attempt are ignored.
    pub fn step(&mut self, input: DestinationInput) -> Vec<DestinationAction> {
        match input {
            DestinationInput::Received(message) if message.attempt() != &self.attempt => Vec::new(),
            DestinationInput::Received(message) => self.receive(message),
            DestinationInput::StageRequested => self.stage_requested(),
            input => match self.state {
                DestinationState::Empty | DestinationState::Staged => self.step_before_go(input),
                DestinationState::Running => self.step_running(input),
                // A restore that ends after the refusal leaves something behind.
                DestinationState::Refused | DestinationState::Lost if input == DestinationInput::Staged => {
                    vec![DestinationAction::Discard]
                }
                _ => Vec::new(),
            },
        }
    }

    fn step_before_go(&mut self, input: DestinationInput) -> Vec<DestinationAction> {
        let staged = self.state == DestinationState::Staged;
        match input {
            DestinationInput::Staged if !staged => {
                self.state = DestinationState::Staged;
                let report = DestinationAction::Report(DestinationReport::Staged);
                vec![DestinationAction::Persist(DestinationState::Staged), self.ready(), report]
            }
            DestinationInput::StageFailed { detail } => self.refuse_failed(&detail),
            DestinationInput::StagedCopyDied => self.refuse_failed("the staged copy was killed"),
            DestinationInput::LinkUp | DestinationInput::Tick if staged => vec![self.ready()],
            DestinationInput::LinkLost if staged => vec![held("the link to the source broke")],
            DestinationInput::SourceRebooted if staged => vec![self.ready(), held("the source's machine rebooted")],
            DestinationInput::LinkLost => self.refuse_failed("the link to the source broke while it staged"),
            _ => Vec::new(),
        }
    }

    fn step_running(&mut self, input: DestinationInput) -> Vec<DestinationAction> {
        match input {
            DestinationInput::TreeEnded | DestinationInput::StagedCopyDied => self.tree_ended(),
            _ if self.released => Vec::new(),
            DestinationInput::FenceExpired if !self.refrozen => {
                self.refrozen = true;
                vec![DestinationAction::Refreeze, self.started(), held("the owner did not answer within the fence")]
            }
            DestinationInput::LinkUp | DestinationInput::Tick | DestinationInput::SourceRebooted => {
                vec![self.started()]
            }
            _ => Vec::new(),
        }
    }

    fn receive(&mut self, message: ToDestination) -> Vec<DestinationAction> {
        match message {
            ToDestination::Stage { .. } => self.stage_requested(),
            ToDestination::Go { .. } if self.state == DestinationState::Staged => self.take(),
            // The owner commits after `Ready` only, so nothing of this attempt can be whole here.
            ToDestination::Go { .. } if self.state == DestinationState::Empty => {
                self.refuse("Go came before it was staged")
            }
            ToDestination::Go { .. } | ToDestination::Query { .. } => self.answer().into_iter().collect(),
            ToDestination::Abort { .. } => self.aborted(),
            ToDestination::Released { signals, .. } => self.let_go(signals),
        }
    }

    fn stage_requested(&mut self) -> Vec<DestinationAction> {
        match self.state {
            DestinationState::Empty => vec![DestinationAction::Persist(DestinationState::Empty)],
            _ => self.answer().into_iter().collect(),
        }
    }

    /// What the ledger says, for `Query` and for whatever comes twice.
    fn answer(&self) -> Option<DestinationAction> {
        match self.state {
            DestinationState::Empty => None,
            DestinationState::Staged => Some(self.ready()),
            DestinationState::Running | DestinationState::Ended => Some(self.started()),
            DestinationState::Refused => Some(self.never_ran()),
            DestinationState::Lost => Some(self.gone()),
        }
    }

    /// The destination's half of the point of no return: written down, fenced, thawed, said.
    fn take(&mut self) -> Vec<DestinationAction> {
        self.state = DestinationState::Running;
        vec![
            DestinationAction::Persist(DestinationState::Running),
            DestinationAction::ArmFence,
            DestinationAction::Thaw,
            self.started(),
            DestinationAction::Report(DestinationReport::Started),
        ]
    }

    fn aborted(&mut self) -> Vec<DestinationAction> {
        match self.state {
            DestinationState::Empty | DestinationState::Staged => self.refuse("the source aborted"),
            // The owner aborts after a commit only when its own copy runs again: this one must not.
            DestinationState::Running if !self.released => {
                let mut actions = self.lose("the owner let its own copy run");
                actions.insert(1, DestinationAction::Discard);
                actions
            }
            DestinationState::Running | DestinationState::Ended => Vec::new(),
            DestinationState::Refused | DestinationState::Lost => self.answer().into_iter().collect(),
        }
    }

    fn let_go(&mut self, signals: Vec<i32>) -> Vec<DestinationAction> {
        if self.state != DestinationState::Running || self.released {
            return Vec::new();
        }
        self.released = true;
        let mut actions = vec![DestinationAction::DisarmFence];
        if !signals.is_empty() {
            actions.push(DestinationAction::DeliverSignals(signals));
        }
        actions.push(DestinationAction::PersistReleased);
        if std::mem::take(&mut self.refrozen) {
            actions.push(DestinationAction::Thaw);
        }
        actions.push(DestinationAction::Report(DestinationReport::Released));
        actions
    }

    fn tree_ended(&mut self) -> Vec<DestinationAction> {
        self.state = DestinationState::Ended;
        let mut actions = vec![DestinationAction::Persist(DestinationState::Ended), DestinationAction::DisarmFence];
        if !self.released {
            actions.push(self.started());
        }
        actions.push(DestinationAction::Report(DestinationReport::Ended));
        actions
    }

    /// Refuses for ever, leaves nothing here, and answers with the proof.
    fn refuse(&mut self, why: &str) -> Vec<DestinationAction> {
        let word = self.never_ran();
        self.refuse_with(why, word)
    }

    /// The same, on our own account: with the reason, for people.
    fn refuse_failed(&mut self, why: &str) -> Vec<DestinationAction> {
        let word = ToSource::StageFailed { attempt: self.attempt.clone(), detail: why.to_owned() };
        self.refuse_with(why, DestinationAction::Send(word))
    }

    fn refuse_with(&mut self, why: &str, word: DestinationAction) -> Vec<DestinationAction> {
        self.state = DestinationState::Refused;
        let report = DestinationReport::Refused { detail: why.to_owned() };
        vec![
            DestinationAction::Persist(DestinationState::Refused),
            DestinationAction::Discard,
            word,
            DestinationAction::Report(report),
        ]
    }

    fn lose(&mut self, what: &str) -> Vec<DestinationAction> {
        self.state = DestinationState::Lost;
        let report = DestinationReport::Lost { detail: what.to_owned() };
        vec![
            DestinationAction::Persist(DestinationState::Lost),
            DestinationAction::DisarmFence,
            self.gone(),
            DestinationAction::Report(report),
        ]
    }

    fn ready(&self) -> DestinationAction {
        DestinationAction::Send(ToSource::Ready { attempt: self.attempt.clone() })
    }
    fn started(&self) -> DestinationAction {
        DestinationAction::Send(ToSource::Started { attempt: self.attempt.clone() })
    }
    fn never_ran(&self) -> DestinationAction {
        DestinationAction::Send(ToSource::NeverRan { attempt: self.attempt.clone() })
    }
    fn gone(&self) -> DestinationAction {
        DestinationAction::Send(ToSource::Gone { attempt: self.attempt.clone() })
    }
}

/// A message for an attempt that this ledger does not know (`Stage` makes a machine instead). What is persisted is
/// for `message.attempt()`.
///
/// `Abort` refuses it for ever. `Go` and `Query` come from an owner that has heard `Ready`, so this ledger once knew
/// the attempt and was lost, and nobody can know whether it ran: that is `Gone`. `NeverRan` would let work run twice,
/// as the search shows (`Rules::unknown_is_never_ran`).
pub fn answer_unknown(message: &ToDestination) -> Vec<DestinationAction> {
    let attempt = message.attempt().clone();
    let (state, word) = match message {
        ToDestination::Stage { .. } | ToDestination::Released { .. } => return Vec::new(),
        ToDestination::Abort { .. } => (DestinationState::Refused, ToSource::NeverRan { attempt }),
        ToDestination::Go { .. } | ToDestination::Query { .. } => (DestinationState::Lost, ToSource::Gone { attempt }),
    };
    vec![DestinationAction::Persist(state), DestinationAction::Send(word)]
}

fn held(why: &str) -> DestinationAction {
    DestinationAction::Report(DestinationReport::Held { detail: why.to_owned() })
}

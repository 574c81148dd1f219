//! `grid lend` on this machine: its owner's word, heeded without the head, and answered beside it.
//!
//! Invariants: nothing is lent anew that the word, as it stands at that moment, does not allow; a word that cannot be read
//! allows nothing. What the owner took back he alone gives back. Taking back freezes and ends nothing.

use crate::activity::OwnersActivity;
use crate::agent::{Agent, Input};
use crate::lease::Lease;
use crate::link::tracing_line;
use grid_core::activity::why;
use grid_core::lend::{self, Handling, Memory};
use grid_os::clock::{boot_ms, unix_ms, utc_offset_s};
use grid_os::lend::Said;
use grid_types::lend::{GuestHeld, LeaseHeld, LendAnswer, LendOrder, LendPlace, Lending, TakenBack};
use grid_types::lend_rule::{RuleState, Then};
use grid_types::reason::{Reason, ReasonCode};
use grid_types::wire::{Answer, LeaseTerms, Party};
use grid_types::{AttemptId, Bytes, LeaseId, Resources, UnixMs};

/// What is known of the owner's word.
pub(crate) struct OwnersWord {
    place: LendPlace,
    said: Said,
    pub(crate) activity: OwnersActivity,
    /// What of it could not be carried out; tried again at each tick.
    trouble: Option<String>,
    /// As last written.
    answered: Option<LendAnswer>,
}

impl OwnersWord {
    pub(crate) fn of(agent_state: &std::path::Path) -> Self {
        let place = LendPlace::of(agent_state);
        let rules = grid_os::lend::answer(&place).map(|answer| answer.rules).unwrap_or_default();
        let (said, activity) = (grid_os::lend::read(&place), OwnersActivity::resume(rules));
        Self { said, place, activity, trouble: None, answered: None }
    }

    pub(crate) fn order(&self) -> Result<&LendOrder, &String> {
        self.said.order.as_ref()
    }
}

impl Agent {
    /// Heeds the word that stands, and those that come, for ever. A node that lends nothing has no word.
    pub(crate) fn watch_lend(&mut self) {
        if self.cfg.lends.is_none() {
            return;
        }
        if let Err(e) = grid_os::lend::prepare(&self.word.place) {
            tracing_line(&format!("{}: {e}: grid lend cannot be used here", self.word.place.order.display()));
        }
        self.lend_changed();
        let inputs = self.inputs.clone();
        grid_os::lend::watch(&self.word.place, move || inputs.send(Input::LendChanged).is_ok());
    }

    pub(crate) fn lend_changed(&mut self) {
        self.word.said = grid_os::lend::read(&self.word.place);
        self.told_facts = None;
        self.look_at_owner();
        self.carry_out_word();
    }

    /// Takes back, or gives back, what the word, or a rule in it, says and is not so yet.
    pub(crate) fn carry_out_word(&mut self) {
        let take = match lend::handling(&self.word.said.order, self.word.activity.in_force()) {
            Handling::Take => Some(true),
            Handling::Give => Some(false),
            Handling::Leave => None,
        };
        let wrong = |lease: &Lease| take.is_some_and(|take| lease.record.taken_back.is_some() != take);
        let leases: Vec<LeaseId> = self.leases.iter().filter(|(_, l)| wrong(l)).map(|(id, _)| id.clone()).collect();
        let mut trouble: Vec<String> = self.word.activity.blind.clone().into_iter().collect();
        trouble.extend(self.heed_sleep().err());
        for id in leases {
            let done = self.set_taken_back(&id, take == Some(true));
            trouble.extend(done.err().map(|reason| format!("{id}: {reason}")));
        }
        self.word.trouble = (!trouble.is_empty()).then(|| trouble.join("; "));
    }

    fn set_taken_back(&mut self, id: &LeaseId, take: bool) -> Result<(), Reason> {
        let Answer::GuestsSet { guests, took } = self.set_guests(id, take)? else { return Ok(()) };
        let why = self.rule_that_takes().map(why);
        let Some(lease) = self.leases.get_mut(id) else { return Ok(()) };
        lease.record.taken_back = take.then_some(TakenBack { guests, took, why });
        self.ledger.put_lease(id, &lease.record).map_err(crate::lease::failed)
    }

    /// The rule by which what is lent is taken back, where the owner did not say so himself.
    pub(crate) fn rule_that_takes(&self) -> Option<&RuleState> {
        let himself = self.word.order().is_ok_and(|order| !order.on && order.reclaim);
        self.word.activity.in_force().filter(|state| !himself && state.rule.then == Then::Reclaim)
    }

    /// The lender's own count: whatever a head believes, or claims, no more is lent than the configuration and the owner
    /// allow at this moment.
    pub(crate) fn within_what_is_lent(&mut self, terms: &LeaseTerms) -> Result<(), Reason> {
        self.lends_at_all()?;
        lend::admits(&self.lending(), &self.cfg.node, &self.lent(), &terms.amount)
    }

    /// More time is lent anew.
    pub(crate) fn may_lend_longer(&mut self) -> Result<(), Reason> {
        self.lends_at_all()?;
        lend::admits(&Lending { spare_memory: None, limit: MOST, ..self.lending() }, &self.cfg.node, &NONE, &NONE)
    }

    /// Reads the word as it stands now: it may have come a moment ago.
    fn lends_at_all(&mut self) -> Result<(), Reason> {
        let node = &self.cfg.node;
        self.cfg.lends.ok_or_else(|| Reason::new(ReasonCode::NoLend, format!("{node} lends nothing")))?;
        self.word.said = grid_os::lend::read(&self.word.place);
        Ok(())
    }

    fn lent(&self) -> Resources {
        let amounts = self.leases.values().map(|lease| lease.record.terms.amount);
        amounts.fold(NONE, |sum, amount| sum.saturating_add(&amount))
    }

    /// What this node lends now, and would still lend.
    pub(crate) fn lending(&self) -> Lending {
        let keeps = self.word.order().is_ok_and(|order| order.limits.keep_memory.is_some());
        self.lending_of(if keeps { self.memory_to_lend() } else { None })
    }

    fn lending_of(&self, memory: Option<Memory>) -> Lending {
        let now = unix_ms();
        let seconds = (now.0 / 1000) as i64 + i64::from(utc_offset_s(now));
        let minute = (seconds.rem_euclid(86_400) / 60) as u16;
        lend::lending(
            self.cfg.lends.unwrap_or_default(),
            &self.word.said.order,
            self.word.activity.in_force(),
            minute,
            memory,
        )
    }

    fn memory_to_lend(&self) -> Option<Memory> {
        let available = self.node.machine_available().ok()?;
        let unused = |lease: &Lease| {
            let used = lease.group.usage().map_or(Bytes(0), |u| u.1);
            lease.record.terms.amount.memory.0.saturating_sub(used.0)
        };
        Some(Memory { available, unused_promise: Bytes(self.leases.values().map(unused).sum()) })
    }

    /// Says what became of the word, where that is another thing than before. Called after every input.
    pub(crate) fn answer_owner(&mut self) {
        let Some(configured) = self.cfg.lends else { return };
        let Lending { limit, closed, .. } = self.lending_of(None);
        let answer = LendAnswer {
            node: self.cfg.node.clone(),
            mark: self.word.said.mark.clone(),
            configured,
            limit,
            closed,
            rules: self.word.activity.rules.clone(),
            trouble: self.word.trouble.clone(),
            asleep: self.sleep.is_asleep(),
            standing: self.standing(),
            head: self.is_linked(),
            group: self.cfg.cgroup.clone(),
            leases: self.leases.iter().map(|(id, lease)| self.held(id, lease)).collect(),
        };
        if self.word.answered.as_ref() == Some(&answer) {
            return;
        }
        match grid_os::lend::put_answer(&self.word.place, &answer) {
            Ok(()) => self.word.answered = Some(answer),
            Err(e) => tracing_line(&format!("cannot answer in {}: {e}", self.word.place.answer.display())),
        }
    }

    fn is_linked(&self) -> bool {
        self.home_node().is_some_and(|home| self.knows(&Party::Agent(home)))
    }

    fn held(&self, id: &LeaseId, lease: &Lease) -> LeaseHeld {
        let record = &lease.record;
        LeaseHeld {
            lease: id.clone(),
            amount: record.terms.amount,
            until: seconds(unix_ms().0 + lease.remaining().0),
            frozen: record.reclaimed,
            taken_back: record.taken_back.clone(),
            guests: self.guests(id).iter().filter_map(|attempt| self.guest(attempt)).collect(),
        }
    }

    fn guest(&self, attempt: &AttemptId) -> Option<GuestHeld> {
        let incoming = self.incoming.get(attempt)?;
        // The kernel counts a restored process's age from its restore.
        let since = incoming.record.root.map(|root| {
            let ago = boot_ms().0.saturating_sub(grid_os::proc::ticks_ms(root.start_ticks));
            seconds(unix_ms().0.saturating_sub(ago))
        });
        let (pid, uid) = (incoming.living_root(), incoming.record.stage.uid);
        Some(GuestHeld { attempt: attempt.clone(), pid, uid, since })
    }
}

const NONE: Resources = Resources { cpu: grid_types::MilliCpu(0), memory: Bytes(0), gpu: 0 };
const MOST: Resources = Resources { cpu: grid_types::MilliCpu(u32::MAX), memory: Bytes(u64::MAX), gpu: u32::MAX };

/// To the second: it is counted anew each time, and must not seem another one for a millisecond.
fn seconds(at: u64) -> UnixMs {
    UnixMs((at + 500) / 1000 * 1000)
}

//! Leases on the lender's side: a control group with limits, a record, and a timer of its own.
//!
//! Invariants: capacity counts as given back only when the group is empty and removed; the lender's timer ends a
//! lease that the head did not end, so that a lost head cannot keep a lender's capacity for ever.

use crate::AgentError;
use crate::agent::{Agent, BOUNDED, Input};
use crate::link::tracing_line;
use grid_os::cgroup::Group;
use grid_os::clock::boot_ms;
use grid_types::lend::TakenBack;
use grid_types::policy::AtEnd;
use grid_types::reason::{Reason, ReasonCode};
use grid_types::wire::{Answer, LeaseHolding, LeaseTerms, Notice};
use grid_types::{AttemptId, BootMs, Bytes, LeaseId, Millis};
use serde::{Deserialize, Serialize};
use std::time::{Duration, Instant};

/// The head ends its leases itself; the lender's timer waits this much longer for it.
const HEAD_FIRST: Duration = Duration::from_secs(2);
/// An overdue lease is looked at again after so long.
const LOOK_AGAIN: Duration = Duration::from_secs(10);
const KILL_WITHIN: Duration = Duration::from_secs(5);

/// What is recorded of a lease.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct LeaseRecord {
    pub(crate) terms: LeaseTerms,
    /// End on this node's CLOCK_BOOTTIME …
    until: BootMs,
    /// … of this boot.
    boot_id: String,
    /// Its lender took it back: its guests are frozen.
    #[serde(default)]
    pub(crate) reclaimed: bool,
    /// The owner of this machine took it back, himself: the head does not let them run again.
    #[serde(default)]
    pub(crate) taken_back: Option<TakenBack>,
}

/// A lease that is held here.
pub(crate) struct Lease {
    pub(crate) record: LeaseRecord,
    pub(crate) group: Group,
    /// Since when its guests are frozen, where that was seen.
    pub(crate) frozen_at: Option<Instant>,
}

impl Lease {
    pub(crate) fn remaining(&self) -> Millis {
        Millis(self.record.until.0.saturating_sub(boot_ms().0))
    }
}

fn end_after(remaining: Millis) -> BootMs {
    BootMs(boot_ms().0.saturating_add(remaining.0))
}

pub(crate) fn failed(e: impl std::fmt::Display) -> Reason {
    Reason::new(ReasonCode::Unknown, e.to_string())
}

impl Agent {
    pub(crate) fn recover_leases(&mut self) -> Result<(), AgentError> {
        for (id, record) in self.ledger.leases::<LeaseRecord>()? {
            let group = self.group(id.as_str(), &BOUNDED);
            if record.boot_id != self.boot_id || !group.exists() {
                // The machine rebooted: nothing can live in it.
                self.ledger.drop_lease(&id)?;
                continue;
            }
            self.leases.insert(id.clone(), Lease { record, group, frozen_at: None });
            self.arm_lease(&id);
        }
        Ok(())
    }

    pub(crate) fn open_lease(&mut self, terms: LeaseTerms) -> Result<Answer, Reason> {
        if let Some(held) = self.leases.get(&terms.lease) {
            return self.open_already(held, &terms);
        }
        self.within_what_is_lent(&terms)?;
        let id = terms.lease.clone();
        let group = self.group(id.as_str(), &BOUNDED);
        let until = end_after(terms.remaining);
        let record = LeaseRecord { terms, until, boot_id: self.boot_id.clone(), reclaimed: false, taken_back: None };
        self.ledger.put_lease(&id, &record).map_err(failed)?;
        let made =
            group.create().and_then(|()| group.set_limits(&record.terms.amount)).and_then(|()| group.describe_limits());
        match made {
            Ok(enforced) => {
                self.leases.insert(id.clone(), Lease { record, group, frozen_at: None });
                self.arm_lease(&id);
                Ok(self.lease_open(&id, &enforced))
            }
            Err(e) => {
                let _ = group.remove();
                self.ledger.drop_lease(&id).map_err(failed)?;
                Err(failed(e))
            }
        }
    }

    /// Asked for once more, it is as it is: what it is, for how long, and whether it was taken back, does not change by that.
    fn open_already(&self, held: &Lease, terms: &LeaseTerms) -> Result<Answer, Reason> {
        let LeaseTerms { lease, amount, epoch, .. } = &held.record.terms;
        if (amount, epoch) != (&terms.amount, &terms.epoch) {
            let other = format!("{lease} is held already, at epoch {epoch}: only an extension changes it");
            return Err(Reason::new(ReasonCode::Expired, other));
        }
        Ok(self.lease_open(lease, &held.group.describe_limits().map_err(failed)?))
    }

    fn lease_open(&self, id: &LeaseId, enforced: &str) -> Answer {
        Answer::LeaseOpen { enforced: format!("{} cgroup {}/{id} reads {enforced}", self.cfg.node, self.cfg.cgroup) }
    }

    pub(crate) fn extend_lease(&mut self, id: &LeaseId, remaining: Millis, epoch: u64) -> Result<Answer, Reason> {
        self.not_reclaimed(id)?;
        self.may_lend_longer()?;
        let lease = self.leases.get_mut(id).ok_or_else(|| no_lease(id))?;
        if epoch <= lease.record.terms.epoch {
            return Err(Reason::new(ReasonCode::Expired, format!("epoch {epoch} is past")));
        }
        let mut record = lease.record.clone();
        record.terms.epoch = epoch;
        record.until = end_after(remaining);
        self.ledger.put_lease(id, &record).map_err(failed)?;
        lease.record = record;
        self.arm_lease(id);
        Ok(Answer::Done)
    }

    fn arm_lease(&self, id: &LeaseId) {
        if let Some(lease) = self.leases.get(id) {
            let pause = Duration::from_millis(lease.remaining().0) + HEAD_FIRST;
            self.after(pause, Input::LeaseTimer { lease: id.clone(), epoch: lease.record.terms.epoch });
        }
    }

    /// The lender's own end of a lease, where the head did not come in time.
    pub(crate) fn lease_timer(&mut self, id: &LeaseId, epoch: u64) {
        let Some(lease) = self.leases.get(id).filter(|l| l.record.terms.epoch == epoch) else { return };
        let force = lease.record.terms.at_end == AtEnd::End;
        match self.close_lease(id, force) {
            Ok(_) => self.notice(Notice::LeaseEnded { lease: id.clone() }),
            Err(reason) => {
                tracing_line(&format!("lease {id} is overdue: {reason}"));
                self.after(LOOK_AGAIN, Input::LeaseTimer { lease: id.clone(), epoch });
            }
        }
    }

    /// Guests whose root still lives in this lease.
    pub(crate) fn guests(&self, id: &LeaseId) -> Vec<AttemptId> {
        self.incoming.iter().filter(|(_, t)| t.lives_in(id)).map(|(a, _)| a.clone()).collect()
    }

    /// Ends a lease: refused where guests live in it, unless by force. What a guest left behind when it ended (a
    /// `setsid` grandchild) is ended in any case.
    pub(crate) fn close_lease(&mut self, id: &LeaseId, force: bool) -> Result<Answer, Reason> {
        let guests = self.guests(id);
        let Some(lease) = self.leases.get(id) else { return Ok(Answer::Done) };
        if !guests.is_empty() && !force {
            return Err(Reason::new(ReasonCode::Away, format!("{} guests still live in {id}", guests.len())));
        }
        let group = lease.group.clone();
        // The trees first and their pid 1 after them, so that how each root ended is written down.
        for guest in &guests {
            if let Some(incoming) = self.incoming.get(guest) {
                incoming.end_tree();
            }
            self.root_ended(guest, 0);
        }
        group.kill(KILL_WITHIN).map_err(failed)?;
        group.remove().map_err(failed)?;
        self.ledger.drop_lease(id).map_err(failed)?;
        self.leases.remove(id);
        Ok(Answer::Done)
    }

    pub(crate) fn lease_holdings(&self) -> Vec<LeaseHolding> {
        let holding = |(id, lease): (&LeaseId, &Lease)| LeaseHolding {
            lease: id.clone(),
            amount: lease.record.terms.amount,
            remaining: lease.remaining(),
            epoch: lease.record.terms.epoch,
            memory_used: lease.group.usage().map_or(Bytes(0), |u| u.1),
            processes: lease.group.pids().len() as u32,
            taken_back: lease.record.taken_back.clone(),
        };
        self.leases.iter().map(holding).collect()
    }
}

pub(crate) fn no_lease(id: &LeaseId) -> Reason {
    Reason::new(ReasonCode::Expired, format!("{id} is not held here"))
}

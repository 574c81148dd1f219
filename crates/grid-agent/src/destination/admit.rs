//! Whether what is asked may come here: into a lease, onto the disk, or home.

use crate::agent::Agent;
use crate::lease::{failed, no_lease};
use crate::park::lacks_room;
use grid_os::criu::available_memory;
use grid_types::reason::{Reason, ReasonCode};
use grid_types::wire::Stage;
use grid_types::{AttemptId, Bytes, NodeName};

impl Agent {
    /// The lender's own look at what is asked of it: no more is taken off the stream than the lease still holds,
    /// whatever the source says.
    pub(super) fn admit(&self, attempt: &AttemptId, from: &NodeName, stage: &mut Stage) -> Result<(), Reason> {
        if stage.park
            && let Some(reason) = lacks_room(&self.parked_place(attempt), stage.expected)
        {
            return Err(reason);
        }
        // A worker's disk keeps what comes by its hub; what is parked here needs no leave to come from here. Else home is
        // open only to what left from here, to whom it comes from, as whose it left.
        let open = *from == self.cfg.node || (stage.park && !self.is_hub());
        if stage.lease.is_none() && !open && !self.went_to(from, stage) {
            let detail = format!("{}: nothing of uid {}'s of that name went to {from}", stage.offload, stage.uid);
            return Err(Reason::new(ReasonCode::Gate, detail));
        }
        self.admit_to_lease(stage)
    }

    fn admit_to_lease(&self, stage: &mut Stage) -> Result<(), Reason> {
        let Some(id) = &stage.lease else {
            // Nobody's word but this machine's own: what comes home is not more than what is free here.
            stage.admitted = stage.admitted.min(Bytes(available_memory().map_err(failed)?));
            return Ok(());
        };
        self.not_reclaimed(id)?;
        self.not_going_to_sleep()?;
        let lease = self.leases.get(id).ok_or_else(|| no_lease(id))?;
        let used = lease.group.usage().map_or(Bytes(0), |u| u.1);
        let limit = lease.record.terms.amount.memory;
        if used.0.saturating_add(stage.expected.0) > limit.0 {
            let detail = format!("{} arrives, {id} holds {used} of {limit}", stage.expected);
            return Err(Reason::new(ReasonCode::NoFit, detail));
        }
        stage.admitted = stage.admitted.min(Bytes(limit.0 - used.0));
        Ok(())
    }
}

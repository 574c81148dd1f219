//! Who sees what: everybody nodes and leases, each their own processes, root and the group `grid` all.

use crate::head::Head;
use grid_types::OffloadId;
use grid_types::api::OffloadView;
use grid_types::event::Event;
use grid_types::plan::Plan;

/// The reader of an answer, by the uid that the kernel named.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reader {
    /// Root, or a member of the group `grid`.
    All,
    /// Anybody else: this uid.
    Own(u32),
}

impl Reader {
    pub(crate) fn of(uid: u32) -> Self {
        if uid == 0 || in_group(uid).is_some() { Reader::All } else { Reader::Own(uid) }
    }

    pub(crate) fn sees(self, owner: u32) -> bool {
        match self {
            Reader::All => true,
            Reader::Own(uid) => uid == owner,
        }
    }

    pub(crate) fn offloads(self, mut views: Vec<OffloadView>) -> Vec<OffloadView> {
        views.retain(|v| self.sees(v.record.uid));
        views
    }

    /// A plan without the processes of others.
    pub(crate) fn plan(self, mut plan: Plan) -> Plan {
        if self != Reader::All {
            plan.steps.retain(|s| self.sees(s.uid));
            plan.stays.clear();
        }
        plan
    }

    /// An event is about the reader's own, or about no process at all.
    pub(crate) fn event(self, head: &Head, event: &Event) -> bool {
        let own = |id: &OffloadId| head.offload_record(id).is_ok_and(|o| self.sees(o.uid));
        match event {
            _ if self == Reader::All => true,
            Event::OffloadStarted { uid, .. } => self.sees(*uid),
            Event::OffloadMoved { offload, .. }
            | Event::OffloadFailed { offload, .. }
            | Event::RecallStarted { offload, .. }
            | Event::Recalled { offload, .. }
            | Event::RecallFailed { offload, .. }
            | Event::ProcessEnded { offload, .. }
            | Event::OffloadInDoubt { offload, .. }
            | Event::OffloadResolved { offload, .. } => own(offload),
            Event::PlanMade { .. }
            | Event::PlanSettled { .. }
            | Event::HookFinished { .. }
            | Event::BoostOverdue { .. } => false,
            _ => true,
        }
    }
}

fn in_group(uid: u32) -> Option<()> {
    let group = nix::unistd::Group::from_name("grid").ok().flatten()?;
    let user = nix::unistd::User::from_uid(uid.into()).ok().flatten()?;
    (user.gid == group.gid || group.mem.contains(&user.name)).then_some(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn others_see_their_own_only() {
        assert!(Reader::of(0).sees(1234));
        assert!(Reader::Own(7).sees(7));
        assert!(!Reader::Own(7).sees(8));
    }
}

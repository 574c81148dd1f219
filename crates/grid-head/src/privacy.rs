//! Who sees and may do what: everybody sees nodes, leases and their own processes, and moves these; a group may boost;
//! root sees all and sets policy.

use crate::head::{Head, fault};
use grid_os::peer::Peer;
use grid_types::OffloadId;
use grid_types::api::{ApiError, BoostView, OffloadView};
use grid_types::boost::BoostState;
use grid_types::event::{Actor, Event, EventRecord};
use grid_types::exit::FaultClass;
use grid_types::plan::Plan;
use grid_types::reason::ReasonCode;

/// Who asks, by what the kernel says of the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Asker {
    pub(crate) uid: u32,
    /// Root, or a member of the group that may.
    pub(crate) may_boost: bool,
}

impl Asker {
    /// `group`: name or number of the group that may boost. One that does not exist has no members.
    pub(crate) fn of(peer: &Peer, group: &str) -> Self {
        let member = group_id(group).is_some_and(|gid| peer.is_in(gid));
        Self { uid: peer.uid, may_boost: peer.uid == 0 || member }
    }

    pub(crate) fn reader(self) -> Reader {
        Reader::of(self.uid)
    }
}

fn group_id(name: &str) -> Option<u32> {
    let named = || grid_os::users::group_named(name).ok().flatten();
    name.parse().ok().or_else(named)
}

/// The reader of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reader {
    /// Root.
    All,
    /// Anybody else: this uid.
    Own(u32),
}

impl Reader {
    pub(crate) fn of(uid: u32) -> Self {
        if uid == 0 { Reader::All } else { Reader::Own(uid) }
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

    /// A boost without the processes of others that keep it.
    pub(crate) fn boost(self, mut view: BoostView) -> BoostView {
        if let (Reader::Own(_), BoostState::Overdue { detail }) = (self, &mut view.boost.state) {
            "some of what lives in it stays; each owner sees theirs".clone_into(detail);
        }
        view
    }

    /// There is something of the reader's in it.
    pub(crate) fn sees_plan(self, plan: &Plan) -> bool {
        self == Reader::All || plan.steps.iter().any(|s| self.sees(s.uid))
    }

    /// A plan without the processes of others.
    pub(crate) fn plan(self, mut plan: Plan) -> Plan {
        if self != Reader::All {
            plan.steps.retain(|s| self.sees(s.uid));
            plan.stays.clear();
        }
        plan
    }

    /// All of it may be executed by the reader; else a refusal that tells nothing of the others' processes.
    pub(crate) fn whole_plan(self, plan: &Plan) -> Result<(), ApiError> {
        if self == Reader::All || plan.steps.iter().all(|s| self.sees(s.uid)) {
            return Ok(());
        }
        let own = self.plan(plan.clone()).steps;
        let hint = own.first().map(|s| format!("yours alone: grid offload execute {}", s.process.pid));
        Err(ApiError { hint: hint.or(others("").hint), ..others(&format!("a process of plan {}", plan.id)) })
    }

    /// The record as the reader may see it: of their own, or about no process at all.
    pub(crate) fn event(self, head: &Head, record: EventRecord) -> Option<EventRecord> {
        let own = |id: &OffloadId| head.offload_record(id).is_ok_and(|o| self.sees(o.uid));
        let asked = matches!(&record.actor, Actor::User { uid, .. } if self.sees(*uid));
        let shown = match &record.event {
            _ if self == Reader::All => true,
            Event::OffloadStarted { uid, .. } => self.sees(*uid),
            Event::KeepSet { keep } => self.sees(keep.uid),
            Event::KeepDropped { .. } | Event::PressureSkipped { .. } => asked,
            Event::OffloadMoved { offload, .. }
            | Event::OffloadListens { offload, .. }
            | Event::OffloadFailed { offload, .. }
            | Event::RecallStarted { offload, .. }
            | Event::Recalled { offload, .. }
            | Event::RecallFailed { offload, .. }
            | Event::OnwardStarted { offload, .. }
            | Event::OnwardMoved { offload, .. }
            | Event::OnwardFailed { offload, .. }
            | Event::ParkStarted { offload, .. }
            | Event::Parked { offload, .. }
            | Event::ParkFailed { offload, .. }
            | Event::UnparkStarted { offload, .. }
            | Event::Unparked { offload, .. }
            | Event::UnparkFailed { offload, .. }
            | Event::ProcessEnded { offload, .. }
            | Event::OffloadInDoubt { offload, .. }
            | Event::OffloadResolved { offload, .. } => own(offload),
            // What somebody asked is theirs; what a rule planned is nobody's.
            Event::PlanMade { .. } => asked,
            Event::PlanSettled { .. } | Event::HookFinished { .. } | Event::BoostOverdue { .. } => false,
            _ => true,
        };
        shown.then(|| match record.event {
            Event::PlanMade { plan } => EventRecord { event: Event::PlanMade { plan: self.plan(plan) }, ..record },
            _ => record,
        })
    }
}

/// The refusal of what is another user's.
pub(crate) fn others(what: &str) -> ApiError {
    ApiError {
        code: Some(ReasonCode::Owner),
        hint: Some(ReasonCode::Owner.fix().to_owned()),
        ..fault(FaultClass::Permission, format!("{what} belongs to another user. Nothing was changed."))
    }
}

/// The refusal of what takes a right that the asker does not have.
pub(crate) fn not_allowed(who: &str, what: &str, hint: &str) -> ApiError {
    ApiError {
        code: Some(ReasonCode::Right),
        hint: Some(hint.to_owned()),
        ..fault(FaultClass::Permission, format!("only {who} may {what}. Nothing was changed."))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peer(uid: u32, gid: u32, groups: &[u32]) -> Peer {
        Peer { pid: None, uid, gid, groups: groups.to_vec() }
    }

    #[test]
    fn others_see_their_own_only() {
        assert!(Reader::of(0).sees(1234));
        assert!(Reader::of(7).sees(7));
        assert!(!Reader::of(7).sees(8));
    }

    #[test]
    fn members_of_the_group_may_boost_and_see_no_more_for_it() {
        let may = |p: Peer, group: &str| Asker::of(&p, group).may_boost;
        assert!(may(peer(0, 0, &[]), "no-such-group"));
        assert!(!may(peer(7, 7, &[8]), "no-such-group"));
        assert!(may(peer(7, 7, &[8, 4711]), "4711") && may(peer(7, 4711, &[]), "4711"));
        assert!(!may(peer(7, 7, &[8]), "4711"));
        assert!(may(peer(7, 0, &[]), "root"), "a group by its name");
        assert_eq!(Asker::of(&peer(7, 7, &[4711]), "4711").reader(), Reader::Own(7));
    }
}

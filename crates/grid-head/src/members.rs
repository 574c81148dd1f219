//! Nodes that come and go while the cluster runs. The supervisor reaches them and ends what is there; here it is decided
//! whether one may leave, and the journal is told. Each call may be repeated: whoever asks cannot know whether a daemon that
//! was killed had done it.

use crate::head::{Head, fault, refused};
use grid_engine::Agents;
use grid_types::api::{ApiError, LeaveReply, NodeGone, NodeJoin, NodeLeave, NodeView};
use grid_types::boost::{Boost, BoostState, EndReason};
use grid_types::event::{Actor, Event, OffloadPhase, OffloadRecord};
use grid_types::exit::FaultClass;
use grid_types::policy::Role;
use grid_types::reason::{Reason, ReasonCode};
use grid_types::wire::Request;
use grid_types::{BoostId, NodeName};

impl Head {
    /// A node is one of the cluster's from now on.
    pub(crate) fn add_node(&self, ask: NodeJoin) -> Result<NodeView, ApiError> {
        let NodeJoin { node, by } = ask;
        let name = node.name.clone();
        if node.role == Role::Head || name == self.head_name() {
            return Err(fault(FaultClass::Usage, format!("{name} is the head. Nothing was changed.")));
        }
        if !self.inner.borrow().state.added.contains_key(&name) {
            self.record(&by, Event::NodeAdded { node: name.clone(), host: node.host.clone() })?;
        }
        {
            let nodes = &mut self.inner.borrow_mut().cfg.config.nodes;
            nodes.retain(|known| known.name != name);
            nodes.push(node);
        }
        let view = self.node_views().into_iter().find(|view| view.node == name);
        view.ok_or_else(|| fault(FaultClass::Internal, format!("{name} has no view")))
    }

    /// Whether a node may be removed: nothing lives there, is lent or is parked there. If so it takes nothing new, so that
    /// this stays true.
    pub(crate) async fn leave_node(&self, name: &str, ask: &NodeLeave) -> Result<LeaveReply, ApiError> {
        let node = self.lender_named(name)?;
        let view = self.node_views().into_iter().find(|view| view.node == node);
        let view = view.ok_or_else(|| fault(FaultClass::Internal, format!("{node} has no view")))?;
        // A link that is cut is there for a while.
        let answers = view.state == "ready";
        let there: Vec<OffloadRecord> = self.inner.borrow().state.is_on(&node).into_iter().cloned().collect();
        nobody_there(&node, &there, !answers && ask.unreachable && ask.give_up)?;
        let lent = self.boosts_on(&node);
        may_be_lost(&node, &lent, answers || !ask.unreachable)?;
        if !answers && !ask.unreachable {
            let reason = Reason::new(ReasonCode::Silent, format!("{node} does not answer"));
            let hint = format!(
                "grid node remove {node} --unreachable  takes it off the list all the same: what grid has there stays there, \
                 and cannot come back (with --give-up also where processes are there: they count as lost)"
            );
            return Err(ApiError { hint: Some(hint), ..refused(&reason, UNCHANGED) });
        }
        let lost: Vec<BoostId> = lent.iter().map(|b| b.id.clone()).collect();
        let given_up = there.iter().map(|o| format!("{} {} {}", o.id, o.process.pid, o.title)).collect();
        if !ask.dry_run {
            self.cordon(node.as_str(), true, false, &ask.by)?;
            self.give_up(&node, &there, &ask.by).await?;
            self.lose(&lent, &ask.by)?;
        }
        Ok(LeaveReply { node: view, answers, lost, given_up })
    }

    /// What lived there counts as lost, and its shadows at home leave.
    async fn give_up(&self, node: &NodeName, there: &[OffloadRecord], by: &Actor) -> Result<(), ApiError> {
        if there.is_empty() {
            return Ok(());
        }
        let told = self.hub().ask(&self.head_name(), Request::LoseNode { node: node.clone() }).await;
        told.map_err(|reason| refused(&reason, UNCHANGED))?;
        for o in there {
            // A shadow that has left meanwhile has been reported.
            if self.offload_record(&o.id).is_ok_and(|now| now.phase.is_guest()) {
                self.record(by, Event::ProcessEnded { offload: o.id.clone(), status: None })?;
            }
        }
        Ok(())
    }

    fn lose(&self, lent: &[Boost], by: &Actor) -> Result<(), ApiError> {
        let why = EndReason::LenderLost;
        for boost in lent {
            if !matches!(boost.state, BoostState::Ending { .. }) {
                self.record(by, Event::BoostEnding { boost: boost.id.clone(), why })?;
            }
            self.record(by, Event::BoostEnded { boost: boost.id.clone(), why })?;
        }
        Ok(())
    }

    /// A node is none of the cluster's any more; false where it was none.
    pub(crate) fn drop_node(&self, name: &str, ask: NodeGone) -> Result<bool, ApiError> {
        let node = NodeName::new(name);
        if node == self.head_name() {
            return Err(fault(FaultClass::Usage, format!("{node} is the head. Nothing was changed.")));
        }
        let known = {
            let inner = self.inner.borrow();
            let state = &inner.state;
            let listed = inner.cfg.config.nodes.iter().any(|n| n.name == node);
            listed || state.cordoned.contains_key(&node) || state.added.contains_key(&node)
        };
        if known {
            self.record(&ask.by, Event::NodeRemoved { node: node.clone(), left: ask.left })?;
        }
        let mut inner = self.inner.borrow_mut();
        inner.cfg.config.nodes.retain(|n| n.name != node);
        inner.heard.remove(&node);
        inner.links.remove(&node);
        inner.older.remove(&node);
        Ok(known)
    }
}

/// Where somebody gives up what is there, only what is under way stands in the way: nobody knows yet where it runs.
fn nobody_there(node: &NodeName, there: &[OffloadRecord], give_up: bool) -> Result<(), ApiError> {
    let lives = |o: &OffloadRecord| matches!(o.phase, OffloadPhase::Away | OffloadPhase::Parked);
    let stand: Vec<&OffloadRecord> = there.iter().filter(|o| !(give_up && lives(o))).collect();
    let Some(first) = stand.first() else { return Ok(()) };
    let parked = |o: &OffloadRecord| o.phase == OffloadPhase::Parked;
    let hint = match first {
        o if o.phase == OffloadPhase::InDoubt => format!("grid offload resolve {}", o.id),
        o if stand.iter().all(|o| parked(o)) => format!("grid offload unpark {}", o.id),
        _ => format!("grid node drain {node}, or grid node remove {node} --drain"),
    };
    let lines = stand.iter().map(|o| {
        let what = if parked(o) { "is parked on its disk".to_owned() } else { format!("is {}", o.phase) };
        format!("{} {} {} {what}", o.id, o.process.pid, o.title)
    });
    Err(ApiError {
        details: lines.collect(),
        hint: Some(hint),
        ..fault(FaultClass::Conflict, format!("{node} cannot be removed yet: it holds processes. Nothing was changed."))
    })
}

const UNCHANGED: &str = "it was not removed, and nothing was changed";

/// What is lent there stands in the way; only of a node that does not answer, and where nobody is in it, it counts as lost.
fn may_be_lost(node: &NodeName, lent: &[Boost], stands: bool) -> Result<(), ApiError> {
    let in_the_way = |b: &&Boost| stands || b.state == BoostState::Granting;
    let lines: Vec<String> = lent.iter().filter(in_the_way).map(|b| format!("{} {}", b.id, b.amount)).collect();
    if lines.is_empty() {
        return Ok(());
    }
    let what = format!("{node} cannot be removed yet: it lends. Nothing was changed.");
    let hint = format!("grid node drain {node}, or grid node remove {node} --drain");
    Err(ApiError { details: lines, hint: Some(hint), ..fault(FaultClass::Conflict, what) })
}

//! Nodes that come and go while the cluster runs.

use super::{ApplyError, State};
use grid_types::NodeName;
use grid_types::event::{AddedNode, Event, EventRecord, OffloadRecord};

impl State {
    pub(super) fn member_event(&mut self, rec: &EventRecord) -> Result<(), ApplyError> {
        match &rec.event {
            Event::NodeAdded { node, .. } if self.added.contains_key(node) => {
                return Err(ApplyError::Already("it was added already"));
            }
            Event::NodeAdded { node, host } => {
                let added = AddedNode { host: host.clone(), since: rec.at, by: rec.actor.clone() };
                self.added.insert(node.clone(), added);
            }
            Event::NodeRemoved { node, .. } => {
                let boost = self.live_boosts().find(|b| b.lender == *node).map(|b| b.id.to_string());
                let what = boost.or_else(|| self.is_on(node).first().map(|o| o.id.to_string()));
                if let Some(what) = what {
                    return Err(ApplyError::NodeInUse { node: node.clone(), what });
                }
                self.added.remove(node);
                self.cordoned.remove(node);
                self.no_lending.remove(node);
                self.nodes.remove(node);
            }
            _ => {}
        }
        Ok(())
    }

    /// What lives on a node, comes to it, leaves it, or is parked there.
    pub fn is_on(&self, node: &NodeName) -> Vec<&OffloadRecord> {
        let there = |o: &&OffloadRecord| {
            let (onward, parked) = (o.onward.as_ref().map(|to| &to.node), o.parked.as_ref().map(|at| &at.node));
            o.phase.is_guest() && (o.destination == *node || onward == Some(node) || parked == Some(node))
        };
        self.offloads.values().filter(there).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{push, started, with_boost};
    use super::*;
    use crate::lease::fixtures::res;
    use grid_types::boost::EndReason;

    #[test]
    fn a_node_is_added_once_and_leaves_only_when_nothing_is_there() {
        let mut s = with_boost();
        let node = s.boosts[&"b-1".into()].lender.clone();
        let added = || Event::NodeAdded { node: node.clone(), host: "gpu1.lab".into() };
        let removed = || Event::NodeRemoved { node: node.clone(), left: None };
        push(&mut s, added()).unwrap();
        assert!(push(&mut s, added()).is_err());
        push(&mut s, Event::NodeSeen { node: node.clone() }).unwrap();
        push(&mut s, Event::NodeCordoned { node: node.clone() }).unwrap();
        assert!(push(&mut s, removed()).unwrap_err().to_string().contains("b-1 is there"));
        push(&mut s, Event::NodeUncordoned { node: node.clone() }).unwrap();
        push(&mut s, started("o-1", "o-1", 1, res(100, 100, 0))).unwrap();
        assert_eq!(s.is_on(&node).len(), 1);
        let failed = Event::OffloadFailed {
            offload: "o-1".into(),
            attempt: "o-1".into(),
            reason: grid_types::Reason::new(grid_types::ReasonCode::Link, "x"),
        };
        push(&mut s, failed).unwrap();
        push(&mut s, Event::BoostEnding { boost: "b-1".into(), why: EndReason::LenderLost }).unwrap();
        push(&mut s, Event::BoostEnded { boost: "b-1".into(), why: EndReason::LenderLost }).unwrap();
        push(&mut s, Event::NodeCordoned { node: node.clone() }).unwrap();
        push(&mut s, removed()).unwrap();
        assert!(s.added.is_empty() && s.cordoned.is_empty() && s.nodes.is_empty());
        push(&mut s, added()).unwrap();
    }
}

//! What is asked of nodes: to come, to go, to take nothing new.

use super::{BoostView, OffloadView};
use crate::event::{Actor, AddedNode, Cordon};
use crate::facts::NodeFacts;
use crate::ids::{BoostId, NodeName};
use crate::policy::NodeConfig;
use crate::units::{Millis, Resources};
use serde::{Deserialize, Serialize};

/// A node as it is seen now.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct NodeView {
    /// Its name.
    pub node: NodeName,
    /// It is the head.
    pub head: bool,
    /// `ready`, `silent`, `unknown` (never seen).
    pub state: String,
    /// Time since it was heard of; none = never.
    pub seen: Option<Millis>,
    /// Last facts, however old.
    pub facts: Option<NodeFacts>,
    /// What it could lend now; none where nothing is known, or it lends nothing.
    pub lendable: Option<Resources>,
    /// What it has lent.
    pub lent: Resources,
    /// Why it lends nothing, where it does not.
    pub why: Option<String>,
    /// What its owner lends at most, where that is less than the configuration's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limited: Option<String>,
    /// It takes nothing new since then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cordoned: Option<Cordon>,
    /// It was added while the cluster ran.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub added: Option<AddedNode>,
}

/// A node that was reached, and is one of the cluster's from now on. Repeated, it changes nothing.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct NodeJoin {
    /// What it is.
    pub node: NodeConfig,
    /// Who wants it.
    pub by: Actor,
}

/// A node that shall be removed: where nothing is there, it takes nothing new from now on.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct NodeLeave {
    /// Also where it does not answer.
    #[serde(default)]
    pub unreachable: bool,
    /// And with what lives there, which counts as lost.
    #[serde(default)]
    pub give_up: bool,
    /// Only say what would happen.
    #[serde(default)]
    pub dry_run: bool,
    /// Who wants it.
    pub by: Actor,
}

/// That a node may be removed.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct LeaveReply {
    /// It, as it was.
    pub node: NodeView,
    /// It answers: what is there can be ended.
    pub answers: bool,
    /// Boosts that count as lost: only of a node that does not answer.
    pub lost: Vec<BoostId>,
    /// What lived there and counts as lost, for people: only where somebody gave it up.
    #[serde(default)]
    pub given_up: Vec<String>,
}

/// A node that was removed. Repeated, it changes nothing.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct NodeGone {
    /// What could not be ended or removed there.
    #[serde(default)]
    pub left: Option<String>,
    /// Who wanted it.
    pub by: Actor,
}

/// Everything away from a node.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub struct DrainAsk {
    /// How long to wait for what lives there to leave.
    #[serde(default)]
    pub within: Millis,
    /// Only say what would happen.
    #[serde(default)]
    pub dry_run: bool,
}

/// What a drain came to, or would.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct DrainReply {
    /// The node.
    pub node: NodeName,
    /// What was lent there when it began, as it is at the end.
    pub boosts: Vec<BoostView>,
    /// For a dry run: what would be done first with each.
    pub steps: Vec<DrainStep>,
    /// What stays on its disk.
    pub parked: Vec<OffloadView>,
    /// In all.
    pub took: Millis,
}

/// What a drain would do first with a boost.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DrainStep {
    /// Which.
    pub boost: BoostId,
    /// What, for people.
    pub what: String,
}

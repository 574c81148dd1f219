//! Who is linked to this agent, and how a frame gets to whom it is for.

use crate::AgentRole;
use crate::agent::{Agent, Input};
use crate::link::Outbox;
use grid_types::NodeName;
use grid_types::reason::{Reason, ReasonCode};
use grid_types::wire::{Body, Frame, Notice, Party, Refusal};

/// A link that is up.
pub(crate) struct Linked {
    pub(crate) outbox: Outbox,
    /// The version of its frames, where the other end is a worker.
    pub(crate) protocol: Option<u32>,
}

impl Agent {
    pub(crate) fn link_up(&mut self, party: Party, link: Linked, boot_id: Option<String>) {
        let protocol = link.protocol;
        self.links.insert(party.clone(), link);
        self.told_facts = None;
        let Party::Agent(node) = party else { return self.tell_links() };
        self.lost_nodes.remove(&node);
        let before = boot_id.clone().and_then(|b| self.peer_boots.insert(node.clone(), b));
        let rebooted = before.is_some() && before != boot_id;
        self.tell_link(&node, true, protocol);
        self.tell_stop(Some(&node));
        self.peer_up(&node, rebooted);
    }

    /// Which agents are linked, to a daemon that has just come.
    fn tell_links(&self) {
        for (party, link) in &self.links {
            if let Party::Agent(node) = party {
                self.tell_link(node, true, link.protocol);
            }
        }
    }

    /// Whom the hub is linked with is its daemon's to know.
    fn tell_link(&self, node: &NodeName, up: bool, protocol: Option<u32>) {
        if self.is_hub() {
            self.notice(Notice::Link { node: node.clone(), up, protocol });
        }
    }

    pub(crate) fn agents_up(&self) -> impl Iterator<Item = &NodeName> {
        self.links.keys().filter_map(|p| match p {
            Party::Agent(node) => Some(node),
            Party::Daemon => None,
        })
    }

    pub(crate) fn link_down(&mut self, party: &Party, outbox: &Outbox) {
        // A newer link of the same party may be up already.
        if self.links.get(party).is_some_and(|link| link.outbox.same_channel(outbox)) {
            self.links.remove(party);
            if let Party::Agent(node) = party {
                self.tell_link(node, false, None);
                self.peer_lost(node);
            }
        }
    }

    /// Frames for others are passed on (the hub's work); ours are handled.
    pub(crate) fn route(&mut self, frame: Frame) {
        let me = Party::Agent(self.cfg.node.clone());
        if frame.to == me {
            return self.receive(frame);
        }
        if let (Err(Body::Request { id, .. }), from) = (self.deliver(frame.to.clone(), frame.clone()), frame.from) {
            let detail = match &frame.to {
                Party::Agent(node) => format!("{node} has no link to the head"),
                Party::Daemon => "the daemon has no link".to_owned(),
            };
            let refusal = Refusal { reason: Reason::new(ReasonCode::Silent, detail) };
            self.say(from, Body::Response { id, result: Err(refusal) });
        }
    }

    /// Hands a frame to the link that leads to `to`; a spoke's only link leads everywhere.
    fn deliver(&self, to: Party, mut frame: Frame) -> Result<(), Body> {
        // Both ends of an attempt can be here: what is parked on the disk of the node where it lives.
        if to == Party::Agent(self.cfg.node.clone()) {
            let _ = self.inputs.send(Input::Frame(frame));
            return Ok(());
        }
        let link = match self.cfg.role {
            AgentRole::Hub { .. } => self.links.get(&to),
            AgentRole::Spoke { .. } => self.links.values().next(),
        };
        if let (true, Party::Agent(node)) = (self.is_hub(), &to) {
            self.handed_out.put_into(&mut frame, node);
        }
        match link {
            Some(link) => link.outbox.try_send(frame).map_err(|e| e.into_inner().body),
            None => Err(frame.body),
        }
    }

    /// Says something; it may get lost, and every speaker copes with that.
    pub(crate) fn say(&self, to: Party, body: Body) {
        let from = Party::Agent(self.cfg.node.clone());
        let _ = self.deliver(to.clone(), Frame { from, to, body });
    }

    pub(crate) fn notice(&self, notice: Notice) {
        self.say(Party::Daemon, Body::Notice { notice: Box::new(notice) });
    }

    /// The node where shadows are: the hub, which is this one or at the other end of the only link.
    pub(crate) fn home_node(&self) -> Option<NodeName> {
        if self.is_hub() { Some(self.cfg.node.clone()) } else { self.agents_up().next().cloned() }
    }

    pub(crate) fn knows(&self, party: &Party) -> bool {
        self.links.contains_key(party)
    }

    /// A link to this node's agent is there.
    pub(crate) fn reaches(&self, node: &NodeName) -> bool {
        match self.cfg.role {
            AgentRole::Hub { .. } => self.links.contains_key(&Party::Agent(node.clone())),
            AgentRole::Spoke { .. } => !self.links.is_empty(),
        }
    }
}

//! The embedded engine: the lender's agent holds the lease, as a control group of its own.

use crate::{Agents, Engine};
use grid_types::reason::{Reason, ReasonCode};
use grid_types::wire::{Answer, LeaseTerms, Request};
use grid_types::{LeaseId, NodeName};

/// Leases held by the agents of the embedded cluster.
#[derive(Clone, Debug)]
pub struct Local<A>(pub A);

impl<A: Agents> Engine for Local<A> {
    fn name(&self) -> &'static str {
        "local"
    }

    async fn start(&self, node: &NodeName, terms: LeaseTerms) -> Result<String, Reason> {
        match self.0.ask(node, Request::OpenLease { lease: terms }).await? {
            Answer::LeaseOpen { enforced } => Ok(enforced),
            other => Err(Reason::new(ReasonCode::Unknown, format!("{node} answered {other:?}"))),
        }
    }

    async fn stop(&self, node: &NodeName, lease: &LeaseId, force: bool) -> Result<(), Reason> {
        self.0.ask(node, Request::CloseLease { lease: lease.clone(), force }).await.map(|_| ())
    }
}

//! What makes a lease real: an engine starts the holder of a lease on its lender, and stops it.
//!
//! One module an engine; each renders and parses purely and acts in one place. So far there is `local`, whose nodes
//! have an agent that holds leases itself: a call is one request to that agent.
#![cfg_attr(not(test), deny(clippy::print_stdout, clippy::print_stderr))] // they panic where the reader has gone

pub mod local;

pub use local::Local;

use grid_types::NodeName;
use grid_types::reason::Reason;
use grid_types::wire::{Answer, LeaseTerms, Request};
use std::future::Future;

/// How an engine reaches the agents of nodes.
pub trait Agents {
    /// Asks the agent of a node; a refusal or a silent node is the error.
    fn ask(&self, node: &NodeName, request: Request) -> impl Future<Output = Result<Answer, Reason>>;
}

/// Starts and stops leases on lenders.
pub trait Engine {
    /// Its name in messages.
    fn name(&self) -> &'static str;
    /// Makes the lender hold the capacity. Returns what the lender's kernel reports of the limits.
    ///
    /// # Errors
    /// Nothing is left of a lease that failed to start, or the agent is silent and its own timer ends it.
    fn start(&self, node: &NodeName, terms: LeaseTerms) -> impl Future<Output = Result<String, Reason>>;
    /// Ends the lease; refused while guests live in it, unless `force`. After `Ok` its control group is gone, so it
    /// was empty.
    fn stop(
        &self,
        node: &NodeName,
        terms: &grid_types::LeaseId,
        force: bool,
    ) -> impl Future<Output = Result<(), Reason>>;
}

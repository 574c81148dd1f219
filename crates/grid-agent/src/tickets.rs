//! Tickets for the connections that carry memory (`grid_core::tickets`): put into frames by the hub, kept by workers until
//! they dial.

use crate::agent::Agent;
use grid_core::tickets::Tickets;
use grid_os::random;
use grid_types::wire::{Body, Frame, Request};
use grid_types::{AttemptId, NodeName};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

/// So many are kept by a worker: each is of a move that was ordered and did not dial.
const MOST_HELD: usize = 1024;

/// The hub's, known to whoever greets.
#[derive(Clone, Default)]
pub(crate) struct HandedOut(Arc<Mutex<Tickets>>);

impl HandedOut {
    /// Puts one into a frame that has this worker dial; whatever its sender put there is gone.
    pub(crate) fn put_into(&self, frame: &mut Frame, node: &NodeName) {
        match &mut frame.body {
            Body::Request { request, .. } => {
                if let Request::StartMove { order, ticket } = &mut **request {
                    *ticket = self.hand_out(&order.attempt, node);
                }
            }
            Body::Down { message, stage, ticket } => {
                *ticket = stage.as_ref().and_then(|_| self.hand_out(message.attempt(), node));
            }
            _ => {}
        }
    }

    fn hand_out(&self, attempt: &AttemptId, node: &NodeName) -> Option<String> {
        // Without randomness there is none, and the dialling is refused.
        let fresh = random::hex::<32>().ok()?;
        Some(self.0.lock().unwrap_or_else(PoisonError::into_inner).hand_out(attempt, node, fresh))
    }

    /// Takes one that is shown.
    pub(crate) fn spend(&self, attempt: &AttemptId, node: &NodeName, shown: &str) -> Result<(), String> {
        let spent = self.0.lock().unwrap_or_else(PoisonError::into_inner).spend(attempt, node, shown);
        spent.map_err(|why| format!("{node} may not carry the memory of {attempt}: {why}"))
    }
}

/// A worker's, until it dials.
#[derive(Default)]
pub(crate) struct Held(BTreeMap<AttemptId, String>);

impl Held {
    pub(crate) fn take(&mut self, attempt: &AttemptId) -> String {
        self.0.remove(attempt).unwrap_or_default()
    }
}

impl Agent {
    /// Keeps what came with a frame.
    pub(crate) fn hold_ticket(&mut self, attempt: &AttemptId, ticket: Option<String>) {
        let Some(ticket) = ticket else { return };
        if self.held.0.len() >= MOST_HELD {
            self.held.0.clear();
        }
        self.held.0.insert(attempt.clone(), ticket);
    }
}

//! Leases: what a node can lend now, and which node lends for a request.
//!
//! Owns the arithmetic of lending. Never grants by itself: a [`Grant`] is an answer; the lease exists once
//! `LeaseGranted` is in the journal. Invariants, each a property test:
//!
//! - a lender is never promised beyond its `lending_limit`, nor beyond its measured free capacity less the reserve;
//! - one lease on one node, all or nothing; what is unknown lends nothing;
//! - a refusal has a reason with exact figures for every node that was considered.
//!
//! ```text
//! lendable = min( lending_limit − promised ,
//!                 total − own use − promised − reserve ,      part by part, never below zero
//!                 spare memory )                              where its owner keeps some free (`lend`)
//! own use  = used − min(lease_use, promised)                  guests beyond their lease count as own use
//! reserve  = total × excess × factor of the sharing policy    CPU and memory; GPUs are lent whole
//! ```

mod admit;
mod amount;
#[cfg(test)]
pub(crate) mod fixtures;
mod lendable;
mod request;
#[cfg(test)]
mod tests;

pub use admit::{Grant, Nearest, Refusal, admit};
pub use amount::{MEMORY_FLOOR, complete_amount};
pub use lendable::{Lendable, clock_text, lendable, reserve};
pub use request::{RequestFault, Terms, validate_extension, validate_request};

use grid_types::lend::Lending;
use grid_types::policy::NodeSharing;
use grid_types::reason::Reason;
use grid_types::{BoostId, Millis, NodeName, Resources, UnixMs};

/// A live lease of a lender, as reasons name it.
#[derive(Clone, Debug, PartialEq)]
pub struct Lent {
    /// The boost that holds it.
    pub boost: BoostId,
    /// How much is promised.
    pub amount: Resources,
    /// Until when, wall clock.
    pub until_unix: UnixMs,
}

/// A node as a possible lender at one moment.
#[derive(Clone, Debug, PartialEq)]
pub struct LenderView {
    /// The node.
    pub node: NodeName,
    /// All of it (what its agent may use).
    pub total: Resources,
    /// Measured use, guests included; `None` where it is unknown or stale, and never zero for that.
    pub used: Option<Resources>,
    /// What it may lend.
    pub sharing: NodeSharing,
    /// Its live leases: every boost on it that still holds capacity.
    pub leases: Vec<Lent>,
    /// What guests in these leases use, contained in `used`.
    pub lease_use: Resources,
    /// What its own agent says that it lends: configuration and owner together.
    pub says: Option<Lending>,
    /// It takes nothing new.
    pub cordoned: bool,
    /// Nor where its grid is an older one.
    pub older: Option<Reason>,
    /// Set where it has not been heard of for longer than the policy's `stale_after`.
    pub silent_for: Option<Millis>,
}

impl LenderView {
    /// Sum of its live leases.
    pub fn promised(&self) -> Resources {
        self.leases.iter().fold(Resources::default(), |sum, l| sum.saturating_add(&l.amount))
    }
}

//! Which frames two programs understand that are not the same grid.
//!
//! A head is never older than its workers: it brings them its own program. But a worker that is away while the head is
//! upgraded comes back with the program of before, and with what lives there. So a head understands its workers one version
//! back: what lives there goes on, is seen, ends and comes home. Nothing new goes to such a node.
//!
//! Within a version, and from one to the next, frames only grow: a new field has a default and is left out where it says
//! nothing, a field that one end does not know is skipped, and so is a whole frame ([`Outline`]). What changes the meaning of
//! a frame raises [`PROTOCOL`], and whoever hears the older one translates it.

use super::Party;
use crate::reason::{Reason, ReasonCode};
use serde::Deserialize;

/// What this grid speaks. Raised when a frame changes its meaning, or a new one must be understood.
pub const PROTOCOL: u32 = 9;
/// The oldest that it understands of a worker.
pub const OLDEST: u32 = 8;

/// Whether a head of this grid understands a worker that speaks this.
pub fn is_understood(protocol: u32) -> bool {
    (OLDEST..=PROTOCOL).contains(&protocol)
}

/// Why nothing new goes to a node whose agent speaks this.
pub fn older(protocol: u32) -> Option<Reason> {
    let detail = || format!("its grid is an older one: it speaks protocol {protocol}, this one {PROTOCOL}");
    (protocol < PROTOCOL).then(|| Reason::new(ReasonCode::Version, detail()))
}

/// What is the same in the frames of every version: read where a frame says something that this grid does not know.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Outline {
    /// Who says it.
    pub from: Party,
    /// To whom.
    pub to: Party,
    /// What it is.
    pub body: OutlineBody,
}

/// The kind of a frame.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct OutlineBody {
    /// Its name.
    pub body: String,
    /// Of a request, and of its answer.
    pub id: Option<u64>,
}

impl Outline {
    /// The request's number, where somebody waits for an answer.
    pub fn asks(&self) -> Option<u64> {
        self.body.id.filter(|_| self.body.body == "request")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_version_back_is_understood_and_takes_nothing_new() {
        assert_eq!(OLDEST, PROTOCOL - 1);
        let spoken: Vec<_> = (OLDEST - 1..=PROTOCOL + 1).map(is_understood).collect();
        assert_eq!(spoken, [false, true, true, false]);
        assert_eq!(older(OLDEST).map(|reason| reason.code), Some(ReasonCode::Version));
        assert_eq!(older(PROTOCOL), None);
    }
}

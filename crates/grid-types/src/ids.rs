//! Typed identities. A process is pid + start time + boot id, never a bare pid.

use serde::{Deserialize, Serialize};
use std::fmt;

macro_rules! string_id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub String);

        impl $name {
            /// Wraps an id as it was read or generated.
            pub fn new(id: impl Into<String>) -> Self {
                Self(id.into())
            }
            /// The id as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&self.0)
            }
        }
        impl From<&str> for $name {
            fn from(id: &str) -> Self {
                Self(id.to_owned())
            }
        }
    };
}

string_id!(/// A machine of the cluster, by its configured name.
    NodeName);
string_id!(/// A request for more capacity (`b-7k2`).
    BoostId);
string_id!(/// The right to capacity that a boost was granted. One boost has one lease and they share the text of their id.
    LeaseId);
string_id!(/// A decision to move one process tree (`o-19`).
    OffloadId);
string_id!(/// One try of a handover. Every message of the handover carries it; a number never used twice.
    AttemptId);
string_id!(/// An immutable plan (`p-52`).
    PlanId);

/// A process that cannot be confused with a later one of the same number.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct ProcId {
    /// Number in the PID namespace of the node's agent.
    pub pid: i32,
    /// Field 22 of `/proc/PID/stat`: clock ticks after boot.
    pub start_ticks: u64,
    /// `/proc/sys/kernel/random/boot_id` of the node.
    pub boot_id: String,
}

impl fmt::Display for ProcId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.pid)
    }
}

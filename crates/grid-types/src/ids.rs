//! Typed identities. A process is pid + start time + boot id, never a bare pid.
//!
//! Ids become names of files and control groups, so one that is read (off a link, out of a journal) is refused where it
//! could name another place than its own.

use serde::{Deserialize, Serialize};
use std::fmt;

/// No id is longer: a file name of Linux holds 255 bytes, and some are put before or behind an id.
const MAX_ID: usize = 200;

/// Text that is safe as a part of a path.
fn checked(id: String) -> Result<String, String> {
    let odd = |c: char| c == '/' || c.is_control();
    if id.is_empty() || id.len() > MAX_ID || id.starts_with('.') || id.contains(odd) {
        return Err(format!("{:?} is not an id", id.chars().take(64).collect::<String>()));
    }
    Ok(id)
}

macro_rules! string_id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
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
        impl TryFrom<String> for $name {
            type Error = String;
            fn try_from(id: String) -> Result<Self, String> {
                checked(id).map(Self)
            }
        }
        impl From<$name> for String {
            fn from(id: $name) -> String {
                id.0
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_that_is_read_names_no_other_place() {
        let long = "x".repeat(201);
        for id in ["", ".", "..", "../../etc/x", "x/../../y", "a\0b", "a\nb", long.as_str()] {
            let json = serde_json::to_string(id).unwrap();
            assert!(serde_json::from_str::<AttemptId>(&json).is_err(), "{id:?}");
            assert!(serde_json::from_str::<NodeName>(&json).is_err(), "{id:?}");
        }
        for id in ["o-19.2", "gpu1", "node-1.example.org", "Rechner 2"] {
            let json = serde_json::to_string(id).unwrap();
            let read: NodeName = serde_json::from_str(&json).unwrap();
            assert_eq!((read.as_str(), serde_json::to_string(&read).unwrap()), (id, json));
        }
    }
}

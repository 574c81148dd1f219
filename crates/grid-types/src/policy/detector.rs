//! What the detector leaves alone, and the user's own rules about it.

use crate::units::{Bytes, MilliCpu, Millis};
use serde::{Deserialize, Serialize};

/// A rule of the user's about processes, first match wins.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ProcessRule {
    /// Name of the rule, shown in reasons.
    pub name: String,
    /// Matches where the executable's path matches this glob (`*` any run, `?` any one).
    pub exe: Option<String>,
    /// … and the short name.
    pub comm: Option<String>,
    /// … and some argument.
    pub arg: Option<String>,
    /// … and the owner's name or number.
    pub user: Option<String>,
    /// What it is, in place of the built-in classification.
    pub kind: Option<ProcessKind>,
    /// `allow`: grid may choose it though a default protects it. `protect`: never.
    pub action: Option<RuleAction>,
}

/// What a rule does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RuleAction {
    /// grid may choose it by itself.
    Allow,
    /// grid never chooses it by itself.
    Protect,
}

/// What a process is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ProcessKind {
    /// Trains a model.
    Training,
    /// Serves a model.
    Inference,
    /// Transforms data.
    DataProcessing,
    /// Computes.
    Compute,
    /// Mostly reads and writes.
    Io,
    /// Batch work without a terminal that is none of the above.
    Batch,
    /// Talks with a person.
    Interactive,
    /// Serves others and never ends.
    Daemon,
}

/// What becomes of the TCP connections of a process that moves: no other node has its addresses.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TcpPolicy {
    /// It stays while it has one.
    #[default]
    Refuse,
    /// They are closed, and the process sees that at its next call.
    Close,
}

/// What the detector leaves alone.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Detector {
    /// Younger than this.
    pub min_age: Millis,
    /// Smaller than this, whatever its CPU.
    pub min_memory: Bytes,
    /// Less CPU than this and less memory than `worth_memory`.
    pub worth_cpu: MilliCpu,
    /// See `worth_cpu`.
    pub worth_memory: Bytes,
    /// Users whose processes are never chosen, by name or number.
    pub protected_users: Vec<String>,
    /// Established TCP connections.
    #[serde(default)]
    pub tcp_connections: TcpPolicy,
    /// Rules in order.
    pub rules: Vec<ProcessRule>,
}

impl Default for Detector {
    fn default() -> Self {
        Self {
            min_age: Millis(60_000),
            min_memory: Bytes(10 << 20),
            worth_cpu: MilliCpu(50),
            worth_memory: Bytes(1 << 30),
            protected_users: Vec::new(),
            tcp_connections: TcpPolicy::Refuse,
            rules: Vec::new(),
        }
    }
}

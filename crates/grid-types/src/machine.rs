//! What of a machine a process notices that comes from another one, and how two compare.

use crate::ids::NodeName;
use crate::units::{Millis, UnixMs};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;

/// A machine, by its agent's word. Asked for, and never kept: kernels and programs are changed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MachineFacts {
    /// `x86_64`.
    pub arch: String,
    /// `6.8.0-45-generic`.
    pub kernel: String,
    /// Its CPUs' features, as `/proc/cpuinfo` names them: those of every CPU. Empty where they cannot be read.
    pub cpu: BTreeSet<String>,
    /// `4.2.1`.
    pub criu: String,
    /// What CRIU was asked for and has on this kernel.
    pub criu_has: BTreeSet<String>,
    /// What it was asked for.
    pub criu_asked: BTreeSet<String>,
    /// The user that was asked about.
    pub user: Option<UserThere>,
    /// Its wall clock at the answer.
    pub clock: UnixMs,
}

/// A user whose process is to move.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UserHere {
    /// Number.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Name, where there is one.
    pub name: Option<String>,
}

/// What another machine knows of a user.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct UserThere {
    /// The name that this number has there.
    pub name: Option<String>,
    /// The number that this name has there.
    pub uid: Option<u32>,
    /// And its group.
    pub gid: Option<u32>,
}

/// By how much a clock is ahead of another: measured in one question and its answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Skew {
    /// Milliseconds; behind where negative.
    pub ahead_ms: i64,
    /// It can be so much more or less.
    pub within: Millis,
}

/// What follows from one row.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Match {
    /// Nothing to say.
    Ok,
    /// It is worth knowing.
    Warn,
    /// Nothing moves there.
    Refuse,
}

/// One thing in which two machines are compared.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MachineRow {
    /// What.
    pub what: String,
    /// Where processes come from.
    pub here: String,
    /// Where they go.
    pub there: String,
    /// What follows.
    pub verdict: Match,
    /// What to do about it.
    pub fix: Option<String>,
}

/// Two machines.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MachineReply {
    /// Where processes come from.
    pub here: NodeName,
    /// Where they go.
    pub there: NodeName,
    /// They are one machine: nothing needs to be compared, and nothing refuses.
    pub one: bool,
    /// Row by row.
    pub rows: Vec<MachineRow>,
}

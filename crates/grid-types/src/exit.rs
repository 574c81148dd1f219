//! Exit codes of the `grid` command, by the class of what went wrong. Documented in `grid --help`.

use serde::{Deserialize, Serialize};

/// The class of a fault. It sets the exit code, so that a script can tell "ask again later" from "you typed it wrong".
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FaultClass {
    /// 1: something that should not fail did.
    Internal,
    /// 2: the command's words are wrong.
    Usage,
    /// 3: no such node, boost, process, plan.
    NotFound,
    /// 4: refused, with a reason code; nothing was changed.
    Refused,
    /// 5: no lender has that capacity.
    NoCapacity,
    /// 6: not yours to do.
    Permission,
    /// 7: the daemon, an agent or a lender does not answer.
    Unreachable,
    /// 8: the configuration file is wrong.
    Config,
    /// 9: what this needs is missing on the machine (no CRIU, no root, no kernel feature).
    Environment,
    /// 10: durable state is corrupt, or was written by a newer grid.
    State,
    /// 11: the outcome cannot be known yet; somebody must decide (`grid offload resolve`).
    InDoubt,
    /// 12: the world changed since it was planned or asked; nothing was changed.
    Conflict,
}

/// A shadow whose tree was lost, and with it how it ended, leaves with this.
pub const TREE_LOST: u8 = 113;
/// A shadow that could not begin leaves with this. Its tree goes on where it is.
pub const NO_SHADOW: u8 = 125;
/// `grid run` could not prepare its command, as `env` says it.
pub const CANNOT_RUN: u8 = 125;
/// Its command is there and cannot be executed, as shells say it.
pub const CANNOT_EXECUTE: u8 = 126;
/// There is no such command, as shells say it.
pub const NO_COMMAND: u8 = 127;

impl FaultClass {
    /// Every class in the order of its code.
    pub const ALL: [FaultClass; 12] = [
        FaultClass::Internal,
        FaultClass::Usage,
        FaultClass::NotFound,
        FaultClass::Refused,
        FaultClass::NoCapacity,
        FaultClass::Permission,
        FaultClass::Unreachable,
        FaultClass::Config,
        FaultClass::Environment,
        FaultClass::State,
        FaultClass::InDoubt,
        FaultClass::Conflict,
    ];

    /// The exit code: the place in [`FaultClass::ALL`], from 1.
    pub fn code(self) -> u8 {
        match self {
            FaultClass::Internal => 1,
            FaultClass::Usage => 2,
            FaultClass::NotFound => 3,
            FaultClass::Refused => 4,
            FaultClass::NoCapacity => 5,
            FaultClass::Permission => 6,
            FaultClass::Unreachable => 7,
            FaultClass::Config => 8,
            FaultClass::Environment => 9,
            FaultClass::State => 10,
            FaultClass::InDoubt => 11,
            FaultClass::Conflict => 12,
        }
    }

    /// A few words for `--help`.
    pub fn meaning(self) -> &'static str {
        match self {
            FaultClass::Internal => "internal error",
            FaultClass::Usage => "wrong usage or input",
            FaultClass::NotFound => "no such thing",
            FaultClass::Refused => "refused, with a reason code",
            FaultClass::NoCapacity => "no capacity",
            FaultClass::Permission => "not allowed",
            FaultClass::Unreachable => "daemon or node does not answer",
            FaultClass::Config => "configuration error",
            FaultClass::Environment => "something needed is missing here",
            FaultClass::State => "state is corrupt or from a newer grid",
            FaultClass::InDoubt => "outcome unknown: decide",
            FaultClass::Conflict => "the world changed since",
        }
    }
}

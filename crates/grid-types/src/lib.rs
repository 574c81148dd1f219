//! Plain data shared by every crate of grid: ids, units, facts, reasons, policy, messages, events, exit codes.
//!
//! Owns the vocabulary. Never does I/O, never decides, never reads a clock.
#![forbid(unsafe_code)]

pub mod api;
pub mod boost;
pub mod event;
pub mod exit;
pub mod facts;
pub mod fault;
pub mod gate;
pub mod handover;
pub mod ids;
pub mod lend;
pub mod lend_rule;
pub mod machine;
pub mod plan;
pub mod policy;
pub mod reason;
pub mod stop;
pub mod streams;
pub mod units;
pub mod wire;

pub use ids::{AttemptId, BoostId, LeaseId, NodeName, OffloadId, PlanId, ProcId};
pub use reason::{Reason, ReasonCode};
pub use units::{BootMs, Bytes, MilliCpu, Millis, Resources, UnixMs};

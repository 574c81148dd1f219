//! Every decision of grid, sans-io: data in, data out. No clock, no file, no socket, no async.
//!
//! `clippy.toml` of this crate forbids `std::fs`, `std::net`, clocks and threads, so that the line holds.
#![forbid(unsafe_code)]

pub mod activity;
pub mod auto_offload;
pub mod boost;
pub mod check;
pub mod config;
pub mod detect;
pub mod gate;
pub mod handover;
pub mod lease;
pub mod lend;
pub mod link;
pub mod machines;
pub mod plan;
pub mod pressure;
pub mod same_file;
pub mod sharing;
pub mod sleep;
pub mod state;
pub mod strangers;
pub mod tickets;
pub mod ways;

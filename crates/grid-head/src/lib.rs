//! The head's daemon: the one place where events get an order. Journal, planner, leases, hooks, API.
//!
//! ```text
//!   API (Unix socket) ──► Head ──record()──► journal ──► State = fold(events)
//!                          │ ▲
//!                 Engine / │ │ notices
//!                  agents ─▼─┴─ hub (the head's agent)
//! ```
//! Everything runs on one thread; between two `await`s nothing else changes, so a decision and the event that records
//! it are one step. The daemon is needed neither to finish nor to undo a handover: it can die at any moment and picks
//! up from the journal and from what the agents hold.
#![cfg_attr(not(test), deny(clippy::print_stdout, clippy::print_stderr))] // they panic where the reader has gone

mod auto;
mod boosts;
mod cordon;
mod head;
mod hooks;
mod hub;
mod journal;
mod machines;
mod members;
mod offloads;
mod park;
mod pressure;
mod privacy;
mod recall;
mod reclaim;
mod reconcile;
mod scan;
mod server;
mod trust;
mod views;

pub use head::{Head, HeadConfig, HeadError};
pub use hooks::{ActivationHook, HookFuture};
pub use journal::{Journal, JournalError};
pub use server::{handed_over, run, serve};

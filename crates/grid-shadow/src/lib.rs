//! Streams between a shadow at home and a moved tree: the protocol, the shadow's program, and the relay beside the tree.
//!
//! ```text
//! home    pipes, sockets ── shadow ═══ one connection, made by agents ═══ far ── pipes, sockets    the moved tree
//! ```
//!
//! Owns: bytes, signals and the end of a tree between these two. Never dials, never decides where a tree is: agents do.

pub mod config;
pub mod control;
mod far;
mod home;
pub mod mux;
pub mod pid1;
mod relay;

pub use home::{COMM as SHADOW_COMM, run_if_asked};

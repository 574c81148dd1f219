//! What `grid` types and shows: the user-facing commands. The daemons start in `main.rs`.
#![cfg_attr(not(test), deny(clippy::print_stdout, clippy::print_stderr))] // they panic where the reader has gone

pub mod cli;
pub mod criu_path;
pub mod remote;
pub mod run;
pub mod service;
pub mod up;

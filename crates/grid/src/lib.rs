//! What `grid` types and shows: the user-facing commands. The daemons start in `main.rs`.

pub mod cli;
pub mod criu_path;
pub mod up;

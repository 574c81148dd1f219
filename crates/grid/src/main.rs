//! The `grid` command.
fn main() {}

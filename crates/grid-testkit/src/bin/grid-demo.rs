//! What `make demo` runs: see [`grid_testkit::demo`]. Takes no argument; run it as root in the project's folder.

use std::process::ExitCode;

fn main() -> ExitCode {
    ExitCode::from(grid_testkit::demo::run())
}

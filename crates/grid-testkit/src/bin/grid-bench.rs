//! What `bench/run` and `make bench-link` run: see [`grid_testkit::bench`]. As root, in the project's folder.
//!
//! ```text
//! grid-bench downtime [MEMORY...] | link [MEMORY...] | files | request | stop | idle [ssh]
//! ```

use std::process::ExitCode;

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    match grid_testkit::bench::run(&args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("error: {why}");
            ExitCode::FAILURE
        }
    }
}

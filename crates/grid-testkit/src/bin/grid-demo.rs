//! What `make demo` runs, see [`grid_testkit::demo`]; with the argument `ssh` what `make demo-ssh` runs, see
//! [`grid_testkit::demo_ssh`]. Run it as root in the project's folder.

use std::process::ExitCode;

fn main() -> ExitCode {
    let ssh = std::env::args().nth(1).as_deref() == Some("ssh");
    ExitCode::from(if ssh { grid_testkit::demo_ssh::run() } else { grid_testkit::demo::run() })
}

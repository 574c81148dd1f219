//! What tests, benchmarks and the demo of grid are made of: programs that prove what happened to them, and helpers that
//! start them, wait for them and notice what was left behind. Development only; nothing that ships depends on it.
//!
//! | Module | Owns |
//! | --- | --- |
//! | [`cluster`] | a real cluster for one test, its programs, and its end |
//! | [`home`] | a worker that sees the head's files, and a job that works on them |
//! | [`procs`] | starting a program as an ordinary user's detached process; waiting for its report, its end |
//! | [`images`] | CRIU's images, edited into hostile ones |
//! | [`leaks`] | what grid may leave on a machine (cgroups, network, mounts, processes), compared before and after |
//! | [`criu`] | whether CRIU works here, and the `SKIPPED: ...` line where it does not |
//! | [`local`] | the embedded cluster, driven by the `grid` program as a person drives it |
//! | [`cost`] | what processes cost: memory and CPU time, sampled |
//! | [`demo`], [`mod@bench`] | `make demo`, and the measurements of `make bench` |
//! | [`coverage`] | the programs of `tests/coverage.toml`: run, moved or refused, checked, and shown as a table |
//! | [`scratch`] | temporary folders that an unprivileged program can reach |
//! | [`report`] | the report files that the programs write and that tests read |
//! | [`gaps`], [`pattern`], [`args`], [`clock`], [`raw`] | the insides of the programs in `src/bin` |
//!
//! Programs (`src/bin`): `prover` (its memory and its digest), `stamper` (its downtime), `family` (a process tree).

pub mod args;
pub mod bench;
pub mod clock;
pub mod cluster;
pub mod cost;
pub mod coverage;
pub mod criu;
pub mod demo;
pub mod demo_ssh;
pub mod gaps;
pub mod home;
pub mod images;
pub mod lab;
pub mod leaks;
pub mod local;
pub mod pattern;
pub mod procs;
pub mod raw;
pub mod report;
pub mod scratch;
pub mod vm;

/// A line on standard output, as `println!` writes it; that nobody reads it any more is no reason to end: a cluster may
/// have to be taken down.
#[macro_export]
macro_rules! say {
    ($($words:tt)*) => {{
        use std::io::Write as _;
        let _ = writeln!(std::io::stdout(), $($words)*);
    }};
}

/// The same on standard error.
#[macro_export]
macro_rules! warn {
    ($($words:tt)*) => {{
        use std::io::Write as _;
        let _ = writeln!(std::io::stderr(), $($words)*);
    }};
}

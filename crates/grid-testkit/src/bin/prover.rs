//! Proves its memory: fills it with a pattern, then checks and rewrites random pages, and ends with a digest that
//! depends on every step and on nothing but the arguments. Moved or not, the digest must be the same.
//!
//! ```text
//! prover --report FILE [--memory 512MiB] [--steps 20000 | --seconds S] [--seed 1] [--pace-us 1000] [--bits 64] [--spoil-at COUNT]
//! ```
//!
//! With less than 64 bits of each word in use its memory compresses. With `--seconds` the number of steps, and so the digest, is up to the machine. `--spoil-at` breaks a word of its own
//! memory, to show that it notices. It blocks SIGUSR1 and never looks at it. Exit: 0 done, 2 arguments or report, 3 a page was wrong.

use grid_testkit::args::Args;
use grid_testkit::clock;
use grid_testkit::gaps::Gaps;
use grid_testkit::pattern::Memory;
use grid_testkit::report::{Line, Report};
use nix::sys::signal::{SigSet, Signal};
use std::process::ExitCode;
use std::time::Duration;

struct Plan {
    steps: u64,
    ns: u64,
    pace: Duration,
    spoil_at: Option<u64>,
}

fn main() -> ExitCode {
    match run() {
        Ok(code) => code,
        Err(message) => {
            eprintln!("prover: {message}");
            ExitCode::from(2)
        }
    }
}

fn run() -> Result<ExitCode, String> {
    let args = Args::of_this_process(&["memory", "steps", "seconds", "seed", "report", "pace-us", "bits", "spoil-at"])?;
    let seconds: Option<f64> = args.get("seconds")?;
    let plan = Plan {
        steps: args.or("steps", if seconds.is_some() { u64::MAX } else { 20_000 })?,
        ns: seconds.map_or(u64::MAX, |s| (s * 1e9) as u64),
        pace: Duration::from_micros(args.or("pace-us", 1000)?),
        spoil_at: args.get("spoil-at")?,
    };
    // A signal that waits: it must still wait wherever this process goes.
    SigSet::from_iter([Signal::SIGUSR1]).thread_block().map_err(|e| format!("block SIGUSR1: {e}"))?;
    let path = args.path("report")?;
    let said = |e: std::io::Error| format!("{}: {e}", path.display());
    let mut report = Report::open(&path).map_err(said)?;
    let mut memory = Memory::sparse(args.memory(512 << 20)?, args.or("seed", 1)?, args.or("bits", u64::BITS)?);
    let (mut gaps, proven) = prove(&mut memory, &plan, &mut report).map_err(said)?;
    gaps.stamp(memory.count(), clock::realtime_ns());

    let mut last = Line { count: memory.count(), gap: gaps.longest(), ..Line::default() };
    match proven.and_then(|()| memory.finish().map_err(|wrong| wrong.to_string())) {
        Ok(digest) => last.digest = Some(format!("{digest:016x}")),
        Err(wrong) => last.error = Some(wrong),
    }
    report.finish(last.clone()).map_err(said)?;
    println!(
        "count {} digest {} longest gap {:.1} ms after count {}",
        last.count,
        last.digest.as_deref().unwrap_or("-"),
        last.gap.ns as f64 / 1e6,
        last.gap.at
    );
    let Some(wrong) = last.error else { return Ok(ExitCode::SUCCESS) };
    eprintln!("prover: wrong at count {}: {wrong}", last.count);
    Ok(ExitCode::from(3))
}

/// All steps, or as many as there is time for. The outer error is the report's, the inner one memory's.
fn prove(memory: &mut Memory, plan: &Plan, report: &mut Report) -> std::io::Result<(Gaps, Result<(), String>)> {
    let mut gaps = Gaps::new(1);
    let start = clock::monotonic_ns();
    while memory.count() < plan.steps && clock::monotonic_ns().saturating_sub(start) < plan.ns {
        gaps.stamp(memory.count(), clock::realtime_ns());
        if plan.spoil_at == Some(memory.count()) {
            memory.spoil(0, 0);
        }
        if let Err(wrong) = memory.step() {
            return Ok((gaps, Err(wrong.to_string())));
        }
        report.progress(memory.count(), gaps.longest())?;
        if !plan.pace.is_zero() {
            std::thread::sleep(plan.pace);
        }
    }
    Ok((gaps, Ok(())))
}

//! Measures its own downtime: holds touched memory, looks at the wall clock every millisecond, and reports the longest
//! gaps between looks. Each look also writes to one page of the memory in turn, so that pages that arrive late show.
//!
//! ```text
//! stamper --report FILE [--memory 64MiB] [--seconds 10] [--threads 1] [--busy 1] [--bits 64]
//! ```
//!
//! With less than 64 bits of each word in use its memory compresses. `--busy 1` spins through the millisecond instead of sleeping. Gaps of all threads are ranked together; `count` is
//! that of the first thread. Exit: 0 done, 2 arguments or report.

use grid_testkit::args::Args;
use grid_testkit::clock;
use grid_testkit::gaps::Gaps;
use grid_testkit::pattern::PAGE;
use grid_testkit::report::{Line, Report};
use std::process::ExitCode;
use std::sync::Mutex;
use std::time::Duration;

const TOP: usize = 5;
const TICK_NS: u64 = 1_000_000;

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("stamper: {message}");
            ExitCode::from(2)
        }
    }
}

fn run() -> Result<(), String> {
    let args = Args::of_this_process(&["memory", "seconds", "report", "threads", "busy", "bits"])?;
    let path = args.path("report")?;
    let said = |e: std::io::Error| format!("{}: {e}", path.display());
    let threads = args.or("threads", 1usize)?.max(1);
    let busy = args.or("busy", 0u8)? != 0;
    let ns = (args.or("seconds", 10f64)? * 1e9) as u64;
    let mut memory = filled(args.memory(64 << 20)?.max(threads * PAGE), args.or("bits", u64::BITS)?);
    let mut report = Report::open(&path).map_err(said)?;

    let end = clock::monotonic_ns() + ns;
    let all = Mutex::new(Gaps::new(TOP));
    let share = memory.len() / threads;
    let (first, rest) = memory.split_at_mut(share);
    let count = std::thread::scope(|scope| {
        for part in rest.chunks_exact_mut(share).take(threads - 1) {
            let all = &all;
            scope.spawn(move || {
                let (gaps, _) = stamp(part, end, busy, |_, _| Ok(()))?;
                merge(all, &gaps);
                std::io::Result::Ok(())
            });
        }
        let (gaps, count) = stamp(first, end, busy, |count, gaps| report.progress(count, gaps.longest()))?;
        merge(&all, &gaps);
        Ok(count)
    })
    .map_err(said)?;

    let gaps = all.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
    let line = Line { count, gap: gaps.longest(), gaps: gaps.top().to_vec(), ..Line::default() };
    report.finish(line).map_err(said)?;
    for gap in gaps.top() {
        println!("{:.1} ms after count {} until {} ms", gap.ns as f64 / 1e6, gap.at, gap.ended_ns / 1_000_000);
    }
    Ok(())
}

fn merge(all: &Mutex<Gaps>, gaps: &Gaps) {
    all.lock().unwrap_or_else(std::sync::PoisonError::into_inner).merge(gaps);
}

/// Memory of which every page was written, each with another content.
fn filled(bytes: usize, bits: u32) -> Vec<u8> {
    let mut memory = vec![0u8; bytes];
    let mask = u64::MAX >> u64::BITS.saturating_sub(bits).min(u64::BITS - 1);
    let mut word = 0x9e37_79b9_7f4a_7c15u64;
    for chunk in memory.chunks_exact_mut(8) {
        word = (word ^ (word >> 29)).wrapping_mul(0xbf58_476d_1ce4_e5b9).wrapping_add(1);
        chunk.copy_from_slice(&(word & mask).to_le_bytes());
    }
    memory
}

/// One thread: stamps until `end` (monotonic, ns) and returns its gaps and how often it stamped.
fn stamp(
    memory: &mut [u8],
    end: u64,
    busy: bool,
    mut tell: impl FnMut(u64, &Gaps) -> std::io::Result<()>,
) -> std::io::Result<(Gaps, u64)> {
    let mut gaps = Gaps::new(TOP);
    let pages = (memory.len() / PAGE).max(1) as u64;
    let mut count = 0;
    loop {
        gaps.stamp(count, clock::realtime_ns());
        count += 1;
        let byte = &mut memory[(count % pages) as usize * PAGE];
        *byte = byte.wrapping_add(1);
        tell(count, &gaps)?;
        let now = clock::monotonic_ns();
        if now >= end {
            return Ok((gaps, count));
        }
        if busy {
            while clock::monotonic_ns() < now + TICK_NS {
                std::hint::spin_loop();
            }
        } else {
            std::thread::sleep(Duration::from_nanos(TICK_NS));
        }
    }
}

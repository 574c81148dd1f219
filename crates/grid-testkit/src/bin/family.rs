//! A small process tree that checks all it has: two processes, a pipe each way, shared memory, threads, a timer with a
//! signal handler, a blocked signal, a file written line by line, cwd and umask.
//!
//! ```text
//! family --report FILE [--rounds 500] [--threads 3] [--pace-us 10000] [--lines lines.txt]
//! ```
//!
//! A round: the next number goes to the child by a pipe, comes back negated by another, stands in the shared memory on
//! both sides, and becomes one line of the file. Exit: 7 all was right (so that an exit code can be seen to be this
//! one's), 1 something was not (said on stderr and in the report). The child ends with 5.

use grid_testkit::args::Args;
use grid_testkit::gaps::Gaps;
use grid_testkit::report::{Line, Report};
use grid_testkit::{clock, raw};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::stat::{Mode, umask};
use nix::sys::timer::{Expiration, Timer, TimerSetTimeFlags};
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::{ForkResult, Pid, getpid, getppid, pipe};
use std::fs::File;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

const CHILD_OK: i32 = 5;
const UMASK: Mode = Mode::from_bits_truncate(0o027);
const TIMER: Duration = Duration::from_millis(10);

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::from(7),
        Err(message) => {
            eprintln!("family: {message}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<(), String> {
    let args = Args::of_this_process(&["report", "rounds", "threads", "pace-us", "lines"])?;
    let mut report = Report::open(&args.path("report")?).map_err(|e| format!("report: {e}"))?;
    let outcome = live(&args, &mut report);
    let line = match &outcome {
        Ok(line) => line.clone(),
        Err(error) => Line { error: Some(error.clone()), ..Line::default() },
    };
    report.finish(line).map_err(|e| format!("report: {e}"))?;
    outcome.map(drop)
}

/// The parent's life: sets everything up, plays all rounds, checks everything.
fn live(args: &Args, report: &mut Report) -> Result<Line, String> {
    let rounds: u64 = args.or("rounds", 500)?;
    let pace = Duration::from_micros(args.or("pace-us", 10_000)?);
    let lines: PathBuf = args.or("lines", "lines.txt".into())?;
    let shared = raw::shared_words(1024).map_err(|e| format!("shared memory: {e}"))?;
    let mut child = Child::fork(shared)?; // before any thread
    let still = Still::set_up()?;
    let threads = Threads::start(args.or("threads", 3)?);
    let _timer = start_timer().map_err(|e| format!("timer: {e}"))?;
    let mut file = File::create_new(&lines).map_err(|e| format!("{}: {e}", lines.display()))?;

    let (start, mut gaps) = (clock::monotonic_ns(), Gaps::new(1));
    for round in 1..=rounds {
        gaps.stamp(round - 1, clock::realtime_ns());
        child.play(round)?;
        writeln!(file, "{round}").map_err(|e| format!("{}: {e}", lines.display()))?;
        report.progress(round, gaps.longest()).map_err(|e| format!("report: {e}"))?;
        std::thread::sleep(pace);
    }
    alarms_came(clock::monotonic_ns() - start)?;
    child.end()?;
    threads.end()?;
    still.check()?;
    each_line_once(&lines, rounds)?;
    Ok(Line { count: rounds, gap: gaps.longest(), ..Line::default() })
}

/// The child and the ways to it, as the parent holds them.
struct Child {
    pid: Pid,
    to: File,
    from: File,
    shared: &'static [AtomicU64],
}

impl Child {
    fn fork(shared: &'static [AtomicU64]) -> Result<Self, String> {
        let said = |e: nix::Error| format!("pipe: {e}");
        let (child_in, to) = pipe().map_err(said)?;
        let (from, child_out) = pipe().map_err(said)?;
        match raw::fork_alone()? {
            ForkResult::Child => {
                drop((to, from));
                let code = match answer(child_in.into(), child_out.into(), shared) {
                    Ok(()) => CHILD_OK,
                    Err(e) => {
                        eprintln!("family's child: {e}");
                        1
                    }
                };
                std::process::exit(code)
            }
            ForkResult::Parent { child } => Ok(Self { pid: child, to: to.into(), from: from.into(), shared }),
        }
    }

    fn play(&mut self, round: u64) -> Result<(), String> {
        self.shared[0].store(round, Ordering::SeqCst);
        self.to.write_all(&round.to_le_bytes()).map_err(|e| format!("round {round}: to the child: {e}"))?;
        let back = read_word(&mut self.from).map_err(|e| format!("round {round}: from the child: {e}"))?;
        expect("the child's answer", round, !back.unwrap_or(0))?;
        // In the mapping's second page: both pages are shared, not just the first.
        expect("the child's word in shared memory", round, self.shared[600].load(Ordering::SeqCst))
    }

    fn end(self) -> Result<(), String> {
        drop(self.to); // the child sees the end of its input
        match waitpid(self.pid, None) {
            Ok(WaitStatus::Exited(_, CHILD_OK)) => Ok(()),
            other => Err(format!("the child ended as {other:?}, must exit with {CHILD_OK}")),
        }
    }
}

/// The child's life: answers rounds, each exactly one more than the last, until its input ends.
fn answer(mut input: File, mut output: File, shared: &[AtomicU64]) -> Result<(), String> {
    let parent = getppid();
    let mut rounds = 0;
    while let Some(round) = read_word(&mut input).map_err(|e| format!("input: {e}"))? {
        rounds += 1;
        expect("the next number", rounds, round)?;
        expect("the parent's word in shared memory", round, shared[0].load(Ordering::SeqCst))?;
        expect("the parent's PID", parent.as_raw() as u64, getppid().as_raw() as u64)?;
        shared[600].store(round, Ordering::SeqCst);
        output.write_all(&(!round).to_le_bytes()).map_err(|e| format!("output: {e}"))?;
    }
    Ok(())
}

fn read_word(from: &mut File) -> io::Result<Option<u64>> {
    let mut word = [0; 8];
    match from.read_exact(&mut word) {
        Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => Ok(None),
        read => read.map(|()| Some(u64::from_le_bytes(word))),
    }
}

fn expect(what: &str, want: u64, found: u64) -> Result<(), String> {
    if want == found { Ok(()) } else { Err(format!("{what}: {found}, must be {want}")) }
}

/// What must still be so at the end.
struct Still {
    pid: Pid,
    cwd: PathBuf,
}

impl Still {
    fn set_up() -> Result<Self, String> {
        umask(UMASK);
        let blocked = SigSet::from_iter([Signal::SIGUSR1]);
        blocked.thread_block().map_err(|e| format!("block SIGUSR1: {e}"))?;
        Ok(Self { pid: getpid(), cwd: std::env::current_dir().map_err(|e| format!("cwd: {e}"))? })
    }

    fn check(&self) -> Result<(), String> {
        expect("the PID", self.pid.as_raw() as u64, getpid().as_raw() as u64)?;
        expect("the umask", UMASK.bits().into(), umask(UMASK).bits().into())?;
        let cwd = std::env::current_dir().map_err(|e| format!("cwd: {e}"))?;
        if cwd != self.cwd {
            return Err(format!("the cwd: {}, must be {}", cwd.display(), self.cwd.display()));
        }
        let mask = SigSet::thread_get_mask().map_err(|e| format!("signal mask: {e}"))?;
        let right = mask.contains(Signal::SIGUSR1) && !mask.contains(Signal::SIGALRM);
        right.then_some(()).ok_or_else(|| format!("the signal mask: {mask:?}, must hold SIGUSR1 and not SIGALRM"))
    }
}

/// Threads that count in a variable of their own and in one that all can see.
struct Threads {
    stop: Arc<AtomicBool>,
    running: Vec<(Arc<AtomicU64>, std::thread::JoinHandle<u64>)>,
}

impl Threads {
    fn start(number: usize) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let start = |_| {
            let (seen, stop) = (Arc::new(AtomicU64::new(0)), stop.clone());
            let counter = seen.clone();
            let count = move || {
                let mut own = 0;
                while !stop.load(Ordering::Relaxed) {
                    own += 1;
                    seen.fetch_add(1, Ordering::SeqCst);
                    std::thread::sleep(Duration::from_millis(1));
                }
                own
            };
            (counter, std::thread::spawn(count))
        };
        Self { running: (0..number).map(start).collect(), stop }
    }

    fn end(self) -> Result<(), String> {
        self.stop.store(true, Ordering::Relaxed);
        for (seen, thread) in self.running {
            let own = thread.join().map_err(|_| "a thread panicked".to_owned())?;
            expect("what a thread counted", own, seen.load(Ordering::SeqCst))?;
        }
        Ok(())
    }
}

fn start_timer() -> nix::Result<Timer> {
    use nix::sys::signal::{SigEvent, SigevNotify};
    use nix::time::ClockId;
    raw::count_alarms()?;
    let event = SigEvent::new(SigevNotify::SigevSignal { signal: Signal::SIGALRM, si_value: 0 });
    let mut timer = Timer::new(ClockId::CLOCK_MONOTONIC, event)?;
    timer.set(Expiration::Interval(TIMER.into()), TimerSetTimeFlags::empty())?;
    Ok(timer)
}

/// A busy machine merges alarms, so there may be fewer than time would give; none after a move, or more, is wrong.
fn alarms_came(ns: u64) -> Result<(), String> {
    let (came, due) = (raw::alarms(), ns / TIMER.as_nanos() as u64);
    let right = came <= due + 5 && came >= due / 4;
    right.then_some(()).ok_or_else(|| format!("{came} alarms came, {due} were due"))
}

fn each_line_once(path: &Path, rounds: u64) -> Result<(), String> {
    let text = std::fs::read_to_string(path).map_err(|e| format!("{}: {e}", path.display()))?;
    let wrong = text.lines().zip(1..).find(|(line, n)| *line != n.to_string());
    if let Some((line, n)) = wrong {
        return Err(format!("{} line {n}: {line:?}", path.display()));
    }
    expect("lines in the file", rounds, text.lines().count() as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_must_be_each_once_and_in_order() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lines");
        let judge = |text: &str| {
            std::fs::write(&path, text).unwrap();
            each_line_once(&path, 3)
        };
        assert_eq!(judge("1\n2\n3\n"), Ok(()));
        assert!(judge("1\n2\n2\n3\n").unwrap_err().contains("line 3"));
        assert!(judge("1\n3\n").unwrap_err().contains("line 2"));
        assert!(judge("1\n2\n").unwrap_err().contains("must be 3"));
    }

    #[test]
    fn threads_count_alike_on_both_sides() {
        let threads = Threads::start(2);
        std::thread::sleep(Duration::from_millis(5));
        threads.end().unwrap();
    }
}

//! The demo's programs, started as a person would start them: by a shell, detached, as an ordinary user.

use super::place::Place;
use crate::procs::{self, Detached, NOBODY};
use crate::{cost, raw, report};
use nix::pty::openpty;
use std::fs::File;
use std::io::{Read, Write};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// Memory of `prover`.
pub(super) const MEMORY: &str = "512MiB";
/// Steps of `prover`; its digest follows from these and from its memory, not from its pace.
const STEPS: &str = "60000";
/// Its pause between steps, in µs: about 20 s in all.
const PACE: &str = "250";
/// How long `count.py` counts, in seconds of its own clock.
const SECONDS: &str = "20";
const START: Duration = Duration::from_secs(20);

/// A program that reports.
pub(super) struct Program {
    /// What it is called.
    pub(super) name: &'static str,
    /// Its number at home.
    pub(super) pid: i32,
    /// Its report.
    pub(super) report: PathBuf,
    process: Detached,
}

impl Program {
    /// The newest line of its report.
    pub(super) fn line(&self) -> Result<report::Line, String> {
        let line = report::last(&self.report).map_err(|e| format!("{}: {e}", self.report.display()))?;
        line.ok_or_else(|| format!("{} has reported nothing", self.name))
    }

    /// Waits until it has counted this far.
    pub(super) fn await_count(&self, count: u64) -> Result<report::Line, String> {
        procs::wait_count(&self.report, count, START).map_err(|e| self.said(&e))
    }

    /// Waits for its last line.
    pub(super) fn await_done(&self, limit: Duration) -> Result<report::Line, String> {
        procs::wait_done(&self.report, limit).map_err(|e| self.said(&e))
    }

    /// Its processes at home, and their threads.
    pub(super) fn family(&self) -> (usize, usize) {
        let family = cost::family(self.pid);
        let threads = |pid: &i32| std::fs::read_dir(format!("/proc/{pid}/task")).map_or(0, Iterator::count);
        (family.len(), family.iter().map(threads).sum())
    }

    /// Resident memory of its processes at home.
    pub(super) fn memory(&self) -> u64 {
        cost::family(self.pid).into_iter().map(cost::rss).sum()
    }

    fn said(&self, e: &std::io::Error) -> String {
        format!("{} ({}): {e}; it said: {}", self.name, self.pid, self.process.stderr().unwrap_or_default().trim())
    }
}

/// Starts `prover`.
pub(super) fn prover(place: &Place) -> Result<Program, String> {
    let program = place.install(&built("prover")?, "prover")?;
    start(place, "prover", &program, |report| {
        let steps = ["--memory", MEMORY, "--steps", STEPS, "--pace-us", PACE, "--report"].map(str::to_owned);
        steps.into_iter().chain([report]).collect()
    })
}

/// Starts `count.py`.
pub(super) fn python(place: &Place) -> Result<Program, String> {
    let script = place.write("bin/count.py", include_str!("count.py"))?.to_string_lossy().into_owned();
    start(place, "python3", Path::new("/usr/bin/python3"), |report| vec![script, report, SECONDS.to_owned()])
}

fn start(
    place: &Place,
    name: &'static str,
    program: &Path,
    args: impl FnOnce(String) -> Vec<String>,
) -> Result<Program, String> {
    let dir = place.folder(name)?;
    let report = dir.join("report");
    let args = args(report.to_string_lossy().into_owned());
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let process = Detached::start(program, &args, &dir).map_err(|e| format!("starting {name}: {e}"))?;
    place.ends_with_us(process.pid);
    let program = Program { name, pid: process.pid, report, process };
    program.await_count(1)?;
    Ok(program)
}

/// The digest of `prover` with the same memory and steps, never moved and without pauses.
pub(super) fn unmoved_digest(place: &Place) -> Result<String, String> {
    let report = place.dir.join("unmoved");
    let status = Command::new(built("prover")?)
        .args(["--memory", MEMORY, "--steps", STEPS, "--pace-us", "0", "--report"])
        .arg(&report)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .status()
        .map_err(|e| format!("prover: {e}"))?;
    let last = report::last(&report).map_err(|e| e.to_string())?.unwrap_or_default();
    last.digest.ok_or_else(|| format!("prover, not moved, ended with {status} and no digest: {:?}", last.error))
}

fn built(name: &str) -> Result<PathBuf, String> {
    procs::program(name).map_err(|e| e.to_string())
}

/// An interactive shell in a terminal.
pub(super) struct Shell {
    /// Its number.
    pub(super) pid: i32,
    terminal: File,
}

impl Shell {
    /// Starts it with a new terminal, as the unprivileged user.
    pub(super) fn start(place: &Place) -> Result<Self, String> {
        let said = |e: &dyn std::fmt::Display| format!("a shell in a terminal: {e}");
        let dir = place.folder("bash")?;
        let pty = openpty(None, None).map_err(|e| said(&e))?;
        raw::keep_descriptors_here().map_err(|e| said(&e))?;
        let slave = || pty.slave.try_clone().map(Stdio::from).map_err(|e| said(&e));
        let status = Command::new("setsid")
            .args(["--fork", "--ctty", "sh", "-c", r#"echo $$ >pid; exec "$@""#, "sh"])
            .args(["bash", "--noprofile", "--norc", "-i"])
            .current_dir(&dir)
            .env("PS1", "$ ")
            .stdin(slave()?)
            .stdout(slave()?)
            .stderr(slave()?)
            .uid(NOBODY)
            .gid(NOBODY)
            .status()
            .map_err(|e| said(&e))?;
        expect_success(status)?;
        let pid = procs::until(&dir, START, "the shell to start", || {
            Ok(std::fs::read_to_string(dir.join("pid")).ok().and_then(|text| text.trim().parse::<i32>().ok()))
        });
        let pid = pid.map_err(|e| said(&e))?;
        place.ends_with_us(pid);
        let shell = Self { pid, terminal: File::from(pty.master) };
        shell.answers()?;
        Ok(shell)
    }

    /// Types a sum and waits for its answer.
    pub(super) fn answers(&self) -> Result<(), String> {
        self.types("echo sum-$((40 + 2))\n")?;
        self.shows("sum-42")
    }

    /// Types this.
    pub(super) fn types(&self, text: &str) -> Result<(), String> {
        let mut terminal = &self.terminal;
        terminal.write_all(text.as_bytes()).map_err(|e| format!("the shell's terminal: {e}"))
    }

    /// Waits until the terminal shows this.
    pub(super) fn shows(&self, wanted: &str) -> Result<(), String> {
        use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
        use std::os::fd::AsFd;
        let said = |e: &dyn std::fmt::Display| format!("the shell's terminal: {e}");
        let mut terminal = &self.terminal;
        let (start, mut seen) = (Instant::now(), Vec::new());
        while !String::from_utf8_lossy(&seen).contains(wanted) {
            let mut ready = [PollFd::new(self.terminal.as_fd(), PollFlags::POLLIN)];
            if start.elapsed() > START || poll(&mut ready, PollTimeout::from(1000u16)).map_err(|e| said(&e))? == 0 {
                return Err(format!(
                    "the terminal of the shell ({}) does not show {wanted:?}; seen: {}",
                    self.pid,
                    String::from_utf8_lossy(&seen)
                ));
            }
            let mut buffer = [0; 4096];
            let n = terminal.read(&mut buffer).map_err(|e| said(&e))?;
            seen.extend_from_slice(&buffer[..n]);
        }
        Ok(())
    }
}

fn expect_success(status: std::process::ExitStatus) -> Result<(), String> {
    if status.success() { Ok(()) } else { Err(format!("setsid: {status}")) }
}

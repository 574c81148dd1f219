//! Programs under test, as ordinary people's programs: of an unprivileged user, detached (own session, init as parent),
//! stdio on files, no stray descriptor. Owns starting them, waiting for what they report, and ending them when dropped.
//!
//! Every wait has a deadline and an error that says what was seen last; none is a bare sleep.

use crate::{raw, report};
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::io;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// The user and group that programs under test run as.
pub const NOBODY: u32 = 65534;

/// A detached program, by its number and start time, so that a later process of the same number is never meant.
#[derive(Debug)]
pub struct Detached {
    /// Its PID, as seen here.
    pub pid: i32,
    /// Field 22 of its `/proc/PID/stat`: clock ticks after boot.
    pub start_ticks: u64,
    dir: PathBuf,
}

/// The program `name` of this crate or of the workspace (`prover`, `grid`, ...), beside the running test.
pub fn program(name: &str) -> io::Result<PathBuf> {
    let test = std::env::current_exe()?;
    // target/debug/deps/test-1234 or target/debug/grid-demo
    let found = test.ancestors().skip(1).take(2).map(|dir| dir.join(name)).find(|path| path.is_file());
    found.ok_or_else(|| io::Error::other(format!("{name} is not built: cargo build --workspace --bins")))
}

impl Detached {
    /// Starts `program` with `args` in `dir` (its cwd; `stdout` and `stderr` there take what it prints), as
    /// [`NOBODY`] where this process is root. Returns when it runs, with init as its parent. One a folder at a time.
    pub fn start(program: &Path, args: &[&str], dir: &Path) -> io::Result<Self> {
        Self::start_as(NOBODY, program, args, dir)
    }

    /// As [`Detached::start`], as this user and the group of the same number.
    pub fn start_as(user: u32, program: &Path, args: &[&str], dir: &Path) -> io::Result<Self> {
        raw::keep_descriptors_here()?;
        let mut command = Command::new("setsid");
        // setsid --fork ends at once, so that init (or the nearest subreaper) is the parent.
        command.args(["--fork", "sh", "-c", LAUNCHER, "sh"]);
        command.arg(program).args(args).current_dir(dir).stdin(Stdio::null()).env_clear().envs(environment());
        for name in ["stdout", "stderr"] {
            let file = std::fs::File::create(dir.join(name))?;
            // The program's own, as where its user's shell opened it: CRIU opens it anew as that user.
            if nix::unistd::geteuid().is_root() {
                std::os::unix::fs::fchown(&file, Some(user), Some(user))?;
            }
            let _ = if name == "stdout" { command.stdout(file) } else { command.stderr(file) };
        }
        if nix::unistd::geteuid().is_root() {
            command.uid(user).gid(user);
        }
        let _ = std::fs::remove_file(dir.join("pid"));
        let status = command.status()?;
        if !status.success() {
            return Err(io::Error::other(format!("setsid: {status}")));
        }
        until(dir, Duration::from_secs(10), &format!("{} to start", program.display()), || {
            let Ok(text) = std::fs::read_to_string(dir.join("pid")) else { return Ok(None) };
            let pid = text.trim().parse().map_err(io::Error::other)?;
            Ok(has_become_it(pid).then(|| Self {
                pid,
                start_ticks: start_ticks(pid).unwrap_or(0),
                dir: dir.to_path_buf(),
            }))
        })
    }

    /// Is this very process there (also as a zombie)?
    pub fn exists(&self) -> bool {
        self.start_ticks != 0 && start_ticks(self.pid) == Some(self.start_ticks)
    }

    /// Does it run its own program here still? Not where it has ended, nor where it is the shadow of what moved away.
    pub fn runs_here(&self) -> bool {
        self.exists() && !is_shadow(self.pid)
    }

    /// Waits until it has moved away and its shadow is here in its place.
    pub fn wait_shadow(&self, limit: Duration) -> io::Result<()> {
        let what = format!("process {} to be a shadow", self.pid);
        until(&self.dir, limit, &what, || Ok((self.exists() && is_shadow(self.pid)).then_some(())))
    }

    /// Waits until it is gone from here: ended and reaped.
    pub fn wait_gone(&self, limit: Duration) -> io::Result<()> {
        until(&self.dir, limit, &format!("process {} to be gone", self.pid), || Ok((!self.exists()).then_some(())))
    }

    /// What it wrote to stdout so far.
    pub fn stdout(&self) -> io::Result<String> {
        std::fs::read_to_string(self.dir.join("stdout"))
    }

    /// What it wrote to stderr so far.
    pub fn stderr(&self) -> io::Result<String> {
        std::fs::read_to_string(self.dir.join("stderr"))
    }
}

impl Drop for Detached {
    /// Ends its whole session, where this very process is still there: it leads the session's process group.
    fn drop(&mut self) {
        if self.exists() {
            let _ = kill(Pid::from_raw(-self.pid), Signal::SIGKILL);
            let _ = kill(Pid::from_raw(self.pid), Signal::SIGKILL);
        }
    }
}

/// What every program under test is given, so that a test says the same wherever it runs.
fn environment() -> impl Iterator<Item = (&'static str, std::ffi::OsString)> {
    let own = [("HOME", "/"), ("SHELL", "/bin/sh"), ("LANG", "C.UTF-8"), ("TERM", "xterm")];
    let path = std::env::var_os("PATH").map(|path| ("PATH", path));
    own.map(|(name, value)| (name, value.into())).into_iter().chain(path)
}

/// The shell that tells its number and then becomes the program.
const LAUNCHER: &str = r#"echo $$ >pid.new && mv pid.new pid && exec "$@""#;

/// Is the process no longer the launcher? True too where it has already ended.
fn has_become_it(pid: i32) -> bool {
    let arguments = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    !arguments.split(|b| *b == 0).any(|argument| argument == LAUNCHER.as_bytes())
}

/// Does this process stand in for one that runs elsewhere? It says so itself.
pub fn is_shadow(pid: i32) -> bool {
    std::fs::read(format!("/proc/{pid}/cmdline")).is_ok_and(|arguments| arguments.starts_with(b"grid-shadow: "))
}

/// Field 22 of `/proc/PID/stat`: when it started, in clock ticks after boot. None where there is no such process.
pub fn start_ticks(pid: i32) -> Option<u64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name in parentheses may hold anything, also parentheses: fields are counted from the last one.
    stat.rsplit_once(')')?.1.split_whitespace().nth(19)?.parse().ok()
}

/// Numbers of all processes that are there now.
pub fn all() -> Vec<i32> {
    let entries = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect()
}

/// Waits until the report at `path` has a line of at least `count` steps, and returns its newest line. A line that
/// carries an error ends the wait with it.
pub fn wait_count(path: &Path, count: u64, limit: Duration) -> io::Result<report::Line> {
    wait_line(path, limit, &format!("count {count}"), |line| line.count >= count)
}

/// Waits for the report's last line (`done`).
pub fn wait_done(path: &Path, limit: Duration) -> io::Result<report::Line> {
    wait_line(path, limit, "its end", |line| line.done)
}

fn wait_line(
    path: &Path,
    limit: Duration,
    what: &str,
    want: impl Fn(&report::Line) -> bool,
) -> io::Result<report::Line> {
    let dir = path.parent().unwrap_or(Path::new("."));
    let mut seen = None;
    let waited = until(dir, limit, &format!("{what} in {}", path.display()), || {
        let line = report::last(path)?;
        if let Some(error) = line.as_ref().and_then(|l| l.error.clone()) {
            return Err(io::Error::other(format!("{}: {error}", path.display())));
        }
        seen.clone_from(&line);
        Ok(line.filter(&want))
    });
    waited.map_err(|e| io::Error::new(e.kind(), format!("{e}; last seen: {seen:?}")))
}

/// Asks `look` until it answers, woken by each change in the folder `dir` and every 20 ms; past `limit` an error that
/// names `what`.
pub fn until<T>(
    dir: &Path,
    limit: Duration,
    what: &str,
    mut look: impl FnMut() -> io::Result<Option<T>>,
) -> io::Result<T> {
    let start = Instant::now();
    let changes = Inotify::init(InitFlags::IN_CLOEXEC | InitFlags::IN_NONBLOCK)?;
    // Another process's moves happen outside any folder, and a folder can be missing yet: the watch only speeds it up.
    let _ = changes.add_watch(dir, AddWatchFlags::IN_MODIFY | AddWatchFlags::IN_CREATE | AddWatchFlags::IN_MOVED_TO);
    loop {
        if let Some(answer) = look()? {
            return Ok(answer);
        }
        if start.elapsed() > limit {
            let message = format!("waited {:.1} s for {what}", limit.as_secs_f64());
            return Err(io::Error::new(io::ErrorKind::TimedOut, message));
        }
        wait_change(&changes, Duration::from_millis(20))?;
    }
}

fn wait_change(changes: &Inotify, limit: Duration) -> io::Result<()> {
    use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
    use std::os::fd::AsFd;
    let timeout = PollTimeout::try_from(limit).unwrap_or(PollTimeout::ZERO);
    let ready = poll(&mut [PollFd::new(changes.as_fd(), PollFlags::POLLIN)], timeout)?;
    if ready > 0 {
        let _ = changes.read_events();
    }
    Ok(())
}

/// All but a little of this machine's memory, as `grid` reads it: there is always less available.
///
/// # Panics
/// Where `/proc/meminfo` does not say how much there is.
pub fn nearly_all_memory() -> String {
    let text = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let kib =
        text.lines().find_map(|line| line.strip_prefix("MemTotal:")?.trim().strip_suffix(" kB")?.parse::<u64>().ok());
    format!("{}KiB", kib.unwrap_or_else(|| panic!("/proc/meminfo: {text}")) - 64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scratch::Scratch;

    fn start(script: &str, dir: &Scratch) -> Detached {
        Detached::start(Path::new("/bin/sh"), &["-c", script], dir).unwrap()
    }

    #[test]
    fn a_program_is_detached_unprivileged_and_found_by_its_start() {
        let dir = Scratch::new().unwrap();
        let process = start("echo hello; exec sleep 60", &dir);
        assert!(process.exists());
        until(&dir, Duration::from_secs(5), "hello", || Ok((process.stdout()? == "hello\n").then_some(()))).unwrap();
        let status = std::fs::read_to_string(format!("/proc/{}/status", process.pid)).unwrap();
        let field = |name: &str| status.lines().find_map(|l| l.strip_prefix(name)).unwrap().trim().to_owned();
        assert_ne!(field("PPid:"), std::process::id().to_string());
        if nix::unistd::geteuid().is_root() {
            assert!(field("Uid:").starts_with("65534"), "{status}");
            assert_eq!(field("Groups:"), "");
        }
        let pid = process.pid;
        assert_eq!(std::fs::read_dir(format!("/proc/{pid}/fd")).map_or(3, Iterator::count), 3);
        let same = Detached { pid, start_ticks: process.start_ticks, dir: dir.to_path_buf() };
        drop(process);
        same.wait_gone(Duration::from_secs(5)).unwrap();
    }

    #[test]
    fn a_wait_that_is_in_vain_says_for_what() {
        let dir = Scratch::new().unwrap();
        let error = wait_count(&dir.join("none"), 1, Duration::from_millis(50)).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        assert!(error.to_string().contains("count 1") && error.to_string().contains("last seen: None"), "{error}");
    }
}

//! `grid run --private`: who waits in the command's place while it is given namespaces of its own, and then becomes it.
//!
//! ```text
//!  grid run ── exec ──► waits (this program, under the command's words) ◄── SIGUSR1 ── helper
//!                         │ handed over into namespaces of its own              (asks the daemon for that)
//!                         └── another PID namespace than before? ── exec ──► COMMAND, else 125
//! ```
//!
//! Invariant: the command itself never sees the shared `/tmp`: where it cannot have its own, nothing was started.

use super::{failed, start_helper};
use crate::cli::{self, Global, RunArgs};
use grid_os::launch::{self, Launch};
use grid_os::signals;
use grid_types::exit::CANNOT_RUN;
use grid_types::facts::in_private_tmp;
use nix::sys::signal::{SigSet, Signal};
use std::ffi::{CString, OsStr, OsString};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::Duration;

/// Says to this program that it waits: the descriptor that tells the helper so, and whether SIGUSR1 was blocked before.
const WAITS: &str = "GRID_RUN_WAITS";
/// A head that has not done it by then is not there.
const WITHIN: Duration = Duration::from_secs(120);

/// Becomes who waits. Returns where that is impossible.
pub(super) fn run(args: &RunArgs, command: &Command, launch: Launch, global: &Global) -> ExitCode {
    if let Some(code) = refused(command.get_program()) {
        return code;
    }
    match wait_in_place(args, command, launch, global) {
        Ok(never) => match never {},
        Err(e) => {
            cli::message(&format!("grid run: it cannot have a /tmp of its own: {e}. Nothing was started"));
            ExitCode::from(CANNOT_RUN)
        }
    }
}

/// Said, and the code to leave with, where the command would not find what it has now.
pub(super) fn refused(program: &OsStr) -> Option<ExitCode> {
    let what = in_the_way(program)?;
    cli::message(&format!(
        "grid run: {what}: with --private that folder is the command's own, and empty. Nothing was started"
    ));
    cli::message("  do: start it from another folder, and redirect to another one");
    Some(ExitCode::from(CANNOT_RUN))
}

enum Never {}

fn wait_in_place(args: &RunArgs, command: &Command, launch: Launch, global: &Global) -> io::Result<Never> {
    let blocked = SigSet::thread_get_mask()?.contains(Signal::SIGUSR1);
    let mut told = SigSet::empty();
    told.add(Signal::SIGUSR1);
    told.thread_block()?;
    let watcher = start_helper(args, global)?;
    let mut waiting = Command::new(std::env::current_exe()?);
    waiting.arg0(command.get_program()).args(command.get_args());
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => waiting.env(name, value),
            None => waiting.env_remove(name),
        };
    }
    waiting.env(WAITS, format!("{} {blocked}", watcher.as_raw_fd()));
    let error = launch::become_program(&mut waiting, Launch { keep: Some(watcher.as_raw_fd()), ..launch });
    launch::call_off(&watcher);
    Err(error)
}

/// What of the command's would not be there any more.
fn in_the_way(program: &OsStr) -> Option<String> {
    let inside = |path: &Path| in_private_tmp(&path.to_string_lossy());
    let named = |what: &str, path: PathBuf| inside(&path).then(|| format!("{what} is {}", path.display()));
    let link = |name: &str| std::fs::read_link(format!("/proc/self/{name}")).unwrap_or_default();
    let program = Some(Path::new(program)).filter(|path| path.components().count() > 1);
    let program = program.and_then(|path| std::path::absolute(path).ok()).unwrap_or_default();
    named("the working directory", link("cwd"))
        .or_else(|| named("the command", program))
        .or_else(|| named("grid itself", link("exe")))
        .or_else(|| (0..3).find_map(|fd| named(&format!("descriptor {fd}"), link(&format!("fd/{fd}")))))
}

/// Where this process is one that waits: waits, and becomes the command. Gives an exit code where it does not.
pub fn launch_if_asked() -> Option<ExitCode> {
    let word = std::env::var(WAITS).ok()?;
    let words: Vec<OsString> = std::env::args_os().collect();
    let (program, rest) = words.split_first()?;
    Some(wait_and_become(&word, program, rest))
}

fn wait_and_become(word: &str, program: &OsStr, words: &[OsString]) -> ExitCode {
    let (fd, blocked) = word.split_once(' ').unwrap_or_default();
    let lives_in = || std::fs::read_link("/proc/self/ns/pid").unwrap_or_default();
    let before = lives_in();
    // As the command will be called: what is called as grid is never moved.
    let name = Path::new(program).file_name().unwrap_or(program).as_bytes();
    let named = CString::new(name).map_err(io::Error::other).and_then(|name| Ok(nix::sys::prctl::set_name(&name)?));
    let told = named.and_then(|()| {
        fd.parse().map_err(io::Error::other).and_then(|fd: i32| Ok(nix::unistd::close(fd)?))?;
        signals::await_one(Signal::SIGUSR1, WITHIN)
    });
    if lives_in() == before {
        // Told, it was said why.
        if !matches!(told, Ok(true)) {
            cli::message("grid run: nobody gave it a /tmp of its own. Nothing was started");
        }
        return ExitCode::from(CANNOT_RUN);
    }
    if blocked != "true" {
        let mut told = SigSet::empty();
        told.add(Signal::SIGUSR1);
        let _ = told.thread_unblock();
    }
    let mut command = Command::new(program);
    command.args(words).env_remove(WAITS);
    let error = launch::become_program(&mut command, Launch::default());
    failed(program, &error)
}

//! `grid run`: a command that can be moved later. This process becomes it.
//!
//! Owns the order of things: the words are checked, a helper waits where a boost was named, then the exec. Never stands
//! between the command and its caller: number, parent, terminal, pipes and exit status are the command's own.
//!
//! ```text
//!  grid run ──fork──► helper (nobody's child) ── waits for the exec ──► daemon: move PID into the boost
//!     └── filter, descriptors ── exec ──► COMMAND
//! ```
//!
//! With `--private` it becomes something that waits in the command's place until it lives in namespaces of its own.

mod private;

pub use private::launch_if_asked;

use crate::cli::{self, Global, RunArgs};
use grid_os::launch::{self, Launch};
use grid_os::seccomp::{CLAIM, is_claimed_by};
use grid_types::exit::{CANNOT_EXECUTE, CANNOT_RUN, NO_COMMAND};
use std::ffi::OsStr;
use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};

/// By which libuv, and so node, is told not to try; it would be refused anyway.
const LIBUV: (&str, &str) = ("UV_USE_IO_URING", "0");

/// Becomes the command. Returns where that is impossible, with the code that shells and `env` give.
pub fn run(args: &RunArgs, global: &Global) -> ExitCode {
    let Some((program, words)) = args.command.split_first() else { return ExitCode::from(CANNOT_RUN) };
    if args.dry_run {
        if let Some(code) = args.private.then(|| private::refused(program)).flatten() {
            return code;
        }
        if !is_there(program) {
            return failed(program, &io::Error::from_raw_os_error(nix::libc::ENOENT));
        }
        cli::text(&would_run(args, program));
        return ExitCode::SUCCESS;
    }
    let mut command = Command::new(program);
    command.args(words);
    let launch = prepare(&mut command, args);
    if args.private {
        return private::run(args, &command, launch, global);
    }
    let asked = args.boost.is_some().then(|| start_helper(args, global)).transpose();
    let watcher = asked.unwrap_or_else(|e| {
        cli::message(&format!("grid run: it stays at home: nobody could be started to ask for its move: {e}"));
        None
    });
    let error = launch::become_program(&mut command, launch);
    watcher.iter().for_each(launch::call_off);
    failed(program, &error)
}

/// The environment, and the filter: once is enough, where this runs under `grid run` itself.
fn prepare(command: &mut Command, args: &RunArgs) -> Launch {
    let already = is_claimed_by(std::process::id() as i32);
    let without_io_uring = !args.allow_io_uring && !already;
    if without_io_uring {
        command.envs([CLAIM, LIBUV]);
    } else if !already {
        // Of somebody else's making: nothing here is under the filter.
        command.env_remove(CLAIM.0);
    }
    Launch { without_io_uring, keep: None }
}

fn start_helper(args: &RunArgs, global: &Global) -> io::Result<OwnedFd> {
    let mut command = Command::new(std::env::current_exe()?);
    command.arg("--state").arg(&global.state).args(["--output", "human", "run-helper"]);
    command.arg(std::process::id().to_string()).env("GRID_SOCKET", global.socket());
    command.args(args.boost.iter().flat_map(|boost| ["--boost", boost])).args(args.private.then_some("--private"));
    launch::start_watcher(command.stdout(Stdio::null()))
}

/// A program that an exec would find.
fn is_there(program: &OsStr) -> bool {
    let named = Path::new(program);
    if named.components().count() > 1 {
        return named.exists();
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|dir| dir.join(named).is_file())
}

fn would_run(args: &RunArgs, program: &OsStr) -> String {
    let rings = if args.allow_io_uring { "io_uring allowed" } else { "no io_uring" };
    let place = if args.private { ", in namespaces of its own with an empty /tmp and /dev/shm" } else { "" };
    let then = args.boost.as_ref().map_or_else(String::new, |boost| format!(", then moved into {boost}"));
    format!(
        "{} would be started: its descriptors 0, 1, 2 only, {rings}{place}{then}.\nNothing was started.",
        program.display()
    )
}

fn failed(program: &OsStr, error: &io::Error) -> ExitCode {
    let code = match error.raw_os_error() {
        Some(nix::libc::ENOENT) => NO_COMMAND,
        Some(nix::libc::EACCES | nix::libc::ENOEXEC | nix::libc::EISDIR | nix::libc::ENOTDIR) => CANNOT_EXECUTE,
        _ => CANNOT_RUN,
    };
    cli::message(&format!("grid run: {}: {error}. Nothing was started", program.display()));
    if code == CANNOT_RUN {
        cli::message("  do: try it with --allow-io-uring, if this kernel has no filters of system calls");
    }
    ExitCode::from(code)
}

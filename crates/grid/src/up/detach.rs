//! `grid up --detach`: the supervisor in a session of its own; the caller waits for its first line.

use super::{UpError, failed};
use crate::cli;
use grid_types::exit::FaultClass;
use std::fs::File;
use std::io::{BufRead, BufReader, Read, Seek};
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};

/// Runs this program with these arguments in the background and returns when it says that it is ready.
pub fn detached(argv: &[String]) -> Result<(), UpError> {
    let program = std::env::current_exe().map_err(failed("finding this program"))?;
    // A file and not a pipe: it outlives this process, and a write to a pipe without a reader would end the supervisor.
    let mut stderr = tempfile::tempfile().map_err(failed("a temporary file"))?;
    let mut child = Command::new(program)
        .args(argv)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(stderr.try_clone().map_err(failed("a temporary file"))?)
        .process_group(0)
        .spawn()
        .map_err(failed("starting the supervisor"))?;
    let Some(stdout) = child.stdout.take() else { return Ok(()) };
    let mut lines = BufReader::new(stdout).lines();
    let mut seen = 0;
    for line in lines.by_ref().map_while(Result::ok) {
        seen += 1;
        if line.starts_with("Next:") {
            // What it has noted meanwhile.
            said(&mut stderr).lines().for_each(cli::message);
            cli::text("Next: grid offload scan; grid down ends it");
            return Ok(());
        }
        cli::text(&line);
    }
    let status = child.wait().map_err(failed("waiting for the supervisor"))?;
    let said = said(&mut stderr);
    let said = said.trim().trim_start_matches("error: ").to_owned();
    let code = status.code().unwrap_or(1);
    let class = FaultClass::ALL.into_iter().find(|c| i32::from(c.code()) == code).unwrap_or(FaultClass::Internal);
    Err(UpError::new(class, if said.is_empty() { format!("the supervisor ended after {seen} lines") } else { said }))
}

/// The supervisor writes at the same place: it is at the end of what was read.
fn said(stderr: &mut File) -> String {
    let mut text = String::new();
    let _ = stderr.rewind().and_then(|()| stderr.read_to_string(&mut text));
    text
}

//! `grid service`: the head's cluster as a unit of systemd's, so that it is there after a boot. `grid uninstall --list`: what
//! grid has on this machine.
//!
//! Owns the unit and its place. What the unit starts is `grid up`, with everything that checks; nothing is decided here twice.

mod left;
mod unit;

pub use left::{Left, left};
pub use unit::{PACKAGED, Unit};

use crate::up::{UpError, failed};
use grid_types::exit::FaultClass;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::{Duration, Instant};

/// Name of the unit.
pub const UNIT: &str = "grid.service";
/// Where an administrator's own units lie.
const PLACE: &str = "/etc/systemd/system";
/// There where systemd runs.
const RUNNING: &str = "/run/systemd/system";
/// A worker that ssh reaches the first time is given what it needs.
const COMES_UP_WITHIN: Duration = Duration::from_secs(120);

/// Writes the unit where the package's own does not serve, has it started at each boot, and starts it. Returns what was done,
/// in lines.
///
/// # Errors
/// Whatever `grid up --dry-run` refuses; no systemd; what systemd said, with the unit's last words where it did not come up.
pub fn install(unit: &Unit, state: &Path, dry_run: bool) -> Result<Vec<String>, UpError> {
    // All that would stop `grid up` stops this, before anything is written.
    would_start(unit, state)?;
    has_systemd()?;
    let place = place_of(unit);
    let written = place.as_ref().map(|place| format!("{} says how", place.display()));
    let mut lines = vec![format!("{UNIT} starts with this machine: {}", unit.start())];
    lines.extend(written);
    if dry_run {
        lines.push("Nothing was changed.".into());
        return Ok(lines);
    }
    if let Some(place) = place {
        std::fs::write(&place, unit.text()).map_err(failed(&place.display().to_string()))?;
    }
    systemctl(&["daemon-reload"])?;
    systemctl(&["enable", "--now", UNIT])?;
    wait_up(&state.join("head.sock"))?;
    lines.push("It runs. Its log: journalctl -u grid; grid service uninstall takes it away again.".into());
    Ok(lines)
}

/// Brings everything home, ends the cluster, and takes the unit away.
///
/// # Errors
/// Where something cannot come home: then nothing was changed.
pub fn uninstall(state: &Path, dry_run: bool) -> Result<Vec<String>, UpError> {
    has_systemd()?;
    let own = Path::new(PLACE).join(UNIT);
    let known = systemctl(&["cat", UNIT]).is_ok();
    if !known {
        return Err(UpError::new(FaultClass::NotFound, format!("there is no {UNIT}. Nothing was changed")));
    }
    if dry_run {
        let gone = if own.exists() { format!("; {} is removed", own.display()) } else { String::new() };
        let line =
            format!("Everything comes home, the cluster ends, and {UNIT} no longer starts with this machine{gone}.");
        return Ok(vec![line, "Nothing was changed.".into()]);
    }
    if systemctl(&["is-active", "--quiet", UNIT]).is_ok() {
        let state = state.to_string_lossy();
        grid(&["--state", &state, "down", "--recall-first"])?;
    }
    systemctl(&["disable", "--now", UNIT])?;
    if own.exists() {
        std::fs::remove_file(&own).map_err(failed(&own.display().to_string()))?;
        systemctl(&["daemon-reload"])?;
    }
    Ok(vec![format!("{UNIT} is gone, and nothing of grid runs. What it keeps: grid uninstall --list")])
}

/// Where it is to be written; none where the package has laid the same.
fn place_of(unit: &Unit) -> Option<PathBuf> {
    let packaged = std::fs::read_to_string(PACKAGED).is_ok_and(|text| text == unit.text());
    (!packaged).then(|| Path::new(PLACE).join(UNIT))
}

fn would_start(unit: &Unit, state: &Path) -> Result<(), UpError> {
    let (config, state) = (unit.config.to_string_lossy(), state.to_string_lossy());
    grid(&["--state", &state, "up", "--config", &config, "--dry-run"]).map(drop)
}

fn has_systemd() -> Result<(), UpError> {
    if Path::new(RUNNING).is_dir() {
        return Ok(());
    }
    let what = "systemd does not run this machine. Nothing was changed";
    Err(UpError::new(FaultClass::Environment, what)
        .hint("grid up --config FILE --detach, wherever this machine starts things"))
}

/// Until users are answered, or the unit has failed.
fn wait_up(socket: &Path) -> Result<(), UpError> {
    let end = Instant::now() + COMES_UP_WITHIN;
    while UnixStream::connect(socket).is_err() {
        let failed = systemctl(&["is-failed", "--quiet", UNIT]).is_ok();
        if failed || Instant::now() > end {
            let mut journal = Command::new("journalctl");
            let words = journal.args(["-u", UNIT, "-o", "cat", "-n", "5", "--no-pager"]).output();
            let words = words.map(|o| String::from_utf8_lossy(&o.stdout).trim().to_owned()).unwrap_or_default();
            let what = format!("{UNIT} did not come up: {words}");
            return Err(UpError::new(FaultClass::Unreachable, what)
                .hint("journalctl -u grid; it is tried again at the next boot"));
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    Ok(())
}

fn systemctl(words: &[&str]) -> Result<Output, UpError> {
    said(Command::new("systemctl").args(words).output(), "systemctl", FaultClass::Environment)
}

/// This program, with other words; its own error is passed on, and its exit code.
fn grid(words: &[&str]) -> Result<Output, UpError> {
    let program = std::env::current_exe().map_err(failed("this program"))?;
    said(Command::new(program).args(words).output(), "grid", FaultClass::Internal)
}

fn said(output: std::io::Result<Output>, what: &str, class: FaultClass) -> Result<Output, UpError> {
    let output = output.map_err(failed(what))?;
    if output.status.success() {
        return Ok(output);
    }
    let code = output.status.code().unwrap_or(-1);
    let class = FaultClass::ALL.into_iter().find(|c| what == "grid" && i32::from(c.code()) == code).unwrap_or(class);
    let text = String::from_utf8_lossy(&output.stderr);
    let mut lines = text.lines().map(str::trim);
    let error = lines.by_ref().find(|line| !line.is_empty()).unwrap_or("no reason given");
    let error = UpError::new(class, error.strip_prefix("error: ").unwrap_or(error));
    Err(match lines.find_map(|line| line.strip_prefix("do: ")) {
        Some(hint) => error.hint(hint),
        None => error,
    })
}

//! Whether moves can be tested here. Owns the question and the words of a skip; never runs a dump.

use nix::unistd::geteuid;
use std::path::PathBuf;
use std::process::Command;
use std::sync::OnceLock;

/// The CRIU to use: `GRID_CRIU` (what `make` exports), else what `scripts/install-criu` recorded, else `criu` of PATH.
pub fn path() -> PathBuf {
    if let Some(path) = std::env::var_os("GRID_CRIU") {
        return path.into();
    }
    let recorded = concat!(env!("CARGO_MANIFEST_DIR"), "/../../.grid/criu-path");
    std::fs::read_to_string(recorded).map_or_else(|_| PathBuf::from("criu"), |text| text.trim().into())
}

/// Is there root, a CRIU, and does `criu check` pass? Asked once in a process; the error says why not.
pub fn usable() -> Result<(), String> {
    static ANSWER: OnceLock<Result<(), String>> = OnceLock::new();
    ANSWER.get_or_init(ask).clone()
}

fn ask() -> Result<(), String> {
    if !geteuid().is_root() {
        return Err("moving processes needs root".into());
    }
    let criu = path();
    let run = Command::new(&criu).arg("check").output();
    let out = run.map_err(|e| format!("{}: {e} (run scripts/install-criu)", criu.display()))?;
    if out.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&out.stderr);
    Err(format!("criu check: {}", said.lines().last().unwrap_or("failed and said nothing")))
}

/// For the first line of a test: true where moves work; else prints `SKIPPED: why`, which CI looks for.
pub fn usable_or_skip() -> bool {
    usable().inspect_err(|why| println!("SKIPPED: {why}")).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_answer_is_the_same_twice_and_has_a_reason() {
        assert_eq!(usable(), usable());
        assert!(usable().err().is_none_or(|why| !why.is_empty()));
    }
}

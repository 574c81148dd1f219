//! CRIU: which, whether it works on this kernel, and what it can do here.

use super::{About, Check, program};
use crate::criu_path;
use grid_os::criu::Criu;
use std::path::Path;
use std::process::{Command, Stdio};

const PROGRAM: About = About::needed("criu", "moving processes", "scripts/install-criu (or a package >= 4.2)");
const HASH: About = About::wanted("criu sha256", "knowing exactly which CRIU runs", "install coreutils (sha256sum)");
const CHECK: About = About::needed(
    "criu check",
    "CRIU's own verdict on this kernel",
    "see `criu check` as root; a newer kernel or CRIU",
);
const LAZY: About = About::needed(
    "criu uffd-noncoop",
    "memory that streams straight into the worker",
    "a kernel with CONFIG_USERFAULTFD",
);
const DIRTY: About = About::wanted(
    "criu mem_dirty_track",
    "pre-copy (shorter freezes)",
    "a kernel with CONFIG_MEM_SOFT_DIRTY (not on ARM64)",
);

/// Everything about CRIU.
pub(super) fn checks() -> Vec<Check> {
    let Some(path) = criu_path::find() else {
        return vec![PROGRAM.is(false, "none in GRID_CRIU, .grid/criu-path, PATH")];
    };
    match Criu::find(&path) {
        Err(e) => vec![PROGRAM.is(false, e.to_string())],
        Ok(criu) => {
            let (a, b, c) = criu.version;
            let version = if c > 0 { format!("{a}.{b}.{c}") } else { format!("{a}.{b}") };
            let found = format!("{version} {}", path.display());
            let hash = sha256(&path);
            vec![
                PROGRAM.is(true, found),
                HASH.is(hash.is_some(), hash.unwrap_or_else(|| "-".to_owned())),
                verdict(&path),
                feature(&path, LAZY, "uffd-noncoop"),
                feature(&path, DIRTY, "mem_dirty_track"),
            ]
        }
    }
}

fn verdict(path: &Path) -> Check {
    let (well, text) = ask(path, &["check"]);
    CHECK.is(well, text)
}

fn feature(path: &Path, about: About, name: &str) -> Check {
    let (well, _) = ask(path, &["check", "--feature", name]);
    about.is(well, if well { "supported" } else { "not supported here" })
}

/// Whether CRIU said yes, and its last line.
fn ask(path: &Path, args: &[&str]) -> (bool, String) {
    match Command::new(path).args(args).stdin(Stdio::null()).output() {
        Err(e) => (false, e.to_string()),
        Ok(out) => {
            // What it says in the end; warnings go to stderr.
            let last = last_line(&out.stdout).or_else(|| last_line(&out.stderr));
            (out.status.success(), last.unwrap_or_else(|| "-".to_owned()))
        }
    }
}

fn last_line(text: &[u8]) -> Option<String> {
    let text = String::from_utf8_lossy(text);
    text.lines().rev().map(str::trim).find(|l| !l.is_empty()).map(str::to_owned)
}

/// The program's hash, by the system's own tool; none without one.
fn sha256(path: &Path) -> Option<String> {
    let out = program("sha256sum").and_then(|tool| Command::new(tool).arg(path).stdin(Stdio::null()).output().ok());
    let text = out.map(|o| String::from_utf8_lossy(&o.stdout).into_owned()).unwrap_or_default();
    let hash = text.trim_start_matches('\\').split(' ').next().filter(|h| h.len() == 64);
    hash.map(str::to_owned)
}

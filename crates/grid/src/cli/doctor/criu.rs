//! CRIU: which, whether it is the pinned build, whether others could change it, whether it works on this kernel, and what
//! it can do here.

use super::{About, Check};
use crate::criu_path;
use grid_os::criu::{Criu, CriuError, Origin, pinned_version};
use grid_types::ReasonCode;
use std::io::ErrorKind;
use std::path::Path;
use std::process::{Command, Stdio};

const PROGRAM: About = About::needed("criu", "moving processes", "scripts/install-criu (or a package >= 4.2)");
const PLACE: About = About::needed("criu place", "nobody but root can change it", "grid explain E-WRITABLE");
const HASH: About = About::wanted("criu sha256", "knowing exactly which CRIU runs", "make its program readable");
const BUILD: About =
    About::wanted("criu build", "the CRIU that grid is tested with", "scripts/install-criu, and GRID_CRIU unset");
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
        Err(CriuError::Writable { path, who }) => {
            vec![PLACE.is(false, format!("{} {} can be changed by {who}", ReasonCode::Writable, path.display()))]
        }
        // Where this user may not enter, there may be one.
        Err(e) if std::fs::metadata(&path).is_err_and(|e| e.kind() == ErrorKind::PermissionDenied) => {
            vec![PROGRAM.is_for_root(false, e.to_string())]
        }
        Err(e) => vec![PROGRAM.is(false, e.to_string())],
        Ok(criu) => {
            let path = &criu.path;
            let mut all = vec![
                PROGRAM.is(true, format!("{} {}", criu.version_text(), path.display())),
                PLACE.is(true, "only root can change it, and whoever owns this grid"),
            ];
            all.extend(origin(criu.origin()));
            all.extend([verdict(path), feature(path, LAZY, "uffd-noncoop"), feature(path, DIRTY, "mem_dirty_track")]);
            all
        }
    }
}

/// Its hash, and whether it is the pinned build: another one is allowed, and said.
fn origin(found: std::io::Result<Origin>) -> [Check; 2] {
    match found {
        Ok(o) => [HASH.is(true, o.sha256), BUILD.is(o.pinned, o.build)],
        Err(e) => [HASH.is(false, e.to_string()), BUILD.is(false, format!("- (pinned is {})", pinned_version()))],
    }
}

fn verdict(path: &Path) -> Check {
    let (well, text) = ask(path, &["check"]);
    // CRIU tells others how they might run it; that is nothing to do here.
    let root = nix::unistd::geteuid().is_root();
    CHECK.is_for_root(well, if well || root { text } else { "-".to_owned() })
}

fn feature(path: &Path, about: About, name: &str) -> Check {
    let (well, _) = ask(path, &["check", "--feature", name]);
    let root = nix::unistd::geteuid().is_root();
    about.is_for_root(
        well,
        if well {
            "supported"
        } else if root {
            "not supported here"
        } else {
            "-"
        },
    )
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::doctor::State;

    fn made(pinned: bool, build: &str) -> Origin {
        let sha256 = "ab".repeat(32);
        Origin { path: "/usr/sbin/criu".into(), version: "4.2".into(), sha256, pinned, build: build.to_owned() }
    }

    #[test]
    fn an_unpinned_build_is_allowed_and_said() {
        let [hash, build] = origin(Ok(made(false, "4.2, older than the pinned 4.2.1")));
        assert_eq!((hash.state, hash.found.len()), (State::Ok, 64));
        assert_eq!((build.state, build.found.as_str()), (State::Note, "4.2, older than the pinned 4.2.1"));
        assert!(build.get.unwrap().contains("scripts/install-criu"));
        let [_, build] = origin(Ok(made(true, "the pinned build of 4.2.1")));
        assert_eq!((build.state, build.get), (State::Ok, None));
    }
}

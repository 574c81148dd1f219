//! Which CRIU this is: whether somebody else could change it, and whether it is the build that grid was tested with.
//!
//! The pin is `scripts/criu.pin`, the one place in the repository that names a version and the hash of its source;
//! `scripts/install-criu` builds exactly that and writes down what it built beside the program. A CRIU of the
//! distribution is used too, and said to be one.

use super::{Criu, CriuError};
use serde::Serialize;
use sha2::{Digest, Sha256};
use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

const PIN: &str = include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/../../scripts/criu.pin"));
/// Written by `scripts/install-criu` in the prefix of what it built (`PREFIX/sbin/criu`).
const RECORD: &str = "VERSION";

/// What a CRIU is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Origin {
    /// Its program.
    pub path: PathBuf,
    /// Its version.
    pub version: String,
    /// The program's hash.
    pub sha256: String,
    /// Built by grid's own script from the pinned source, and unchanged since.
    pub pinned: bool,
    /// The same for people.
    pub build: String,
}

/// The version that the repository pins.
pub fn pinned_version() -> &'static str {
    pin("version")
}

fn pin(key: &str) -> &'static str {
    word(PIN, key).unwrap_or_default()
}

/// The rest of the line that begins with this word.
fn word<'a>(text: &'a str, key: &str) -> Option<&'a str> {
    text.lines().find_map(|l| l.strip_prefix(key)?.strip_prefix(' '))
}

impl Criu {
    /// Its version as text: `4.2.1`, `4.2`.
    pub fn version_text(&self) -> String {
        match self.version {
            (a, b, 0) => format!("{a}.{b}"),
            (a, b, c) => format!("{a}.{b}.{c}"),
        }
    }

    /// Reads the program and what was written down when it was built.
    ///
    /// # Errors
    /// Where the program cannot be read.
    pub fn origin(&self) -> io::Result<Origin> {
        let sha256: String = Sha256::digest(fs::read(&self.path)?).iter().map(|b| format!("{b:02x}")).collect();
        let record = self.path.ancestors().nth(2).map(|prefix| prefix.join(RECORD));
        let record = record.filter(|r| safe(r).is_ok()).and_then(|r| fs::read_to_string(r).ok()).unwrap_or_default();
        let pinned = is_pinned(&record, &sha256);
        let version = self.version_text();
        let build = if pinned { format!("the pinned build of {version}") } else { unpinned(self.version, &version) };
        Ok(Origin { path: self.path.clone(), version, sha256, pinned, build })
    }
}

/// The record is of this program, and of the pinned source.
fn is_pinned(record: &str, sha256: &str) -> bool {
    let source = word(record, "source").unwrap_or_default();
    word(record, "binary sha256") == Some(sha256) && source.split([' ', ',']).any(|w| w == pin("sha256"))
}

fn unpinned(version: (i32, i32, i32), text: &str) -> String {
    let pinned = pinned_version();
    let mut numbers = pinned.split('.').map(|n| n.parse().unwrap_or(0));
    let mut next = || numbers.next().unwrap_or(0);
    match version.cmp(&(next(), next(), next())) {
        std::cmp::Ordering::Less => {
            format!("{text}, older than the pinned {pinned}: CVE-2026-18107 unless your distribution mended it")
        }
        std::cmp::Ordering::Equal => format!("{text}, not grid's own build"),
        std::cmp::Ordering::Greater => format!("{text}, newer than the pinned {pinned}: not tested with this grid"),
    }
}

/// The program's real path, where nobody but root can change what is there: not the program, nor any directory above it.
///
/// Whoever can change the grid that runs can do everything already, so its owner counts as root does; that is how a
/// checkout in somebody's home is tried out. In a sticky directory (`/tmp`) others cannot replace what is root's.
///
/// # Errors
/// What others could change, and what to do.
pub(super) fn safe(path: &Path) -> Result<PathBuf, CriuError> {
    let missing = |e: io::Error| CriuError::Missing { path: path.to_owned(), detail: e.to_string() };
    let real = fs::canonicalize(path).map_err(missing)?;
    let trusted = Trusted::of_this_program();
    for part in real.ancestors() {
        let meta = fs::symlink_metadata(part).map_err(missing)?;
        if let Some(who) = trusted.outsider(&meta) {
            return Err(CriuError::Writable { path: part.to_owned(), who });
        }
    }
    Ok(real)
}

/// Who may be able to change CRIU.
struct Trusted {
    uids: BTreeSet<u32>,
    gids: BTreeSet<u32>,
}

impl Trusted {
    fn of_this_program() -> Self {
        let mut trusted = Self { uids: [0, nix::unistd::geteuid().as_raw()].into(), gids: [0].into() };
        if let Ok(own) = fs::metadata("/proc/self/exe") {
            trusted.uids.insert(own.uid());
            trusted.gids.extend((own.mode() & 0o020 != 0).then(|| own.gid()));
        }
        trusted
    }

    /// Who else could change it; none where nobody could.
    fn outsider(&self, meta: &fs::Metadata) -> Option<String> {
        let (mode, sticky) = (meta.mode(), meta.is_dir() && meta.mode() & 0o1000 != 0);
        if !self.uids.contains(&meta.uid()) {
            return Some(format!("uid {}", meta.uid()));
        }
        if mode & 0o020 != 0 && !sticky && !self.gids.contains(&meta.gid()) {
            return Some(format!("group {}", meta.gid()));
        }
        (mode & 0o002 != 0 && !sticky).then(|| "everybody".to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    fn mode(path: &Path, mode: u32) {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    }

    /// A program in a directory in a directory that everybody may write to, as `/tmp` is.
    fn place() -> (tempfile::TempDir, PathBuf) {
        let outer = tempfile::tempdir().unwrap();
        mode(outer.path(), 0o1777);
        let dir = outer.path().join("sbin");
        fs::create_dir(&dir).unwrap();
        let program = dir.join("criu");
        fs::write(&program, "#!/bin/sh\necho Version: 4.2.1\n").unwrap();
        mode(&program, 0o755);
        mode(&dir, 0o755);
        (outer, program)
    }

    fn refused(path: &Path) -> String {
        match Criu::find(path) {
            Err(e @ CriuError::Writable { .. }) => e.to_string(),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn what_others_can_change_is_never_run() {
        let (_outer, program) = place();
        let criu = Criu::find(&program).unwrap();
        assert_eq!((criu.version, criu.version_text().as_str()), ((4, 2, 1), "4.2.1"));
        mode(&program, 0o757);
        let text = refused(&program);
        assert!(text.starts_with("E-WRITABLE") && text.contains("everybody") && text.contains("chmod go-w"), "{text}");
        mode(&program, 0o755);
        mode(program.parent().unwrap(), 0o777);
        assert!(refused(&program).contains("sbin can be changed by everybody"), "{}", refused(&program));
        mode(program.parent().unwrap(), 0o1777);
        assert!(Criu::find(&program).is_ok(), "in a sticky directory nobody replaces what is root's");
    }

    #[test]
    fn a_program_or_directory_of_another_user_is_refused_also_behind_a_link() {
        if !nix::unistd::geteuid().is_root() {
            eprintln!("SKIPPED: giving files away takes root");
            return;
        }
        let (outer, program) = place();
        let link = outer.path().join("criu");
        std::os::unix::fs::symlink(&program, &link).unwrap();
        assert_eq!(Criu::find(&link).unwrap().path, fs::canonicalize(&program).unwrap());
        std::os::unix::fs::chown(program.parent().unwrap(), Some(65534), None).unwrap();
        assert!(refused(&link).contains("uid 65534"));
        std::os::unix::fs::chown(program.parent().unwrap(), Some(0), Some(65534)).unwrap();
        assert!(Criu::find(&link).is_ok(), "a group that may not write");
        mode(program.parent().unwrap(), 0o775);
        assert!(refused(&link).contains("group 65534"));
    }

    #[test]
    fn the_pinned_build_is_known_by_its_record_and_its_hash() {
        let (outer, program) = place();
        let criu = Criu::find(&program).unwrap();
        let origin = criu.origin().unwrap();
        assert_eq!((origin.pinned, origin.build.as_str()), (false, "4.2.1, not grid's own build"));
        let record = |source: &str, binary: &str| {
            let text = format!("version 4.2.1\nsource criu 4.2.1-1, {source} x.tar.xz\nbinary sha256 {binary}\n");
            fs::write(outer.path().join("VERSION"), text).unwrap();
            criu.origin().unwrap().pinned
        };
        assert!(record(pin("sha256"), &origin.sha256));
        assert!(!record(pin("sha256"), &"0".repeat(64)), "changed since it was built");
        assert!(!record(&"0".repeat(64), &origin.sha256), "of another source");
        assert!(record(pin("sha256"), &origin.sha256));
        mode(&outer.path().join("VERSION"), 0o666);
        assert!(!criu.origin().unwrap().pinned, "a record that anybody could have written");
    }

    #[test]
    fn the_pin_is_whole_and_other_versions_are_told_apart() {
        assert_eq!((pin("version").split('.').count(), pin("sha256").len()), (3, 64));
        assert!(pin("tarball").contains(pin("version")));
        assert!(unpinned((4, 2, 0), "4.2").contains("CVE-2026-18107"));
        assert!(unpinned((9, 0, 0), "9.0").contains("not tested"));
    }
}

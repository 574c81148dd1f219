//! What the fuzz targets share: a place in memory for files, and inputs made of named parts.
//!
//! A target hands bytes of an outsider to the code that ships and says what must hold whatever they are. It never
//! reaches anything outside its own scratch directory.

use std::fs;
use std::io::{self, Read, Write};
use std::path::{Component, Path};

/// A directory of this input's own. It lies in `TMPDIR`, which `scripts/fuzz` makes in memory and removes.
pub fn scratch() -> tempfile::TempDir {
    tempfile::tempdir().expect("a fuzzer has a place for files")
}

/// A connection whose other end has said all that it will ever say, and swallows every answer.
pub struct Sent<'a>(pub &'a [u8]);

impl Read for Sent<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        self.0.read(into)
    }
}

impl Write for Sent<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        Ok(bytes.len())
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The parts of an input: each begins with a line `@@ NAME` (or `@@ NAME REST`) and goes on to the next such line.
pub fn parts(data: &[u8]) -> Vec<(&str, &str, &[u8])> {
    let mut all = Vec::new();
    let mut rest = data;
    while let Some(begun) = rest.strip_prefix(b"@@ ") {
        let end = begun.windows(4).position(|w| w == b"\n@@ ").map_or(begun.len(), |at| at + 1);
        let (part, next) = begun.split_at(end);
        let line = part.iter().position(|b| *b == b'\n').unwrap_or(part.len());
        if let Ok(head) = std::str::from_utf8(&part[..line]) {
            let (name, words) = head.split_once(' ').unwrap_or((head, ""));
            all.push((name, words, part.get(line + 1..).unwrap_or_default()));
        }
        rest = next;
    }
    all
}

/// Writes the parts below a fresh directory: `@@ path` is a file, `@@ path -> target` a link. Only plain relative paths
/// count. All files come before the first link: what is written never leaves the directory through one. (Written in the
/// order of the input, an input made a link to a program of this machine and wrote over it, as root.)
pub fn lay_out(dir: &Path, data: &[u8]) {
    let plain = |name: &str| {
        let mut components = Path::new(name).components();
        !name.is_empty() && !name.contains('\0') && components.all(|c| matches!(c, Component::Normal(_)))
    };
    let all: Vec<_> = parts(data).into_iter().take(64).filter(|(name, ..)| plain(name)).collect();
    let (links, files): (Vec<_>, Vec<_>) = all.into_iter().partition(|(_, words, _)| words.starts_with("-> "));
    // A part that cannot be made (a file where a directory should be) is just not there.
    for (name, _, content) in files {
        let path = dir.join(name);
        let _ = path.parent().map(fs::create_dir_all);
        let _ = fs::write(&path, content);
    }
    // Their directories too: a link that was made could lead `create_dir_all` elsewhere.
    for (name, ..) in &links {
        let _ = dir.join(name).parent().map(fs::create_dir_all);
    }
    for (name, words, _) in links {
        let target = words.trim_start_matches("-> ");
        if !target.contains('\0') {
            let _ = std::os::unix::fs::symlink(target, dir.join(name));
        }
    }
}

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

/// Writes the parts below a directory: `@@ path` is a file, `@@ path -> target` a link. Only plain relative paths count.
pub fn lay_out(dir: &Path, data: &[u8]) {
    for (name, words, content) in parts(data).into_iter().take(64) {
        let path = Path::new(name);
        if name.contains('\0') || path.components().any(|c| !matches!(c, Component::Normal(_))) {
            continue;
        }
        let path = dir.join(path);
        // A part that cannot be made (a file where a directory should be) is just not there.
        let _ = path.parent().map(fs::create_dir_all);
        let _ = match words.strip_prefix("-> ") {
            Some(target) if !target.contains('\0') => std::os::unix::fs::symlink(target, &path),
            _ => fs::write(&path, content),
        };
    }
}

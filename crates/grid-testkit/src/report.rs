//! Report files: what a program says about itself while it runs and at its end. Owns their form, for both sides: one
//! JSON object a line, appended, the newest last. Never truncates: what a moved program wrote at home stays.
//!
//! A line has `count` (steps done), `mono_ns`, `gap` (the longest so far); the last line of all has `"done":true`.

use crate::clock;
use crate::gaps::Gap;
use serde::{Deserialize, Serialize};
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::Path;

/// One line of a report.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Line {
    /// Steps done.
    pub count: u64,
    /// `CLOCK_MONOTONIC` as the program saw it, in nanoseconds.
    pub mono_ns: u64,
    /// The longest time between two steps so far, and the count at which it was.
    pub gap: Gap,
    /// True in the program's last line.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub done: bool,
    /// What the run came to: depends on every step, and only on arguments.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub digest: Option<String>,
    /// What went wrong, in words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// The longest gaps, where the program keeps more than one.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub gaps: Vec<Gap>,
}

const EVERY_NS: u64 = 100_000_000;

/// The writing side: appends a line about every 100 ms.
#[derive(Debug)]
pub struct Report {
    file: File,
    next_ns: u64,
}

impl Report {
    /// Opens, or makes, the file at `path` for appending.
    pub fn open(path: &Path) -> io::Result<Self> {
        let file = OpenOptions::new().create(true).append(true).open(path)?;
        Ok(Self { file, next_ns: 0 })
    }

    /// Writes a line if 100 ms have passed since the last. Costs one look at the clock when not.
    pub fn progress(&mut self, count: u64, gap: Gap) -> io::Result<()> {
        let now = clock::monotonic_ns();
        if now < self.next_ns {
            return Ok(());
        }
        self.next_ns = now + EVERY_NS;
        self.write(&Line { count, mono_ns: now, gap, ..Line::default() })
    }

    /// Writes the last line.
    pub fn finish(&mut self, line: Line) -> io::Result<()> {
        self.write(&Line { mono_ns: clock::monotonic_ns(), done: true, ..line })
    }

    fn write(&mut self, line: &Line) -> io::Result<()> {
        // One write of one line, so that a reader never sees half of one that will not be completed.
        self.file.write_all(format!("{}\n", serde_json::to_string(line)?).as_bytes())
    }
}

/// The newest complete line of the report at `path`; none while there is no file or no line.
pub fn last(path: &Path) -> io::Result<Option<Line>> {
    let mut file = match File::open(path) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
        file => file?,
    };
    let tail = 4096;
    let length = file.metadata()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(tail)))?;
    let mut text = Vec::new();
    file.read_to_end(&mut text)?;
    let Some(end) = text.iter().rposition(|b| *b == b'\n') else { return Ok(None) };
    let start = text[..end].iter().rposition(|b| *b == b'\n').map_or(0, |n| n + 1);
    Ok(Some(serde_json::from_slice(&text[start..end])?))
}

/// All lines of the report at `path`.
pub fn lines(path: &Path) -> io::Result<Vec<Line>> {
    std::fs::read_to_string(path)?.lines().map(|l| Ok(serde_json::from_str(l)?)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_reads_back_and_only_whole_lines_count() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("r");
        assert_eq!(last(&path).unwrap(), None);
        let mut report = Report::open(&path).unwrap();
        report.progress(7, Gap::default()).unwrap();
        report.progress(8, Gap::default()).unwrap(); // within the 100 ms: not written
        assert_eq!(last(&path).unwrap().unwrap().count, 7);
        report.finish(Line { count: 9, digest: Some("abc".into()), ..Line::default() }).unwrap();
        report.file.write_all(b"{\"count\":10").unwrap();
        let end = last(&path).unwrap().unwrap();
        assert!(end.done && end.count == 9 && end.digest.as_deref() == Some("abc"));
    }
}

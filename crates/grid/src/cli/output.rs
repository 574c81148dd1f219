//! Where output goes: data on stdout, messages on stderr. A reader that went away is no error.
//!
//! What is shown to people holds names that others chose (of files, sockets, processes), and much of it is read by root:
//! nothing of it may steer a terminal. JSON escapes them by itself.

use super::failure::Failure;
use grid_types::api::{API_VERSION, Reply};
use serde::Serialize;
use std::borrow::Cow;
use std::io::{IsTerminal, Write};

/// The form of what is printed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// For people.
    #[default]
    Human,
    /// The API's replies as they came: one JSON object; `events` gives one a line. Errors too, on stdout.
    Json,
    /// Ids only, or one word.
    Quiet,
}

/// What a command prints, in each form.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Printed {
    /// For people.
    pub human: String,
    /// JSON.
    pub json: String,
    /// Ids or a word.
    pub quiet: String,
}

impl Printed {
    /// Something that was not asked of the daemon, in the same form as its replies.
    pub fn local<T: Serialize>(value: &T, human: String, quiet: String) -> Result<Self, Failure> {
        let reply = Reply { version: API_VERSION, ok: Some(value), error: None };
        let json = serde_json::to_string(&reply)
            .map_err(|e| Failure::new(grid_types::exit::FaultClass::Internal, e.to_string()))?;
        Ok(Self { human, json, quiet })
    }

    /// Prints the form asked for.
    pub fn print(&self, format: Format) {
        match format {
            Format::Human => text(&self.human),
            Format::Json => data(&self.json),
            Format::Quiet => text(&self.quiet),
        };
    }
}

/// Writes what people read to stdout, with a line's end. False where the reader has gone; the rest is then for nobody.
pub fn text(text: &str) -> bool {
    data(&harmless(text))
}

/// Writes to stdout as it is, with a line's end. False where the reader has gone.
pub fn data(text: &str) -> bool {
    write(&mut std::io::stdout().lock(), text)
}

/// Writes to stderr, with a line's end; what cannot be written is dropped.
pub fn message(text: &str) {
    write(&mut std::io::stderr().lock(), &harmless(text));
}

/// Signs that steer a terminal, or turn the order of what is read, are shown as their escapes.
fn harmless(text: &str) -> Cow<'_, str> {
    let steers = |c: char| {
        c.is_control() && !matches!(c, '\n' | '\t')
            || matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
    };
    if !text.contains(steers) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        if steers(c) { out.extend(c.escape_default()) } else { out.push(c) }
    }
    Cow::Owned(out)
}

fn write(to: &mut impl Write, text: &str) -> bool {
    if text.is_empty() {
        return true;
    }
    let end = if text.ends_with('\n') { "" } else { "\n" };
    write!(to, "{text}{end}").and_then(|()| to.flush()).is_ok()
}

/// A line on stderr that is written over and over while something takes its time; nothing unless it is a terminal.
#[derive(Debug, Default)]
pub struct Progress {
    drawn: bool,
}

impl Progress {
    /// Replaces the line.
    pub fn draw(&mut self, text: &str) {
        let mut err = std::io::stderr().lock();
        if err.is_terminal() {
            self.drawn = true;
            let text = harmless(text);
            let _ = write!(err, "\r\x1b[K{text}").and_then(|()| err.flush());
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if self.drawn {
            let mut err = std::io::stderr().lock();
            let _ = write!(err, "\r\x1b[K").and_then(|()| err.flush());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_that_somebody_chose_does_not_steer_the_terminal() {
        let name = "/dev/shm/\x1b]0;owned\x07\r\u{9b}2J\u{202e}x";
        assert_eq!(harmless(name), "/dev/shm/\\u{1b}]0;owned\\u{7}\\r\\u{9b}2J\\u{202e}x");
        assert!(matches!(harmless("a\tb\nnaïve ✓\n"), Cow::Borrowed(_)));
    }
}

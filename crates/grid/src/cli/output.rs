//! Where output goes: data on stdout, messages on stderr. A reader that went away is no error.

use super::failure::Failure;
use grid_types::api::{API_VERSION, Reply};
use serde::Serialize;
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
            Format::Human => data(&self.human),
            Format::Json => data(&self.json),
            Format::Quiet => data(&self.quiet),
        };
    }
}

/// Writes to stdout, with a line's end. False where the reader has gone; the rest is then for nobody.
pub fn data(text: &str) -> bool {
    write(&mut std::io::stdout().lock(), text)
}

/// Writes to stderr, with a line's end; what cannot be written is dropped.
pub fn message(text: &str) {
    write(&mut std::io::stderr().lock(), text);
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

//! From the words of a command line to [`Cli`]: old words are read as new ones, wrong ones become one clear error.

use super::failure::Failure;
use super::output::Format;
use super::{Cli, output};
use clap::Parser;
use clap::error::ErrorKind;
use std::ffi::OsString;
use std::process::ExitCode;

/// The original's words for starting, stopping and asking, and ours.
const OLD: [(&str, &str, &str); 6] = [
    ("cluster", "start", "up"),
    ("cluster", "stop", "down"),
    ("cluster", "status", "status"),
    ("daemon", "start", "up"),
    ("daemon", "stop", "down"),
    ("daemon", "status", "status"),
];

impl Cli {
    /// Reads a command line, the program's name first.
    ///
    /// # Errors
    /// The exit code, where there is nothing left to do: help was printed, or what was wrong.
    pub fn read(args: impl IntoIterator<Item = OsString>) -> Result<Self, ExitCode> {
        let args = modern(args.into_iter().collect());
        Self::try_parse_from(&args).map_err(|error| match error.kind() {
            ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => {
                output::data(&error.render().to_string());
                ExitCode::SUCCESS
            }
            ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => ExitCode::from(
                Failure::usage("a command is missing").hint(error.render().to_string()).report(format_of(&args)),
            ),
            ErrorKind::MissingSubcommand => {
                // clap's own text would name the hidden commands.
                let hint = wrong(&error).error.hint.unwrap_or_default();
                ExitCode::from(Failure::usage("a command is missing").hint(hint).report(format_of(&args)))
            }
            _ => ExitCode::from(wrong(&error).report(format_of(&args))),
        })
    }
}

/// clap's error without its frame.
fn wrong(error: &clap::Error) -> Failure {
    let text = error.render().to_string();
    let text = text.trim().strip_prefix("error: ").unwrap_or(text.trim());
    let (first, rest) = text.split_once("\n\n").unwrap_or((text, ""));
    let mut lines = first.lines();
    let mut failure = Failure::usage(lines.next().unwrap_or_default());
    failure.error.details = lines.map(|l| l.trim().to_owned()).filter(|l| !l.is_empty()).collect();
    let rest: Vec<_> = rest.lines().map(str::trim).filter(|l| !l.is_empty()).collect();
    if !rest.is_empty() {
        failure.error.hint = Some(rest.join("\n"));
    }
    failure
}

/// The form asked for by a command line that could not be read.
fn format_of(args: &[OsString]) -> Format {
    let words: Vec<_> = args.iter().map(|a| a.to_string_lossy()).collect();
    let value = words.iter().enumerate().find_map(|(i, word)| match word.as_ref() {
        "--output" | "-o" => words.get(i + 1).map(ToString::to_string),
        word => word.strip_prefix("--output=").map(str::to_owned),
    });
    match value.or_else(|| std::env::var("GRID_OUTPUT").ok()).as_deref() {
        Some("json") => Format::Json,
        _ => Format::Human,
    }
}

/// Replaces the original's two words by ours where they are the command.
fn modern(mut args: Vec<OsString>) -> Vec<OsString> {
    let command = command_at(&args);
    let word = |i: usize| args.get(i).and_then(|a| a.to_str()).unwrap_or_default();
    if let Some((_, _, new)) = OLD.iter().find(|(a, b, _)| word(command) == *a && word(command + 1) == *b) {
        args.splice(command..command + 2, [OsString::from(new)]);
    }
    args
}

/// Where the command is: behind the program's name and the global options.
fn command_at(args: &[OsString]) -> usize {
    let mut i = 1;
    while let Some(word) = args.get(i).and_then(|a| a.to_str()).filter(|w| w.starts_with('-')) {
        let takes_next = matches!(word, "--output" | "-o" | "--state" | "--socket");
        i += if takes_next { 2 } else { 1 };
    }
    i
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::Command;

    fn read(words: &str) -> Cli {
        Cli::read(words.split(' ').map(OsString::from)).unwrap()
    }

    #[test]
    fn the_definition_holds_together() {
        use clap::CommandFactory;
        Cli::command().debug_assert();
    }

    #[test]
    fn the_originals_words_are_understood() {
        assert!(matches!(read("grid cluster start --local 2").command, Command::Up(_)));
        assert!(matches!(read("grid --state /x daemon stop").command, Command::Down(_)));
        assert!(matches!(read("grid daemon status").command, Command::Status));
        assert!(matches!(read("grid daemon run").command, Command::Daemon(_)));
        assert!(matches!(read("grid resource-sharing status").command, Command::Boost(_)));
        assert!(matches!(read("grid offload status").command, Command::Offload(_)));
    }

    #[test]
    fn the_socket_lies_in_the_state_directory_unless_named() {
        assert_eq!(read("grid --state /x status").global.socket().to_str(), Some("/x/head.sock"));
        assert_eq!(read("grid --socket /y status").global.socket().to_str(), Some("/y"));
    }
}

//! Faults of a configuration: where, which key, what, and what to write in its place.

use grid_types::exit::FaultClass;
use serde::Serialize;
use std::fmt;

/// One fault. Prints without a file's name; [`ConfigError::at`] adds it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, thiserror::Error)]
#[error("{line}:{column}: {message}{}", hint.as_ref().map(|h| format!("; {h}")).unwrap_or_default())]
pub struct ConfigError {
    /// Line, from 1.
    pub line: u32,
    /// Column in characters, from 1.
    pub column: u32,
    /// The key concerned (`nodes[1].resource_sharing.max_share_cpu`); empty where there is none.
    pub path: String,
    /// What is wrong. Names the key.
    pub message: String,
    /// What to do.
    pub hint: Option<String>,
}

/// All faults of a configuration, in the order of the text; never empty.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ConfigErrors(pub Vec<ConfigError>);

impl ConfigError {
    /// Prints `cluster.yaml:12:5: message; hint`.
    pub fn at<'a>(&'a self, file: &'a str) -> impl fmt::Display + 'a {
        InFile { file, errors: std::slice::from_ref(self) }
    }
}

impl ConfigErrors {
    pub(super) fn sorted(mut errors: Vec<ConfigError>) -> Self {
        errors.sort_by_key(|e| (e.line, e.column));
        Self(errors)
    }

    /// Prints one line for each fault, each beginning with the file's name.
    pub fn at<'a>(&'a self, file: &'a str) -> impl fmt::Display + 'a {
        InFile { file, errors: &self.0 }
    }

    /// The class that sets the exit code.
    pub fn class(&self) -> FaultClass {
        FaultClass::Config
    }
}

impl fmt::Display for ConfigErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.at("configuration").fmt(f)
    }
}

impl std::error::Error for ConfigErrors {}

struct InFile<'a> {
    file: &'a str,
    errors: &'a [ConfigError],
}

impl fmt::Display for InFile<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, e) in self.errors.iter().enumerate() {
            let end = if i == 0 { "" } else { "\n" };
            write!(f, "{end}{}:{e}", self.file)?;
        }
        Ok(())
    }
}

/// What somebody wrote, quoted for a message: one line, no control characters, not endless.
pub(super) fn quoted(text: &str) -> String {
    const LONGEST: usize = 40;
    if text.chars().count() <= LONGEST {
        return format!("{text:?}");
    }
    let short: String = text.chars().take(LONGEST).collect();
    format!("{:?}", format!("{short}…"))
}

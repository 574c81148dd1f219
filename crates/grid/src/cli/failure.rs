//! What went wrong, as it is shown: one message, what it rests on, what to do, and the exit code.

use super::output::Format;
use grid_types::api::{API_VERSION, ApiError, Reply};
use grid_types::exit::FaultClass;
use std::fmt::Write;

/// A command that did not do what it should. Its class is the exit code.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[error("{}", error.message)]
pub struct Failure {
    /// What and why.
    pub error: ApiError,
    /// The daemon's reply as it came, where it is one: what JSON output prints.
    pub raw: Option<String>,
    /// It has been shown in full already; only the exit code is left to give.
    pub shown: bool,
}

impl Failure {
    /// A fault of this class.
    pub fn new(class: FaultClass, message: impl Into<String>) -> Self {
        let error = ApiError { class, code: None, message: message.into(), details: Vec::new(), hint: None };
        Self { error, raw: None, shown: false }
    }
    /// Words that cannot be meant.
    pub fn usage(message: impl Into<String>) -> Self {
        Self::new(FaultClass::Usage, message)
    }
    /// With what to do.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.error.hint = Some(hint.into());
        self
    }
    /// What the output already told; gives the exit code alone.
    pub fn shown(class: FaultClass) -> Self {
        Self { shown: true, ..Self::new(class, "") }
    }

    /// For standard error.
    pub fn human(&self) -> String {
        let e = &self.error;
        let mut out = match e.code {
            Some(code) => format!("error {code}: {}\n", e.message),
            None => format!("error: {}\n", e.message),
        };
        for detail in &e.details {
            let _ = writeln!(out, "  {detail}");
        }
        if let Some(hint) = &e.hint {
            let _ = writeln!(out, "{hint}");
        }
        let _ = writeln!(out, "exit code {} ({})", e.class.code(), e.class.meaning());
        out
    }

    /// For standard output: the reply as it came, or one of the same form.
    pub fn json(&self) -> String {
        match &self.raw {
            Some(raw) => raw.clone(),
            None => {
                let reply: Reply<()> = Reply { version: API_VERSION, ok: None, error: Some(self.error.clone()) };
                serde_json::to_string(&reply).unwrap_or_default()
            }
        }
    }

    /// Shows it in the form asked for and returns the exit code.
    pub fn report(&self, format: Format) -> u8 {
        if !self.shown {
            match format {
                Format::Json => {
                    super::output::data(&self.json());
                }
                Format::Human | Format::Quiet => super::output::message(&self.human()),
            }
        }
        self.error.class.code()
    }
}

impl From<std::io::Error> for Failure {
    fn from(e: std::io::Error) -> Self {
        let class = match e.kind() {
            std::io::ErrorKind::PermissionDenied => FaultClass::Permission,
            std::io::ErrorKind::NotFound => FaultClass::NotFound,
            _ => FaultClass::Internal,
        };
        Self::new(class, e.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use grid_types::reason::ReasonCode;

    #[test]
    fn a_refusal_shows_its_code_its_parts_and_its_exit_code() {
        let mut f =
            Failure::new(FaultClass::NoCapacity, "no lender has 6 CPU and 40 GiB together. Nothing was reserved.")
                .hint("nearest now: --cpu 4 --memory 8GiB --from gpu2");
        f.error.code = Some(ReasonCode::NoFit);
        f.error.details = vec![
            "gpu1  2.1 of 4 CPU, 0.5 of 8 GiB: 1.9 CPU 7.5 GiB lent as b-3aa until 12:40".to_owned(),
            "gpu2  4.0 of 6 CPU, 8.0 of 16 GiB: 2 CPU 8.0 GiB lent as b-7k2 until 12:58".to_owned(),
        ];
        insta::assert_snapshot!(f.human());
        let reply: Reply<()> = serde_json::from_str(&f.json()).unwrap();
        assert_eq!((reply.version, reply.error), (API_VERSION, Some(f.error)));
    }
}

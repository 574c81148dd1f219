//! `grid config …`: reads a file and says what it means; asks no daemon.

use super::failure::Failure;
use super::output::Printed;
use grid_core::config::{self, Explained, Parsed, Source};
use grid_types::exit::FaultClass;
use std::path::Path;

/// What `grid init` writes and `grid config` reads unless told otherwise.
pub(super) const DEFAULT_FILE: &str = "grid.yaml";

/// A file that cannot be read is a fault of the configuration, and so is every fault in it.
fn read(file: &Path) -> Result<Parsed, Failure> {
    let name = file.display().to_string();
    let text = std::fs::read_to_string(file).map_err(|e| {
        Failure::new(FaultClass::Config, format!("cannot read {name}: {e}")).hint("make one: grid init")
    })?;
    config::parse(&text).map_err(|errors| {
        let many = errors.0.len();
        let mut failure = match errors.0.as_slice() {
            [one] => Failure::new(errors.class(), one.at(&name).to_string()),
            _ => Failure::new(errors.class(), format!("{name} has {many} faults")),
        };
        if many > 1 {
            failure.error.details = errors.0.iter().map(|e| e.at(&name).to_string()).collect();
        }
        failure
    })
}

/// The file names commands and says who may do what: it is of root's, or of whoever asks, and nobody else's to write.
///
/// # Errors
/// What is wrong with it, and what to do.
pub fn trusted(file: &Path) -> Result<(), (String, Option<String>)> {
    use std::os::unix::fs::MetadataExt;
    let wrong = |what: &str, fix: Option<&str>| {
        let name = file.display();
        Err((format!("{name}: {what}"), fix.map(|fix| format!("{fix} {name}"))))
    };
    let meta = match std::fs::metadata(file) {
        Ok(meta) => meta,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return wrong("there is no such file", None),
        Err(e) => return wrong(&e.to_string(), None),
    };
    let asks = std::env::var("SUDO_UID").ok().and_then(|uid| uid.parse().ok());
    let own = meta.uid() == 0 || meta.uid() == nix::unistd::geteuid().as_raw() || Some(meta.uid()) == asks;
    match (meta.is_file(), own, meta.mode() & 0o002) {
        (false, ..) => wrong("it is no plain file", None),
        (_, true, 0) => Ok(()),
        (_, true, _) => wrong("anybody may write it", Some("chmod o-w")),
        (_, false, _) => {
            let what = format!("it belongs to uid {}, neither root nor you", meta.uid());
            wrong(&what, Some("look at it, and then: chown root"))
        }
    }
}

/// `grid config check`: what it passes, `grid up` takes.
pub(super) fn check(file: &Path) -> Result<Printed, Failure> {
    let all = config::explain(&read(file)?);
    trusted(file).map_err(|(message, hint)| {
        let failure = Failure::new(FaultClass::Config, message);
        match hint {
            Some(hint) => failure.hint(hint),
            None => failure,
        }
    })?;
    Printed::local(&all, explained(&all, &file.display().to_string()), "ok".to_owned())
}

fn explained(all: &[Explained], file: &str) -> String {
    let mut out = String::new();
    for e in all {
        let source = match e.source {
            Source::Configured { line } => format!("line {line}"),
            Source::Default => "default".to_owned(),
        };
        out.push_str(&format!("{}: {}   ({source})\n    {}\n", e.path, e.value, e.meaning));
    }
    let set = all.iter().filter(|e| e.source != Source::Default).count();
    out + &format!(
        "{file} is right: {} values, {set} of them from the file.  Start it: sudo grid up --config {file}\n",
        all.len()
    )
}

/// `grid config show`.
pub(super) fn show(file: &Path) -> Result<Printed, Failure> {
    let parsed = read(file)?;
    Printed::local(&parsed.config, config::show(&parsed), parsed.config.name.clone())
}

//! `grid doctor`: what this machine offers, what each thing enables and how to get it. Changes nothing.

mod criu;
mod machine;
mod rights;

use super::failure::Failure;
use super::output::{Format, Printed};
use grid_types::exit::FaultClass;
use serde::Serialize;
use std::fmt::Write;
use std::path::Path;

/// How one thing stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
enum State {
    /// It is there.
    Ok,
    /// It is not there, and grid works with less.
    Note,
    /// It is not there, and moves do not work without it.
    Missing,
    /// Only root can see whether it is there, or has it.
    Unseen,
}

/// One thing that was looked at.
#[derive(Clone, Debug, Serialize)]
struct Check {
    name: String,
    state: State,
    found: String,
    enables: &'static str,
    /// How to get it; none where it is there.
    get: Option<String>,
}

/// What a check is about, before it was looked at.
#[derive(Clone, Copy)]
struct About {
    name: &'static str,
    enables: &'static str,
    get: &'static str,
    required: bool,
}

impl About {
    /// Moves do not work without it.
    const fn needed(name: &'static str, enables: &'static str, get: &'static str) -> Self {
        Self { name, enables, get, required: true }
    }
    /// Grid works with less.
    const fn wanted(name: &'static str, enables: &'static str, get: &'static str) -> Self {
        Self { name, enables, get, required: false }
    }
    /// It is there, or not; `found` says what was seen.
    fn is(self, there: bool, found: impl Into<String>) -> Check {
        let state = match (there, self.required) {
            (true, _) => State::Ok,
            (false, true) => State::Missing,
            (false, false) => State::Note,
        };
        let get = (!there).then(|| self.get.to_owned());
        Check { name: self.name.to_owned(), state, found: found.into(), enables: self.enables, get }
    }
    /// The same of what only root has or sees: for anybody else it is no finding that it is not there.
    fn is_for_root(self, there: bool, found: impl Into<String>) -> Check {
        let check = self.is(there, found);
        if there || nix::unistd::geteuid().is_root() { check } else { check.unseen() }
    }
}

impl Check {
    fn unseen(self) -> Self {
        Self { state: State::Unseen, get: Some("sudo grid doctor".to_owned()), ..self }
    }
}

/// Everything that was looked at.
#[derive(Clone, Debug, Serialize)]
struct Examination {
    checks: Vec<Check>,
    missing: usize,
    /// Processes of the cluster that runs, and their rights.
    running: Vec<rights::Running>,
}

/// `grid doctor`. Exit code 9 where something is missing without which nothing moves.
pub(super) fn doctor(state_dir: &Path, format: Format) -> Result<Printed, Failure> {
    let checks = [
        machine::rights(),
        rights::capabilities(),
        criu::checks(),
        machine::kernel(),
        machine::cgroups(),
        machine::rest(state_dir),
    ]
    .concat();
    let missing = checks.iter().filter(|c| c.state == State::Missing).count();
    let found = Examination { checks, missing, running: rights::running(state_dir) };
    let unseen = checks_unseen(&found);
    let word = match (missing, unseen) {
        (0, 0) => "ok",
        (0, _) => "unseen",
        _ => "missing",
    };
    let printed = Printed::local(&found, human(&found), word.to_owned())?;
    if missing == 0 {
        return Ok(printed);
    }
    printed.print(format);
    Err(Failure::shown(FaultClass::Environment))
}

fn checks_unseen(e: &Examination) -> usize {
    e.checks.iter().filter(|c| c.state == State::Unseen).count()
}

fn human(e: &Examination) -> String {
    let width = |of: fn(&Check) -> &str| e.checks.iter().map(|c| of(c).chars().count()).max().unwrap_or(0);
    let (name, found) = (width(|c| &c.name), width(|c| &c.found).min(64));
    let mut out = String::new();
    for c in &e.checks {
        let state = match c.state {
            State::Ok => "ok",
            State::Note => "note",
            State::Missing => "MISSING",
            State::Unseen => "-",
        };
        let _ = writeln!(out, "{state:7}  {:name$}  {:found$}  {}", c.name, c.found, c.enables);
        // What takes root is said once, at the end.
        if let Some(get) = c.get.as_ref().filter(|_| c.state != State::Unseen) {
            let _ = writeln!(out, "{:9}{:name$}  get it: {get}", "", "");
        }
    }
    out.push_str(&rights::human(&e.running));
    let notes = e.checks.iter().filter(|c| c.state == State::Note).count();
    let _ = match (e.missing, checks_unseen(e)) {
        (0, unseen) if unseen > 0 => writeln!(
            out,
            "{unseen} cannot be seen without root; of the rest nothing needed is missing, {notes} to note.  Nothing was changed.  Next: sudo grid doctor"
        ),
        (0, _) => writeln!(
            out,
            "Nothing needed is missing, {notes} to note.  Nothing was changed.  Next: {}",
            if e.running.is_empty() { "sudo grid up --local 2" } else { "grid status" }
        ),
        (n, _) => writeln!(
            out,
            "{n} MISSING, {notes} to note.  Nothing was changed; moves do not work before they are there."
        ),
    };
    out
}

/// A program of this name in PATH, where the superuser's directories count too.
fn program(name: &str) -> Option<std::path::PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let extra = ["/usr/sbin", "/sbin", "/usr/bin", "/bin"].map(std::path::PathBuf::from);
    std::env::split_paths(&path).chain(extra).map(|d| d.join(name)).find(|p| p.is_file())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_says_what_it_enables_and_how_to_get_it() {
        let needed = About::needed("criu", "moving processes", "scripts/install-criu");
        let wanted = About::wanted("psi", "pressure before it hurts", "boot with psi=1");
        let checks =
            vec![needed.is(false, "none"), wanted.is(false, "no /proc/pressure"), wanted.is(true, "some avg10 0.0")];
        let text = human(&Examination { checks, missing: 1, running: Vec::new() });
        insta::assert_snapshot!(text);
    }

    #[test]
    fn what_only_root_can_see_is_not_said_to_be_missing() {
        let root = About::needed("root", "everything", "run grid with sudo");
        let wanted = About::wanted("psi", "pressure before it hurts", "boot with psi=1");
        let checks = vec![root.is(false, "uid 1000").unseen(), wanted.is(false, "no /proc/pressure")];
        insta::assert_snapshot!(human(&Examination { checks, missing: 0, running: Vec::new() }));
    }

    #[test]
    fn this_machine_is_examined_without_a_panic() {
        let dir = tempfile::tempdir().unwrap();
        let checks = [machine::rights(), machine::kernel(), machine::cgroups(), machine::rest(dir.path())].concat();
        assert!(checks.len() > 10 && checks.iter().all(|c| c.get.is_some() == (c.state != State::Ok)));
    }
}

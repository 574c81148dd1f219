//! The form of `tests/coverage.toml`. Owns reading and checking it; runs nothing.

use grid_types::reason::ReasonCode;
use serde::Deserialize;
use std::collections::BTreeSet;
use std::path::PathBuf;

/// All programs, in the file's order.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct List {
    /// They.
    #[serde(rename = "program")]
    pub programs: Vec<Program>,
}

/// One program. Scripts are `sh`'s, run by an ordinary user in a folder of the program's own.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Program {
    /// As it is shown.
    pub name: String,
    /// `make test` runs it, too; else only `make coverage` does.
    #[serde(default)]
    pub quick: bool,
    /// Commands that must be there.
    #[serde(default)]
    pub commands: Vec<String>,
    /// Modules that Debian's python must know.
    #[serde(default)]
    pub python: Vec<String>,
    /// Succeeds where it can be run; asked when the commands are there.
    pub probe: Option<String>,
    /// What is missing where `probe` fails: "a GPU".
    pub lacks: Option<String>,
    /// Made ready by this, before anything is measured.
    pub setup: Option<String>,
    /// Started by this, detached, with its output in `stdout` and `stderr`.
    pub start: String,
    /// Prints the number of the process that is meant; none = the one started.
    pub who: Option<String>,
    /// Succeeds when it is at work.
    pub ready: String,
    /// Prints something that changes while it works; asked at home and away, in the network of where it is.
    pub works: Option<String>,
    /// Tells it to end.
    pub finish: Option<String>,
    /// Its exit status in the end; none = it is ended by force once checked.
    pub exit: Option<i32>,
    /// Succeeds where what it did is right.
    pub check: Option<String>,
    /// The answer.
    pub expect: Expect,
    /// Reason codes of a refusal, all of them.
    #[serde(default)]
    pub codes: BTreeSet<ReasonCode>,
    /// What to do about a refusal; none = what grid says of the first code.
    pub fix: Option<String>,
}

/// What grid answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Expect {
    /// It moves as it is.
    Moves,
    /// Refused as it is; it moves when it is started by `grid run`.
    Later,
    /// It is refused.
    Refused,
}

impl Program {
    /// What to do about its refusal; empty where it moves.
    pub fn fix(&self) -> &str {
        let of_code = || self.codes.first().map_or("", |code| code.fix());
        self.fix.as_deref().unwrap_or_else(of_code)
    }

    /// What is wrong with the entry itself.
    fn faults(&self) -> Vec<String> {
        let moves = self.expect == Expect::Moves;
        let rules = [
            (self.name.trim().is_empty(), "it has no name"),
            (moves != self.codes.is_empty(), "it has codes exactly where it is refused"),
            (moves && self.works.is_none(), "what moves must show that it works"),
            (moves && self.check.is_none(), "what moves must be checked in the end"),
            (!moves && self.exit.is_some(), "what stays has no exit status to compare"),
            (self.probe.is_some() != self.lacks.is_some(), "a probe says what is missing where it fails"),
            (moves && self.fix.is_some(), "what moves needs no fix"),
        ];
        let wrong = rules.into_iter().filter(|(broken, _)| *broken);
        wrong.map(|(_, rule)| format!("{:?}: {rule}", self.name)).collect()
    }
}

impl List {
    /// Reads a list and refuses one that is not in order.
    ///
    /// # Errors
    /// All that is wrong with it.
    pub fn parse(text: &str) -> Result<Self, String> {
        let list: Self = toml::from_str(text).map_err(|e| e.to_string())?;
        let mut faults: Vec<String> = list.programs.iter().flat_map(Program::faults).collect();
        let mut names = BTreeSet::new();
        let twice = list.programs.iter().filter(|p| !names.insert(p.name.as_str()));
        faults.extend(twice.map(|p| format!("{:?} is there twice", p.name)));
        if faults.is_empty() { Ok(list) } else { Err(faults.join("; ")) }
    }

    /// The project's own list.
    ///
    /// # Errors
    /// Where it cannot be read, or is not in order.
    pub fn of_project() -> Result<Self, String> {
        let path = project().join("tests/coverage.toml");
        let text = std::fs::read_to_string(&path).map_err(|e| format!("{}: {e}", path.display()))?;
        Self::parse(&text).map_err(|e| format!("{}: {e}", path.display()))
    }
}

/// The project's folder.
pub fn project() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../..")
}

#[cfg(test)]
mod tests {
    use super::*;

    const ENTRY: &str = "[[program]]\nname = 'x'\nstart = 'y'\nready = 'true'\n";

    fn parse(rest: &str) -> Result<List, String> {
        List::parse(&format!("{ENTRY}{rest}"))
    }

    #[test]
    fn an_entry_that_says_too_little_or_too_much_is_refused() {
        assert!(parse("expect = 'moves'\nworks = 'w'\ncheck = 'c'\n").is_ok());
        assert!(parse("expect = 'refused'\ncodes = ['E-TTY']\n").is_ok());
        for (rest, why) in [
            ("expect = 'moves'\ncheck = 'c'\n", "show that it works"),
            ("expect = 'moves'\nworks = 'w'\n", "checked in the end"),
            ("expect = 'refused'\n", "exactly where it is refused"),
            ("expect = 'refused'\ncodes = ['E-NONE']\n", "E-NONE"),
            ("expect = 'refused'\ncodes = ['E-TTY']\nsetpu = 's'\n", "setpu"),
            ("expect = 'refused'\ncodes = ['E-TTY']\nexit = 0\n", "no exit status"),
        ] {
            let error = parse(rest).unwrap_err();
            assert!(error.contains(why), "{rest:?}: {error}");
        }
    }

    #[test]
    fn a_fix_is_the_entrys_or_its_codes() {
        let fix = |rest: &str| parse(rest).unwrap().programs[0].fix().to_owned();
        assert_eq!(fix("expect = 'later'\ncodes = ['E-TTY']\nfix = 'f'\n"), "f");
        assert_eq!(fix("expect = 'later'\ncodes = ['E-TTY']\n"), ReasonCode::Tty.fix());
    }
}

//! Rules by which what the owner does on his machine says no to lending for him, and what became of them.
//!
//! A rule ends nothing: the most that it can say is [`Then::Reclaim`].

use crate::units::{Bytes, MilliCpu, Millis, UnixMs};
use serde::{Deserialize, Serialize};
use std::fmt;

/// The kernel notes the use of a terminal to eight seconds (`tty_update_time` in its `tty_io.c`).
const SHORTEST_INPUT: Millis = Millis(10_000);
/// Shorter than a look at the machine, an end would be no end.
const SHORTEST_QUIET: Millis = Millis(2_000);
const LONGEST: Millis = Millis(24 * 3_600_000);

/// A rule: one for each measure at most.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LendRule {
    /// By which measure.
    pub when: When,
    /// What it does.
    pub then: Then,
    /// It must be so for this long before the rule is in force.
    #[serde(default, rename = "for")]
    pub hold: Millis,
    /// It must be over for this long before it lends again.
    pub quiet: Millis,
}

/// What is measured, and where it counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum When {
    /// Somebody used a terminal or a desktop.
    Input,
    /// The owner's own processes use this much CPU or more.
    Load(MilliCpu),
    /// Less of the machine's memory than this is available.
    Memory(Bytes),
}

/// The measures, in the order in which they are told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Measure {
    /// [`When::Input`].
    Input,
    /// [`When::Load`].
    Load,
    /// [`When::Memory`].
    Memory,
}

/// What a rule in force does. What it did is undone when it is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Then {
    /// As `grid lend off`: nothing new is lent.
    Off,
    /// As `grid lend off --reclaim`: guests are frozen at once, and leave.
    Reclaim,
}

impl When {
    /// By which measure.
    pub fn measure(self) -> Measure {
        match self {
            When::Input => Measure::Input,
            When::Load(_) => Measure::Load,
            When::Memory(_) => Measure::Memory,
        }
    }
}

impl Measure {
    /// As it is typed.
    pub fn as_str(self) -> &'static str {
        match self {
            Measure::Input => "input",
            Measure::Load => "load",
            Measure::Memory => "memory",
        }
    }
}

impl LendRule {
    /// Whether it can be meant.
    ///
    /// # Errors
    /// What is wrong with it, and what would do.
    pub fn check(&self) -> Result<(), String> {
        let Self { when, hold, quiet, .. } = *self;
        match when {
            When::Input if quiet < SHORTEST_INPUT => {
                return Err(format!("input within {quiet} cannot be told: at least {SHORTEST_INPUT}"));
            }
            When::Input if hold.0 > 0 => return Err("input counts at once: it has no time to hold".to_owned()),
            When::Load(MilliCpu(0)) => return Err("a load of nothing is always there: at least 0.1".to_owned()),
            When::Memory(Bytes(0)) => return Err("memory is never below nothing: say how much, 2GiB".to_owned()),
            _ => {}
        }
        if quiet < SHORTEST_QUIET {
            return Err(format!("over for {quiet} is too short, it would go to and fro: at least {SHORTEST_QUIET}"));
        }
        match [hold, quiet].into_iter().find(|time| *time > LONGEST) {
            Some(long) => Err(format!("{long} is too long: at most {LONGEST}")),
            None => Ok(()),
        }
    }
}

/// Each of them, and not two of one measure.
///
/// # Errors
/// What is wrong with the first that is wrong.
pub fn check(rules: &[LendRule]) -> Result<(), String> {
    for (n, rule) in rules.iter().enumerate() {
        rule.check()?;
        let measure = rule.when.measure();
        if rules[..n].iter().any(|other| other.when.measure() == measure) {
            return Err(format!("there are two rules for {}: one says it", measure.as_str()));
        }
    }
    Ok(())
}

impl fmt::Display for LendRule {
    /// `load of 1.5 CPU for 30 s: takes back, lends again 5m00s after`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.when {
            When::Input => f.write_str("input")?,
            When::Load(cpu) => write!(f, "load of {cpu} CPU")?,
            When::Memory(below) => write!(f, "memory below {below}")?,
        }
        if self.hold.0 > 0 {
            write!(f, " for {}", self.hold)?;
        }
        let does = match self.then {
            Then::Off => "lends nothing new",
            Then::Reclaim => "takes back",
        };
        write!(f, ": {does}, lends again {} after", self.quiet)
    }
}

/// What a rule comes to now.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RuleState {
    /// Which.
    pub rule: LendRule,
    /// How far it is.
    pub phase: RulePhase,
    /// What was measured last; nothing while it is calm, or where that could not be told.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seen: Option<Seen>,
}

/// How far a rule is. Times are of the wall clock, to the second, and for people.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "is", rename_all = "snake_case")]
pub enum RulePhase {
    /// Nothing of it.
    Calm,
    /// It is so, and not long enough.
    Rising {
        /// Since when.
        since: UnixMs,
    },
    /// It is in force.
    InForce {
        /// Since when.
        since: UnixMs,
        /// When what it waits for was seen to be over; none while it lasts.
        over: Option<UnixMs>,
    },
}

/// What was measured.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Seen {
    /// Somebody used a terminal or a desktop.
    Input {
        /// `pts/3`.
        terminal: String,
        /// When.
        at: UnixMs,
    },
    /// CPU in use by what is no guest.
    Load(MilliCpu),
    /// Memory that is available.
    Memory(Bytes),
}

impl RuleState {
    /// It is in force.
    pub fn in_force(&self) -> bool {
        matches!(self.phase, RulePhase::InForce { .. })
    }

    /// When it would lend again, where nothing more is seen.
    pub fn again(&self) -> Option<UnixMs> {
        match self.phase {
            RulePhase::InForce { over: Some(over), .. } => Some(UnixMs(over.0.saturating_add(self.rule.quiet.0))),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOAD: LendRule = LendRule {
        when: When::Load(MilliCpu(1500)),
        then: Then::Reclaim,
        hold: Millis(30_000),
        quiet: Millis(300_000),
    };

    #[test]
    fn a_rule_is_written_as_it_is_meant() {
        let text = r#"{"when":{"load":1500},"then":"reclaim","for":30000,"quiet":300000}"#;
        assert_eq!(serde_json::to_string(&LOAD).unwrap(), text);
        assert_eq!(serde_json::from_str::<LendRule>(text).unwrap(), LOAD);
        let input: LendRule = serde_json::from_str(r#"{"when":"input","then":"off","quiet":600000}"#).unwrap();
        assert_eq!(
            [LOAD.to_string(), input.to_string()],
            [
                "load of 1.5 CPU for 30 s: takes back, lends again 5m00s after",
                "input: lends nothing new, lends again 10m00s after"
            ]
        );
        assert!(serde_json::from_str::<LendRule>(r#"{"when":"input","then":"kill","quiet":600000}"#).is_err());
    }

    #[test]
    fn what_cannot_be_meant_is_refused_with_what_would_do() {
        let input = LendRule { when: When::Input, hold: Millis(0), ..LOAD };
        for (rule, want) in [
            (LendRule { quiet: Millis(9_999), ..input }, "at least 10 s"),
            (LendRule { hold: Millis(1), ..input }, "counts at once"),
            (LendRule { when: When::Load(MilliCpu(0)), ..LOAD }, "at least 0.1"),
            (LendRule { when: When::Memory(Bytes(0)), ..LOAD }, "2GiB"),
            (LendRule { quiet: Millis(1_999), ..LOAD }, "at least 2.0 s"),
            (LendRule { hold: Millis(u64::MAX), ..LOAD }, "at most 1d00h"),
        ] {
            let why = rule.check().unwrap_err();
            assert!(why.contains(want), "{why}");
        }
        assert_eq!(check(&[LOAD, input]), Ok(()));
        assert!(check(&[LOAD, input, LOAD]).unwrap_err().contains("two rules for load"));
    }
}

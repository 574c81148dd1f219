//! `grid lend`: what the owner of a node says of lending it, and what the node's agent makes of that.
//!
//! The word is a file in the node's own folder, so that it is given and heeded without the head. The folder's rights say
//! who may give it: root, and whom root lets in.

use crate::ids::{AttemptId, LeaseId, NodeName};
use crate::lend_rule::{LendRule, RuleState};
use crate::units::{Bytes, MilliCpu, Millis, Resources, UnixMs};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

/// Where the owner's word and the agent's answer are, by the agent's folder of state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LendPlace {
    /// The owner's word.
    pub order: PathBuf,
    /// What the agent made of it: only the agent writes it.
    pub answer: PathBuf,
}

impl LendPlace {
    /// Of the agent with this folder.
    pub fn of(agent_state: &Path) -> Self {
        Self { order: agent_state.join("lend/order.json"), answer: agent_state.join("lending.json") }
    }
}

/// What the owner says. Nothing said: it lends as the configuration has it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LendOrder {
    /// It lends at all.
    pub on: bool,
    /// Since when that is so, wall clock.
    pub since: UnixMs,
    /// The machine sleeps, or is about to, since this boot of it: guests stand still.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub asleep: Option<String>,
    /// Guests are frozen at once and have to leave; only where it does not lend.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub reclaim: bool,
    /// What it lends at most.
    #[serde(default)]
    pub limits: LendLimits,
    /// What he does on the machine says it for him.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub rules: Vec<LendRule>,
}

impl Default for LendOrder {
    fn default() -> Self {
        let (limits, rules) = (LendLimits::default(), Vec::new());
        Self { on: true, since: UnixMs(0), asleep: None, reclaim: false, limits, rules }
    }
}

/// Limits that the owner sets; what is absent is limited by the configuration alone.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LendLimits {
    /// CPU of all leases together.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpu: Option<MilliCpu>,
    /// Memory of all leases together.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory: Option<Bytes>,
    /// So much of the machine's memory stays free of new leases.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub keep_memory: Option<Bytes>,
    /// New leases only in these hours.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hours: Option<Hours>,
}

/// A part of each day by the node's local time, `18:00-08:00`: from the first minute, to before the last.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Hours {
    /// Minute of the day where it begins.
    from: u16,
    /// Minute of the day where it ends, over midnight where that is less.
    to: u16,
}

impl Hours {
    /// This minute of the day is in it.
    pub fn contains(self, minute: u16) -> bool {
        let Self { from, to } = self;
        if from < to { (from..to).contains(&minute) } else { minute >= from || minute < to }
    }
}

impl FromStr for Hours {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let not = || format!("{text:?} is not a part of a day such as 18:00-08:00");
        let minute = |t: &str| {
            let (hour, minute) = t.trim().split_once(':')?;
            let number = |t: &str, most: u16| t.parse::<u16>().ok().filter(|n| t.len() == 2 && *n <= most);
            Some(number(hour, 23)? * 60 + number(minute, 59)?)
        };
        let (from, to) = text.split_once('-').ok_or_else(not)?;
        let (from, to) = (minute(from).ok_or_else(not)?, minute(to).ok_or_else(not)?);
        if from == to { Err(format!("{text:?} ends where it begins")) } else { Ok(Self { from, to }) }
    }
}

impl TryFrom<String> for Hours {
    type Error = String;
    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<Hours> for String {
    fn from(hours: Hours) -> Self {
        hours.to_string()
    }
}

impl fmt::Display for Hours {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { from, to } = self;
        write!(f, "{:02}:{:02}-{:02}:{:02}", from / 60, from % 60, to / 60, to % 60)
    }
}

/// What a node lends now, by its agent's word: configuration and owner together.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lending {
    /// All leases together; GPUs are not bounded here.
    pub limit: Resources,
    /// The owner set that limit, and it is below the configuration's.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub lowered: bool,
    /// Memory that new leases may have, where the owner keeps some of the machine's free.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub spare_memory: Option<Bytes>,
    /// Why nothing new is lent, where that is so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub closed: Option<Closed>,
}

/// Why a node lends nothing new.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "why", rename_all = "snake_case")]
pub enum Closed {
    /// Its owner switched it off.
    Owner,
    /// And takes back what is lent.
    Reclaimed,
    /// The machine goes to sleep.
    Asleep,
    /// Not at this time of the day.
    Hours {
        /// When it lends.
        hours: Hours,
    },
    /// Its owner is active, and a rule of his says no.
    Rule {
        /// Which, and why.
        state: RuleState,
    },
    /// What the owner said cannot be read: it is taken for a no.
    Unreadable {
        /// How it failed.
        detail: String,
    },
}

/// That a lease was taken back by the owner of its lender, himself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TakenBack {
    /// Guests that were frozen.
    pub guests: u32,
    /// Until the kernel had confirmed it.
    pub took: Millis,
    /// By which rule of his, in words; none where he said so himself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
}

/// What an agent says on its own machine about what it lends.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LendAnswer {
    /// Its node.
    pub node: NodeName,
    /// The word that it heeds; none where none is said.
    pub mark: Option<String>,
    /// What it lends at most by the configuration.
    pub configured: Resources,
    /// What it lends by both.
    pub limit: Resources,
    /// Why nothing new, where that is so.
    pub closed: Option<Closed>,
    /// What his rules come to, where he has any.
    #[serde(default)]
    pub rules: Vec<RuleState>,
    /// What of the word could not be carried out yet.
    pub trouble: Option<String>,
    /// The machine is said to sleep.
    #[serde(default)]
    pub asleep: bool,
    /// Guests that stand still for that: until it is awake, and their home has confirmed each.
    #[serde(default)]
    pub standing: u32,
    /// The head is reached.
    pub head: bool,
    /// Control group of the node, below which each lease has one of its name.
    pub group: String,
    /// What is lent.
    pub leases: Vec<LeaseHeld>,
}

/// A lease as its lender's owner sees it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeaseHeld {
    /// Which; its boost on the head has the same name.
    pub lease: LeaseId,
    /// How much.
    pub amount: Resources,
    /// Until when, wall clock, to the second.
    pub until: UnixMs,
    /// Its guests are frozen: it was taken back.
    pub frozen: bool,
    /// By the owner himself.
    pub taken_back: Option<TakenBack>,
    /// Who lives in it.
    pub guests: Vec<GuestHeld>,
}

/// A guest.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GuestHeld {
    /// The move that brought it.
    pub attempt: AttemptId,
    /// Number of its first process on this node, once it is there.
    pub pid: Option<i32>,
    /// Whose.
    pub uid: u32,
    /// Since when, wall clock, to the second.
    pub since: Option<UnixMs>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hours_may_go_over_midnight() {
        let night: Hours = "18:00-08:00".parse().unwrap();
        let at = |h: u16, m: u16| h * 60 + m;
        assert_eq!([at(18, 0), at(23, 59), at(0, 0), at(7, 59)].map(|m| night.contains(m)), [true; 4]);
        assert_eq!([at(8, 0), at(12, 0), at(17, 59)].map(|m| night.contains(m)), [false; 3]);
        let day: Hours = "08:00-18:00".parse().unwrap();
        assert!((0..1440).all(|m| day.contains(m) != night.contains(m)));
        assert_eq!(night.to_string().parse(), Ok(night));
        for bad in ["", "18:00", "18:00-18:00", "24:00-08:00", "18:60-08:00", "8:00-18:00", "a-b", "18:00-08:00-09:00"]
        {
            assert!(bad.parse::<Hours>().is_err(), "{bad}");
        }
    }

    #[test]
    fn a_word_that_nobody_knows_is_not_passed_over() {
        let order = LendOrder { on: false, reclaim: true, ..LendOrder::default() };
        let text = serde_json::to_string(&order).unwrap();
        assert_eq!(serde_json::from_str::<LendOrder>(&text).unwrap(), order);
        assert!(serde_json::from_str::<LendOrder>(r#"{"on":true,"since":0,"weekends":true}"#).is_err());
    }
}

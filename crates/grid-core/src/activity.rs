//! What the owner of a lender does on it, and what his rules make of that: from samples to rules in force, with hold times.
//!
//! Owns *when a rule is in force*. Never acts, and knows nothing of guests. Invariants: what is unknown, or was not looked at,
//! puts no rule in force and ends none; a rule comes into force no sooner than its time to hold, and ends no sooner than
//! its quiet time; all of that on a clock that cannot be set, so that a wall clock that jumps changes nothing.
//!
//! ```text
//!  calm ── at its limit ──► rising ── held `for` ──► in force ──┐ not over yet, or again
//!   ▲      below release ──┘ calm                      ▲   └────┘
//!   └───────── below release for `quiet` ◄─────────────┘
//! ```
//!
//! The release lies a fifth of the limit beyond it, so that what hovers there is neither an end nor a beginning. Input has
//! no level: it is over at once, and again with each use of a terminal.

use grid_types::lend_rule::{LendRule, Measure, RulePhase, RuleState, Seen, Then, When};
use grid_types::{BootMs, Bytes, MilliCpu, Millis, UnixMs};
use std::collections::BTreeMap;

/// Time between two looks beyond which nothing is known of what was between them: the machine slept, or the agent did.
pub const GAP: Millis = Millis(10_000);

/// A look at the machine. What is none could not be told, or was not asked for.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Sample {
    /// When.
    pub at: BootMs,
    /// The same on the wall clock.
    pub wall: UnixMs,
    /// CPU in use by what is no guest.
    pub load: Option<MilliCpu>,
    /// The machine's available memory; guests count for it.
    pub available: Option<Bytes>,
    /// Terminals that are no guest's, and desktops, and when each was used last by the wall clock.
    pub terminals: Option<Vec<(String, UnixMs)>>,
}

/// What is known of the rules so far.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Watch {
    tracks: BTreeMap<Measure, Track>,
    terminals: BTreeMap<String, UnixMs>,
    /// The last use of one, and of which, where that is known.
    input: Option<(BootMs, Option<String>)>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Track {
    phase: Phase,
    /// The last sample that knew this measure.
    known: Option<BootMs>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq)]
enum Phase {
    #[default]
    Calm,
    Rising {
        since: BootMs,
    },
    InForce {
        since: BootMs,
        over: Option<BootMs>,
    },
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Level {
    /// At the limit.
    At,
    /// Neither at it nor below the release.
    Between,
    /// Over.
    Over,
}

impl Watch {
    /// Goes on with what another one said last, an agent's before this one: what was in force is so until it is quiet.
    pub fn resume(said: &[RuleState], at: BootMs, wall: UnixMs) -> Self {
        let mut watch = Self::default();
        for state in said {
            let RulePhase::InForce { since, .. } = state.phase else { continue };
            let since = BootMs(at.0.saturating_sub(wall.0.saturating_sub(since.0)));
            let track = Track { phase: Phase::InForce { since, over: None }, known: None };
            watch.tracks.insert(state.rule.when.measure(), track);
            if state.rule.when == When::Input {
                watch.input = Some((at, None));
            }
        }
        watch
    }

    /// Takes a look into account, and says what each rule comes to.
    pub fn step(&mut self, rules: &[LendRule], sample: &Sample) -> Vec<RuleState> {
        let has = |measure: Measure| rules.iter().any(|rule| rule.when.measure() == measure);
        self.tracks.retain(|measure, _| has(*measure));
        if has(Measure::Input) {
            self.note_input(sample);
        } else {
            (self.terminals, self.input) = (BTreeMap::new(), None);
        }
        rules.iter().map(|rule| self.state_of(rule, sample)).collect()
    }

    /// A terminal whose time is another one than at the last look was used since. Of one that was not there then its time
    /// tells when; where that is ahead of the clock, it is now.
    fn note_input(&mut self, sample: &Sample) {
        let Some(terminals) = &sample.terminals else { return };
        for (name, at) in terminals {
            let ago = match self.terminals.get(name) {
                Some(known) if known == at => continue,
                Some(_) => 0,
                None => sample.wall.0.saturating_sub(at.0),
            };
            let used = BootMs(sample.at.0.saturating_sub(ago));
            if self.input.as_ref().is_none_or(|(last, _)| used > *last) {
                self.input = Some((used, Some(name.clone())));
            }
        }
        self.terminals = terminals.iter().cloned().collect();
    }

    fn state_of(&mut self, rule: &LendRule, sample: &Sample) -> RuleState {
        let track = self.tracks.entry(rule.when.measure()).or_default();
        match rule.when {
            When::Input if sample.terminals.is_some() => {
                track.phase = by_input(track.phase, rule, self.input.as_ref().map(|(at, _)| *at), sample.at);
            }
            When::Input => {}
            _ => track.take(rule, sample),
        }
        let phase = track.phase;
        let wall = |at: BootMs| to_second(sample.wall.0.saturating_sub(sample.at.0.saturating_sub(at.0)));
        let seen = match (phase, rule.when) {
            (Phase::Calm, _) => None,
            (_, When::Input) => self
                .input
                .as_ref()
                .and_then(|(at, terminal)| Some(Seen::Input { terminal: terminal.clone()?, at: wall(*at) })),
            // Rounded: it is told to people, and must not seem another one at each look.
            (_, When::Load(_)) => sample.load.map(|cpu| Seen::Load(MilliCpu(cpu.0.saturating_add(50) / 100 * 100))),
            (_, When::Memory(_)) => sample.available.map(|free| Seen::Memory(Bytes(free.0 >> 24 << 24))),
        };
        let phase = match phase {
            Phase::Calm => RulePhase::Calm,
            Phase::Rising { since } => RulePhase::Rising { since: wall(since) },
            Phase::InForce { since, over } => RulePhase::InForce { since: wall(since), over: over.map(wall) },
        };
        RuleState { rule: *rule, phase, seen }
    }
}

impl Track {
    fn take(&mut self, rule: &LendRule, sample: &Sample) {
        let Some(level) = level(rule.when, sample) else { return };
        let now = sample.at;
        let gap = self.known.is_none_or(|known| passed(known, now) > GAP);
        self.known = Some(now);
        let phase = match (self.phase, level) {
            (Phase::Calm, Level::At) => Phase::Rising { since: now },
            (Phase::Rising { .. }, Level::At) if gap => Phase::Rising { since: now },
            (Phase::Rising { since }, Level::At | Level::Between) if !gap => Phase::Rising { since },
            (Phase::Calm | Phase::Rising { .. }, _) => Phase::Calm,
            (Phase::InForce { since, over }, Level::Over) => {
                Phase::InForce { since, over: over.filter(|_| !gap).or(Some(now)) }
            }
            (Phase::InForce { since, .. }, _) => Phase::InForce { since, over: None },
        };
        self.phase = match phase {
            Phase::Rising { since } if passed(since, now) >= rule.hold => Phase::InForce { since: now, over: None },
            Phase::InForce { over: Some(over), .. } if passed(over, now) >= rule.quiet => Phase::Calm,
            other => other,
        };
    }
}

fn by_input(phase: Phase, rule: &LendRule, last: Option<BootMs>, now: BootMs) -> Phase {
    let Some(last) = last.filter(|last| passed(*last, now) < rule.quiet) else { return Phase::Calm };
    let since = if let Phase::InForce { since, .. } = phase { since } else { now };
    Phase::InForce { since, over: Some(last) }
}

fn level(when: When, sample: &Sample) -> Option<Level> {
    let of = |at: bool, over: bool| match (at, over) {
        (true, _) => Level::At,
        (false, true) => Level::Over,
        (false, false) => Level::Between,
    };
    match when {
        When::Input => None,
        When::Load(limit) => sample.load.map(|cpu| of(cpu >= limit, cpu.0 < limit.0 - limit.0 / 5)),
        When::Memory(below) => {
            sample.available.map(|free| of(free < below, free.0 >= below.0.saturating_add(below.0 / 5)))
        }
    }
}

fn passed(since: BootMs, now: BootMs) -> Millis {
    Millis(now.0.saturating_sub(since.0))
}

/// Told to people, who count in seconds.
fn to_second(at: u64) -> UnixMs {
    UnixMs(at.saturating_add(500) / 1000 * 1000)
}

/// The rule that counts: who takes back before who lends nothing new, and of two the older.
pub fn in_force(states: &[RuleState]) -> Option<&RuleState> {
    let since = |state: &RuleState| match state.phase {
        RulePhase::InForce { since, .. } => since,
        _ => UnixMs(u64::MAX),
    };
    let all = states.iter().filter(|state| state.in_force());
    all.min_by_key(|state| (std::cmp::Reverse(state.rule.then), since(state)))
}

/// "its own processes use 3.2 CPU (its owner's rule: 1.5)".
pub fn measured(state: &RuleState) -> String {
    match (state.rule.when, &state.seen) {
        (When::Input, Some(Seen::Input { terminal, .. })) => format!("somebody uses it (input on {terminal})"),
        (When::Input, _) => "somebody used it".to_owned(),
        (When::Load(limit), Some(Seen::Load(cpu))) => {
            format!("its own processes use {cpu} CPU (its owner's rule: {limit})")
        }
        (When::Load(limit), _) => format!("its own processes used {limit} CPU or more"),
        (When::Memory(limit), Some(Seen::Memory(free))) => {
            format!("{free} of its memory are available (its owner's rule: {limit})")
        }
        (When::Memory(limit), _) => format!("less than {limit} of its memory was available"),
    }
}

/// Why nothing new is lent by this rule: what is measured, what that does, and until when.
pub fn why(state: &RuleState) -> String {
    let does = match state.rule.then {
        Then::Off => "it lends nothing new",
        Then::Reclaim => "its owner takes it back",
    };
    format!("{}: {does} until that has been over for {}", measured(state), state.rule.quiet)
}

#[cfg(test)]
mod tests;

//! `grid lend rule`: from the words to the owner's rules. What is not named stays as it is.

use super::failure::Failure;
use super::lend_args::{MeasureWord, RuleArgs, ThenWord};
use grid_types::facts::Gpus;
use grid_types::lend::LendOrder;
use grid_types::lend_rule::{LendRule, Measure, Then, When};
use grid_types::{Bytes, MilliCpu, Millis, NodeName};

/// What this machine has: a rule beyond that is always in force, or never.
#[derive(Clone, Copy, Debug)]
pub(super) struct Has {
    cpu: MilliCpu,
    memory: Bytes,
}

impl Has {
    /// Of the whole machine, whatever bounds the node; none where that cannot be told.
    pub(super) fn here() -> Option<Self> {
        let mut reader = grid_os::node::NodeReader::new(None).ok()?;
        let facts = reader.read(&NodeName::new("here"), Gpus::None).ok()?;
        Some(Self { cpu: facts.cpu_total, memory: facts.memory_total })
    }
}

impl From<ThenWord> for Then {
    fn from(word: ThenWord) -> Self {
        match word {
            ThenWord::Off => Then::Off,
            ThenWord::Reclaim => Then::Reclaim,
        }
    }
}

impl From<MeasureWord> for Measure {
    fn from(word: MeasureWord) -> Self {
        match word {
            MeasureWord::Input => Measure::Input,
            MeasureWord::Load => Measure::Load,
            MeasureWord::Memory => Measure::Memory,
        }
    }
}

/// Changes the rules of this word.
///
/// # Errors
/// What cannot be meant, and what would do. Then nothing is changed.
pub(super) fn change(order: &mut LendOrder, args: &RuleArgs, has: Option<Has>) -> Result<(), Failure> {
    if args.none {
        order.rules.clear();
        return Ok(());
    }
    for word in &args.remove {
        let measure = Measure::from(*word);
        let before = order.rules.len();
        order.rules.retain(|rule| rule.when.measure() != measure);
        if order.rules.len() == before {
            let what = format!("there is no rule for {}. Nothing was changed.", measure.as_str());
            return Err(Failure::usage(what).hint("grid lend status shows the rules"));
        }
    }
    let named =
        [args.when_input.map(|_| When::Input), args.when_load.map(When::Load), args.when_memory.map(When::Memory)];
    let only_input = args.when_load.is_none() && args.when_memory.is_none();
    if only_input && (args.hold.is_some() || args.quiet.is_some()) {
        let what =
            "--for and --quiet are of load and memory: input counts at once, and for as long as --when-input says";
        return Err(Failure::usage(format!("{what}. Nothing was changed.")).hint("grid lend rule --when-input 10m"));
    }
    for when in named.into_iter().flatten() {
        let before = order.rules.iter().find(|rule| rule.when.measure() == when.measure()).copied();
        let rule = with(before.unwrap_or_else(|| usual(when)), when, args);
        rule.check()
            .and_then(|()| can_be(when, has))
            .map_err(|e| Failure::usage(format!("{e}. Nothing was changed.")))?;
        order.rules.retain(|other| other.when.measure() != when.measure());
        order.rules.push(rule);
    }
    order.rules.sort_by_key(|rule| rule.when.measure());
    Ok(())
}

/// Who sits at his machine is not short of anything yet; whose machine is busy, or full, is.
fn usual(when: When) -> LendRule {
    let (then, hold, quiet) = match when {
        When::Input => (Then::Off, 0, 0),
        When::Load(_) => (Then::Reclaim, 30_000, 300_000),
        When::Memory(_) => (Then::Reclaim, 10_000, 600_000),
    };
    LendRule { when, then, hold: Millis(hold), quiet: Millis(quiet) }
}

fn with(rule: LendRule, when: When, args: &RuleArgs) -> LendRule {
    let then = args.then.map_or(rule.then, Then::from);
    match (when, args.when_input) {
        (When::Input, Some(within)) => LendRule { when, then, quiet: within, ..rule },
        _ => LendRule { when, then, hold: args.hold.unwrap_or(rule.hold), quiet: args.quiet.unwrap_or(rule.quiet) },
    }
}

fn can_be(when: When, has: Option<Has>) -> Result<(), String> {
    let Some(has) = has else { return Ok(()) };
    match when {
        When::Load(cpu) if cpu > has.cpu => {
            Err(format!("this machine has {} CPU: a load of {cpu} never is; say at most that", has.cpu))
        }
        When::Memory(below) if below >= has.memory => {
            Err(format!("this machine has {}: less than {below} is always available; say less than it has", has.memory))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Cli, Command, LendCommand};
    use super::*;
    use clap::Parser;

    fn args(words: &str) -> Result<RuleArgs, String> {
        let words = format!("grid lend rule {words}");
        match Cli::try_parse_from(words.split_whitespace()).map_err(|e| e.to_string())?.command {
            Command::Lend(LendCommand::Rule(args)) => Ok(args),
            other => Err(format!("{other:?}")),
        }
    }

    /// The rules after these words, one a line; or what was wrong.
    fn after(order: &mut LendOrder, words: &str) -> Result<String, String> {
        let has = Some(Has { cpu: MilliCpu(8_000), memory: Bytes(16 << 30) });
        change(order, &args(words)?, has).map_err(|e| e.error.message)?;
        Ok(order.rules.iter().map(|rule| format!("{rule}\n")).collect())
    }

    #[test]
    fn what_is_not_named_stays_as_it_is() {
        let mut order = LendOrder::default();
        let usual = "input: lends nothing new, lends again 10m00s after
load of 1.5 CPU for 30 s: takes back, lends again 5m00s after
memory below 2.0 GiB for 10 s: takes back, lends again 10m00s after\n";
        assert_eq!(after(&mut order, "--when-memory 2GiB --when-input 10m --when-load 1.5").unwrap(), usual);
        let said = after(&mut order, "--when-load 2 --for 1m --quiet 2m --then off").unwrap();
        assert!(said.contains("load of 2.0 CPU for 1m00s: lends nothing new, lends again 2m00s after"), "{said}");
        let said = after(&mut order, "--when-load 3").unwrap();
        assert!(said.contains("load of 3.0 CPU for 1m00s: lends nothing new, lends again 2m00s after"), "{said}");
        let said = after(&mut order, "--remove load --remove memory").unwrap();
        assert_eq!(said, "input: lends nothing new, lends again 10m00s after\n");
        assert_eq!(
            after(&mut order, "--when-input 1h --then reclaim").unwrap(),
            "input: takes back, lends again 1h00m after\n"
        );
        assert_eq!(after(&mut order, "--none").unwrap(), "");
    }

    #[test]
    fn what_cannot_be_meant_is_refused_and_nothing_is_changed() {
        for (words, want) in [
            ("", "required"),
            ("--then off", "required"),
            ("--when-load 1 --none", "cannot be used with"),
            ("--when-load 1 --remove load", "cannot be used with"),
            ("--when-load 1 --then kill", "possible values: off, reclaim"),
            ("--when-load 0", "more than zero"),
            ("--when-memory 2", "write 2GiB"),
            ("--when-load 9", "this machine has 8.0 CPU"),
            ("--when-memory 16GiB", "this machine has 16.0 GiB"),
            ("--when-input 5s", "at least 10 s"),
            ("--when-input 5m --for 1s", "are of load and memory"),
            ("--when-load 1 --quiet 1s", "at least 2.0 s"),
            ("--when-load 1 --for 2d", "at most 1d00h"),
            ("--remove load", "no rule for load"),
        ] {
            let mut order = LendOrder::default();
            let why = after(&mut order, words).unwrap_err();
            assert!(why.contains(want), "{words}: {why}");
        }
    }
}

//! `grid rescue`.

use super::count;
use grid_agent::{Fate, Found, Rescued, Side};
use std::fmt::Write;

/// What was found, what was done with it, and what to do about the rest.
pub fn rescued(found: &Found, dry_run: bool) -> String {
    let mut out = String::new();
    for copy in &found.copies {
        out.push_str(&one(copy, dry_run));
    }
    for ledger in &found.unreadable {
        let _ = writeln!(out, "cannot be read: ledger of {ledger}");
    }
    if !found.running.is_empty() {
        let names: Vec<_> = found.running.iter().map(ToString::to_string).collect();
        let _ = writeln!(out, "agents run on {}: what is theirs was left to them", names.join(", "));
    }
    out + &last(found, dry_run)
}

fn one(c: &Rescued, dry_run: bool) -> String {
    let would = if dry_run { "would be " } else { "" };
    let fate = match c.fate {
        Fate::Thawed => format!("{would}thawed"),
        Fate::PutBack => format!("runs, {would}put back into its own groups"),
        Fate::Runs => "RUNS, left as it is".to_owned(),
        Fate::Ended => format!("{would}ended"),
        Fate::Left => "left alone".to_owned(),
        Fate::Held => "STAYS HELD".to_owned(),
        Fate::Failed => "NOT RESCUED".to_owned(),
    };
    let side = match c.side {
        Side::Home => "copy at home",
        Side::Staged => "copy that came",
    };
    let pids: Vec<_> = c.pids.iter().map(ToString::to_string).collect();
    let mut out = format!("{} {} {} ({side} of {}): {fate}\n", c.node, pids.join(","), c.title, c.attempt);
    let _ = writeln!(out, "  because  {}", c.why);
    if let Some(todo) = &c.todo {
        let _ = writeln!(out, "  do       {todo}");
    }
    out
}

fn last(found: &Found, dry_run: bool) -> String {
    let of = |fate| found.copies.iter().filter(|c| c.fate == fate).count();
    let copies = |n| count(n, "copy", "copies");
    if found.copies.is_empty() {
        return "Nothing of grid's is held frozen here. Nothing was changed.\n".to_owned();
    }
    let rest = [(Fate::Held, "still held"), (Fate::Runs, "nobody can vouch for"), (Fate::Failed, "not rescued")];
    let rest = rest.into_iter().filter(|(fate, _)| of(*fate) > 0);
    let rest: String = rest.map(|(fate, word)| format!(" {} {word}.", copies(of(fate)))).collect();
    match (of(Fate::Thawed) + of(Fate::PutBack) + of(Fate::Ended), dry_run) {
        (0, _) => format!("Nothing was changed.{rest}\n"),
        (n, true) => format!("Nothing was changed.  Rescue {}: grid rescue\n", copies(n)),
        (_, false) => {
            let done = [(Fate::Thawed, "thawed"), (Fate::PutBack, "put back"), (Fate::Ended, "ended")];
            let done = done.into_iter().filter(|(fate, _)| of(*fate) > 0);
            let done: Vec<String> = done.map(|(fate, word)| format!("{} {word}", copies(of(fate)))).collect();
            format!("{}.{rest}\n", done.join(", "))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn copy(fate: Fate, side: Side, why: &str, todo: Option<&str>) -> Rescued {
        Rescued {
            node: "head".into(),
            attempt: "o-12.1".into(),
            side,
            title: "python3 prep.py".into(),
            pids: vec![4711, 4712],
            fate,
            why: why.to_owned(),
            todo: todo.map(str::to_owned),
        }
    }

    #[test]
    fn each_copy_has_its_fate_its_reason_and_what_to_do() {
        let copies = vec![
            copy(Fate::Thawed, Side::Home, "its ledger proves that it was not committed", None),
            copy(Fate::Ended, Side::Staged, "it never ran", None),
            copy(Fate::Held, Side::Home, "it is past its commit", Some("grid up")),
            copy(Fate::PutBack, Side::Home, "its ledger proves that it was not committed", None),
            copy(Fate::Runs, Side::Home, "the ledger cannot be read", Some("put the ledger back")),
        ];
        let found = Found { copies, running: vec!["gpu2".into()], unreadable: vec!["gpu1: no such file".into()] };
        insta::assert_snapshot!(rescued(&found, false) + "\n" + &rescued(&found, true));
    }

    #[test]
    fn nothing_held_is_said() {
        assert_eq!(rescued(&Found::default(), false), "Nothing of grid's is held frozen here. Nothing was changed.\n");
    }
}

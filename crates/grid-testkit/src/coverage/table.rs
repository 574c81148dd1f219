//! The list and its last run as Markdown: the whole of `docs/coverage.md`, and what the README shows between two marks.

use super::list::{Expect, List, Program};
use super::run::Seen;
use super::suite::Outcome;
use std::collections::BTreeMap;
use std::fmt::Write;

/// The README's table lies between these.
pub const MARKS: (&str, &str) = ("<!-- coverage: made by `make coverage` -->\n", "<!-- coverage: end -->\n");

/// What stands in the document where a run did not go as the list says.
pub const WRONG: &str = "**no: the run found it otherwise**";

fn codes(program: &Program) -> String {
    program.codes.iter().map(|c| format!("`{c}`")).collect::<Vec<_>>().join(" ")
}

fn answer(expect: Expect) -> &'static str {
    match expect {
        Expect::Moves => "moves",
        Expect::Later => "stays; moves when started by `grid run`",
        Expect::Refused => "stays",
    }
}

/// For a cell: a bar would end it.
fn cell(text: &str) -> String {
    text.replace('|', "\\|")
}

/// What the README shows: names by their answer, the noes too.
pub fn compact(list: &List) -> String {
    let mut rows: BTreeMap<(Expect, String, &str), Vec<&str>> = BTreeMap::new();
    for p in &list.programs {
        let fix = if p.expect == Expect::Refused { p.fix() } else { "" };
        rows.entry((p.expect, codes(p), fix)).or_default().push(&p.name);
    }
    let mut text = String::from("| Program | Today | What to do |\n| --- | --- | --- |\n");
    for ((expect, codes, fix), names) in rows {
        let today = match expect {
            Expect::Moves => "moves".to_owned(),
            Expect::Later | Expect::Refused => format!("stays {codes}"),
        };
        let fix = if expect == Expect::Later { "start it by `grid run`: then it moves" } else { fix };
        let _ = writeln!(text, "| {} | {today} | {} |", cell(&names.join("; ")), cell(fix));
    }
    text
}

/// The document with what a run showed: of all programs, or of some, whose rows in the document of the last run are
/// replaced.
pub fn document(list: &List, outcomes: &[Outcome<'_>], last: &str) -> String {
    let before: BTreeMap<&str, &str> = last.lines().filter_map(|line| Some((cells(line).next()?, line))).collect();
    let row_of = |p: &Program| match outcomes.iter().find(|o| o.program.name == p.name) {
        Some(outcome) => Some(row(outcome)),
        None => before.get(cell(&p.name).as_str()).map(|line| (*line).to_owned()),
    };
    let rows: Vec<String> = list.programs.iter().filter_map(row_of).collect();
    let count = |answer: &str, checked: &str| {
        let is = |row: &&String| {
            let cells: Vec<&str> = cells(row).collect();
            cells[1].starts_with(answer) && cells[3].starts_with(checked)
        };
        rows.iter().filter(is).count()
    };
    let (moved, refused, absent) = (count("moves", "yes"), count("stays", "yes"), count("", "not run"));
    format!(
        "# What moves and what does not\n\n\
         Programs of [tests/coverage.toml](../tests/coverage.toml), run by `make coverage`, which writes this file. Each was\n\
         moved out and home while it worked and then checked (exit status, digest, data), or refused before anything was\n\
         frozen and seen to go on. In their last runs: {moved} moved, {refused} refused as expected, {absent} not run here.\n\
         \"Silent\" is the time without the program on the way out and on the way home.\n\n\
         | Program | Answer | Code and fix | Checked here | Silent, ms |\n| --- | --- | --- | --- | --- |\n{}\n",
        rows.join("\n")
    )
}

/// The cells of a row.
fn cells(row: &str) -> impl Iterator<Item = &str> {
    row.strip_prefix("| ").into_iter().flat_map(|rest| rest.split(" | "))
}

fn row(o: &Outcome<'_>) -> String {
    let (checked, silent) = match &o.seen {
        Ok(Seen::NotHere(what)) => (format!("not run: needs {what}"), String::new()),
        Ok(Seen::Moved { out, home: Some(home) }) => ("yes".into(), format!("{out}, {home}")),
        Ok(Seen::Moved { out, home: None }) => ("yes; it ended away".into(), out.to_string()),
        Ok(Seen::Refused) => ("yes".into(), String::new()),
        Err(_) => (WRONG.into(), String::new()),
    };
    format!("{}{checked} | {silent} |", row_begin(o.program))
}

/// The row of a program, up to what a run showed.
pub fn row_begin(p: &Program) -> String {
    let fix = if p.codes.is_empty() { String::new() } else { format!("{}: {}", codes(p), p.fix()) };
    format!("| {} | {} | {} | ", cell(&p.name), answer(p.expect), cell(&fix))
}

/// The README with its table replaced.
///
/// # Errors
/// Where the marks are not there.
pub fn in_readme(readme: &str, list: &List) -> Result<String, String> {
    let (begin, rest) = readme.split_once(MARKS.0).ok_or("README.md: no mark of the coverage table")?;
    let (_, end) = rest.split_once(MARKS.1).ok_or("README.md: no end of the coverage table")?;
    Ok(format!("{begin}{}{}{}{end}", MARKS.0, compact(list), MARKS.1))
}

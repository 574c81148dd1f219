//! The quick programs of `tests/coverage.toml` on a real cluster: grid's answer is the expected one, what moves works on
//! and is right in the end, and nothing that grid had no objection to fails. All of them: `make coverage`.

#![allow(clippy::unwrap_used)] // all of this file is tests and their helpers

use grid_testkit::coverage::list::{Expect, List, Program};
use grid_testkit::coverage::run::Seen;
use grid_testkit::coverage::suite::{run_all, said};

fn as_the_list_says(meant: impl Fn(&Program) -> bool) {
    let list = List::of_project().unwrap();
    let Some(outcomes) = run_all(list.programs.iter().filter(|p| p.quick && meant(p))) else { return };
    for outcome in &outcomes {
        if let Ok(Seen::NotHere(what)) = &outcome.seen {
            println!("SKIPPED: {} needs {what}", outcome.program.name);
        }
    }
    let wrong: Vec<String> =
        outcomes.iter().filter(|o| o.seen.is_err()).map(|o| format!("{}: {}", o.program.name, said(&o.seen))).collect();
    assert!(!outcomes.is_empty() && wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn what_stays_is_refused_before_anything_is_frozen() {
    as_the_list_says(|p| p.expect != Expect::Moves);
}

fn is_a_shells(program: &Program) -> bool {
    !program.commands.iter().any(|c| c.contains("python"))
}

#[test]
fn shells_and_tools_that_end_move_out_and_home_and_end_right() {
    as_the_list_says(|p| p.expect == Expect::Moves && p.exit.is_some() && is_a_shells(p));
}

#[test]
fn python_programs_that_end_move_out_and_home_and_end_right() {
    as_the_list_says(|p| p.expect == Expect::Moves && p.exit.is_some() && !is_a_shells(p));
}

#[test]
fn programs_that_go_on_move_out_and_home_and_go_on() {
    as_the_list_says(|p| p.expect == Expect::Moves && p.exit.is_none());
}

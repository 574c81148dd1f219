//! `tests/coverage.toml` is in order, and the README and `docs/coverage.md` say what it says.

#![allow(clippy::unwrap_used)] // all of this file is tests and their helpers

use grid_testkit::coverage::list::{Expect, List, project};
use grid_testkit::coverage::table;

fn read(name: &str) -> String {
    std::fs::read_to_string(project().join(name)).unwrap()
}

#[test]
fn the_list_has_forty_programs_and_every_answer() {
    let list = List::of_project().unwrap();
    assert!(list.programs.len() >= 40, "{}", list.programs.len());
    for answer in [Expect::Moves, Expect::Later, Expect::Refused] {
        assert!(list.programs.iter().any(|p| p.expect == answer), "{answer:?}");
        assert!(answer == Expect::Later || list.programs.iter().any(|p| p.quick && p.expect == answer), "{answer:?}");
    }
}

#[test]
fn the_readme_shows_the_list() {
    let readme = read("README.md");
    assert_eq!(table::in_readme(&readme, &List::of_project().unwrap()).unwrap(), readme, "run `make coverage`");
}

#[test]
fn the_last_run_was_of_this_list_and_found_it_so() {
    let document = read("docs/coverage.md");
    for program in &List::of_project().unwrap().programs {
        let row = table::row_begin(program);
        assert!(document.lines().any(|line| line.starts_with(&row)), "{row}: run `make coverage`");
    }
    assert!(!document.contains(table::WRONG), "the last run found something otherwise");
}

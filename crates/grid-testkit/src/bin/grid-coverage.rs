//! What `make coverage` runs: every program of `tests/coverage.toml` on a real cluster, then `docs/coverage.md` and the
//! README's table anew. As root. With words, only programs whose names contain one of them: the other rows stay.

use grid_testkit::coverage::list::{List, project};
use grid_testkit::coverage::{suite, table};
use std::process::ExitCode;

fn main() -> ExitCode {
    match run(&std::env::args().skip(1).collect::<Vec<_>>()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("error: {why}");
            ExitCode::FAILURE
        }
    }
}

fn run(words: &[String]) -> Result<(), String> {
    let list = List::of_project()?;
    let meant = |name: &str| words.is_empty() || words.iter().any(|w| name.contains(w.as_str()));
    let outcomes =
        suite::run_all(list.programs.iter().filter(|p| meant(&p.name))).ok_or("moves cannot be tested here")?;
    let read = |name: &str| std::fs::read_to_string(project().join(name)).map_err(|e| format!("{name}: {e}"));
    write("docs/coverage.md", &table::document(&list, &outcomes, &read("docs/coverage.md")?))?;
    write("README.md", &table::in_readme(&read("README.md")?, &list)?)?;
    let wrong = outcomes.iter().filter(|o| o.seen.is_err()).count();
    grid_testkit::say!("{} programs, {wrong} not as the list says", outcomes.len());
    if wrong == 0 { Ok(()) } else { Err(format!("{wrong} programs were not as tests/coverage.toml says")) }
}

fn write(name: &str, text: &str) -> Result<(), String> {
    std::fs::write(project().join(name), text).map_err(|e| format!("{name}: {e}"))
}

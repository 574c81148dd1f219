//! `docs/reasons.md` and `docs/exit-codes.md` are made from the lists in the code, `docs/commands.md` from the definition of
//! the commands, the table of `docs/api.md` from the API's own. Write them anew with
//! `GRID_UPDATE_DOCS=1 cargo test -p grid --test cli_docs`.
#![allow(clippy::unwrap_used)] // all of this file is tests and their helpers

use clap::{Arg, Command, CommandFactory};
use grid_cli::cli::Cli;
use grid_types::exit::FaultClass;
use grid_types::reason::ReasonCode;
use std::fmt::Write;
use std::path::PathBuf;

fn reasons() -> String {
    let mut out = String::from(
        "# Reason codes\n\nEvery refusal has one. `grid explain CODE` prints the same; `grid explain PID` says which \
         a process has.\nThis file is made from `crates/grid-types/src/reason.rs` by a test.\n",
    );
    for code in ReasonCode::ALL {
        let _ = write!(out, "\n## {code}\n\n- Cause: {}\n- Fix: {}\n", code.cause(), code.fix());
    }
    out
}

fn exit_codes() -> String {
    let mut out = String::from(
        "# Exit codes\n\nThe class of what went wrong is the exit code of `grid`; JSON errors name it in `class`.\nThis \
         file is made from `crates/grid-types/src/exit.rs` by a test.\n\n| code | class | meaning |\n| --- | --- | --- |\n\
         | 0 | | done |\n",
    );
    for class in FaultClass::ALL {
        let name = serde_json::to_value(class).unwrap();
        let _ = writeln!(out, "| {} | `{}` | {} |", class.code(), name.as_str().unwrap(), class.meaning());
    }
    let _ = write!(
        out,
        "\n## Of a shadow\n\nThe shadow of a process that moved ends as the process did: with its exit status, or by its \
         signal. Where that cannot be, it says why on standard error:\n\n| code | meaning |\n| --- | --- |\n| {} | the node \
         where it ran lost it, and with it how far it came |\n| {} | the shadow could not begin; the process goes on \
         where it is, and `grid offload show` tells its end |\n",
        grid_types::exit::TREE_LOST,
        grid_types::exit::NO_SHADOW,
    );
    let _ = write!(
        out,
        "\n## Of `grid run`\n\nIt becomes its command, whose exit status is its own. Where no command was started:\n\n| code | \
         meaning |\n| --- | --- |\n| 2 | wrong usage or input |\n| {} | the command could not be prepared |\n| {} | it cannot \
         be executed |\n| {} | there is no such command |\n\nA move that `--boost` asked for and that fails changes none of \
         this: the command runs at home.\n",
        grid_types::exit::CANNOT_RUN,
        grid_types::exit::CANNOT_EXECUTE,
        grid_types::exit::NO_COMMAND,
    );
    out
}

/// Every command that people may type, with its words: what `grid COMMAND --help` says.
fn commands() -> String {
    let mut out = String::from(
        "# Commands\n\nWhat `grid COMMAND --help` and the man pages (`grid man DIRECTORY`) say. This file is made by a test from the same\n\
         definition.\n\nAn id may be shortened to any unambiguous prefix; `last` is the newest. Durations are written `90s`, `2m`, `1h30m`, sizes\n\
         `512MiB`, `8GiB`. [Exit codes](exit-codes.md), [reason codes](reasons.md).\n\n## Options of every command\n\n",
    );
    let mut all = Cli::command();
    all.build();
    words(&mut out, all.get_arguments().filter(|a| a.is_global_set()));
    for command in all.get_subcommands().filter(|c| !c.is_hide_set()) {
        describe(&mut out, command);
    }
    out
}

fn describe(out: &mut String, command: &Command) {
    let parts: Vec<&Command> = command.get_subcommands().filter(|c| !c.is_hide_set()).collect();
    if !parts.is_empty() {
        return parts.into_iter().for_each(|part| describe(out, part));
    }
    let name = command.get_bin_name().unwrap();
    let _ = write!(out, "\n## {name}\n\n{}.\n", command.get_about().unwrap());
    let usage = command.clone().render_usage().to_string();
    let examples = command.get_after_help().map(|text| format!("\n\n{text}")).unwrap_or_default();
    let _ = write!(out, "\n```\n{}{examples}\n```\n", usage.trim_start_matches("Usage: ").trim_end());
    let own =
        command.get_arguments().filter(|a| !a.is_global_set() && !matches!(a.get_id().as_str(), "help" | "version"));
    let own: Vec<&Arg> = own.filter(|a| !a.is_hide_set()).collect();
    if !own.is_empty() {
        out.push('\n');
        words(out, own.into_iter());
    }
}

fn words<'a>(out: &mut String, args: impl Iterator<Item = &'a Arg>) {
    out.push_str("| Word | Meaning |\n| --- | --- |\n");
    for arg in args {
        let values = match arg.get_action().takes_values() {
            true => arg.get_value_names().unwrap_or_default().iter().map(|name| format!(" {name}")).collect(),
            false => String::new(),
        };
        let long = arg.get_long().map(|long| format!("`--{long}{values}`"));
        let short = arg.get_short().map(|short| format!(", `-{short}`")).unwrap_or_default();
        let word = long.map_or_else(|| format!("`{}`", values.trim()), |long| long + &short);
        let _ = writeln!(out, "| {} | {} |", word.replace('|', "\\|"), meaning(arg).replace('|', "\\|"));
    }
}

/// What it means, which words it may be, what it is without a word, and which variable says it as well.
fn meaning(arg: &Arg) -> String {
    let mut out = arg.get_help().map(ToString::to_string).unwrap_or_default();
    let values = arg.get_possible_values();
    if arg.get_action().takes_values() && !values.is_empty() {
        let one = |v: &clap::builder::PossibleValue| match v.get_help() {
            Some(help) => format!("`{}` ({})", v.get_name(), lower(&help.to_string())),
            None => format!("`{}`", v.get_name()),
        };
        let _ = write!(out, ": {}", values.iter().filter(|v| !v.is_hide_set()).map(one).collect::<Vec<_>>().join(", "));
    }
    if let [default] = arg.get_default_values()
        && arg.get_action().takes_values()
    {
        let _ = write!(out, " [default: {}]", default.to_string_lossy());
    }
    if let Some(variable) = arg.get_env() {
        let _ = write!(out, " [`{}`]", variable.to_string_lossy());
    }
    out
}

fn lower(text: &str) -> String {
    let mut letters = text.chars();
    letters.next().map_or_else(String::new, |first| first.to_lowercase().chain(letters).collect())
}

/// The calls, as the API's own module lists them.
fn calls() -> String {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../grid-types/src/api/mod.rs");
    let source = std::fs::read_to_string(path).unwrap();
    let rows = source.lines().filter_map(|line| line.strip_prefix("//! ")).filter(|line| line.starts_with('|'));
    // A type's link, `[Name](path)` or [`Name`], is its name alone here.
    let plain = |row: &str| {
        let parts = row.split("](crate::").enumerate();
        let links: String =
            parts.map(|(n, part)| if n == 0 { part } else { part.split_once(')').unwrap().1 }).collect();
        links.replace("[`", "`").replace("`]", "`") + "\n"
    };
    rows.map(plain).collect()
}

fn up_to_date(name: &str, want: &str) {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../docs").join(name);
    if std::env::var_os("GRID_UPDATE_DOCS").is_some() {
        std::fs::write(&path, want).unwrap();
    }
    let have = std::fs::read_to_string(&path).unwrap_or_default();
    assert_eq!(have, want, "docs/{name} is out of date: GRID_UPDATE_DOCS=1 cargo test -p grid --test cli_docs");
}

#[test]
fn the_reasons_are_documented() {
    up_to_date("reasons.md", &reasons());
}

#[test]
fn the_exit_codes_are_documented() {
    up_to_date("exit-codes.md", &exit_codes());
}

#[test]
fn the_commands_are_documented() {
    up_to_date("commands.md", &commands());
}

/// The part of `docs/api.md` that lists the calls.
#[test]
fn the_calls_are_documented() {
    let (start, end) = ("<!-- calls -->\n", "<!-- end of calls -->");
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../docs/api.md");
    let have = std::fs::read_to_string(path).unwrap();
    let (before, rest) = have.split_once(start).unwrap();
    let (_, after) = rest.split_once(end).unwrap();
    up_to_date("api.md", &format!("{before}{start}{}{end}{after}", calls()));
}

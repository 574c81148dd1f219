//! `docs/reasons.md` and `docs/exit-codes.md` are made from the lists in the code. Write them anew with
//! `GRID_UPDATE_DOCS=1 cargo test -p grid --test cli_docs`.
#![allow(clippy::unwrap_used)] // all of this file is tests and their helpers

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

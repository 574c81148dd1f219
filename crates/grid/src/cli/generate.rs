//! Completions and man pages, made from the definition of the commands.

use super::Cli;
use super::failure::Failure;
use super::may;
use super::output::Printed;
use clap::CommandFactory;
use grid_types::exit::FaultClass;
use std::path::Path;

/// `grid completions`.
pub(super) fn completions(shell: clap_complete::Shell) -> Printed {
    let mut out = Vec::new();
    clap_complete::generate(shell, &mut visible(), "grid", &mut out);
    let text = String::from_utf8_lossy(&out).into_owned();
    // A script in every form: JSON of it would serve nobody.
    Printed { human: text.clone(), json: text.clone(), quiet: text }
}

/// `grid man`.
pub(super) fn man(dir: &Path, dry_run: bool) -> Result<Printed, Failure> {
    let failed = |e: std::io::Error| {
        Failure::new(FaultClass::Environment, format!("cannot write man pages to {}: {e}", dir.display()))
    };
    if dry_run {
        may::make_and_write_in(dir).map_err(failed)?;
        let human = format!("The man pages would be written into {}. Nothing was changed.\n", dir.display());
        return Printed::local(&serde_json::json!({ "directory": dir }), human, dir.display().to_string());
    }
    std::fs::create_dir_all(dir).map_err(failed)?;
    clap_mangen::generate_to(visible(), dir).map_err(failed)?;
    let count = std::fs::read_dir(dir).map_err(failed)?.count();
    let at = dir.display();
    let human = format!("{count} files in {at}.  Read one: man {at}/grid.1\n");
    Printed::local(&serde_json::json!({ "directory": dir, "files": count }), human, at.to_string())
}

/// The commands that people may type.
fn visible() -> clap::Command {
    let all = Cli::command();
    let mut shown = clap::Command::new("grid");
    if let Some(about) = all.get_about() {
        shown = shown.about(about.clone());
    }
    if let Some(after) = all.get_after_help() {
        shown = shown.after_help(after.clone());
    }
    shown = shown.version(env!("CARGO_PKG_VERSION")).disable_help_subcommand(true);
    let (args, subcommands): (Vec<_>, Vec<_>) =
        (all.get_arguments().cloned().collect(), all.get_subcommands().cloned().collect());
    shown.args(args).subcommands(subcommands.into_iter().filter(|s| !s.is_hide_set()))
}

//! `grid init`: a commented configuration from what is found on this machine. Never overwrites a file.

use super::failure::Failure;
use super::may;
use super::output::Printed;
use grid_core::config::{InitFacts, SshHost, init_template};
use grid_os::gpu::GpuReader;
use grid_os::node::NodeReader;
use grid_types::exit::FaultClass;
use grid_types::facts::Gpus;
use grid_types::ids::NodeName;
use serde::Serialize;
use std::io::{ErrorKind, Write};
use std::path::Path;

/// What was written.
#[derive(Serialize)]
struct Written {
    file: Option<String>,
    text: String,
}

/// `grid init`.
pub(super) fn init(file: &Path, dry_run: bool) -> Result<Printed, Failure> {
    let text = init_template(&found());
    if file == Path::new("-") {
        return Printed::local(&Written { file: None, text: text.clone() }, text.clone(), text);
    }
    let name = file.display().to_string();
    let written = if dry_run { may::make(file) } else { write_new(file, &text) };
    written.map_err(|e| match e.kind() {
        ErrorKind::AlreadyExists => Failure::new(FaultClass::Refused, format!("{name} exists. Nothing was written."))
            .hint("choose another: grid init --output-file FILE"),
        ErrorKind::PermissionDenied => Failure::new(FaultClass::Permission, format!("cannot write {name}: {e}")),
        _ => Failure::new(FaultClass::Environment, format!("cannot write {name}: {e}")),
    })?;
    if dry_run {
        let human = format!("{name} would be written. Nothing was changed. The text:\n{text}");
        return Printed::local(&Written { file: None, text }, human, name);
    }
    let human = format!(
        "{name} written: this machine is the head, automatic offloading observes only.\nRead it, name workers, then: grid config check {name}\n"
    );
    Printed::local(&Written { file: Some(name.clone()), text }, human, name)
}

fn write_new(file: &Path, text: &str) -> std::io::Result<()> {
    let mut new = std::fs::OpenOptions::new().write(true).create_new(true).open(file)?;
    new.write_all(text.as_bytes())
}

fn found() -> InitFacts {
    let hostname = nix::unistd::gethostname().ok().and_then(|h| h.into_string().ok()).unwrap_or_default();
    let gpus = GpuReader::open().read();
    let gpu_count = match &gpus {
        Gpus::None => Some(0),
        Gpus::Present(all) => u32::try_from(all.len()).ok(),
        Gpus::Unknown(_) => None,
    };
    let facts = NodeReader::new(None).and_then(|mut r| r.read(&NodeName::new("head"), gpus)).ok();
    InitFacts {
        hostname,
        cpu_count: facts.as_ref().map(|f| f.cpu_total.0 / 1000),
        memory: facts.as_ref().map(|f| f.memory_total),
        gpu_count,
        ssh_hosts: ssh_hosts(),
    }
}

fn ssh_hosts() -> Vec<SshHost> {
    let Some(home) = std::env::var_os("HOME") else { return Vec::new() };
    let text = std::fs::read_to_string(Path::new(&home).join(".ssh/config")).unwrap_or_default();
    parse_ssh(&text)
}

/// Names of the `Host` lines, ssh_config(5); patterns are left to the template, which drops them. What follows a name
/// is left to ssh.
fn parse_ssh(text: &str) -> Vec<SshHost> {
    let mut hosts = Vec::new();
    for line in text.lines() {
        let line = line.trim();
        let Some((key, names)) = line.split_once(|c: char| c.is_whitespace() || c == '=') else { continue };
        if key.eq_ignore_ascii_case("host") {
            let names = names.split(|c: char| c.is_whitespace() || c == '=').filter(|n| !n.is_empty());
            hosts.extend(names.map(|n| SshHost { name: n.trim_matches('"').to_owned(), ..SshHost::default() }));
        }
    }
    hosts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_ssh_hosts_are_found_and_nothing_else() {
        let hosts =
            parse_ssh("# mine\nHost gpu1 ml-server\n  HostName 10.0.0.7\n  User x\nhost=gpu2\nHostKeyAlias z\n");
        let names: Vec<_> = hosts.iter().map(|h| h.name.as_str()).collect();
        assert_eq!(names, ["gpu1", "ml-server", "gpu2"]);
    }

    #[test]
    fn what_is_written_here_can_be_read_again() {
        let text = init_template(&found());
        assert!(grid_core::config::parse(&text).is_ok(), "{text}");
    }
}

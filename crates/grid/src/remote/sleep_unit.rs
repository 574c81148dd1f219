//! What systemd does on a worker before it suspends the machine, and after: guests stand still first (`grid lend sleep`), and
//! run again when their head has confirmed them (`grid lend wake`).
//!
//! A unit of `/run`, gone with a boot: systemd waits for it before it suspends, which no inhibitor has to be held for. Where
//! somebody suspends the machine without systemd, nothing announces it.

use super::RemoteNode;
use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

const UNITS: &str = "/run/systemd/system";
/// Longer than freezing takes; no lid stays open for a guest that waits for a file.
const WITHIN_S: u32 = 10;

fn name(directory: &Path) -> String {
    format!("{}-sleep.service", directory.file_name().unwrap_or_default().to_string_lossy())
}

fn places(directory: &Path) -> [PathBuf; 2] {
    let (units, name) = (Path::new(UNITS), name(directory));
    [units.join("sleep.target.wants").join(&name), units.join(name)]
}

/// Has systemd do it, where that runs. A worker of which it does not lends all the same: its log says so.
pub(super) fn put(node: &RemoteNode) {
    let Err(e) = try_put(node) else { return };
    if let Ok(mut log) = File::options().create(true).append(true).open(node.directory.join("node.log")) {
        let _ = writeln!(log, "warning: guests will not stand still before this machine sleeps: {e}");
    }
}

fn try_put(node: &RemoteNode) -> io::Result<()> {
    if !Path::new(UNITS).is_dir() {
        return Ok(());
    }
    let [wanted, unit] = places(&node.directory);
    let text = text(node);
    if wanted.is_symlink() && std::fs::read_to_string(&unit).is_ok_and(|before| before == text) {
        return Ok(());
    }
    std::fs::write(&unit, text)?;
    if let Some(dir) = wanted.parent() {
        std::fs::create_dir_all(dir)?;
    }
    let _ = std::fs::remove_file(&wanted);
    std::os::unix::fs::symlink(&unit, &wanted)?;
    reload()
}

/// Nothing of it is left.
pub(super) fn remove(directory: &Path) {
    let removed = places(directory).map(|path| std::fs::remove_file(path).is_ok());
    if removed.contains(&true) {
        let _ = reload();
    }
}

fn reload() -> io::Result<()> {
    let status = Command::new("systemctl").arg("daemon-reload").stdin(Stdio::null()).status()?;
    if status.success() { Ok(()) } else { Err(io::Error::other(format!("systemctl daemon-reload: {status}"))) }
}

/// Needed by `sleep.target` alone, which ends when the machine is awake: then it is stopped.
fn text(node: &RemoteNode) -> String {
    let quoted = |path: &Path| format!("\"{}\"", path.display().to_string().replace('%', "%%"));
    let say = format!("{} --state {} lend", quoted(&node.agent.program), quoted(&node.directory));
    format!(
        "[Unit]\nDescription=grid: guests of {} stand still while this machine sleeps\nBefore=sleep.target\n\
         StopWhenUnneeded=yes\n\n[Service]\nType=oneshot\nRemainAfterExit=yes\nExecStart={say} sleep\nExecStop={say} wake\n\
         TimeoutStartSec={WITHIN_S}\n",
        node.name
    )
}

//! The head's files as a process sees them on a worker (`execution.files: home`), by ssh and directly, beside sshfs over the
//! same link and the disk itself: the same program measures all.

use super::cluster::Cluster;
use super::link;
use crate::lab::Lab;
use crate::procs::{self, Detached};
use crate::scratch::Scratch;
use grid_types::api::{BoostReply, OffloadView};
use grid_types::facts::Way;
use serde::Deserialize;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

const PROGRAM: &str = include_str!("files.py");
const LIMIT: Duration = Duration::from_secs(300);

/// Bytes and calls a second.
#[derive(Deserialize)]
struct Found {
    write: f64,
    read: f64,
    create: f64,
    stat: f64,
    unlink: f64,
}

/// Measures each once.
pub(super) fn run() -> Result<(), String> {
    let cluster = Cluster::beside_ssh("home")?;
    let lab = cluster.lab.as_ref().ok_or("no machine for ssh")?;
    let asked = ["boost", "request", "head", "--cpu", "1", "--memory", "512MiB", "--duration", "10m"];
    cluster.local.ask::<BoostReply>(&asked)?;
    let disk = one(|dir, _| Ok(dir.join("files")))?;
    let sshfs = {
        let there = Scratch::new().map_err(|e| e.to_string())?;
        let mounted = Sshfs::mount(lab, &there)?;
        one(|_, _| Ok(mounted.0.join("files")))?
    };
    let home = |way| {
        link::take(&cluster, lab, way)?;
        one(|dir, pid| {
            // The disk is shared: what it sees there must not be the worker's own.
            lab.hide(dir).map_err(|e| e.to_string())?;
            cluster.local.ask::<OffloadView>(&["offload", "execute", &pid.to_string()])?;
            Ok(dir.join("files"))
        })
    };
    let (direct, by_ssh) = (home(Way::Direct)?, home(Way::Ssh)?);
    crate::say!("== files over the link: 256 MiB in pieces of 1 MiB; 2000 files one after the other (once each)");
    crate::say!(
        "{:<26} {:>10} {:>10} {:>10} {:>10} {:>10}",
        "",
        "write MB/s",
        "read MB/s",
        "create/s",
        "stat/s",
        "unlink/s"
    );
    for (name, f) in [
        ("the head's disk, at home", disk),
        ("sshfs", sshfs),
        ("files: home, by ssh", by_ssh),
        ("files: home, directly", direct),
    ] {
        crate::say!(
            "{name:<26} {:>10.0} {:>10.0} {:>10.0} {:>10.0} {:>10.0}",
            f.write / 1e6,
            f.read / 1e6,
            f.create,
            f.stat,
            f.unlink
        );
    }
    Ok(())
}

/// A program that waits, and measures where `place` says once that has prepared it; given are its folder and its number.
fn one(place: impl FnOnce(&Path, i32) -> Result<PathBuf, String>) -> Result<Found, String> {
    let text = |e: std::io::Error| e.to_string();
    let dir = Scratch::new().map_err(text)?;
    std::fs::write(dir.join("files.py"), PROGRAM).map_err(text)?;
    let process = Detached::start(Path::new("/usr/bin/python3"), &["files.py"], &dir).map_err(text)?;
    let there = |name: &str, what: &str| {
        let look = || Ok(std::fs::read_to_string(dir.join(name)).ok().filter(|text| !text.is_empty()));
        procs::until(&dir, LIMIT, what, look).map_err(text)
    };
    there("ready", "the program to start")?;
    let folder = place(&dir, process.pid)?;
    std::fs::write(dir.join("go.new"), folder.to_string_lossy().as_bytes()).map_err(text)?;
    std::fs::rename(dir.join("go.new"), dir.join("go")).map_err(text)?;
    serde_json::from_str(&there("found", "what it found")?).map_err(|e| e.to_string())
}

/// A folder of the machine's, seen here by sshfs; gone when dropped.
struct Sshfs(Scratch);

impl Sshfs {
    fn mount(lab: &Lab, folder: &Path) -> Result<Self, String> {
        let said = |e: std::io::Error| format!("sshfs: {e} (it is Debian's package of that name)");
        let at = Self(Scratch::new().map_err(said)?);
        let from = format!("{}:{}", lab.host(), folder.display());
        let config = lab.path("ssh_config");
        let mut command = Command::new("sshfs");
        command.arg(from).arg(&*at.0).arg("-F").arg(config).args(["-o", "allow_other"]);
        let out = command.output().map_err(said)?;
        if out.status.success() { Ok(at) } else { Err(format!("sshfs: {}", String::from_utf8_lossy(&out.stderr))) }
    }
}

impl Drop for Sshfs {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(&*self.0).status();
    }
}

//! Children that are started again when they end.

use grid_os::cgroup::Group;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};
use tokio::process::{Child, Command};

/// One program that must run.
pub(crate) struct Kept {
    program: PathBuf,
    args: Vec<String>,
    log: PathBuf,
    child: Option<Child>,
    started: Instant,
    /// Where it is found again when the supervisor is gone.
    group: Group,
}

impl Kept {
    pub(crate) fn new(program: &Path, args: &[&str], log: &Path, group: &Group) -> Self {
        let args = args.iter().map(|a| (*a).to_owned()).collect();
        Self {
            program: program.to_owned(),
            args,
            log: log.to_owned(),
            child: None,
            started: Instant::now(),
            group: group.clone(),
        }
    }

    pub(crate) fn start(&mut self) -> std::io::Result<()> {
        let log = std::fs::OpenOptions::new().create(true).append(true).open(&self.log)?;
        let child = Command::new(&self.program)
            .args(&self.args)
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            // Ctrl-C in the terminal is for the supervisor, which stops its children in order.
            .process_group(0)
            .spawn()?;
        if let Some(pid) = child.id() {
            self.group.add(pid as i32).map_err(std::io::Error::other)?;
        }
        self.child = Some(child);
        self.started = Instant::now();
        Ok(())
    }

    /// Waits for its end, and starts it again; a program that ends at once is given a pause.
    pub(crate) async fn keep(&mut self) {
        if let Some(child) = &mut self.child {
            let _ = child.wait().await;
        }
        if self.started.elapsed() < Duration::from_secs(1) {
            tokio::time::sleep(Duration::from_millis(300)).await;
        }
        if self.start().is_err() {
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    }

    /// The exit code, where it has ended and was not started again yet; -1 for a signal.
    pub(crate) fn ended(&mut self) -> Option<i32> {
        let status = self.child.as_mut()?.try_wait().ok()??;
        Some(status.code().unwrap_or(-1))
    }

    pub(crate) async fn stop(&mut self) {
        let Some(mut child) = self.child.take() else { return };
        if let Some(pid) = child.id() {
            let pid = nix::unistd::Pid::from_raw(pid as i32);
            let _ = nix::sys::signal::kill(pid, nix::sys::signal::SIGTERM);
        }
        if tokio::time::timeout(Duration::from_secs(5), child.wait()).await.is_err() {
            let _ = child.kill().await;
        }
    }

    /// What it said last.
    pub(crate) fn last_words(&self) -> String {
        let text = std::fs::read_to_string(&self.log).unwrap_or_default();
        text.lines().rev().take(3).collect::<Vec<_>>().into_iter().rev().collect::<Vec<_>>().join("; ")
    }
}

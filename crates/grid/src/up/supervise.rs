//! Children that are started again when they end.
//!
//! The one that serves users gets its listening socket from here, on standard input: a request that comes while it is
//! started again waits for it. Its environment is not root's either.

use grid_os::cgroup::Group;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
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
    served: Option<Served>,
    /// It has ended within this after it was told to, or it is killed.
    patience: Duration,
}

/// A Unix socket that anybody may connect to.
struct Served {
    path: PathBuf,
    listener: Option<UnixListener>,
}

impl Served {
    /// The socket to hand over; bound where it is not yet.
    fn hand_over(&mut self) -> std::io::Result<OwnedFd> {
        if self.listener.is_none() {
            let _ = std::fs::remove_file(&self.path);
            let listener = UnixListener::bind(&self.path)?;
            std::fs::set_permissions(&self.path, std::fs::Permissions::from_mode(0o666))?;
            self.listener = Some(listener);
        }
        let listener = self.listener.as_ref().ok_or(std::io::ErrorKind::NotConnected)?;
        listener.as_fd().try_clone_to_owned()
    }
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
            served: None,
            patience: Duration::from_secs(5),
        }
    }

    /// It answers users on a socket of this path, and starts with a clean environment.
    pub(crate) fn serving(self, path: PathBuf) -> Self {
        Self { served: Some(Served { path, listener: None }), ..self }
    }

    /// It may take so long to end.
    pub(crate) fn patient(self, patience: Duration) -> Self {
        Self { patience, ..self }
    }

    pub(crate) fn start(&mut self) -> std::io::Result<()> {
        let log = std::fs::OpenOptions::new().create(true).append(true).open(&self.log)?;
        let mut command = Command::new(&self.program);
        command.stdin(Stdio::null());
        if let Some(served) = &mut self.served {
            command.stdin(Stdio::from(served.hand_over()?)).env_clear().env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin");
        }
        let child = command
            .args(&self.args)
            .stdout(log.try_clone()?)
            .stderr(log)
            // Ctrl-C in the terminal is for the supervisor, which stops its children in order.
            .process_group(0)
            // One that is not in its group, or whose supervisor gives up, would be found by nobody.
            .kill_on_drop(true)
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
            // Nobody shall wait for one that cannot start: they are told at once.
            if let Some(served) = &mut self.served {
                served.listener = None;
                let _ = std::fs::remove_file(&served.path);
            }
            tokio::time::sleep(Duration::from_millis(300)).await;
        }
        if self.start().is_err() {
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    }

    /// How it ended, where it has and was not started again yet.
    pub(crate) fn ended(&mut self) -> Option<ExitStatus> {
        self.child.as_mut()?.try_wait().ok()?
    }

    /// Where it says what goes on.
    pub(crate) fn log(&self) -> &Path {
        &self.log
    }

    /// It is started with this file.
    pub(crate) fn is_of(&self, file: &Path) -> bool {
        self.args.iter().any(|arg| Path::new(arg) == file)
    }

    /// Tells it to look anew at what it was told. One that ends of it is started again, and has read it then.
    pub(crate) fn hang_up(&self) {
        if let Some(pid) = self.child.as_ref().and_then(Child::id) {
            let _ = kill(Pid::from_raw(pid as i32), Signal::SIGHUP);
        }
    }

    /// Ends it. True where it did so in time, and had nothing to complain about.
    pub(crate) async fn stop(&mut self) -> bool {
        self.end(Signal::SIGTERM).await
    }

    /// Ends it as one whose supervisor could not begin: what reaches a worker leaves alone what lives there.
    pub(crate) async fn give_up(&mut self) -> bool {
        self.end(Signal::SIGINT).await
    }

    async fn end(&mut self, signal: Signal) -> bool {
        let Some(mut child) = self.child.take() else { return true };
        if let Some(pid) = child.id() {
            let _ = kill(Pid::from_raw(pid as i32), signal);
        }
        match tokio::time::timeout(self.patience, child.wait()).await {
            Ok(status) => status.is_ok_and(|status| status.success()),
            Err(_) => {
                let _ = child.kill().await;
                false
            }
        }
    }

    /// What it said last.
    pub(crate) fn last_words(&self) -> String {
        let text = std::fs::read_to_string(&self.log).unwrap_or_default();
        text.lines().rev().take(3).collect::<Vec<_>>().into_iter().rev().collect::<Vec<_>>().join("; ")
    }
}

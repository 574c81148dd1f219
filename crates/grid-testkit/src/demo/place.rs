//! Where the demo lives, and its end: whatever happens, programs, cluster and folder go. Owns the folder and the list of
//! what was started; ends nothing else.

use crate::local::Local;
use crate::procs::{self, NOBODY};
use crate::raw;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::fs::{self, File};
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// The demo's folder inside the project.
const HOME: &str = ".grid/demo";

/// The demo's folder, its cluster, and what it started.
pub(super) struct Place {
    /// The folder.
    pub(super) dir: PathBuf,
    /// The cluster.
    pub(super) local: Local,
    /// Where commands are run from and shown paths begin.
    root: PathBuf,
    ending: Arc<Ending>,
    _lock: nix::fcntl::Flock<File>,
}

/// What the end needs; shared with the thread that signals wake.
struct Ending {
    local: Local,
    started: Mutex<Vec<(i32, u64)>>,
    helper: Mutex<Option<i32>>,
    down: Mutex<bool>,
    interrupted: AtomicBool,
}

impl Place {
    /// Makes the folder, after the remains of an earlier demo that was killed are cleared.
    pub(super) fn make() -> Result<Self, String> {
        let root = std::env::current_dir().map_err(|e| e.to_string())?;
        let said = |e: &dyn std::fmt::Display| format!("{}: {e}", root.join(HOME).display());
        fs::create_dir_all(root.join(".grid")).map_err(|e| said(&e))?;
        let lock = File::create(root.join(".grid/demo.lock")).map_err(|e| said(&e))?;
        let lock = nix::fcntl::Flock::lock(lock, nix::fcntl::FlockArg::LockExclusiveNonblock)
            .map_err(|_| "another demo of this folder is running".to_owned())?;
        let dir = if others_may_enter(&root) { root.join(HOME) } else { elsewhere(&root) };
        let local = Local::of(&dir.join("state"))?;
        local.down()?;
        match fs::remove_dir_all(&dir) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => return Err(said(&e)),
            _ => {}
        }
        fs::create_dir_all(dir.join("bin")).map_err(|e| said(&e))?;
        for open in [&dir, &dir.join("bin"), &root.join(".grid")] {
            fs::set_permissions(open, fs::Permissions::from_mode(0o755)).map_err(|e| said(&e))?;
        }
        let ending = Ending {
            local: local.clone(),
            started: Mutex::default(),
            helper: Mutex::new(None),
            down: Mutex::new(false),
            interrupted: AtomicBool::new(false),
        };
        Ok(Self { dir, local, root, ending: Arc::new(ending), _lock: lock })
    }

    /// Copies a program or file into the folder that the unprivileged user can read.
    pub(super) fn install(&self, from: &Path, name: &str) -> Result<PathBuf, String> {
        let to = self.dir.join("bin").join(name);
        fs::copy(from, &to).map_err(|e| format!("{}: {e}", from.display()))?;
        self.readable(&to)?;
        Ok(to)
    }

    /// Writes a file that the unprivileged user can read.
    pub(super) fn write(&self, name: &str, text: &str) -> Result<PathBuf, String> {
        let to = self.dir.join(name);
        fs::write(&to, text).map_err(|e| format!("{}: {e}", to.display()))?;
        self.readable(&to)?;
        Ok(to)
    }

    fn readable(&self, file: &Path) -> Result<(), String> {
        fs::set_permissions(file, fs::Permissions::from_mode(0o755)).map_err(|e| format!("{}: {e}", file.display()))
    }

    /// A new folder that belongs to the unprivileged user.
    pub(super) fn folder(&self, name: &str) -> Result<PathBuf, String> {
        let dir = self.dir.join(name);
        let made = fs::create_dir(&dir).and_then(|()| chown(&dir, Some(NOBODY), Some(NOBODY)));
        made.map_err(|e| format!("{}: {e}", dir.display()))?;
        Ok(dir)
    }

    /// A path as a person in the project's folder would type it.
    pub(super) fn shown(&self, path: &Path) -> String {
        path.strip_prefix(&self.root).unwrap_or(path).display().to_string()
    }

    /// A file of the project.
    pub(super) fn of_project(&self, path: &str) -> PathBuf {
        self.root.join(path)
    }

    /// This process, and its session, is ended with the demo.
    pub(super) fn ends_with_us(&self, pid: i32) {
        let mut started = self.ending.started.lock().unwrap_or_else(PoisonError::into_inner);
        started.push((pid, procs::start_ticks(pid).unwrap_or(0)));
    }

    /// A script of ours that cleans up behind itself when it is told to end; none when it has ended.
    pub(super) fn helper(&self, pid: Option<i32>) {
        *self.ending.helper.lock().unwrap_or_else(PoisonError::into_inner) = pid;
    }

    /// SIGINT, SIGTERM and SIGHUP take everything down and end the demo.
    pub(super) fn watch_signals(&self) -> Result<(), String> {
        let signals = [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP];
        raw::note_signals(&signals).map_err(|e| format!("signals: {e}"))?;
        let (ending, dir) = (self.ending.clone(), self.dir.clone());
        std::thread::spawn(move || {
            let signal = loop {
                match raw::told() {
                    Some(signal) => break signal,
                    None => std::thread::sleep(Duration::from_millis(50)),
                }
            };
            ending.interrupted.store(true, Ordering::SeqCst);
            crate::warn!("\n{signal}: taking everything down");
            ending.take_down();
            let _ = fs::remove_dir_all(&dir);
            crate::warn!("STOPPED by {signal}: the demo's programs and cluster are ended");
            std::process::exit(128 + signal as i32);
        });
        Ok(())
    }

    /// A signal came.
    pub(super) fn interrupted(&self) -> bool {
        self.ending.interrupted.load(Ordering::SeqCst) || raw::told().is_some()
    }

    /// Ends programs and cluster.
    pub(super) fn take_down(&self) {
        self.ending.take_down();
    }

    /// Removes the folder, after [`Self::take_down`].
    pub(super) fn remove(&self) {
        self.take_down();
        let _ = fs::remove_dir_all(&self.dir);
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.take_down();
    }
}

impl Ending {
    fn take_down(&self) {
        // The lock makes a second caller wait for the first.
        let mut down = self.down.lock().unwrap_or_else(PoisonError::into_inner);
        if *down {
            return;
        }
        *down = true;
        if let Some(pid) = *self.helper.lock().unwrap_or_else(PoisonError::into_inner) {
            let _ = kill(Pid::from_raw(pid), Signal::SIGTERM);
        }
        for (pid, start) in self.started.lock().unwrap_or_else(PoisonError::into_inner).drain(..) {
            if start != 0 && procs::start_ticks(pid) == Some(start) {
                // It leads its session and the session's process group.
                let _ = kill(Pid::from_raw(-pid), Signal::SIGKILL);
                let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
            }
        }
        if let Err(e) = self.local.down() {
            crate::warn!("taking the cluster down: {e}");
        }
    }
}

/// Every folder above may be entered by anybody.
fn others_may_enter(dir: &Path) -> bool {
    dir.ancestors().all(|d| fs::metadata(d).is_ok_and(|m| m.permissions().mode() & 0o001 != 0))
}

fn elsewhere(root: &Path) -> PathBuf {
    let dir = Path::new("/var/tmp").join(format!("grid-demo-{}", std::process::id()));
    crate::say!(
        "uid {NOBODY}, as which the demo's programs run, cannot enter {}: this demo lives in {}",
        root.display(),
        dir.display()
    );
    dir
}

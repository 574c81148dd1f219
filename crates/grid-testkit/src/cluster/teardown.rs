//! Taking a cluster down, whatever state a test left it in. What `grid down` leaves behind is found first, then removed
//! here all the same, so that the next test finds the machine as it was.

use super::Cluster;
use crate::leaks::{self, Leaks};
use crate::procs;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

const SETTLE: Duration = Duration::from_secs(8);

impl Cluster {
    /// `grid down --yes`, and then a look at what is left. Called by `drop`; by a test that wants the answer itself.
    fn take_down(&mut self) -> Vec<String> {
        let mut wrong = Vec::new();
        if self.supervisor.as_mut().is_some_and(|(child, _)| matches!(child.try_wait(), Ok(None))) {
            let said = self.grid(&["down", "--yes"]);
            if said.code != 0 {
                wrong.push(format!("grid down --yes: {said:?}"));
            }
        }
        if let Some((mut child, _)) = self.supervisor.take() {
            let ended = Instant::now() + Duration::from_secs(5);
            while matches!(child.try_wait(), Ok(None)) && Instant::now() < ended {
                std::thread::sleep(Duration::from_millis(10));
            }
            if matches!(child.try_wait(), Ok(None)) {
                wrong.push(format!("the supervisor {} did not end", child.id()));
                let _ = child.kill();
                let _ = child.wait();
            }
        }
        self.disk = None;
        wrong.extend(self.left_behind().0);
        wrong
    }

    /// What is on the machine of this cluster.
    pub fn left_behind(&self) -> Leaks {
        let mut leaks = leaks::settle(&self.before, &self.marks, SETTLE);
        let run = self.run_dir();
        if run.as_ref().is_some_and(|dir| dir.exists()) {
            leaks.0.push(format!("folder {}", listed(&run.unwrap_or_default())));
        }
        leaks
    }

    fn run_dir(&self) -> Option<PathBuf> {
        (!self.group.is_empty()).then(|| Path::new("/run").join(&self.group))
    }

    /// Ends and removes, by number and by name, what is the cluster's.
    fn sweep(&self) {
        let begun = Instant::now();
        loop {
            let left: Vec<i32> = procs::all().into_iter().filter(|pid| self.owns(*pid)).collect();
            if left.is_empty() || begun.elapsed() > SETTLE {
                break;
            }
            for pid in left {
                let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        for leak in leaks::settle(&self.before, &self.marks, Duration::ZERO).0 {
            match leak.split_once(' ') {
                Some(("cgroup", path)) => remove_group(Path::new(path)),
                Some(("network", link)) => {
                    let name = link.trim_start_matches("link ");
                    let _ = Command::new("ip").args(["link", "del", name]).output();
                }
                _ => {}
            }
        }
        if let Some(run) = self.run_dir() {
            let _ = std::fs::remove_dir_all(run);
        }
    }

    /// A process that names the cluster, works in its folder or lives in its groups.
    fn owns(&self, pid: i32) -> bool {
        let own = pid as u32 == std::process::id();
        let dir = self.dir.to_string_lossy();
        let words = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        let words = String::from_utf8_lossy(&words);
        let cwd = std::fs::read_link(format!("/proc/{pid}/cwd")).unwrap_or_default();
        let groups = std::fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap_or_default();
        let named = words.contains(&*dir) || cwd.to_string_lossy().contains(&*dir);
        !own && (named || (!self.group.is_empty() && groups.contains(&format!("/{}", self.group))))
    }
}

/// Removes an empty control group with those below it.
fn remove_group(path: &Path) {
    for entry in std::fs::read_dir(path).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            remove_group(&entry.path());
        }
    }
    // A frozen member cannot end.
    let _ = std::fs::write(path.join("freezer.state"), "THAWED");
    let _ = std::fs::remove_dir(path);
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("the cluster's logs:\n{}", self.logs());
        }
        let wrong = self.take_down();
        self.sweep();
        if wrong.is_empty() {
            return;
        }
        let text = wrong.iter().map(|w| format!("left behind: {w}\n")).collect::<String>();
        // A test that fails has an error of its own, which this must not hide.
        if std::thread::panicking() {
            eprintln!("{text}");
        } else {
            panic!("{text}{}", self.logs());
        }
    }
}

/// A folder with what is in it.
fn listed(dir: &Path) -> String {
    let inside = std::fs::read_dir(dir).into_iter().flatten().flatten().map(|entry| match entry.path() {
        path if path.is_dir() => listed(&path),
        path => path.display().to_string(),
    });
    std::iter::once(dir.display().to_string()).chain(inside).collect::<Vec<_>>().join(" ")
}

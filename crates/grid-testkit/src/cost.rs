//! What processes cost: memory and CPU time as the kernel counts them. Owns reading and sampling them; decides nothing.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

/// Numbers of all processes that are there now.
pub fn pids() -> Vec<i32> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect()
}

/// Resident memory in bytes; 0 where there is no such process. Shared pages count in full.
pub fn rss(pid: i32) -> u64 {
    let text = fs::read_to_string(format!("/proc/{pid}/statm")).unwrap_or_default();
    text.split(' ').nth(1).and_then(|n| n.parse::<u64>().ok()).unwrap_or(0) * 4096
}

/// A field of `smaps_rollup` in bytes (`Pss`, `Anonymous`); none where it cannot be read.
pub fn rollup(pid: i32, field: &str) -> Option<u64> {
    let text = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).ok()?;
    let rest = text.lines().find_map(|l| l.strip_prefix(field)?.strip_prefix(':'))?;
    Some(rest.trim().trim_end_matches(" kB").parse::<u64>().ok()? << 10)
}

/// CPU time so far of all its threads in nanoseconds, by the scheduler's own count.
pub fn cpu_ns(pid: i32) -> u64 {
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    let of = |task: fs::DirEntry| {
        let text = fs::read_to_string(task.path().join("schedstat")).ok()?;
        text.split(' ').next()?.parse::<u64>().ok()
    };
    tasks.filter_map(of).sum()
}

/// A process and all that descends from it.
pub fn family(pid: i32) -> Vec<i32> {
    let mut found = vec![pid];
    let mut at = 0;
    while at < found.len() {
        let tasks = fs::read_dir(format!("/proc/{}/task", found[at])).into_iter().flatten().flatten();
        for task in tasks {
            let text = fs::read_to_string(task.path().join("children")).unwrap_or_default();
            found.extend(text.split_whitespace().filter_map(|n| n.parse::<i32>().ok()));
        }
        at += 1;
    }
    found
}

/// Bytes of the files below a folder.
fn stored(dir: &Path) -> u64 {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    entries
        .map(|e| match e.metadata() {
            Ok(m) if m.is_dir() => stored(&e.path()),
            Ok(m) => m.len(),
            Err(_) => 0,
        })
        .sum()
}

/// Memory of a process and its descendants, and bytes of the files in a folder, looked at every few milliseconds.
#[derive(Debug)]
pub struct Sampler {
    stop: Arc<AtomicBool>,
    peak: Arc<(AtomicU64, AtomicU64)>,
    before: u64,
    thread: Option<JoinHandle<()>>,
}

/// What a [`Sampler`] saw, in bytes.
#[derive(Clone, Copy, Debug, Default)]
pub struct Extra {
    /// Most resident memory, beyond what there was at the start.
    pub rss: u64,
    /// Most bytes of files.
    pub files: u64,
}

impl Sampler {
    /// Begins to look.
    pub fn start(pid: i32, dir: PathBuf) -> Self {
        let (stop, peak) = (Arc::new(AtomicBool::new(false)), Arc::new((AtomicU64::new(0), AtomicU64::new(0))));
        let (done, top) = (stop.clone(), peak.clone());
        let look = move || {
            while !done.load(Ordering::Relaxed) {
                top.0.fetch_max(family(pid).into_iter().map(rss).sum(), Ordering::Relaxed);
                top.1.fetch_max(stored(&dir), Ordering::Relaxed);
                std::thread::sleep(Duration::from_millis(5));
            }
        };
        Self { stop, peak, before: family(pid).into_iter().map(rss).sum(), thread: Some(std::thread::spawn(look)) }
    }

    /// Ends it.
    pub fn stop(mut self) -> Extra {
        self.end();
        let (rss, files) = (self.peak.0.load(Ordering::Relaxed), self.peak.1.load(Ordering::Relaxed));
        Extra { rss: rss.saturating_sub(self.before), files }
    }

    fn end(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl Drop for Sampler {
    fn drop(&mut self) {
        self.end();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_has_memory_used_time_and_is_of_its_own_family() {
        let me = std::process::id() as i32;
        assert!(rss(me) > 0 && rollup(me, "Pss").is_some_and(|n| n > 0) && pids().contains(&me));
        assert_eq!(family(me)[0], me);
        assert_eq!((rss(-1), cpu_ns(-1)), (0, 0));
    }

    #[test]
    fn a_sampler_sees_what_comes_and_goes() {
        let dir = tempfile::tempdir().unwrap();
        let sampler = Sampler::start(std::process::id() as i32, dir.path().to_owned());
        fs::write(dir.path().join("file"), [0; 1000]).unwrap();
        std::thread::sleep(Duration::from_millis(100));
        assert_eq!(sampler.stop().files, 1000);
    }
}

//! `make demo-ssh`: a head and two workers that ssh reaches, each with a real sshd in a network namespace of its own, and a
//! pipeline that moves out, on to the other worker, and home, while ssh breaks. The commands are those that a person types;
//! a step that does not come out as it must ends the demo with what was seen.

use crate::lab::Lab;
use crate::local::Local;
use crate::procs::{self, Detached};
use crate::scratch::Scratch;
use grid_types::api::{OffloadView, Status};
use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

/// Everything that is waited for comes within this.
const LIMIT: Duration = Duration::from_secs(60);
/// Counts into a pipe, and ends with 7.
const COUNT: &str = "import sys, time\nfor n in range(int(sys.argv[1])):\n    print(n, flush=True)\n    time.sleep(0.002)\nsys.exit(7)\n";
const LINES: usize = 8000;

/// Runs it; the exit code.
pub fn run() -> u8 {
    let start = Instant::now();
    match told() {
        Ok(()) => {
            crate::say!("OK in {} s.", start.elapsed().as_secs());
            0
        }
        Err(why) => {
            crate::say!("FAILED after {} s: {why}", start.elapsed().as_secs());
            1
        }
    }
}

fn told() -> Result<(), String> {
    crate::criu::usable()?;
    let text = |e: std::io::Error| e.to_string();
    let labs = [Lab::named("gpu1").map_err(text)?, Lab::named("gpu2").map_err(text)?];
    let dir = Scratch::new().map_err(text)?;
    let config = write_config(&dir, &labs).map_err(text)?;
    let demo = Demo { local: Local::of(&dir.join("state"))?, dir, config, labs };
    let outcome = demo.play();
    let down = demo.local.down();
    outcome.and(down)
}

/// One ssh configuration for both, and the cluster's file.
fn write_config(dir: &Path, labs: &[Lab; 2]) -> std::io::Result<String> {
    let read = |lab: &Lab| fs::read_to_string(lab.path("ssh_config"));
    let ssh = dir.join("ssh_config");
    fs::write(&ssh, read(&labs[0])? + &read(&labs[1])?)?;
    let worker = |name: &str| {
        format!(
            "  - {{name: {name}, host: {name}, role: worker, resource_sharing: {{max_share_cpu: 8, max_share_memory_gb: 1}}}}\n"
        )
    };
    let yaml = format!(
        "name: two-machines\nnodes:\n  - {{name: head, role: head, resource_sharing: {{can_share: false}}}}\n{}{}\
         execution: {{engine: ssh, ssh_config: {}, worker_directory: {}}}\n",
        worker("gpu1"),
        worker("gpu2"),
        ssh.display(),
        labs[0].workers().display()
    );
    let file = dir.join("cluster.yaml");
    fs::write(&file, &yaml)?;
    crate::say!("cluster.yaml:\n{yaml}");
    Ok(file.to_string_lossy().into_owned())
}

struct Demo {
    local: Local,
    dir: Scratch,
    config: String,
    labs: [Lab; 2],
}

impl Demo {
    /// Runs a command, shown with what it says.
    fn grid(&self, words: &[&str]) -> Result<(), String> {
        crate::say!("$ grid {}", words.join(" ").replace(&*self.dir.to_string_lossy(), "."));
        let said = self.local.say(words)?;
        said.lines().for_each(|line| crate::say!("{line}"));
        Ok(())
    }

    fn lines(&self) -> usize {
        fs::read_to_string(self.dir.join("out")).map_or(0, |text| text.lines().count())
    }

    fn wait(&self, what: &str, done: impl Fn() -> bool) -> Result<(), String> {
        let begun = Instant::now();
        while !done() {
            if begun.elapsed() > LIMIT {
                return Err(format!("waited for {what}"));
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        Ok(())
    }

    /// So many lines more have come out of the pipe.
    fn goes_on(&self) -> Result<(), String> {
        let from = self.lines();
        self.wait("output", || self.lines() >= (from + 200).min(LINES))?;
        crate::say!("  {} lines came out of the pipe", self.lines());
        Ok(())
    }

    fn play(&self) -> Result<(), String> {
        self.grid(&["up", "--config", &self.config, "--detach"])?;
        for _ in &self.labs {
            self.grid(&["boost", "request", "head", "--cpu", "1", "--memory", "768MiB", "--duration", "10m"])?;
        }
        let (pipeline, pid) = self.start()?;
        let words = pid.to_string();
        self.goes_on()?;
        self.grid(&["offload", "execute", &words])?;
        self.goes_on()?;
        let broken: usize = self.labs.iter().map(Lab::drop_connections).sum();
        crate::say!("-- {broken} connections of ssh are killed; grid dials again --");
        self.goes_on()?;
        self.wait("ssh to be there again", || self.reached() >= self.labs.len() + broken)?;
        self.wait("the workers to speak again", || self.all_speak())?;
        let away: Vec<OffloadView> = self.local.ask(&["offload", "list"])?;
        let there = away.last().map(|o| o.record.destination.to_string()).unwrap_or_default();
        let other = if there == "gpu1" { "gpu2" } else { "gpu1" };
        self.grid(&["offload", "recall", &words, "--to", other])?;
        self.goes_on()?;
        self.grid(&["offload", "recall", &words])?;
        self.wait("its end", || !pipeline.exists())?;
        self.judge()
    }

    /// How often a worker was reached.
    fn reached(&self) -> usize {
        let log =
            |gpu: &str| fs::read_to_string(self.local.state.join(format!("log/reach-{gpu}.log"))).unwrap_or_default();
        ["gpu1", "gpu2"].iter().map(|gpu| log(gpu).matches("is reached at").count()).sum()
    }

    /// Every node was heard of within a second.
    fn all_speak(&self) -> bool {
        let status: Result<Status, String> = self.local.ask(&["status"]);
        status.is_ok_and(|s| s.nodes.iter().all(|n| n.seen.is_some_and(|ago| ago.0 < 1000)))
    }

    /// A pipeline of a shell, and the number of its first program.
    fn start(&self) -> Result<(Detached, i32), String> {
        fs::write(self.dir.join("count.py"), COUNT).map_err(|e| e.to_string())?;
        let script = format!("/usr/bin/python3 count.py {LINES} | cat >out; echo ${{PIPESTATUS[0]}} >status");
        crate::say!("$ python3 count.py {LINES} | cat >out; echo ${{PIPESTATUS[0]}} >status");
        let started = Detached::start(Path::new("/bin/bash"), &["-c", &script], &self.dir);
        let shell = started.map_err(|e| e.to_string())?;
        self.wait("its first lines", || self.lines() > 0)?;
        let is_it = |pid: &i32| {
            let words = fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            let here = fs::read_link(format!("/proc/{pid}/cwd")).is_ok_and(|cwd| cwd == *self.dir);
            here && words.starts_with("/usr/bin/python3\0count.py")
        };
        let pid = procs::all().into_iter().find(is_it).ok_or("the program is not there")?;
        Ok((shell, pid))
    }

    fn judge(&self) -> Result<(), String> {
        let text = fs::read_to_string(self.dir.join("out")).map_err(|e| e.to_string())?;
        let right = text.lines().enumerate().all(|(n, line)| line == n.to_string());
        let status = fs::read_to_string(self.dir.join("status")).unwrap_or_default();
        if !right || self.lines() != LINES || status.trim() != "7" {
            return Err(format!("{} lines, in order: {right}; status {}", self.lines(), status.trim()));
        }
        crate::say!("  {LINES} of {LINES} lines, each once and in order; exit status {}", status.trim());
        Ok(())
    }
}

//! The embedded cluster as a person uses it: through the `grid` program. Owns its command lines, its state's folder and
//! its end; for the demo and the measurements.

use crate::{criu, procs};
use grid_types::api::Reply;
use grid_types::event::EventRecord;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

/// A cluster on this machine, by its state's folder.
#[derive(Clone, Debug)]
pub struct Local {
    grid: PathBuf,
    /// Its state's folder.
    pub state: PathBuf,
}

/// How the kernel knows what belongs to a cluster.
#[derive(Clone, Debug)]
pub struct Names {
    /// Its control groups lie under this path.
    pub cgroup: String,
    /// The head's ends of its network links.
    pub links: Vec<String>,
}

impl Local {
    /// The cluster whose state is, or will be, in `state`. Starts nothing.
    pub fn of(state: &Path) -> Result<Self, String> {
        Ok(Self { grid: procs::program("grid").map_err(|e| e.to_string())?, state: state.to_owned() })
    }

    /// The program that it is driven by.
    pub fn program(&self) -> &Path {
        &self.grid
    }

    /// What `grid ARGS` prints; what it said where it failed.
    pub fn say(&self, args: &[&str]) -> Result<String, String> {
        let out = self.run(args)?;
        if out.status.success() {
            return Ok(String::from_utf8_lossy(&out.stdout).into_owned());
        }
        let said = [out.stdout, out.stderr].map(|text| String::from_utf8_lossy(&text).trim().to_owned()).join(" ");
        Err(format!("grid {}: {}", args.join(" "), said.trim()))
    }

    /// What `grid --output json ARGS` answers.
    pub fn ask<T: DeserializeOwned>(&self, args: &[&str]) -> Result<T, String> {
        let out = self.run(&[&["--output", "json"], args].concat())?;
        let what = format!("grid {}", args.join(" "));
        let reply: Reply<T> = serde_json::from_slice(&out.stdout).map_err(|e| format!("{what}: {e}"))?;
        let error = reply.error.map_or("it answered nothing".to_owned(), |e| e.message);
        reply.ok.ok_or_else(|| format!("{what}: {error}"))
    }

    /// Events of the journal after number `after`.
    pub fn events(&self, after: u64) -> Result<Vec<EventRecord>, String> {
        let out = self.run(&["--output", "json", "events", "--after", &after.to_string()])?;
        let text = String::from_utf8_lossy(&out.stdout).into_owned();
        let line = |l: &str| serde_json::from_str(l).map_err(|e| format!("an event is not understood: {e}: {l}"));
        text.lines().map(line).collect()
    }

    /// The number of the newest event.
    pub fn newest_event(&self) -> Result<u64, String> {
        Ok(self.events(0)?.last().map_or(0, |e| e.seq))
    }

    /// Waits for an event after number `after` that `want` makes something of.
    pub fn await_event<T>(
        &self,
        after: u64,
        limit: Duration,
        what: &str,
        want: impl Fn(&EventRecord) -> Option<T>,
    ) -> Result<T, String> {
        let start = Instant::now();
        loop {
            if let Some(found) = self.events(after)?.iter().find_map(&want) {
                return Ok(found);
            }
            if start.elapsed() > limit {
                return Err(format!("waited {} s for {what}", limit.as_secs()));
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// How the kernel knows what belongs to it; known once it is up.
    pub fn names(&self) -> Result<Names, String> {
        #[derive(Deserialize)]
        struct Node {
            veth_head: String,
        }
        #[derive(Deserialize)]
        struct Plan {
            cgroup: String,
            nodes: Vec<Node>,
        }
        let path = self.state.join("conf/plan.json");
        let said = |e: &dyn std::fmt::Display| format!("{}: {e}", path.display());
        let text = fs::read_to_string(&path).map_err(|e| said(&e))?;
        let plan: Plan = serde_json::from_str(&text).map_err(|e| said(&e))?;
        Ok(Names { cgroup: plan.cgroup, links: plan.nodes.into_iter().map(|n| n.veth_head).collect() })
    }

    /// The process that runs with this file of `conf/`: `hub.json` the head's agent, `head.json` its daemon,
    /// `gpu1.json` a worker's agent.
    pub fn process(&self, conf: &str) -> Result<i32, String> {
        let file = self.state.join("conf").join(conf).to_string_lossy().into_owned();
        let runs_it = |pid: &i32| {
            let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            let words: Vec<_> = line.split(|b| *b == 0).collect();
            words.contains(&b"--config".as_slice()) && words.contains(&file.as_bytes())
        };
        crate::cost::pids().into_iter().find(runs_it).ok_or_else(|| format!("no process runs with {file}"))
    }

    /// Ends it, with what is away in it; nothing where it is not up.
    pub fn down(&self) -> Result<(), String> {
        if !self.state.join("up.pid").exists() {
            return Ok(());
        }
        match self.say(&["down", "--yes"]) {
            Err(e) if e.contains("is up") => Ok(()),
            other => other.map(drop),
        }
    }

    fn run(&self, args: &[&str]) -> Result<Output, String> {
        let mut command = Command::new(&self.grid);
        command.arg("--state").arg(&self.state).args(args).stdin(Stdio::null());
        command.env("GRID_CRIU", criu::path()).env("NO_COLOR", "1").env_remove("GRID_OUTPUT");
        command.output().map_err(|e| format!("{}: {e}", self.grid.display()))
    }
}

//! From `grid stop` to no frozen process of an uncommitted move, with a program in mid-dump: by the agents, by the command,
//! and by the program itself.

use super::cluster::Cluster;
use super::quantile;
use crate::procs::{self, Detached};
use crate::scratch::Scratch;
use grid_types::api::BoostReply;
use serde::Deserialize;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Longer than any dump of the program.
const SECONDS: &str = "6";
const LIMIT: Duration = Duration::from_secs(60);
/// Into the middle of the dump: CRIU starts in some 50 ms, and 1 GiB takes some 600 ms more.
const INTO_IT: Duration = Duration::from_millis(150);

/// What `grid stop` says in JSON, of which only this is needed.
#[derive(Deserialize)]
struct Said {
    answers: Vec<grid_types::stop::StopAnswer>,
    waited: Option<grid_types::Millis>,
}

/// Stops so many moves of a program with so much memory.
pub(super) fn run(memory: &str, times: usize) -> Result<(), String> {
    let cluster = Cluster::up()?;
    let room = ["boost", "request", "head", "--cpu", "1", "--memory", "2GiB", "--duration", "10m"];
    cluster.local.ask::<BoostReply>(&room)?;
    let (mut agents, mut command, mut program) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..3 * times {
        if program.len() == times {
            break;
        }
        let Some((by_agents, by_command, by_program)) = stop_once(&cluster, memory)? else { continue };
        agents.push(by_agents);
        command.push(by_command);
        program.push(by_program);
    }
    let times = program.len();
    crate::say!("== `grid stop` with {memory} in mid-dump until nothing uncommitted is frozen, {times} times (ms)");
    crate::say!("{:<44} {:>8} {:>8}", "", "median", "worst");
    let rows = [
        ("file made to all thawed, by the agents", agents),
        ("the command's own wait for them", command),
        ("command started to the program's next step", program),
    ];
    for (what, values) in rows {
        crate::say!("{what:<44} {:>8.1} {:>8.1}", quantile(&values, 0.5), quantile(&values, 1.0));
    }
    Ok(())
}

/// None where the dump was over before the stop: on a busy machine that happens.
fn stop_once(cluster: &Cluster, memory: &str) -> Result<Option<(f64, f64, f64)>, String> {
    let dir = Scratch::new().map_err(|e| e.to_string())?;
    let stamper = dir.join("stamper");
    std::fs::copy(procs::program("stamper").map_err(|e| e.to_string())?, &stamper).map_err(|e| e.to_string())?;
    let args = ["--memory", memory, "--seconds", SECONDS, "--report", "report"];
    let process = Detached::start(&stamper, &args, &dir).map_err(|e| e.to_string())?;
    let report = dir.join("report");
    procs::wait_count(&report, 300, LIMIT).map_err(|e| e.to_string())?;
    let mut moving = begin(cluster, process.pid)?;
    await_dump(cluster)?;
    let began = SystemTime::now().duration_since(UNIX_EPOCH).map_err(|e| e.to_string())?;
    let said: Said = cluster.local.ask(&["stop"])?;
    let _ = moving.wait();
    let last = procs::wait_done(&report, LIMIT).map_err(|e| e.to_string())?;
    cluster.local.say(&["stop", "--lift"])?;
    let undone: usize = said.answers.iter().map(|a| a.undone.len()).sum();
    if undone != 1 {
        return Ok(None);
    }
    let most = said.answers.iter().filter_map(|a| a.took).max().unwrap_or_default();
    let on_again = u128::from(last.gap.ended_ns).saturating_sub(began.as_nanos());
    Ok(Some((most.0 as f64, said.waited.unwrap_or_default().0 as f64, on_again as f64 / 1e6)))
}

fn begin(cluster: &Cluster, pid: i32) -> Result<Child, String> {
    let mut command = Command::new(cluster.local.program());
    command.arg("--state").arg(&cluster.local.state).args(["offload", "execute", &pid.to_string()]);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command.spawn().map_err(|e| e.to_string())
}

/// Waits until a CRIU of the head's has begun to read memory.
fn await_dump(cluster: &Cluster) -> Result<(), String> {
    let group = format!("/{}/head/criu/", cluster.local.names()?.cgroup);
    let begun = Instant::now();
    let read = |pid: i32, file: &str| std::fs::read_to_string(format!("/proc/{pid}/{file}")).unwrap_or_default();
    let ours = |pid: &i32| read(*pid, "comm").trim() == "criu" && read(*pid, "cgroup").contains(&group);
    while !crate::cost::pids().iter().any(ours) {
        if begun.elapsed() > LIMIT {
            return Err("CRIU did not begin to dump".to_owned());
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    std::thread::sleep(INTO_IT);
    Ok(())
}

//! Downtime and extra memory of moves by grid, beside the same program moved by hand.

use super::cluster::Cluster;
use super::quantile;
use crate::cost::{Extra, Sampler};
use crate::procs::{self, Detached};
use crate::scratch::Scratch;
use grid_types::Bytes;
use grid_types::api::{BoostReply, OffloadView};
use grid_types::event::Event;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

const SCRIPT: &str = "bench/downtime-by-hand";
/// How long `stamper` runs, in seconds of its own clock: longer than the destination takes to make room.
const SECONDS: &str = "8";
const LIMIT: Duration = Duration::from_secs(60);

/// One move by grid, in ms.
pub(super) struct Move {
    pub(super) gap: f64,
    frozen: f64,
    pub(super) stages: String,
    /// Bytes a second while CRIU dumped.
    pub(super) rate: f64,
    extra: Extra,
}

/// Measures each amount of memory; 64 MiB and 1 GiB where none is named.
pub(super) fn run(memory: &[String]) -> Result<(), String> {
    let memory = if memory.is_empty() { vec!["64MiB".to_owned(), "1GiB".to_owned()] } else { memory.to_vec() };
    let runs = super::runs();
    crate::say!("== downtime: the longest gap that the moved program saw (median of {runs}, ms)");
    crate::say!(
        "{:<8} {:>9} {:>9} {:>7}   stages of the median move (room is before the freeze)",
        "memory",
        "by grid",
        "by hand",
        "ratio"
    );
    let mut rows = Vec::new();
    for memory in &memory {
        let (hand, hand_stages) = by_hand(memory, runs, &[])?;
        let cluster = Cluster::up()?;
        let moves = moves(&cluster, memory, "64", runs)?;
        drop(cluster);
        let grid = quantile(&moves.iter().map(|m| m.gap).collect::<Vec<_>>(), 0.5);
        let median = &moves[(moves.len() - 1) / 2];
        crate::say!(
            "{memory:<8} {grid:>9.0} {hand:>9.0} {:>7.2}   grid: {}; of it frozen {:.0} by the head's clock",
            grid / hand,
            median.stages,
            median.frozen
        );
        crate::say!("{:<8} {:>9} {:>9} {:>7}   hand: {hand_stages}", "", "", "", "");
        rows.push((memory, moves));
    }
    crate::say!("\n== extra memory on the head while it moves (the most of {runs}, looked at every 5 ms)");
    crate::say!("{:<8} {:>22} {:>16}", "memory", "resident, agent + CRIU", "files in /run");
    for (memory, moves) in rows {
        let most = |of: fn(&Extra) -> u64| Bytes(moves.iter().map(|m| of(&m.extra)).max().unwrap_or(0));
        crate::say!("{memory:<8} {:>22} {:>16}", most(|e| e.rss), most(|e| e.files));
    }
    Ok(())
}

/// So many moves, the shortest gap first.
pub(super) fn moves(cluster: &Cluster, memory: &str, bits: &str, runs: usize) -> Result<Vec<Move>, String> {
    let mut moves = (0..runs).map(|_| by_grid(cluster, memory, bits)).collect::<Result<Vec<_>, _>>()?;
    moves.sort_by(|a, b| a.gap.total_cmp(&b.gap));
    Ok(moves)
}

/// What the script measures: the gap, and its stages in words.
pub(super) fn by_hand(memory: &str, runs: usize, env: &[(&str, &str)]) -> Result<(f64, String), String> {
    let out = Command::new(SCRIPT)
        .arg(memory)
        .env("RUNS", runs.to_string())
        .envs(env.iter().copied())
        .env("GRID_CRIU", crate::criu::path())
        .env("GRID_BIN", procs::program("stamper").map_err(|e| e.to_string())?.parent().unwrap_or(Path::new(".")))
        .stdin(Stdio::null())
        .output()
        .map_err(|e| format!("{SCRIPT}: {e} (run it in the project's folder)"))?;
    let text = String::from_utf8_lossy(&out.stdout).into_owned();
    let row = text.lines().find_map(|l| l.strip_prefix(memory)).unwrap_or_default();
    let row: Vec<&str> = row.split_whitespace().collect();
    let &[gap, dump, copy, restore] = row.as_slice() else {
        return Err(format!("{SCRIPT}: {text}{}", String::from_utf8_lossy(&out.stderr)));
    };
    let gap = gap.parse().map_err(|_| format!("{SCRIPT}: {text}"))?;
    Ok((gap, format!("dump {dump}, copy {copy}, restore {restore}")))
}

fn by_grid(cluster: &Cluster, memory: &str, bits: &str) -> Result<Move, String> {
    let local = &cluster.local;
    let bytes: Bytes = memory.parse().map_err(|e| format!("{memory}: {e}"))?;
    let room = format!("{}MiB", (bytes.0 >> 20) * 5 / 4 + 128);
    let asked = ["boost", "request", "head", "--cpu", "1", "--memory", &room, "--duration", "5m"];
    let boost = local.ask::<BoostReply>(&asked)?.boost.boost;

    let dir = Scratch::new().map_err(|e| e.to_string())?;
    let program = dir.join("stamper");
    std::fs::copy(procs::program("stamper").map_err(|e| e.to_string())?, &program).map_err(|e| e.to_string())?;
    let args = ["--memory", memory, "--seconds", SECONDS, "--bits", bits, "--report", "report"];
    let process = Detached::start(&program, &args, &dir).map_err(|e| e.to_string())?;
    let report = dir.join("report");
    procs::wait_count(&report, 300, LIMIT).map_err(|e| e.to_string())?;

    let run_dir = format!("/run/{}/head", local.names()?.cgroup);
    let sampler = Sampler::start(local.process("hub.json")?, run_dir.into());
    let moved: OffloadView =
        local.ask(&["offload", "execute", &process.pid.to_string(), "--boost", boost.id.as_str()])?;
    let extra = sampler.stop();
    let figures = moved.record.figures.ok_or_else(|| format!("it did not move: {:?}", moved.record.reasons))?;
    let log = std::fs::read_to_string(cluster.log_of(&boost.lender)).unwrap_or_default();
    let stages = stages(&log, moved.record.id.as_str());
    let dump = figures.dump.unwrap_or_default();
    let last = procs::wait_done(&report, LIMIT).map_err(|e| e.to_string())?;
    // A release before that would recall what is ending.
    local.await_event(0, LIMIT, "its end", |e| match &e.event {
        Event::ProcessEnded { offload, .. } if *offload == moved.record.id => Some(()),
        _ => None,
    })?;
    local.say(&["boost", "release", boost.id.as_str()])?;
    Ok(Move {
        gap: last.gap.ns as f64 / 1e6,
        frozen: figures.downtime.ok_or("its freeze was not measured")?.0 as f64,
        stages: format!("dump {dump}, {stages}"),
        rate: figures.bytes.unwrap_or_default().0 as f64 * 1e3 / dump.0 as f64,
        extra,
    })
}

/// What the destination's agent wrote of its stages: from its last line about this move.
fn stages(log: &str, offload: &str) -> String {
    let line = log.lines().rev().find(|l| l.contains("staged ") && l.contains(&format!(" of {offload}:")));
    line.and_then(|l| l.split_once(&format!(" of {offload}: "))).map_or("stages unknown", |(_, s)| s).to_owned()
}

#[cfg(test)]
mod tests {
    #[test]
    fn stages_are_those_of_the_move_asked_for() {
        let log = "grid agent: staged a of o-8: room 2 ms\ngrid agent: staged b of o-10: room 9 ms, restore 3 ms\n";
        assert_eq!(super::stages(log, "o-8"), "room 2 ms");
        assert_eq!(super::stages(log, "o-10"), "room 9 ms, restore 3 ms");
        assert_eq!(super::stages(log, "o-1"), "stages unknown");
    }
}

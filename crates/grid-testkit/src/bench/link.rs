//! Moves to another machine, directly and by ssh, beside the same program moved by hand over the same ssh, and the speed of the
//! link between by iperf3; over a link as fast as the kernel makes it, and over one of 1 Gbit/s.

use super::cluster::Cluster;
use super::downtime::{self, Move};
use super::quantile;
use crate::lab::Lab;
use grid_types::Bytes;
use grid_types::api::Status;
use grid_types::facts::Way;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// Bytes a second of the slower link.
const SLOW: u64 = 125_000_000;
/// What is in use of each word of a program whose memory compresses.
const BITS: &str = "8";

/// Measures each amount of memory; 64 MiB and 1 GiB where none is named.
pub(super) fn run(memory: &[String]) -> Result<(), String> {
    let memory = if memory.is_empty() { vec!["64MiB".to_owned(), "1GiB".to_owned()] } else { memory.to_vec() };
    let runs = super::runs();
    let cluster = Cluster::beside_ssh("same")?;
    let lab = cluster.lab.as_ref().ok_or("no machine for ssh")?;
    crate::say!("== moves to another machine: the longest gap that the moved program saw (median of {runs}, ms)");
    for (name, rate) in [("veth", None), ("1 Gbit/s", Some(SLOW))] {
        rate.map_or(Ok(()), |rate| lab.set_rate(rate)).map_err(|e| e.to_string())?;
        let link = measured(lab)?;
        crate::say!("\n{name}: {} by iperf3 (one stream, there)", per_second(link));
        crate::say!(
            "{:<22} {:<7} {:>8} {:>8} {:>6} {:>12} {:>8} {:>12}",
            "",
            "link",
            "by grid",
            "by hand",
            "ratio",
            "grid's dump",
            "of link",
            "on the wire"
        );
        let programs = memory.iter().flat_map(|memory| ["64", BITS].map(|bits| Program { memory, bits }));
        let by_hand = programs.map(|program| Ok((program, program.by_hand(lab, runs)?)));
        let by_hand = by_hand.collect::<Result<Vec<_>, String>>()?;
        // Each way for all of them: it takes a while until the other one is taken.
        for (way, name) in [(Way::Direct, "direct"), (Way::Ssh, "by ssh")] {
            take(&cluster, lab, way)?;
            for (program, (hand, _)) in &by_hand {
                row(&cluster, lab, *program, (name, *hand, link), runs)?;
            }
        }
        for (program, (_, stages)) in &by_hand {
            crate::say!("{:<22} by hand: {stages}", program.name());
        }
    }
    Ok(())
}

/// What moves.
#[derive(Clone, Copy)]
struct Program<'a> {
    memory: &'a str,
    bits: &'a str,
}

impl Program<'_> {
    fn name(self) -> String {
        if self.bits == BITS { format!("{}, compressible", self.memory) } else { self.memory.to_owned() }
    }

    fn by_hand(self, lab: &Lab, runs: usize) -> Result<(f64, String), String> {
        let config = lab.path("ssh_config").to_string_lossy().into_owned();
        downtime::by_hand(self.memory, runs, &[("SSH_CONFIG", &config), ("BITS", self.bits)])
    }
}

/// Moves by grid, beside what the same took by hand.
fn row(
    cluster: &Cluster,
    lab: &Lab,
    program: Program<'_>,
    (name, hand, link): (&str, f64, f64),
    runs: usize,
) -> Result<(), String> {
    let sent = || lab.carried().map(|(sent, _)| sent).map_err(|e| e.to_string());
    let before = sent()?;
    let moves: Vec<Move> = downtime::moves(cluster, program.memory, program.bits, runs)?;
    let wire = (sent()? - before) / runs as u64;
    let grid = quantile(&moves.iter().map(|m| m.gap).collect::<Vec<_>>(), 0.5);
    let median = &moves[(moves.len() - 1) / 2];
    crate::say!(
        "{:<22} {name:<7} {grid:>8.0} {hand:>8.0} {:>6.2} {:>12} {:>7.0}% {:>12}   grid: {}",
        program.name(),
        grid / hand,
        per_second(median.rate),
        median.rate * 100.0 / link,
        Bytes(wire),
        median.stages
    );
    Ok(())
}

/// Has the worker go this way from now on.
pub(super) fn take(cluster: &Cluster, lab: &Lab, way: Way) -> Result<(), String> {
    let goes = || {
        let status: Status = cluster.local.ask(&["status"])?;
        let links = status.nodes.into_iter().filter_map(|node| node.facts?.link);
        Ok::<_, String>(links.map(|link| link.way).collect::<Vec<_>>() == [way])
    };
    if goes()? {
        return Ok(());
    }
    lab.set_direct(way == Way::Direct).map_err(|e| e.to_string())?;
    let begun = Instant::now();
    while !goes()? {
        if begun.elapsed() > Duration::from_secs(60) {
            return Err(format!("the worker does not go {way:?}"));
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    Ok(())
}

fn per_second(bytes: f64) -> String {
    format!("{:.0} MB/s", bytes / 1e6)
}

/// Bytes a second from here to there, by iperf3.
pub(super) fn measured(lab: &Lab) -> Result<f64, String> {
    let said = |e: std::io::Error| format!("iperf3: {e} (it is Debian's package of that name)");
    let mut server = Ended(lab.command(&["iperf3", "-s", "-1"]).stdout(Stdio::null()).spawn().map_err(said)?);
    let begun = Instant::now();
    loop {
        let out = Command::new("iperf3").args(["-c", lab.address(), "-t", "3", "-J"]).output().map_err(said)?;
        let text = String::from_utf8_lossy(&out.stdout).into_owned();
        let got: serde_json::Value = serde_json::from_str(&text).unwrap_or_default();
        if let Some(bits) = got["end"]["sum_received"]["bits_per_second"].as_f64().filter(|b| *b > 0.0) {
            return Ok(bits / 8.0);
        }
        // The server does not listen yet.
        if begun.elapsed() > Duration::from_secs(5) || server.0.try_wait().is_ok_and(|ended| ended.is_some()) {
            return Err(format!("iperf3: {text}"));
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// Ended when dropped.
struct Ended(Child);

impl Drop for Ended {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

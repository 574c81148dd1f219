//! What daemon and agents cost while nothing happens, facts of each node each second.

use super::cluster::Cluster;
use crate::cost;
use grid_types::Bytes;
use std::time::{Duration, Instant};

/// The processes of an embedded cluster, by the file of `conf/` that they run with.
const WHO: [(&str, &str); 4] = [
    ("daemon", "head.json"),
    ("head's agent", "hub.json"),
    ("gpu1's agent", "gpu1.json"),
    ("gpu2's agent", "gpu2.json"),
];

/// The same, and what a worker that ssh reaches adds to it at home.
const AT_HOME: [(&str, &str); 4] = [
    ("daemon", "head.json"),
    ("head's agent", "hub.json"),
    ("head's channel", "channel.json"),
    ("what keeps ssh", "reach-gpu1.json"),
];
/// What runs on that worker, by the word that it is started with.
const THERE: [(&str, &str); 3] = [("its supervisor", "node-run"), ("its agent", "agent"), ("its channel", "channel")];

/// Looks for so long at a cluster on this machine.
pub(super) fn run(span: Duration) -> Result<(), String> {
    let cluster = Cluster::up()?;
    let of = |(who, conf)| Ok((who, cluster.local.process(conf)?));
    watch("on one machine", span, WHO.into_iter().map(of))
}

/// Looks for so long at one with a worker that ssh reaches.
pub(super) fn over_ssh(span: Duration) -> Result<(), String> {
    let cluster = Cluster::over_ssh("same")?;
    let folder = cluster.lab.as_ref().map(|lab| lab.workers().display().to_string()).unwrap_or_default();
    let at_home = AT_HOME.into_iter().map(|(who, conf)| Ok((who, cluster.local.process(conf)?)));
    let there = THERE.into_iter().map(|(who, word)| {
        let is_it = |pid: &i32| {
            let words = std::fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            words.contains(&folder) && words.split('\0').nth(1) == Some(word)
        };
        Ok((who, cost::pids().into_iter().find(is_it).ok_or_else(|| format!("no {word} runs on the worker"))?))
    });
    watch("over ssh", span, at_home.chain(there))
}

fn watch<'a>(
    how: &str,
    span: Duration,
    who: impl Iterator<Item = Result<(&'a str, i32), String>>,
) -> Result<(), String> {
    let who = who.collect::<Result<Vec<_>, _>>()?;
    // What starting costs is not idling.
    std::thread::sleep(Duration::from_secs(2));
    let used = || who.iter().map(|(_, pid)| cost::cpu_ns(*pid)).collect::<Vec<_>>();
    let (start, before) = (Instant::now(), used());
    std::thread::sleep(span);
    let (passed, after) = (start.elapsed().as_nanos() as f64, used());
    crate::say!("== idle for {} s, {how}", span.as_secs());
    crate::say!("{:<14} {:>12} {:>9} {:>9} {:>9}", "", "% of a core", "RSS", "PSS", "anonymous");
    for (i, (who, pid)) in who.iter().enumerate() {
        let percent = (after[i] - before[i]) as f64 * 100.0 / passed;
        let known = |field| cost::rollup(*pid, field).map_or("-".to_owned(), |b| Bytes(b).to_string());
        crate::say!(
            "{who:<14} {percent:>12.3} {:>9} {:>9} {:>9}",
            Bytes(cost::rss(*pid)),
            known("Pss"),
            known("Anonymous")
        );
    }
    Ok(())
}

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

/// Looks for so long.
pub(super) fn run(span: Duration) -> Result<(), String> {
    let cluster = Cluster::up()?;
    // What starting costs is not idling.
    std::thread::sleep(Duration::from_secs(2));
    let pids = WHO.map(|(_, conf)| cluster.local.process(conf));
    let used = |pids: &[Result<i32, String>]| {
        pids.iter().map(|p| p.as_ref().map_or(0, |p| cost::cpu_ns(*p))).collect::<Vec<_>>()
    };
    let (start, before) = (Instant::now(), used(&pids));
    std::thread::sleep(span);
    let (passed, after) = (start.elapsed().as_nanos() as f64, used(&pids));
    crate::say!("== idle for {} s", span.as_secs());
    crate::say!("{:<14} {:>12} {:>9} {:>9} {:>9}", "", "% of a core", "RSS", "PSS", "anonymous");
    for (i, (who, _)) in WHO.iter().enumerate() {
        let pid = pids[i].clone()?;
        let percent = (after[i] - before[i]) as f64 * 100.0 / passed;
        let known = |field| cost::rollup(pid, field).map_or("-".to_owned(), |b| Bytes(b).to_string());
        crate::say!(
            "{who:<14} {percent:>12.3} {:>9} {:>9} {:>9}",
            Bytes(cost::rss(pid)),
            known("Pss"),
            known("Anonymous")
        );
    }
    Ok(())
}

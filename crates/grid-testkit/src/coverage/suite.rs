//! A run of many programs, one after the other, on one cluster. Owns the cluster and the order; the verdict on each is
//! [`run`](super::run)'s.

use super::kit::Kit;
use super::list::Program;
use super::run::{Seen, run};
use crate::cluster::Cluster;
use std::time::Instant;

/// What came of one program.
#[derive(Clone, Debug)]
pub struct Outcome<'p> {
    /// Which.
    pub program: &'p Program,
    /// What was seen, or what was not as the list says.
    pub seen: Result<Seen, String>,
}

/// Runs these programs; none where moves cannot be tested here (the reason is printed).
pub fn run_all<'p>(programs: impl IntoIterator<Item = &'p Program>) -> Option<Vec<Outcome<'p>>> {
    let cluster = Cluster::start(1)?;
    let kit = Kit::default();
    cluster.boost("--cpu 2 --memory 4GiB --duration 2h");
    let one = |program: &'p Program| {
        let begun = Instant::now();
        let seen = run(&cluster, &kit, program);
        crate::say!("{:6.1} s  {:<34} {}", begun.elapsed().as_secs_f64(), program.name, said(&seen));
        Outcome { program, seen }
    };
    Some(programs.into_iter().map(one).collect())
}

/// One line of what came of it.
pub fn said(seen: &Result<Seen, String>) -> String {
    match seen {
        Ok(Seen::NotHere(what)) => format!("not run here: needs {what}"),
        Ok(Seen::Moved { out, home: Some(home) }) => format!("moved out ({out} ms) and home ({home} ms), right"),
        Ok(Seen::Moved { out, home: None }) => format!("moved out ({out} ms), ended there, right"),
        Ok(Seen::Refused) => "refused as expected, nothing changed".into(),
        Err(why) => format!("WRONG: {why}"),
    }
}

//! What a look at all processes costs: `scan_cost [--sleepers N] [--rounds R]`.
//!
//! Prints CPU time of this process (user and system) for one cheap pass over N processes and, for comparison, for one
//! deep look; the median and the worst of R rounds. Sleepers are ended when it is done.

use grid_os::proc::ProcRoot;
use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeValLike;
use std::error::Error;
use std::process::{Child, Command, Stdio};

struct Sleepers(Vec<Child>);

impl Drop for Sleepers {
    fn drop(&mut self) {
        for child in &mut self.0 {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

fn option(name: &str, default: usize) -> Result<usize, Box<dyn Error>> {
    let mut arguments = std::env::args().skip_while(|a| a != name);
    match arguments.nth(1) {
        Some(value) => Ok(value.parse()?),
        None => Ok(default),
    }
}

/// CPU microseconds of this process so far.
fn cpu_us() -> Result<i64, Box<dyn Error>> {
    let usage = getrusage(UsageWho::RUSAGE_SELF)?;
    Ok(usage.user_time().num_microseconds() + usage.system_time().num_microseconds())
}

fn report(what: &str, mut costs: Vec<i64>) {
    costs.sort_unstable();
    let ms = |us: Option<&i64>| us.map_or(0.0, |us| *us as f64 / 1000.0);
    println!("{what:<34} median {:6.2} ms   worst {:6.2} ms", ms(costs.get(costs.len() / 2)), ms(costs.last()));
}

fn measure<T>(rounds: usize, mut work: impl FnMut() -> Result<T, Box<dyn Error>>) -> Result<Vec<i64>, Box<dyn Error>> {
    (0..rounds)
        .map(|_| {
            let before = cpu_us()?;
            work()?;
            Ok(cpu_us()? - before)
        })
        .collect()
}

fn main() -> Result<(), Box<dyn Error>> {
    let (sleepers, rounds) = (option("--sleepers", 0)?, option("--rounds", 50)?);
    let mut running = Sleepers(Vec::with_capacity(sleepers));
    for _ in 0..sleepers {
        running.0.push(Command::new("sleep").arg("600").stdin(Stdio::null()).stdout(Stdio::null()).spawn()?);
    }
    let root = ProcRoot::new("/proc");
    let sample = root.all_stats(None)?;
    println!("{} processes, {rounds} rounds", sample.procs.len());
    report("first pass, all processes", measure(rounds, || Ok(root.all_stats(Some(&sample))?))?);
    let me = std::process::id() as i32;
    report("deep look, one process", measure(rounds, || Ok(root.deep(me)?))?);
    Ok(())
}

//! One program of the list on a cluster: started, asked about, moved out and home or refused, and checked.
//!
//! Whatever comes of it, its processes are ended and its folder removed. A move that fails after grid had no objection is
//! told apart from a wrong answer: it may have frozen the program in vain.

use super::asked;
use super::kit::Kit;
use super::list::{Expect, Program};
use crate::cluster::Cluster;
use crate::procs::{self, Detached};
use crate::scratch::Scratch;
use grid_types::api::{ApiError, OffloadView};
use grid_types::event::{ExitStatus, OffloadPhase};
use grid_types::exit::FaultClass;
use grid_types::reason::ReasonCode;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::collections::BTreeSet;
use std::path::Path;
use std::time::{Duration, Instant};

/// Past this a program does not start, go on or end.
const LIMIT: Duration = Duration::from_secs(100);
/// So often an answer that depends on the moment is asked for.
const TRIES: u32 = 10;
const PAUSE: Duration = Duration::from_millis(40);

/// What a run of one program showed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Seen {
    /// This is missing here.
    NotHere(String),
    /// It moved, worked on, and was right in the end.
    Moved {
        /// Milliseconds without it on the way out, as grid measured them.
        out: u64,
        /// And on the way home; none where it had ended before.
        home: Option<u64>,
    },
    /// It was refused as expected and went on undisturbed.
    Refused,
}

/// A program at work.
struct Run<'a> {
    cluster: &'a Cluster,
    kit: &'a Kit,
    program: &'a Program,
    dir: Scratch,
}

/// Runs one program; the error says where it was not as the list says.
pub fn run(cluster: &Cluster, kit: &Kit, program: &Program) -> Result<Seen, String> {
    if let Some(missing) = kit.missing(program) {
        return Ok(Seen::NotHere(missing));
    }
    let dir = Scratch::within(cluster.dir()).map_err(|e| e.to_string())?;
    let run = Run { cluster, kit, program, dir };
    let result = run.start().and_then(|(process, pid)| {
        let result = run.judged(pid);
        drop(process);
        result
    });
    let result = result.map_err(|e| format!("{e}{}", run.last_words()));
    run.end_all();
    result
}

impl Run<'_> {
    fn start(&self) -> Result<(Detached, i32), String> {
        if let Some(setup) = &self.program.setup {
            self.kit.demand(&self.dir, setup, None).map_err(|e| format!("setup: {e}"))?;
        }
        let process = self.kit.start(&self.dir, &self.program.start).map_err(|e| format!("start: {e}"))?;
        self.until("it to be ready", || self.kit.demand(&self.dir, &self.program.ready, None).map(drop))?;
        let Some(who) = &self.program.who else {
            let pid = process.pid;
            return Ok((process, pid));
        };
        let pid = self.until("its number", || {
            let said = self.kit.demand(&self.dir, who, None)?;
            said.parse::<i32>().map_err(|e| format!("{said:?}: {e}"))
        })?;
        Ok((process, pid))
    }

    fn judged(&self, pid: i32) -> Result<Seen, String> {
        // A lock, say, can be held for a moment only: the answer is asked for again before it is called wrong.
        let mut left = TRIES;
        self.until("its answer", || {
            let result = self.explained(pid);
            left -= 1;
            if result.is_ok() || left == 0 { Ok(result) } else { Err(String::new()) }
        })??;
        match self.program.expect {
            Expect::Moves => self.moved(pid),
            Expect::Later | Expect::Refused => self.refused(pid),
        }
    }

    /// grid's answer is the expected one.
    fn explained(&self, pid: i32) -> Result<(), String> {
        let explained = asked::explain(self.cluster, pid).map_err(|e| format!("explain: {}", asked::line(&e)))?;
        let reasons = explained.verdict.cannot.unwrap_or_default();
        let codes: BTreeSet<ReasonCode> = reasons.iter().map(|r| r.code).collect();
        if codes == self.program.codes {
            return Ok(());
        }
        let said: Vec<String> = reasons.iter().map(ToString::to_string).collect();
        Err(format!("explain says {codes:?}, {:?} were expected: {}", self.program.codes, said.join("; ")))
    }

    fn refused(&self, pid: i32) -> Result<Seen, String> {
        let before = identity(pid);
        match asked::execute(self.cluster, pid) {
            Ok(view) => return Err(format!("it moved: {view:?}")),
            Err(e) if e.class != FaultClass::Refused || !e.code.is_some_and(|c| self.program.codes.contains(&c)) => {
                return Err(format!("refused otherwise than expected: {}", asked::line(&e)));
            }
            Err(_) => {}
        }
        if identity(pid) != before {
            return Err(format!("the refusal changed it: {before:?}, now {:?}", identity(pid)));
        }
        self.works(None, None)?;
        self.check()?;
        self.finish()?;
        Ok(Seen::Refused)
    }

    fn moved(&self, pid: i32) -> Result<Seen, String> {
        let failed = |e: &ApiError| format!("FAILED though nothing was said against it: {}", asked::line(e));
        let mut left = TRIES;
        let away = self.until("the move", || {
            left -= 1;
            match asked::execute(self.cluster, pid) {
                Err(e) if left > 0 && is_before_the_freeze(&e) => Err(failed(&e)),
                other => Ok(other.map_err(|e| failed(&e))),
            }
        })??;
        let (id, out) = (away.record.id.as_str(), downtime(&away));
        let there = self.cluster.node_pid(away.record.destination.as_str());
        let mut home = None;
        if self.works(Some(id), Some(there))? {
            let back = self.until("the way home", || match asked::recall(self.cluster, id) {
                Err(e) if is_before_the_freeze(&e) => Err(asked::line(&e)),
                other => Ok(other.map_err(|e| format!("FAILED on the way home: {}", asked::line(&e)))),
            })??;
            home = Some(downtime(&back));
            self.works(Some(id), None)?;
        }
        self.finish()?;
        if let Some(code) = self.program.exit {
            let ended = self.until("its end", || {
                let view = self.view(id)?;
                if view.record.phase == OffloadPhase::Ended {
                    Ok(view)
                } else {
                    Err(format!("{:?}", view.record.phase))
                }
            })?;
            if ended.record.exit != Some(ExitStatus::Code(code)) {
                return Err(format!("it ended with {:?}, {code} was expected", ended.record.exit));
            }
        } else if self.view(id)?.record.phase == OffloadPhase::Ended {
            return Err(format!("it ended: {:?}", self.view(id)?.record.exit));
        }
        self.check()?;
        Ok(Seen::Moved { out, home })
    }

    fn view(&self, id: &str) -> Result<OffloadView, String> {
        self.cluster.offloads().into_iter().find(|o| o.record.id.as_str() == id).ok_or_else(|| format!("no {id}"))
    }

    /// Waits until what it prints has changed twice; false where it has ended by itself meanwhile.
    fn works(&self, id: Option<&str>, there: Option<i32>) -> Result<bool, String> {
        let Some(script) = &self.program.works else { return Ok(true) };
        let place = if there.is_some() { "away" } else { "at home" };
        let mut seen = BTreeSet::new();
        self.until(&format!("it to work on {place}"), || {
            if id.is_some_and(|id| self.view(id).is_ok_and(|v| v.record.phase == OffloadPhase::Ended)) {
                return Ok(false);
            }
            seen.insert(self.kit.demand(&self.dir, script, there)?);
            if seen.len() > 2 { Ok(true) } else { Err(format!("{seen:?}")) }
        })
    }

    /// Ends what is not below the folder's processes; for a program that stays, when all is seen.
    fn finish(&self) -> Result<(), String> {
        let Some(finish) = &self.program.finish else { return Ok(()) };
        self.kit.demand(&self.dir, finish, None).map(drop).map_err(|e| format!("finish: {e}"))
    }

    fn check(&self) -> Result<(), String> {
        let Some(check) = &self.program.check else { return Ok(()) };
        self.kit.demand(&self.dir, check, None).map(drop).map_err(|e| format!("not right in the end: {e}"))
    }

    fn until<T>(&self, what: &str, mut look: impl FnMut() -> Result<T, String>) -> Result<T, String> {
        let begun = Instant::now();
        loop {
            match look() {
                Ok(answer) => return Ok(answer),
                Err(last) if begun.elapsed() > LIMIT => return Err(format!("waited for {what}; last: {last}")),
                Err(_) => std::thread::sleep(PAUSE),
            }
        }
    }

    /// What it wrote last, for an error.
    fn last_words(&self) -> String {
        let tail = |name: &str| {
            let text = std::fs::read(self.dir.join(name)).unwrap_or_default();
            let text = String::from_utf8_lossy(&text[text.len().saturating_sub(600)..]).trim().to_owned();
            if text.is_empty() { text } else { format!("\n    {name}: {text}") }
        };
        format!("{}{}", tail("stdout"), tail("stderr"))
    }

    /// Ends every process that lives in the program's folder, wherever it is by now.
    fn end_all(&self) {
        let begun = Instant::now();
        loop {
            let left: Vec<i32> = procs::all().into_iter().filter(|pid| works_in(*pid, &self.dir)).collect();
            if left.is_empty() || begun.elapsed() > Duration::from_secs(10) {
                return;
            }
            for pid in left {
                let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
            }
            std::thread::sleep(PAUSE);
        }
    }
}

/// Refused by the last look before the freeze, which may find what the look before did not.
fn is_before_the_freeze(error: &ApiError) -> bool {
    use ReasonCode::{Criu, Frozen10, Gate, Link};
    error.class == FaultClass::Refused && !error.code.is_some_and(|c| matches!(c, Criu | Gate | Frozen10 | Link))
}

fn works_in(pid: i32, dir: &Path) -> bool {
    std::fs::read_link(format!("/proc/{pid}/cwd")).is_ok_and(|cwd| cwd.starts_with(dir))
}

/// What a refusal must leave as it is.
fn identity(pid: i32) -> (Option<u64>, String) {
    (procs::start_ticks(pid), std::fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap_or_default())
}

fn downtime(view: &OffloadView) -> u64 {
    view.record.figures.as_ref().and_then(|f| f.downtime).map_or(0, |d| d.0)
}

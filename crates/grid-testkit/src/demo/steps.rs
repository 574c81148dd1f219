//! The seven steps; the fifth is in `terminal.rs`.

use super::kernel::{self, Trace};
use super::place::Place;
use super::programs::{self, MEMORY, Program, Shell};
use super::{config, expect, grouped};
use crate::cost::{Extra, Sampler};
use crate::procs::NOBODY;
use grid_types::api::{BoostView, ExplainReply, NodeView, OffloadView};
use grid_types::event::{Event, ExitStatus, HookOutcome, OffloadPhase};
use grid_types::reason::ReasonCode;
use grid_types::{Bytes, MilliCpu, Resources};
use std::process::{Command, Stdio};
use std::time::Duration;

const REQUEST: &str = "boost request head --cpu 2 --memory 1GiB --duration 2m";
const ASKED: Resources = Resources { cpu: MilliCpu(2000), memory: Bytes(1 << 30), gpu: 0 };
const MOVES_WITHIN: Duration = Duration::from_secs(40);
const ENDS_WITHIN: Duration = Duration::from_secs(90);

/// The programs on the head.
struct Work {
    prover: Program,
    python: Program,
    shell: Shell,
}

/// A boost that is active.
struct Lease {
    view: BoostView,
    /// Its control group.
    group: String,
    /// The newest event before it.
    after: u64,
}

/// All steps, in order.
pub(super) fn run(place: &Place) -> Result<(), String> {
    crate::say!(
        "Changes outside this folder: none that stay (while it runs: control groups, namespaces, two network links)"
    );
    let mut trace = cluster(place)?;
    let work = start(place)?;
    let agent = place.local.process("hub.json")?;
    let names = place.local.names()?;
    let sampler = Sampler::start(agent, format!("/run/{}", names.cgroup).into());
    let lease = boost(place)?;
    let moves = moved(place, &work, &lease)?;
    let extra = sampler.stop();
    trace.add_namespaces(&kernel::members(&names.cgroup));
    compared(place, extra)?;
    super::terminal::run(place, &work.shell, &lease.view.boost.id)?;
    finished(place, &work, &moves)?;
    returned(place, &work, &lease, &trace)
}

fn cluster(place: &Place) -> Result<Trace, String> {
    let file = place.write("cluster.yaml", &config::text(&place.dir))?;
    let file = file.to_string_lossy();
    place.local.say(&["config", "check", &file])?;
    let said = place.local.say(&["up", "--config", &file, "--detach"])?;
    let first = said.lines().next().unwrap_or_default();
    crate::say!("1 cluster   {}", first.trim_start_matches("cluster").trim_start());
    let nodes: Vec<NodeView> = place.local.ask(&["node", "list"])?;
    let seen: Vec<(&str, &str)> = nodes.iter().map(|n| (n.node.as_str(), n.state.as_str())).collect();
    expect("the nodes", &vec![("head", "ready"), ("gpu1", "ready"), ("gpu2", "ready")], &seen)?;
    Trace::note(&place.local, &place.dir)
}

fn start(place: &Place) -> Result<Work, String> {
    let prover = programs::prover(place)?;
    let python = programs::python(place)?;
    let shell = Shell::start(place)?;
    // Older than the configuration's min_age.
    std::thread::sleep(Duration::from_millis(1300));
    crate::say!("2 programs  started by a shell as uid {NOBODY}, not by grid");
    let count = grouped(prover.line()?.count);
    crate::say!("              {:<6} {:<9} {:>8}, at count {count}", prover.pid, "prover", Bytes(prover.memory()));
    let (processes, threads) = python.family();
    crate::say!(
        "              {:<6} {:<9} {:>8}, {processes} processes, {threads} threads",
        python.pid,
        "python3",
        Bytes(python.memory())
    );
    crate::say!("              {:<6} {:<9} interactive, in a terminal", shell.pid, "bash");
    Ok(Work { prover, python, shell })
}

fn boost(place: &Place) -> Result<Lease, String> {
    let after = place.local.newest_event()?;
    crate::say!("3 boost     $ grid {REQUEST}");
    let words: Vec<&str> = REQUEST.split(' ').collect();
    let said = place.local.say(&words)?;
    for line in said.lines().filter(|l| !l.trim_start().starts_with("at end")) {
        crate::say!("            {line}");
    }
    let boosts: Vec<BoostView> = place.local.ask(&["boost", "list"])?;
    let [view] = boosts.as_slice() else { return Err(format!("expected one boost, saw {}", boosts.len())) };
    let group = format!("{}/{}/{}", place.local.names()?.cgroup, view.boost.lender, view.boost.id);
    let (limits, files) = kernel::limits(&group)?;
    crate::say!("            the kernel: {group} has cpu {}, memory {} ({files})", limits.cpu, limits.memory);
    expect("the lease's limits", &ASKED, &limits)?;
    Ok(Lease { view: view.clone(), group, after })
}

/// One program that moved.
struct Moved {
    view: OffloadView,
    line: String,
}

fn moved(place: &Place, work: &Work, lease: &Lease) -> Result<Vec<Moved>, String> {
    let id = &lease.view.boost.id;
    let outcome = place.local.await_event(lease.after, MOVES_WITHIN, "the boost's hook", |e| match &e.event {
        Event::HookFinished { boost, outcome, .. } if boost == id => Some(outcome.clone()),
        _ => None,
    })?;
    let HookOutcome::Done { detail } = outcome else { return Err(format!("the hook: {outcome:?}")) };
    let views: Vec<OffloadView> = place.local.ask(&["offload", "list"])?;
    let mut moves = Vec::new();
    for program in [&work.prover, &work.python] {
        let view = views.iter().find(|v| v.record.process.pid == program.pid);
        let view = view.ok_or_else(|| format!("{} did not move: {detail}{}", program.name, stays(place, lease)))?;
        moves.push(arrived(program, view, lease)?);
    }
    let mut label = "4 moved";
    for one in &moves {
        crate::say!("{label:<11} {}", one.line);
        label = "";
    }
    crate::say!("            stayed: {}", shell_stays(place, &work.shell)?);
    Ok(moves)
}

/// What the plan left at home and why, of our programs.
fn stays(place: &Place, lease: &Lease) -> String {
    let events = place.local.events(lease.after).unwrap_or_default();
    let plans = events.iter().filter_map(|e| match &e.event {
        Event::PlanMade { plan } => Some(plan),
        _ => None,
    });
    let stays = plans.flat_map(|p| &p.stays).map(|s| {
        let reasons: Vec<String> = s.reasons.iter().map(ToString::to_string).collect();
        format!("\n  {} {} stays: {}", s.process, s.title, reasons.join("; "))
    });
    stays.collect()
}

fn arrived(program: &Program, view: &OffloadView, lease: &Lease) -> Result<Moved, String> {
    let (record, lender) = (&view.record, &lease.view.boost.lender);
    expect(&format!("where {} is", program.name), &(OffloadPhase::Away, lender), &(record.phase, &record.destination))?;
    let figures = record.figures.clone().ok_or_else(|| format!("{} has no figures", program.name))?;
    // Alive there: the kernel has it in the lease's group, and it counts on.
    kernel::lives_in(&lease.group, &program.report)
        .ok_or_else(|| format!("{}: no process of {} is it", program.name, lease.group))?;
    let here = program.line()?;
    let line = program.await_count(here.count + 1)?;
    // Its longest silence is the move's if it ended after the move began; an older one bounds it.
    let of_move = line.gap.ended_ns / 1_000_000 >= record.started_at.0;
    let silent = format!("{}{} ms", if of_move { "" } else { "under " }, grouped(line.gap.ns / 1_000_000));
    let counts = if of_move {
        format!("{} -> {}", grouped(line.gap.at.saturating_sub(1)), grouped(line.gap.at))
    } else {
        format!("now at {}", grouped(line.count))
    };
    let line = format!(
        "{:<6} {:<9} {:>8}   silent for {silent:>8}   {counts} on {lender}{}",
        program.pid,
        program.name,
        figures.bytes.map_or("-".to_owned(), |b| b.to_string()),
        if figures.dumped_as_owner == Some(false) { ", dumped by root" } else { "" },
    );
    Ok(Moved { view: view.clone(), line })
}

fn shell_stays(place: &Place, shell: &Shell) -> Result<String, String> {
    let why: ExplainReply = place.local.ask(&["explain", &shell.pid.to_string()])?;
    let reasons = why.verdict.cannot.unwrap_or_default();
    let reason = reasons.iter().find(|r| r.code == ReasonCode::Tty);
    let reason = reason.ok_or_else(|| format!("the shell: expected {}, saw {reasons:?}", ReasonCode::Tty))?;
    if !reason.detail.contains("/dev/pts/") {
        return Err(format!("the shell: expected its terminal's name, saw {:?}", reason.detail));
    }
    shell.answers()?;
    Ok(format!("{} bash, {} [{}]; it answers", shell.pid, reason.detail, reason.code))
}

/// The same program moved without grid, and what moving cost the head.
fn compared(place: &Place, extra: Extra) -> Result<(), String> {
    let script = place.of_project("bench/downtime-by-hand");
    let programs = place.local.program().parent().map(std::path::Path::to_owned).unwrap_or_default();
    let child = Command::new(&script)
        .arg(MEMORY)
        .env("PROGRAM", "prover")
        .env("RUNS", "1")
        .env("GRID_BIN", programs)
        .env("GRID_CRIU", crate::criu::path())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    let child = child.map_err(|e| format!("{}: {e}", script.display()))?;
    place.helper(Some(child.id() as i32));
    let out = child.wait_with_output().map_err(|e| e.to_string())?;
    place.helper(None);
    let text = String::from_utf8_lossy(&out.stdout);
    let row = text.lines().find_map(|l| l.strip_prefix(MEMORY)).map(|l| l.split_whitespace().collect::<Vec<_>>());
    let Some(&[gap, dump, copy, restore]) = row.as_deref() else {
        return Err(format!("moved by hand: {}{}", text.trim(), String::from_utf8_lossy(&out.stderr).trim()));
    };
    let gap: u64 = gap.parse().map_err(|_| format!("moved by hand: {text}"))?;
    crate::say!(
        "            by hand the same prover: {} ms (dump {dump}, copy {copy}, restore {restore})",
        grouped(gap)
    );
    crate::say!(
        "            extra memory on head while moving: {} resident in agent and CRIU, {} in files of /run",
        Bytes(extra.rss),
        Bytes(extra.files)
    );
    Ok(())
}

fn finished(place: &Place, work: &Work, moves: &[Moved]) -> Result<(), String> {
    let want = programs::unmoved_digest(place)?;
    let prover = work.prover.await_done(ENDS_WITHIN)?;
    let python = work.python.await_done(ENDS_WITHIN)?;
    expect("python3's verdict on itself", &None, &python.error)?;
    expect("prover's digest", &Some(want.clone()), &prover.digest)?;
    let mut codes = Vec::new();
    for one in moves {
        let id = one.view.record.id.as_str();
        let after = place.local.await_event(0, ENDS_WITHIN, "the end of a moved program", |e| match &e.event {
            Event::ProcessEnded { offload, .. } if offload.as_str() == id => Some(()),
            _ => None,
        });
        after?;
        let view: OffloadView = place.local.ask(&["offload", "show", id])?;
        expect(&format!("the exit of {}", view.record.title), &Some(ExitStatus::Code(0)), &view.record.exit)?;
        codes.push("0");
    }
    crate::say!(
        "6 finished  digest {} = digest of an unmoved run; python3 found its threads, child and memory right",
        &want[..want.len().min(8)]
    );
    crate::say!("            exit codes {} (grid offload show)", codes.join(" "));
    Ok(())
}

fn returned(place: &Place, work: &Work, lease: &Lease, trace: &Trace) -> Result<(), String> {
    let boost = &lease.view.boost;
    let lent = lent(place)?;
    place.local.say(&["boost", "release", boost.id.as_str()])?;
    let still = self::lent(place)?;
    expect("what is still lent", &Resources::default(), &still)?;
    let back = lent.saturating_sub(&still);
    expect("what was lent", &boost.amount, &lent)?;
    if kernel::limits(&lease.group).is_ok() {
        return Err(format!("the control group {} is still there", lease.group));
    }
    work.shell.answers()?;
    let before = kernel::census();
    place.take_down();
    let left = trace.left(&before);
    let [processes, namespaces, mounts, groups, links] = left.counts;
    crate::say!(
        "7 returned  lent {lent}, back {back}; left: {processes} processes, {namespaces} of {} namespaces, \
         {mounts} mounts, {groups} cgroups, {links} links",
        trace.namespaces()
    );
    expect("what is left", &Vec::<String>::new(), &left.what)
}

/// What all nodes together have lent now, as the daemon says.
fn lent(place: &Place) -> Result<Resources, String> {
    let nodes: Vec<NodeView> = place.local.ask(&["node", "list"])?;
    Ok(nodes.iter().fold(Resources::default(), |sum, n| sum.saturating_add(&n.lent)))
}

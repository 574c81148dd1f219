//! `grid offload list|show|execute|cancel|recall|resolve|auto`.

use super::table::Table;
use super::{Clock, count, held, known, mode, reasons};
use grid_types::api::{AutoView, OffloadView};
use grid_types::event::{Direction, ExitStatus, Listens, MoveFigures, OffloadPhase, OffloadRecord, Resolution};
use grid_types::policy::AutoMode;
use std::fmt::Write;

/// A phase in words.
pub fn phase(phase: OffloadPhase) -> &'static str {
    match phase {
        OffloadPhase::Moving => "moving",
        OffloadPhase::Away => "away",
        OffloadPhase::Returning => "returning",
        OffloadPhase::Onward => "moving on",
        OffloadPhase::Parking => "parking",
        OffloadPhase::Parked => "parked",
        OffloadPhase::Unparking => "unparking",
        OffloadPhase::Home => "home",
        OffloadPhase::Ended => "ended",
        OffloadPhase::Failed => "not moved",
        OffloadPhase::InDoubt => "in doubt",
        OffloadPhase::Lost => "lost",
    }
}

fn who(r: &OffloadRecord) -> String {
    format!("{} {}", r.process, r.title)
}

/// What goes on, for the progress line.
pub fn moving(v: &OffloadView) -> String {
    let r = &v.record;
    match r.phase {
        OffloadPhase::Returning => format!("{}: {} comes home from {}", r.id, who(r), r.destination),
        OffloadPhase::Parking => {
            let node = r.parked.as_ref().map_or(&r.destination, |p| &p.node);
            format!("{}: {} is written to {}'s disk", r.id, who(r), node)
        }
        OffloadPhase::Unparking => format!("{}: {} is read from {}'s disk", r.id, who(r), r.destination),
        _ => format!("{}: {} moves to {}", r.id, who(r), r.onward.as_ref().map_or(&r.destination, |to| &to.node)),
    }
}

/// The same, while it is being cancelled.
pub fn cancelling(v: &OffloadView) -> String {
    format!("{}: {} is being cancelled", v.record.id, who(&v.record))
}

/// How to undo or decide.
pub(super) fn back_with(v: &OffloadView) -> String {
    let r = &v.record;
    match r.phase {
        phase if phase.is_under_way() => format!("grid offload cancel {}", r.id),
        OffloadPhase::InDoubt => format!("grid offload resolve {} --accept-repeat|--drop", r.id),
        OffloadPhase::Away => format!("grid offload recall {}", r.process),
        OffloadPhase::Parked => format!("grid offload unpark {}", r.process),
        _ => "-".to_owned(),
    }
}

/// How a move ended: where it lives, what it cost, and the undo.
pub fn moved(v: &OffloadView) -> String {
    let r = &v.record;
    let why =
        if r.reasons.is_empty() { "no reason is known".to_owned() } else { reasons(&r.reasons[r.reasons.len() - 1..]) };
    match r.phase {
        OffloadPhase::Away if r.direction == Direction::Back => {
            format!("{} did not come home: {why}\nIt runs on {} as before.\n", who(r), r.destination)
        }
        OffloadPhase::Away if r.direction == Direction::Onward => {
            format!("{} did not move on: {why}\nIt runs on {} as before.\n", who(r), r.destination)
        }
        OffloadPhase::Away if r.direction == Direction::Park => {
            format!("{} was not parked: {why}\nIt runs on {} as before.\n", who(r), r.destination)
        }
        OffloadPhase::Failed if r.direction == Direction::Park => {
            format!("{} was not parked: {why}\nIt runs at home, unharmed. Nothing was changed.\n", who(r))
        }
        OffloadPhase::Parked if r.direction == Direction::Unpark => {
            let fix = r.reasons.last().map_or_else(String::new, |reason| {
                format!("  do: {}\n", reason.code.fix().replace("PID", &r.process.to_string()))
            });
            format!("{} was not unparked: {why}\nIt is parked on {} as before.\n{fix}", who(r), r.destination)
        }
        OffloadPhase::Parked => super::park::parked(v),
        OffloadPhase::Away => {
            format!(
                "{} {} to {}: {}\nBring it home: grid offload recall {}\n",
                r.id,
                moved_word(r),
                r.destination,
                figures(r),
                r.process
            )
        }
        OffloadPhase::Home => {
            let pid = r.home_pid.filter(|p| *p != r.process.pid).map_or_else(String::new, |p| format!(" as pid {p}"));
            format!("{} {} is home{pid}: {}\n", r.id, who(r), figures(r))
        }
        OffloadPhase::Failed => {
            format!("{} did not move: {why}\nIt runs at home, unharmed. Nothing was changed.\n", who(r))
        }
        OffloadPhase::Ended => format!("{} {} ended: {}\n", r.id, who(r), exit(r.exit)),
        OffloadPhase::InDoubt => format!(
            "{} {} is IN DOUBT: {why}\nThe copy at home is held. Decide: grid offload resolve {0} --accept-repeat  (work may be done twice)\n   or:   grid offload resolve {0} --drop           (the copy at home goes)\n",
            r.id,
            who(r)
        ),
        OffloadPhase::Lost => format!("{} {} was lost with {}: {why}\n", r.id, who(r), r.destination),
        OffloadPhase::Moving
        | OffloadPhase::Returning
        | OffloadPhase::Onward
        | OffloadPhase::Parking
        | OffloadPhase::Unparking => {
            format!("{} {} is {}.  Follow: grid offload show {0}\n", r.id, who(r), phase(r.phase))
        }
    }
}

fn moved_word(r: &OffloadRecord) -> String {
    format!("{} moved", who(r))
}

/// `3.2 GiB, silent for 3.4 s, 4.1 s in all`, measured.
fn figures(r: &OffloadRecord) -> String {
    let Some(f) = &r.figures else { return "nothing was measured".to_owned() };
    let MoveFigures { downtime, total, bytes, processes, .. } = f;
    let by = match f.dumped_as_owner {
        Some(true) => ", dumped as its owner",
        Some(false) => ", dumped as root",
        None => "",
    };
    let (bytes, silent, total) = (known(*bytes), known(*downtime), known(*total));
    let closed = match f.closed_connections {
        0 => String::new(),
        n => format!(", {} closed", count(n as usize, "connection", "connections")),
    };
    format!(
        "{bytes} in {}, silent for {silent}, {total} in all{by}{closed}",
        count(*processes as usize, "process", "processes")
    )
}

/// Where it began to listen, and what home does about it.
pub(super) fn listens(l: &Listens) -> String {
    match &l.refused {
        None => format!("at {}, and so does its shadow at home", l.at),
        Some(why) => format!("at {}, and nobody at home: {why}; tried again every 5 s", l.at),
    }
}

/// An exit status as a shell's user knows it.
pub(super) fn exit(status: Option<ExitStatus>) -> String {
    match status {
        Some(ExitStatus::Code(code)) => format!("exit status {code}"),
        Some(ExitStatus::Signal(signal)) => match nix::sys::signal::Signal::try_from(signal) {
            Ok(name) => format!("killed by {name}"),
            Err(_) => format!("killed by signal {signal}"),
        },
        None => "exit status -".to_owned(),
    }
}

/// What cancelling would do.
pub fn would_cancel(v: &OffloadView) -> String {
    let r = &v.record;
    if r.phase == OffloadPhase::Unparking {
        let what = format!("{} {} would stay parked on {}, unless it commits first.", r.id, who(r), r.destination);
        return format!("{what}\nNothing was changed.  Do it: grid offload cancel {}\n", r.id);
    }
    let from_home = r.phase == OffloadPhase::Moving || (r.phase == OffloadPhase::Parking && r.boost.is_none());
    let at = if from_home { &r.source } else { &r.destination };
    format!(
        "{} {} would be thawed on {at}, unless it commits first.\nNothing was changed.  Do it: grid offload cancel {0}\n",
        r.id,
        who(r)
    )
}

/// What a decision would do.
pub fn would_resolve(v: &OffloadView, decision: Resolution) -> String {
    let r = &v.record;
    let what = match decision {
        Resolution::AcceptRepeat => "the copy that is held would be thawed; work may be done twice",
        Resolution::Drop => "the copy that is held would go",
    };
    format!("{} {} is in doubt: {what}.\nNothing was changed.\n", r.id, who(r))
}

/// What a recall would do.
pub fn would_recall(v: &OffloadView) -> String {
    let r = &v.record;
    let silent = r.figures.as_ref().and_then(|f| f.downtime);
    let last = silent.map_or_else(String::new, |silent| format!("; its last move was silent for {silent}"));
    let (way, option) = match &r.onward {
        None => ("come home".to_owned(), String::new()),
        Some(to) => (format!("move on to {} in {}", to.node, to.boost), format!(" --to {}", to.node)),
    };
    format!(
        "{} {} would {way} from {}: needs {}{last}.\nNothing was changed.  Do it: grid offload recall {}{option}\n",
        r.id,
        who(r),
        r.destination,
        held(&r.needed),
        r.process
    )
}

/// Everything that was moved.
pub fn offloads(all: &[OffloadView]) -> String {
    let mut table = Table::new(&["OFFLOAD", "PID", "COMMAND", "STATE", "ON", "SINCE", "SILENT", "NEXT"]);
    for v in all.iter().filter(|v| v.record.phase != OffloadPhase::Parked) {
        let r = &v.record;
        let on = match r.phase {
            OffloadPhase::Home | OffloadPhase::Failed => &r.source,
            _ => &r.destination,
        };
        let state = match r.phase {
            OffloadPhase::Ended => exit(r.exit),
            other => phase(other).to_owned(),
        };
        let silent = known(r.figures.as_ref().and_then(|f| f.downtime));
        table.row([
            r.id.to_string(),
            r.process.to_string(),
            r.title.clone(),
            state,
            on.to_string(),
            v.since.to_string(),
            silent,
            back_with(v),
        ]);
    }
    match all {
        [] => "Nothing was moved.  What could: grid offload scan\n".to_owned(),
        _ => table.text() + &super::park::parked_table(all),
    }
}

/// All about one.
pub fn offload(v: &OffloadView, clock: Clock) -> String {
    let r = &v.record;
    let mut out = format!("{} {} {}, since {}\n", r.id, who(r), phase(r.phase), v.since);
    if v.frozen {
        let _ = writeln!(out, "  FROZEN     {} has taken its lease back", r.destination);
    }
    let _ = writeln!(out, "  from       {} (pid {}, {})", r.source, r.process, super::owner(r.uid));
    let there = v.pid_there.map_or_else(String::new, |p| format!(", pid {p} there"));
    let boost = r.boost.as_ref().map_or_else(String::new, |b| format!(" in {b}"));
    let _ = writeln!(out, "  to         {}{boost}{there}; needs {}", r.destination, held(&r.needed));
    if r.phase == OffloadPhase::Parked {
        let _ = writeln!(out, "  parked     {} on the disk of {}", super::park::size(r), r.destination);
    }
    let _ = writeln!(
        out,
        "  started    {}, {}",
        clock.time(r.started_at),
        count(r.attempts as usize, "attempt", "attempts")
    );
    if r.figures.is_some() {
        let _ = writeln!(out, "  last move  {}", figures(r));
    }
    for l in &r.listens {
        let _ = writeln!(out, "  listens    {}", listens(l));
    }
    if r.phase == OffloadPhase::Ended {
        let _ = writeln!(out, "  ended      {}", exit(r.exit));
    }
    if let Some(pid) = r.home_pid {
        let _ = writeln!(out, "  home       pid {pid}");
    }
    for reason in &r.reasons {
        let _ = writeln!(out, "  because    {} [{}]", reason.detail, reason.code);
    }
    match back_with(v).as_str() {
        "-" => out + "Nothing was changed.\n",
        command => out + &format!("Nothing was changed.  Next: {command}\n"),
    }
}

/// After auto-offload was switched.
pub fn auto_set(a: &AutoView, dry_run: bool) -> String {
    let means = match a.mode {
        AutoMode::Off => "it never looks",
        AutoMode::Observe => "it says what it would do and does nothing (grid plan list)",
        AutoMode::On => "new boosts move up to five processes by themselves (grid events --follow)",
    };
    match dry_run {
        true => format!("auto-offload would be `{}`: {means}.\nNothing was changed.\n", mode(a.mode)),
        false => format!("auto-offload is `{}`: {means}.\n", mode(a.mode)),
    }
}

#[cfg(test)]
mod tests {
    use super::super::samples;
    use super::*;
    use grid_types::reason::{Reason, ReasonCode};

    fn with(phase: OffloadPhase, change: impl FnOnce(&mut OffloadRecord)) -> OffloadView {
        let mut v = samples::away();
        v.record.phase = phase;
        change(&mut v.record);
        v
    }

    #[test]
    fn how_moves_end() {
        let reason = |code, text: &str| vec![Reason::new(code, text)];
        let all = [
            samples::away(),
            with(OffloadPhase::Home, |r| r.home_pid = Some(5001)),
            with(OffloadPhase::Away, |r| {
                r.figures = Some(MoveFigures { processes: 2, ..MoveFigures::default() });
            }),
            with(OffloadPhase::Failed, |r| r.reasons = reason(ReasonCode::Criu, "CRIU could not dump: no memory")),
            with(OffloadPhase::Away, |r| {
                r.direction = Direction::Back;
                r.reasons = reason(ReasonCode::NoFit, "home has 1.0 GiB free");
            }),
            with(OffloadPhase::Ended, |r| r.exit = Some(ExitStatus::Signal(9))),
            with(OffloadPhase::InDoubt, |r| r.reasons = reason(ReasonCode::Doubt, "gpu2 was lost after Go")),
        ];
        insta::assert_snapshot!(all.iter().map(moved).collect::<String>());
    }

    #[test]
    fn all_of_them_and_one_in_full() {
        let ended = with(OffloadPhase::Ended, |r| r.exit = Some(ExitStatus::Code(0)));
        insta::assert_snapshot!(offloads(&[samples::away(), ended.clone()]));
        insta::assert_snapshot!(offload(&ended, samples::clock()));
    }
}

//! `grid stop`, `grid keep`.

use super::table::Table;
use super::{Clock, count, known};
use crate::cli::trust::Stopped;
use grid_types::AttemptId;
use grid_types::api::{KeepView, OffloadView};
use grid_types::stop::{Stop, StopView};
use std::fmt::Write;
use std::path::Path;

const LIFT: &str = "Lift it: grid stop --lift\n";

fn by(v: &StopView) -> String {
    v.by.clone().unwrap_or_else(|| format!("uid {}", v.stop.uid))
}

/// `1 move undone in 34 ms`, by the agents' clocks.
fn undone(v: &StopView) -> String {
    match (v.undone(), v.took()) {
        (0, _) => "no move was under way".to_owned(),
        (n, Some(took)) => format!("{} undone, nothing uncommitted frozen after {took}", count(n, "move", "moves")),
        (n, None) => format!("{} being undone", count(n, "move", "moves")),
    }
}

/// One line of `grid status`.
pub(super) fn stop_line(v: &StopView, clock: Clock) -> String {
    format!("STOPPED by {} at {}: {}.  {LIFT}", by(v), clock.time(v.stop.since), undone(v))
}

fn list(attempts: &[&AttemptId]) -> String {
    attempts.iter().map(|a| a.to_string()).collect::<Vec<_>>().join(", ")
}

/// What stopping came to.
pub(crate) fn stopped(s: &Stopped, clock: Clock) -> String {
    let v = &s.view;
    let mut out = match s.waited {
        Some(_) => "grid is stopped: no agent freezes anything.\n".to_owned(),
        None => format!("grid was stopped already, by {} at {}.\n", by(v), clock.time(v.stop.since)),
    };
    let waited = s.waited.map_or(String::new(), |w| format!(" (this command: {w})"));
    let _ = writeln!(out, "  moves      {}{waited}", undone(v));
    let finishing: Vec<_> = v.answers.iter().flat_map(|a| &a.finishing).collect();
    if !finishing.is_empty() {
        let _ = writeln!(out, "  finishing  {}: past the commit, so it goes on", list(&finishing));
    }
    let heeded: Vec<_> = v.answers.iter().map(|a| a.node.to_string()).collect();
    let heeded = if heeded.is_empty() { "nobody: no agent runs".to_owned() } else { heeded.join(", ") };
    let _ = writeln!(out, "  heeded by  {heeded}");
    for node in &s.silent {
        let _ = writeln!(
            out,
            "  SILENT     {node}: has not said that nothing is frozen; where it cannot be reached, it is told as soon as it is"
        );
    }
    if v.answers.is_empty() {
        out.push_str("What dead agents left frozen: grid rescue --dry-run\n");
    }
    if !s.recorded {
        out.push_str("The daemon does not answer; the file is what counts, and it notes it when it is back.\n");
    }
    let _ = writeln!(out, "Moved processes go on. Boosts may be released; recalls are refused [E-STOP].");
    out + LIFT
}

/// What stopping, or lifting, would do.
pub fn would_stop(standing: Option<&Stop>, moving: Option<&[OffloadView]>, lift: bool, file: &Path) -> String {
    let at = file.display();
    let mut out = match (standing, lift) {
        (Some(stop), false) => format!("It is stopped already ({}).\n", stop.file.display()),
        (Some(stop), true) => format!("{} would be removed: processes could move again.\n", stop.file.display()),
        (None, true) => "It is not stopped.\n".to_owned(),
        (None, false) => format!("{at} would be made: every agent undoes what is not past its commit.\n"),
    };
    match moving {
        _ if lift || standing.is_some() => {}
        None => out.push_str("What is under way cannot be told: the daemon does not answer.\n"),
        Some([]) => out.push_str("No move of yours is under way.\n"),
        Some(all) => {
            for v in all {
                let r = &v.record;
                let _ =
                    writeln!(out, "  {} {} {} is under way: undone unless it commits first", r.id, r.process, r.title);
            }
        }
    }
    out + "Nothing was changed.\n"
}

/// Processes that are kept.
pub fn keeps(all: &[KeepView], clock: Clock) -> String {
    if all.is_empty() {
        return "Nothing is kept.  Keep a process where it is: grid keep PID\n".to_owned();
    }
    let mut table = Table::new(&["PID", "COMMAND", "KEPT SINCE", "ENDS IN"]);
    for k in all {
        let ends = k.ends_in.map_or("its end".to_owned(), |ms| ms.to_string());
        table.row([k.keep.process.to_string(), k.keep.title.clone(), clock.time(k.keep.since), ends]);
    }
    table.text() + "Nothing was changed.  Let one go: grid keep --drop PID\n"
}

/// One process is kept, or no longer, or would be.
pub fn kept(k: &KeepView, dropped: bool, dry_run: bool) -> String {
    let who = format!("{} {}", k.keep.process, k.keep.title);
    let span = k.ends_in.map_or("until it ends".to_owned(), |ms| format!("for {}", known(Some(ms))));
    match (dropped, dry_run) {
        (false, false) => {
            format!("{who} is kept where it is {span} [E-KEEP].\nLet it go: grid keep --drop {}\n", k.keep.process)
        }
        (false, true) => format!("{who} would be kept where it is {span}. Nothing was changed.\n"),
        (true, false) => format!("{who} is kept no longer: grid may move it again.\n"),
        (true, true) => format!("{who} would be kept no longer. Nothing was changed.\n"),
    }
}

#[cfg(test)]
mod tests {
    use super::super::samples;
    use super::*;
    use grid_types::event::Keep;
    use grid_types::stop::StopAnswer;
    use grid_types::units::{BootMs, Millis};

    fn order() -> Stopped {
        let stop = Stop { file: "/s/control/stop".into(), uid: 0, since: samples::clock().now, mark: "1".into() };
        let answer = |node: &str, undone: &[&str], took| StopAnswer {
            node: node.into(),
            mark: "1".into(),
            undone: undone.iter().map(|a| AttemptId::from(*a)).collect(),
            finishing: vec![],
            took,
        };
        let mut gpu1 = answer("gpu1", &[], Some(Millis(2)));
        gpu1.finishing = vec!["o-9.2".into()];
        let answers = vec![gpu1, answer("head", &["o-12.1"], Some(Millis(34)))];
        let view = StopView { stop, by: Some("root".into()), answers };
        Stopped { view, silent: Vec::new(), waited: Some(Millis(41)), recorded: true }
    }

    #[test]
    fn stopping_says_what_was_undone_and_how_long_it_took() {
        insta::assert_snapshot!(stopped(&order(), samples::clock()));
    }

    #[test]
    fn who_has_not_answered_is_named() {
        let mut s = order();
        s.silent = vec!["gpu2".into()];
        s.recorded = false;
        s.view.answers[1].took = None;
        s.waited = None;
        insta::assert_snapshot!(stopped(&s, samples::clock()));
        s.view.answers.clear();
        insta::assert_snapshot!(stopped(&s, samples::clock()));
    }

    #[test]
    fn what_is_kept_says_until_when() {
        let process = samples::away().record.process;
        let keep = Keep {
            process,
            title: "python3 prep.py".into(),
            uid: 1000,
            until: Some(BootMs(7_200_000)),
            since: samples::clock().now,
        };
        let view = KeepView { keep, ends_in: Some(Millis(7_200_000)) };
        let forever = KeepView { ends_in: None, ..view.clone() };
        let all = [kept(&view, false, false), kept(&forever, false, true), kept(&view, true, false)];
        insta::assert_snapshot!(
            all.join("\n") + "\n" + &keeps(&[view, forever], samples::clock()) + &keeps(&[], samples::clock())
        );
    }
}

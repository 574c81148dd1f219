//! Asking the daemon in a few steps: ids as people give them, and moves until they settle.

use super::client::{Answer, Client};
use super::failure::Failure;
use super::output::Progress;
use grid_types::api::OffloadView;
use grid_types::event::OffloadPhase;
use grid_types::exit::FaultClass;
use grid_types::reason::ReasonCode;
use std::time::{Duration, Instant};

/// A move that takes longer than this shows that it is going on.
const QUIET_FOR: Duration = Duration::from_secs(1);

/// An id, a prefix or `last`: letters, digits and dashes, so that it can stand in a path.
pub(super) fn id(text: &str) -> Result<&str, Failure> {
    let sound =
        !text.is_empty() && text.len() <= 64 && text.chars().all(|c| c.is_ascii_alphanumeric() || c == '-' || c == '_');
    if sound {
        Ok(text)
    } else {
        Err(Failure::usage(format!("{text:?} is not an id"))
            .hint("ids look like b-7k2, o-19, p-52; `last` is the newest"))
    }
}

/// [`id`] of a boost, among the words of a command.
pub(super) fn boost_id(text: &str) -> Result<String, String> {
    id(text).map(str::to_owned).map_err(|e| format!("{e}: ids of boosts look like b-7k2; `last` is the newest"))
}

/// The id of an offload that is given by its id, or by its process's number at home.
pub(super) async fn offload_id(client: &Client, text: &str) -> Result<String, Failure> {
    let Ok(pid) = text.parse::<i32>() else { return id(text).map(str::to_owned) };
    let all: Answer<Vec<OffloadView>> = client.get("/v1/offloads").await?;
    let found = of_pid(&all.ok, pid);
    found.map(|v| v.record.id.to_string()).ok_or_else(|| {
        Failure::new(FaultClass::NotFound, format!("no offload of process {pid}"))
            .hint("what was moved: grid offload list")
    })
}

/// The number of a process, or what can be an offload's id, among the words of a command.
pub(super) fn pid_or_offload(text: &str) -> Result<String, String> {
    match text.parse::<i32>() {
        Ok(1..) => Ok(text.to_owned()),
        Err(_) if text == "last" || text.starts_with("o-") => id(text).map(str::to_owned).map_err(|e| e.to_string()),
        Ok(_) | Err(_) => Err("neither the number of a process nor an id such as o-19".to_owned()),
    }
}

/// The number at home of a process that is given by it, or by the offload from which it has come home.
pub(super) async fn pid_at_home(client: &Client, text: &str) -> Result<i32, Failure> {
    if let Ok(pid) = text.parse() {
        return Ok(pid);
    }
    let view: Answer<OffloadView> = client.get(&format!("/v1/offloads/{}", id(text)?)).await?;
    let record = view.ok.record;
    if record.phase.is_guest() || record.phase == OffloadPhase::Home {
        return Ok(record.process.pid);
    }
    // Its number may be another process's by now.
    let what = format!("offload {} is {}: which process is meant? Nothing was changed.", record.id, record.phase);
    Err(Failure::new(FaultClass::Conflict, what).hint("grid offload execute PID"))
}

/// The offload of a process: one that is not over if there is one, else the newest. One that failed left it where it was.
fn of_pid(all: &[OffloadView], pid: i32) -> Option<&OffloadView> {
    all.iter()
        .filter(|v| v.record.process.pid == pid || v.record.home_pid == Some(pid))
        .max_by_key(|v| (v.record.phase.is_guest(), v.record.phase != OffloadPhase::Failed, v.record.started_at))
}

/// Waits until a move is over, and shows on a terminal that it goes on.
pub(super) async fn settle(client: &Client, id: &str, what: &str) -> Result<Answer<OffloadView>, Failure> {
    let begun = Instant::now();
    let mut progress = Progress::default();
    let path = format!("/v1/offloads/{id}?settled");
    let settled = client.wait(&path);
    tokio::pin!(settled);
    let mut ticks = tokio::time::interval_at(tokio::time::Instant::now() + QUIET_FOR, QUIET_FOR);
    loop {
        tokio::select! {
            answer = &mut settled => return answer,
            _ = ticks.tick() => progress.draw(&format!("{what}, {} s", begun.elapsed().as_secs())),
        }
    }
}

/// The exit code of a move that was waited for; `want` is where it should be now.
pub(super) fn outcome(view: &OffloadView, want: &[OffloadPhase]) -> Result<(), Failure> {
    let record = &view.record;
    if want.contains(&record.phase) {
        return Ok(());
    }
    Err(Failure::shown(match record.phase {
        OffloadPhase::InDoubt => FaultClass::InDoubt,
        OffloadPhase::Lost => FaultClass::Unreachable,
        _ => match record.reasons.last().map(|r| r.code) {
            Some(ReasonCode::Link | ReasonCode::Silent) => FaultClass::Unreachable,
            Some(ReasonCode::Changed) => FaultClass::Conflict,
            Some(ReasonCode::NoFit | ReasonCode::Split) => FaultClass::NoCapacity,
            _ => FaultClass::Refused,
        },
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::render::samples;

    #[test]
    fn an_id_cannot_lead_out_of_its_path() {
        assert_eq!(id("b-7k2"), Ok("b-7k2"));
        for text in ["", "a/b", "../x", "a?b", "a b", "ü"] {
            assert!(id(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_process_that_is_away_comes_before_its_older_moves() {
        let mut old = samples::away();
        old.record.id = "o-3".into();
        old.record.phase = OffloadPhase::Home;
        old.record.started_at.0 += 1;
        let all = [samples::away(), old];
        assert_eq!(of_pid(&all, 4711).map(|v| v.record.id.as_str()), Some("o-19"));
        assert!(of_pid(&all, 1).is_none());
    }

    #[test]
    fn a_move_that_did_not_happen_has_the_class_of_its_reason() {
        let mut view = samples::away();
        assert!(outcome(&view, &[OffloadPhase::Away]).is_ok());
        view.record.phase = OffloadPhase::InDoubt;
        assert_eq!(outcome(&view, &[OffloadPhase::Away]).unwrap_err().error.class, FaultClass::InDoubt);
        view.record.phase = OffloadPhase::Failed;
        assert_eq!(outcome(&view, &[OffloadPhase::Away]).unwrap_err().error.class, FaultClass::Refused);
    }
}

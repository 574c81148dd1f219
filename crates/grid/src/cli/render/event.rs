//! One line for each event.

use super::boost::end_reason;
use super::offload::{exit, listens};
use super::{Clock, held, known, mode, reasons};
use grid_types::event::{Actor, Event, EventRecord, HookOutcome, KeepEnd, MoveFigures, Resolution};
use grid_types::plan::PlanOutcome;
use grid_types::units::UnixMs;

/// `57  12:04:12  b-7k2 granted by gpu2   [alice, pts/3]`.
pub fn event(r: &EventRecord, clock: Clock) -> String {
    // A plan's own events name it already.
    let of_plan = matches!(r.event, Event::PlanMade { .. } | Event::PlanSettled { .. });
    let plan = r.plan.as_ref().filter(|_| !of_plan).map_or(String::new(), |p| format!(", plan {p}"));
    format!("{:>5}  {}  {}  [{}{plan}]", r.seq, clock.time(r.at), what(r, clock), actor(&r.actor))
}

pub(super) fn actor(a: &Actor) -> String {
    match a {
        Actor::User { uid, name, tty } => {
            let name = name.clone().unwrap_or_else(|| format!("uid {uid}"));
            tty.as_ref().map_or_else(|| name.clone(), |t| format!("{name}, {t}"))
        }
        Actor::Rule { name } => format!("rule {name}"),
        Actor::Lender { node } => format!("the owner of {node}"),
        Actor::Daemon => "daemon".to_owned(),
    }
}

fn what(r: &EventRecord, clock: Clock) -> String {
    match &r.event {
        Event::DaemonStarted { version } => format!("daemon {version} started"),
        Event::NodeSeen { node } => format!("{node} is heard of"),
        Event::NodeSilent { node } => format!("{node} is silent"),
        Event::NodeAdded { node, host } if node.as_str() == host => format!("{node} is added"),
        Event::NodeAdded { node, host } => format!("{node} ({host}) is added"),
        Event::NodeRemoved { node, left: None } => format!("{node} is removed; nothing of grid runs there"),
        Event::NodeRemoved { node, left: Some(why) } => {
            format!("{node} is removed; what grid has there could not be ended: {why}")
        }
        Event::NodeCordoned { node } => format!("{node} is cordoned: it takes nothing new"),
        Event::NodeUncordoned { node } => format!("{node} may take something new"),
        Event::LendingClosed { node, closed } => {
            format!("{node} lends nothing new: {}", grid_core::lend::closed(closed).detail)
        }
        Event::LendingOpen { node } => format!("{node} lends again"),
        Event::PlanMade { plan } => format!("{} made, {} to move", plan.id, plan.steps.len()),
        Event::PlanSettled { plan, outcome } => format!("{plan} {}", plan_outcome(outcome)),
        Event::AutoModeSet { mode: to } => format!("auto-offload is `{}`", mode(*to)),
        Event::HookFinished { boost, hook, outcome, took } => {
            format!("{boost} hook {hook} {}, {took}", hook_outcome(outcome))
        }
        Event::Stopped { stop } => format!("STOPPED by {}: nothing is frozen any more", stop.file.display()),
        Event::StopLifted {} => "the stop is lifted".to_owned(),
        Event::PressureSkipped { detail, why } => format!("{detail}, nothing done: {why}"),
        Event::KeepSet { keep: k } => {
            let until = k.until.map(|until| UnixMs(r.at.0 + until.0.saturating_sub(r.boot_at.0)));
            let until = until.map_or("its end".to_owned(), |until| clock.time(until));
            format!("{} {} is kept until {until}", k.process, k.title)
        }
        Event::KeepDropped { process, why } => {
            let why = match why {
                KeepEnd::Dropped => "let go",
                KeepEnd::Expired => "its time is over",
                KeepEnd::Ended => "it ended",
            };
            format!("{process} is kept no longer: {why}")
        }
        other => boost_event(other).unwrap_or_else(|| offload_event(other)),
    }
}

fn boost_event(e: &Event) -> Option<String> {
    Some(match e {
        Event::LeaseGranted { boost: b } => format!("{} granted by {}: {}", b.id, b.lender, held(&b.amount)),
        Event::BoostActivated { boost, enforced } => format!("{boost} active: {enforced}"),
        Event::BoostFailed { boost, detail } => format!("{boost} failed: {detail}"),
        Event::BoostExtended { boost, epoch, .. } => format!("{boost} extended, epoch {epoch}"),
        Event::BoostEnding { boost, why } => format!("{boost} is ending: {}", end_reason(*why)),
        Event::BoostOverdue { boost, detail } => format!("{boost} is OVERDUE: {detail}"),
        Event::GuestsFrozen { boost, guests, took, why } => {
            let why = why.as_ref().map_or(String::new(), |why| format!("; {why}"));
            format!("{boost} is taken back: {guests} frozen within {took}{why}")
        }
        Event::GuestsThawed { boost, guests, took: Some(took) } => format!("{boost}: {guests} thawed within {took}"),
        Event::GuestsThawed { boost, guests, took: None } => format!("{boost}: {guests} run there again"),
        Event::BoostEnded { boost, why } => format!("{boost} ended: {}; its capacity went back", end_reason(*why)),
        Event::BoostRefused { borrower, amount, reasons: why } => {
            format!("boost of {} for {borrower} refused: {}", held(amount), reasons(why))
        }
        _ => return None,
    })
}

fn offload_event(e: &Event) -> String {
    match e {
        Event::OffloadStarted { offload, process, title, destination, park: true, .. } => {
            format!("{offload} {process} {title} is being parked on {destination}")
        }
        Event::ParkStarted { offload, node, .. } => format!("{offload} is being parked on {node}"),
        Event::Parked { offload, figures: f, .. } => format!("{offload} is parked, {} free", known(f.bytes)),
        Event::ParkFailed { offload, reason, .. } => {
            format!("{offload} was not parked: {} [{}]", reason.detail, reason.code)
        }
        Event::UnparkStarted { offload, to: Some(to), .. } => {
            format!("{offload} is being unparked to {} in {}", to.node, to.boost)
        }
        Event::UnparkStarted { offload, .. } => format!("{offload} is being unparked"),
        Event::Unparked { offload, .. } => format!("{offload} is unparked and runs"),
        Event::UnparkFailed { offload, reason, .. } => {
            format!("{offload} was not unparked: {} [{}]", reason.detail, reason.code)
        }
        Event::OffloadStarted { offload, process, title, destination, .. } => {
            format!("{offload} {process} {title} moves to {destination}")
        }
        Event::OffloadMoved { offload, figures: f, .. } => format!("{offload} moved, {}", figures(f)),
        Event::OffloadListens { offload, all } if all.is_empty() => format!("{offload} listens nowhere new any more"),
        Event::OffloadListens { offload, all } => {
            format!("{offload} began to listen {}", all.iter().map(listens).collect::<Vec<_>>().join("; "))
        }
        Event::OffloadFailed { offload, reason, .. } => {
            format!("{offload} did not move: {} [{}]", reason.detail, reason.code)
        }
        Event::RecallStarted { offload, .. } => format!("{offload} comes home"),
        Event::Recalled { offload, pid, figures: f, .. } => format!("{offload} is home as {pid}, {}", figures(f)),
        Event::RecallFailed { offload, reason, .. } => {
            format!("{offload} did not come home: {} [{}]", reason.detail, reason.code)
        }
        Event::OnwardStarted { offload, destination, boost, .. } => {
            format!("{offload} moves on to {destination} in {boost}")
        }
        Event::OnwardMoved { offload, figures: f, .. } => format!("{offload} moved on, {}", figures(f)),
        Event::OnwardFailed { offload, reason, .. } => {
            format!("{offload} did not move on: {} [{}]", reason.detail, reason.code)
        }
        Event::ProcessEnded { offload, status: None } => {
            format!("{offload} is lost: nobody can tell how far it came")
        }
        Event::ProcessEnded { offload, status } => format!("{offload} ended: {}", exit(*status)),
        Event::OffloadInDoubt { offload, detail, .. } => format!("{offload} is IN DOUBT: {detail}"),
        Event::OffloadResolved { offload, decision } => match decision {
            Resolution::AcceptRepeat => format!("{offload} resolved: thawed at home, work may be repeated"),
            Resolution::Drop => format!("{offload} resolved: the copy at home goes"),
        },
        // Named above; a new kind of event is shown by its name until it has words of its own.
        other => {
            serde_json::to_value(other).ok().and_then(|v| Some(v.get("type")?.as_str()?.to_owned())).unwrap_or_default()
        }
    }
}

fn figures(f: &MoveFigures) -> String {
    format!("{}, silent {}", known(f.bytes), known(f.downtime))
}

fn plan_outcome(o: &PlanOutcome) -> String {
    match o {
        PlanOutcome::Made => "made".to_owned(),
        PlanOutcome::Observed => "observed, not done".to_owned(),
        PlanOutcome::Cleared(after) => format!("was not needed: the pressure cleared by itself after {after}"),
        PlanOutcome::Applied => "done".to_owned(),
        PlanOutcome::Refused(why) => format!("refused: {why}"),
    }
}

fn hook_outcome(o: &HookOutcome) -> String {
    match o {
        HookOutcome::Done { detail } => format!("done: {detail}"),
        HookOutcome::Failed { detail } => format!("failed: {detail}"),
        HookOutcome::Panicked => "panicked".to_owned(),
        HookOutcome::TimedOut => "did not return in time".to_owned(),
        HookOutcome::Skipped { detail } => format!("skipped: {detail}"),
    }
}

#[cfg(test)]
mod tests {
    use super::super::samples;
    use super::*;
    use grid_types::event::ExitStatus;

    #[test]
    fn each_says_what_and_who() {
        let alice = Actor::User { uid: 1000, name: Some("alice".into()), tty: Some("pts/3".into()) };
        let boost = samples::boost().boost;
        let figures = samples::away().record.figures.unwrap_or_default();
        let events = [
            (alice, Event::LeaseGranted { boost }),
            (
                Actor::Rule { name: "auto_offload".into() },
                Event::OffloadMoved { offload: "o-19".into(), attempt: "a-1".into(), figures },
            ),
            (Actor::Daemon, Event::ProcessEnded { offload: "o-19".into(), status: Some(ExitStatus::Code(0)) }),
        ];
        let clock = samples::clock();
        let line = |(i, (actor, event)): (usize, (Actor, Event))| {
            let (at, boot_at) = (clock.now, clock.boot);
            let plan = (i == 1).then(|| "p-52".into());
            let boot_id = "x".into();
            super::event(&EventRecord { seq: i as u64 + 1, at, boot_at, boot_id, actor, plan, event }, clock)
        };
        let text: Vec<_> = events.into_iter().enumerate().map(line).collect();
        insta::assert_snapshot!(text.join("\n"));
    }
}

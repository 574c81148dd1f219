//! `grid offload …`.

use super::args::OffloadCommand;
use super::ask;
use super::client::{Answer, Client};
use super::commands::{explain_pid, lines, printed, reason_code};
use super::failure::Failure;
use super::output::{Format, Printed};
use super::render::{self, Clock};
use grid_types::api::{
    AutoAsk, AutoView, DryRun, OffloadAsk, OffloadReply, OffloadView, ParkAsk, ParkReply, RecallAsk, ResolveAsk,
    ScanReply, UnparkAsk,
};
use grid_types::event::{Direction, OffloadPhase, Resolution};

pub(super) async fn run(client: &Client, command: &OffloadCommand, format: Format) -> Result<Printed, Failure> {
    match command {
        OffloadCommand::Scan { explain: Some(pid), .. } => explain_pid(client, *pid).await,
        OffloadCommand::Scan { code, all, .. } => scan(client, *all, code.as_deref()).await,
        OffloadCommand::Execute { pid, to, boost, close_tcp, dry_run } => {
            let (to, boost) = (to.clone(), boost.clone());
            let ask = OffloadAsk {
                pid: ask::pid_at_home(client, pid).await?,
                to,
                boost,
                close_tcp: *close_tcp,
                dry_run: *dry_run,
            };
            execute(client, ask, format).await
        }
        OffloadCommand::List => {
            let answer: Answer<Vec<OffloadView>> = client.get("/v1/offloads").await?;
            Ok(printed(answer, |o| render::offloads(o), |o| lines(o, |o| o.record.id.to_string())))
        }
        OffloadCommand::Show { id } => show(client, id).await,
        OffloadCommand::Cancel { id, dry_run } => cancel(client, id, *dry_run, format).await,
        OffloadCommand::Recall { id, to, close_tcp, dry_run } => {
            let ask = RecallAsk { to: to.clone(), close_tcp: *close_tcp, dry_run: *dry_run };
            recall(client, id, ask, format).await
        }
        OffloadCommand::Park { id, on, dry_run } => {
            park(client, ParkAsk { what: id.clone(), on: on.clone(), dry_run: *dry_run }, format).await
        }
        OffloadCommand::Unpark { id, to, dry_run } => {
            unpark(client, id, UnparkAsk { to: to.clone(), dry_run: *dry_run, ..UnparkAsk::default() }, format).await
        }
        OffloadCommand::Resolve { id, accept_repeat, gone, dry_run, .. } => {
            let decision = if *accept_repeat { Resolution::AcceptRepeat } else { Resolution::Drop };
            resolve(client, id, ResolveAsk { decision, gone: *gone, dry_run: *dry_run }).await
        }
        OffloadCommand::Auto { mode, dry_run } => {
            let ask = AutoAsk { mode: (*mode).into(), dry_run: *dry_run };
            let answer: Answer<AutoView> = client.post("/v1/auto", &ask).await?;
            Ok(printed(answer, |a| render::auto_set(a, *dry_run), |a| render::mode(a.mode).to_owned()))
        }
    }
}

async fn scan(client: &Client, all: bool, code: Option<&str>) -> Result<Printed, Failure> {
    let code = code.map(reason_code).transpose()?;
    // Who has an obstacle shows only from close by, also of what grid would not choose.
    let path = if code.is_some() { "/v1/scan?closer" } else { "/v1/scan" };
    let answer: Answer<ScanReply> = client.get(path).await?;
    let now = grid_os::clock::boot_ms();
    let human = |s: &ScanReply| match code {
        Some(code) => render::scan_code(s, code),
        None => render::scan(s, all, now),
    };
    Ok(printed(answer, human, |s| lines(&s.plan.steps, |s| s.process.pid.to_string())))
}

pub(super) async fn execute(client: &Client, ask: OffloadAsk, format: Format) -> Result<Printed, Failure> {
    let begun: Answer<OffloadReply> = client.post("/v1/offloads", &ask).await?;
    let Some(view) = begun.ok.offload.clone() else {
        let quiet = |r: &OffloadReply| r.plan.id.to_string();
        return Ok(printed(begun, |r| render::would_move(&r.plan, ask.pid), quiet));
    };
    let what = render::moving(&view);
    let settled = ask::settle(client, view.record.id.as_str(), &what).await?;
    done(settled, &[OffloadPhase::Away, OffloadPhase::Ended], format)
}

/// Prints how a move ended and sets the exit code.
fn done(settled: Answer<OffloadView>, want: &[OffloadPhase], format: Format) -> Result<Printed, Failure> {
    let outcome = ask::outcome(&settled.ok, want);
    let printed = printed(settled, render::moved, |v| v.record.id.to_string());
    match outcome {
        Ok(()) => Ok(printed),
        Err(failure) => {
            printed.print(format);
            Err(failure)
        }
    }
}

pub(super) async fn show(client: &Client, id: &str) -> Result<Printed, Failure> {
    let id = ask::offload_id(client, id).await?;
    let answer: Answer<OffloadView> = client.get(&format!("/v1/offloads/{id}")).await?;
    Ok(printed(answer, |v| render::offload(v, Clock::now()), |v| render::phase(v.record.phase).to_owned()))
}

async fn cancel(client: &Client, id: &str, dry_run: bool, format: Format) -> Result<Printed, Failure> {
    let id = ask::offload_id(client, id).await?;
    let begun: Answer<OffloadView> = client.post(&format!("/v1/offloads/{id}/cancel"), &DryRun { dry_run }).await?;
    if dry_run {
        return Ok(printed(begun, render::would_cancel, |v| v.record.id.to_string()));
    }
    let settled = ask::settle(client, begun.ok.record.id.as_str(), &render::cancelling(&begun.ok)).await?;
    // A cancelled way out ends at home, a cancelled way back ends away.
    done(
        settled,
        &[OffloadPhase::Failed, OffloadPhase::Home, OffloadPhase::Away, OffloadPhase::Parked, OffloadPhase::Ended],
        format,
    )
}

async fn recall(client: &Client, id: &str, ask: RecallAsk, format: Format) -> Result<Printed, Failure> {
    let id = ask::offload_id(client, id).await?;
    let begun: Answer<OffloadView> = client.post(&format!("/v1/offloads/{id}/recall"), &ask).await?;
    if ask.dry_run {
        return Ok(printed(begun, render::would_recall, |v| v.record.id.to_string()));
    }
    let settled = ask::settle(client, begun.ok.record.id.as_str(), &render::moving(&begun.ok)).await?;
    // On the way on, away is where it was to be, unless the way failed.
    let arrived = ask.to.is_some() && settled.ok.record.direction == Direction::Out;
    let want = if arrived { OffloadPhase::Away } else { OffloadPhase::Home };
    done(settled, &[want, OffloadPhase::Ended], format)
}

async fn park(client: &Client, ask: ParkAsk, format: Format) -> Result<Printed, Failure> {
    ask::id(&ask.what)?;
    let begun: Answer<ParkReply> = client.post("/v1/parks", &ask).await?;
    let Some(view) = begun.ok.offload.clone() else {
        let on = ask.on.clone();
        return Ok(printed(begun, |p| render::would_park(p, on.as_deref()), |p| p.process.to_string()));
    };
    let settled = ask::settle(client, view.record.id.as_str(), &render::moving(&view)).await?;
    done(settled, &[OffloadPhase::Parked, OffloadPhase::Ended], format)
}

async fn unpark(client: &Client, id: &str, ask: UnparkAsk, format: Format) -> Result<Printed, Failure> {
    let id = ask::offload_id(client, id).await?;
    let begun: Answer<OffloadView> = client.post(&format!("/v1/offloads/{id}/unpark"), &ask).await?;
    if ask.dry_run {
        return Ok(printed(begun, render::would_unpark, |v| v.record.id.to_string()));
    }
    let settled = ask::settle(client, begun.ok.record.id.as_str(), &render::moving(&begun.ok)).await?;
    done(settled, &[OffloadPhase::Home, OffloadPhase::Away, OffloadPhase::Ended], format)
}

async fn resolve(client: &Client, id: &str, ask: ResolveAsk) -> Result<Printed, Failure> {
    let id = ask::offload_id(client, id).await?;
    let answer: Answer<OffloadView> = client.post(&format!("/v1/offloads/{id}/resolve"), &ask).await?;
    if ask.dry_run {
        return Ok(printed(answer, |v| render::would_resolve(v, ask.decision), |v| v.record.id.to_string()));
    }
    Ok(printed(answer, render::moved, |v| v.record.id.to_string()))
}

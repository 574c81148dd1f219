//! Who asks for what was said of a command of `grid run`, once that runs: nobody's child, with the rights of who started it.

use super::ask;
use super::client::{Answer, Client};
use super::failure::Failure;
use super::internal::RunHelperArgs;
use super::offload::execute;
use super::output::{Format, Printed, message};
use grid_os::pidfd::PidFd;
use grid_os::wait::readable;
use grid_types::api::{OffloadAsk, OffloadView, ParkAsk, ParkReply, UnparkAsk};
use grid_types::event::OffloadPhase;
use grid_types::exit::FaultClass;
use nix::libc;
use std::os::fd::AsFd;
use std::time::Duration;

/// It takes a third of a second.
const LONG: Duration = Duration::from_secs(3);
/// From its thaw to the end of what a signal waited for.
const DIES_WITHIN: Duration = Duration::from_millis(200);

/// Its starter says by closing our standard input that it is that program by now, and by a word before that it is none.
pub(super) async fn of_run(client: &Client, args: &RunHelperArgs) -> Result<Printed, Failure> {
    let process = PidFd::open(args.pid).ok();
    let word = std::io::Read::bytes(std::io::stdin()).next();
    let (None, Some(process)) = (word, process) else { return Err(Failure::shown(FaultClass::Refused)) };
    if args.private {
        tokio::select! {
            given = give_private(client, args.pid, &process) => given?,
            never = say_that_it_waits() => match never {},
        }
    }
    match &args.boost {
        Some(boost) => into_boost(client, args.pid, boost).await,
        None => Printed::local(&args.pid, String::new(), String::new()),
    }
}

async fn into_boost(client: &Client, pid: i32, boost: &str) -> Result<Printed, Failure> {
    let ask = OffloadAsk { pid, to: None, boost: Some(boost.to_owned()), ..OffloadAsk::default() };
    execute(client, ask, Format::Quiet).await.map_err(|e| {
        message(&format!(
            "grid run: process {pid} goes on at home: {}\n  do: grid offload execute {pid} --boost {boost}",
            said(&e)
        ));
        Failure::shown(e.error.class)
    })
}

fn said(e: &Failure) -> String {
    let code = e.error.code.map_or_else(String::new, |code| format!(" [{code}]"));
    format!("{}{code}", e.error.message)
}

/// What waits in place of the command is handed over to the head's disk, and from there into namespaces of its own at
/// home: a handover as any other. It looks where it is when it is told, and becomes the command or ends.
async fn give_private(client: &Client, pid: i32, process: &PidFd) -> Result<(), Failure> {
    let parked = match onto_disk(client, pid).await {
        Ok(parked) => parked,
        // Ctrl-C meanwhile: whoever pressed it knows why it did not start.
        Err(e) if ends(process).await => return Err(Failure::shown(e.error.class)),
        Err(e) => {
            message(&format!("grid run: it cannot have a /tmp of its own: {}. Nothing was started", said(&e)));
            let fix = e.error.hint.or_else(|| e.error.code.map(|code| code.fix().to_owned()));
            fix.iter().for_each(|fix| message(&format!("  do: {fix}")));
            let _ = process.signal(libc::SIGUSR1);
            return Err(Failure::shown(e.error.class));
        }
    };
    let home = from_disk(client, parked.record.id.as_str()).await;
    if let Err(e) = &home
        && ends(process).await
    {
        return Err(Failure::shown(e.error.class));
    }
    let told = home
        .and_then(|()| process.signal(libc::SIGUSR1).map_err(|e| Failure::new(FaultClass::Internal, e.to_string())));
    told.map_err(|e| {
        message(&format!("grid run: it cannot have a /tmp of its own: {}. Nothing was started", said(&e)));
        // It stands still on the disk, and has done nothing yet.
        let _ = process.signal(libc::SIGKILL);
        Failure::shown(e.error.class)
    })
}

/// Once, where it takes long: the daemon may be stopped, and the command's terminal says nothing.
async fn say_that_it_waits() -> std::convert::Infallible {
    tokio::time::sleep(LONG).await;
    message(
        "grid run: not started yet: the daemon takes long to give it a /tmp of its own (grid status; Ctrl-C gives up)",
    );
    std::future::pending().await
}

/// Whether it has ended, or does so now: what it was sent while it was frozen comes after.
async fn ends(process: &PidFd) -> bool {
    let Ok(fd) = process.as_fd().try_clone_to_owned() else { return false };
    tokio::time::timeout(DIES_WITHIN, readable(fd)).await.is_ok()
}

async fn onto_disk(client: &Client, pid: i32) -> Result<OffloadView, Failure> {
    let ask = ParkAsk { what: pid.to_string(), on: Some("head".into()), dry_run: false };
    let begun: Answer<ParkReply> = client.post("/v1/parks", &ask).await?;
    let id = begun.ok.offload.map(|view| view.record.id).ok_or_else(|| Failure::shown(FaultClass::Internal))?;
    arrived(client, id.as_str(), OffloadPhase::Parked).await
}

async fn from_disk(client: &Client, id: &str) -> Result<(), Failure> {
    let ask = UnparkAsk { private_tmp: true, ..UnparkAsk::default() };
    let _: Answer<OffloadView> = client.post(&format!("/v1/offloads/{id}/unpark"), &ask).await?;
    arrived(client, id, OffloadPhase::Home).await.map(drop)
}

async fn arrived(client: &Client, id: &str, want: OffloadPhase) -> Result<OffloadView, Failure> {
    let settled = ask::settle(client, id, "getting namespaces of its own").await?.ok;
    if settled.record.phase == want {
        return Ok(settled);
    }
    let why = settled.record.reasons.last().map_or_else(|| settled.record.phase.to_string(), ToString::to_string);
    Err(Failure::new(FaultClass::Refused, why))
}

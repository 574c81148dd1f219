//! Each command: what it asks, and what of the answer it prints.

use super::args::{BoostCommand, PlanCommand, ReclaimArgs};
use super::client::{Answer, Client};
use super::failure::Failure;
use super::output::{self, Format, Printed};
use super::render::{self, Clock};
use super::{
    Cli, Command, ConfigCommand, amount, ask, config, doctor, generate, init, lend, members, node, offload, reclaim,
    rescue, trust,
};
use crate::up;
use grid_types::api::{
    BoostReply, BoostView, DryRun, ExplainReply, ExtendAsk, OffloadView, ReclaimAsk, ReleaseAsk, Status,
};
use grid_types::event::{EventRecord, OffloadPhase};
use grid_types::exit::FaultClass;
use grid_types::plan::{Plan, Trigger};
use grid_types::policy::AutoMode;
use grid_types::reason::ReasonCode;
use std::process::ExitCode;
use std::time::Duration;

/// How often, and with which pause, the plan that a boost caused is looked for before the command returns.
const PLAN_LOOKS: (u32, Duration) = (5, Duration::from_millis(80));

/// Executes a command of the user's. `up`, `down` and the hidden ones are `main.rs`'s.
pub async fn run(cli: Cli) -> ExitCode {
    let format = cli.global.output;
    let client = Client::new(cli.global.socket());
    let done = match dispatch(&cli, &client).await {
        Ok(printed) => {
            printed.print(format);
            return ExitCode::SUCCESS;
        }
        Err(failure) => failure,
    };
    ExitCode::from(done.report(format))
}

async fn dispatch(cli: &Cli, client: &Client) -> Result<Printed, Failure> {
    let format = cli.global.output;
    match &cli.command {
        Command::Status => status(client).await,
        Command::Boost(command) => boost(client, command, format).await,
        Command::Offload(command) => offload::run(client, command, format).await,
        Command::Plan(command) => plan(client, command, format).await,
        Command::Explain { what } => explain(client, what).await,
        Command::Node(command) => node::run(&cli.global.state, client, command).await,
        Command::Upgrade { dry_run } => {
            let upgraded = up::upgrade(&cli.global.state, cli.global.socket(), *dry_run).await?;
            Printed::local(&upgraded, render::upgraded(&upgraded), upgraded.to.clone())
        }
        Command::Events { follow, after } => events(client, *follow, *after, format).await,
        Command::Config(ConfigCommand::Check { file }) => config::check(file),
        Command::Config(ConfigCommand::Show { file }) => config::show(file),
        Command::Init { output_file, dry_run } => init::init(output_file, *dry_run),
        Command::Doctor { between: Some(nodes) } => node::between(client, nodes, format).await,
        Command::Doctor { between: None } => doctor::doctor(&cli.global.state, format),
        Command::Completions { shell } => Ok(generate::completions(*shell)),
        Command::Man { dir, dry_run } => generate::man(dir, *dry_run),
        Command::Lend(command) => lend::run(&cli.global.state, command).await,
        Command::Keep(args) => trust::keep(client, args).await,
        Command::Stop(args) => trust::stop(&cli.global.state, client, args).await,
        Command::Rescue(args) => rescue::rescue(&cli.global.state, args, format),
        Command::RunHelper(args) => super::run_helper::of_run(client, args).await,
        Command::Up(_) | Command::Down(_) | Command::Run(_) | Command::Service(_) | Command::Uninstall { .. } => {
            Err(elsewhere())
        }
        Command::Agent(_)
        | Command::Daemon(_)
        | Command::NodeInit(_)
        | Command::Channel(_)
        | Command::Reach(_)
        | Command::NodeRun(_)
        | Command::NodeStart
        | Command::NodeStop { .. }
        | Command::HomePump(_)
        | Command::HomeServe(_)
        | Command::TreeInit { .. }
        | Command::TreeSession => Err(elsewhere()),
    }
}

fn elsewhere() -> Failure {
    Failure::new(FaultClass::Internal, "this command is not one of the API's")
}

/// One answer in the three forms.
pub(super) fn printed<T>(
    answer: Answer<T>,
    human: impl FnOnce(&T) -> String,
    quiet: impl FnOnce(&T) -> String,
) -> Printed {
    Printed { human: human(&answer.ok), quiet: quiet(&answer.ok), json: answer.raw }
}

/// The ids, one a line.
pub(super) fn lines<T>(all: &[T], id: impl Fn(&T) -> String) -> String {
    all.iter().map(id).collect::<Vec<_>>().join("\n")
}

async fn status(client: &Client) -> Result<Printed, Failure> {
    let answer: Answer<Status> = client.get("/v1/status").await?;
    Ok(printed(answer, |s| render::status(s, Clock::now()), |s| render::mode(s.auto.mode).to_owned()))
}

async fn boost(client: &Client, command: &BoostCommand, format: Format) -> Result<Printed, Failure> {
    let clock = Clock::now();
    let quiet = |b: &BoostView| b.boost.id.to_string();
    match command {
        BoostCommand::Request(args) => {
            let answer: Answer<BoostReply> = client.post("/v1/boosts", &amount::boost_ask(args)?).await?;
            let plan = match format {
                Format::Human => plan_of(client, &answer.ok).await,
                Format::Json | Format::Quiet => None,
            };
            Ok(printed(answer, |r| render::boost_granted(r, plan.as_ref(), clock), |r| r.boost.boost.id.to_string()))
        }
        BoostCommand::List => {
            let answer: Answer<Vec<BoostView>> = client.get("/v1/boosts").await?;
            Ok(printed(answer, |b| render::boosts(b), |b| lines(b, quiet)))
        }
        BoostCommand::Show { id } => show_boost(client, id).await,
        BoostCommand::Extend { id, by, dry_run } => {
            let path = format!("/v1/boosts/{}/extend", ask::id(id)?);
            let answer = client.post(&path, &ExtendAsk { by: *by, dry_run: *dry_run }).await?;
            Ok(printed(answer, |b| render::boost_extended(b, clock, *dry_run), quiet))
        }
        BoostCommand::Reclaim(args) => {
            let ReclaimArgs { id, within, end, lift, dry_run } = args;
            let ask = ReclaimAsk { within: *within, end: *end, lift: *lift, dry_run: *dry_run };
            reclaim::run(client, id, ask).await
        }
        BoostCommand::Release { id, end, dry_run } => {
            let path = format!("/v1/boosts/{}/release", ask::id(id)?);
            let answer = client.post(&path, &ReleaseAsk { end: *end, dry_run: *dry_run }).await?;
            Ok(printed(answer, |b| render::boost_released(b, *end, *dry_run), quiet))
        }
    }
}

async fn show_boost(client: &Client, id: &str) -> Result<Printed, Failure> {
    let answer: Answer<BoostView> = client.get(&format!("/v1/boosts/{}", ask::id(id)?)).await?;
    Ok(printed(answer, |b| render::boost(b, Clock::now()), |b| b.boost.id.to_string()))
}

/// The plan that a new boost caused, where auto-offload only observes. It is made in the background, so it may be late:
/// then it is not shown.
async fn plan_of(client: &Client, reply: &BoostReply) -> Option<Plan> {
    if reply.dry_run || reply.auto != AutoMode::Observe {
        return None;
    }
    for _ in 0..PLAN_LOOKS.0 {
        let plans: Answer<Vec<Plan>> = client.get("/v1/plans").await.ok()?;
        let ours = |p: &Plan| matches!(&p.trigger, Trigger::BoostActivated { boost } if *boost == reply.boost.boost.id);
        if let Some(plan) = plans.ok.into_iter().find(ours) {
            return Some(plan);
        }
        tokio::time::sleep(PLAN_LOOKS.1).await;
    }
    None
}

async fn plan(client: &Client, command: &PlanCommand, format: Format) -> Result<Printed, Failure> {
    match command {
        PlanCommand::List => {
            let answer: Answer<Vec<Plan>> = client.get("/v1/plans").await?;
            Ok(printed(answer, |p| render::plans(p, Clock::now()), |p| lines(p, |p| p.id.to_string())))
        }
        PlanCommand::Show { id } => show_plan(client, id).await,
        PlanCommand::Apply { id, dry_run: true } => would_apply(client, ask::id(id)?).await,
        PlanCommand::Apply { id, .. } => apply(client, ask::id(id)?, format).await,
    }
}

async fn show_plan(client: &Client, id: &str) -> Result<Printed, Failure> {
    let answer: Answer<Plan> = client.get(&format!("/v1/plans/{}", ask::id(id)?)).await?;
    Ok(printed(answer, |p| render::plan(p, Clock::now()), |p| p.id.to_string()))
}

/// Checked as if it were executed; then the plan, which is exactly what would be done.
async fn would_apply(client: &Client, id: &str) -> Result<Printed, Failure> {
    let _: Answer<Vec<OffloadView>> = client.post(&format!("/v1/plans/{id}/apply"), &DryRun { dry_run: true }).await?;
    show_plan(client, id).await
}

/// Every step is waited for; the exit code is that of the first that did not go as planned.
async fn apply(client: &Client, id: &str, format: Format) -> Result<Printed, Failure> {
    let begun: Answer<Vec<OffloadView>> = client.post(&format!("/v1/plans/{id}/apply"), &DryRun::default()).await?;
    let mut settled = Vec::new();
    for view in &begun.ok {
        let what = render::moving(view);
        settled.push(ask::settle(client, view.record.id.as_str(), &what).await?.ok);
    }
    let human = render::applied(id, &settled);
    let printed = Printed::local(&settled, human, lines(&settled, |v| v.record.id.to_string()))?;
    let first = settled.iter().find_map(|v| ask::outcome(v, &[OffloadPhase::Away, OffloadPhase::Ended]).err());
    match first {
        None => Ok(printed),
        Some(failure) => {
            printed.print(format);
            Err(failure)
        }
    }
}

async fn explain(client: &Client, what: &str) -> Result<Printed, Failure> {
    if let Ok(pid) = what.parse::<i32>() {
        return explain_pid(client, pid).await;
    }
    match what.get(..2).unwrap_or_default() {
        "b-" => show_boost(client, what).await,
        "o-" => offload::show(client, what).await,
        "p-" => show_plan(client, what).await,
        "E-" | "e-" => {
            let code = reason_code(what)?;
            Printed::local(&code, render::code(code), code.to_string())
        }
        _ => {
            let unknown = || {
                Failure::usage(format!("{what:?} is neither a process nor an id nor a node")).hint(
                    "give a process's number, or an id such as b-7k2, o-19, p-52, or a node, or a reason code such as E-TTY",
                )
            };
            match members::explain(client, what).await {
                Ok(known) => known.ok_or_else(unknown),
                // Without a daemon nobody can say whether it is a node: most words are none.
                Err(e) if e.error.class == FaultClass::Unreachable => Err(unknown()),
                Err(e) => Err(e),
            }
        }
    }
}

pub(super) async fn explain_pid(client: &Client, pid: i32) -> Result<Printed, Failure> {
    if pid < 1 {
        return Err(Failure::usage(format!("{pid} is not the number of a process")));
    }
    // What is away, or parked, has nothing left at home to explain but where it went.
    let offloads: Answer<Vec<OffloadView>> = client.get("/v1/offloads").await?;
    let gone = |phase| matches!(phase, OffloadPhase::Away | OffloadPhase::Parked);
    let away = offloads.ok.iter().find(|o| o.record.process.pid == pid && gone(o.record.phase));
    if let Some(away) = away {
        return offload::show(client, away.record.id.as_str()).await;
    }
    let answer: Answer<ExplainReply> = client.get(&format!("/v1/explain/{pid}")).await?;
    let owner = render::owner(answer.ok.verdict.uid);
    Ok(printed(answer, |e| render::explain(e, &owner), |e| render::explain_word(e).to_owned()))
}

/// A reason code as people type it.
pub(super) fn reason_code(text: &str) -> Result<ReasonCode, Failure> {
    let upper = text.to_ascii_uppercase();
    let found = ReasonCode::ALL.iter().copied().find(|c| c.as_str() == upper);
    found.ok_or_else(|| {
        let all: Vec<_> = ReasonCode::ALL.iter().map(|c| c.as_str()).collect();
        Failure::usage(format!("{text:?} is not a reason code")).hint(format!("codes: {}", all.join(" ")))
    })
}

async fn events(client: &Client, follow: bool, after: u64, format: Format) -> Result<Printed, Failure> {
    let path = format!("/v1/events?after={after}{}", if follow { "&follow" } else { "" });
    client
        .lines(&path, |line| {
            if format == Format::Json {
                return Ok(output::data(line));
            }
            let record: EventRecord = serde_json::from_str(line)
                .map_err(|e| Failure::new(FaultClass::Internal, format!("an event is not understood: {e}")))?;
            Ok(match format {
                Format::Quiet => output::data(&record.seq.to_string()),
                _ => output::text(&render::event(&record, Clock::now())),
            })
        })
        .await?;
    Ok(Printed::default())
}

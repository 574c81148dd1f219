//! `grid node`.

use super::client::{Answer, Client};
use super::commands::{lines, printed};
use super::failure::Failure;
use super::output::{Format, Printed};
use super::render::{self, Clock};
use super::{NodeArgs, NodeCommand, members};
use grid_types::api::{DrainAsk, DrainReply, DryRun, NodeView};
use grid_types::exit::FaultClass;
use grid_types::machine::{MachineReply, Match};
use std::path::Path;

pub(super) async fn run(state: &Path, client: &Client, command: &NodeCommand) -> Result<Printed, Failure> {
    match command {
        NodeCommand::Add(args) => members::add(state, args).await,
        NodeCommand::Remove(args) => members::remove(state, client, args).await,
        NodeCommand::List => {
            let answer: Answer<Vec<NodeView>> = client.get("/v1/nodes").await?;
            Ok(printed(answer, |n| render::nodes(n), |n| lines(n, |n| n.node.to_string())))
        }
        NodeCommand::Cordon(args) => cordon(client, args, true).await,
        NodeCommand::Uncordon(args) => cordon(client, args, false).await,
        NodeCommand::Drain { node, by } => {
            let ask = DrainAsk { within: *by, dry_run: node.dry_run };
            let answer: Answer<DrainReply> = client.post(&path(&node.node, "drain")?, &ask).await?;
            Ok(printed(answer, |r| render::drained(r, &ask), |r| lines(&r.boosts, |b| b.boost.id.to_string())))
        }
    }
}

async fn cordon(client: &Client, args: &NodeArgs, on: bool) -> Result<Printed, Failure> {
    let verb = if on { "cordon" } else { "uncordon" };
    let ask = DryRun { dry_run: args.dry_run };
    let answer: Answer<NodeView> = client.post(&path(&args.node, verb)?, &ask).await?;
    Ok(printed(answer, |n| render::cordoned(n, on, args.dry_run, Clock::now()), |n| n.node.to_string()))
}

/// `grid doctor --between`. Exit code 4 where something refuses.
pub(super) async fn between(client: &Client, nodes: &[String], format: Format) -> Result<Printed, Failure> {
    let [here, there] = nodes else { return Err(Failure::usage("name two nodes: --between head gpu1")) };
    let path = format!("/v1/between/{}/{}", sound(here)?, sound(there)?);
    let answer: Answer<MachineReply> = client.get(&path).await?;
    let refused = !answer.ok.one && answer.ok.rows.iter().any(|row| row.verdict == Match::Refuse);
    let printed = printed(answer, render::between, |r| lines(&r.rows, |row| format!("{} {:?}", row.what, row.verdict)));
    if !refused {
        return Ok(printed);
    }
    printed.print(format);
    Err(Failure::shown(FaultClass::Refused))
}

pub(super) fn path(node: &str, verb: &str) -> Result<String, Failure> {
    Ok(format!("/v1/nodes/{}/{verb}", sound(node)?))
}

/// A name may stand in a path.
fn sound(node: &str) -> Result<&str, Failure> {
    let sound = !node.is_empty() && node.chars().all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c));
    if sound {
        return Ok(node);
    }
    Err(Failure::new(FaultClass::NotFound, format!("no node {node:?}. Nothing was changed.")).hint("grid node list"))
}

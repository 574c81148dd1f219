//! `grid node`.

use super::client::{Answer, Client};
use super::commands::{lines, printed};
use super::failure::Failure;
use super::output::Printed;
use super::render::{self, Clock};
use super::{NodeArgs, NodeCommand};
use grid_types::api::{DrainAsk, DrainReply, DryRun, NodeView};
use grid_types::exit::FaultClass;

pub(super) async fn run(client: &Client, command: &NodeCommand) -> Result<Printed, Failure> {
    match command {
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

/// A name may stand in a path.
fn path(node: &str, verb: &str) -> Result<String, Failure> {
    let sound = !node.is_empty() && node.chars().all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c));
    if sound {
        return Ok(format!("/v1/nodes/{node}/{verb}"));
    }
    Err(Failure::new(FaultClass::NotFound, format!("no node {node:?}. Nothing was changed.")).hint("grid node list"))
}

//! `grid node add` and `grid node remove`: asked of the supervisor, which alone reaches machines.

use super::client::{Answer, Client};
use super::failure::Failure;
use super::output::{self, Printed};
use super::render::{self, Clock};
use super::{NodeAddArgs, NodeRemoveArgs};
use crate::up::{self, Ask, Changed};
use grid_core::config::NodeAsk;
use grid_types::api::{DrainAsk, DrainReply, OffloadView};
use grid_types::boost::BoostState;
use grid_types::event::{Event, EventRecord};
use grid_types::exit::FaultClass;
use std::path::Path;

pub(super) async fn add(state: &Path, args: &NodeAddArgs) -> Result<Printed, Failure> {
    let key = args.ssh_key.as_deref().map(std::path::absolute).transpose()?;
    let node = NodeAsk {
        name: args.name.clone(),
        host: args.host.clone(),
        port: args.port,
        user: args.user.clone(),
        ssh_key: key.map(|path| path.to_string_lossy().into_owned()),
        lend_cpu: args.lend_cpu,
        lend_memory: args.lend_memory,
        priority: args.priority,
        tags: args.tags.clone(),
        sudo: args.sudo,
    };
    let ask = Ask::Add { node, dry_run: args.dry_run };
    match up::ask(state, &ask, output::message).await? {
        Changed::Added(added) => Printed::local(&added, render::added(&added), added.node.to_string()),
        _ => Err(strange()),
    }
}

pub(super) async fn remove(state: &Path, client: &Client, args: &NodeRemoveArgs) -> Result<Printed, Failure> {
    let mut drained = String::new();
    let ask = Ask::Remove {
        node: args.node.clone(),
        unreachable: args.unreachable,
        give_up: args.give_up,
        purge: args.purge,
        dry_run: args.dry_run,
    };
    if args.drain {
        nothing_parked(client, args).await?;
        let (text, reply) = drain(client, args).await?;
        drained = text;
        if args.dry_run {
            let human = format!("{drained}Then it would be removed.  Nothing was changed.\n");
            return Printed::local(&reply, human, args.node.clone());
        }
    }
    match up::ask(state, &ask, output::message).await? {
        Changed::Removed(removed) => {
            let human = drained + &render::removed(&removed);
            Printed::local(&removed, human, removed.node.to_string())
        }
        _ => Err(strange()),
    }
}

/// A drain moves nothing off a disk: then it is not begun.
async fn nothing_parked(client: &Client, args: &NodeRemoveArgs) -> Result<(), Failure> {
    let ask = DrainAsk { within: args.by, dry_run: true };
    let answer: Answer<DrainReply> = client.post(&super::node::path(&args.node, "drain")?, &ask).await?;
    let Some(first) = answer.ok.parked.first() else { return Ok(()) };
    let what = format!("{} cannot be removed yet: it holds what is parked. Nothing was changed.", args.node);
    let mut failure = Failure::new(FaultClass::Conflict, what);
    failure.error.details = answer.ok.parked.iter().map(parked_there).collect();
    Err(failure.hint(format!("grid offload unpark {}", first.record.id)))
}

fn parked_there(o: &OffloadView) -> String {
    format!("{} {} is parked on its disk", o.record.id, o.record.title)
}

/// Drains it first; what that says. An error where something stays.
async fn drain(client: &Client, args: &NodeRemoveArgs) -> Result<(String, DrainReply), Failure> {
    let ask = DrainAsk { within: args.by, dry_run: args.dry_run };
    let answer: Answer<DrainReply> = client.post(&super::node::path(&args.node, "drain")?, &ask).await?;
    let reply = answer.ok;
    let stays = |b: &&grid_types::api::BoostView| b.boost.state.holds_capacity();
    let stay: Vec<String> = reply
        .boosts
        .iter()
        .filter(stays)
        .map(|b| match &b.boost.state {
            BoostState::Overdue { detail } => format!("{}: {detail}", b.boost.id),
            state => format!("{}: {state:?}", b.boost.id),
        })
        .collect();
    if args.dry_run || stay.is_empty() && reply.parked.is_empty() {
        // What it says of using the node again is not meant here.
        let text = render::drained(&reply, &ask);
        let own = |line: &&str| !line.starts_with("Nothing was changed.") && !line.starts_with("Nobody's processes");
        let text = text.lines().filter(own).map(|line| format!("{line}\n")).collect();
        return Ok((text, reply));
    }
    let parked = reply.parked.iter().map(parked_there);
    let what = format!("{} is drained as far as it goes, and was not removed: something stays there.", args.node);
    let mut failure = Failure::new(FaultClass::Conflict, what);
    failure.error.details = stay.into_iter().chain(parked).collect();
    Err(failure.hint(format!("it takes nothing new; use it again: grid node uncordon {}", args.node)))
}

fn strange() -> Failure {
    Failure::new(FaultClass::Internal, "the supervisor answered something else than it was asked")
}

/// What the journal says of a node's coming and going.
pub(super) async fn explain(client: &Client, name: &str) -> Result<Option<Printed>, Failure> {
    let nodes: Answer<Vec<grid_types::api::NodeView>> = client.get("/v1/nodes").await?;
    let mut events: Vec<EventRecord> = Vec::new();
    client
        .lines("/v1/events?after=0", |line| {
            let record: Result<EventRecord, _> = serde_json::from_str(line);
            events.extend(record.ok().filter(|record| is_about(&record.event, name)));
            Ok(true)
        })
        .await?;
    let view = nodes.ok.iter().find(|n| n.node.as_str() == name);
    if view.is_none() && events.is_empty() {
        return Ok(None);
    }
    let value = serde_json::json!({ "node": view, "events": events });
    let human = render::explain_node(name, view, &events, Clock::now());
    Printed::local(&value, human, view.map_or("removed", |n| &n.state).to_owned()).map(Some)
}

fn is_about(event: &Event, name: &str) -> bool {
    match event {
        Event::NodeAdded { node, .. }
        | Event::NodeRemoved { node, .. }
        | Event::NodeCordoned { node }
        | Event::NodeUncordoned { node }
        | Event::LendingClosed { node, .. }
        | Event::LendingOpen { node } => node.as_str() == name,
        _ => false,
    }
}

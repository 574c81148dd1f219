//! `grid boost reclaim`.

use super::ask;
use super::client::{Answer, Client};
use super::commands::printed;
use super::failure::Failure;
use super::output::Printed;
use super::render;
use grid_types::api::{ReclaimAsk, ReclaimReply};

pub(super) async fn run(client: &Client, id: &str, ask: ReclaimAsk) -> Result<Printed, Failure> {
    let path = format!("/v1/boosts/{}/reclaim", ask::id(id)?);
    let answer: Answer<ReclaimReply> = client.post(&path, &ask).await?;
    Ok(printed(answer, |r| render::reclaimed(r, &ask), |r| r.boost.boost.id.to_string()))
}

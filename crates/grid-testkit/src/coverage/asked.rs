//! grid's answers as values: a run of many programs must go on where one of them is refused or fails.

use crate::cluster::Cluster;
use grid_types::api::{ApiError, ExplainReply, OffloadView, Reply};
use grid_types::event::OffloadPhase;
use grid_types::exit::FaultClass;
use serde::de::DeserializeOwned;

/// What `grid -o json WORDS` answers.
fn ask<T: DeserializeOwned>(cluster: &Cluster, words: &[&str]) -> Result<T, ApiError> {
    let said = cluster.grid(&[&["-o", "json"], words].concat());
    let strange = |what: String| ApiError {
        class: FaultClass::Internal,
        code: None,
        message: format!("grid {words:?}: {what}: {said:?}"),
        details: Vec::new(),
        hint: None,
    };
    let reply: Reply<T> = serde_json::from_str(&said.out).map_err(|e| strange(e.to_string()))?;
    match (reply.ok, reply.error) {
        (Some(answer), None) => Ok(answer),
        (_, Some(error)) => Err(error),
        (None, None) => Err(strange("it answered nothing".into())),
    }
}

/// What it thinks of a process.
pub(super) fn explain(cluster: &Cluster, pid: i32) -> Result<ExplainReply, ApiError> {
    ask(cluster, &["explain", &pid.to_string()])
}

/// Moves a process out. A move that began and failed is an error, too, without a class of a refusal.
pub(super) fn execute(cluster: &Cluster, pid: i32) -> Result<OffloadView, ApiError> {
    arrived(ask(cluster, &["offload", "execute", &pid.to_string()])?, OffloadPhase::Away)
}

/// Brings it home.
pub(super) fn recall(cluster: &Cluster, id: &str) -> Result<OffloadView, ApiError> {
    arrived(ask(cluster, &["offload", "recall", id])?, OffloadPhase::Home)
}

fn arrived(view: OffloadView, phase: OffloadPhase) -> Result<OffloadView, ApiError> {
    if view.record.phase == phase {
        return Ok(view);
    }
    Err(ApiError {
        class: FaultClass::Internal,
        code: view.record.reasons.last().map(|r| r.code),
        message: format!("{} is {:?}", view.record.id, view.record.phase),
        details: view.record.reasons.iter().map(ToString::to_string).collect(),
        hint: None,
    })
}

/// An error as one line.
pub(super) fn line(error: &ApiError) -> String {
    let code = error.code.map(|c| format!(" [{c}]")).unwrap_or_default();
    format!("{}{code} {}", error.message, error.details.join("; "))
}

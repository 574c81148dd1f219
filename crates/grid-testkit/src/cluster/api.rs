//! The head's API asked without the command line: cheap enough to ask again and again.

use grid_types::api::Reply;
use serde::de::DeserializeOwned;
use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

/// What `GET path` answers.
pub(super) fn get<T: DeserializeOwned>(state: &Path, path: &str) -> io::Result<T> {
    let body = body(state, path)?;
    let reply: Reply<T> = serde_json::from_str(&body).map_err(|e| io::Error::other(format!("{path}: {e}: {body}")))?;
    reply.ok.ok_or_else(|| io::Error::other(format!("{path}: {:?}", reply.error)))
}

/// The body of the answer as it came. HTTP/1.0: it ends with the connection.
pub(super) fn body(state: &Path, path: &str) -> io::Result<String> {
    let mut stream = UnixStream::connect(state.join("head.sock"))?;
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    stream.write_all(format!("GET {path} HTTP/1.0\r\n\r\n").as_bytes())?;
    let mut text = String::new();
    stream.read_to_string(&mut text)?;
    let (_, body) = text.split_once("\r\n\r\n").ok_or_else(|| io::Error::other(format!("{path}: {text:?}")))?;
    Ok(body.to_owned())
}

/// Name of the cluster's control groups, as `grid up` wrote it down.
pub(super) fn group_of(state: &Path) -> Option<String> {
    let text = std::fs::read_to_string(state.join("conf/plan.json")).ok()?;
    let plan: serde_json::Value = serde_json::from_str(&text).ok()?;
    Some(plan.get("cgroup")?.as_str()?.to_owned())
}

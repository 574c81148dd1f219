//! Which nodes a cluster has beside what its file says: those that were added to it while it ran, and those of the file that
//! were taken out. The file is its owner's, and is never written; for a name that it lists, it alone counts.

use super::build::bare_node;
use super::read;
use super::schema::TextRule;
use grid_types::ids::NodeName;
use grid_types::policy::{Config, EngineKind, NodeConfig, Role};
use grid_types::units::{Bytes, MilliCpu};
use serde::{Deserialize, Serialize};

/// Words that mean the head wherever a node is named.
const HEADS: [&str; 2] = ["head", "master"];
/// The highest priority of a lender that the file takes.
const MOST_PRIORITY: f64 = 1_000_000.0;

/// A node that shall be one of a running cluster's, as somebody typed it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct NodeAsk {
    /// Its name.
    pub name: String,
    /// Its host, as ssh knows it; its name where none is said.
    pub host: Option<String>,
    /// Its port.
    pub port: Option<u16>,
    /// The user to log in as.
    pub user: Option<String>,
    /// The private key for ssh.
    pub ssh_key: Option<String>,
    /// Most CPUs that it lends.
    pub lend_cpu: Option<MilliCpu>,
    /// Most memory that it lends.
    pub lend_memory: Option<Bytes>,
    /// Among lenders that fit equally well the higher one lends first.
    pub priority: Option<f64>,
    /// Free words.
    pub tags: Vec<String>,
    /// sudo may be used there.
    pub sudo: bool,
}

/// A node that was added.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Added {
    /// It.
    pub node: NodeConfig,
    /// sudo may be used there.
    pub sudo: bool,
}

/// What was said of a cluster's nodes beside its file.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Members {
    /// Nodes that the file does not list.
    pub added: Vec<Added>,
    /// Nodes of the file that are no part of the cluster, as the file said when they were removed.
    pub left_out: Vec<NodeConfig>,
}

/// Why a node cannot be added.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct MemberError {
    /// What is wrong.
    pub message: String,
    /// What to do.
    pub hint: Option<String>,
}

fn wrong(message: String, hint: Option<String>) -> MemberError {
    MemberError { message, hint }
}

impl Members {
    /// The node that was asked for, where the cluster can have it.
    ///
    /// # Errors
    /// Why it cannot.
    pub fn admit(&self, config: &Config, ask: &NodeAsk) -> Result<NodeConfig, MemberError> {
        if config.policy.engine.kind != EngineKind::Ssh {
            let what = "the workers of this cluster are made of this machine, all when it starts".to_owned();
            let hint = "other machines: execution.engine: ssh in its configuration; more workers here: grid down, grid up --local N";
            return Err(wrong(what, Some(hint.to_owned())));
        }
        let name = read::text(TextRule::Name, &ask.name).map_err(|(what, hint)| wrong(what, hint))?;
        if HEADS.contains(&name.to_ascii_lowercase().as_str()) {
            return Err(wrong(format!("{name:?} means the head wherever a node is named"), None));
        }
        if config.nodes.iter().any(|n| n.name.as_str() == name) {
            return Err(wrong(format!("{name} is a node of this cluster already"), Some("grid node list".to_owned())));
        }
        let node = match self.left_out.iter().find(|n| n.name.as_str() == name) {
            Some(of_file) => as_the_file_says(of_file, ask)?,
            None => built(&name, ask)?,
        };
        if let Some(other) = twin(config, &node) {
            let what = format!("{} port {} is {other} already", node.host, node.port);
            return Err(wrong(
                what,
                Some("a machine that were two nodes would lend the same capacity twice".to_owned()),
            ));
        }
        Ok(node)
    }

    /// The node is one of the cluster's from now on.
    pub fn add(&mut self, node: NodeConfig, sudo: bool) {
        let of_file = self.left_out.iter().position(|n| n.name == node.name);
        match of_file {
            Some(place) => drop(self.left_out.remove(place)),
            None => self.added.push(Added { node, sudo }),
        }
    }

    /// The node is none of the cluster's any more. One of the file stays out as long as the file lists it.
    pub fn remove(&mut self, node: &NodeConfig) {
        let before = self.added.len();
        self.added.retain(|a| a.node.name != node.name);
        if self.added.len() == before {
            self.left_out.push(node.clone());
        }
    }

    /// The cluster that a file means together with what was said beside it, what of that still counts, and what its owner
    /// should know.
    pub fn join(self, mut file: Config) -> (Config, Self, Vec<String>) {
        let mut notes = Vec::new();
        let (mut added, mut left_out) = (Vec::new(), Vec::new());
        for node in self.left_out {
            let listed = file.nodes.iter().position(|n| n.name == node.name && n.role == Role::Worker);
            if let Some(place) = listed {
                let name = &node.name;
                notes.push(format!(
                    "{name} of the file stays out: it was removed; grid node add {name} takes it in again"
                ));
                left_out.push(file.nodes.remove(place));
            }
        }
        for one in self.added {
            let name = &one.node.name;
            if file.nodes.iter().chain(&left_out).any(|n| n.name == *name) {
                notes.push(format!("{name} was added by hand, and the file lists it now: the file counts"));
            } else if let Some(other) = twin(&file, &one.node) {
                notes.push(format!(
                    "{name}, which was added by hand, is left out: the file has the same machine as {other}"
                ));
            } else {
                file.nodes.push(one.node.clone());
                added.push(one);
            }
        }
        (file, Self { added, left_out }, notes)
    }
}

/// A node of the cluster that is the same machine.
fn twin(config: &Config, node: &NodeConfig) -> Option<NodeName> {
    let same = |n: &&NodeConfig| n.port == node.port && n.host.eq_ignore_ascii_case(&node.host);
    config.nodes.iter().find(same).map(|n| n.name.clone())
}

/// One that was left out comes back as its owner wrote it, and not otherwise.
fn as_the_file_says(of_file: &NodeConfig, ask: &NodeAsk) -> Result<NodeConfig, MemberError> {
    let plain = NodeAsk { name: ask.name.clone(), sudo: ask.sudo, ..NodeAsk::default() };
    let host = ask.host.clone().filter(|host| *host != of_file.host);
    if (NodeAsk { host, ..ask.clone() }) == plain {
        return Ok(of_file.clone());
    }
    let what = format!("{} is in the configuration file, which says what it is", of_file.name);
    Err(wrong(what, Some(format!("as it stands there: grid node add {}; else change the file", of_file.name))))
}

fn built(name: &str, ask: &NodeAsk) -> Result<NodeConfig, MemberError> {
    let text = |rule, text: &Option<String>| {
        text.as_deref().map(|t| read::text(rule, t)).transpose().map_err(|(what, hint)| wrong(what, hint))
    };
    let mut node = bare_node(name);
    node.host = text(TextRule::Host, &ask.host)?.unwrap_or(node.host);
    node.user = text(TextRule::User, &ask.user)?;
    node.ssh_key_path = text(TextRule::Any, &ask.ssh_key)?;
    if ask.port == Some(0) {
        return Err(wrong("0 is no port".to_owned(), None));
    }
    node.port = ask.port.unwrap_or(node.port);
    for tag in &ask.tags {
        node.tags.push(text(TextRule::Any, &Some(tag.clone()))?.unwrap_or_default());
    }
    let sharing = &mut node.sharing;
    (sharing.max_cpu, sharing.max_memory) = (ask.lend_cpu, ask.lend_memory);
    if let Some(priority) = ask.priority {
        if !(0.0..=MOST_PRIORITY).contains(&priority) {
            return Err(wrong(format!("a priority is from 0 to {MOST_PRIORITY}, not {priority}"), None));
        }
        sharing.priority = priority;
    }
    Ok(node)
}

#[cfg(test)]
#[path = "members_tests.rs"]
mod tests;

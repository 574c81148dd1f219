//! How workers are reached, and what a process sees there.

use crate::units::{Bytes, Millis};
use serde::{Deserialize, Serialize};
use std::net::SocketAddr;

/// How workers are reached.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EngineKind {
    /// All of them are made on the head's machine, each in namespaces of its own.
    #[default]
    Local,
    /// Each is another machine, by the user's own ssh.
    Ssh,
}

/// Which files a process sees on a worker that is another machine.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Files {
    /// The worker's own: what it uses must be the same there.
    #[default]
    Same,
    /// The head's, under their own paths.
    Home,
}

/// How and where workers run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Engine {
    /// How they are reached.
    pub kind: EngineKind,
    /// Folder on a worker below which grid keeps what it has there.
    pub directory: String,
    /// Configuration of ssh in place of the user's own.
    pub ssh_config: Option<String>,
    /// Which files a process sees there.
    #[serde(default)]
    pub files: Files,
    /// Folders that are the same on head and workers, where the head's files are seen otherwise.
    #[serde(default)]
    pub shared_paths: Vec<String>,
    /// Folders that each worker has for itself, where the head's files are seen otherwise.
    #[serde(default)]
    pub local_paths: Vec<String>,
    /// Home being away for longer is an I/O error for who uses its files; none: they wait.
    #[serde(default)]
    pub files_patience: Option<Millis>,
    /// Bytes of memory a second that leave a machine for another at most.
    #[serde(default)]
    pub link_rate: Option<Bytes>,
    /// Address and port of the head at which its workers' connections are accepted directly, beside ssh.
    #[serde(default)]
    pub link_listen: Option<String>,
    /// What the workers dial for it, where that is another one.
    #[serde(default)]
    pub link_dial: Option<String>,
}

/// The way to the head that needs no ssh.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DirectLink {
    /// Where the head listens.
    pub listen: SocketAddr,
    /// What the workers dial: host or address, and port.
    pub dial: String,
}

impl Engine {
    /// Bytes of memory a second that leave a machine at most, where what moves leaves it.
    pub fn link_limit(&self) -> Option<Bytes> {
        self.link_rate.filter(|_| self.kind == EngineKind::Ssh)
    }

    /// The direct way to the head, where there is one.
    pub fn direct_link(&self) -> Option<DirectLink> {
        let listen = self.link_listen.as_ref().filter(|_| self.kind == EngineKind::Ssh)?;
        let dial = self.link_dial.as_ref().unwrap_or(listen).clone();
        Some(DirectLink { listen: listen.parse().ok()?, dial })
    }
}

impl Default for Engine {
    fn default() -> Self {
        Self {
            kind: EngineKind::default(),
            directory: "/var/lib/grid/workers".to_owned(),
            ssh_config: None,
            files: Files::default(),
            shared_paths: Vec::new(),
            local_paths: Vec::new(),
            files_patience: None,
            link_rate: None,
            link_listen: None,
            link_dial: None,
        }
    }
}

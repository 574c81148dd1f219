//! An agent's start: what it listens to, or dials, and what makes it look.

use crate::agent::{Agent, Input};
use crate::link::{Greeter, Tokens, bind_unix, keep_dialling, serve_unix, serve_workers, tracing_line};
use crate::{AgentConfig, AgentError, AgentRole};
use std::path::PathBuf;
use std::time::Duration;
use tokio::signal::unix::{Signal, SignalKind};
use tokio::sync::{mpsc, watch};

/// Runs an agent until its process is ended. Told SIGHUP, a hub reads anew from `file`, where its configuration is, who its
/// workers are.
pub async fn run(cfg: AgentConfig, file: PathBuf) -> Result<(), AgentError> {
    let hangup = signal(SignalKind::hangup(), "SIGHUP")?;
    let (inputs, rx) = mpsc::unbounded_channel();
    let mut agent = Agent::new(cfg, inputs.clone())?;
    agent.recover()?;
    agent.watch_stop();
    agent.watch_lend();
    let (tokens, workers) = watch::channel(agent.cfg.tokens());
    tokio::spawn(read_anew(hangup, file, tokens));
    let greeter = Greeter {
        tokens: workers,
        node: agent.cfg.node.clone(),
        boot_id: agent.boot_id.clone(),
        handed_out: agent.handed_out.clone(),
        inputs: inputs.clone(),
    };
    match agent.cfg.role.clone() {
        AgentRole::Hub { listen, socket, daemon_uid, .. } => {
            for address in listen {
                serve_workers(&address, greeter.clone(), daemon_uid).await?;
            }
            tokio::spawn(serve_unix(bind_unix(&socket, daemon_uid)?, greeter, daemon_uid));
        }
        AgentRole::Spoke { hub, .. } => {
            tokio::spawn(keep_dialling(hub, greeter));
        }
    }
    tokio::spawn(async move {
        // A second sample soon, so that the use of CPU is known from the start.
        for pause in [0, 250] {
            tokio::time::sleep(Duration::from_millis(pause)).await;
            if inputs.send(Input::Tick).is_err() {
                return;
            }
        }
        let mut ticks = tokio::time::interval(Duration::from_secs(1));
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
        loop {
            ticks.tick().await;
            if inputs.send(Input::Tick).is_err() {
                return;
            }
        }
    });
    agent.serve(rx, signal(SignalKind::terminate(), "SIGTERM")?).await;
    Ok(())
}

fn signal(kind: SignalKind, name: &'static str) -> Result<Signal, AgentError> {
    let waits = tokio::signal::unix::signal(kind);
    waits.map_err(|source| AgentError::Io { action: "wait for", path: name.into(), source })
}

/// Who the workers are, each time somebody says that it may have changed.
async fn read_anew(mut hangup: Signal, file: PathBuf, tokens: watch::Sender<Tokens>) {
    loop {
        // The first time too: what was said before somebody listened may have gone unheard.
        let text = std::fs::read_to_string(&file).map_err(|e| e.to_string());
        match text.and_then(|text| serde_json::from_str::<AgentConfig>(&text).map_err(|e| e.to_string())) {
            Ok(config) => drop(tokens.send_replace(config.tokens())),
            Err(e) => tracing_line(&format!("{}: {e}; its workers are those from before", file.display())),
        }
        if hangup.recv().await.is_none() {
            return;
        }
    }
}

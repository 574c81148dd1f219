//! `grid reach` on the head, one for each worker: keeps ssh to it, brings it what it needs, and forwards the channel.
//!
//! Runs as the user who started the cluster, so that ssh is that user's own: configuration, agent, known hosts. What cannot
//! be reached the first time is told and ends it; later it dials again for ever, because the worker lives on meanwhile.

use super::{RemoteNode, script, there};
use crate::up::{UpError, failed, tell};
use grid_types::exit::FaultClass;
use nix::sys::signal::{self, Signal as Sig};
use nix::unistd::Pid;
use openssh::{ForwardType, KnownHosts, Session, SessionBuilder, Socket};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::time::Duration;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::time::timeout;

/// ssh has an answer within this, or the worker counts as away.
const ANSWER_WITHIN: Duration = Duration::from_secs(10);
/// ssh has let us in within this: what it asks of the user's agent may be a key to be touched.
const IN_WITHIN: Duration = Duration::from_secs(30);
/// What is small has ended there within this.
const RUN_WITHIN: Duration = Duration::from_secs(30);
/// The worker's daemons have started, or ended, within this; what does it has limits of its own, below it.
const DAEMONS_WITHIN: Duration = Duration::from_secs(60);
/// What is copied crosses at least so fast: bytes a second.
const SLOWEST: u64 = 32 << 10;
/// Told to end while it arrives, it has so long to be done with that: nothing there is left half begun.
const MOMENT: Duration = Duration::from_secs(10);
/// How often it is looked whether ssh still holds. ssh itself asks the worker as often.
const LOOK: Duration = Duration::from_secs(2);
/// The longest pause between two tries.
const PAUSE: Duration = Duration::from_secs(15);

/// How a worker is reached.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ReachConfig {
    /// Host, as the user's ssh knows it.
    pub host: String,
    /// Port, where it is not ssh's own choice.
    pub port: Option<u16>,
    /// User to log in as, where it is not ssh's own choice.
    pub user: Option<String>,
    /// Private key, where it is not ssh's own choice.
    pub key: Option<PathBuf>,
    /// Configuration of ssh in place of the user's own.
    pub ssh_config: Option<PathBuf>,
    /// sudo may be used there.
    pub sudo: bool,
    /// What its daemons need to know.
    pub node: RemoteNode,
    /// grid itself, here.
    pub program: PathBuf,
    /// CRIU, here.
    pub criu: PathBuf,
    /// The socket of the head's end of the channel, here.
    pub channel: PathBuf,
    /// Where the fingerprint of the worker's end goes. It is there once the worker was reached.
    pub pin: PathBuf,
    /// Folder of the sockets of ssh's own masters, the user's alone.
    pub control: PathBuf,
}

/// How a worker is left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Leave {
    /// Its daemons end, and what lives there.
    End,
    /// The same, but where something lives there nothing ends.
    Spare,
    /// It ends, and what grid has there is removed.
    Purge,
}

impl Leave {
    /// The words for it, there.
    fn options(self) -> &'static str {
        match self {
            Self::End => "",
            Self::Spare => "--unless-living ",
            Self::Purge => "--purge ",
        }
    }
}

/// Told to end: SIGTERM ends the cluster, SIGINT says that it could not begin.
struct Told(Signal, Signal);

impl Told {
    async fn next(&mut self) -> Leave {
        tokio::select! { _ = self.0.recv() => Leave::End, _ = self.1.recv() => Leave::Spare }
    }
}

/// Runs until it is told to end; the worker's daemons are ended then too, unless SIGINT told it and something lives there.
pub async fn reach(config: ReachConfig) -> Result<(), UpError> {
    let on = |kind| signal(kind).map_err(failed("waiting for signals"));
    let mut told = Told(on(SignalKind::terminate())?, on(SignalKind::interrupt())?);
    config.end_masters();
    // It was reached before: whoever did it was killed, and the worker may be away for a while only.
    let mut first = !config.pin.exists();
    let mut pause = Duration::ZERO;
    loop {
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            how = told.next() => return config.end(config.connect().await?, how).await,
        }
        match config.try_to_arrive(&mut told).await {
            Went::Arrived(session) => {
                if let Some(how) = told_or_lost(&session, &mut told).await {
                    return config.end(session, how).await;
                }
                tell(&format!("grid reach: ssh to {} broke; what lives there goes on", config.host));
                pause = LOOK;
            }
            Went::Failed(e) if first => return Err(e),
            Went::Failed(e) => {
                pause = (pause * 2).clamp(LOOK, PAUSE);
                tell(&format!("grid reach: {e}"));
            }
            Went::Told(how, Some(session)) => return config.end(session, how).await,
            Went::Told(how, None) => return config.end(config.connect().await?, how).await,
        }
        first = false;
    }
}

/// How an arrival went.
enum Went {
    Arrived(Session),
    Failed(UpError),
    /// Told to end meanwhile.
    Told(Leave, Option<Session>),
}

/// An ssh that has not let us in yet. Given up, it would wait on, and hold a worker that does not answer for ever.
struct Dialling;

impl Drop for Dialling {
    fn drop(&mut self) {
        // Nothing else is a child of this process now.
        for task in std::fs::read_dir("/proc/self/task").into_iter().flatten().flatten() {
            let children = std::fs::read_to_string(task.path().join("children")).unwrap_or_default();
            for pid in children.split_whitespace().filter_map(|pid| pid.parse().ok()) {
                let _ = signal::kill(Pid::from_raw(pid), Sig::SIGTERM);
            }
        }
    }
}

/// Waits to be told to end, or for the session's end: none then.
async fn told_or_lost(session: &Session, told: &mut Told) -> Option<Leave> {
    loop {
        tokio::select! {
            () = tokio::time::sleep(LOOK) => {
                let held = tokio::time::timeout(ANSWER_WITHIN, session.check()).await;
                if !matches!(held, Ok(Ok(()))) {
                    return None;
                }
            }
            how = told.next() => return Some(how),
        }
    }
}

impl ReachConfig {
    async fn try_to_arrive(&self, told: &mut Told) -> Went {
        let mut arriving = pin!(self.arrive());
        tokio::select! {
            arrived = &mut arriving => arrived.map_or_else(Went::Failed, Went::Arrived),
            how = told.next() => Went::Told(how, timeout(MOMENT, arriving).await.ok().and_then(Result::ok)),
        }
    }

    /// The worker has what it needs, runs, and can dial.
    async fn arrive(&self) -> Result<Session, UpError> {
        let session = self.connect().await?;
        let directory = &self.node.directory;
        let told = script::told(&self.run(&session, &script::ask(directory)).await?);
        let uid = self.may_be_root(&told)?;
        for (name, file) in [("grid", &self.program), ("criu", &self.criu)] {
            self.bring(&session, &told, uid, name, file).await?;
        }
        // What was copied may want libraries that this machine has not: said here, before anything is started.
        self.run(&session, &script::works(directory)).await?;
        self.run(&session, &script::as_root(uid, &script::doorstep(directory, uid))).await?;
        let (there, here) = (script::socket(directory), &self.channel);
        let socket = |path: &Path| Socket::UnixSocket { path: path.to_path_buf().into() };
        let forwarded = session.request_port_forward(ForwardType::Remote, socket(Path::new(&there)), socket(here));
        let what = "forwarding the channel";
        let forwarded = timeout(RUN_WITHIN, forwarded).await.map_err(|_| self.late(what, RUN_WITHIN, ""))?;
        forwarded.map_err(|e| self.failed(what, &said(&e)))?;
        self.run(&session, &script::open(directory)).await?;
        let json = serde_json::to_vec(&self.node).unwrap_or_default();
        let start = format!("{}/grid node-start", script::programs(directory));
        let pin = self.run_within(&session, &script::as_root(uid, &start), Some(&json), DAEMONS_WITHIN).await?;
        let what = self.pin.display().to_string();
        std::fs::write(&self.pin, pin.trim()).map_err(failed(&what))?;
        tell(&format!("grid reach: {} is reached at {}", self.node.name, self.host));
        Ok(session)
    }

    async fn connect(&self) -> Result<Session, UpError> {
        let mut builder = SessionBuilder::default();
        // Never disabled: who is not known is not asked to run anything.
        builder.known_hosts_check(KnownHosts::Strict).connect_timeout(ANSWER_WITHIN).server_alive_interval(LOOK);
        // The cluster's own folder is gone once it is down.
        let gone = std::env::temp_dir();
        builder.control_directory(if self.control.is_dir() { &self.control } else { &gone });
        self.port.iter().for_each(|port| _ = builder.port(*port));
        self.user.iter().for_each(|user| _ = builder.user(user.clone()));
        self.key.iter().for_each(|key| _ = builder.keyfile(key));
        self.ssh_config.iter().for_each(|file| _ = builder.config_file(file));
        let dialling = Dialling;
        let session =
            timeout(IN_WITHIN, builder.connect(&self.host)).await.map_err(|_| self.late("ssh", IN_WITHIN, ""))?;
        // Whatever came of it, its process has ended, or is nobody's child.
        std::mem::forget(dialling);
        session.map_err(|e| self.failed("ssh", &said(&e)))
    }

    /// Ends the masters of one that was killed: they would hold the worker's end of their connection for ever.
    fn end_masters(&self) {
        for entry in std::fs::read_dir(&self.control).into_iter().flatten().flatten() {
            let mut ssh = std::process::Command::new("ssh");
            ssh.arg("-S").arg(entry.path().join("master")).args(["-O", "exit", "none"]);
            let _ = ssh.stdin(std::process::Stdio::null()).output();
            let _ = std::fs::remove_dir_all(entry.path());
        }
    }

    /// As whom ssh comes in there; anybody but root needs sudo, and leave to use it.
    fn may_be_root(&self, told: &script::Told) -> Result<u32, UpError> {
        let here = std::env::consts::ARCH;
        if told.system != format!("Linux {here}") {
            let what = format!("{} is {:?}; this is Linux {here}", self.node.name, told.system);
            return Err(UpError::new(FaultClass::Environment, what).hint("a worker of the same kind"));
        }
        match told.uid {
            Some(uid) if uid == 0 || self.sudo => Ok(uid),
            Some(uid) => {
                let what = format!("{}: ssh comes in as user {uid}; moving processes takes root there", self.node.name);
                Err(UpError::new(FaultClass::Permission, what)
                    .hint("--sudo, of grid up or grid node add, lets it use sudo there"))
            }
            None => Err(self.failed("asking who it is", "no answer that could be read")),
        }
    }

    /// Copies a program where it is missing or another.
    async fn bring(
        &self,
        session: &Session,
        told: &script::Told,
        uid: u32,
        name: &str,
        file: &Path,
    ) -> Result<(), UpError> {
        let what = file.display().to_string();
        let bytes = std::fs::read(file).map_err(failed(&what))?;
        let hash: String = Sha256::digest(&bytes).iter().map(|byte| format!("{byte:02x}")).collect();
        if told.has(name) == Some(&hash) {
            return Ok(());
        }
        tell(&format!("grid reach: copying {name} to {} ({} MiB)", self.node.name, bytes.len() >> 20));
        let take = script::as_root(uid, &script::take(&self.node.directory, name));
        let within = RUN_WITHIN + Duration::from_secs(bytes.len() as u64 / SLOWEST);
        self.run_within(session, &take, Some(&bytes), within).await.map(drop)
    }

    /// Runs what is small there, and returns what it printed.
    async fn run(&self, session: &Session, script: &str) -> Result<String, UpError> {
        self.run_within(session, script, None, RUN_WITHIN).await
    }

    async fn run_within(
        &self,
        session: &Session,
        script: &str,
        input: Option<&[u8]>,
        within: Duration,
    ) -> Result<String, UpError> {
        let ran = there::run(session, script, input, within).await.map_err(|e| self.failed("ssh", &said(&e)))?;
        let Some(status) = ran.status else {
            let last = ran.err.last().or_else(|| ran.out.last());
            let last = last.map_or("it said nothing".to_owned(), |line| format!("its last line was {line:?}"));
            let cut = [&ran.out, &ran.err].into_iter().find_map(there::Tail::cut);
            let said = cut.into_iter().chain([last]).collect::<Vec<_>>().join(", ");
            return Err(self.late("there", within, &format!(" ({said})")));
        };
        if let Some(cut) = ran.out.cut() {
            tell(&format!("grid reach: {}: {cut}", self.node.name));
        }
        if status.success() {
            return Ok(ran.out.text());
        }
        let words = ran.err.text();
        let error = words.lines().find_map(|line| line.strip_prefix("error: ")).map(str::to_owned);
        let error = error.or_else(|| ran.err.last()).unwrap_or_else(|| "no reason given".to_owned());
        let cut = ran.err.cut().map_or(String::new(), |cut| format!(" ({cut})"));
        Err(self.failed("there", &format!("{error}{cut}")))
    }

    /// It took too long.
    fn late(&self, what: &str, within: Duration, said: &str) -> UpError {
        self.failed(what, &format!("it did not end within {} s{said}", within.as_secs()))
    }

    /// What stands behind `ssh` for whoever tries the same by hand.
    fn by_hand(&self) -> String {
        let path = |flag: &str, path: &PathBuf| format!("{flag} {} ", path.display());
        let config = self.ssh_config.as_ref().map(|file| path("-F", file)).unwrap_or_default();
        let key = self.key.as_ref().map(|file| path("-i", file)).unwrap_or_default();
        let port = self.port.map(|port| format!("-p {port} ")).unwrap_or_default();
        let user = self.user.as_ref().map(|user| format!("{user}@")).unwrap_or_default();
        format!("{config}{key}{port}{user}{}", self.host)
    }

    fn failed(&self, what: &str, said: &str) -> UpError {
        let error =
            UpError::new(FaultClass::Unreachable, format!("{} ({}): {what}: {said}", self.node.name, self.host));
        match script::hint(said, &self.by_hand()) {
            Some(hint) => error.hint(hint),
            None => error,
        }
    }

    /// Ends the worker's daemons, and removes what grid has there where that is asked for.
    pub async fn leave(&self, purge: bool) -> Result<(), UpError> {
        self.end(self.connect().await?, if purge { Leave::Purge } else { Leave::End }).await
    }

    async fn end(&self, session: Session, how: Leave) -> Result<(), UpError> {
        let told = script::told(&self.run(&session, &script::ask(&self.node.directory)).await?);
        if how == Leave::Spare && told.has("grid").is_none() {
            // It was told before anything of it was there.
            return Ok(());
        }
        let (programs, folder) = (script::programs(&self.node.directory), self.node.directory.display());
        let stop = format!("{programs}/grid node-stop {}{folder}", how.options());
        let stop = script::as_root(told.uid.unwrap_or(0), &stop);
        let ended = self.run_within(&session, &stop, None, DAEMONS_WITHIN).await;
        let _ = timeout(ANSWER_WITHIN, session.close()).await;
        ended.map(drop)
    }
}

/// With its causes: what ssh itself said is the last of them.
fn said(e: &openssh::Error) -> String {
    let mut text = e.to_string();
    let mut cause = std::error::Error::source(e);
    while let Some(e) = cause {
        text = format!("{text}: {e}");
        cause = e.source();
    }
    script::short(&text)
}

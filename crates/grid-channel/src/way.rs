//! A worker's end: dials the head for its agent, directly where it was told an address, and through ssh's forward.
//!
//! Which way is first is decided by `grid_core::ways`; what is known of them is written into the channel's folder, for the
//! worker's agent to report.

use crate::LINK_FILE;
use crate::carrier::{Carrier, Duplex};
use crate::greeting::Purpose;
use crate::identity::NAME;
use crate::knock::{Knock, knock};
use crate::pinned;
use crate::pump::Limit;
use crate::run::{GREETED_WITHIN, pass, say};
use grid_core::ways::{Way, Ways};
use grid_os::getent::addresses;
use grid_os::socket::Address;
use grid_types::facts::LinkFacts;
use rustls::pki_types::ServerName;
use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio::net::TcpStream;
use tokio::sync::{Notify, watch};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// The direct way has let its caller in within this, name and all: an agent that waits for memory's connection has not given
/// up by then.
const DIRECT_WITHIN: Duration = Duration::from_secs(2);

type Far = TlsStream<Box<dyn Duplex>>;

/// A worker's end.
#[derive(Clone)]
pub(crate) struct Worker {
    tls: TlsConnector,
    ssh: Arc<Address>,
    direct: Option<Arc<Direct>>,
    limit: Option<Limit>,
    /// Turned each time ssh came anew: what crosses an older forward is dead, whoever still holds its ends.
    anew: watch::Receiver<u64>,
}

/// The direct way, and what is known of it.
struct Direct {
    address: String,
    ways: Mutex<Ways>,
    start: Instant,
    failed: Notify,
    file: PathBuf,
}

impl Worker {
    pub(crate) fn new(
        tls: TlsConnector,
        ssh: Address,
        direct: Option<String>,
        folder: &Path,
        limit: Option<Limit>,
        anew: watch::Receiver<u64>,
    ) -> Self {
        let file = folder.join(LINK_FILE);
        let _ = std::fs::remove_file(&file);
        let direct = direct.map(|address| {
            let ways = Mutex::new(Ways::default());
            Arc::new(Direct { address, ways, start: Instant::now(), failed: Notify::new(), file })
        });
        let worker = Self { tls, ssh: Arc::new(ssh), direct, limit, anew };
        if let Some(direct) = worker.direct.clone() {
            tokio::spawn(worker.clone().look_again(direct));
        }
        worker
    }

    pub(crate) async fn carry(self, agent: Carrier) {
        let mut anew = self.anew.clone();
        anew.mark_unchanged();
        let Some((way, head, tcp)) = self.dial().await else { return };
        let pieces = pinned::pieces(head.get_ref().1.alpn_protocol());
        let passing = pass(head, agent.stream, pieces, self.limit.as_ref(), Purpose::over(tcp));
        match way {
            Way::Direct => passing.await,
            Way::Ssh => tokio::select! { () = passing => {}, Ok(()) = anew.changed() => {} },
        }
    }

    async fn dial(&self) -> Option<(Way, Far, Option<OwnedFd>)> {
        let order = self.direct.as_ref().map_or(vec![Way::Ssh], |direct| direct.ways().order().to_vec());
        for way in order {
            let dialled = match (way, &self.direct) {
                (Way::Direct, Some(direct)) => self.directly(direct, Knock::Link).await,
                _ => self.through_ssh().await,
            };
            match dialled {
                Ok((head, tcp)) => return Some((way, head, tcp)),
                // Of the other way it was said when that was news.
                Err(why) if way == Way::Ssh => say(&format!("the head at {}: {why}", self.ssh)),
                Err(_) => {}
            }
        }
        None
    }

    async fn through_ssh(&self) -> Result<(Far, Option<OwnedFd>), String> {
        let dialled = async {
            let Carrier { stream, tcp, .. } = Carrier::dial(&self.ssh).await?;
            io::Result::Ok((self.tls.connect(name()?, stream).await?, tcp))
        };
        match tokio::time::timeout(GREETED_WITHIN, dialled).await {
            Ok(dialled) => dialled.map_err(|e| e.to_string()),
            Err(_) => Err(format!("no answer within {GREETED_WITHIN:?}")),
        }
    }

    async fn directly(&self, direct: &Direct, why: Knock) -> Result<(Far, Option<OwnedFd>), String> {
        let dialled = async {
            let Carrier { stream, tcp, .. } = Carrier::tcp(TcpStream::connect(&*found(&direct.address).await?).await?)?;
            let mut head = self.tls.connect(name()?, stream).await?;
            knock(&mut head, why).await?;
            io::Result::Ok((head, tcp))
        };
        let dialled = match tokio::time::timeout(DIRECT_WITHIN, dialled).await {
            Ok(dialled) => dialled.map_err(|e| in_words(&e)),
            Err(_) => Err(format!("no answer within {} s", DIRECT_WITHIN.as_secs())),
        };
        direct.learn(dialled.as_ref().map(drop));
        dialled
    }

    /// Finds out when the direct way works again, or does not any more though nobody dials.
    async fn look_again(self, direct: Arc<Direct>) {
        loop {
            let wait = direct.ways().probe_in(direct.start.elapsed());
            match wait {
                None => direct.failed.notified().await,
                Some(wait) => tokio::select! {
                    () = tokio::time::sleep(wait) => drop(self.directly(&direct, Knock::Probe).await),
                    // Another wait now.
                    () = direct.failed.notified() => {}
                },
            }
        }
    }
}

/// Where it is now: a name may mean another address tomorrow.
async fn found(address: &str) -> io::Result<Vec<SocketAddr>> {
    if let Ok(address) = address.parse() {
        return Ok(vec![address]);
    }
    let invalid = || io::Error::new(io::ErrorKind::InvalidInput, format!("{address} is no HOST:PORT"));
    let (host, port) = address.rsplit_once(':').ok_or_else(invalid)?;
    let (host, port) = (host.to_owned(), port.parse::<u16>().map_err(|_| invalid())?);
    let known = tokio::task::spawn_blocking(move || addresses(&host)).await.map_err(io::Error::other)??;
    Ok(known.into_iter().map(|ip| SocketAddr::new(ip, port)).collect())
}

impl Direct {
    fn ways(&self) -> std::sync::MutexGuard<'_, Ways> {
        self.ways.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// It let somebody in, or did not: said where that is news.
    fn learn(&self, went: Result<(), &String>) {
        let mut ways = self.ways();
        let before = self.facts(&ways);
        match went {
            Ok(()) => ways.went(self.start.elapsed()),
            Err(why) => ways.failed(self.start.elapsed(), why.clone()),
        }
        let now = self.facts(&ways);
        if let Some(facts) = now.filter(|now| before.as_ref() != Some(now)) {
            match &facts.why {
                Some(why) => say(&format!("the head at {}: {why}; ssh carries what is dialled now", self.address)),
                None => say(&format!("the head is reached directly at {}", self.address)),
            }
            if let Err(e) = self.write(&facts) {
                say(&format!("{}: {e}", self.file.display()));
            }
        }
        drop(ways);
        if went.is_err() {
            self.failed.notify_one();
        }
    }

    fn facts(&self, ways: &Ways) -> Option<LinkFacts> {
        let (way, why) = ways.known()?;
        Some(LinkFacts { way, address: self.address.clone(), why: why.map(str::to_owned) })
    }

    /// Whole, or as it was.
    fn write(&self, facts: &LinkFacts) -> io::Result<()> {
        let new = self.file.with_extension("new");
        std::fs::write(&new, serde_json::to_vec(facts)?)?;
        std::fs::rename(&new, &self.file)
    }
}

fn name() -> io::Result<ServerName<'static>> {
    ServerName::try_from(NAME).map_err(io::Error::other)
}

/// Why the direct way failed, for a person who may have to open a firewall.
fn in_words(e: &io::Error) -> String {
    match e.get_ref().and_then(|e| e.downcast_ref::<rustls::Error>()) {
        Some(rustls::Error::InvalidCertificate(_)) => {
            return "who listens there shows another certificate than the head's".to_owned();
        }
        Some(rustls::Error::AlertReceived(_)) => return "the head does not know this worker's certificate".to_owned(),
        _ => {}
    }
    match e.kind() {
        io::ErrorKind::ConnectionRefused => "refused: nothing listens there, or a firewall says so".to_owned(),
        io::ErrorKind::TimedOut => "timed out".to_owned(),
        io::ErrorKind::HostUnreachable | io::ErrorKind::NetworkUnreachable => "no route there".to_owned(),
        io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe => "it closed the connection".to_owned(),
        _ => e.to_string(),
    }
}

//! The head's end: whoever comes shows who they are, and a worker's bytes go on to the head's agent.
//!
//! Where ssh brings them, who waits waits in the kernel's queue. Anybody may come to the direct door: there is room for some
//! at a time, less for those of one address, and who finds none is sent away at once; a worker takes ssh's way then. Of one
//! worker only so many connections pass, so that none of them takes what all need.

use crate::carrier::{Carrier, Listener};
use crate::greeting::Purpose;
use crate::identity::Pin;
use crate::knock::{self, Knock};
use crate::known::Known;
use crate::pinned;
use crate::pump::Limit;
use crate::run::{GREETED_WITHIN, pass, say};
use grid_core::strangers::{Crowd, Hush};
use grid_os::socket::Address;
use std::io;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio::net::UnixStream;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

/// So many peers that ssh brings may be showing who they are at a time; more wait in the kernel's queue.
const STRANGERS: usize = 64;
/// The same at the direct door, and of one address.
const DIRECT_STRANGERS: (usize, usize) = (128, 32);
/// A peer at the direct door has shown who it is within this: whoever is let in has what it takes at hand.
const DIRECT_GREETED_WITHIN: Duration = Duration::from_secs(5);
/// So many connections of one worker pass at a time: one for its agent, two for each process that is there, one for each move.
/// Each is up to three descriptors.
const PASSING: usize = 256;
/// An address that cannot be listened at (an interface that is down) is tried again after this.
const LISTEN_AGAIN: Duration = Duration::from_secs(2);

/// The head's end.
#[derive(Clone)]
pub(crate) struct Door {
    tls: TlsAcceptor,
    workers: Known,
    hub: Arc<Path>,
    limit: Option<Limit>,
    /// Connections of each worker, by its name.
    passing: Arc<Mutex<Crowd<String>>>,
    hush: Arc<Mutex<Hush>>,
    start: Instant,
}

/// Room in a crowd, until it is dropped.
struct Space<K: Ord> {
    crowd: Arc<Mutex<Crowd<K>>>,
    from: K,
}

impl<K: Ord + Clone> Space<K> {
    /// None where there is none for another one from there.
    fn take(crowd: &Arc<Mutex<Crowd<K>>>, from: K) -> Option<Self> {
        let room = crowd.lock().unwrap_or_else(PoisonError::into_inner).enter(from.clone());
        room.then(|| Self { crowd: crowd.clone(), from })
    }
}

impl<K: Ord> Drop for Space<K> {
    fn drop(&mut self) {
        self.crowd.lock().unwrap_or_else(PoisonError::into_inner).leave(&self.from);
    }
}

impl Door {
    pub(crate) fn new(tls: TlsAcceptor, workers: Known, hub: Arc<Path>, limit: Option<Limit>) -> Self {
        let passing = Arc::new(Mutex::new(Crowd::of(usize::MAX, PASSING)));
        Self { tls, workers, hub, limit, passing, hush: Arc::default(), start: Instant::now() }
    }

    /// Where ssh brings workers.
    pub(crate) async fn serve(self, listener: Listener) {
        let strangers = Arc::new(Semaphore::new(STRANGERS));
        loop {
            let Ok(permit) = strangers.clone().acquire_owned().await else { return };
            let peer = listener.accept().await;
            tokio::spawn(self.clone().admit(peer, permit));
        }
    }

    /// Where workers come directly. What keeps it from listening keeps nobody from coming through ssh.
    pub(crate) async fn serve_direct(mut self, at: SocketAddr) {
        // A flood of strangers must not hide what is said of those that ssh brings.
        self.hush = Arc::default();
        let crowd = Arc::new(Mutex::new(Crowd::of(DIRECT_STRANGERS.0, DIRECT_STRANGERS.1)));
        let mut said = None;
        let listener = loop {
            match Listener::bind(&Address::Tcp(at), 0).await {
                Ok(listener) => break listener,
                Err(e) if said == Some(e.kind()) => {}
                Err(e) => {
                    say(&format!("listening at {at}: {e}; workers come through ssh meanwhile"));
                    said = Some(e.kind());
                }
            }
            tokio::time::sleep(LISTEN_AGAIN).await;
        };
        say(&format!("workers may come directly to {at}"));
        loop {
            let peer = listener.accept().await;
            let from = place(peer.ip);
            match Space::take(&crowd, from) {
                Some(room) => drop(tokio::spawn(self.clone().admit_direct(peer, room))),
                None => self.refuse(&peer.peer, "too many are at the door"),
            }
        }
    }

    async fn admit(self, peer: Carrier, room: OwnedSemaphorePermit) {
        let from = peer.peer;
        let greeted = tokio::time::timeout(GREETED_WITHIN, self.tls.accept(peer.stream)).await;
        drop(room);
        let shown = match greeted {
            Ok(Ok(tls)) => self.name(&tls).map(|name| (tls, name)),
            Ok(Err(e)) => Err(e.to_string()),
            Err(_) => Err(format!("it did not say who it is within {GREETED_WITHIN:?}")),
        };
        match shown {
            Ok((tls, name)) => self.go_on(tls, &name, Purpose::default()).await,
            Err(why) => self.refuse(&from, &why),
        }
    }

    async fn admit_direct(self, peer: Carrier, room: Space<IpAddr>) {
        let Carrier { stream, tcp, peer, .. } = peer;
        let greeting = async {
            let mut tls = self.tls.accept(stream).await?;
            let name = self.name(&tls).map_err(io::Error::other)?;
            let why = knock::let_in(&mut tls).await?;
            io::Result::Ok((tls, name, why))
        };
        let greeted = tokio::time::timeout(DIRECT_GREETED_WITHIN, greeting).await;
        drop(room);
        match greeted {
            Ok(Ok((tls, name, Knock::Link))) => self.go_on(tls, &name, Purpose::over(tcp)).await,
            Ok(Ok((_, _, Knock::Probe))) => {}
            Ok(Err(e)) => self.refuse(&peer, &e.to_string()),
            Err(_) => self.refuse(&peer, &format!("it did not say who it is within {DIRECT_GREETED_WITHIN:?}")),
        }
    }

    /// The worker whose certificate was shown.
    fn name<S>(&self, tls: &TlsStream<S>) -> Result<String, String> {
        let shown = tls.get_ref().1.peer_certificates().and_then(|shown| shown.first());
        let name = shown.and_then(|certificate| self.workers.worker(Pin::of(certificate)));
        name.map(|name| name.to_string()).ok_or_else(|| "its certificate is no worker's".to_owned())
    }

    async fn go_on(&self, tls: TlsStream<impl crate::carrier::Duplex>, name: &str, purpose: Purpose) {
        let Some(_space) = Space::take(&self.passing, name.to_owned()) else {
            return self.refuse(name, &format!("{PASSING} connections of it pass already"));
        };
        match UnixStream::connect(&self.hub).await {
            Ok(hub) => {
                let pieces = pinned::pieces(tls.get_ref().1.alpn_protocol());
                pass(tls, hub, pieces, self.limit.as_ref(), purpose).await;
            }
            Err(e) => say(&format!("{name} waits: the head's agent at {}: {e}", self.hub.display())),
        }
    }

    fn refuse(&self, from: &str, why: &str) {
        let now = self.start.elapsed();
        match self.hush.lock().unwrap_or_else(PoisonError::into_inner).say(now) {
            None => {}
            Some(0) => say(&format!("{from} was refused: {why}")),
            Some(more) => say(&format!("{from} was refused: {why} (and {more} before it)")),
        }
    }
}

/// What counts as one place: an address, and of IPv6 the network that one machine has to itself.
fn place(ip: Option<IpAddr>) -> IpAddr {
    match ip.unwrap_or(IpAddr::V6(Ipv6Addr::UNSPECIFIED)).to_canonical() {
        IpAddr::V6(ip) => IpAddr::V6(Ipv6Addr::from_bits(ip.to_bits() >> 64 << 64)),
        v4 => v4,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_of_one_network_are_one_place() {
        let of = |text: &str| place(Some(text.parse().unwrap()));
        assert_eq!(of("2001:db8::1"), of("2001:db8::ffff:1:2:3"));
        assert_ne!(of("2001:db8::1"), of("2001:db8:0:1::1"));
        assert_eq!(of("::ffff:192.0.2.1"), of("192.0.2.1"));
        assert_ne!(of("192.0.2.1"), of("192.0.2.2"));
    }
}

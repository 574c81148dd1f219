//! A line between pump and server: one connection after another, on which each message arrives once.
//!
//! Each connection has a thread that reads and one that writes; neither holds the bookkeeping while it waits for the
//! socket, so that the two ends never wait for each other.

use crate::VERSION;
use crate::frame::{self, Hello, Kind, MOST};
use crate::lock;
use crate::once::End;
use grid_os::socket::Socket;
use std::io;
use std::net::Shutdown;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Said where nothing else is.
const BEAT: Duration = Duration::from_secs(1);
/// A connection on which nothing came, or went, for so long is given up.
const SILENCE: Duration = Duration::from_secs(8);
/// What is heard is confirmed after so many messages at the latest, where nothing else is said.
const CONFIRM: u64 = 16;
/// Whoever has more than this to be heard waits, while there is a connection.
const KEPT: usize = 64 << 20;

#[derive(Default)]
struct State {
    end: End,
    /// What was confirmed last on this connection.
    confirmed: u64,
    /// The connection in use.
    socket: Option<Socket>,
    /// Where there is none: since when.
    away_since: Option<Instant>,
    /// How many there were.
    links: u64,
    /// The other end's life, once it is known.
    other: Option<String>,
}

/// One end of a line.
pub struct Line {
    attempt: String,
    life: String,
    state: Mutex<State>,
    wake: Condvar,
    /// One connection at a time.
    serving: Mutex<()>,
}

/// Why a connection ended.
#[derive(Debug)]
pub enum Ended {
    /// It broke: another one goes on where it stopped.
    Broke(io::Error),
    /// The other end is not the one that was spoken to: no connection helps.
    Other(String),
}

impl From<io::Error> for Ended {
    fn from(e: io::Error) -> Self {
        Self::Broke(e)
    }
}

impl Line {
    /// An end of the line of this attempt.
    ///
    /// # Errors
    /// No randomness.
    pub fn new(attempt: &str) -> io::Result<Arc<Self>> {
        let life = grid_os::random::hex::<16>()?;
        let state = Mutex::new(State { away_since: Some(Instant::now()), ..State::default() });
        let (wake, serving) = (Condvar::new(), Mutex::new(()));
        Ok(Arc::new(Self { attempt: attempt.to_owned(), life, state, wake, serving }))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }

    /// Says a message; it is kept until it is heard.
    pub fn say(&self, message: Vec<u8>) {
        self.state().end.say(message);
        self.wake.notify_all();
    }

    /// There is a connection, and both ends know each other.
    pub fn is_up(&self) -> bool {
        self.state().socket.is_some()
    }

    /// There has been none for so long. A machine that sleeps misses nobody.
    pub fn away_for(&self) -> Option<Duration> {
        self.state().away_since.map(|since| since.elapsed())
    }

    /// Ends the connection before, and serves this one until it ends too. `up` is called once both ends know each other,
    /// `heard` for each new message.
    ///
    /// # Errors
    /// Why it ended: always.
    pub fn serve(&self, mut socket: Socket, up: impl FnOnce(), mut heard: impl FnMut(Vec<u8>)) -> Result<(), Ended> {
        self.hang_up();
        let _one = lock(&self.serving);
        socket.set_nonblocking(false)?;
        socket.set_read_timeout(Some(SILENCE))?;
        socket.set_write_timeout(Some(SILENCE))?;
        let _ = socket.set_nodelay(true);
        let link = self.greet(&mut socket)?;
        let writer = socket.try_clone()?;
        let ended = std::thread::scope(|scope| {
            scope.spawn(|| self.write(writer, link));
            up();
            let ended = self.read(&mut io::BufReader::with_capacity(256 << 10, &mut socket), &mut heard);
            self.hang_up();
            ended
        });
        Err(ended)
    }

    /// Ends the connection that is in use.
    pub fn hang_up(&self) {
        let mut state = self.state();
        if let Some(socket) = state.socket.take() {
            state.away_since = Some(Instant::now());
            let _ = socket.shutdown(Shutdown::Both);
        }
        drop(state);
        self.wake.notify_all();
    }

    /// Each says who it is and up to where it heard. Returns the number of the connection.
    fn greet(&self, socket: &mut Socket) -> Result<u64, Ended> {
        let heard = self.state().end.heard();
        let (attempt, life) = (self.attempt.clone(), self.life.clone());
        let hello = Hello { version: VERSION, attempt, life, heard };
        let body = serde_json::to_vec(&hello).map_err(io::Error::from)?;
        frame::write(socket, Kind::Hello, 0, heard, &body)?;
        let answer = frame::read(socket)?;
        if answer.kind != Kind::Hello {
            return Err(Ended::Broke(io::Error::other("it did not say who it is")));
        }
        let theirs: Hello = serde_json::from_slice(&answer.body).map_err(io::Error::from)?;
        let mut state = self.state();
        theirs.check(&self.attempt, state.other.as_deref()).map_err(Ended::Other)?;
        state.end.begin_again(theirs.heard).map_err(|e| Ended::Other(e.to_string()))?;
        state.other = Some(theirs.life);
        state.confirmed = heard;
        state.socket = Some(socket.try_clone()?);
        state.away_since = None;
        state.links += 1;
        Ok(state.links)
    }

    fn write(&self, mut socket: Socket, link: u64) {
        while let Some((kind, number, heard, body)) = self.next(link) {
            if frame::write(&mut socket, kind, number, heard, &body).is_err() {
                let _ = socket.shutdown(Shutdown::Both);
                return;
            }
        }
    }

    /// What is to be written next on this connection; none where it is not in use any more.
    fn next(&self, link: u64) -> Option<(Kind, u64, u64, Arc<Vec<u8>>)> {
        let mut state = self.state();
        let beat_at = Instant::now() + BEAT;
        loop {
            let left = beat_at.saturating_duration_since(Instant::now());
            if state.links != link || state.socket.is_none() {
                return None;
            }
            let heard = state.end.heard();
            if let Some((number, body)) = state.end.next_to_send() {
                state.confirmed = heard;
                return Some((Kind::Message, number, heard, body));
            }
            if left.is_zero() || heard - state.confirmed >= CONFIRM {
                state.confirmed = heard;
                return Some((Kind::Beat, 0, heard, Arc::default()));
            }
            state = self.wake.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    fn read(&self, from: &mut impl io::Read, heard: &mut impl FnMut(Vec<u8>)) -> Ended {
        loop {
            let frame = match frame::read(from) {
                Ok(frame) => frame,
                Err(e) => return Ended::Broke(e),
            };
            let mut state = self.state();
            let new = state.end.heard_there(frame.heard).and_then(|()| match frame.kind {
                Kind::Message => state.end.hear(frame.number),
                _ => Ok(false),
            });
            drop(state);
            self.wake.notify_all();
            match new {
                Ok(true) => heard(frame.body),
                Ok(false) => {}
                Err(e) => return Ended::Broke(io::Error::other(e.to_string())),
            }
        }
    }

    /// Waits until no more is kept than may be, or the connection is gone.
    pub fn wait_for_room(&self) {
        let mut state = self.state();
        while state.end.bytes() > KEPT && state.socket.is_some() {
            state = self.wake.wait_timeout(state, BEAT).unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

/// The largest message that a line takes.
pub const LONGEST: usize = MOST;

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::net::UnixStream;
    use std::sync::mpsc;

    fn serve(line: &Arc<Line>, socket: UnixStream, to: mpsc::Sender<Vec<u8>>) -> std::thread::JoinHandle<Ended> {
        let line = line.clone();
        std::thread::spawn(move || match line.serve(socket.into(), || {}, |m| drop(to.send(m))) {
            Err(ended) => ended,
            Ok(()) => unreachable!(),
        })
    }

    #[test]
    fn messages_cross_breaks_once_and_another_end_is_refused() {
        let (near, far) = (Line::new("a").unwrap(), Line::new("a").unwrap());
        let ((to_near, at_near), (to_far, at_far)) = (mpsc::channel(), mpsc::channel());
        let mut crossed = Vec::new();
        for round in 0..20u8 {
            let (one, other) = UnixStream::pair().unwrap();
            let cut = one.try_clone().unwrap();
            let ends = [serve(&near, one, to_near.clone()), serve(&far, other, to_far.clone())];
            for n in 0..50u8 {
                near.say(vec![round, n]);
                far.say(vec![n, round]);
            }
            // Somewhere in the middle of it.
            crossed.push(at_far.recv().unwrap());
            cut.shutdown(Shutdown::Both).unwrap();
            for end in ends {
                assert!(matches!(end.join().unwrap(), Ended::Broke(_)));
            }
        }
        let (one, other) = UnixStream::pair().unwrap();
        let ends = [serve(&near, one, to_near.clone()), serve(&far, other, to_far)];
        for (n, message) in (0..).zip(at_near.iter().take(1000)) {
            assert_eq!(message, [(n % 50) as u8, (n / 50) as u8]);
        }
        crossed.extend(at_far.iter().take(1000 - 20));
        for (n, message) in (0..).zip(&crossed) {
            assert_eq!(message, &[(n / 50) as u8, (n % 50) as u8]);
        }
        // Another server remembers nothing: no connection to it helps.
        let (one, other) = UnixStream::pair().unwrap();
        let (stranger, (to, _at)) = (Line::new("a").unwrap(), mpsc::channel());
        let refused = [serve(&near, one, to_near), serve(&stranger, other, to)];
        let [near_end, _] = refused.map(|end| end.join().unwrap());
        assert!(matches!(near_end, Ended::Other(_)), "{near_end:?}");
        for end in ends {
            assert!(matches!(end.join().unwrap(), Ended::Broke(_)));
        }
    }
}

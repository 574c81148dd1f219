//! A line between pump and server: one connection after another, on which each message arrives once.
//!
//! Each connection has a thread that reads and one that writes; neither holds the bookkeeping while it waits for the
//! socket, so that the two ends never wait for each other. A short message that nothing waits before is written by who says
//! it, as far as the socket takes it at once: waking the thread that writes costs more than that.

use crate::VERSION;
use crate::frame::{self, Hello, Kind, MOST};
use crate::lock;
use crate::once::End;
use grid_os::socket::Socket;
use std::io::{self, IoSlice, Write};
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
/// Longer ones are written by the thread for that, while who said them goes on.
const SHORT: usize = 16 << 10;

/// What is written on a connection: one frame, or what is left of one.
struct Next {
    head: [u8; frame::HEAD],
    body: Arc<Vec<u8>>,
    written: usize,
}

#[derive(Default)]
struct State {
    end: End,
    /// What was confirmed last on this connection.
    confirmed: u64,
    /// The connection in use.
    socket: Option<Arc<Socket>>,
    /// Somebody writes on it.
    is_writing: bool,
    /// What the socket did not take at once.
    rest: Option<Next>,
    /// So many wait for room.
    full: usize,
    /// Where there is none: since when.
    away_since: Option<Instant>,
    /// How many there were.
    links: u64,
    /// The other end's life, once it is known.
    other: Option<String>,
}

impl State {
    fn must_confirm(&self) -> bool {
        self.end.heard() - self.confirmed >= CONFIRM
    }

    /// The next message that was not sent.
    fn message(&mut self) -> Option<Next> {
        let (number, body) = self.end.next_to_send()?;
        Some(self.frame(Kind::Message, number, body))
    }

    fn frame(&mut self, kind: Kind, number: u64, body: Arc<Vec<u8>>) -> Next {
        self.confirmed = self.end.heard();
        Next { head: frame::head(kind, number, self.confirmed, body.len()), body, written: 0 }
    }

    /// What is to be written where nobody writes; `quiet`: nothing was for long.
    fn next(&mut self, quiet: bool) -> Option<Next> {
        if self.rest.is_some() {
            return self.rest.take();
        }
        if let Some(next) = self.message() {
            return Some(next);
        }
        (quiet || self.must_confirm()).then(|| self.frame(Kind::Beat, 0, Arc::default()))
    }
}

impl Next {
    fn parts(&self) -> [IoSlice<'_>; 2] {
        let of_head = self.written.min(frame::HEAD);
        [IoSlice::new(&self.head[of_head..]), IoSlice::new(&self.body[self.written - of_head..])]
    }

    fn is_written(&self) -> bool {
        self.written == frame::HEAD + self.body.len()
    }

    /// All of it, or what fails.
    fn write(&mut self, to: &mut impl Write) -> io::Result<()> {
        while !self.is_written() {
            match to.write_vectored(&self.parts()) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(written) => self.written += written,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
        Ok(())
    }

    /// As much as is taken at once. Whether that was all: where it failed, who writes next finds that, too.
    fn write_now(&mut self, to: &Socket) -> bool {
        self.written += to.write_now(&self.parts()).unwrap_or(0);
        self.is_written()
    }
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

    /// Says a message; it is kept until it is heard. Does not wait for the connection.
    pub fn say(&self, message: Vec<u8>) {
        let mut state = self.state();
        let short = message.len() <= SHORT && !state.end.has_more() && state.rest.is_none();
        state.end.say(message);
        let Some(socket) = state.socket.clone().filter(|_| short && !state.is_writing) else {
            drop(state);
            return self.wake.notify_all();
        };
        let Some(mut next) = state.message() else { return };
        state.is_writing = true;
        let link = state.links;
        drop(state);
        let ended = next.write_now(&socket);
        let mut state = self.state();
        // Another connection begins with what this one did not take.
        if state.links == link {
            state.is_writing = false;
            state.rest = (!ended).then_some(next);
            if state.rest.is_some() || state.end.has_more() || state.must_confirm() {
                self.wake.notify_all();
            }
        }
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
        state.socket = Some(Arc::new(socket.try_clone()?));
        (state.is_writing, state.rest) = (false, None);
        state.away_since = None;
        state.links += 1;
        Ok(state.links)
    }

    fn write(&self, mut socket: Socket, link: u64) {
        while let Some(mut next) = self.next(link) {
            if next.write(&mut socket).is_err() {
                let _ = socket.shutdown(Shutdown::Both);
                return;
            }
            let mut state = self.state();
            if state.links == link {
                state.is_writing = false;
            }
        }
    }

    /// What is to be written next on this connection, by who asks; none where it is not in use any more.
    fn next(&self, link: u64) -> Option<Next> {
        let mut state = self.state();
        let beat_at = Instant::now() + BEAT;
        loop {
            let left = beat_at.saturating_duration_since(Instant::now());
            if state.links != link || state.socket.is_none() {
                return None;
            }
            let next = if state.is_writing { None } else { state.next(left.is_zero()) };
            if next.is_some() {
                state.is_writing = true;
                return next;
            }
            // While somebody writes, nothing else need be said.
            let wait = if state.is_writing { BEAT } else { left };
            state = self.wake.wait_timeout(state, wait).unwrap_or_else(PoisonError::into_inner).0;
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
            let is_due = state.must_confirm() || (state.full > 0 && state.end.bytes() <= KEPT);
            drop(state);
            if is_due {
                self.wake.notify_all();
            }
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
        state.full += 1;
        while state.end.bytes() > KEPT && state.socket.is_some() {
            state = self.wake.wait_timeout(state, BEAT).unwrap_or_else(PoisonError::into_inner).0;
        }
        state.full -= 1;
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

    #[test]
    fn short_and_long_messages_of_several_threads_arrive_whole_though_the_socket_is_full() {
        const EACH: usize = 400;
        let (near, far) = (Line::new("a").unwrap(), Line::new("a").unwrap());
        let ((to_near, _at_near), (to_far, at_far)) = (mpsc::channel(), mpsc::channel());
        let (one, other) = UnixStream::pair().unwrap();
        let cut = one.try_clone().unwrap();
        let ends = [serve(&near, one, to_near), serve(&far, other, to_far)];
        let message =
            |from: usize, n: usize| vec![(from * EACH + n) as u8; [3, SHORT, 5000, 3 * SHORT, 0][n % 5] + from];
        let mut next = [0; 3];
        std::thread::scope(|scope| {
            for from in 0..3 {
                let (near, message) = (&near, &message);
                scope.spawn(move || (0..EACH).for_each(|n| near.say(message(from, n))));
            }
            for heard in at_far.iter().take(3 * EACH) {
                let from = (0..3).find(|from| next[*from] < EACH && heard == message(*from, next[*from]));
                next[from.expect("each thread's come in their order")] += 1;
            }
        });
        assert_eq!(next, [EACH; 3]);
        cut.shutdown(Shutdown::Both).unwrap();
        ends.into_iter().for_each(|end| drop(end.join().unwrap()));
    }
}

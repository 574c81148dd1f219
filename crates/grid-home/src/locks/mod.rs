//! Locks that are taken on the worker are home's: home's processes see them, and they see theirs.
//!
//! ```text
//!  SETLK, SETLKW ──► a description of the server's own for each owner and file ── F_OFD_SETLK, flock ── home's kernel
//!                     └ a wait: a thread of its own, ended by INTERRUPT or by the pump's word that nobody waits any more
//! ```
//!
//! Owns what messages say of locks (`message`), who waits (`asked`), what is locked (`ranges`), and the worker's list of it
//! (`held`). Invariant: a lock is somebody's who was told that he has it; else it is let go of before anything else is done
//! for that owner.

mod asked;
mod held;
pub(crate) mod message;
mod ranges;

pub(crate) use self::held::Held;
pub use self::held::Lock;

use self::asked::{Asked, End};
use self::message::{About, Owner, Wish};
use self::ranges::Ranges;
use crate::fuse::error;
use crate::lock;
use grid_os::file_lock::{self, Mode, Span, can_be_woken, wake};
use nix::libc;
use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::time::Duration;

/// So many wait for a lock at most; each is a thread.
const WAITERS: usize = 256;
const STACK: usize = 128 << 10;
/// Who is woken is woken again after this, until it has heard: it may not have slept yet.
const AGAIN: Duration = Duration::from_millis(2);

/// A file of that number, open once more; or why not.
type Reopen = dyn Fn(u64) -> io::Result<File> + Send + Sync;
/// Takes an answer that comes later.
type Say = dyn Fn(Vec<u8>) + Send + Sync;

/// What became of a request.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Done {
    /// It is (also) for others to answer.
    Pass,
    /// This is the answer.
    Answer(Vec<u8>),
    /// It is said later.
    Later,
}

/// What one owner has of one file.
struct Place {
    file: File,
    flock: bool,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    ranges: Ranges,
    /// The open file there by which it was asked for last: where that is gone, so is this.
    handle: u64,
    /// Who asked last, by its number there.
    pid: u32,
}

/// The locks of one tree.
pub(crate) struct Locks {
    places: Mutex<BTreeMap<Owner, Arc<Place>>>,
    asked: Arc<Mutex<Asked>>,
    waiters: AtomicUsize,
    to_wake: mpsc::Sender<u64>,
    reopen: Box<Reopen>,
    say: Box<Say>,
}

fn errno(e: &io::Error) -> i32 {
    e.raw_os_error().unwrap_or(libc::ENOLCK)
}

impl Place {
    fn set(&self, mode: Option<Mode>, span: Span) -> io::Result<()> {
        if self.flock {
            return file_lock::set_whole(&self.file, mode, false);
        }
        file_lock::set(&self.file, mode, span)
    }

    fn wait(&self, mode: Mode, span: Span) -> io::Result<()> {
        if self.flock {
            return file_lock::set_whole(&self.file, Some(mode), true);
        }
        file_lock::wait(&self.file, mode, span)
    }

    fn let_go(&self, state: &mut State) {
        state.ranges.clear();
        let _ = self.set(None, Span::WHOLE);
    }

    /// As it was before that request; to less than it was, which waits for nobody.
    fn undo(&self, state: &mut State, unique: u64) {
        for (span, was) in state.ranges.undo(unique) {
            let _ = self.set(was, span);
        }
    }
}

impl Locks {
    pub(crate) fn new(reopen: Box<Reopen>, say: Box<Say>) -> Arc<Self> {
        let (to_wake, wakes) = mpsc::channel();
        let asked = Arc::<Mutex<Asked>>::default();
        let open = asked.clone();
        std::thread::spawn(move || wake_until_heard(&open, &wakes));
        Arc::new(Self { places: Mutex::default(), asked, waiters: AtomicUsize::new(0), to_wake, reopen, say })
    }

    /// In the order in which messages come, before any is worked on. True where that was all.
    pub(crate) fn hear(&self, request: &[u8]) -> bool {
        match About::of(request) {
            About::Set(wish) if wish.mode.is_some() => {
                lock(&self.asked).heard(wish.unique);
                false
            }
            About::Interrupt { of } => {
                self.end(of, End::Interrupted);
                true
            }
            About::LetGo { of } => {
                if !self.end(of, End::LetGo) {
                    self.undo(of);
                }
                true
            }
            _ => false,
        }
    }

    fn end(&self, unique: u64, how: End) -> bool {
        let is_open = lock(&self.asked).end(unique, how);
        if is_open {
            let _ = self.to_wake.send(unique);
        }
        is_open
    }

    /// It was answered, and nobody heard that.
    fn undo(&self, unique: u64) {
        let places: Vec<Arc<Place>> = lock(&self.places).values().cloned().collect();
        places.iter().for_each(|place| place.undo(&mut lock(&place.state), unique));
    }

    /// Does what a request says of locks.
    pub(crate) fn answer(self: &Arc<Self>, request: &[u8]) -> Done {
        match About::of(request) {
            About::Set(wish) => self.set(&wish),
            About::Test(wish) => Done::Answer(self.test(&wish).unwrap_or_else(|e| error(wish.unique, errno(&e)))),
            About::Invalid { unique } => Done::Answer(error(unique, libc::EINVAL)),
            About::Flush { node, owner } => {
                self.flush(Owner { node, owner, flock: false });
                Done::Pass
            }
            About::Release { node, handle } => {
                self.release(node, handle);
                Done::Pass
            }
            _ => Done::Pass,
        }
    }

    fn set(self: &Arc<Self>, wish: &Wish) -> Done {
        let Some(mode) = wish.mode else {
            let place = lock(&self.places).get(&wish.whose).cloned();
            return Done::Answer(error(wish.unique, place.map_or(0, |place| self.unlock(&place, wish))));
        };
        match self.place(wish).and_then(|place| self.try_now(&place, wish, mode)) {
            Ok(answer) => Done::Answer(answer),
            Err(e) if e.kind() == io::ErrorKind::WouldBlock && wish.waits => self.begin_to_wait(wish, mode),
            Err(e) => Done::Answer(self.fail(wish, errno(&e))),
        }
    }

    fn unlock(&self, place: &Place, wish: &Wish) -> i32 {
        let mut state = lock(&place.state);
        match place.set(None, wish.span) {
            Ok(()) => {
                state.ranges.set(wish.span, None, wish.unique);
                0
            }
            Err(e) => errno(&e),
        }
    }

    fn fail(&self, wish: &Wish, errno: i32) -> Vec<u8> {
        lock(&self.asked).answered(wish.unique);
        error(wish.unique, errno)
    }

    /// The description of this owner's for that file; a new one where it has none.
    fn place(&self, wish: &Wish) -> io::Result<Arc<Place>> {
        if let Some(place) = lock(&self.places).get(&wish.whose) {
            return Ok(place.clone());
        }
        // Not while the others wait for the list.
        let file = (self.reopen)(wish.whose.node)?;
        let new = || Arc::new(Place { file, flock: wish.whose.flock, state: Mutex::default() });
        Ok(lock(&self.places).entry(wish.whose).or_insert_with(new).clone())
    }

    fn try_now(&self, place: &Place, wish: &Wish, mode: Mode) -> io::Result<Vec<u8>> {
        let mut state = lock(&place.state);
        if lock(&self.asked).is_ended(wish.unique) {
            return Ok(self.fail(wish, libc::EINTR));
        }
        state.handle = wish.handle;
        match place.set(Some(mode), wish.span) {
            Ok(()) => Ok(self.granted(place, &mut state, wish)),
            Err(e) => {
                // flock(2) lets go of what it would change before it waits.
                if place.flock {
                    state.ranges.clear();
                }
                Err(e)
            }
        }
    }

    /// It has the lock, unless nobody hears of it.
    fn granted(&self, place: &Place, state: &mut State, wish: &Wish) -> Vec<u8> {
        (state.handle, state.pid) = (wish.handle, wish.pid);
        state.ranges.set(wish.span, wish.mode, wish.unique);
        if !lock(&self.asked).answered(wish.unique) {
            return error(wish.unique, 0);
        }
        place.undo(state, wish.unique);
        error(wish.unique, libc::EINTR)
    }

    fn begin_to_wait(self: &Arc<Self>, wish: &Wish, mode: Mode) -> Done {
        if self.waiters.fetch_add(1, Ordering::Relaxed) >= WAITERS {
            self.waiters.fetch_sub(1, Ordering::Relaxed);
            return Done::Answer(self.fail(wish, libc::ENOLCK));
        }
        let (locks, wish) = (self.clone(), *wish);
        let thread = std::thread::Builder::new().stack_size(STACK).spawn(move || {
            let answer = locks.wait(&wish, mode).unwrap_or_else(|e| locks.fail(&wish, errno(&e)));
            locks.waiters.fetch_sub(1, Ordering::Relaxed);
            (locks.say)(answer);
        });
        match thread {
            Ok(_) => Done::Later,
            Err(_) => {
                self.waiters.fetch_sub(1, Ordering::Relaxed);
                Done::Answer(self.fail(&wish, libc::ENOLCK))
            }
        }
    }

    fn wait(&self, wish: &Wish, mode: Mode) -> io::Result<Vec<u8>> {
        let place = self.place(wish)?;
        let thread = can_be_woken()?;
        let waited = loop {
            if !lock(&self.asked).may_wait(wish.unique, thread) {
                break Err(io::Error::from_raw_os_error(libc::EINTR));
            }
            match place.wait(mode, wish.span) {
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                other => break other,
            }
        };
        let answer = waited.map(|()| self.granted(&place, &mut lock(&place.state), wish));
        if answer.is_err() {
            self.forget_empty(wish.whose, place);
        }
        answer
    }

    /// Whoever closed the file while this waited left the description to it.
    fn forget_empty(&self, whose: Owner, place: Arc<Place>) {
        let mut places = lock(&self.places);
        drop(place);
        let is_unused = |place: &Arc<Place>| Arc::strong_count(place) == 1 && lock(&place.state).ranges.is_empty();
        if places.get(&whose).is_some_and(is_unused) {
            places.remove(&whose);
        }
    }

    fn test(&self, wish: &Wish) -> io::Result<Vec<u8>> {
        let Some(mode) = wish.mode else { return Ok(message::in_the_way(wish.unique, None, 0)) };
        let place = lock(&self.places).get(&wish.whose).cloned();
        let found = match place {
            Some(place) => file_lock::in_the_way(&place.file, mode, wish.span)?,
            None => file_lock::in_the_way(&(self.reopen)(wish.whose.node)?, mode, wish.span)?,
        };
        let pid = found.map_or(0, |(_, span)| self.whose(&wish.whose, mode, span));
        Ok(message::in_the_way(wish.unique, found, pid))
    }

    fn of_node(node: u64) -> std::ops::RangeInclusive<Owner> {
        Owner { node, owner: 0, flock: false }..=Owner { node, owner: u64::MAX, flock: true }
    }

    /// The process of the tree that has a lock there; 0 where home has it.
    fn whose(&self, not: &Owner, mode: Mode, span: Span) -> u32 {
        let places = lock(&self.places);
        let mut others = places.range(Self::of_node(not.node)).filter(|(owner, _)| *owner != not && !owner.flock);
        others
            .find_map(|(_, place)| {
                let state = lock(&place.state);
                state.ranges.excludes(span, mode).then_some(state.pid)
            })
            .unwrap_or(0)
    }

    /// Only what nobody waits with is closed.
    fn flush(&self, whose: Owner) {
        let mut places = lock(&self.places);
        let Some(place) = places.get(&whose).cloned() else { return };
        place.let_go(&mut lock(&place.state));
        drop(place);
        if places.get(&whose).is_some_and(|place| Arc::strong_count(place) == 1) {
            places.remove(&whose);
        }
    }

    fn release(&self, node: u64, handle: u64) {
        let mut places = lock(&self.places);
        let gone: Vec<Owner> = places
            .range(Self::of_node(node))
            .filter(|(_, place)| lock(&place.state).handle == handle)
            .map(|(owner, _)| *owner)
            .collect();
        for owner in gone {
            if let Some(place) = places.remove(&owner) {
                place.let_go(&mut lock(&place.state));
            }
        }
    }
}

fn wake_until_heard(asked: &Mutex<Asked>, wakes: &mpsc::Receiver<u64>) {
    let mut open = Vec::new();
    loop {
        let next = if open.is_empty() {
            wakes.recv().map_err(|_| mpsc::RecvTimeoutError::Disconnected)
        } else {
            wakes.recv_timeout(AGAIN)
        };
        match next {
            Ok(unique) => open.push(unique),
            Err(mpsc::RecvTimeoutError::Timeout) => {}
            Err(mpsc::RecvTimeoutError::Disconnected) => return,
        }
        open.retain(|unique| {
            let thread = lock(asked).to_wake(*unique);
            thread.inspect(|thread| wake(*thread)).is_some()
        });
    }
}

#[cfg(test)]
mod tests;

//! The door of the socket to which shadows come. Everybody may come there: who does not say within a short while which
//! shadow it is goes again, and there is room for some who have not, less for those of one user.
//!
//! Owns who waits: a thread for each, until its first word. What that is worth is the agent's to say (`shadow_came`); until
//! then it takes a stranger's room. Nothing that comes behind a first word is read.

use crate::agent::Input;
use crate::link::tracing_line;
use grid_core::strangers::{Crowd, Hush};
use grid_os::packets;
use grid_os::peer::Peer;
use grid_shadow::control::{FromShadow, receive};
use grid_types::AttemptId;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::{Duration, Instant};
use tokio::sync::mpsc::UnboundedSender;

/// So many may be saying who they are, and of one user: each is a descriptor and a thread. Who finds no room comes again.
const STRANGERS: (usize, usize) = (128, 32);
/// A shadow says it as it comes.
const HELLO_WITHIN: Duration = Duration::from_secs(5);
/// An accepting for which there was no descriptor is tried again after this.
const ACCEPT_AGAIN: Duration = Duration::from_millis(50);

/// Whoever came, and was not yet heard.
pub(super) struct Door {
    crowd: Crowd<u32>,
    /// Their users. One that is gone, or is known now, is not held any more.
    waiting: Vec<(u32, Weak<OwnedFd>)>,
    within: Duration,
    inputs: UnboundedSender<Input>,
}

impl Door {
    pub(super) fn new(inputs: UnboundedSender<Input>) -> Self {
        Self { crowd: Crowd::of(STRANGERS.0, STRANGERS.1), waiting: Vec::new(), within: HELLO_WITHIN, inputs }
    }

    /// Lets them in for ever: no one of them, and no want of descriptors, ends it.
    pub(super) fn serve(mut self, listener: &OwnedFd) {
        loop {
            match packets::accept(listener) {
                Ok(stranger) => self.let_in(stranger),
                Err(e) if matches!(e.kind(), io::ErrorKind::ConnectionAborted | io::ErrorKind::Interrupted) => {}
                Err(e) => {
                    say_of_strangers(&format!("nobody is let in at the shadows' socket for now: {e}"));
                    std::thread::sleep(ACCEPT_AGAIN);
                }
            }
        }
    }

    fn let_in(&mut self, stranger: OwnedFd) {
        let Ok(Peer { uid, .. }) = Peer::of(&stranger) else { return };
        let crowd = &mut self.crowd;
        self.waiting.retain(|(uid, one)| {
            let waits = one.strong_count() > 0;
            if !waits {
                crowd.leave(uid);
            }
            waits
        });
        if !crowd.enter(uid) {
            return say_of_strangers(&format!("too many of user {uid} are at the shadows' socket; one was sent away"));
        }
        let stranger = Arc::new(stranger);
        self.waiting.push((uid, Arc::downgrade(&stranger)));
        let (within, inputs) = (self.within, self.inputs.clone());
        // Where no thread can be had it is gone, and comes again.
        drop(std::thread::Builder::new().spawn(move || hear(stranger, within, &inputs)));
    }
}

/// Its first word.
fn hear(stranger: Arc<OwnedFd>, within: Duration, inputs: &UnboundedSender<Input>) {
    let heard = packets::set_patience(&stranger, within).and_then(|()| receive(&stranger, true));
    if let Ok(Some((FromShadow::Hello { shadow, .. }, _))) = heard {
        let _ = inputs.send(Input::ShadowCame { shadow: AttemptId(shadow), control: stranger });
    }
}

/// A line of debug text, where there are not too many of that kind.
pub(super) fn say_of_strangers(text: &str) {
    static SAID: Mutex<Option<(Instant, Hush)>> = Mutex::new(None);
    let mut said = SAID.lock().unwrap_or_else(PoisonError::into_inner);
    let (since, hush) = said.get_or_insert_with(|| (Instant::now(), Hush::default()));
    match hush.say(since.elapsed()) {
        None => {}
        Some(0) => tracing_line(text),
        Some(more) => tracing_line(&format!("{text} (and {more} lines before it that were not written)")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use grid_shadow::control::send;
    use std::path::Path;
    use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

    /// A door with room for few.
    fn open(path: &Path, within: Duration) -> UnboundedReceiver<Input> {
        let (inputs, heard) = unbounded_channel();
        let listener = packets::listen(path, 0o666).unwrap();
        let door = Door { crowd: Crowd::of(4, 2), within, ..Door::new(inputs) };
        std::thread::spawn(move || door.serve(&listener));
        heard
    }

    fn hello() -> FromShadow {
        FromShadow::Hello { shadow: "o-1.1".to_owned(), generation: 1, linked: false }
    }

    /// It says who it is, and waits to be known.
    fn greets(path: &Path, heard: &mut UnboundedReceiver<Input>) -> Option<(OwnedFd, Arc<OwnedFd>)> {
        let shadow = packets::connect(path).unwrap();
        send(&shadow, &hello()).ok()?;
        // Either it is heard, or it is sent away.
        loop {
            match (heard.try_recv(), receive::<FromShadow>(&shadow, false)) {
                (Ok(Input::ShadowCame { control, .. }), _) => return Some((shadow, control)),
                (_, Err(e)) if e.kind() == io::ErrorKind::WouldBlock => std::thread::yield_now(),
                _ => return None,
            }
        }
    }

    fn is_sent_away(stranger: &OwnedFd) {
        assert!(!matches!(receive::<FromShadow>(stranger, true), Ok(Some(_))));
    }

    #[test]
    fn who_says_nothing_or_something_else_goes_again() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("sock");
        let mut heard = open(&path, Duration::from_millis(100));
        for _ in 0..3 {
            let silent = packets::connect(&path).unwrap();
            let other = packets::connect(&path).unwrap();
            send(&other, &FromShadow::Down).unwrap();
            is_sent_away(&other);
            is_sent_away(&silent);
        }
        assert!(heard.try_recv().is_err());
        assert!(greets(&path, &mut heard).is_some());
    }

    #[test]
    fn one_user_takes_no_more_room_than_is_for_one_and_who_is_known_takes_none() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("sock");
        let mut heard = open(&path, Duration::from_secs(600));
        let silent = packets::connect(&path).unwrap();
        let (_shadow, control) = greets(&path, &mut heard).unwrap();
        is_sent_away(&packets::connect(&path).unwrap());
        assert!(greets(&path, &mut heard).is_none());
        // Taken over, as `shadow_came` does.
        let _known = Arc::into_inner(control).unwrap();
        assert!(greets(&path, &mut heard).is_some());
        drop(silent);
    }
}

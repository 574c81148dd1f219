use super::message::tests::{request, wish};
use super::*;
use crate::fuse::{RELEASE, SETLK, SETLKW};
use std::time::Instant;
use tempfile::NamedTempFile;

struct Lab {
    file: NamedTempFile,
    locks: Arc<Locks>,
    later: mpsc::Receiver<Vec<u8>>,
}

fn lab() -> Lab {
    let file = NamedTempFile::new().unwrap();
    let path = file.path().to_owned();
    let (say, later) = mpsc::channel();
    let reopen = move |_| File::options().read(true).write(true).open(&path);
    Lab { file, locks: Locks::new(Box::new(reopen), Box::new(move |answer| drop(say.send(answer)))), later }
}

impl Lab {
    fn ask(&self, operation: u32, wish: &Wish) -> Done {
        let message = request(operation, wish);
        assert!(!self.locks.hear(&message));
        self.locks.answer(&message)
    }

    fn take(&self, unique: u64, owner: u64, mode: Option<Mode>, span: Span) -> Done {
        self.ask(SETLK, &wish(unique, owner, mode, span))
    }

    fn say(&self, about: &[u8]) {
        assert!(self.locks.hear(about));
    }

    fn home(&self) -> File {
        File::options().read(true).write(true).open(self.file.path()).unwrap()
    }

    /// Nothing is locked any more.
    fn is_free(&self) -> bool {
        file_lock::set(&self.home(), Some(Mode::Exclusive), Span::WHOLE).is_ok()
    }

    fn until_free(&self) {
        let begun = Instant::now();
        while !self.is_free() {
            assert!(begun.elapsed() < Duration::from_secs(10));
            std::thread::yield_now();
        }
    }
}

fn interrupt(of: u64) -> Vec<u8> {
    let mut message = message::let_go(of);
    message[4..8].copy_from_slice(&crate::fuse::INTERRUPT.to_ne_bytes());
    message
}

const ALONE: Option<Mode> = Some(Mode::Exclusive);
const HEAD: Span = Span { start: 0, end: 9 };

fn ok(unique: u64) -> Done {
    Done::Answer(error(unique, 0))
}

fn no(unique: u64, errno: i32) -> Done {
    Done::Answer(error(unique, errno))
}

#[test]
fn owners_exclude_each_other_and_home() {
    let lab = lab();
    assert_eq!(lab.take(1, 5, ALONE, HEAD), ok(1));
    assert_eq!(lab.take(2, 6, ALONE, Span::WHOLE), no(2, libc::EAGAIN));
    assert!(!lab.is_free());
    let home = lab.home();
    file_lock::set(&home, ALONE, Span { start: 10, end: 10 }).unwrap();
    assert_eq!(lab.take(3, 5, ALONE, Span::WHOLE), no(3, libc::EAGAIN));
    drop(home);
    let asks = wish(4, 6, ALONE, Span::WHOLE);
    let found = Done::Answer(message::in_the_way(4, Some((Mode::Exclusive, HEAD)), 42));
    assert_eq!(lab.ask(crate::fuse::GETLK, &asks), found);
    assert_eq!(lab.take(5, 5, None, Span::WHOLE), ok(5));
    assert_eq!(lab.ask(crate::fuse::GETLK, &asks), Done::Answer(message::in_the_way(4, None, 0)));
    assert!(lab.is_free());
}

#[test]
fn what_is_closed_is_let_go_of() {
    let lab = lab();
    assert_eq!(lab.take(1, 5, ALONE, HEAD), ok(1));
    let about = |operation: u32, words: [u64; 3]| {
        let mut message = request(operation, &wish(9, 0, None, HEAD))[..40].to_vec();
        words.iter().for_each(|word| message.extend(word.to_ne_bytes()));
        assert_eq!(lab.locks.answer(&message), Done::Pass);
    };
    about(crate::fuse::FLUSH, [0, 0, 6]);
    assert!(!lab.is_free(), "another's");
    about(crate::fuse::FLUSH, [0, 0, 5]);
    assert!(lab.is_free() && lock(&lab.locks.places).is_empty());
    assert_eq!(lab.take(2, 5, ALONE, HEAD), ok(2));
    about(RELEASE, [104, 0, 0]);
    assert!(!lab.is_free());
    about(RELEASE, [105, 0, 0]);
    assert!(lab.is_free() && lock(&lab.locks.places).is_empty());
}

#[test]
fn who_waits_is_told_when_it_is_free() {
    let lab = lab();
    let home = lab.home();
    file_lock::set(&home, ALONE, HEAD).unwrap();
    assert_eq!(lab.ask(SETLKW, &wish(1, 5, ALONE, Span::WHOLE)), Done::Later);
    assert!(lab.later.recv_timeout(Duration::from_millis(20)).is_err());
    drop(home);
    assert_eq!(lab.later.recv().unwrap(), error(1, 0));
    assert!(!lab.is_free());
}

#[test]
fn who_gets_a_signal_waits_no_longer_and_leaves_nothing() {
    let lab = lab();
    let home = lab.home();
    file_lock::set(&home, ALONE, HEAD).unwrap();
    for unique in 1..50 {
        let waits = Wish { waits: true, ..wish(unique, unique, ALONE, Span::WHOLE) };
        // Before it is worked on, as it begins to wait, and while it waits.
        let message = request(SETLKW, &waits);
        assert!(!lab.locks.hear(&message));
        if unique % 3 == 0 {
            lab.say(&interrupt(unique));
            assert_eq!(lab.locks.answer(&message), no(unique, libc::EINTR));
            continue;
        }
        assert_eq!(lab.locks.answer(&message), Done::Later);
        if unique % 3 == 1 {
            std::thread::sleep(Duration::from_millis(1));
        }
        lab.say(&interrupt(unique));
        assert_eq!(lab.later.recv().unwrap(), error(unique, libc::EINTR));
    }
    drop(home);
    assert!(lab.is_free());
}

/// Whatever came first, the grant or the word that nobody hears it: nothing is left locked, and what was locked before is.
#[test]
fn a_lock_of_which_nobody_hears_is_nobody_s() {
    let lab = lab();
    assert_eq!(lab.take(1, 5, Some(Mode::Shared), HEAD), ok(1));
    assert_eq!(lab.take(2, 5, ALONE, Span::WHOLE), ok(2));
    lab.say(&message::let_go(2));
    let home = lab.home();
    file_lock::set(&home, ALONE, Span { start: 10, end: file_lock::LAST }).unwrap();
    file_lock::set(&home, Some(Mode::Shared), HEAD).unwrap();
    assert!(file_lock::set(&home, ALONE, HEAD).is_err(), "what it had before it has still");
    drop(home);
    assert_eq!(lab.take(3, 5, None, Span::WHOLE), ok(3));
    for unique in 4..60 {
        let home = lab.home();
        file_lock::set(&home, ALONE, HEAD).unwrap();
        assert_eq!(lab.ask(SETLKW, &wish(unique, unique, ALONE, Span::WHOLE)), Done::Later);
        let locks = lab.locks.clone();
        let word = std::thread::spawn(move || assert!(locks.hear(&message::let_go(unique))));
        drop(home);
        word.join().unwrap();
        lab.later.recv().unwrap();
        lab.until_free();
    }
    let message = request(SETLK, &wish(70, 5, ALONE, HEAD));
    assert!(!lab.locks.hear(&message));
    lab.say(&message::let_go(70));
    assert_eq!(lab.locks.answer(&message), no(70, libc::EINTR));
    assert!(lab.is_free());
}

#[test]
fn more_than_so_many_do_not_wait() {
    let lab = lab();
    let home = lab.home();
    file_lock::set(&home, ALONE, HEAD).unwrap();
    let most = WAITERS as u64;
    for unique in 1..=most {
        assert_eq!(lab.ask(SETLKW, &wish(unique, unique, ALONE, HEAD)), Done::Later);
    }
    assert_eq!(lab.ask(SETLKW, &wish(most + 1, 1, ALONE, HEAD)), no(most + 1, libc::ENOLCK));
    (1..=most).for_each(|unique| lab.say(&interrupt(unique)));
    lab.later.iter().take(WAITERS).for_each(drop);
    assert_eq!(lab.ask(SETLKW, &wish(most + 2, 1, ALONE, HEAD)), Done::Later);
    drop(home);
    assert_eq!(lab.later.recv().unwrap(), error(most + 2, 0));
}

//! What FUSE's messages say of locks, and our own word for one that nobody waits for any more.

use crate::fuse::{ANSWER_HEAD, FLUSH, GETLK, HEAD, INTERRUPT, RELEASE, SETLK, SETLKW, u32_at, u64_at};
use grid_os::file_lock::{LAST, Mode, Span};
use nix::libc;

/// Of the pump's own, and never the kernel's: whoever asked for a lock was let go before it heard an answer. It is to be as if
/// it had not asked.
const LET_GO: u32 = 1 << 31;
/// `FUSE_LK_FLOCK`.
const FLOCK: u32 = 1;

/// Whose a lock is: on the worker one table of descriptors (POSIX), or one description (the other two kinds).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Owner {
    /// The file.
    pub(crate) node: u64,
    /// What the kernel calls it.
    pub(crate) owner: u64,
    /// By flock(2), which knows nothing of the others.
    pub(crate) flock: bool,
}

/// Somebody wants a lock, or lets go of one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Wish {
    pub(crate) unique: u64,
    pub(crate) whose: Owner,
    /// The open file by which it came.
    pub(crate) handle: u64,
    /// None: lets go.
    pub(crate) mode: Option<Mode>,
    pub(crate) span: Span,
    /// The process, by its number there.
    pub(crate) pid: u32,
    /// Waits for it.
    pub(crate) waits: bool,
}

/// What a message has to do with locks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum About {
    /// Nothing.
    Other,
    /// What is in the way of this one.
    Test(Wish),
    /// This one.
    Set(Wish),
    /// A process closes a file: its POSIX locks of that file are gone.
    Flush { node: u64, owner: u64 },
    /// Nobody has this open file any more.
    Release { node: u64, handle: u64 },
    /// Whoever waits for the answer to this request got a signal.
    Interrupt { of: u64 },
    /// And this one's was let go.
    LetGo { of: u64 },
    /// It contradicts itself.
    Invalid { unique: u64 },
}

impl About {
    /// Reads a whole request.
    pub(crate) fn of(message: &[u8]) -> Self {
        let (unique, node) = (u64_at(message, 8), u64_at(message, 16));
        let word = |at: usize| u64_at(message, HEAD + at);
        match u32_at(message, 4) {
            GETLK | SETLK | SETLKW => wish(message, unique, node),
            FLUSH => Self::Flush { node, owner: word(16) },
            RELEASE => Self::Release { node, handle: word(0) },
            INTERRUPT => Self::Interrupt { of: word(0) },
            LET_GO => Self::LetGo { of: word(0) },
            _ => Self::Other,
        }
    }
}

fn wish(message: &[u8], unique: u64, node: u64) -> About {
    let word = |at: usize| u64_at(message, HEAD + at);
    let (start, end) = (word(16), word(24));
    let mode = match u32_at(message, HEAD + 32) as i32 {
        libc::F_RDLCK => Some(Mode::Shared),
        libc::F_WRLCK => Some(Mode::Exclusive),
        libc::F_UNLCK => None,
        _ => return About::Invalid { unique },
    };
    if message.len() < HEAD + 48 || start > end || end > LAST {
        return About::Invalid { unique };
    }
    let flock = u32_at(message, HEAD + 40) & FLOCK != 0;
    let operation = u32_at(message, 4);
    let wish = Wish {
        unique,
        whose: Owner { node, owner: word(8), flock },
        handle: word(0),
        mode,
        span: if flock { Span::WHOLE } else { Span { start, end } },
        pid: u32_at(message, HEAD + 36),
        waits: operation == SETLKW,
    };
    if operation == GETLK { About::Test(wish) } else { About::Set(wish) }
}

/// Says that whoever asked this was let go.
pub(crate) fn let_go(of: u64) -> Vec<u8> {
    let mut message = vec![0; HEAD];
    message[..4].copy_from_slice(&((HEAD + 8) as u32).to_ne_bytes());
    message[4..8].copy_from_slice(&LET_GO.to_ne_bytes());
    message.extend(of.to_ne_bytes());
    message
}

/// The answer to what is in the way: this lock, and the process that has it, where it is one of the tree's.
pub(crate) fn in_the_way(unique: u64, found: Option<(Mode, Span)>, pid: u32) -> Vec<u8> {
    let (mode, span) = match found {
        None => (libc::F_UNLCK, Span::WHOLE),
        Some((Mode::Shared, span)) => (libc::F_RDLCK, span),
        Some((Mode::Exclusive, span)) => (libc::F_WRLCK, span),
    };
    let mut out = ((ANSWER_HEAD + 24) as u32).to_ne_bytes().to_vec();
    out.extend(0i32.to_ne_bytes());
    out.extend(unique.to_ne_bytes());
    out.extend(span.start.to_ne_bytes());
    out.extend(span.end.to_ne_bytes());
    out.extend((mode as u32).to_ne_bytes());
    out.extend(pid.to_ne_bytes());
    out
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A request of the kernel's.
    pub(crate) fn request(operation: u32, wish: &Wish) -> Vec<u8> {
        let mut message = vec![0; 24];
        message[4..8].copy_from_slice(&operation.to_ne_bytes());
        message[8..16].copy_from_slice(&wish.unique.to_ne_bytes());
        message[16..24].copy_from_slice(&wish.whose.node.to_ne_bytes());
        message.resize(HEAD, 0);
        let mode = match wish.mode {
            None => libc::F_UNLCK,
            Some(Mode::Shared) => libc::F_RDLCK,
            Some(Mode::Exclusive) => libc::F_WRLCK,
        };
        for word in [wish.handle, wish.whose.owner, wish.span.start, wish.span.end] {
            message.extend(word.to_ne_bytes());
        }
        for word in [mode as u32, wish.pid, u32::from(wish.whose.flock), 0] {
            message.extend(word.to_ne_bytes());
        }
        let length = message.len() as u32;
        message[..4].copy_from_slice(&length.to_ne_bytes());
        message
    }

    pub(crate) fn wish(unique: u64, owner: u64, mode: Option<Mode>, span: Span) -> Wish {
        Wish {
            unique,
            whose: Owner { node: 7, owner, flock: false },
            handle: owner + 100,
            mode,
            span,
            pid: 42,
            waits: false,
        }
    }

    #[test]
    fn what_is_said_of_locks_is_read_as_the_kernel_wrote_it() {
        let asked = wish(3, 9, Some(Mode::Exclusive), Span { start: 5, end: LAST });
        assert_eq!(About::of(&request(SETLK, &asked)), About::Set(asked));
        assert_eq!(About::of(&request(SETLKW, &asked)), About::Set(Wish { waits: true, ..asked }));
        assert_eq!(About::of(&request(GETLK, &asked)), About::Test(asked));
        let whose = Owner { flock: true, ..asked.whose };
        let flock = Wish { whose, mode: None, span: Span::WHOLE, ..asked };
        assert_eq!(About::of(&request(SETLK, &flock)), About::Set(flock));
        let of = |operation, words: &[u64]| {
            let mut message = request(operation, &asked)[..HEAD].to_vec();
            words.iter().for_each(|word| message.extend(word.to_ne_bytes()));
            About::of(&message)
        };
        assert_eq!(of(FLUSH, &[1, 2, 3]), About::Flush { node: 7, owner: 3 });
        assert_eq!(of(RELEASE, &[1, 2, 3]), About::Release { node: 7, handle: 1 });
        assert_eq!(of(INTERRUPT, &[1]), About::Interrupt { of: 1 });
        assert_eq!(About::of(&let_go(77)), About::LetGo { of: 77 });
        assert!(crate::fuse::Request::of(&let_go(77)).is_ok_and(|asked| !asked.is_answered()));
        assert_eq!(of(1, &[1]), About::Other);
    }

    #[test]
    fn what_contradicts_itself_is_no_lock() {
        let asked = wish(3, 9, None, Span { start: 5, end: 4 });
        let invalid = About::Invalid { unique: 3 };
        assert_eq!(About::of(&request(SETLK, &asked)), invalid);
        let beyond = Wish { span: Span { start: 5, end: LAST + 1 }, ..asked };
        assert_eq!(About::of(&request(SETLKW, &beyond)), invalid);
        let good = request(SETLK, &Wish { span: Span::WHOLE, ..asked });
        assert_eq!(About::of(&good[..good.len() - 8]), invalid);
        let mut odd = good;
        odd[HEAD + 32] = 9;
        assert_eq!(About::of(&odd), invalid);
    }
}

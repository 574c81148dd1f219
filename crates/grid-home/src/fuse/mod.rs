//! What is looked at of the kernel's FUSE messages. Everything else passes unread.

pub mod asked;

use std::io;

/// A file is opened.
pub const OPEN: u32 = 14;
/// A file is read.
pub const READ: u32 = 15;
/// A file is written.
pub const WRITE: u32 = 16;
/// Nobody has an open file any more.
pub const RELEASE: u32 = 18;
/// Somebody closes a file, or ends with it open. All that was written was said before it.
pub const FLUSH: u32 = 25;
/// An extended attribute is set.
pub const SETXATTR: u32 = 21;
/// Or asked for.
pub const GETXATTR: u32 = 22;
/// First message of a mount.
pub const INIT: u32 = 26;
/// A folder is read.
pub const READDIR: u32 = 28;
/// Which lock is in the way of another.
pub const GETLK: u32 = 31;
/// A lock is taken, where it is free, or let go of.
pub const SETLK: u32 = 32;
/// A lock is taken, and waited for.
pub const SETLKW: u32 = 33;
/// A file is made and opened.
pub const CREATE: u32 = 35;
/// Somebody who waits for an answer got a signal.
pub const INTERRUPT: u32 = 36;
/// A folder is read with what is known of its entries.
pub const READDIRPLUS: u32 = 44;
const FORGET: u32 = 2;
/// Looking at a file: its name, attributes, link, rights. Nothing is done by it, and no process does it in the background.
const LOOKS: [u32; 5] = [1, 3, 5, 34, 52];
const BATCH_FORGET: u32 = 42;
/// Those of the kernel are far below it.
const LAST_OPERATION: u32 = u32::MAX >> 1;

/// The head of a request.
pub const HEAD: usize = 40;
/// The head of an answer.
pub(crate) const ANSWER_HEAD: usize = 16;

pub(crate) fn u32_at(bytes: &[u8], at: usize) -> u32 {
    bytes.get(at..at + 4).and_then(|b| b.try_into().ok()).map_or(0, u32::from_ne_bytes)
}

pub(crate) fn u64_at(bytes: &[u8], at: usize) -> u64 {
    bytes.get(at..at + 8).and_then(|b| b.try_into().ok()).map_or(0, u64::from_ne_bytes)
}

/// A request, as far as it is looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Request {
    /// What is asked.
    pub operation: u32,
    /// Its number, the kernel's.
    pub unique: u64,
    /// The file.
    pub node: u64,
    /// The thread that waits for it; 0 where none does.
    pub thread: u32,
}

impl Request {
    /// Reads the head.
    ///
    /// # Errors
    /// It is no request.
    pub fn of(message: &[u8]) -> io::Result<Self> {
        if message.len() < HEAD || u32_at(message, 0) as usize != message.len() {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "no FUSE request"));
        }
        Ok(Self {
            operation: u32_at(message, 4),
            unique: u64_at(message, 8),
            node: u64_at(message, 16),
            thread: u32_at(message, 32),
        })
    }

    /// Somebody from outside of the tree looks at a file.
    pub fn is_look_from_outside(&self) -> bool {
        self.thread == 0 && LOOKS.contains(&self.operation)
    }

    /// The kernel waits for an answer.
    pub fn is_answered(&self) -> bool {
        // Beyond the kernel's own numbers are words of the pump's.
        self.operation <= LAST_OPERATION && !matches!(self.operation, FORGET | BATCH_FORGET | INTERRUPT)
    }
}

/// The number of the request that an answer is to.
///
/// # Errors
/// It is no answer.
pub fn answered(message: &[u8]) -> io::Result<u64> {
    if message.len() < ANSWER_HEAD || u32_at(message, 0) as usize != message.len() {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "no FUSE answer"));
    }
    Ok(u64_at(message, 8))
}

/// The error that an answer is; 0 where it is none.
pub fn errno(answer: &[u8]) -> i32 {
    (u32_at(answer, 4) as i32).wrapping_neg()
}

/// An answer that is only an error, or (0) that there was none.
pub fn error(unique: u64, errno: i32) -> Vec<u8> {
    let mut out = (ANSWER_HEAD as u32).to_ne_bytes().to_vec();
    out.extend((-errno).to_ne_bytes());
    out.extend(unique.to_ne_bytes());
    out
}

/// What is known of a file is asked for anew.
const INVAL_INODE: u32 = 2;
/// Where a name leads is asked for anew.
const INVAL_ENTRY: u32 = 3;
/// A name is not there any more.
const DELETE: u32 = 6;
/// With [`INVAL_ENTRY`]: who has the file open, or works there, keeps its name, and what is mounted there stays.
const EXPIRE_ONLY: u32 = 1;
/// A notice is at least this, and no longer than with the longest name.
const NOTICE: std::ops::RangeInclusive<usize> = ANSWER_HEAD + 16..=ANSWER_HEAD + 24 + 256;

/// Home says by itself that something changed; nobody asked. Other notices could put content into the kernel's cache, have
/// requests done twice, or take what is mounted on the head's files away: they are none.
pub fn is_notice(message: &[u8]) -> bool {
    let code = u32_at(message, 4);
    answered(message).is_ok_and(|unique| unique == 0)
        && NOTICE.contains(&message.len())
        && matches!(code, INVAL_INODE | INVAL_ENTRY | DELETE)
}

/// The file of which a notice says that its attributes, at least, are others.
pub(crate) fn attributes_of(notice: &[u8]) -> Option<u64> {
    (u32_at(notice, 4) == INVAL_INODE).then(|| u64_at(notice, ANSWER_HEAD))
}

fn notice(code: u32, body: &[&[u8]]) -> Vec<u8> {
    let length = ANSWER_HEAD + body.iter().map(|part| part.len()).sum::<usize>();
    let mut out = (length as u32).to_ne_bytes().to_vec();
    out.extend(code.to_ne_bytes());
    out.extend(0u64.to_ne_bytes());
    body.iter().for_each(|part| out.extend(*part));
    out
}

/// The name in that folder is looked up anew.
pub fn name_changed(folder: u64, name: &[u8]) -> Vec<u8> {
    let (length, flags) = ((name.len() as u32).to_ne_bytes(), EXPIRE_ONLY.to_ne_bytes());
    notice(INVAL_ENTRY, &[&folder.to_ne_bytes(), &length, &flags, name, &[0]])
}

/// Attributes of the file are asked for anew.
pub fn attributes_changed(node: u64) -> Vec<u8> {
    notice(INVAL_INODE, &[&node.to_ne_bytes(), &(-1i64).to_ne_bytes(), &0i64.to_ne_bytes()])
}

/// Attributes and content of the file are asked for anew.
pub fn content_changed(node: u64) -> Vec<u8> {
    notice(INVAL_INODE, &[&node.to_ne_bytes(), &0i64.to_ne_bytes(), &0i64.to_ne_bytes()])
}

/// Whoever asks is nobody in particular: the server is the owner and becomes no other.
pub fn forget_who_asks(message: &mut [u8]) {
    if let Some(ids) = message.get_mut(24..32) {
        ids.fill(0);
    }
}

/// Room that the answer to a request may take.
pub fn room(message: &[u8]) -> usize {
    const SMALL: usize = 16 << 10;
    // What it asks for is the same field in all three.
    let asked = match u32_at(message, 4) {
        READ | READDIR | READDIRPLUS => (u32_at(message, 56) as usize).min(1 << 20),
        _ => 0,
    };
    SMALL + asked
}

/// Largest write, and read, in one message.
const LARGEST: u32 = 1 << 20;
/// Asynchronous reads; locks of both kinds are the server's; truncation with the open; lookups of `.` and `..`; big writes;
/// content that is dropped where the time of change differs; attributes with a folder's entries; writes past the cache at
/// once; lookups beside each other; the server takes set-id bits off, and capabilities, as home's kernel does of itself for who
/// may not keep them; many pages; links cached; a longer answer to this; mappings of files that are not cached.
const FEATURES: [u32; 17] = [0, 1, 3, 4, 5, 10, 12, 13, 14, 15, 18, 19, 22, 23, 28, 30, 36];

/// What is agreed on with the kernel, in the place of what the library agrees on. Never more than the kernel offered.
pub fn agree(request: &[u8], answer: &mut [u8]) {
    let offered = u64::from(u32_at(request, 52)) | u64::from(u32_at(request, 56)) << 32;
    let flags = FEATURES.iter().fold(0u64, |all, bit| all | 1 << bit) & offered;
    let mut put = |at: usize, bytes: &[u8]| {
        if let Some(place) = answer.get_mut(at..at + bytes.len()) {
            place.copy_from_slice(bytes);
        }
    };
    // As far as who mounted set more than the kernel's own.
    put(24, &LARGEST.to_ne_bytes());
    put(28, &(flags as u32).to_ne_bytes());
    put(32, &64u16.to_ne_bytes());
    put(34, &48u16.to_ne_bytes());
    put(36, &LARGEST.to_ne_bytes());
    put(44, &((LARGEST / 4096) as u16).to_ne_bytes());
    put(48, &((flags >> 32) as u32).to_ne_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(operation: u32, unique: u64) -> Vec<u8> {
        let mut message = vec![0u8; 64];
        message[0..4].copy_from_slice(&64u32.to_ne_bytes());
        message[4..8].copy_from_slice(&operation.to_ne_bytes());
        message[8..16].copy_from_slice(&unique.to_ne_bytes());
        message[16] = 3;
        message[24..32].fill(9);
        message[32..36].copy_from_slice(&77u32.to_ne_bytes());
        message[56..60].copy_from_slice(&u32::MAX.to_ne_bytes());
        message
    }

    #[test]
    fn heads_are_read_and_what_has_none_is_refused() {
        let mut message = request(READ, 5);
        assert_eq!(Request::of(&message).unwrap(), Request { operation: READ, unique: 5, node: 3, thread: 77 });
        assert!(room(&message) <= (1 << 20) + (16 << 10), "what is asked for is bounded");
        forget_who_asks(&mut message);
        assert!(message[24..32].iter().all(|b| *b == 0));
        assert!(Request::of(&message[..63]).is_err() && Request::of(&[0; 8]).is_err());
        let answer = error(5, nix::libc::EINTR);
        assert_eq!((answered(&answer).unwrap(), answer.len()), (5, 16));
        assert_eq!((errno(&answer), errno(&[0; 16])), (nix::libc::EINTR, 0));
        assert!(answered(&answer[..15]).is_err());
        let look = |thread, operation| Request { operation, unique: 1, node: 3, thread }.is_look_from_outside();
        assert!(look(0, 1) && look(0, 34) && !look(7, 1) && !look(0, READ));
        assert!(!Request::of(&request(FORGET, 0)).unwrap().is_answered());
    }

    #[test]
    fn notices_are_as_the_kernel_s_header_says_and_others_are_none() {
        // struct fuse_out_header, then struct fuse_notify_inval_entry_out and the name with its zero.
        let name = name_changed(7, b"ab");
        let words = |bytes: &[u8]| bytes.chunks_exact(4).map(|word| u32_at(word, 0)).collect::<Vec<_>>();
        assert_eq!((words(&name[..32]), &name[32..]), (vec![35, 3, 0, 0, 7, 0, 2, 1], &b"ab\0"[..]));
        // struct fuse_notify_inval_inode_out: a negative offset is attributes alone.
        assert_eq!(words(&attributes_changed(9)), [40, 2, 0, 0, 9, 0, u32::MAX, u32::MAX, 0, 0]);
        assert_eq!(words(&content_changed(9)), [40, 2, 0, 0, 9, 0, 0, 0, 0, 0]);
        let all = [name.clone(), attributes_changed(9), content_changed(9), name_changed(1, &[b'x'; 255])];
        assert!(all.iter().all(|notice| is_notice(notice)));
        let with_code = |code: u32| [&name[..4], &code.to_ne_bytes(), &name[8..]].concat();
        assert!(is_notice(&with_code(DELETE)));
        assert!([0, 1, 4, 5, 7, 8, 9].iter().all(|code| !is_notice(&with_code(*code))));
        let answer = [&name[..8], &5u64.to_ne_bytes(), &name[16..]].concat();
        assert!(!is_notice(&answer) && !is_notice(&error(0, 2)) && !is_notice(&name_changed(1, &[b'x'; 300])));
    }
}

//! What a request means for what the worker's kernel remembers, and how long the answer lets it remember that.

use super::{ANSWER_HEAD, CREATE, HEAD, OPEN, READ, READDIRPLUS, WRITE, u32_at, u64_at};
use std::time::Duration;

/// A request, by what the kernel remembers afterwards.
#[derive(Debug, PartialEq, Eq)]
pub enum Asked<'a> {
    /// Where a name leads.
    Name(u64, &'a [u8]),
    /// A name is made.
    Making(u64, &'a [u8]),
    /// Where the names of a folder lead.
    Names(u64),
    /// Attributes of a file.
    Attributes(u64),
    /// A file is made and opened.
    Creating(u64, &'a [u8]),
    /// A file is opened; with `true` to be written.
    Opening(u64, bool),
    /// Content of a file.
    Content(u64),
    /// A file is written.
    Writing(u64),
    /// A name is taken away.
    Removal(u64, &'a [u8]),
    /// A name becomes another; with `true` that one becomes the first.
    Renaming((u64, &'a [u8]), (u64, &'a [u8]), bool),
    /// The kernel remembers files no longer, each as often as it was told of it.
    Forgetting(Vec<(u64, u64)>),
    /// Nothing of these.
    Other,
}

const RENAME_EXCHANGE: u32 = 2;
/// `O_ACCMODE`; 0 is reading alone.
const ACCESS: u32 = 3;

impl<'a> Asked<'a> {
    /// Reads a request whose head was read.
    pub fn of(message: &'a [u8]) -> Self {
        let node = u64_at(message, 16);
        let names = |behind: usize| {
            let mut names = message.get(HEAD + behind..).unwrap_or_default().split(|byte| *byte == 0);
            move || names.next().unwrap_or_default()
        };
        let renaming = |behind: usize, flags: u32| {
            let mut names = names(behind);
            let (from, to) = (names(), names());
            let folder = u64_at(message, HEAD);
            Self::Renaming((node, from), (folder, to), flags & RENAME_EXCHANGE != 0)
        };
        match u32_at(message, 4) {
            // LOOKUP.
            1 => Self::Name(node, names(0)()),
            // SYMLINK, MKDIR and LINK, MKNOD and CREATE (an open file comes with it): what comes before the name differs.
            6 => Self::Making(node, names(0)()),
            9 | 13 => Self::Making(node, names(8)()),
            8 => Self::Making(node, names(16)()),
            CREATE => Self::Creating(node, names(16)()),
            READDIRPLUS => Self::Names(node),
            // GETATTR and SETATTR.
            3 | 4 => Self::Attributes(node),
            OPEN => Self::Opening(node, u32_at(message, HEAD) & ACCESS != 0),
            READ => Self::Content(node),
            WRITE => Self::Writing(node),
            // UNLINK and RMDIR.
            10 | 11 => Self::Removal(node, names(0)()),
            12 => renaming(8, 0),
            45 => renaming(16, u32_at(message, HEAD + 8)),
            super::FORGET => Self::Forgetting(vec![(node, u64_at(message, HEAD))]),
            super::BATCH_FORGET => {
                let pairs = message.get(HEAD + 8..).unwrap_or_default().chunks_exact(16);
                Self::Forgetting(pairs.map(|pair| (u64_at(pair, 0), u64_at(pair, 8))).collect())
            }
            _ => Self::Other,
        }
    }
}

/// An answer does not say that something failed.
pub fn is_success(answer: &[u8]) -> bool {
    answer.len() >= ANSWER_HEAD && super::errno(answer) == 0
}

/// What becomes of the answer to [`Asked::Name`] that nothing is there, where that is to be believed.
pub fn absence(answer: &[u8], time: Duration) -> Vec<u8> {
    let mut absence = vec![0; ANSWER_HEAD + ENTRY];
    absence[..4].copy_from_slice(&((ANSWER_HEAD + ENTRY) as u32).to_ne_bytes());
    absence[8..16].copy_from_slice(&u64_at(answer, 8).to_ne_bytes());
    put(&mut absence, ANSWER_HEAD + 16, time);
    absence
}

/// Of an answer to [`Asked::Opening`]: what the kernel has of the file's content stays.
pub fn keep_content(answer: &mut [u8]) {
    const FOPEN_KEEP_CACHE: u32 = 2;
    let flags = u32_at(answer, ANSWER_HEAD + 8) | FOPEN_KEEP_CACHE;
    if let Some(place) = answer.get_mut(ANSWER_HEAD + 8..ANSWER_HEAD + 12) {
        place.copy_from_slice(&flags.to_ne_bytes());
    }
}

/// A file, as an answer tells of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Told {
    /// Its number.
    pub node: u64,
    /// A folder.
    pub is_folder: bool,
    /// It has this name alone.
    pub is_single: bool,
    at: usize,
}

#[cfg(test)]
impl Told {
    pub(crate) fn new(node: u64, is_folder: bool, is_single: bool) -> Self {
        Self { node, is_folder, is_single, at: 0 }
    }
}

/// `struct fuse_entry_out`: number, generation, both times and their parts of a second, attributes.
const ENTRY: usize = 128;
const IN_ENTRY: usize = 40;
/// `struct fuse_attr_out`: the time, its part of a second, attributes.
const IN_ATTRIBUTES: usize = 16;

fn told(answer: &[u8], at: usize, attributes: usize, node: u64) -> Told {
    const FORMAT: u32 = 0o170_000;
    const FOLDER: u32 = 0o040_000;
    let is_folder = u32_at(answer, attributes + 60) & FORMAT == FOLDER;
    Told { node, is_folder, is_single: u32_at(answer, attributes + 64) == 1, at }
}

/// Of an answer to [`Asked::Name`] or [`Asked::Making`].
pub fn entry(answer: &[u8]) -> Option<Told> {
    entry_at(answer, ANSWER_HEAD)
}

fn entry_at(answer: &[u8], at: usize) -> Option<Told> {
    let whole = answer.len() >= at + ENTRY;
    whole.then(|| told(answer, at, at + IN_ENTRY, u64_at(answer, at))).filter(|told| told.node != 0)
}

/// Of an answer to [`Asked::Names`], with their names.
pub fn entries(answer: &[u8]) -> Vec<(Vec<u8>, Told)> {
    const DIRENT: usize = 24;
    let (mut all, mut at) = (Vec::new(), ANSWER_HEAD);
    while let Some(told) = entry_at(answer, at) {
        let name = at + ENTRY + DIRENT;
        let length = u32_at(answer, at + ENTRY + 16) as usize;
        let Some(bytes) = answer.get(name..name + length) else { break };
        all.push((bytes.to_vec(), told));
        at = name + length.next_multiple_of(8);
    }
    all
}

/// Of an answer to [`Asked::Attributes`].
pub fn attributes(answer: &[u8], node: u64) -> Option<Told> {
    let whole = answer.len() >= ANSWER_HEAD + IN_ATTRIBUTES + 88;
    whole.then(|| told(answer, ANSWER_HEAD, ANSWER_HEAD + IN_ATTRIBUTES, node))
}

fn put(answer: &mut [u8], at: usize, time: Duration) {
    if let Some(place) = answer.get_mut(at..at + 8) {
        place.copy_from_slice(&time.as_secs().to_ne_bytes());
    }
}

/// For so many seconds the name is believed to lead there.
pub fn believe_name(answer: &mut [u8], told: &Told, time: Duration) {
    put(answer, told.at + 16, time);
}

/// For so many seconds the attributes that came with a name are believed.
pub fn believe_entry_attributes(answer: &mut [u8], told: &Told, time: Duration) {
    put(answer, told.at + 24, time);
}

/// For so many seconds the attributes that were asked for are believed.
pub fn believe_attributes(answer: &mut [u8], told: &Told, time: Duration) {
    put(answer, told.at, time);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(operation: u32, body: &[&[u8]]) -> Vec<u8> {
        let body = body.concat();
        let mut message = ((HEAD + body.len()) as u32).to_ne_bytes().to_vec();
        message.extend(operation.to_ne_bytes());
        message.extend(1u64.to_ne_bytes());
        message.extend(5u64.to_ne_bytes());
        message.extend([0; 16]);
        message.extend(body);
        message
    }

    #[test]
    fn requests_are_told_apart_by_what_is_remembered_of_them() {
        let [six, two, flag] = [6u64.to_ne_bytes(), 2u64.to_ne_bytes(), (2u64).to_ne_bytes()];
        let is = |operation, body: &[&[u8]], wanted: Asked<'_>| {
            assert_eq!(Asked::of(&request(operation, body)), wanted, "{operation}");
        };
        is(1, &[b"a\0"], Asked::Name(5, b"a"));
        is(6, &[b"a\0target\0"], Asked::Making(5, b"a"));
        is(9, &[&[1; 8], b"a\0"], Asked::Making(5, b"a"));
        is(13, &[&six, b"a\0"], Asked::Making(5, b"a"));
        is(8, &[&[1; 16], b"a\0"], Asked::Making(5, b"a"));
        is(35, &[&[1; 16], b"a\0"], Asked::Creating(5, b"a"));
        is(44, &[&[0; 40]], Asked::Names(5));
        is(3, &[&[0; 16]], Asked::Attributes(5));
        is(15, &[&[0; 40]], Asked::Content(5));
        is(10, &[b"a\0"], Asked::Removal(5, b"a"));
        is(12, &[&six, b"a\0b\0"], Asked::Renaming((5, b"a"), (6, b"b"), false));
        is(45, &[&six, &flag, b"a\0b\0"], Asked::Renaming((5, b"a"), (6, b"b"), true));
        is(2, &[&two], Asked::Forgetting(vec![(5, 2)]));
        is(42, &[&two, &six, &two, &two, &six], Asked::Forgetting(vec![(6, 2), (2, 6)]));
        is(14, &[&[0; 8]], Asked::Opening(5, false));
        is(14, &[&[1, 0x80, 0, 0, 0, 0, 0, 0]], Asked::Opening(5, true));
        is(16, &[&[0; 40]], Asked::Writing(5));
        is(18, &[&[0; 24]], Asked::Other);
        assert_eq!(Asked::of(&request(45, &[])), Asked::Renaming((5, b""), (0, b""), false));
    }

    fn an_entry(node: u64, mode: u32, links: u32) -> Vec<u8> {
        let mut entry = [0u64; 16].map(u64::to_ne_bytes).concat();
        entry[..8].copy_from_slice(&node.to_ne_bytes());
        entry[100..104].copy_from_slice(&mode.to_ne_bytes());
        entry[104..108].copy_from_slice(&links.to_ne_bytes());
        entry
    }

    #[test]
    fn answers_tell_of_files_and_are_made_to_last() {
        let head = [0u8; ANSWER_HEAD];
        let named = |name: &[u8]| {
            let mut entry = vec![0; 16];
            entry.extend((name.len() as u32).to_ne_bytes());
            entry.extend([0; 4]);
            entry.extend(name);
            entry.resize(entry.len().next_multiple_of(8), 0);
            entry
        };
        let folder = an_entry(8, 0o040_755, 2);
        let mut answer =
            [&head[..], &an_entry(7, 0o100_644, 1), &named(b"file"), &folder, &named(b"12345678")].concat();
        let all = entries(&answer);
        let seen: Vec<_> = all.iter().map(|(name, t)| (&name[..], t.node, t.is_folder, t.is_single)).collect();
        assert_eq!(seen, [(&b"file"[..], 7, false, true), (b"12345678", 8, true, false)]);
        assert_eq!(entries(&answer[..answer.len() - 1]).len(), 1);
        let minute = Duration::from_secs(60);
        believe_name(&mut answer, &all[1].1, minute);
        believe_entry_attributes(&mut answer, &all[1].1, minute);
        let at = all[1].1.at;
        assert_eq!((u64_at(&answer, at + 16), u64_at(&answer, at + 24), u64_at(&answer, 32)), (60, 60, 0));
        assert_eq!(entry(&[&head[..], &folder].concat()).map(|told| told.node), Some(8));
        assert_eq!(entry(&[&head[..], &an_entry(0, 0, 0)].concat()), None);
        let mut answer = [&head[..], &[0; 16], &folder[IN_ENTRY..]].concat();
        let of = attributes(&answer, 8).unwrap();
        assert!(of.is_folder && !of.is_single);
        believe_attributes(&mut answer, &of, minute);
        assert_eq!(u64_at(&answer, ANSWER_HEAD), 60);
        assert_eq!(attributes(&head, 8), None);
        let nothing = absence(&super::super::error(9, 2), minute);
        assert_eq!((nothing.len(), super::super::answered(&nothing).unwrap()), (16 + 128, 9));
        assert_eq!((entry(&nothing), u64_at(&nothing, 16), u64_at(&nothing, 32)), (None, 0, 60));
        let mut opened = vec![1; 32];
        keep_content(&mut opened);
        assert_eq!((u64_at(&opened, 16), u32_at(&opened, 24)), (u64_at(&[1; 8], 0), 0x0101_0103));
        assert!(is_success(&head) && !is_success(&super::super::error(1, 2)) && !is_success(&[]));
    }
}

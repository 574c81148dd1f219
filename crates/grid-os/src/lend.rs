//! The file in which a node's owner says what it lends, and the agent's answer beside it.
//!
//! Owns no decision. Both are written whole: a reader finds the old one or the new one.

use crate::order;
use grid_types::lend::{LendAnswer, LendOrder, LendPlace};
use grid_types::lend_rule;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;

/// No order is longer.
const MOST: u64 = 64 << 10;

/// The owner's word as it stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Said {
    /// Tells it from another one; none where nothing is said.
    pub mark: Option<String>,
    /// It, or how it could not be read.
    pub order: Result<LendOrder, String>,
}

/// Reads it. Nothing said is not an error: it lends then.
pub fn read(place: &LendPlace) -> Said {
    let nothing = Said { mark: None, order: Ok(LendOrder::default()) };
    // Whoever may write in its folder must not have another file read.
    let flags = nix::libc::O_NOFOLLOW | nix::libc::O_NONBLOCK;
    let file = match OpenOptions::new().read(true).custom_flags(flags).open(&place.order) {
        Ok(file) => file,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return nothing,
        Err(e) => return Said { mark: Some("unreadable".to_owned()), order: Err(e.to_string()) },
    };
    let mark = file.metadata().map_or_else(|_| "unreadable".to_owned(), |meta| order::mark(&meta));
    Said { mark: Some(mark), order: parsed(&file) }
}

fn parsed(file: &File) -> Result<LendOrder, String> {
    if !file.metadata().is_ok_and(|meta| meta.is_file()) {
        return Err("it is no file".to_owned());
    }
    let mut text = Vec::new();
    file.take(MOST).read_to_end(&mut text).map_err(|e| e.to_string())?;
    let mut order: LendOrder = serde_json::from_slice(&text).map_err(|e| e.to_string())?;
    // Who boots is awake.
    order.asleep = order.asleep.filter(|boot| crate::clock::boot_id().is_ok_and(|now| now == *boot));
    lend_rule::check(&order.rules).map(|()| order)
}

/// Makes the folder of the owner's word, root's alone unless root lets others in.
///
/// # Errors
/// What the file system refused.
pub fn prepare(place: &LendPlace) -> io::Result<()> {
    match place.order.parent() {
        Some(dir) => fs::DirBuilder::new().recursive(true).mode(0o755).create(dir),
        None => Ok(()),
    }
}

/// Says this from now on. Returns its mark.
///
/// # Errors
/// What the file system refused; then the word is as it was.
pub fn say(place: &LendPlace, order: &LendOrder) -> io::Result<String> {
    put(&place.order, &serde_json::to_vec_pretty(order)?, true)?;
    fs::symlink_metadata(&place.order).map(|meta| order::mark(&meta))
}

/// What the agent said last; none where it said nothing that can be read.
pub fn answer(place: &LendPlace) -> Option<LendAnswer> {
    serde_json::from_slice(&fs::read(&place.answer).ok()?).ok()
}

/// Writes the agent's answer; the next agent writes one that a power cut takes anew.
///
/// # Errors
/// What the file system refused.
pub fn put_answer(place: &LendPlace, answer: &LendAnswer) -> io::Result<()> {
    put(&place.answer, &serde_json::to_vec(answer)?, false)
}

fn put(path: &Path, text: &[u8], lasting: bool) -> io::Result<()> {
    let new = path.with_extension("new");
    let _ = fs::remove_file(&new);
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o644).open(&new)?;
    file.write_all(text)?;
    if lasting {
        file.sync_all()?;
    }
    fs::rename(&new, path)
}

/// Calls `changed` from a thread of its own whenever the word is another one, until that says false.
pub fn watch(place: &LendPlace, mut changed: impl FnMut() -> bool + Send + 'static) {
    let (place, mut known) = (place.clone(), None);
    order::watch(vec![place.order.clone()], move || {
        let mark = fs::symlink_metadata(&place.order).ok().map(|meta| order::mark(&meta));
        let new = known.as_ref() != Some(&mark);
        known = Some(mark);
        !new || changed()
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc;
    use std::time::Duration;

    const FLAPS: &str = r#"{"on":true,"since":0,"rules":[{"when":"input","then":"off","quiet":1}]}"#;

    fn place() -> (tempfile::TempDir, LendPlace) {
        let dir = tempfile::tempdir().unwrap();
        let place = LendPlace::of(dir.path());
        prepare(&place).unwrap();
        (dir, place)
    }

    #[test]
    fn what_is_said_is_read_and_what_cannot_be_read_is_an_error() {
        let (_dir, place) = place();
        assert_eq!(read(&place), Said { mark: None, order: Ok(LendOrder::default()) });
        let off = LendOrder { on: false, ..LendOrder::default() };
        let mark = say(&place, &off).unwrap();
        assert_eq!(read(&place), Said { mark: Some(mark.clone()), order: Ok(off.clone()) });
        assert_ne!(say(&place, &off).unwrap(), mark, "the same again is another order");
        for text in ["", "{", "{\"on\":false}", "{\"on\":true,\"since\":0,\"never\":1}", FLAPS] {
            fs::write(&place.order, text).unwrap();
            assert!(read(&place).order.is_err(), "{text}");
        }
        fs::remove_file(&place.order).unwrap();
        let other = place.answer.with_extension("other");
        fs::write(&other, serde_json::to_vec(&LendOrder::default()).unwrap()).unwrap();
        std::os::unix::fs::symlink(&other, &place.order).unwrap();
        assert!(read(&place).order.is_err(), "a link is not followed");
    }

    #[test]
    fn each_change_is_told() {
        let (_dir, place) = place();
        let (tx, rx) = mpsc::channel();
        let own = place.clone();
        watch(&place, move || tx.send(read(&own).order).is_ok());
        let told = |want: &LendOrder| {
            // A change may be told once more than it happened: the thread looks while the file is being moved.
            while rx.recv_timeout(Duration::from_secs(20)).unwrap().as_ref() != Ok(want) {}
        };
        told(&LendOrder::default());
        let off = LendOrder { on: false, ..LendOrder::default() };
        say(&place, &off).unwrap();
        told(&off);
        fs::remove_file(&place.order).unwrap();
        told(&LendOrder::default());
    }
}

//! The file that stops everything: whether it stands, and what agents answer.
//!
//! Owns no decision. That it is there is all that counts; what is in it is never read.

use crate::order;
use grid_types::stop::{Stop, StopAnswer, StopPlace};
use grid_types::units::UnixMs;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;

/// The order that stands, the first in the list; none where there is none.
pub fn standing(place: &StopPlace) -> Option<Stop> {
    place.files.iter().find_map(|file| {
        let meta = fs::symlink_metadata(file).ok()?;
        let since = (meta.mtime().max(0) as u64) * 1000 + (meta.mtime_nsec() / 1_000_000) as u64;
        Some(Stop { file: file.clone(), uid: meta.uid(), since: UnixMs(since), mark: order::mark(&meta) })
    })
}

/// Answers to this order.
pub fn answers(place: &StopPlace, stop: &Stop) -> Vec<StopAnswer> {
    let read = |entry: fs::DirEntry| serde_json::from_slice::<StopAnswer>(&fs::read(entry.path()).ok()?).ok();
    let mut all: Vec<StopAnswer> =
        fs::read_dir(&place.answers).map_or(Vec::new(), |dir| dir.flatten().filter_map(read).collect());
    all.retain(|a| a.mark == stop.mark);
    all.sort_by(|a, b| a.node.cmp(&b.node));
    all
}

/// Writes an answer so that a reader finds it whole.
///
/// # Errors
/// What the file system refused.
pub fn answer(place: &StopPlace, answer: &StopAnswer) -> io::Result<()> {
    fs::create_dir_all(&place.answers)?;
    let path = place.answer(&answer.node);
    let new = place.answers.join(format!(".{}.new", answer.node));
    fs::write(&new, serde_json::to_vec(answer)?)?;
    fs::rename(new, path)
}

/// Calls `changed` from a thread of its own, with what stands now, whenever that is another order than before, until it
/// says false. The first look is compared with `known`.
pub fn watch(place: StopPlace, known: Option<Stop>, mut changed: impl FnMut(Option<Stop>) -> bool + Send + 'static) {
    let mut last = known.map(|s| s.mark);
    order::watch(place.files.clone(), move || {
        let now = standing(&place);
        let mark = now.as_ref().map(|s| s.mark.clone());
        let new = mark != last;
        last = mark;
        !new || changed(now)
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;
    use std::sync::mpsc;
    use std::time::Duration;

    fn place(dir: &Path) -> StopPlace {
        let files = vec![dir.join("control/stop"), dir.join("etc/grid/stop")];
        StopPlace { files, of_head: None, answers: dir.join("stopped") }
    }

    #[test]
    fn an_order_stands_while_any_of_its_files_is_there() {
        let dir = tempfile::tempdir().unwrap();
        let place = place(dir.path());
        assert_eq!(standing(&place), None);
        fs::create_dir_all(dir.path().join("etc/grid")).unwrap();
        // Also a link that leads nowhere.
        std::os::unix::fs::symlink("/nowhere", &place.files[1]).unwrap();
        let machine = standing(&place).unwrap();
        assert_eq!((&machine.file, machine.uid), (&place.files[1], nix::unistd::getuid().as_raw()));
        fs::create_dir_all(dir.path().join("control")).unwrap();
        fs::write(&place.files[0], "").unwrap();
        let own = standing(&place).unwrap();
        assert!(own.file == place.files[0] && own.mark != machine.mark);
    }

    #[test]
    fn its_coming_and_going_is_told_also_where_its_folder_was_not_there_yet() {
        let dir = tempfile::tempdir().unwrap();
        let place = place(dir.path());
        let (tx, rx) = mpsc::channel();
        watch(place.clone(), None, move |now| tx.send(now).is_ok());
        let told = |what: &str| rx.recv_timeout(Duration::from_secs(20)).unwrap_or_else(|e| panic!("{what}: {e}"));
        fs::create_dir_all(dir.path().join("control")).unwrap();
        fs::write(&place.files[0], "").unwrap();
        assert_eq!(told("made"), standing(&place));
        fs::remove_file(&place.files[0]).unwrap();
        assert_eq!(told("removed"), None);
    }

    #[test]
    fn only_answers_to_this_order_count() {
        let dir = tempfile::tempdir().unwrap();
        let place = place(dir.path());
        fs::create_dir_all(dir.path().join("control")).unwrap();
        fs::write(&place.files[0], "").unwrap();
        let stop = standing(&place).unwrap();
        let of = |node: &str, mark: &str| StopAnswer {
            node: node.into(),
            mark: mark.to_owned(),
            undone: vec!["o-1.1".into()],
            finishing: Vec::new(),
            took: None,
        };
        answer(&place, &of("gpu1", &stop.mark)).unwrap();
        answer(&place, &of("gpu2", "another")).unwrap();
        assert_eq!(answers(&place, &stop), [of("gpu1", &stop.mark)]);
    }
}

//! The files on which a parked tree depends: noted when it is frozen, compared before anything is started. Days may pass
//! between the two, and a library that was upgraded, or an output that somebody went on writing, would not be what the
//! tree has in its memory.

use grid_types::wire::FileMark;
use std::collections::BTreeSet;
use std::os::unix::fs::MetadataExt;

/// So many changed files are named.
const NAMED: usize = 3;

/// Marks of every regular file that these processes map or hold open, as they see them. They are frozen.
pub(crate) fn marks(pids: &[i32]) -> Vec<FileMark> {
    let mut all = BTreeSet::new();
    for pid in pids {
        let root = format!("/proc/{pid}/root");
        all.extend(paths_of(*pid).into_iter().filter_map(|path| mark(&root, path)));
    }
    all.into_iter().collect()
}

fn paths_of(pid: i32) -> BTreeSet<String> {
    let maps = std::fs::read_to_string(format!("/proc/{pid}/maps")).unwrap_or_default();
    // The path is the sixth field, and may have spaces.
    let mapped = maps.lines().filter_map(|line| line.find('/').map(|at| line[at..].to_owned()));
    let fds = std::fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
    let open = fds.filter_map(|e| Some(std::fs::read_link(e.path()).ok()?.to_string_lossy().into_owned()));
    mapped.chain(open).filter(|path| is_kept(path)).collect()
}

/// It has a name in a file system that keeps it; what has none comes along in the copy.
fn is_kept(path: &str) -> bool {
    let passing = ["/proc/", "/sys/", "/dev/", "/memfd:", "/SYSV"];
    path.starts_with('/') && !path.ends_with(" (deleted)") && !passing.iter().any(|p| path.starts_with(p))
}

fn mark(root: &str, path: String) -> Option<FileMark> {
    let found = std::fs::metadata(format!("{root}{path}")).ok().filter(std::fs::Metadata::is_file)?;
    Some(FileMark { size: found.len(), changed_ns: changed_ns(&found), path })
}

fn changed_ns(found: &std::fs::Metadata) -> i64 {
    found.mtime().saturating_mul(1_000_000_000).saturating_add(found.mtime_nsec())
}

/// What is not as it was below that root, in words; `None` where all is. The text begins with its reason code.
pub(crate) fn changed(root: &str, files: &[FileMark]) -> Option<String> {
    let differs = |file: &FileMark| match std::fs::metadata(format!("{root}{}", file.path)) {
        Err(e) => Some(format!("{} is gone ({e})", file.path)),
        Ok(now) if now.len() != file.size => {
            Some(format!("{} had {} bytes and has {}", file.path, file.size, now.len()))
        }
        Ok(now) if changed_ns(&now) != file.changed_ns => Some(format!("{} was changed since", file.path)),
        Ok(_) => None,
    };
    let all: Vec<String> = files.iter().filter_map(differs).collect();
    let more = all.len().saturating_sub(NAMED);
    let more = if more > 0 { format!("; and {more} more") } else { String::new() };
    (!all.is_empty()).then(|| {
        format!(
            "E-FILE it was parked with files that are not the same any more: {}{more}. Put them back as they were",
            all[..all.len().min(NAMED)].join("; ")
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_grew_changed_or_went_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("out with a space");
        std::fs::write(&path, "abc").unwrap();
        let one = mark("", path.display().to_string()).unwrap();
        assert_eq!(changed("", std::slice::from_ref(&one)), None);
        let later = FileMark { changed_ns: one.changed_ns - 1, ..one.clone() };
        assert!(changed("", &[later]).unwrap().contains("was changed since"));
        std::fs::write(&path, "abcd").unwrap();
        assert!(changed("", std::slice::from_ref(&one)).unwrap().contains("had 3 bytes and has 4"));
        std::fs::remove_file(&path).unwrap();
        let gone = changed("", &vec![one; 5]).unwrap();
        assert!(gone.starts_with("E-FILE ") && gone.contains("is gone") && gone.contains("and 2 more"), "{gone}");
    }

    #[test]
    fn what_a_process_maps_and_holds_is_noted_and_what_passes_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let held = std::fs::File::create(dir.path().join("held")).unwrap();
        let paths: Vec<String> = marks(&[std::process::id() as i32]).into_iter().map(|m| m.path).collect();
        let exe = std::env::current_exe().unwrap().display().to_string();
        assert!(paths.contains(&exe), "{paths:?}");
        assert!(paths.iter().any(|p| p.ends_with("/held")), "{paths:?}");
        assert!(paths.iter().all(|p| is_kept(p)), "{paths:?}");
        drop(held);
    }
}

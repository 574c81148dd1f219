//! Whether a path means the same file on two machines. Not believed: looked at on both.

use grid_types::wire::FileSeen;

/// Whether what the source uses is what the destination has under the same path.
///
/// A shared file system shows one file to both: the same inode, and of what nobody writes the same size and time. Else only
/// the same bytes will do, and never for a file that is written to, because each machine would write its own.
///
/// # Errors
/// What is wrong with it, as a sentence about the path.
pub fn same(source: &FileSeen, here: Option<&FileSeen>) -> Result<(), String> {
    let path = &source.path;
    let Some(here) = here else { return Err(format!("{path} is not there")) };
    if source.folder != here.folder {
        return Err(format!("{path} is {} there", if here.folder { "a folder" } else { "no folder" }));
    }
    if source.folder {
        return Ok(());
    }
    let one = source.inode == here.inode;
    if source.written {
        return if one { Ok(()) } else { Err(format!("{path} is written to, and is another file there")) };
    }
    if one && source.bytes == here.bytes && source.modified_ns == here.modified_ns {
        return Ok(());
    }
    if source.bytes != here.bytes {
        return Err(format!("{path} has {} bytes, and {} there", source.bytes, here.bytes));
    }
    match (&source.content, &here.content) {
        (Some(a), Some(b)) if a == b => Ok(()),
        (Some(_), Some(_)) => Err(format!("{path} differs there")),
        _ => Err(format!("{path} is too large to compare, and is another file there")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file() -> FileSeen {
        FileSeen {
            path: "/data/set".into(),
            folder: false,
            inode: 7,
            bytes: 100,
            modified_ns: 5,
            written: false,
            content: Some("sha256 aa".into()),
        }
    }

    fn wrong(source: &FileSeen, here: Option<FileSeen>) -> String {
        same(source, here.as_ref()).unwrap_err()
    }

    #[test]
    fn one_file_of_a_shared_file_system_is_the_same() {
        assert_eq!(same(&file(), Some(&file())), Ok(()));
        let written = FileSeen { written: true, content: None, ..file() };
        // It grew in between.
        assert_eq!(same(&written, Some(&FileSeen { bytes: 120, modified_ns: 9, ..written.clone() })), Ok(()));
    }

    #[test]
    fn two_files_are_the_same_by_their_bytes_alone() {
        let copy = FileSeen { inode: 8, modified_ns: 9, ..file() };
        assert_eq!(same(&file(), Some(&copy)), Ok(()));
        assert!(
            wrong(&file(), Some(FileSeen { content: Some("sha256 bb".into()), ..copy.clone() }))
                .ends_with("differs there")
        );
        assert!(wrong(&file(), Some(FileSeen { bytes: 99, ..copy.clone() })).contains("100 bytes, and 99 there"));
        assert!(wrong(&file(), Some(FileSeen { content: None, ..copy.clone() })).contains("too large to compare"));
        // The same inode by chance, on another disk.
        let chance = FileSeen { content: Some("sha256 bb".into()), modified_ns: 6, ..file() };
        assert!(wrong(&file(), Some(chance)).ends_with("differs there"));
        let written = FileSeen { written: true, content: None, ..file() };
        assert!(wrong(&written, Some(copy)).contains("written to"));
    }

    #[test]
    fn what_is_missing_or_of_another_kind_is_not_the_same() {
        assert!(wrong(&file(), None).ends_with("is not there"));
        let folder = FileSeen { folder: true, content: None, ..file() };
        assert!(wrong(&file(), Some(folder.clone())).contains("a folder there"));
        assert!(wrong(&folder, Some(file())).contains("no folder there"));
        assert_eq!(same(&folder, Some(&FileSeen { inode: 1, modified_ns: 1, ..folder.clone() })), Ok(()));
    }
}

//! What is mounted at home, and what is not any more: it changes where names lead, and no folder changes by it.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Read, Seek};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;

/// Mounts by their numbers, and where they are.
type Known = BTreeSet<(Vec<u8>, PathBuf)>;

/// The mounts of this process's namespace. The descriptor is in the state of an error or of urgent data once they changed.
#[derive(Debug)]
pub struct Mounts {
    file: File,
    known: Known,
}

impl Mounts {
    /// As they are.
    ///
    /// # Errors
    /// The kernel's.
    pub fn new() -> io::Result<Self> {
        let mut mounts = Self { file: File::open("/proc/self/mountinfo")?, known: Known::new() };
        mounts.changed()?;
        Ok(mounts)
    }

    /// Where something is mounted, or not any more, since the last call.
    ///
    /// # Errors
    /// The kernel's.
    pub fn changed(&mut self) -> io::Result<Vec<PathBuf>> {
        let mut text = Vec::new();
        self.file.rewind()?;
        self.file.read_to_end(&mut text)?;
        let before = std::mem::replace(&mut self.known, read(&text));
        Ok(before.symmetric_difference(&self.known).map(|(_, place)| place.clone()).collect())
    }
}

impl AsFd for Mounts {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

/// Of `/proc/self/mountinfo`: the first field and the fifth, in which blanks and the like are octal.
fn read(text: &[u8]) -> Known {
    let of_line = |line: &[u8]| {
        let mut fields = line.split(|byte| *byte == b' ');
        let number = fields.next()?.to_vec();
        Some((number, PathBuf::from(OsString::from_vec(plain(fields.nth(3)?)))))
    };
    text.split(|byte| *byte == b'\n').filter_map(of_line).collect()
}

fn plain(mut field: &[u8]) -> Vec<u8> {
    let mut plain = Vec::new();
    while let [first, rest @ ..] = field {
        let octal = rest.get(..3).filter(|_| *first == b'\\').and_then(|digits| std::str::from_utf8(digits).ok());
        let byte = octal.and_then(|digits| u8::from_str_radix(digits, 8).ok());
        plain.push(byte.unwrap_or(*first));
        field = if byte.is_some() { &rest[3..] } else { rest };
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mounts_are_known_by_number_and_place() {
        let text = b"22 1 8:1 / / rw - ext4 /dev/sda1 rw\n30 22 0:40 / /a\\040b\\134 rw - tmpfs x rw\n\n31 22 0:41\n";
        let known: Vec<_> = read(text).into_iter().collect();
        assert_eq!(known, [(b"22".to_vec(), PathBuf::from("/")), (b"30".to_vec(), PathBuf::from("/a b\\"))]);
        assert_eq!(
            (plain(b"\\"), plain(b"\\99"), plain(b"\\0401")),
            (b"\\".to_vec(), b"\\99".to_vec(), b" 1".to_vec())
        );
        assert!(Mounts::new().unwrap().known.iter().any(|(_, place)| place.as_os_str() == "/"));
    }
}

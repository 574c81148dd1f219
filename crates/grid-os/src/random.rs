//! Bits that nobody can guess, of the kernel's.

use std::fs::File;
use std::io::{self, Read};

/// So many bytes.
///
/// # Errors
/// `/dev/urandom` could not be read.
pub fn bytes<const N: usize>() -> io::Result<[u8; N]> {
    let mut bytes = [0; N];
    File::open("/dev/urandom")?.read_exact(&mut bytes)?;
    Ok(bytes)
}

/// So many bytes in hexadecimal, two digits each.
///
/// # Errors
/// As for [`bytes`].
pub fn hex<const N: usize>() -> io::Result<String> {
    Ok(bytes::<N>()?.iter().map(|byte| format!("{byte:02x}")).collect())
}

#[cfg(test)]
mod tests {
    #[test]
    fn each_is_another_and_as_long_as_was_asked() {
        let (one, other) = (super::hex::<32>().unwrap(), super::hex::<32>().unwrap());
        assert!(one != other && one.len() == 64 && one.bytes().all(|b| b.is_ascii_hexdigit()));
    }
}

//! The clocks of a checkpoint. A restore as the owner may make no time namespace, so it is made for it: the offsets are
//! those that CRIU would compute (`criu/timens.c`) from the clocks that the dump noted.

use super::images::IMAGE_HEAD;
use crate::spawn::Clocks;
use nix::time::{ClockId, clock_gettime};
use prost::Message;
use std::fs;
use std::io;
use std::path::Path;

const FILE: &str = "timens-0.img";
const SECOND: i128 = 1_000_000_000;

#[derive(Clone, Copy, PartialEq, Message)]
struct Timespec {
    #[prost(uint64, required, tag = "1")]
    seconds: u64,
    #[prost(uint64, required, tag = "2")]
    nanos: u64,
}

#[derive(Clone, PartialEq, Message)]
struct Noted {
    #[prost(message, required, tag = "1")]
    monotonic: Timespec,
    #[prost(message, required, tag = "2")]
    boottime: Timespec,
}

/// The offsets that let the clocks go on from where they stood; `None` where the dump noted none.
pub(super) fn clocks(images: &Path) -> io::Result<Option<Clocks>> {
    let bytes = match fs::read(images.join(FILE)) {
        Ok(bytes) => bytes,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(e),
    };
    let Some(message) = bytes.get(IMAGE_HEAD + 4..).filter(|m| !m.is_empty()) else { return Ok(None) };
    let noted = Noted::decode(message).map_err(|e| io::Error::other(format!("{FILE}: {e}")))?;
    let now = |clock| -> io::Result<i128> {
        let now = clock_gettime(clock)?;
        Ok(i128::from(now.tv_sec()) * SECOND + i128::from(now.tv_nsec()))
    };
    Ok(Some(Clocks {
        monotonic: offset(noted.monotonic, now(ClockId::CLOCK_MONOTONIC)?),
        boottime: offset(noted.boottime, now(ClockId::CLOCK_BOOTTIME)?),
    }))
}

fn offset(noted: Timespec, now: i128) -> (i64, u32) {
    let offset = i128::from(noted.seconds) * SECOND + i128::from(noted.nanos) - now;
    let seconds = i64::try_from(offset.div_euclid(SECOND)).unwrap_or(0);
    (seconds, offset.rem_euclid(SECOND) as u32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_offset_carries_a_clock_on_from_where_it_stood() {
        let noted = |seconds, nanos| Timespec { seconds, nanos };
        assert_eq!(offset(noted(10, 5), 7 * SECOND), (3, 5));
        assert_eq!(offset(noted(7, 0), 10 * SECOND + 1), (-4, 999_999_999));
    }

    #[test]
    fn without_a_note_the_clocks_are_this_nodes() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(clocks(dir.path()).unwrap(), None);
        fs::write(dir.path().join(FILE), [0u8; 12]).unwrap();
        assert_eq!(clocks(dir.path()).unwrap(), None);
        fs::write(dir.path().join(FILE), [0xffu8; 40]).unwrap();
        assert!(clocks(dir.path()).is_err());
    }
}

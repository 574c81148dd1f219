//! The filter of `grid run` in a dump: looked at, and left out of what is sent. At the destination CRIU is started under it
//! and needs no right to install one.
//!
//! Here a claim becomes knowledge: a tree that is under any other filter is refused, frozen and before anything of it is
//! sent that could be restored.

use super::CriuError;
use super::corrected::{for_each_field, framed, replace};
use crate::seccomp::is_ours;
use prost::Message;
use std::fs;
use std::path::Path;

/// CRIU's image with the filters of all threads.
pub(super) const IMAGE: &str = "seccomp.img";
/// Before an image's messages.
const MAGIC: usize = 8;
/// `core_entry.tc` and `core_entry.thread_core`, of CRIU's `core.proto`.
const TASK: u32 = 3;
const THREAD: u32 = 5;
/// `seccomp_mode` and `seccomp_filter` of either.
const FIELDS: [u32; 2] = [11, 12];
/// `COMPEL_TASK_DEAD` and `COMPEL_TASK_ZOMBIE`, of which nothing runs.
const ENDED: [u32; 2] = [2, 6];
/// `SECCOMP_FILTER_FLAG_TSYNC`: CRIU's note that all threads of a process have the same; only the first one's core says so.
const FOR_ALL: u32 = 1;
/// `SECCOMP_MODE_FILTER`.
const FILTER: u32 = 2;

/// `seccomp_filter` and `seccomp_entry` of CRIU's `seccomp.proto`.
#[derive(Clone, PartialEq, Message)]
struct Filter {
    #[prost(bytes = "vec", required, tag = "1")]
    filter: Vec<u8>,
    #[prost(uint32, optional, tag = "2")]
    prev: Option<u32>,
    #[prost(uint32, optional, tag = "3")]
    flags: Option<u32>,
}

#[derive(Clone, PartialEq, Message)]
struct Filters {
    #[prost(message, repeated, tag = "1")]
    filters: Vec<Filter>,
}

#[derive(Clone, PartialEq, Message)]
struct Task {
    #[prost(uint32, optional, tag = "1")]
    state: Option<u32>,
}

#[derive(Clone, PartialEq, Message)]
struct Thread {
    #[prost(uint32, optional, tag = "11")]
    mode: Option<u32>,
}

#[derive(Clone, PartialEq, Message)]
struct Core {
    #[prost(message, optional, tag = "3")]
    task: Option<Task>,
    #[prost(message, optional, tag = "5")]
    thread: Option<Thread>,
}

/// Every filter of this dump is that of `grid run`, and no thread has two.
pub(super) fn check(dir: &Path) -> Result<(), CriuError> {
    let path = dir.join(IMAGE);
    let image = fs::read(&path).map_err(|e| CriuError::Images(path, e))?;
    let message = image.get(MAGIC..).and_then(framed).map(|(message, _)| message);
    let filters = message.and_then(|m| Filters::decode(m).ok()).unwrap_or_default().filters;
    let ours = |f: &Filter| is_ours(&f.filter) && f.prev.is_none() && f.flags == Some(FOR_ALL);
    if !filters.is_empty() && filters.iter().all(ours) { Ok(()) } else { Err(CriuError::ForeignFilter) }
}

/// A core image without its filter. A process must have been under one; of its other threads [`check`] knows.
pub(super) fn without(image: &[u8]) -> Result<Vec<u8>, CriuError> {
    let unclear = || CriuError::Unclear { image: "core", what: "its messages" };
    let (magic, rest) = image.split_at_checked(MAGIC).ok_or_else(unclear)?;
    let (message, after) = framed(rest).ok_or_else(unclear)?;
    let core = Core::decode(message).map_err(|_| unclear())?;
    let process = core.task.is_some_and(|task| !task.state.is_some_and(|state| ENDED.contains(&state)));
    if process && core.thread.and_then(|t| t.mode) != Some(FILTER) {
        return Err(CriuError::ForeignFilter);
    }
    let dropped = |m: &[u8], field| replace(m, field, without_fields);
    let message = dropped(message, THREAD).unwrap_or_else(|| message.to_vec());
    let message = dropped(&message, TASK).unwrap_or(message);
    Ok([magic, &(message.len() as u32).to_le_bytes(), &message, after].concat())
}

fn without_fields(message: &[u8]) -> Option<Vec<u8>> {
    let mut out = Vec::with_capacity(message.len());
    for_each_field(message, |field, _, raw, _| {
        if !FIELDS.contains(&field) {
            out.extend_from_slice(raw);
        }
    })?;
    (out.len() < message.len()).then_some(out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::seccomp::instructions;

    fn image(message: &impl Message) -> Vec<u8> {
        let message = message.encode_to_vec();
        [b"magic456".as_slice(), &(message.len() as u32).to_le_bytes(), &message].concat()
    }

    #[test]
    fn only_our_filter_alone_passes() {
        let ours = || Filter { filter: instructions(), prev: None, flags: Some(1) };
        let mut other = ours();
        other.filter[0] ^= 1;
        let above = Filter { prev: Some(0), ..ours() };
        let logged = Filter { flags: Some(3), ..ours() };
        let one_thread = Filter { flags: None, ..ours() };
        let dir = tempfile::tempdir().unwrap();
        let check = |filters: &[Filter]| {
            fs::write(dir.path().join(IMAGE), image(&Filters { filters: filters.to_vec() })).unwrap();
            check(dir.path())
        };
        assert!(check(&[ours()]).is_ok() && check(&[ours(), ours()]).is_ok());
        for bad in [&[][..], &[ours(), other], &[ours(), above], &[logged], &[one_thread]] {
            assert!(matches!(check(bad), Err(CriuError::ForeignFilter)), "{bad:?}");
        }
        fs::remove_file(dir.path().join(IMAGE)).unwrap();
        assert!(super::check(dir.path()).is_err());
    }

    #[derive(Clone, PartialEq, Message)]
    struct Half {
        #[prost(uint32, required, tag = "1")]
        first: u32,
        #[prost(uint32, optional, tag = "11")]
        mode: Option<u32>,
        #[prost(uint32, optional, tag = "12")]
        filter: Option<u32>,
        #[prost(string, required, tag = "13")]
        last: String,
    }

    #[derive(Clone, PartialEq, Message)]
    struct Whole {
        #[prost(message, optional, tag = "3")]
        task: Option<Half>,
        #[prost(message, optional, tag = "5")]
        thread: Option<Half>,
    }

    #[test]
    fn the_filter_is_left_out_and_all_else_stays() {
        let half = |mode| Half { first: 1, mode, filter: mode.map(|_| 0), last: "x".into() };
        let core = |task, thread| image(&Whole { task: Some(half(task)), thread });
        let bare = core(None, Some(half(None)));
        assert_eq!(without(&core(None, Some(half(Some(2))))).unwrap(), bare);
        assert_eq!(without(&core(Some(2), Some(half(Some(2))))).unwrap(), bare);
        let thread = image(&Whole { task: None, thread: Some(half(None)) });
        assert_eq!(without(&thread).unwrap(), thread);
        for unfiltered in [core(None, Some(half(None))), core(None, Some(half(Some(1)))), core(None, None)] {
            assert!(matches!(without(&unfiltered), Err(CriuError::ForeignFilter)));
        }
        let ended = image(&Whole { task: Some(Half { first: 6, ..half(None) }), thread: None });
        assert_eq!(without(&ended).unwrap(), ended);
        assert!(without(b"short").is_err());
    }
}

//! What is corrected in CRIU's `files.img` before it is sent.
//!
//! **A periodic timer with an expiry that was not read yet** (`timerfd`) is read by CRIU as one that has no next expiry, and
//! would stand still for good once read. It is written as due at once, with one expiry less.
//!
//! **The name of a socket outside**, at the other end of a stream that the shadow carries (the journal's, say), is left out.
//! CRIU notes that socket because the tree is connected to it; the tree gets another end, so no name is needed there, and the
//! lender's gate lets no socket with a name in.
//!
//! Passes on whatever it does not understand as it came.

use super::corrected::{for_each_field, framed, replace, with_numbers};
use prost::Message;

/// Before an image's messages.
const MAGIC: usize = 8;
/// `file_entry.tfd` and `file_entry.usk`, of CRIU's `fdinfo.proto`.
const TIMER: u32 = 12;
const SOCKET: u32 = 16;
/// Fields of `timerfd_entry`.
const TICKS: u32 = 5;
const VALUE_NANOSECONDS: u32 = 8;
/// Field of `unix_sk_entry`, of CRIU's `sk-unix.proto`.
const NAME: u32 = 11;
/// `USK_EXTERN` of CRIU's `sk-unix.c`: not the tree's, noted only because the tree is connected to it.
const OUTSIDE: u32 = 1;

/// `timerfd_entry`, as far as it is read.
#[derive(Clone, PartialEq, Message)]
struct Timer {
    #[prost(uint64, required, tag = "5")]
    ticks: u64,
    #[prost(uint64, required, tag = "7")]
    value_s: u64,
    #[prost(uint64, required, tag = "8")]
    value_ns: u64,
    #[prost(uint64, required, tag = "9")]
    interval_s: u64,
    #[prost(uint64, required, tag = "10")]
    interval_ns: u64,
}

/// `unix_sk_entry`, as far as it is read.
#[derive(Clone, PartialEq, Message)]
struct Socket {
    #[prost(uint32, required, tag = "6")]
    flags: u32,
    #[prost(bytes = "vec", required, tag = "11")]
    name: Vec<u8>,
}

/// `files.img` as it is sent; `None` where there is nothing to change.
pub(super) fn corrected(image: &[u8]) -> Option<Vec<u8>> {
    let (magic, mut rest) = image.split_at_checked(MAGIC)?;
    let (mut out, mut changed) = (magic.to_vec(), false);
    while let Some((entry, after)) = framed(rest) {
        let new = replace(entry, TIMER, running_timer).or_else(|| replace(entry, SOCKET, without_outsiders_name));
        changed |= new.is_some();
        let entry = new.as_deref().unwrap_or(entry);
        out.extend((entry.len() as u32).to_le_bytes());
        out.extend_from_slice(entry);
        rest = after;
    }
    out.extend_from_slice(rest);
    changed.then_some(out)
}

fn running_timer(message: &[u8]) -> Option<Vec<u8>> {
    let timer = Timer::decode(message).ok()?;
    let stands = timer.ticks > 0 && (timer.value_s, timer.value_ns) == (0, 0);
    let periodic = (timer.interval_s, timer.interval_ns) != (0, 0);
    (stands && periodic).then(|| with_numbers(message, &[(TICKS, timer.ticks - 1), (VALUE_NANOSECONDS, 1)]))?
}

fn without_outsiders_name(message: &[u8]) -> Option<Vec<u8>> {
    let socket = Socket::decode(message).ok()?;
    if socket.flags != OUTSIDE || socket.name.is_empty() {
        return None;
    }
    let mut out = Vec::with_capacity(message.len());
    for_each_field(message, |field, _, raw, _| match field {
        // It must be there, and may be empty.
        NAME => out.extend([((NAME << 3) | 2) as u8, 0]),
        _ => out.extend_from_slice(raw),
    })?;
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// All that a real entry has around these is opaque to the change; a few fields stand for it.
    #[derive(Clone, PartialEq, Message)]
    struct File {
        #[prost(uint32, required, tag = "1")]
        kind: u32,
        #[prost(message, optional, tag = "12")]
        timer: Option<Timer>,
        #[prost(message, optional, tag = "16")]
        socket: Option<Connection>,
    }

    fn files(timers: &[(u64, u64, u64)]) -> Vec<u8> {
        let mut image = b"magic456".to_vec();
        for (ticks, value_ns, interval_ns) in timers {
            let (ticks, value_ns, interval_ns) = (*ticks, *value_ns, *interval_ns);
            let timer = Some(Timer { ticks, value_s: 0, value_ns, interval_s: 0, interval_ns });
            let entry = File { kind: 17, timer, socket: None }.encode_to_vec();
            image.extend((entry.len() as u32).to_le_bytes());
            image.extend(entry);
        }
        image
    }

    #[test]
    fn a_periodic_timer_with_an_unread_expiry_goes_on() {
        let others = [(0, 0, 0), (0, 9, 50), (3, 9, 50), (1, 0, 0), (0, 0, 50)];
        assert_eq!(corrected(&files(&others)), None);
        let with = |timer| files(&[others.as_slice(), &[timer], &others].concat());
        assert_eq!(corrected(&with((3, 0, 50))), Some(with((2, 1, 50))));
    }

    #[derive(Clone, PartialEq, Message)]
    struct Connection {
        #[prost(uint32, required, tag = "2")]
        ino: u32,
        #[prost(uint32, required, tag = "6")]
        flags: u32,
        #[prost(bytes = "vec", required, tag = "11")]
        name: Vec<u8>,
        #[prost(uint32, optional, tag = "12")]
        shutdown: Option<u32>,
    }

    fn sockets(all: &[(u32, &str)]) -> Vec<u8> {
        let mut image = b"magic456".to_vec();
        for (flags, name) in all {
            let socket = Some(Connection { ino: 7, flags: *flags, name: name.as_bytes().to_vec(), shutdown: Some(1) });
            let entry = File { kind: 5, timer: None, socket }.encode_to_vec();
            image.extend((entry.len() as u32).to_le_bytes());
            image.extend(entry);
        }
        image
    }

    #[test]
    fn only_an_outsiders_name_is_left_out() {
        let of_the_tree = [(0, ""), (0, "/run/own"), (1, "")];
        assert_eq!(corrected(&sockets(&of_the_tree)), None);
        let with = |name| sockets(&[of_the_tree.as_slice(), &[(1, name)], &of_the_tree].concat());
        assert_eq!(corrected(&with("/run/systemd/journal/stdout")), Some(with("")));
    }
}

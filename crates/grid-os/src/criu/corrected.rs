//! What is corrected in CRIU's `core-*.img` before they are sent; how its messages are walked.
//!
//! **Calls that the dump interrupted** are issued anew. A thread that waits in `poll`, `nanosleep`, `clock_nanosleep` or a
//! `futex` with a timeout has its rest kept by the kernel (`ERESTART_RESTARTBLOCK`), where CRIU cannot reach it: CRIU
//! writes that the call failed with `EINTR`. A program without signal handlers never sees that error otherwise, and some
//! end over it (`tail -F`), or cut a `sleep` short. Here the saved registers are turned back to the call itself. It waits
//! for what was left where the kernel had told the program so, else for the whole time again: longer is allowed, an
//! error out of nothing is not.
//!
//! x86-64 only: elsewhere the registers do not tell which call it was.
//!
//! **The root's death signal** (`PR_SET_PDEATHSIG`) is dropped. Its parent at home was init, which does not end; at the
//! destination it is CRIU, which ends at once, and the signal would end the program.
//!
//! Never touches a call that ended by itself, and passes on whatever it does not understand as it came.

use prost::Message;
use prost::encoding::{DecodeContext, WireType, decode_key, decode_varint, encode_key, encode_varint, skip_field};

/// A core image begins with its magic and the length of its one message.
const HEAD: usize = 12;
/// `core_entry.thread_info` and `thread_info_x86.gpregs`, of CRIU's `core.proto` and `core-x86.proto`.
const THREAD_INFO: u32 = 2;
const GPREGS: u32 = 2;
/// `core_entry.thread_core` and `thread_core_entry.pdeath_sig`.
const THREAD_CORE: u32 = 5;
const DEATH_SIGNAL: u32 = 8;
/// Fields of `tty_info_entry`, of CRIU's `tty.proto`.
const TERMINAL_UID: u32 = 14;
const TERMINAL_GID: u32 = 15;
/// `user_x86_regs_mode.COMPAT`: a 32-bit program, whose calls have other numbers.
const COMPAT: i32 = 2;
/// `EINTR` as a call returns it.
const EINTR: u64 = (-4i64) as u64;
/// Length of the `syscall` instruction.
const SYSCALL_LENGTH: u64 = 2;

/// Calls of x86-64 whose rest the kernel keeps.
mod call {
    pub(super) const POLL: u64 = 7;
    pub(super) const NANOSLEEP: u64 = 35;
    pub(super) const FUTEX: u64 = 202;
    pub(super) const CLOCK_NANOSLEEP: u64 = 230;
}

/// Field numbers of the registers below.
mod register {
    pub(super) const AX: u32 = 11;
    pub(super) const DX: u32 = 13;
    pub(super) const DI: u32 = 15;
    pub(super) const IP: u32 = 17;
}

/// `user_x86_regs_entry`, as far as it is read.
#[derive(Clone, PartialEq, Message)]
struct Registers {
    #[prost(uint64, optional, tag = "8")]
    r10: Option<u64>,
    #[prost(uint64, required, tag = "11")]
    ax: u64,
    #[prost(uint64, required, tag = "14")]
    si: u64,
    #[prost(uint64, required, tag = "16")]
    orig_ax: u64,
    #[prost(uint64, required, tag = "17")]
    ip: u64,
    #[prost(int32, optional, tag = "28")]
    mode: Option<i32>,
}

/// `pstree_entry`, as far as it is read.
#[derive(Clone, PartialEq, Message)]
struct TreeEntry {
    #[prost(uint32, required, tag = "2")]
    ppid: u32,
    #[prost(uint32, repeated, packed = "false", tag = "5")]
    threads: Vec<u32>,
}

/// The threads of the tree's root, out of `pstree.img`; empty where it cannot be told.
pub(super) fn root_threads(pstree: &[u8]) -> Vec<u32> {
    let mut rest = pstree.get(HEAD - 4..).unwrap_or_default();
    while let Some((entry, after)) = framed(rest) {
        match TreeEntry::decode(entry) {
            Ok(entry) if entry.ppid == 0 => return entry.threads,
            _ => rest = after,
        }
    }
    Vec::new()
}

/// `tty-info.img` with this owner in place of the terminal's at home: the one that the tree gets is the owner's, and CRIU,
/// as the owner, could give it to nobody else. `None` where it is not understood.
pub(super) fn owned_terminals(image: &[u8], uid: u32, gid: u32) -> Option<Vec<u8>> {
    let (magic, mut rest) = image.split_at_checked(HEAD - 4)?;
    let mut out = magic.to_vec();
    while let Some((entry, after)) = framed(rest) {
        let entry = with_numbers(entry, &[(TERMINAL_UID, uid.into()), (TERMINAL_GID, gid.into())])?;
        out.extend((entry.len() as u32).to_le_bytes());
        out.extend(entry);
        rest = after;
    }
    rest.is_empty().then_some(out)
}

/// A message after its length, and what follows it.
pub(super) fn framed(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, rest) = bytes.split_at_checked(4)?;
    rest.split_at_checked(u32::from_le_bytes(length.try_into().ok()?) as usize)
}

/// A core image as it is sent; `None` where there is nothing to change.
pub(super) fn corrected(image: &[u8], of_root: bool) -> Option<Vec<u8>> {
    let (magic, framed_message) = image.split_at_checked(HEAD - 4)?;
    let (message, rest) = framed(framed_message)?;
    let reissue = |m: &[u8]| replace(m, THREAD_INFO, |info| replace(info, GPREGS, reissued_registers));
    let again = if cfg!(target_arch = "x86_64") { reissue(message) } else { None };
    let drop_signal = |m: &[u8]| replace(m, THREAD_CORE, without_death_signal);
    let spared = if of_root { drop_signal(again.as_deref().unwrap_or(message)) } else { None };
    let changed = spared.or(again)?;
    Some([magic, &(changed.len() as u32).to_le_bytes(), &changed, rest].concat())
}

fn without_death_signal(message: &[u8]) -> Option<Vec<u8>> {
    let mut out = Vec::with_capacity(message.len());
    for_each_field(message, |field, _, raw, _| {
        if field != DEATH_SIGNAL {
            out.extend_from_slice(raw);
        }
    })?;
    (out.len() < message.len()).then_some(out)
}

fn reissued_registers(message: &[u8]) -> Option<Vec<u8>> {
    let registers = Registers::decode(message).ok()?;
    if registers.ax != EINTR || registers.mode == Some(COMPAT) {
        return None;
    }
    let mut changes =
        vec![(register::AX, registers.orig_ax), (register::IP, registers.ip.wrapping_sub(SYSCALL_LENGTH))];
    // The kernel has written what was left to where the program asked for it, if it did.
    let left = match registers.orig_ax {
        call::NANOSLEEP => Some((register::DI, registers.si)),
        call::CLOCK_NANOSLEEP => Some((register::DX, registers.r10.unwrap_or(0))),
        call::POLL | call::FUTEX => None,
        _ => return None,
    };
    changes.extend(left.filter(|(_, address)| *address != 0));
    with_numbers(message, &changes)
}

/// The message with these of its numbers changed.
pub(super) fn with_numbers(message: &[u8], changes: &[(u32, u64)]) -> Option<Vec<u8>> {
    let mut out = Vec::with_capacity(message.len());
    for_each_field(message, |field, wire, raw, _| {
        match changes.iter().find(|(changed, _)| *changed == field).filter(|_| wire == WireType::Varint) {
            Some((_, new)) => {
                encode_key(field, wire, &mut out);
                encode_varint(*new, &mut out);
            }
            None => out.extend_from_slice(raw),
        }
    })?;
    Some(out)
}

/// The message with its field `wanted`, a message itself, changed; all else byte for byte.
pub(super) fn replace(message: &[u8], wanted: u32, change: impl Fn(&[u8]) -> Option<Vec<u8>>) -> Option<Vec<u8>> {
    let (mut out, mut changed) = (Vec::with_capacity(message.len()), false);
    for_each_field(message, |field, wire, raw, mut value| {
        let inner = (field == wanted && wire == WireType::LengthDelimited).then(|| {
            let length = decode_varint(&mut value).ok()? as usize;
            change(value.get(..length)?)
        });
        match inner.flatten() {
            Some(new) => {
                changed = true;
                encode_key(field, wire, &mut out);
                encode_varint(new.len() as u64, &mut out);
                out.extend_from_slice(&new);
            }
            None => out.extend_from_slice(raw),
        }
    })?;
    changed.then_some(out)
}

/// Calls `visit(number, wire type, whole field, its value)` for each field; `None` where the message is not well formed.
pub(super) fn for_each_field(message: &[u8], mut visit: impl FnMut(u32, WireType, &[u8], &[u8])) -> Option<()> {
    let mut rest = message;
    while !rest.is_empty() {
        let whole = rest;
        let (field, wire) = decode_key(&mut rest).ok()?;
        let value = rest;
        skip_field(wire, field, &mut rest, DecodeContext::default()).ok()?;
        let length = |after: &[u8]| after.len() - rest.len();
        visit(field, wire, &whole[..length(whole)], &value[..length(value)]);
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// All that a real image has around the registers is opaque to the change; a few fields stand for it.
    #[derive(Clone, PartialEq, Message)]
    struct AllRegisters {
        #[prost(uint64, required, tag = "1")]
        r15: u64,
        #[prost(uint64, required, tag = "8")]
        r10: u64,
        #[prost(uint64, required, tag = "11")]
        ax: u64,
        #[prost(uint64, required, tag = "13")]
        dx: u64,
        #[prost(uint64, required, tag = "14")]
        si: u64,
        #[prost(uint64, required, tag = "15")]
        di: u64,
        #[prost(uint64, required, tag = "16")]
        orig_ax: u64,
        #[prost(uint64, required, tag = "17")]
        ip: u64,
        #[prost(int32, optional, tag = "28")]
        mode: Option<i32>,
    }

    #[derive(Clone, PartialEq, Message)]
    struct Info {
        #[prost(uint64, required, tag = "1")]
        clear_tid: u64,
        #[prost(message, required, tag = "2")]
        registers: AllRegisters,
        #[prost(bytes, required, tag = "3")]
        floating: Vec<u8>,
    }

    #[derive(Clone, PartialEq, Message)]
    struct Core {
        #[prost(uint32, required, tag = "1")]
        machine: u32,
        #[prost(message, optional, tag = "2")]
        info: Option<Info>,
        #[prost(string, required, tag = "3")]
        task: String,
        #[prost(message, required, tag = "5")]
        thread: Thread,
    }

    #[derive(Clone, PartialEq, Message)]
    struct Thread {
        #[prost(uint64, required, tag = "1")]
        list: u64,
        #[prost(uint32, optional, tag = "8")]
        death_signal: Option<u32>,
    }

    fn core(ax: i64, orig_ax: u64) -> Core {
        let registers = AllRegisters {
            r15: u64::MAX,
            r10: 0x7ff0,
            ax: ax as u64,
            dx: 3,
            si: 0x7fe0,
            di: 0x10,
            orig_ax,
            ip: 0x4000_0080,
            mode: Some(1),
        };
        Core {
            machine: 1,
            info: Some(Info { clear_tid: 9, registers, floating: vec![1; 500] }),
            task: "a task".into(),
            thread: Thread { list: 5, death_signal: Some(15) },
        }
    }

    fn image(core: &Core) -> Vec<u8> {
        let message = core.encode_to_vec();
        [&b"magic456"[..], &(message.len() as u32).to_le_bytes(), &message, b"tail"].concat()
    }

    fn changed(before: &Core) -> Option<Core> {
        sent(before, false)
    }

    fn sent(before: &Core, of_root: bool) -> Option<Core> {
        let after = corrected(&image(before), of_root)?;
        assert!(after.starts_with(b"magic456") && after.ends_with(b"tail"));
        let length = u32::from_le_bytes(after[8..12].try_into().unwrap()) as usize;
        assert_eq!(after.len(), 12 + length + 4);
        Some(Core::decode(&after[12..12 + length]).unwrap())
    }

    #[test]
    fn only_the_roots_death_signal_is_dropped() {
        let (running, waiting) = (core(0, call::POLL), core(-4, call::POLL));
        assert_eq!(sent(&running, false), None);
        let after = sent(&running, true).unwrap();
        assert_eq!(after, Core { thread: Thread { list: 5, death_signal: None }, ..running });
        assert_eq!(sent(&after, true), None, "there is none left");
        let both = sent(&waiting, true).unwrap();
        assert_eq!((both.info.unwrap().registers.ax, both.thread.death_signal), (call::POLL, None));
    }

    #[test]
    fn the_root_is_the_entry_without_a_parent() {
        let mut image = b"magic456".to_vec();
        for (ppid, threads) in [(7, vec![8]), (0, vec![7, 9])] {
            let entry = TreeEntry { ppid, threads }.encode_to_vec();
            image.extend((entry.len() as u32).to_le_bytes());
            image.extend(entry);
        }
        assert_eq!(root_threads(&image), [7, 9]);
        assert_eq!(root_threads(&image[..20]), Vec::<u32>::new());
    }

    #[test]
    fn an_interrupted_call_is_issued_again_and_all_else_is_as_it_was() {
        for (number, di, dx) in [
            (call::POLL, 0x10, 3),
            (call::FUTEX, 0x10, 3),
            (call::NANOSLEEP, 0x7fe0, 3),
            (call::CLOCK_NANOSLEEP, 0x10, 0x7ff0),
        ] {
            let before = core(-4, number);
            let mut want = before.clone();
            let registers = &mut want.info.as_mut().unwrap().registers;
            (registers.ax, registers.ip, registers.di, registers.dx) = (number, 0x4000_007e, di, dx);
            assert_eq!(changed(&before), Some(want), "{number}");
        }
    }

    #[test]
    fn other_calls_other_results_and_other_machines_are_left_alone() {
        assert_eq!(changed(&core(-4, 0)), None, "a read that was interrupted");
        assert_eq!(changed(&core(-4, 219)), None, "nobody knows which call is restarted");
        assert_eq!(changed(&core(0, call::POLL)), None, "a call that ended");
        let mut compat = core(-4, call::POLL);
        compat.info.as_mut().unwrap().registers.mode = Some(COMPAT);
        assert_eq!(changed(&compat), None);
        assert_eq!(changed(&Core { info: None, ..core(-4, call::POLL) }), None);
    }

    #[test]
    fn a_broken_image_is_passed_on() {
        let whole = image(&core(-4, call::POLL));
        for length in 0..whole.len() - 4 {
            assert_eq!(corrected(&whole[..length], true), None, "{length}");
        }
    }
}

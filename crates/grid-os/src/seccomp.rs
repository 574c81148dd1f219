//! A filter of system calls under which a program finds no io_uring, as on a kernel that has none: CRIU cannot save rings,
//! and what falls back to `epoll` (libuv and so node, liburing's users) stays movable.
//!
//! Owns the filter and its installation. Decides nothing: who starts what under it, and whether that may be dumped, is
//! decided elsewhere.
//!
//! ```text
//!  number (without the bit of the x32 ABI) ── 425, 426, 427 ──▶ ENOSYS
//!                                          └─ any other ──────▶ allowed
//! ```
//!
//! Invariants: the same bytes always, so that a dump can be told to hold this filter and no other ([`is_ours`]). No
//! architecture is looked at: system calls from 403 on have one number on all that grid runs on (x86-64 with its 32-bit
//! programs, arm64), and nobody is ended for being of another one, as filters of `seccompiler` would do.
#![allow(unsafe_code)]

use std::io;

/// `io_uring_setup`; `io_uring_enter` and `io_uring_register` follow.
const FIRST: u32 = 425;
const LAST: u32 = 427;
/// `__X32_SYSCALL_BIT`.
const X32: u32 = 0x4000_0000;

const fn step(code: u32, yes: u8, no: u8, k: u32) -> libc::sock_filter {
    libc::sock_filter { code: code as u16, jt: yes, jf: no, k }
}

/// `struct seccomp_data` begins with the number of the call.
static FILTER: [libc::sock_filter; 6] = [
    step(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, 0, 0),
    step(libc::BPF_ALU | libc::BPF_AND | libc::BPF_K, 0, 0, !X32),
    step(libc::BPF_JMP | libc::BPF_JGE | libc::BPF_K, 0, 2, FIRST),
    step(libc::BPF_JMP | libc::BPF_JGT | libc::BPF_K, 1, 0, LAST),
    step(libc::BPF_RET | libc::BPF_K, 0, 0, libc::SECCOMP_RET_ERRNO | libc::ENOSYS as u32),
    step(libc::BPF_RET | libc::BPF_K, 0, 0, libc::SECCOMP_RET_ALLOW),
];

/// What `grid run` puts into the environment of what it starts under the filter: by that a process is known to be under it
/// where nobody may look at the filter itself. What was dumped shows whether it was true.
pub const CLAIM: (&str, &str) = ("GRID_RUN", "no-io-uring");

/// This environment, as `/proc/PID/environ` has it, says so.
pub fn is_claimed(environment: &[u8]) -> bool {
    let claim = format!("{}={}", CLAIM.0, CLAIM.1);
    environment.split(|b| *b == 0).any(|variable| variable == claim.as_bytes())
}

/// This process is under one filter, which is said to be this one.
pub fn is_claimed_by(pid: i32) -> bool {
    let file = |name: &str| std::fs::read(format!("/proc/{pid}/{name}")).unwrap_or_default();
    count(&String::from_utf8_lossy(&file("status"))) == 1 && is_claimed(&file("environ"))
}

/// How many filters a thread is under, by its `status`; one that is under the strict mode has none.
pub fn count(status: &str) -> u32 {
    let line = status.lines().find_map(|l| l.strip_prefix("Seccomp_filters:"));
    line.and_then(|l| l.trim().parse().ok()).unwrap_or(0)
}

/// Puts the calling thread, and whatever it starts from now on, under the filter; for good. Only system calls on memory
/// that is there: it may run between fork and exec.
///
/// # Errors
/// `EACCES` without CAP_SYS_ADMIN, unless `no_new_privs` was set before (with which set-user-ID programs get no rights,
/// `sudo` among them); `EINVAL` where the kernel has no filters.
pub fn without_io_uring() -> io::Result<()> {
    let program = libc::sock_fprog { len: FILTER.len() as u16, filter: FILTER.as_ptr().cast_mut() };
    // SAFETY: the kernel reads the program, which lives as long as we do, and writes nothing.
    let set = unsafe { libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, 0, &raw const program) };
    if set < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// These are the instructions of this filter, as the kernel gives them (`PTRACE_SECCOMP_GET_FILTER`) and CRIU saves them:
/// `struct sock_filter`s one after the other.
pub fn is_ours(instructions: &[u8]) -> bool {
    let word = |f: &libc::sock_filter| {
        let ([a, b], [k0, k1, k2, k3]) = (f.code.to_ne_bytes(), f.k.to_ne_bytes());
        [a, b, f.jt, f.jf, k0, k1, k2, k3]
    };
    instructions.iter().copied().eq(FILTER.iter().flat_map(word))
}

/// As [`is_ours`] knows them.
#[cfg(test)]
pub(crate) fn instructions() -> Vec<u8> {
    let word = |f: &libc::sock_filter| [&f.code.to_ne_bytes()[..], &[f.jt, f.jf], &f.k.to_ne_bytes()[..]].concat();
    FILTER.iter().flat_map(word).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the kernel would answer: enough of BPF for this filter.
    fn answer(number: u32) -> u32 {
        let (mut a, mut at) = (0, 0);
        loop {
            let f = &FILTER[at];
            at += 1;
            let jump = |yes: bool| at + usize::from(if yes { f.jt } else { f.jf });
            match at - 1 {
                0 => a = number,
                1 => a &= f.k,
                2 => at = jump(a >= f.k),
                3 => at = jump(a > f.k),
                _ => return f.k,
            }
        }
    }

    #[test]
    fn three_calls_do_not_exist_and_all_others_are_allowed() {
        for number in (0..600).chain([u32::MAX, X32 | 1]) {
            let ring = (425..=427).contains(&number);
            let expected = if ring { 0x0005_0026 } else { 0x7fff_0000 };
            assert_eq!(answer(number), expected, "{number}");
        }
        assert_eq!(answer(X32 | 425), 0x0005_0026);
    }

    #[test]
    fn the_claim_is_a_whole_variable() {
        assert!(is_claimed(b"A=b\0GRID_RUN=no-io-uring\0"));
        assert!(!is_claimed(b"A=GRID_RUN=no-io-uring\0GRID_RUN=no-io-uring2\0"));
        assert_eq!((count("Seccomp:\t2\nSeccomp_filters:\t3\n"), count("Seccomp:\t0\n")), (3, 0));
    }

    #[test]
    fn another_filter_is_not_ours() {
        let bytes = instructions();
        assert!(is_ours(&bytes));
        for bad in [&bytes[8..], &bytes[..40], &[]] {
            assert!(!is_ours(bad));
        }
        let mut changed = bytes.clone();
        changed[36] ^= 1;
        assert!(!is_ours(&changed));
    }
}

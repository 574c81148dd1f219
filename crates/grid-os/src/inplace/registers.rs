//! The registers of a stopped x86-64 thread: a system call is put in, its result is read. Knows no thread but the one it
//! is asked about.

use nix::errno::Errno;
use nix::sys::ptrace;
use nix::unistd::Pid;

/// The bytes of `syscall`.
pub(super) const SYSCALL: [u8; 2] = [0x0f, 0x05];
/// `__USER_CS`: 64-bit code.
const USER_CS: u64 = 0x33;
/// The trap flag: one instruction at a time.
const TRAP_FLAG: u64 = 0x100;
/// The kernel's own results that ask for the call to be made again (`ERESTARTSYS` to `ERESTART_RESTARTBLOCK`).
const RESTART: std::ops::RangeInclusive<i64> = -516..=-512;

/// It runs 64-bit code.
pub(super) fn is_64_bit(tid: i32) -> Result<bool, Errno> {
    Ok(ptrace::getregs(Pid::from_raw(tid))?.cs == USER_CS)
}

/// Its next instruction is this one.
pub(super) fn is_at(tid: i32, instruction: u64) -> Result<bool, Errno> {
    Ok(ptrace::getregs(Pid::from_raw(tid))?.rip == instruction)
}

/// The next instruction is the `syscall` at `instruction`, with this call in the registers. The number of the call that
/// was under way is forgotten (`orig_rax`): the kernel would otherwise set the call up to be made again, and move the
/// instruction pointer.
pub(super) fn put_call(tid: i32, instruction: u64, number: i64, arguments: [u64; 3]) -> Result<(), Errno> {
    let mut registers = ptrace::getregs(Pid::from_raw(tid))?;
    registers.rip = instruction;
    registers.rax = number as u64;
    registers.orig_rax = u64::MAX;
    registers.eflags &= !TRAP_FLAG;
    [registers.rdi, registers.rsi, registers.rdx] = arguments;
    [registers.r10, registers.r8, registers.r9] = [0; 3];
    ptrace::setregs(Pid::from_raw(tid), registers)
}

/// What the call gave, at its exit.
pub(super) enum Outcome {
    /// A result.
    Done(i64),
    /// An error.
    Failed(Errno),
    /// The kernel makes it again.
    Again,
}

pub(super) fn outcome(tid: i32) -> Result<Outcome, Errno> {
    let result = ptrace::getregs(Pid::from_raw(tid))?.rax as i64;
    Ok(match result {
        _ if RESTART.contains(&result) => Outcome::Again,
        -4095..0 => Outcome::Failed(Errno::from_raw(-result as i32)),
        _ => Outcome::Done(result),
    })
}

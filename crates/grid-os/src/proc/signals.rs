//! Signals that wait for a process or its leader thread, out of the text of `/proc/PID/status`.

use nix::libc::SIGKILL;

/// One bit for each that waits, the lowest for signal 1.
pub fn pending(status: &str) -> u64 {
    let mask = |name: &str| {
        let hex = status.lines().find_map(|line| line.strip_prefix(name));
        hex.and_then(|hex| u64::from_str_radix(hex.trim(), 16).ok()).unwrap_or(0)
    };
    mask("ShdPnd:") | mask("SigPnd:")
}

/// SIGKILL waits for it: it runs no instruction of its own again.
pub fn is_killed(status: &str) -> bool {
    pending(status) & (1 << (SIGKILL - 1)) != 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_waits_for_the_process_and_for_its_thread_counts() {
        let status = |thread: &str, process: &str| format!("Name:\tx\nSigPnd:\t{thread}\nShdPnd:\t{process}\n");
        assert_eq!(pending(&status("0000000000000001", "0000000000000200")), 0x201);
        assert!(is_killed(&status("0", "0000000000000100")) && is_killed(&status("0000000000000100", "0")));
        assert!(!is_killed(&status("0000000000004000", "0")) && !is_killed(""));
    }
}

//! Terminals: their settings and sizes, and pairs that stand in for one elsewhere.
//!
//! A stand-in is under `EXTPROC` (tty_ioctl(4), the kernel's `n_tty.c`): whoever reads its settings sees those of the
//! terminal at home, and echo, editing and signals are left to that one. Its master is in packet mode, and tells of every
//! change of the settings.
#![allow(unsafe_code)]

use grid_types::streams::Terminal;
use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::pty::{grantpt, posix_openpt, ptsname_r, unlockpt};
use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;

/// In the first byte of a master's packet: the settings were changed (`TIOCPKT_IOCTL`, tty_ioctl(4)).
pub const SETTINGS_CHANGED: u8 = 64;

/// Reads both of an open terminal.
///
/// # Errors
/// It is no terminal.
pub fn read(fd: &impl AsFd) -> io::Result<Terminal> {
    Ok(Terminal { settings: settings(fd)?, size: size(fd)? })
}

/// The settings of a terminal, or of the other end of a master.
///
/// # Errors
/// It is no terminal.
pub fn settings(fd: &impl AsFd) -> io::Result<Vec<u8>> {
    // SAFETY: all-zero bytes are a termios; the kernel writes into a live one.
    let termios = unsafe {
        let mut termios: libc::termios = std::mem::zeroed();
        Errno::result(libc::tcgetattr(fd.as_fd().as_raw_fd(), &raw mut termios))?;
        termios
    };
    Ok(bytes_of(&termios))
}

/// Sets them at once.
///
/// # Errors
/// They are none, or it is no terminal.
pub fn set_settings(fd: &impl AsFd, settings: &[u8]) -> io::Result<()> {
    let termios = termios_of(settings)?;
    // SAFETY: plain system call on a live local.
    Errno::result(unsafe { libc::tcsetattr(fd.as_fd().as_raw_fd(), libc::TCSANOW, &raw const termios) })?;
    Ok(())
}

/// The same settings for a stand-in (`true`), or for a terminal that does everything itself.
///
/// # Errors
/// They are none.
pub fn external(settings: &[u8], external: bool) -> io::Result<Vec<u8>> {
    let mut termios = termios_of(settings)?;
    termios.c_lflag = if external { termios.c_lflag | libc::EXTPROC } else { termios.c_lflag & !libc::EXTPROC };
    Ok(bytes_of(&termios))
}

/// Rows, columns, width and height in pixels.
///
/// # Errors
/// It is no terminal.
pub fn size(fd: &impl AsFd) -> io::Result<[u16; 4]> {
    let mut size = libc::winsize { ws_row: 0, ws_col: 0, ws_xpixel: 0, ws_ypixel: 0 };
    // SAFETY: the kernel writes into a live local.
    Errno::result(unsafe { libc::ioctl(fd.as_fd().as_raw_fd(), libc::TIOCGWINSZ, &raw mut size) })?;
    Ok([size.ws_row, size.ws_col, size.ws_xpixel, size.ws_ypixel])
}

/// Sets the size; who is in the foreground is told by SIGWINCH where it changed.
///
/// # Errors
/// It is no terminal.
pub fn set_size(fd: &impl AsFd, [rows, columns, width, height]: [u16; 4]) -> io::Result<()> {
    let size = libc::winsize { ws_row: rows, ws_col: columns, ws_xpixel: width, ws_ypixel: height };
    // SAFETY: plain system call on a live local.
    Errno::result(unsafe { libc::ioctl(fd.as_fd().as_raw_fd(), libc::TIOCSWINSZ, &raw const size) })?;
    Ok(())
}

/// A stand-in for a terminal: its end for a tree, and its master in packet mode. Nobody's controlling terminal.
///
/// # Errors
/// No terminal can be made, or what it is to be like is no terminal's.
pub fn stand_in(like: &Terminal) -> io::Result<(OwnedFd, OwnedFd)> {
    let master = posix_openpt(OFlag::O_RDWR | OFlag::O_NOCTTY | OFlag::O_CLOEXEC)?;
    grantpt(&master)?;
    unlockpt(&master)?;
    let path = ptsname_r(&master)?;
    let slave = OpenOptions::new().read(true).write(true).custom_flags(libc::O_NOCTTY).open(path)?;
    set_settings(&slave, &external(&like.settings, true)?)?;
    set_size(&slave, like.size)?;
    let on: libc::c_int = 1;
    // SAFETY: plain system call on a live local.
    Errno::result(unsafe { libc::ioctl(master.as_raw_fd(), libc::TIOCPKT, &raw const on) })?;
    // SAFETY: the number is taken out of its owner, which does not close it.
    let master = unsafe { std::os::fd::FromRawFd::from_raw_fd(std::os::fd::IntoRawFd::into_raw_fd(master)) };
    Ok((slave.into(), master))
}

/// The end of a master's terminal that a program would have, without a name in any file system (`TIOCGPTPEER`).
///
/// # Errors
/// It is no master.
pub fn other_end(master: &impl AsFd) -> io::Result<OwnedFd> {
    let flags = OFlag::O_RDWR | OFlag::O_NOCTTY | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC;
    // SAFETY: plain system call; a descriptor that it returns is ours alone.
    unsafe {
        let fd = Errno::result(libc::ioctl(master.as_fd().as_raw_fd(), libc::TIOCGPTPEER, flags.bits()))?;
        Ok(std::os::fd::FromRawFd::from_raw_fd(fd))
    }
}

/// The terminal that a process has open under this number, without making it ours.
///
/// # Errors
/// It cannot be opened.
pub fn of_process(pid: i32, fd: i32) -> io::Result<File> {
    let path = format!("/proc/{pid}/fd/{fd}");
    OpenOptions::new().read(true).write(true).custom_flags(libc::O_NOCTTY | libc::O_NONBLOCK).open(path)
}

fn bytes_of(termios: &libc::termios) -> Vec<u8> {
    // SAFETY: a plain structure without references; its padding, if any, was zeroed when it was made.
    let bytes = unsafe { std::slice::from_raw_parts((&raw const *termios).cast::<u8>(), size_of::<libc::termios>()) };
    bytes.to_vec()
}

fn termios_of(bytes: &[u8]) -> io::Result<libc::termios> {
    if bytes.len() != size_of::<libc::termios>() {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "these are no terminal's settings"));
    }
    // SAFETY: every bit pattern is a termios, and the length was checked.
    Ok(unsafe { std::ptr::read_unaligned(bytes.as_ptr().cast()) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};

    fn like() -> Terminal {
        let (slave, _master) = {
            let pty = nix::pty::openpty(None, None).unwrap();
            (pty.slave, pty.master)
        };
        set_size(&slave, [24, 80, 0, 0]).unwrap();
        read(&slave).unwrap()
    }

    #[test]
    fn a_stand_in_shows_the_settings_of_home_and_leaves_the_work_to_it() {
        let like = like();
        let (slave, master) = stand_in(&like).unwrap();
        assert_eq!(external(&settings(&slave).unwrap(), false).unwrap(), like.settings);
        assert_eq!(size(&slave).unwrap(), [24, 80, 0, 0]);
        let (mut slave, mut master) = (File::from(slave), File::from(master));
        // Neither echoed nor taken for a signal.
        master.write_all(b"a\x03b\n").unwrap();
        let mut line = [0u8; 16];
        let n = slave.read(&mut line).unwrap();
        assert_eq!(&line[..n], b"a\x03b\n");
        slave.write_all(b"x").unwrap();
        let n = master.read(&mut line).unwrap();
        assert_eq!(&line[..n], b"\0x", "a data packet, and no echo before it");
    }

    #[test]
    fn a_lone_end_of_file_is_one() {
        let (slave, master) = stand_in(&like()).unwrap();
        let (mut slave, mut master) = (File::from(slave), File::from(master));
        master.write_all(b"\x04").unwrap();
        assert_eq!(slave.read(&mut [0u8; 16]).unwrap(), 0);
    }

    #[test]
    fn a_change_of_the_settings_is_told() {
        let (slave, master) = stand_in(&like()).unwrap();
        let mut raw = termios_of(&settings(&slave).unwrap()).unwrap();
        raw.c_lflag &= !(libc::ICANON | libc::ECHO | libc::EXTPROC);
        set_settings(&slave, &bytes_of(&raw)).unwrap();
        let mut packet = [0u8; 16];
        let n = File::from(master).read(&mut packet).unwrap();
        assert_eq!((n, packet[0] & SETTINGS_CHANGED), (1, SETTINGS_CHANGED));
    }

    #[test]
    fn what_is_no_terminal_is_refused() {
        assert!(read(&File::open("/dev/null").unwrap()).is_err());
        assert!(external(b"short", true).is_err());
    }
}

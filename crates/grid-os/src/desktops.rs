//! Whether somebody uses a desktop of this machine: what systemd-logind was told by it (`IdleHint` of its D-Bus interface).
//!
//! Owns no decision. Asked by `loginctl`, logind's own client, which is not waited for: an answer counts from the look that
//! finds it there. Where nobody is logged in nothing is started. A desktop that never said whether it is idle says nothing of
//! its user, and is left out.

use crate::clock;
use grid_types::units::UnixMs;
use std::ffi::OsString;
use std::io::{self, Read};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

/// Asked so often: oftener than the shortest time that a rule may have for input.
const ASK_EVERY_NS: u64 = 5_000_000_000;
/// No answer is longer: a session has five short lines.
const MOST: u64 = 64 << 10;

/// Asks again and again.
#[derive(Debug)]
pub(crate) struct Desktops {
    /// A file for each session, of its name.
    sessions: PathBuf,
    program: OsString,
    asked: Option<Child>,
    asked_at_ns: Option<u64>,
    known: Vec<(String, UnixMs)>,
}

impl Desktops {
    pub(crate) fn new() -> Self {
        Self::by("/run/systemd/sessions".into(), "loginctl".into())
    }

    fn by(sessions: PathBuf, program: OsString) -> Self {
        Self { sessions, program, asked: None, asked_at_ns: None, known: Vec::new() }
    }

    /// Sessions and when each was used last, as far as the last answer told. One in use was used when that came.
    pub(crate) fn used(&mut self) -> io::Result<Vec<(String, UnixMs)>> {
        self.take_answer()?;
        let now = clock::boot_ns();
        if self.asked_at_ns.is_none_or(|asked| now.saturating_sub(asked) >= ASK_EVERY_NS) {
            self.ask(now)?;
        }
        Ok(self.known.clone())
    }

    fn ask(&mut self, now: u64) -> io::Result<()> {
        if let Some(mut silent) = self.asked.take() {
            silent.kill().and_then(|()| silent.wait())?;
            self.known.clear();
            return Err(io::Error::other("loginctl does not answer"));
        }
        self.asked_at_ns = Some(now);
        let ids = self.ids();
        if ids.is_empty() {
            self.known.clear();
            return Ok(());
        }
        let mut command = Command::new(&self.program);
        for property in ["Id", "Type", "Class", "IdleHint", "IdleSinceHint"] {
            command.args(["--property", property]);
        }
        command.arg("show-session").args(ids).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
        self.asked = Some(command.spawn().map_err(|e| io::Error::other(format!("loginctl: {e}")))?);
        Ok(())
    }

    fn ids(&self) -> Vec<String> {
        let Ok(entries) = std::fs::read_dir(&self.sessions) else { return Vec::new() };
        let names = entries.flatten().filter_map(|entry| entry.file_name().into_string().ok());
        // Beside them are pipes of the same names and an ending.
        names.filter(|name| name.bytes().all(|b| b.is_ascii_alphanumeric())).collect()
    }

    fn take_answer(&mut self) -> io::Result<()> {
        let Some(child) = &mut self.asked else { return Ok(()) };
        if child.try_wait()?.is_none() {
            return Ok(());
        }
        let mut text = String::new();
        let out = child.stdout.take();
        self.asked = None;
        // A session that went meanwhile makes it fail, after it told of those before.
        out.map_or(Ok(0), |out| out.take(MOST).read_to_string(&mut text))?;
        self.known = parse(&text, clock::unix_ms());
        Ok(())
    }
}

/// Of people's graphical sessions: `IdleHint=no` is in use, and `IdleSinceHint` is when that was said last, in microseconds,
/// 0 where it never was.
fn parse(text: &str, now: UnixMs) -> Vec<(String, UnixMs)> {
    let mut found = Vec::new();
    for session in text.split("\n\n") {
        let value = |key: &str| session.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix('='));
        let graphical = matches!(value("Type"), Some("x11" | "wayland" | "mir"));
        let person = value("Class").is_some_and(|class| class.starts_with("user"));
        let said = value("IdleSinceHint").and_then(|us| us.parse::<u64>().ok()).filter(|us| *us > 0);
        if let (true, true, Some(id), Some(us)) = (graphical, person, value("Id"), said) {
            let used = if value("IdleHint") == Some("no") { now } else { UnixMs(us / 1000) };
            found.push((format!("session {id}"), used));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;
    use std::time::{Duration, Instant};

    const SAID: &str = "\
Id=2
Type=wayland
Class=user
IdleHint=no
IdleSinceHint=1700000000000000

Id=c1
Type=x11
Class=greeter
IdleHint=no
IdleSinceHint=1700000000000000

Id=4
Type=tty
Class=user
IdleHint=no
IdleSinceHint=1700000000000000

Id=5
Type=x11
Class=user
IdleHint=no
IdleSinceHint=0

Id=6
Type=x11
Class=user
IdleHint=yes
IdleSinceHint=1700000123456789
";

    #[test]
    fn who_uses_a_desktop_and_since_when_nobody_does() {
        let at = UnixMs(1_700_000_200_000);
        assert_eq!(
            parse(SAID, at),
            [("session 2".to_owned(), at), ("session 6".to_owned(), UnixMs(1_700_000_123_456))],
            "not the greeter, not a terminal, and nobody of whom nothing was ever said"
        );
        assert_eq!(parse("", at), []);
    }

    #[test]
    fn it_is_asked_only_where_somebody_is_logged_in_and_not_waited_for() {
        let dir = tempfile::tempdir().unwrap();
        let (sessions, program) = (dir.path().join("sessions"), dir.path().join("loginctl"));
        std::fs::create_dir(&sessions).unwrap();
        std::fs::write(dir.path().join("said"), SAID).unwrap();
        let script = "#!/bin/sh\necho \"$@\" >>${0%/*}/asked; cat ${0%/*}/said\n";
        std::fs::write(&program, script).unwrap();
        std::fs::set_permissions(&program, PermissionsExt::from_mode(0o755)).unwrap();
        let new = || Desktops::by(sessions.clone(), program.clone().into());
        let asked = || std::fs::read_to_string(dir.path().join("asked")).unwrap_or_default();

        let mut desktops = new();
        assert_eq!(desktops.used().unwrap(), []);
        assert!(desktops.asked.is_none() && asked().is_empty(), "nobody is logged in");
        for name in ["2", "2.ref", "6"] {
            std::fs::write(sessions.join(name), "").unwrap();
        }
        let mut desktops = new();
        assert_eq!(desktops.used().unwrap(), [], "the answer is not waited for");
        let deadline = Instant::now() + Duration::from_secs(20);
        while desktops.used().unwrap().is_empty() {
            assert!(Instant::now() < deadline, "{desktops:?}");
            std::thread::sleep(Duration::from_millis(5));
        }
        assert_eq!(desktops.used().unwrap().len(), 2);
        assert_eq!(asked().lines().count(), 1, "once in a while: {}", asked());
        assert!(!asked().contains("ref") && asked().contains("show-session"), "{}", asked());

        let mut none = Desktops::by(sessions.clone(), dir.path().join("none").into());
        assert!(none.used().unwrap_err().to_string().starts_with("loginctl: "));
    }
}

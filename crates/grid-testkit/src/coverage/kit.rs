//! Where programs and scripts of the list run: as whom, in which environment, with what was fetched for them. Owns
//! starting scripts and what is missing here; decides nothing about moves.

use super::list::{Program, project};
use crate::procs::{Detached, NOBODY};
use crate::scratch::Scratch;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

/// A script that has not ended after so many seconds has failed.
const SCRIPT_SECONDS: &str = "120";

/// What `scripts/install-coverage` fetched lies here.
#[derive(Clone, Debug)]
pub struct Kit {
    fetched: PathBuf,
    /// What `scripts/install-deps` laid under another name: there before, and without, anything in `fetched`.
    bin: PathBuf,
}

impl Default for Kit {
    fn default() -> Self {
        let grid = project().join(".grid");
        let grid = grid.canonicalize().unwrap_or(grid);
        Self { fetched: grid.join("coverage"), bin: grid.join("bin") }
    }
}

impl Kit {
    /// The whole environment of a program: nothing of whoever runs the tests comes in.
    fn environment(&self, dir: &Path) -> Vec<String> {
        let (dir, fetched, bin) = (dir.display(), self.fetched.display(), self.bin.display());
        let root = format!("{fetched}/root/usr");
        vec![
            format!("PATH=/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin:{root}/bin:{root}/sbin:{bin}"),
            format!("HOME={dir}"),
            "LANG=C.UTF-8".into(),
            "TERM=xterm".into(),
            "SHELL=/bin/sh".into(),
            format!("PYTHONPATH={fetched}/python"),
            format!("LD_LIBRARY_PATH={root}/lib/{}-linux-gnu", std::env::consts::ARCH),
            format!("FETCHED={fetched}"),
        ]
    }

    fn words(&self, dir: &Path, script: &str) -> Vec<String> {
        let mut words = vec!["-i".to_owned()];
        words.extend(self.environment(dir));
        words.extend(["/bin/sh".into(), "-c".into(), script.into()]);
        words
    }

    /// Runs a script to its end, in the network namespace of process `there` where that is given.
    pub fn script(&self, dir: &Path, script: &str, there: Option<i32>) -> io::Result<Output> {
        let mut words: Vec<String> = vec!["timeout".into(), SCRIPT_SECONDS.into()];
        if let Some(pid) = there {
            words.extend(["nsenter".into(), format!("--net=/proc/{pid}/ns/net")]);
        }
        let ids = [format!("--reuid={NOBODY}"), format!("--regid={NOBODY}"), "--clear-groups".into()];
        words.push("setpriv".into());
        words.extend(ids);
        words.push("/usr/bin/env".into());
        words.extend(self.words(dir, script));
        Command::new(&words[0]).args(&words[1..]).current_dir(dir).stdin(Stdio::null()).output()
    }

    /// As [`Kit::script`], for one that must succeed; what it printed.
    ///
    /// # Errors
    /// Where it does not, with what it said.
    pub fn demand(&self, dir: &Path, script: &str, there: Option<i32>) -> Result<String, String> {
        let out = self.script(dir, script, there).map_err(|e| e.to_string())?;
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
        if out.status.success() {
            return Ok(text(&out.stdout));
        }
        Err(format!("{}: {} {}", out.status, text(&out.stdout), text(&out.stderr)))
    }

    /// Starts a program's script, detached.
    pub fn start(&self, dir: &Path, script: &str) -> io::Result<Detached> {
        let words = self.words(dir, script);
        Detached::start(Path::new("/usr/bin/env"), &words.iter().map(String::as_str).collect::<Vec<_>>(), dir)
    }

    /// What a program needs and is not here.
    pub fn missing(&self, program: &Program) -> Option<String> {
        let dir = Scratch::new().ok()?;
        let fails = |script: &str| !self.script(&dir, script, None).is_ok_and(|out| out.status.success());
        let command = program.commands.iter().find(|c| fails(&format!("command -v {c}")));
        let module = || program.python.iter().find(|m| fails(&format!("/usr/bin/python3 -c 'import {m}'")));
        let probe = || program.probe.as_deref().filter(|p| fails(p)).and(program.lacks.clone());
        command.cloned().or_else(|| module().map(|m| format!("python's {m}"))).or_else(probe)
    }
}

//! For the tests of this crate: a shadow where the environment says so, else `DIR COMMAND [ARGUMENT...]`, a pid 1 that
//! starts its tree itself, where grid would restore one. The tree's standard streams are descriptors 40 to 42 where they
//! are there.

use grid_os::descriptors::inherited;
use grid_os::tree_init::{TreeDir, write_durably};
use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, IntoRawFd};
use std::os::unix::fs::FileTypeExt;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};

const TREE_STDIN: i32 = 40;
/// `on-terminal PATH COMMAND [ARGUMENT...]`: leads a session on that terminal, as a shell's parent or a tree's root does,
/// all but a stdout that is a pipe.
const ON_TERMINAL: &str = "on-terminal";

fn main() -> io::Result<()> {
    grid_shadow::run_if_asked();
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let [word, path, command, rest @ ..] = arguments.as_slice()
        && word == ON_TERMINAL
    {
        return Err(on_terminal(path, command, rest));
    }
    let [dir, command, rest @ ..] = arguments.as_slice() else {
        return Err(io::Error::other("shadow-kit DIR COMMAND [ARGUMENT...]"));
    };
    let dir = TreeDir(dir.into());
    // A restored tree has nothing of pid 1's either.
    for fd in (3..TREE_STDIN + 3).filter_map(|n| inherited(n).ok()) {
        fcntl(&fd, FcntlArg::F_SETFD(FdFlag::FD_CLOEXEC))?;
        let _ = fd.into_raw_fd();
    }
    let stdio = |nth| inherited(TREE_STDIN + nth).map_or_else(|_| Stdio::null(), Stdio::from);
    let mut tree = Command::new(command);
    tree.args(rest).stdin(stdio(0)).stdout(stdio(1)).stderr(stdio(2));
    if rest.first().is_none_or(|word| word != ON_TERMINAL) {
        tree.process_group(0);
    }
    // Pid 1 reaps it, whoever started it.
    let root = tree.spawn()?.id();
    drop(tree);
    write_durably(&dir.root_file(), &root.to_string())?;
    grid_shadow::pid1::run(&dir, grid_os::tree_init::Terms::default())
}

fn on_terminal(path: &str, command: &str, rest: &[String]) -> io::Error {
    let begin = || -> io::Result<()> {
        // One that leads a session already does as well.
        let _ = nix::unistd::setsid();
        let terminal = File::options().read(true).write(true).open(path)?;
        nix::unistd::dup2_stdin(&terminal)?;
        if !File::from(io::stdout().as_fd().try_clone_to_owned()?).metadata()?.file_type().is_fifo() {
            nix::unistd::dup2_stdout(&terminal)?;
        }
        nix::unistd::dup2_stderr(&terminal)?;
        Ok(())
    };
    match begin() {
        Ok(()) => Command::new(command).args(rest).exec(),
        Err(e) => e,
    }
}

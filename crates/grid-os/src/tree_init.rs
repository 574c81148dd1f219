//! What pid 1 of a moved tree's own PID namespace does once: mounts its `/proc`, keeps low numbers free for CRIU, gives
//! up rights, and writes down how the tree's root ended. Its loop is `grid_shadow`'s, which relays streams in it.
//!
//! Once the namespaces are made it keeps [`crate::rights::TREE_INIT`] alone.
//!
//! Owns: the files `root` and `exit` of a tree. It survives the agent that started it; the agent finds it again by its
//! number and start time.

use crate::spawn::Owner;
use grid_types::event::ExitStatus;
use nix::mount::{MsFlags, mount};
use nix::sys::signal::{SigSet, Signal, kill};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::unistd::Pid;
use std::collections::BTreeSet;
use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

/// Name under which `ps` shows it.
pub const COMM: &str = "grid-tree-init";
/// CRIU's own helpers, and what the tree starts later, get numbers from here on, where the tree's own are well below.
const FIRST_HELPER: i32 = 1_000_000;
/// So many more numbers than it had when it was looked at may the tree have when it is frozen.
const ROOM: i32 = 10_000;

/// Where the pump of a tree that sees the head's files writes its number in the tree's PID namespace.
pub const PUMP_FILE: &str = "pump";

/// Folders below `run_dir` of the trees that live on this machine: each has a pid 1 of its own that names its folder.
pub fn living(run_dir: &Path) -> BTreeSet<PathBuf> {
    let folder = |entry: std::fs::DirEntry| {
        let comm = std::fs::read_to_string(entry.path().join("comm")).ok()?;
        let argv = std::fs::read_to_string(entry.path().join("cmdline")).ok()?;
        let folder = argv.split('\0').map(PathBuf::from).find(|word| word.starts_with(run_dir));
        folder.filter(|_| comm.trim() == COMM)
    };
    std::fs::read_dir("/proc").into_iter().flatten().flatten().filter_map(folder).collect()
}

/// The files of one tree, in a directory of the agent's.
#[derive(Clone, Debug)]
pub struct TreeDir(pub PathBuf);

impl TreeDir {
    /// The agent writes the root's number (in the tree's PID namespace) here before the tree may run.
    pub fn root_file(&self) -> PathBuf {
        self.0.join("root")
    }
    /// The root's number, where it is known.
    pub fn root(&self) -> Option<i32> {
        fs::read_to_string(self.root_file()).ok()?.trim().parse().ok()
    }
    /// Where it is, the cluster is down, and the tree lives on: nobody joins it with a shadow. It says where pid 1 is to write
    /// how the root ended, for the next one.
    pub fn left_file(&self) -> PathBuf {
        self.0.join("left")
    }
    /// Writes that down, in this folder of the node's state.
    ///
    /// # Errors
    /// It could not be written.
    pub fn leave(&self, ended: &Path) -> io::Result<()> {
        let attempt = self.0.file_name().unwrap_or_default();
        fs::create_dir_all(ended)?;
        fs::write(self.left_file(), ended.join(attempt).as_os_str().as_encoded_bytes())
    }
    /// The cluster is there again: nothing of the tree is left any more. How it ended meanwhile, where it did.
    pub fn take_up(&self, ended: &Path) -> Option<ExitStatus> {
        let _ = fs::remove_file(self.left_file());
        let noted = ended.join(self.0.file_name()?);
        let status = parse_exit(&fs::read_to_string(&noted).ok()?);
        let _ = fs::remove_file(noted);
        status
    }
    /// Pid 1's last act while the cluster is down: nobody else tidies up. `heard`: of a tree that ended by itself, which the
    /// next cluster is to know.
    pub fn tidy(&self, heard: bool) {
        use std::os::unix::ffi::OsStringExt;
        let Ok(noted) = fs::read(self.left_file()) else { return };
        let noted = PathBuf::from(std::ffi::OsString::from_vec(noted));
        let exit = fs::read_to_string(self.exit_file()).ok().filter(|_| heard);
        if exit.is_none_or(|exit| write_durably(&noted, &exit).is_ok()) {
            self.remove();
        }
    }
    /// Removes it, and the folders of the node and the cluster around it where nothing else is in them.
    pub fn remove(&self) {
        let _ = fs::remove_dir_all(&self.0);
        for around in self.0.ancestors().skip(1).take(2) {
            let _ = fs::remove_dir(around);
        }
    }
    /// Pid 1 writes here how the root ended.
    pub fn exit_file(&self) -> PathBuf {
        self.0.join("exit")
    }
    /// How the root ended, where it has.
    pub fn exit(&self) -> Option<ExitStatus> {
        parse_exit(&fs::read_to_string(self.exit_file()).ok()?)
    }
}

fn parse_exit(text: &str) -> Option<ExitStatus> {
    let (word, number) = text.trim().split_once(' ')?;
    let number = number.parse().ok()?;
    match word {
        "code" => Some(ExitStatus::Code(number)),
        "signal" => Some(ExitStatus::Signal(number)),
        _ => None,
    }
}

/// Writes a file so that a reader finds it whole or not at all, also after a crash.
pub fn write_durably(path: &Path, text: &str) -> io::Result<()> {
    let temporary = path.with_extension("new");
    let mut file = fs::File::create(&temporary)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    fs::rename(&temporary, path)
}

/// Descriptor whose other end the agent holds while it stages.
pub const LIFELINE: i32 = 4;

/// What is special about a tree's namespaces.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Terms {
    /// On its mounts nobody becomes another user.
    pub guest: bool,
    /// It has a `/tmp` and a `/dev/shm` of its own, this owner's.
    pub private_tmp: Option<Owner>,
    /// The highest number that a process or thread of the tree has in its own PID namespace.
    pub highest: i32,
}

/// Makes the namespaces ready and says so by one byte on descriptor 3. From then on SIGCHLD and SIGTERM wait to be read, and
/// only [`crate::rights::TREE_INIT`] is kept.
///
/// # Errors
/// What failed while the namespace was set up.
pub fn set_up(terms: Terms) -> io::Result<SignalFd> {
    let mut waited = SigSet::empty();
    waited.add(Signal::SIGCHLD);
    waited.add(Signal::SIGTERM);
    waited.thread_block()?;
    let signals = SignalFd::with_flags(&waited, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)?;
    nix::sys::prctl::set_name(c"grid-tree-init")?;
    let none: Option<&str> = None;
    mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none)?;
    let hardened = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    mount(Some("proc"), "/proc", Some("proc"), hardened, none)?;
    terms.private_tmp.map_or(Ok(()), crate::private_tmp::mount_all)?;
    if terms.guest {
        without_set_id()?;
    }
    keep_numbers_free(terms.highest)?;
    let ready = fs::OpenOptions::new().write(true).open("/proc/self/fd/3")?;
    (&ready).write_all(b"r")?;
    drop(ready);
    nix::unistd::close(3)?;
    crate::rights::keep_only(&crate::rights::TREE_INIT)?;
    Ok(signals)
}

/// The body of who leads the session of a tree's terminal: does nothing, for as long as the tree's pid 1 lives.
///
/// # Errors
/// What failed at its start; afterwards it does not return.
pub fn keep_session() -> io::Result<()> {
    SigSet::all().thread_block()?;
    nix::sys::prctl::set_name(c"grid-tree-tty")?;
    crate::rights::keep_only(&[])?;
    loop {
        SigSet::all().wait()?;
    }
}

/// On a lender a guest stays who it is: no set-user-id program and no file capability counts on its mounts.
#[allow(unsafe_code)]
fn without_set_id() -> io::Result<()> {
    let attributes = libc::mount_attr { attr_set: libc::MOUNT_ATTR_NOSUID, attr_clr: 0, propagation: 0, userns_fd: 0 };
    // SAFETY: plain system call on a live local of the size that is named.
    let result = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            libc::AT_FDCWD,
            c"/".as_ptr(),
            libc::AT_RECURSIVE,
            &raw const attributes,
            size_of::<libc::mount_attr>(),
        )
    };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// A restored process gets the number that it had, so nothing else in the namespace may have it.
fn keep_numbers_free(highest: i32) -> io::Result<()> {
    let max: i32 = fs::read_to_string("/proc/sys/kernel/pid_max")?.trim().parse().map_err(io::Error::other)?;
    fs::write("/proc/sys/kernel/ns_last_pid", first_helper(highest, max).to_string())
}

/// Where numbers begin that the tree does not have, on a machine whose numbers end at `max`. A tree whose numbers go up to
/// that end has been through all of them: then those in the first half are the least likely to be its own.
fn first_helper(highest: i32, max: i32) -> i32 {
    let (usual, room) = (FIRST_HELPER.min(max / 4 * 3), ROOM.min(max / 16));
    match highest.saturating_add(room) {
        beyond if beyond <= usual => usual,
        beyond if beyond <= max - room => beyond,
        _ => max / 4,
    }
}

/// Ends everything that is left in this namespace. Does nothing outside of one's own.
pub fn end_all() {
    if nix::unistd::getpid().as_raw() == 1 {
        let _ = kill(Pid::from_raw(-1), Signal::SIGKILL);
    }
}

/// Writes down how the root ended.
pub fn record(dir: &TreeDir, status: ExitStatus) {
    let text = match status {
        ExitStatus::Code(code) => format!("code {code}"),
        ExitStatus::Signal(signo) => format!("signal {signo}"),
    };
    // Nothing better can be done where the disk is full: the agent then reports an unknown status.
    let _ = write_durably(&dir.exit_file(), &text);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_ends_while_the_cluster_is_down_is_noted_for_the_next_one() {
        let dir = tempfile::tempdir().unwrap();
        let (tree, ended) = (TreeDir(dir.path().join("node/tree-o-1.2")), dir.path().join("ended"));
        fs::create_dir_all(&tree.0).unwrap();
        record(&tree, ExitStatus::Code(7));
        tree.tidy(true);
        assert!(tree.0.exists(), "the cluster is up, and tidies up itself");
        tree.leave(&ended).unwrap();
        tree.tidy(true);
        assert!(!tree.0.exists());
        assert_eq!((tree.take_up(&ended), tree.take_up(&ended)), (Some(ExitStatus::Code(7)), None));
        // Nobody asks after one whose shadow was killed.
        fs::create_dir_all(&tree.0).unwrap();
        record(&tree, ExitStatus::Signal(9));
        tree.leave(&ended).unwrap();
        tree.tidy(false);
        assert_eq!((tree.0.exists(), tree.take_up(&ended)), (false, None));
    }

    #[test]
    fn helpers_get_numbers_that_the_tree_does_not_have() {
        for (highest, max, first) in [
            (4711, 4_194_304, 1_000_000),
            (995_000, 4_194_304, 1_005_000),
            (1_000_017, 4_194_304, 1_010_017),
            (4_190_000, 4_194_304, 1_048_576),
            (300, 32_768, 24_576),
            (24_580, 32_768, 26_628),
            (i32::MAX, 32_768, 8192),
        ] {
            assert_eq!(first_helper(highest, max), first, "{highest} of {max}");
        }
    }

    #[test]
    fn an_end_is_written_and_read_back() {
        let dir = tempfile::tempdir().unwrap();
        let tree = TreeDir(dir.path().to_owned());
        assert_eq!(tree.exit(), None);
        assert_eq!(tree.root(), None);
        fs::write(tree.root_file(), "12\n").unwrap();
        assert_eq!(tree.root(), Some(12));
        record(&tree, ExitStatus::Signal(9));
        assert_eq!(tree.exit(), Some(ExitStatus::Signal(9)));
    }
}

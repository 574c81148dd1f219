//! One dump or restore from start to end.

use super::rpc::{CGROUPS_IGNORE, Channel, InheritFd, NETWORK_LOCK_SKIP, Opts, PageServer, Req, Resp, kind};
use super::timens;
use super::uffd::{self, SOCKET};
use super::{CriuError, ReceivedPages, corrected, origin};
use crate::spawn::{DUMP_CAPS, DUMP_FILTERED_CAPS, Keeper, Owner, Place, RESTORE_CAPS, Spawned, spawn};
use std::fs;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::chown;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

/// Number under which CRIU finds its RPC socket, and the page stream.
const RPC_FD: i32 = 3;
const PAGES_FD: i32 = 4;
/// Of a restore, which has no page stream.
const OTHER_END_FD: i32 = 4;
/// The first of the descriptors that restored processes get in place of their own.
const FIRST_GIVEN: i32 = 5;
/// CRIU's working directory within the images: its log and the socket of the lazy pages.
const WORK: &str = "work";

/// A CRIU that was found usable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Criu {
    /// Its program, no link.
    pub path: PathBuf,
    /// Its version, `(4, 2, 1)`.
    pub version: (i32, i32, i32),
}

/// Where CRIU runs.
#[derive(Debug, Default)]
pub struct Where<'a> {
    /// `cgroup.procs` files of its control group.
    pub cgroup_procs: Vec<PathBuf>,
    /// Namespaces of the tree, through the pidfd of its pid 1.
    pub join: Option<(BorrowedFd<'a>, i32)>,
    /// Their mounts show another machine's files: CRIU and its images are this machine's all the same.
    pub carried: bool,
}

/// A dump to be made.
#[derive(Debug)]
pub struct DumpJob<'a> {
    /// Root of the tree, as CRIU sees it from where it runs.
    pub pid: i32,
    /// Directory for the small images; memory does not go there.
    pub images: &'a Path,
    /// The page stream's socket; the destination reads its other end.
    pub pages: BorrowedFd<'a>,
    /// Dump as the owner with two capabilities, or as whoever we are.
    pub owner: Option<Owner>,
    /// The tree's session leader is not in the tree.
    pub shell_job: bool,
    /// It is under the filter of `grid run`, as far as is known: [`super::send_images`] looks.
    pub filtered: bool,
    /// Its established TCP connections are to be closed where it is restored; here they stay as they are.
    pub close_tcp: bool,
    /// What stays behind and is given anew at the restore, as CRIU names it: `unix[4711]`.
    pub external: Vec<String>,
    /// Where.
    pub place: Where<'a>,
}

/// A restore to be made.
#[derive(Debug)]
pub struct RestoreJob<'a> {
    /// Directory of the images, which its owner may read and not write. CRIU's working directory is made in it.
    pub images: &'a Path,
    /// Restore as this owner.
    pub owner: Owner,
    /// Its supplementary groups.
    pub groups: &'a [u32],
    /// As it was dumped.
    pub shell_job: bool,
    /// It is to be under the filter of `grid run`: CRIU is started under it, and so is all that it makes.
    pub filtered: bool,
    /// Sockets that were connected are restored closed.
    pub close_tcp: bool,
    /// What restored processes get in place of what the images call by these names (`pipe:[4711]`). The owner must be
    /// able to open each anew by its number.
    pub given: Vec<(String, BorrowedFd<'a>)>,
    /// The terminal that is the tree's from now on, and who leads its session.
    pub terminal: Option<Keeper<'a>>,
    /// Where.
    pub place: Where<'a>,
}

impl Criu {
    /// Looks whether others could change the program, asks it for its version, and refuses what is too old.
    pub fn find(path: &Path) -> Result<Self, CriuError> {
        let missing = |detail: String| CriuError::Missing { path: path.to_owned(), detail };
        let real = origin::safe(path)?;
        let out = std::process::Command::new(&real).arg("--version").output().map_err(|e| missing(e.to_string()))?;
        let text = String::from_utf8_lossy(&out.stdout);
        let version = parse_version(&text).ok_or_else(|| missing(format!("it says {:?}", text.trim())))?;
        if (version.0, version.1) < (4, 2) {
            return Err(missing(format!(
                "version {}.{} is too old for current kernels, 4.2 is needed",
                version.0, version.1
            )));
        }
        Ok(Self { path: real, version })
    }

    /// Starts `criu swrk` with these words before it, in this place and in [`Where`] of the job.
    ///
    /// A restore is `deaf`: it holds our end of its channel, too, and does not hear that this process dies. In its last
    /// notification it would take the silence for an answer and let the tree run; so it waits for one that does not come,
    /// until the tree's pid 1 ends for want of this process, and with it CRIU and all that it restored.
    fn start(
        &self,
        words: &[&str],
        job: &Where<'_>,
        more: &[(BorrowedFd<'_>, i32)],
        deaf: bool,
        place: Place<'_>,
    ) -> Result<(Channel, Spawned), CriuError> {
        let (ours, theirs) = Channel::pair().map_err(CriuError::Start)?;
        let mut argv = vec![self.path.to_string_lossy().into_owned()];
        argv.extend(words.iter().map(|word| (*word).to_owned()));
        argv.extend(["swrk".to_owned(), RPC_FD.to_string()]);
        let mut inherit = vec![(theirs.as_fd(), RPC_FD)];
        inherit.extend(more);
        inherit.extend(deaf.then(|| (ours.0.as_fd(), OTHER_END_FD)));
        let new_session = place.session.is_none();
        let place = Place {
            cgroup_procs: job.cgroup_procs.clone(),
            join: job.join,
            carried: job.carried,
            new_session,
            inherit,
            ..place
        };
        // It needs no program of anybody's. Each time it would try `sh -c 'iptables …'`, for connections that grid never moves:
        // where the files are the head's, a shell and its libraries come over the link for that.
        let env = [("PATH".to_owned(), "/nonexistent".to_owned())];
        let started = spawn(&argv, &env, &place).map_err(CriuError::Start)?;
        Ok((ours, started))
    }

    /// Dumps a tree: its memory goes down the page stream, the small images into a directory. When all is read,
    /// `hold` is called while CRIU keeps the tree stopped; it must freeze the tree and return only when the kernel has
    /// confirmed that. CRIU then lets go, and the tree stays as `hold` left it.
    ///
    /// # Errors
    /// Where CRIU refuses, the tree runs on. Where `hold` fails, too.
    pub fn dump(&self, job: &DumpJob<'_>, hold: &mut dyn FnMut() -> Result<(), String>) -> Result<(), CriuError> {
        let capabilities = if job.filtered { DUMP_FILTERED_CAPS } else { DUMP_CAPS };
        let carried = job.place.carried;
        let cwd = carried.then(|| job.images.to_owned());
        let place = Place { become_owner: job.owner, capabilities, cwd, ..Place::default() };
        let words: &[&str] = if job.owner.is_some() { &["--unprivileged"] } else { &[] };
        let (channel, started) = self.start(words, &job.place, &[(job.pages, PAGES_FD)], false, place)?;
        let opts = Opts {
            pid: Some(job.pid),
            leave_running: Some(true),
            shell_job: Some(job.shell_job),
            ps: Some(PageServer { fd: Some(PAGES_FD) }),
            // Who has connected and was not accepted yet waits at the shadow, which has the same socket.
            tcp_skip_in_flight: Some(true),
            tcp_close: Some(job.close_tcp),
            external: job.external.clone(),
            unprivileged: job.owner.map(|_| true),
            ghost_limit: Some(grid_types::facts::UNNAMED_FILE_LIMIT.0 as u32),
            ..common(if carried { Path::new(".") } else { job.images }, "dump.log")
        };
        let result = pushing(job.pages, || {
            converse(&channel, kind::DUMP, opts, &mut |script| match script {
                "post-dump" => hold(),
                _ => Ok(()),
            })
        });
        // It ends by itself once it has answered; it is never signalled.
        drop(channel);
        started.reap();
        explain("dump", job.images, "dump.log", result).map(|_| ())
    }

    /// Restores a tree whose pages were received. `staged` is called when every process is restored, filled and
    /// stopped; it must freeze the tree's control group. Returns the root's number as CRIU sees it.
    ///
    /// # Errors
    /// Where anything fails nothing has run; processes may be left in the tree's control group for the caller to end.
    pub fn restore(
        &self,
        job: &RestoreJob<'_>,
        pages: &ReceivedPages,
        staged: &mut dyn FnMut(Result<(), String>) -> Result<(), String>,
    ) -> Result<i32, CriuError> {
        let io = |e| CriuError::Images(job.images.to_owned(), e);
        let clocks = timens::clocks(job.images).map_err(io)?;
        readable(job.images).map_err(io)?;
        if job.terminal.is_some() {
            own_terminals(job.images, job.owner).map_err(io)?;
        }
        let work = job.images.join(WORK);
        let (uid, gid) = (Some(job.owner.uid), Some(job.owner.gid));
        fs::create_dir(&work).and_then(|()| chown(&work, uid, gid)).map_err(io)?;
        let socket = work.join(SOCKET);
        let listener = UnixListener::bind(&socket).map_err(io)?;
        chown(&socket, uid, gid).map_err(io)?;
        let place = Place {
            become_owner: Some(job.owner),
            groups: job.groups.to_vec(),
            capabilities: RESTORE_CAPS,
            filtered: job.filtered,
            clocks,
            killable: true,
            cwd: Some(job.images.to_owned()),
            session: job.terminal.clone(),
            stdio: [job.terminal.as_ref().map(|t| t.slave); 3],
            ..Place::default()
        };
        std::thread::scope(|scope| {
            let mut filler = Some(scope.spawn(move || uffd::fill_all(&listener, pages)));
            let mut filled = Ok(());
            let words = ["--unprivileged", "--work-dir", WORK];
            let given: Vec<(BorrowedFd<'_>, i32)> = job.given.iter().map(|g| g.1).zip(FIRST_GIVEN..).collect();
            let names = job.given.iter().map(|g| g.0.clone()).zip(FIRST_GIVEN..);
            let inherit_fd: Vec<InheritFd> = names.map(|(key, fd)| InheritFd { key, fd }).collect();
            let result = self.start(&words, &job.place, &given, true, place).and_then(|(channel, _)| {
                let opts = Opts {
                    lazy_pages: Some(true),
                    shell_job: Some(job.shell_job),
                    unprivileged: Some(true),
                    tcp_close: Some(job.close_tcp),
                    inherit_fd,
                    ..common(Path::new("."), "restore.log")
                };
                let said = converse(&channel, kind::RESTORE, opts, &mut |script| {
                    if script != "pre-resume" {
                        return Ok(());
                    }
                    if let Some(thread) = filler.take() {
                        filled = thread.join().unwrap_or_else(|_| Err(CriuError::Hold("the filler panicked".into())));
                    }
                    staged(filled.as_ref().map(|_| ()).map_err(ToString::to_string))
                });
                channel.hang_up();
                said
            });
            if filler.is_some() {
                unblock(&socket);
            }
            let restored = explain("restore", &work, "restore.log", result);
            filled?;
            restored?
                .restore
                .map(|r| r.pid)
                .ok_or_else(|| CriuError::Lost(io::Error::other("it restored and named no process")))
        })
    }
}

/// CRIU corks the page stream for good, so the last bytes of each exchange (a request that waits for its answer) lie
/// in the kernel for 200 ms. Setting TCP_NODELAY pushes what is queued even on a corked socket (tcp(7)); it is done
/// every half millisecond while CRIU dumps, and the cork is taken off afterwards for the images that follow.
fn pushing<T>(pages: BorrowedFd<'_>, work: impl FnOnce() -> T) -> T {
    use nix::sys::socket::{setsockopt, sockopt};
    let done = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        let pusher = scope.spawn(|| {
            while !done.load(std::sync::atomic::Ordering::Acquire)
                && setsockopt(&pages, sockopt::TcpNoDelay, &true).is_ok()
            {
                std::thread::park_timeout(std::time::Duration::from_micros(500));
            }
        });
        let result = work();
        done.store(true, std::sync::atomic::Ordering::Release);
        pusher.thread().unpark();
        // Not a TCP socket: there was nothing to push and there is nothing to take off.
        let _ = super::uncork(pages);
        result
    })
}

/// Lets the owner read the images, whatever this agent's umask took; that nobody else comes to them is the folder's above.
fn readable(images: &Path) -> io::Result<()> {
    use std::os::unix::fs::PermissionsExt;
    for entry in fs::read_dir(images)? {
        fs::set_permissions(entry?.path(), fs::Permissions::from_mode(0o644))?;
    }
    fs::set_permissions(images, fs::Permissions::from_mode(0o755))
}

/// The terminal in the images is the owner's.
fn own_terminals(images: &Path, owner: Owner) -> io::Result<()> {
    let path = images.join("tty-info.img");
    let image = fs::read(&path)?;
    let owned = corrected::owned_terminals(&image, owner.uid, owner.gid);
    fs::write(&path, owned.ok_or_else(|| io::Error::other("tty-info.img is not what CRIU writes"))?)
}

/// A restore that failed before it connected leaves the filler waiting in `accept`: connect and leave.
fn unblock(socket: &Path) {
    drop(std::os::unix::net::UnixStream::connect(socket));
}

fn common(images: &Path, log: &str) -> Opts {
    Opts {
        images_dir_fd: -1,
        images_dir: Some(images.to_string_lossy().into_owned()),
        log_level: Some(2),
        log_file: Some(log.to_owned()),
        notify_scripts: Some(true),
        link_remap: Some(true),
        manage_cgroups_mode: Some(CGROUPS_IGNORE),
        network_lock: Some(NETWORK_LOCK_SKIP),
        ..Opts::default()
    }
}

/// Sends the request and answers notifications until the final response.
pub(super) fn converse(
    channel: &Channel,
    request: i32,
    opts: Opts,
    notified: &mut dyn FnMut(&str) -> Result<(), String>,
) -> Result<Resp, CriuError> {
    channel.send(&Req { kind: request, opts: Some(opts), notify_success: None }).map_err(CriuError::Start)?;
    let mut failed = None;
    loop {
        let response = match (channel.receive(), failed.take()) {
            (Ok(response), before) => {
                failed = before;
                response
            }
            (Err(_), Some(why)) => return Err(CriuError::Hold(why)),
            (Err(e), None) => return Err(CriuError::Lost(e)),
        };
        if response.kind != kind::NOTIFY {
            return match failed {
                Some(why) => Err(CriuError::Hold(why)),
                None => Ok(response),
            };
        }
        let script = response.notify.and_then(|n| n.script).unwrap_or_default();
        let outcome = notified(&script);
        let success = outcome.is_ok();
        if let Err(why) = outcome {
            failed.get_or_insert(why);
        }
        channel
            .send(&Req { kind: kind::NOTIFY, opts: None, notify_success: Some(success) })
            .map_err(CriuError::Lost)?;
    }
}

/// Turns a refusal into an error that carries what CRIU's log says.
fn explain(action: &'static str, dir: &Path, log: &str, result: Result<Resp, CriuError>) -> Result<Resp, CriuError> {
    match result {
        Ok(response) if response.success => Ok(response),
        Ok(response) => {
            let detail = log_errors(&dir.join(log))
                .or(response.cr_errmsg)
                .or(response.cr_errno.map(|n| format!("errno {n}")))
                .unwrap_or_else(|| "it gave no reason".to_owned());
            Err(CriuError::Refused { action, detail })
        }
        Err(CriuError::Lost(e)) => match log_errors(&dir.join(log)) {
            Some(detail) => Err(CriuError::Refused { action, detail }),
            None => Err(CriuError::Lost(e)),
        },
        Err(e) => Err(e),
    }
}

/// The first errors of a CRIU log, without the ones that are harmless.
fn log_errors(path: &Path) -> Option<String> {
    errors_of(&String::from_utf8_lossy(&fs::read(path).ok()?))
}

pub(super) fn errors_of(text: &str) -> Option<String> {
    let lines: Vec<&str> = text
        .lines()
        .filter(|l| l.contains("Error (") && !l.contains("RLIMIT_NOFILE"))
        .map(|l| l.split_once("): ").map_or(l, |(_, rest)| rest))
        .take(3)
        .collect();
    (!lines.is_empty()).then(|| lines.join("; "))
}

pub(super) fn parse_version(text: &str) -> Option<(i32, i32, i32)> {
    let version = text.lines().find_map(|l| l.strip_prefix("Version: "))?;
    let mut parts = version.trim().split('.').map(|p| {
        let digits: String = p.chars().take_while(char::is_ascii_digit).collect();
        digits.parse::<i32>().ok()
    });
    Some((parts.next()??, parts.next()??, parts.next().flatten().unwrap_or(0)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read() {
        assert_eq!(parse_version("Version: 4.2.1\nGitID: v4.2.1\n"), Some((4, 2, 1)));
        assert_eq!(parse_version("Version: 3.17\n"), Some((3, 17, 0)));
        assert_eq!(parse_version("nonsense"), None);
    }

    #[test]
    fn a_missing_program_is_named() {
        let error = Criu::find(Path::new("/nonexistent/criu")).unwrap_err();
        assert!(error.to_string().contains("/nonexistent/criu"), "{error}");
    }
}

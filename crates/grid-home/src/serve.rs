//! Home's end: answers as the process's owner, and nobody else. It lives as long as its tree is away: what the tree has
//! open is open here.

use crate::control::{CONTROL_FD, next_connection};
use crate::fuse::{INIT, OPEN, Request, agree, error, forget_who_asks, room};
use crate::line::Line;
use crate::locks::{Done, Locks};
use crate::nameless::Nameless;
use crate::reopen::reopen;
use fuse_backend_rs::api::filesystem::{Context, FileSystem};
use fuse_backend_rs::api::server::Server;
use fuse_backend_rs::passthrough::{CachePolicy, Config, PassthroughFs};
use fuse_backend_rs::transport::{FuseBuf, FuseDevWriter, Reader, Writer};
use grid_os::descriptors::inherited;
use grid_os::packets;
use grid_os::rights;
use nix::libc;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::time::Duration;

/// Name under which `ps` shows it.
const COMM: &std::ffi::CStr = c"grid-home-files";
/// Requests that are answered at the same time.
const WORKERS: usize = 4;
/// What is known of a file at the worker is asked for anew after so long.
const REMEMBERED: Duration = Duration::from_secs(1);
/// Requests that wait to be answered; more stay in the connection.
const WAITING: usize = 4096;
/// Between two looks whether it is still wanted.
const LOOK: Duration = Duration::from_secs(1);

/// What a server is told.
#[derive(Clone, Debug)]
pub struct Home {
    /// Folder of this server's: where it is gone, so is the tree, or the cluster.
    pub dir: PathBuf,
    /// The attempt that takes the tree away.
    pub attempt: String,
    /// Owner of the tree.
    pub uid: u32,
    /// And group.
    pub gid: u32,
    /// And further groups.
    pub groups: Vec<u32>,
}

/// Bytes in, bytes out.
trait Files: Send + Sync {
    /// The answer to a request; empty where there is none.
    fn answer(&self, request: Vec<u8>) -> Vec<u8>;
    /// The file of that number, open once more.
    fn reopen(&self, node: u64) -> io::Result<File>;
}

impl Home {
    /// The body of a server: becomes the owner, then serves this namespace's root until its folder is gone.
    ///
    /// # Errors
    /// What failed at its start.
    pub fn run(&self) -> io::Result<()> {
        nix::sys::prctl::set_name(COMM)?;
        let control = inherited(CONTROL_FD)?;
        // Every file that the worker's kernel remembers is a descriptor here.
        let (_, most) = getrlimit(Resource::RLIMIT_NOFILE)?;
        setrlimit(Resource::RLIMIT_NOFILE, most, most)?;
        // From here on no other process of the owner's reaches into this one: what it says is believed there.
        rights::become_owner(self.uid, self.gid, &self.groups)?;
        nix::sys::stat::umask(nix::sys::stat::Mode::empty());
        let files: Arc<dyn Files> = Arc::new(Passthrough::new()?);
        let line = Line::new(&self.attempt)?;
        let (opens, says) = (files.clone(), line.clone());
        let locks = Locks::new(Box::new(move |node| opens.reopen(node)), Box::new(move |answer| says.say(answer)));
        let asked = start_workers(&files, &locks, &line);
        let agents = line.clone();
        std::thread::spawn(move || take_connections(&control, &agents, &locks, &asked));
        while self.dir.exists() {
            std::thread::sleep(LOOK);
        }
        Ok(())
    }
}

fn start_workers(files: &Arc<dyn Files>, locks: &Arc<Locks>, line: &Arc<Line>) -> mpsc::SyncSender<Vec<u8>> {
    let (asked, requests) = mpsc::sync_channel::<Vec<u8>>(WAITING);
    let requests = Arc::new(Mutex::new(requests));
    for _ in 0..WORKERS {
        let (files, locks, line, requests) = (files.clone(), locks.clone(), line.clone(), requests.clone());
        std::thread::spawn(move || {
            loop {
                let next = requests.lock().unwrap_or_else(PoisonError::into_inner).recv();
                let Ok(request) = next else { return };
                line.wait_for_room();
                let answer = match locks.answer(&request) {
                    Done::Pass => files.answer(request),
                    Done::Answer(answer) => answer,
                    Done::Later => continue,
                };
                if !answer.is_empty() {
                    line.say(answer);
                }
            }
        });
    }
    asked
}

fn take_connections(
    control: &std::os::fd::OwnedFd,
    line: &Arc<Line>,
    locks: &Arc<Locks>,
    asked: &mpsc::SyncSender<Vec<u8>>,
) {
    while let Ok(agent) = packets::accept(control) {
        let (line, locks, asked) = (line.clone(), locks.clone(), asked.clone());
        std::thread::spawn(move || {
            while let Ok(Some(socket)) = next_connection(&agent) {
                let (line, locks, asked) = (line.clone(), locks.clone(), asked.clone());
                std::thread::spawn(move || {
                    let heard = |request: Vec<u8>| {
                        if !locks.hear(&request) {
                            let _ = asked.send(request);
                        }
                    };
                    // Another one comes for one that broke.
                    let _ = line.serve(socket, || {}, heard);
                });
            }
        });
    }
}

/// By the library's file system that passes everything through.
struct Passthrough {
    library: Arc<PassthroughFs>,
    server: Server<Arc<PassthroughFs>>,
    nameless: Nameless,
    null: File,
}

impl Passthrough {
    fn new() -> io::Result<Self> {
        let config = Config {
            root_dir: "/".to_owned(),
            entry_timeout: REMEMBERED,
            attr_timeout: REMEMBERED,
            cache_policy: CachePolicy::Auto,
            use_host_ino: true,
            xattr: true,
            allow_direct_io: false,
            ..Config::default()
        };
        let library = Arc::new(PassthroughFs::<()>::new(config)?);
        let server = Server::new(library.clone());
        Ok(Self {
            library,
            server,
            nameless: Nameless::default(),
            null: File::options().write(true).open("/dev/null")?,
        })
    }

    fn has_no_name(&self, node: u64) -> bool {
        self.library.getattr(&Context::default(), node, None).is_ok_and(|(found, _)| found.st_nlink == 0)
    }

    fn handle(&self, request: &mut [u8], answer: &mut [u8]) -> io::Result<()> {
        let other = |e: &dyn std::fmt::Debug| io::Error::other(format!("{e:?}"));
        let reader = Reader::<()>::from_fuse_buffer(FuseBuf::new(request)).map_err(|e| other(&e))?;
        let mut writer = FuseDevWriter::<()>::new(self.null.as_raw_fd(), answer).map_err(|e| other(&e))?;
        // A writer that was split only fills its buffer; what it "commits" goes to /dev/null.
        let writer = writer.split_at(0).map_err(|e| other(&e))?;
        self.server.handle_message(reader, Writer::FuseDev(writer), None, None).map_err(|e| other(&e))?;
        Ok(())
    }
}

impl Files for Passthrough {
    fn answer(&self, mut request: Vec<u8>) -> Vec<u8> {
        let Ok(asked) = Request::of(&request) else { return Vec::new() };
        if asked.operation == OPEN && self.has_no_name(asked.node) && self.nameless.is_stale(asked.node, asked.thread) {
            return error(asked.unique, libc::ESTALE);
        }
        let first = (asked.operation == INIT).then(|| request.clone());
        forget_who_asks(&mut request);
        let mut answer = vec![0; room(&request)];
        let handled = self.handle(&mut request, &mut answer);
        let length = answer.get(..4).and_then(|b| b.try_into().ok()).map_or(0, u32::from_ne_bytes) as usize;
        if length == 0 && handled.is_err() && asked.is_answered() {
            return error(asked.unique, libc::EIO);
        }
        answer.truncate(length);
        if let Some(request) = first {
            agree(&request, &mut answer);
        }
        answer
    }
    fn reopen(&self, node: u64) -> io::Result<File> {
        reopen(&self.library, node)
    }
}

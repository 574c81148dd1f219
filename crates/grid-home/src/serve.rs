//! Home's end: answers as the process's owner, and nobody else. It lives as long as its tree is away: what the tree has
//! open is open here.

use crate::control::{CONTROL_FD, next_connection};
use crate::fuse::asked::{self, Asked};
use crate::fuse::{CREATE, HEAD, INIT, OPEN, Request, WRITE, agree, errno, error, forget_who_asks, room};
use crate::line::Line;
use crate::locks::{Done, Locks};
use crate::nameless::Nameless;
use crate::near::{BARE, CAPABILITIES, set_bits};
use crate::queue::Queue;
use crate::reopen::reopen;
use crate::watch::Watch;
use fuse_backend_rs::api::filesystem::{Context, FileSystem};
use fuse_backend_rs::api::server::Server;
use fuse_backend_rs::passthrough::{CachePolicy, Config, PassthroughFs};
use fuse_backend_rs::transport::{FuseBuf, FuseDevWriter, Reader, Writer};
use grid_os::descriptors::{allow_all, inherited};
use grid_os::packets;
use grid_os::rights;
use grid_os::watched::Folder;
use nix::libc;
use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// Name under which `ps` shows it.
const COMM: &std::ffi::CStr = c"grid-home-files";
/// Requests that are answered at the same time.
const WORKERS: usize = 4;
/// What is known of a file at the worker is asked for anew after so long, where it is not watched.
const REMEMBERED: Duration = Duration::from_secs(1);
/// Requests that wait to be answered; more stay in the connection.
const WAITING: usize = 4096;
/// Between two looks whether it is still wanted.
const LOOK: Duration = Duration::from_secs(1);
/// So many folders are watched; each is a descriptor, and one of the user's marks in the kernel.
pub const MOST_WATCHED: usize = 8192;

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
    /// So many folders may be watched; an eighth of its descriptors at most.
    pub most_watched: usize,
}

/// Bytes in, bytes out.
trait Files: Send + Sync {
    /// Says the answer to a request, where there is one, and what follows from it.
    fn answer(&self, request: Vec<u8>, say: &mut dyn FnMut(Vec<u8>));
    /// The body of a thread: says what others change.
    fn follow(&self, say: &mut dyn FnMut(Vec<u8>));
    /// Says all that others changed until now.
    fn catch_up(&self, say: &mut dyn FnMut(Vec<u8>));
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
        let most = allow_all()?;
        // From here on no other process of the owner's reaches into this one: what it says is believed there.
        rights::become_owner(self.uid, self.gid, &self.groups)?;
        nix::sys::stat::umask(nix::sys::stat::Mode::empty());
        let most_watched = self.most_watched.min(usize::try_from(most / 8).unwrap_or(usize::MAX));
        let files: Arc<dyn Files> = Arc::new(Passthrough::new(most_watched)?);
        let line = Line::new(&self.attempt)?;
        let (followed, told) = (files.clone(), line.clone());
        std::thread::spawn(move || followed.follow(&mut |notice| told.say(notice)));
        let (opens, grants, says) = (files.clone(), files.clone(), line.clone());
        let say = move |answer| say_of_lock(&*grants, &says, answer);
        let locks = Locks::new(Box::new(move |node| opens.reopen(node)), Box::new(say));
        let asked = start_workers(&files, &locks, &line);
        let agents = line.clone();
        std::thread::spawn(move || take_connections(&control, &agents, &locks, &asked));
        while self.dir.exists() {
            std::thread::sleep(LOOK);
        }
        Ok(())
    }
}

/// Who gets a lock is told before it what was changed under that lock at home.
fn say_of_lock(files: &dyn Files, line: &Line, answer: Vec<u8>) {
    if errno(&answer) == 0 {
        files.catch_up(&mut |notice| line.say(notice));
    }
    line.say(answer);
}

fn start_workers(files: &Arc<dyn Files>, locks: &Arc<Locks>, line: &Arc<Line>) -> Arc<Queue<Vec<u8>>> {
    let asked = Arc::new(Queue::<Vec<u8>>::new(WAITING));
    for _ in 0..WORKERS {
        let (files, locks, line, asked) = (files.clone(), locks.clone(), line.clone(), asked.clone());
        std::thread::spawn(move || {
            loop {
                let request = asked.next();
                line.wait_for_room();
                match locks.answer(&request) {
                    Done::Pass => files.answer(request, &mut |message| line.say(message)),
                    Done::Answer(answer) => say_of_lock(&*files, &line, answer),
                    Done::Later => {}
                }
            }
        });
    }
    asked
}

fn take_connections(control: &std::os::fd::OwnedFd, line: &Arc<Line>, locks: &Arc<Locks>, asked: &Arc<Queue<Vec<u8>>>) {
    while let Ok(agent) = packets::accept(control) {
        let (line, locks, asked) = (line.clone(), locks.clone(), asked.clone());
        std::thread::spawn(move || {
            while let Ok(Some(socket)) = next_connection(&agent) {
                let (line, locks, asked) = (line.clone(), locks.clone(), asked.clone());
                std::thread::spawn(move || {
                    let heard = |request: Vec<u8>| {
                        if !locks.hear(&request) {
                            asked.put(request);
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
    server: Server<Arc<PassthroughFs>>,
    files: Arc<PassthroughFs>,
    watch: Watch,
    nameless: Nameless,
    null: File,
}

impl Passthrough {
    fn new(most_watched: usize) -> io::Result<Self> {
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
        let files = Arc::new(PassthroughFs::<()>::new(config)?);
        let (server, watch, nameless) = (Server::new(files.clone()), Watch::new(most_watched), Nameless::default());
        Ok(Self { server, files, watch, nameless, null: File::options().write(true).open("/dev/null")? })
    }

    fn has_no_name(&self, node: u64) -> bool {
        self.files.getattr(&Context::default(), node, None).is_ok_and(|(found, _)| found.st_nlink == 0)
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

    /// The folder that has this number.
    fn folder(&self, node: u64) -> io::Result<Folder> {
        let folder = Folder::open(&self.files.readlinkat_proc_file(node)?)?;
        let (wanted, _) = self.files.getattr(&Context::default(), node, None)?;
        let found = folder.metadata()?;
        // Another one may be at its path by now.
        let is_it = (found.dev(), found.ino()) == (wanted.st_dev, wanted.st_ino);
        is_it.then_some(folder).ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    /// What was opened for writing says whether there are capabilities, which the kernel would ask before it writes.
    fn look_for_capabilities(&self, asked: Request, answer: &mut [u8]) {
        let node =
            if asked.operation == CREATE { asked::entry(answer).map(|told| told.node) } else { Some(asked.node) };
        let name = std::ffi::CStr::from_bytes_with_nul(CAPABILITIES).unwrap_or_default();
        let found = node.map(|node| self.files.getxattr(&Context::default(), node, name, 0));
        if found.is_some_and(|found| found.is_err_and(|e| e.raw_os_error() == Some(libc::ENODATA))) {
            set_bits(asked.operation, answer, BARE);
        }
    }

    fn answer_of(&self, asked: Request, mut request: Vec<u8>) -> Vec<u8> {
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
}

impl Files for Passthrough {
    fn answer(&self, request: Vec<u8>, say: &mut dyn FnMut(Vec<u8>)) {
        let Ok(head) = Request::of(&request) else { return };
        // Of the longest ones only their head is looked at.
        let seen = if head.operation == WRITE { HEAD.min(request.len()) } else { request.len() };
        let copy = request[..seen].to_vec();
        let asked = Asked::of(&copy);
        let begun = self.watch.begin(&asked, |node| self.folder(node));
        let mut answer = self.answer_of(head, request);
        if let Asked::Opening(_, true) | Asked::Creating(..) = asked {
            self.look_for_capabilities(head, &mut answer);
        }
        if !answer.is_empty() {
            self.watch.say(begun, &asked, answer, say);
        }
    }

    fn follow(&self, say: &mut dyn FnMut(Vec<u8>)) {
        self.watch.follow(say);
    }

    fn catch_up(&self, say: &mut dyn FnMut(Vec<u8>)) {
        self.watch.catch_up(say);
    }

    fn reopen(&self, node: u64) -> io::Result<File> {
        reopen(&self.files, node)
    }
}

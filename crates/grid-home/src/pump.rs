//! The worker's end: reads the kernel's messages and says them home, and gives the kernel what comes back.
//!
//! It walks no path after it has mounted: that would ask itself. It lets go of a process that is killed while home does
//! not answer; every other signal waits for the answer, which home gives at once to who waits for a lock. Whoever looks from
//! outside of the tree (the lender's agent) does not wait for a home that is away. It knows which locks the tree has.

use crate::control::{CONTROL_FD, LOCKS_FD, READY_FD, Word, next_connection, say, say_locks};
use crate::fuse::{Request, answered, content_changed, errno, error, is_notice};
use crate::line::{Ended, LONGEST, Line};
use crate::lock;
use crate::locks::Held;
use crate::locks::message::{About, let_go};
use crate::near::Near;
use crate::notices::Notices;
use grid_os::descriptors::inherited;
use grid_os::packets;
use grid_os::private_tmp::mount_all;
use grid_os::proc;
use grid_os::spawn::Owner;
use grid_os::tree_init::PUMP_FILE;
use grid_os::{mount, rights};
use nix::libc;
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// Name under which `ps` shows it.
const COMM: &std::ffi::CStr = c"grid-tree-files";
/// Between two looks for who is to wait no longer.
const LOOK: Duration = Duration::from_millis(500);
/// An answer that takes longer may be waited for by who was killed.
const LONG: Duration = Duration::from_millis(500);
/// So long somebody from outside waits for home, where that is thought to be there.
const PATIENCE: Duration = Duration::from_secs(3);
/// KiB that the kernel asks for ahead of who reads: by the kernel's own choice, a quarter of it, a reader waits for home more
/// often than home for the line.
const READ_AHEAD: u32 = 512;
/// Who it is once everything is mounted.
const NOBODY: u32 = 65534;

/// What a pump is told.
#[derive(Clone, Debug)]
pub struct Pump {
    /// Folder of the tree, where it writes its number.
    pub dir: PathBuf,
    /// The attempt that brings the tree.
    pub attempt: String,
    /// Owner of the tree.
    pub uid: u32,
    /// And group.
    pub gid: u32,
    /// The owner's further groups.
    pub groups: Vec<u32>,
    /// Who waits for home gets an error once it has been away for so long; none: it waits for ever.
    pub patience: Option<Duration>,
    /// The tree has a `/tmp` and a `/dev/shm` of its own, over the head's.
    pub private_tmp: bool,
    /// Folders in which it sees this machine's files.
    pub own: Vec<PathBuf>,
}

/// Asked, and not answered.
struct Waiting {
    request: Request,
    since: Instant,
    about: About,
}

/// What the kernel was told, and not.
#[derive(Default)]
struct Open {
    waiting: BTreeMap<u64, Waiting>,
    held: Held,
    near: Near,
}

impl Open {
    /// Takes what is answered now, by home or for it; who takes it tells the kernel.
    fn take(&mut self, unique: u64, errno: i32) -> Option<Waiting> {
        let waiting = self.waiting.remove(&unique)?;
        // What lets go of locks does so whatever else was the matter with it, and whoever hears of it.
        if errno == 0 || !matches!(waiting.about, About::Set(wish) if wish.mode.is_some()) {
            self.held.done(&waiting.about);
        }
        Some(waiting)
    }

    /// The file on which home grants somebody a lock by its answer to that.
    fn granted(&self, unique: u64) -> Option<u64> {
        match self.waiting.get(&unique)?.about {
            About::Set(wish) => wish.mode.map(|_| wish.whose.node),
            _ => None,
        }
    }

    fn waits_for_a_lock(&self, unique: u64) -> bool {
        self.waiting.get(&unique).is_some_and(|w| matches!(w.about, About::Set(wish) if wish.waits))
    }
}

struct Shared {
    device: File,
    line: Arc<Line>,
    open: Mutex<Open>,
    /// What changed at home.
    notices: Notices,
    /// The agent, where it is there.
    agent: Mutex<Option<Arc<OwnedFd>>>,
    proc: OwnedFd,
}

impl Pump {
    /// The body of a pump, in a mount namespace of its own: mounts, makes the mount this namespace's root, says so on
    /// descriptor 3, gives up what it may, and serves until the mount is gone.
    ///
    /// # Errors
    /// What could not be mounted. It was said on descriptor 3, too.
    pub fn run(&self) -> io::Result<()> {
        let mut ready = File::from(inherited(READY_FD)?);
        let shared = self.start().inspect_err(|e| drop(ready.write_all(e.to_string().as_bytes())))?;
        ready.write_all(b"r")?;
        drop(ready);
        shared.requests()
    }

    fn start(&self) -> io::Result<Arc<Shared>> {
        nix::sys::prctl::set_name(COMM)?;
        std::fs::write(self.dir.join(PUMP_FILE), std::process::id().to_string())?;
        let place = self.dir.join("home");
        std::fs::create_dir_all(&place)?;
        let device = File::options().read(true).write(true).open("/dev/fuse");
        let device = device.map_err(|e| io::Error::new(e.kind(), format!("/dev/fuse here: {e} (modprobe fuse)")))?;
        mount::fuse(&device, &place, self.uid, self.gid)?;
        // Where that cannot be set it is slower, no more.
        let _ = mount::read_ahead(&place, READ_AHEAD);
        let shared = Arc::new(Shared {
            device,
            line: Line::new(&self.attempt)?,
            open: Mutex::default(),
            notices: Notices::default(),
            agent: Mutex::default(),
            proc: mount::hold_folder("/proc")?,
        });
        let (control, locks) = (inherited(CONTROL_FD)?, inherited(LOCKS_FD)?);
        let agents = shared.clone();
        std::thread::spawn(move || agents.agents(&control));
        let lists = shared.clone();
        std::thread::spawn(move || lists.list_locks(&locks));
        let looks = shared.clone();
        let patience = self.patience;
        std::thread::spawn(move || looks.let_go(patience));
        let notices = shared.clone();
        std::thread::spawn(move || notices.tell_kernel());
        // What follows asks home, so somebody must answer the kernel.
        let asks = shared.clone();
        let owner = Owner { uid: self.uid, gid: self.gid };
        let private_tmp = self.private_tmp.then_some(owner);
        let own = mount::reach(owner, &self.groups, &self.own)?;
        let placed = std::thread::spawn(move || {
            mount::become_root(&place, &own)?;
            private_tmp.map_or(Ok(()), mount_all)
        });
        while !placed.is_finished() {
            asks.one_request_within(Duration::from_millis(20))?;
        }
        placed.join().unwrap_or_else(|_| Err(io::Error::other("mounting panicked")))?;
        // Another user than the tree's, which could else signal it.
        let nobody = if self.uid == NOBODY { NOBODY - 1 } else { NOBODY };
        rights::become_unprivileged(nobody, nobody)?;
        Ok(shared)
    }
}

/// `PF_EXITING` among the flags of `/proc/THREAD/stat`: the ninth field, the seventh behind the name in brackets.
fn has_begun_to_end(stat: &str) -> bool {
    const EXITING: u64 = 4;
    let behind = stat.rsplit_once(')').map_or("", |(_, behind)| behind);
    let flags = behind.split_ascii_whitespace().nth(6).and_then(|word| word.parse::<u64>().ok());
    flags.is_some_and(|flags| flags & EXITING != 0)
}

impl Shared {
    /// Passes the kernel's messages on until the mount is gone.
    fn requests(&self) -> io::Result<()> {
        let mut buffer = vec![0; LONGEST];
        while self.one_request(&mut buffer)? {}
        Ok(())
    }

    fn one_request_within(&self, wait: Duration) -> io::Result<()> {
        use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
        use std::os::fd::AsFd;
        let limit = PollTimeout::try_from(wait).unwrap_or(PollTimeout::ZERO);
        let mut fds = [PollFd::new(self.device.as_fd(), PollFlags::POLLIN)];
        if poll(&mut fds, limit).unwrap_or(0) > 0 {
            self.one_request(&mut vec![0; LONGEST])?;
        }
        Ok(())
    }

    /// False where the mount is gone.
    fn one_request(&self, buffer: &mut [u8]) -> io::Result<bool> {
        let length = match (&self.device).read(buffer) {
            Ok(length) => length,
            Err(e) if e.raw_os_error() == Some(libc::ENODEV) => return Ok(false),
            // Taken back meanwhile; a signal; nothing there.
            Err(e) if matches!(e.raw_os_error(), Some(libc::ENOENT | libc::EINTR | libc::EAGAIN)) => return Ok(true),
            Err(e) => return Err(e),
        };
        let message = &buffer[..length];
        let request = Request::of(message)?;
        let about = About::of(message);
        // Who is interrupted is looked for, and let go where he is killed. Home must hear of one who waits for a lock.
        if matches!(about, About::Interrupt { of } if !lock(&self.open).waits_for_a_lock(of)) {
            return Ok(true);
        }
        if request.is_answered() {
            let mut open = lock(&self.open);
            if let Some(errno) = open.near.asked(&request, message) {
                drop(open);
                let _ = (&self.device).write(&error(request.unique, errno));
                return Ok(true);
            }
            open.waiting.insert(request.unique, Waiting { request, since: Instant::now(), about });
        }
        self.line.say(message.to_vec());
        Ok(true)
    }

    /// An answer from home, or what changed there.
    fn answer(&self, mut message: Vec<u8>) {
        if is_notice(&message) {
            lock(&self.open).near.told(&message);
            self.notices.put(&message);
            return;
        }
        let Ok(unique) = answered(&message) else { return };
        if errno(&message) == 0 && lock(&self.open).granted(unique).is_some() {
            return self.notices.put_answer(&message);
        }
        self.pass_on(&mut message);
    }

    fn pass_on(&self, message: &mut [u8]) {
        let Ok(unique) = answered(message) else { return };
        let mut open = lock(&self.open);
        // One that was let go, or was never asked for, is not the kernel's business.
        let Some(taken) = open.take(unique, errno(message)) else { return };
        open.near.answered(&taken.request, message);
        drop(open);
        let _ = (&self.device).write(message);
    }

    /// Instead of home.
    fn answer_for_home(&self, unique: u64, errno: i32) {
        let Some(waiting) = lock(&self.open).take(unique, errno) else { return };
        // Before whatever else that process makes the kernel say.
        if matches!(waiting.about, About::Set(wish) if wish.mode.is_some()) {
            self.line.say(let_go(unique));
        }
        let _ = (&self.device).write(&error(unique, errno));
    }

    /// A thread of its own: see [`Notices`].
    fn tell_kernel(&self) {
        loop {
            let mut message = self.notices.next();
            if is_notice(&message) {
                // What it does not remember, or not any more, it need not be told.
                let _ = (&self.device).write(&message);
            } else {
                self.grant(&mut message);
            }
        }
    }

    /// Whoever has a lock sees what was done before by whoever had it, wherever that was: of other files by the notices that
    /// came before, of this one because nothing that is known of it is believed.
    fn grant(&self, answer: &mut [u8]) {
        let node = answered(answer).ok().and_then(|unique| lock(&self.open).granted(unique));
        if let Some(node) = node {
            let _ = (&self.device).write(&content_changed(node));
        }
        self.pass_on(answer);
    }

    fn let_go(&self, patience: Option<Duration>) {
        loop {
            std::thread::sleep(LOOK);
            let away = self.line.away_for();
            let (up, too_long) = (away.is_none(), patience.is_some_and(|patience| away >= Some(patience)));
            let slow: Vec<(Request, Duration)> = lock(&self.open)
                .waiting
                .values()
                .map(|waiting| (waiting.request, waiting.since.elapsed()))
                .filter(|(_, waited)| *waited >= LONG)
                .collect();
            for (request, waited) in slow {
                let closes = request.operation == crate::fuse::FLUSH;
                let errno = match request.thread {
                    _ if too_long => libc::EIO,
                    0 if request.is_look_from_outside() && (!up || waited >= PATIENCE) => libc::ETIMEDOUT,
                    0 => continue,
                    thread if self.is_killed(thread) => libc::EINTR,
                    // Who ends shows no SIGKILL any more, and nobody hears what closing its files gave.
                    thread if !up && closes && self.is_ending(thread) => libc::EINTR,
                    _ => continue,
                };
                self.answer_for_home(request.unique, errno);
            }
        }
    }

    fn is_killed(&self, thread: u32) -> bool {
        mount::read_below(&self.proc, &format!("{thread}/status")).is_ok_and(|status| proc::is_killed(&status))
    }

    fn is_ending(&self, thread: u32) -> bool {
        mount::read_below(&self.proc, &format!("{thread}/stat")).is_ok_and(|stat| has_begun_to_end(&stat))
    }

    /// One agent after another.
    fn agents(self: &Arc<Self>, control: &OwnedFd) {
        while let Ok(agent) = packets::accept(control) {
            let agent = Arc::new(agent);
            let before = lock(&self.agent).replace(agent.clone());
            drop(before);
            self.tell(if self.line.is_up() { Word::Up } else { Word::Down });
            while let Ok(Some(socket)) = next_connection(&agent) {
                let shared = self.clone();
                std::thread::spawn(move || shared.connection(socket));
            }
        }
    }

    /// Whoever comes is told which locks there are.
    fn list_locks(&self, door: &OwnedFd) {
        while let Ok(agent) = packets::accept(door) {
            let locks = lock(&self.open).held.list();
            let _ = say_locks(&agent, locks);
        }
    }

    fn connection(&self, socket: grid_os::socket::Socket) {
        let ended = self.line.serve(socket, || self.tell(Word::Up), |message| self.answer(message));
        if let Err(Ended::Other(_)) = ended {
            // Open files are lost with the server that had them: whoever waits must not wait for ever.
            self.tell(Word::Over);
            std::process::exit(1);
        }
        if !self.line.is_up() {
            self.tell(Word::Down);
        }
    }

    fn tell(&self, word: Word) {
        let agent = lock(&self.agent).clone();
        if let Some(agent) = agent {
            let _ = say(&agent, word);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_ends_is_told_by_its_flags_whatever_its_name() {
        let stat = |name: &str, flags: u32| format!("440 ({name}) S 421 440 440 0 -1 {flags} 1525 0 0");
        assert!(has_begun_to_end(&stat("python3", 0x40404c)) && has_begun_to_end(&stat("a) S 1 2 (b", 4)));
        assert!(
            !has_begun_to_end(&stat("python3", 0x400040)) && !has_begun_to_end("") && !has_begun_to_end("440 (x) S")
        );
    }
}

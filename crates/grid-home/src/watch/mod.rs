//! Home's changes are told to the worker's kernel, which therefore may believe for long what it was told. Decided in
//! [`table`]; here the kernel is asked to watch, and its reports are turned into notices.
//!
//! A folder is watched before the first name in it is looked up, so nothing that happens in between is missed; an answer, and
//! what it means for the table, are said in one step, so no notice comes before the answer that it corrects.

pub mod mounts;
pub mod table;

use crate::fuse::asked::{self, Asked};
use crate::fuse::{CREATE, OPEN, errno};
use crate::lock;
use crate::near::{self, BARE, QUIET};
use grid_os::watched::{Change, Folder, Told, Watcher};
use mounts::Mounts;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use std::collections::HashMap;
use std::convert::Infallible;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::Mutex;
use std::time::{Duration, Instant};
use table::{Belief, Table};

/// So long the kernel believes where a name in a watched folder leads.
const NAME: Duration = Duration::from_secs(60);
/// And the attributes of what is there. Storing through a mapping tells nobody before the file is closed, so not longer.
pub(crate) const ATTRIBUTES: Duration = Duration::from_secs(10);

/// What changed is read so often at most for one who waits for it; each time is hundreds of changes.
const READS: usize = 64;

/// Watches what the kernel remembers.
pub struct Watch {
    table: Mutex<Table>,
    folders: Mutex<HashMap<u64, Folder>>,
    /// None where nothing can be watched here.
    watcher: Option<Watcher>,
    begun: Instant,
}

impl Watch {
    /// At most so many folders.
    pub fn new(most: usize) -> Self {
        let watcher = Watcher::new().ok();
        let most = if watcher.is_some() { most } else { 0 };
        Self { table: Mutex::new(Table::new(most)), folders: Mutex::default(), watcher, begun: Instant::now() }
    }

    /// A request comes. What [`Self::say`] is to be given with its answer.
    pub fn begin(&self, asked: &Asked<'_>, find: impl Fn(u64) -> io::Result<Folder>) -> u64 {
        match asked {
            Asked::Name(folder, _)
            | Asked::Making(folder, _)
            | Asked::Creating(folder, _)
            | Asked::Names(folder)
            | Asked::Renaming(_, (folder, _), _) => {
                self.watch(*folder, find);
            }
            Asked::Forgetting(all) => all.iter().for_each(|(node, times)| self.forget(*node, *times)),
            // Before it is read: what changes meanwhile is told.
            Asked::Content(node) => lock(&self.table).content(*node),
            _ => {}
        }
        lock(&self.table).begin()
    }

    fn watch(&self, node: u64, find: impl Fn(u64) -> io::Result<Folder>) {
        let wanted = || lock(&self.table).wants(node);
        let Some(watcher) = self.watcher.as_ref().filter(|_| wanted()) else { return };
        let mut folders = lock(&self.folders);
        // Who waited here may have waited for just that.
        if !wanted() {
            return;
        }
        let watched = find(node).and_then(|folder| watcher.watch(&folder).map(|()| folder)).ok();
        let mut table = lock(&self.table);
        table.watched(node, watched.as_ref().map(|folder| folder.id().clone()));
        if watched.as_ref().is_some_and(Folder::closes_quietly) {
            table.quiet(node);
        }
        drop(table);
        folders.extend(watched.map(|folder| (node, folder)));
    }

    fn forget(&self, node: u64, times: u64) {
        let mut folders = lock(&self.folders);
        let Some(is_last) = lock(&self.table).forget(node, times) else { return };
        if let (Some(folder), Some(watcher), true) = (folders.remove(&node), &self.watcher, is_last) {
            watcher.unwatch(&folder);
        }
    }

    /// Says the answer, and for how long it is to be believed.
    pub fn say(&self, begun: u64, asked: &Asked<'_>, mut answer: Vec<u8>, mut say: impl FnMut(Vec<u8>)) {
        let mut table = lock(&self.table);
        let mut notices = Vec::new();
        match asked {
            _ if asked::is_success(&answer) => notices = self.remember(&mut table, begun, asked, &mut answer),
            Asked::Name(folder, name) if errno(&answer) == nix::libc::ENOENT => {
                if let Some(further) = table.absence(begun, (*folder, name)) {
                    (answer, notices) = (asked::absence(&answer, NAME), further);
                }
            }
            _ => {}
        }
        say(answer);
        notices.into_iter().for_each(say);
    }

    /// What the kernel remembers after this answer, and what it must be told at once.
    fn remember(&self, table: &mut Table, begun: u64, asked: &Asked<'_>, answer: &mut [u8]) -> Vec<Vec<u8>> {
        match asked {
            Asked::Name(folder, name) | Asked::Making(folder, name) => {
                if let Some(told) = asked::entry(answer) {
                    believe(table.name(begun, (*folder, name), &told), answer, &told);
                }
            }
            Asked::Names(folder) => {
                for (name, told) in asked::entries(answer) {
                    believe(table.name(begun, (*folder, &name), &told), answer, &told);
                }
            }
            Asked::Attributes(node) => {
                if let Some(told) = asked::attributes(answer, *node).filter(|told| table.attributes(begun, told)) {
                    asked::believe_attributes(answer, &told, ATTRIBUTES);
                }
            }
            Asked::Creating(folder, name) => {
                if let Some(told) = asked::entry(answer) {
                    believe(table.name(begun, (*folder, name), &told), answer, &told);
                    opened(table, begun, told.node, CREATE, answer);
                }
            }
            Asked::Opening(node, _) => {
                if table.opening(*node, self.begun.elapsed()) {
                    asked::keep_content(answer);
                }
                opened(table, begun, *node, OPEN, answer);
            }
            Asked::Writing(node) => table.writing(*node),
            Asked::Removal(folder, name) => table.removal((*folder, name)),
            Asked::Renaming(from, to, exchange) => return table.renaming(begun, *from, *to, *exchange),
            Asked::Content(_) | Asked::Forgetting(_) | Asked::Other => {}
        }
        Vec::new()
    }

    /// Says all that changed until now. What the other thread has read it has said, or says before this reads.
    pub fn catch_up(&self, mut say: impl FnMut(Vec<u8>)) {
        let Some(watcher) = &self.watcher else { return };
        let mut table = lock(&self.table);
        for _ in 0..READS {
            match watcher.told() {
                Ok(told) if told.is_empty() => return,
                Ok(told) => tell(&mut table, &told, &mut say),
                Err(_) => break,
            }
        }
        // Others change more than can be read.
        table.all_changed().into_iter().for_each(say);
    }

    /// The body of a thread: says what changes from now on.
    pub fn follow(&self, mut say: impl FnMut(Vec<u8>)) {
        if let Some(watcher) = &self.watcher {
            let Err(_) = self.follow_by(watcher, &mut say);
            lock(&self.table).give_up().into_iter().for_each(say);
        }
    }

    fn follow_by(&self, watcher: &Watcher, mut say: impl FnMut(Vec<u8>)) -> io::Result<Infallible> {
        let mut mounts = Mounts::new()?;
        // What was told before these were known.
        lock(&self.table).all_changed().into_iter().for_each(&mut say);
        loop {
            let waits = [(watcher.as_fd(), PollFlags::POLLIN), (mounts.as_fd(), PollFlags::POLLPRI)];
            let mut fds = waits.map(|(fd, flags)| PollFd::new(fd, flags));
            match poll(&mut fds, PollTimeout::NONE) {
                Err(nix::errno::Errno::EINTR) => continue,
                other => other?,
            };
            let told = if fds[1].any().unwrap_or(true) { remounted(&mut mounts)? } else { Vec::new() };
            let mut table = lock(&self.table);
            tell(&mut table, &told, &mut say);
            tell(&mut table, &watcher.told()?, &mut say);
        }
    }
}

fn tell(table: &mut Table, told: &[Told], say: impl FnMut(Vec<u8>)) {
    let changes = told.iter().flat_map(|told| match told {
        Told::Changed(change) if change.is_own => Vec::new(),
        Told::Changed(change) => table.change(change),
        Told::Lost => table.all_changed(),
    });
    changes.for_each(say);
}

/// What is mounted, or not any more, as a change of the name at which it is.
fn remounted(mounts: &mut Mounts) -> io::Result<Vec<Told>> {
    let of_name = |place: &Path| {
        let (folder, name) = (Folder::open(place.parent()?).ok()?, place.file_name()?.as_bytes().into());
        let folder = folder.id().clone();
        Some(Told::Changed(Change { folder, name, is_of_name: true, is_of_content: true, is_own: false }))
    };
    Ok(mounts.changed()?.iter().filter_map(|place| of_name(place)).collect())
}

/// What is true of the open file for as long as it is open.
fn opened(table: &mut Table, begun: u64, node: u64, operation: u32, answer: &mut [u8]) {
    let quiet = if table.closes_quietly(node) { QUIET } else { 0 };
    let bare = near::bits(operation, answer) & BARE;
    let bare = if bare != 0 && table.bare(begun, node) { BARE } else { 0 };
    near::set_bits(operation, answer, quiet | bare);
}

fn believe(belief: Belief, answer: &mut [u8], told: &asked::Told) {
    if belief.name {
        asked::believe_name(answer, told, NAME);
    }
    if belief.attributes {
        asked::believe_entry_attributes(answer, told, ATTRIBUTES);
    }
}

//! What the worker's kernel remembers for long, and what it must be told when something changes at home: pure bookkeeping.
//!
//! A name is believed for long only in a folder that is watched; attributes only of a file whose one name that is, and of a
//! folder that is watched itself. What was in the making while its folder changed is not: the notice of that could come
//! before the answer. What is told is believed no longer until it was asked for again, so a file that is written all the
//! time is told once for each time that somebody looks.

use crate::fuse::asked::Told;
use crate::fuse::{attributes_changed, content_changed, name_changed};
use grid_os::watched::{Change, Id};
use std::collections::{HashMap, HashSet};
use std::time::Duration;

/// More names are not believed for long.
pub const MOST_NAMES: usize = 1 << 16;
/// So many names are believed not to be in a folder: unlike files, the kernel does not say when it forgets them.
const MOST_ABSENT: usize = 1024;
/// Content is kept for so long before it is asked for anew by who opens the file: storing through a mapping is not told.
pub const KEPT: Duration = Duration::from_secs(60);
/// The root's number.
const ROOT: u64 = 1;

/// What an answer may say for long.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Belief {
    /// Where the name leads.
    pub name: bool,
    /// The file's attributes.
    pub attributes: bool,
}

/// A folder that is watched.
#[derive(Debug)]
struct Folder {
    id: Id,
    /// Its latest change, counted with all others.
    changed: u64,
    /// What is believed to be in it.
    names: HashMap<Box<[u8]>, u64>,
    /// And what is not.
    absent: HashSet<Box<[u8]>>,
    /// Who closes a file in it is told nothing by the file system.
    is_quiet: bool,
}

/// A file that the kernel remembers.
#[derive(Debug, Default)]
struct Node {
    /// So often it was told of it.
    told: u64,
    /// Under which name in which watched folder.
    at: Option<(u64, Box<[u8]>)>,
    /// What happens to it happens by that name, in that folder.
    is_single: bool,
    /// Its attributes may be believed for long.
    attributes: bool,
    /// It is believed to have no capabilities.
    bare: bool,
    /// Content of it may be remembered.
    content: bool,
    /// Since when, where it is kept from one opening to the next.
    kept: Option<Duration>,
}

/// A place: a folder and a name in it.
pub type Place<'a> = (u64, &'a [u8]);

/// All of it.
#[derive(Debug, Default)]
pub struct Table {
    /// So many folders more may be watched.
    room: usize,
    /// None for one that cannot be watched.
    folders: HashMap<u64, Option<Folder>>,
    /// A folder may be there twice, by two mounts.
    by_id: HashMap<Id, Vec<u64>>,
    nodes: HashMap<u64, Node>,
    /// Names in all folders, there or not.
    names: usize,
    /// Changes so far.
    changes: u64,
}

/// On the same mount; by how the library numbers files: 47 bits of the file's own number, 8 bits that stand for the mount.
fn are_on_one_mount(one: u64, other: u64) -> bool {
    let mount = |node: u64| node >> 47 & 0xff;
    ![one, other].contains(&ROOT) && mount(one) == mount(other)
}

impl Table {
    /// One in which at most so many folders are watched.
    pub fn new(most: usize) -> Self {
        Self { room: most, ..Self::default() }
    }

    /// The folder should be watched from now on.
    pub fn wants(&self, folder: u64) -> bool {
        self.room > 0 && !self.folders.contains_key(&folder)
    }

    /// It is watched, or cannot be.
    pub fn watched(&mut self, folder: u64, id: Option<Id>) {
        let id = id.filter(|_| self.room > 0);
        // A number that nobody was told of would never be forgotten.
        if id.is_none() && folder != ROOT && !self.nodes.contains_key(&folder) {
            return;
        }
        if let Some(id) = &id {
            self.room -= 1;
            self.by_id.entry(id.clone()).or_default().push(folder);
        }
        let (changed, is_quiet) = (self.changes, false);
        let new = id.map(|id| Folder { id, changed, names: HashMap::new(), absent: HashSet::new(), is_quiet });
        self.folders.insert(folder, new);
    }

    /// Where it is watched: its file system says nothing to who closes a file.
    pub fn quiet(&mut self, folder: u64) {
        if let Some(Some(folder)) = self.folders.get_mut(&folder) {
            folder.is_quiet = true;
        }
    }

    /// A file that is opened: whether who closes it is told nothing.
    pub fn closes_quietly(&self, node: u64) -> bool {
        let at = self.nodes.get(&node).and_then(|found| found.at.as_ref());
        let folder = at.filter(|at| are_on_one_mount(at.0, node)).and_then(|at| self.folders.get(&at.0));
        folder.is_some_and(|folder| folder.as_ref().is_some_and(|folder| folder.is_quiet))
    }

    /// A file that is opened, and has no capabilities. Whether that may be believed until it is told otherwise.
    pub fn bare(&mut self, begun: u64, node: u64) -> bool {
        let folder = self.followed(node).and_then(|node| node.at.as_ref()).map(|at| at.0);
        let is_quiet = folder.is_some_and(|folder| self.unchanged(folder, begun).is_some());
        if let Some(node) = self.nodes.get_mut(&node).filter(|_| is_quiet) {
            node.bare = true;
        }
        is_quiet
    }

    /// What a request that begins now is to say when it is answered.
    pub fn begin(&self) -> u64 {
        self.changes
    }

    /// The folder, where it is watched and nobody changed anything in it since.
    fn unchanged(&mut self, folder: u64, begun: u64) -> Option<&mut Folder> {
        self.folders.get_mut(&folder)?.as_mut().filter(|folder| folder.changed <= begun)
    }

    /// The kernel is told where a name leads.
    pub fn name(&mut self, begun: u64, (folder, name): Place<'_>, told: &Told) -> Belief {
        self.nodes.entry(told.node).or_default().told += 1;
        let believed = self.put((folder, name), told.node, begun);
        let attributes = self.attributes(begun, told);
        Belief { name: believed, attributes }
    }

    fn may_believe(&mut self, folder: u64, begun: u64) -> bool {
        self.names < MOST_NAMES && self.unchanged(folder, begun).is_some()
    }

    /// The name is believed from now on, where it may be. Where not, an answer beside this one may have said that it is.
    fn put(&mut self, (folder, name): Place<'_>, node: u64, begun: u64) -> bool {
        if !self.may_believe(folder, begun) {
            return false;
        }
        self.take((folder, name));
        let Some(found) = self.unchanged(folder, begun) else { return false };
        found.names.insert(name.into(), node);
        self.names += 1;
        self.nodes.entry(node).or_default().at = Some((folder, name.into()));
        true
    }

    /// No name is believed there any more. The file to which it led.
    fn take(&mut self, (folder, name): Place<'_>) -> Option<u64> {
        let found = self.folders.get_mut(&folder)?.as_mut()?;
        self.names -= usize::from(found.absent.remove(name));
        let node = found.names.remove(name)?;
        self.names -= 1;
        let found = self.nodes.get_mut(&node);
        if let Some(found) = found.filter(|found| found.at.as_ref().is_some_and(|at| (at.0, &*at.1) == (folder, name)))
        {
            found.at = None;
        }
        Some(node)
    }

    /// The kernel is told that a name is not there. Whether it may believe that for long, and what it is told besides.
    pub fn absence(&mut self, begun: u64, (folder, name): Place<'_>) -> Option<Vec<Vec<u8>>> {
        if !self.may_believe(folder, begun) {
            return None;
        }
        self.take((folder, name));
        let found = self.unchanged(folder, begun)?;
        let many = found.absent.len() >= MOST_ABSENT;
        let gone: Vec<_> = if many { found.absent.drain().collect() } else { Vec::new() };
        found.absent.insert(name.into());
        self.names = self.names + 1 - gone.len();
        Some(gone.iter().map(|name| name_changed(folder, name)).collect())
    }

    /// The kernel is told a file's attributes.
    pub fn attributes(&mut self, begun: u64, told: &Told) -> bool {
        let node = self.nodes.entry(told.node).or_default();
        let at = node.at.as_ref().map(|at| at.0);
        node.is_single = !told.is_folder && told.is_single && at.is_some_and(|at| are_on_one_mount(at, told.node));
        let watched = if told.is_folder { Some(told.node) } else { at.filter(|_| node.is_single) };
        let believed = watched.is_some_and(|folder| self.unchanged(folder, begun).is_some());
        if believed {
            self.nodes.entry(told.node).or_default().attributes = true;
        }
        believed
    }

    fn followed(&mut self, node: u64) -> Option<&mut Node> {
        self.nodes.get_mut(&node).filter(|node| node.at.is_some() && node.is_single)
    }

    /// The kernel asks for a file's content.
    pub fn content(&mut self, node: u64) {
        if let Some(node) = self.followed(node) {
            node.content = true;
        }
    }

    /// A file is opened. Whether the kernel keeps what it has of its content.
    pub fn opening(&mut self, node: u64, now: Duration) -> bool {
        let Some(node) = self.followed(node) else { return false };
        let keep = node.content && node.kept.is_some_and(|since| now.saturating_sub(since) < KEPT);
        if !keep {
            node.kept = Some(now);
        }
        keep
    }

    /// The worker wrote: where home appends, too, the kernel does not know at which place of the file it did.
    pub fn writing(&mut self, node: u64) {
        if let Some(node) = self.nodes.get_mut(&node) {
            node.kept = None;
        }
    }

    /// The worker took a name away.
    pub fn removal(&mut self, place: Place<'_>) {
        self.take(place);
    }

    /// The worker renamed something: the kernel goes on believing it, under the other name.
    pub fn renaming(&mut self, begun: u64, from: Place<'_>, to: Place<'_>, exchange: bool) -> Vec<Vec<u8>> {
        let (first, second) = (self.take(from), self.take(to));
        let moved = [(to, first), (from, second.filter(|_| exchange))];
        let quiet = self.unchanged(from.0, begun).is_some();
        let lost = moved.into_iter().filter_map(|(place, node)| Some((place, node?)));
        let lost = lost.filter(|(place, node)| !(quiet && self.put(*place, *node, begun)));
        lost.map(|((folder, name), _)| name_changed(folder, name)).collect()
    }

    /// Something changed at home, by another than the worker. What the kernel is told.
    pub fn change(&mut self, change: &Change) -> Vec<Vec<u8>> {
        let folders = self.by_id.get(&change.folder).cloned().unwrap_or_default();
        folders.into_iter().flat_map(|folder| self.change_in(folder, change)).collect()
    }

    fn change_in(&mut self, folder: u64, change: &Change) -> Vec<Vec<u8>> {
        self.changes += 1;
        let Some(Some(found)) = self.folders.get_mut(&folder) else { return Vec::new() };
        found.changed = self.changes;
        let (node, absent) = (found.names.get(&change.name).copied(), found.absent.contains(&change.name));
        let mut notices = Vec::new();
        if change.is_of_name && (node.is_some() || absent) {
            self.take((folder, &change.name));
            notices.push(name_changed(folder, &change.name));
        }
        // The time of its change, and more, are another.
        if change.is_of_name || *change.name == *b"." {
            notices.extend(self.doubt(folder, false));
        }
        notices.extend(node.and_then(|node| self.doubt(node, change.is_of_content)));
        notices
    }

    /// What the kernel is told where it believes what is not so any more.
    fn doubt(&mut self, number: u64, content: bool) -> Option<Vec<u8>> {
        let node = self.nodes.get_mut(&number)?;
        let (bare, had) = (std::mem::take(&mut node.bare), content && std::mem::take(&mut node.content));
        let attributes = std::mem::take(&mut node.attributes) || bare;
        if content && (attributes || had) {
            return Some(content_changed(number));
        }
        attributes.then(|| attributes_changed(number))
    }

    /// Anything may have changed.
    pub fn all_changed(&mut self) -> Vec<Vec<u8>> {
        self.changes += 1;
        self.names = 0;
        let mut notices = Vec::new();
        for (node, folder) in &mut self.folders {
            let Some(folder) = folder else { continue };
            folder.changed = self.changes;
            let names = folder.names.drain().map(|(name, _)| name).chain(folder.absent.drain());
            notices.extend(names.map(|name| name_changed(*node, &name)));
        }
        self.nodes.values_mut().for_each(|node| node.at = None);
        let all: Vec<_> = self.nodes.keys().copied().collect();
        notices.extend(all.into_iter().filter_map(|node| self.doubt(node, !self.folders.contains_key(&node))));
        notices
    }

    /// Nothing is watched any more.
    pub fn give_up(&mut self) -> Vec<Vec<u8>> {
        let notices = self.all_changed();
        self.folders.values_mut().for_each(|folder| *folder = None);
        self.by_id.clear();
        self.room = 0;
        notices
    }

    /// The kernel remembers a file no longer, as often as it was told of it. Whether, where that was a watched folder, no
    /// other is the same.
    pub fn forget(&mut self, node: u64, times: u64) -> Option<bool> {
        let found = self.nodes.get_mut(&node).filter(|_| node != ROOT)?;
        found.told = found.told.saturating_sub(times);
        if found.told > 0 {
            return None;
        }
        let at = self.nodes.remove(&node).and_then(|node| node.at);
        if let Some((folder, name)) = at {
            self.take((folder, &name));
        }
        let folder = self.folders.remove(&node)??;
        self.names -= folder.names.len() + folder.absent.len();
        self.room += 1;
        let left = self.by_id.get_mut(&folder.id).map_or(0, |all| {
            all.retain(|other| *other != node);
            all.len()
        });
        if left == 0 {
            self.by_id.remove(&folder.id);
        }
        Some(left == 0)
    }
}

#[cfg(test)]
#[path = "table_tests.rs"]
mod tests;

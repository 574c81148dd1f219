//! A process and all its descendants, with what they share with the rest of the machine.
//!
//! The search among the rest lists every other process's descriptors. It is made only where the tree holds something
//! that can be shared.

use super::deep::Look;
use super::fds::bracketed;
use super::{ProcError, ProcRoot, Sample, maps};
use grid_types::facts::{FdKind, ProcFacts, ProcStat, SharedWith, TreeFacts};
use std::collections::{BTreeSet, HashMap, HashSet};

/// Parents that only adopt: grid's own reaper of a moved tree, and systemd's user manager. Whether a unit of systemd's
/// would be started again shows in the control group, which the detector reads.
const ADOPTERS: [&str; 3] = ["grid", "grid-tree-init", "systemd"];
/// `O_ACCMODE` and `O_RDWR`: which end of a pipe a descriptor is.
const O_ACCMODE: u32 = 3;
const O_RDWR: u32 = 2;

/// What members hold that an outsider may hold too, with the member that holds it.
#[derive(Default)]
struct Wanted {
    /// `pipe:[1]`, `socket:[2]`, the path of a FIFO: as the link reads.
    links: HashMap<String, i32>,
    memfds: HashMap<u64, i32>,
    shared_maps: HashMap<String, i32>,
}

impl ProcRoot {
    /// The tree under `root` with everything known about each member. `Gone` where the root is gone or the number
    /// belongs to another process by now; members that end meanwhile are left out.
    pub fn tree(&self, sample: &Sample, root: i32) -> Result<TreeFacts, ProcError> {
        let gone = || ProcError::Gone { pid: root };
        let stats = members(sample, root);
        let mut wanted = Wanted::default();
        let mut members = Vec::with_capacity(stats.len());
        for stat in stats {
            match self.look(stat.id.pid) {
                Ok(look) if self.start_ticks(stat.id.pid) == Some(stat.id.start_ticks) => {
                    wanted.add(stat.id.pid, &look);
                    members.push(ProcFacts { stat: stat.clone(), deep: Some(look.deep) });
                }
                Ok(_) | Err(ProcError::Gone { .. }) => {}
                Err(e) => return Err(e),
            }
        }
        if members.first().is_none_or(|m| m.stat.id.pid != root) {
            return Err(gone());
        }
        let root_facts = members.remove(0);
        let inside: HashSet<i32> = std::iter::once(root).chain(members.iter().map(|m| m.stat.id.pid)).collect();
        let mut tree = TreeFacts {
            living_parent: living_parent(sample, &root_facts.stat),
            session_outsiders: session_outsiders(sample, &root_facts.stat, &inside),
            root: root_facts,
            descendants: members,
            shared_with: Vec::new(),
            foreseen: None,
            private_tmp: None,
        };
        if !wanted.is_empty() {
            let silent = self.find_holders(sample, &inside, &wanted, &mut tree.shared_with);
            note_one_ended_pipes(&mut tree, &silent);
        }
        Ok(tree)
    }

    fn start_ticks(&self, pid: i32) -> Option<u64> {
        super::state_and_start(&self.text(&format!("{pid}/stat")).ok()?).map(|(_, start)| start)
    }

    /// Looks for holders among all processes outside; gives those whose descriptors could not be listed.
    fn find_holders(
        &self,
        sample: &Sample,
        inside: &HashSet<i32>,
        wanted: &Wanted,
        found: &mut Vec<SharedWith>,
    ) -> Vec<i32> {
        let mut silent = Vec::new();
        let others = sample.procs.iter().filter(|p| !p.kernel && p.state != 'Z' && !inside.contains(&p.id.pid));
        for other in others.map(|p| p.id.pid) {
            let mut hits = BTreeSet::new();
            if wanted.wants_fds() {
                match self.fd_numbers(other) {
                    Ok(numbers) => self.match_fds(other, &numbers, wanted, &mut hits),
                    Err(ProcError::Gone { .. }) => {}
                    Err(_) => silent.push(other),
                }
            }
            if !wanted.shared_maps.is_empty() {
                // A process whose maps may not be read is another user's; shared memory has to be found, not guessed.
                let text = self.text(&format!("{other}/maps")).unwrap_or_default();
                hits.extend(maps::shared_keys(&text).filter_map(|k| {
                    let member = *wanted.shared_maps.get(&k)?;
                    Some((format!("shm {k}"), member))
                }));
            }
            found.extend(hits.into_iter().map(|(what, inside)| SharedWith { what, inside, outside: other }));
        }
        silent
    }

    fn match_fds(&self, pid: i32, numbers: &[i32], wanted: &Wanted, hits: &mut BTreeSet<(String, i32)>) {
        for fd in numbers {
            let Ok(target) = self.link(&format!("{pid}/fd/{fd}")) else { continue };
            if let Some(member) = wanted.links.get(&target) {
                hits.insert((target, *member));
            } else if target.starts_with("/memfd:") && !wanted.memfds.is_empty() {
                let info = self.text(&format!("{pid}/fdinfo/{fd}")).unwrap_or_default();
                let inode = info.lines().find_map(|l| l.strip_prefix("ino:")?.trim().parse::<u64>().ok());
                if let Some((inode, member)) = inode.and_then(|i| Some((i, wanted.memfds.get(&i)?))) {
                    hits.insert((format!("shm memfd:{inode}"), *member));
                }
            }
        }
    }
}

impl Wanted {
    fn add(&mut self, pid: i32, look: &Look) {
        for fd in &look.deep.fds {
            match &fd.kind {
                FdKind::Pipe { inode } => drop(self.links.insert(format!("pipe:[{inode}]"), pid)),
                FdKind::Fifo { path } => drop(self.links.insert(path.clone(), pid)),
                FdKind::Unix { inode, peer, .. } => {
                    self.links.insert(format!("socket:[{inode}]"), pid);
                    if let Some(peer) = peer.filter(|p| *p != 0) {
                        self.links.entry(format!("socket:[{peer}]")).or_insert(pid);
                    }
                }
                _ => {}
            }
        }
        self.memfds.extend(look.memfds.iter().map(|inode| (*inode, pid)));
        self.shared_maps.extend(look.deep.shared_maps.iter().map(|(key, _)| (key.clone(), pid)));
    }

    fn wants_fds(&self) -> bool {
        !self.links.is_empty() || !self.memfds.is_empty()
    }

    fn is_empty(&self) -> bool {
        !self.wants_fds() && self.shared_maps.is_empty()
    }
}

/// Root and descendants by parent, parents before children.
fn members(sample: &Sample, root: i32) -> Vec<&ProcStat> {
    let mut children: HashMap<i32, Vec<&ProcStat>> = HashMap::new();
    for p in &sample.procs {
        children.entry(p.ppid).or_default().push(p);
    }
    let mut all: Vec<&ProcStat> = sample.get(root).into_iter().collect();
    let mut next = 0;
    while let Some(pid) = all.get(next).map(|p| p.id.pid) {
        all.extend(children.remove(&pid).unwrap_or_default());
        next += 1;
    }
    all
}

fn living_parent(sample: &Sample, root: &ProcStat) -> Option<ProcStat> {
    let parent = sample.get(root.ppid).filter(|p| p.id.pid > 1)?;
    let dead_or_adopter = parent.state == 'Z' || parent.state == 'X' || ADOPTERS.contains(&parent.comm.as_str());
    (!dead_or_adopter).then(|| parent.clone())
}

fn session_outsiders(sample: &Sample, root: &ProcStat, inside: &HashSet<i32>) -> Vec<i32> {
    if root.sid != root.id.pid {
        return Vec::new();
    }
    let others = sample.procs.iter().filter(|p| p.sid == root.sid && !inside.contains(&p.id.pid));
    others.map(|p| p.id.pid).collect()
}

/// A pipe of which the tree holds one end only has another holder or none. Where some process could not be asked, nobody
/// can tell: unknown.
fn note_one_ended_pipes(tree: &mut TreeFacts, silent: &[i32]) {
    let Some(witness) = silent.first() else { return };
    let mut ends: HashMap<u64, (bool, bool)> = HashMap::new();
    for fd in tree.all().filter_map(|m| m.deep.as_ref()).flat_map(|d| &d.fds) {
        if let FdKind::Pipe { inode } = fd.kind {
            let end = ends.entry(inode).or_default();
            match fd.flags.map(|f| f & O_ACCMODE) {
                Some(0) => end.0 = true,
                Some(O_RDWR) => *end = (true, true),
                Some(_) => end.1 = true,
                None => {}
            }
        }
    }
    let known: HashSet<u64> = tree.shared_with.iter().filter_map(|s| bracketed(&s.what, "pipe:[")).collect();
    let mut open: Vec<u64> =
        ends.iter().filter(|(i, e)| **e != (true, true) && !known.contains(i)).map(|(i, _)| *i).collect();
    open.sort_unstable();
    if let Some(deep) = tree.root.deep.as_mut() {
        let note = |i| {
            format!(
                "other end of pipe:[{i}]: descriptors of {} processes cannot be listed, {witness} first",
                silent.len()
            )
        };
        deep.unreadable.extend(open.into_iter().map(note));
    }
}

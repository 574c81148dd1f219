//! Rights of grid's own programs: which capabilities each keeps, and why; giving up the rest; reading what a process
//! holds.
//!
//! Owns the one list of kept capabilities. `doctor`, `docs/privileges.md` and the systemd units are made from it or
//! checked against it. Everything here acts on the calling thread: it is called before there is a second one.
//! Invariant: a right that was given up is never asked for again; the bounding set goes with it, so that no program
//! started later has it either.

use caps::{CapSet, Capability, CapsHashSet};
use std::io;

/// A capability that one of grid's programs keeps, and what would not work without it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kept {
    /// Which.
    pub capability: Capability,
    /// What needs it.
    pub why: &'static str,
    /// Nothing moves without it; else something is lost on the way, or some processes do not move.
    pub needed: bool,
}

const fn kept(capability: Capability, why: &'static str) -> Kept {
    Kept { capability, why, needed: true }
}

const fn helpful(capability: Capability, why: &'static str) -> Kept {
    Kept { capability, why, needed: false }
}

/// What an agent keeps. CRIU has fewer: it runs as the owner of what moves ([`crate::spawn::RESTORE_CAPS`]).
pub const AGENT: [Kept; 12] = [
    kept(Capability::CAP_SYS_ADMIN, "make and join namespaces, mount a tree's /proc"),
    kept(Capability::CAP_SYS_PTRACE, "read the processes that move, and what arrived; handed to CRIU"),
    kept(Capability::CAP_CHECKPOINT_RESTORE, "processes get their numbers back; handed to CRIU"),
    kept(Capability::CAP_SETPCAP, "CRIU trims what a restored process can have; giving up the rest of root's"),
    kept(Capability::CAP_SYS_CHROOT, "join the mount namespace of a tree (setns(2) asks for it)"),
    kept(Capability::CAP_SYS_TIME, "offsets of a tree's time namespace: its monotonic clock goes on"),
    kept(Capability::CAP_SETUID, "CRIU runs as the owner of what moves"),
    kept(Capability::CAP_SETGID, "the same for groups"),
    kept(Capability::CAP_KILL, "end, stop and signal processes of other users"),
    kept(Capability::CAP_CHOWN, "the daemon's socket and a dump's images belong to their users"),
    kept(
        Capability::CAP_DAC_OVERRIDE,
        "list descriptors of other users, tidy up images, hold a tree in its owner's cgroup",
    ),
    helpful(Capability::CAP_SYS_RESOURCE, "dumping as root, where the owner may not start CRIU: reading its limits"),
];

/// What pid 1 of a moved tree keeps once its namespaces are made.
pub const TREE_INIT: [Kept; 1] =
    [kept(Capability::CAP_KILL, "end what is left of a tree whose agent died while it staged")];

/// Keeps these of the capabilities that are held, in every set of this thread, and can never have others again.
///
/// # Errors
/// What the kernel refused; some sets may be smaller already.
pub fn keep_only(list: &[Kept]) -> io::Result<()> {
    let held = caps::read(None, CapSet::Permitted).map_err(io::Error::other)?;
    let keep: CapsHashSet = list.iter().map(|k| k.capability).filter(|c| held.contains(c)).collect();
    bound(&keep)?;
    for set in [CapSet::Ambient, CapSet::Inheritable] {
        caps::clear(None, set).map_err(io::Error::other)?;
    }
    for set in [CapSet::Effective, CapSet::Permitted] {
        caps::set(None, set, &keep).map_err(io::Error::other)?;
    }
    Ok(())
}

/// Holds nothing itself, but the programs that it starts as root have these: a parent that only starts and reaps.
///
/// # Errors
/// What the kernel refused.
pub fn hold_none_hand_on(list: &[Kept]) -> io::Result<()> {
    bound(&list.iter().map(|k| k.capability).collect())?;
    give_up_held()
}

/// Becomes this user and group for good: no other groups, no capability in any set, and no program that is started can
/// have more (`no_new_privs`).
///
/// # Errors
/// What the kernel refused. The process must end then: it may be anything in between.
pub fn become_unprivileged(uid: u32, gid: u32) -> io::Result<()> {
    if uid == 0 || gid == 0 {
        return Err(io::Error::other("root is no unprivileged user"));
    }
    bound(&CapsHashSet::new())?;
    nix::unistd::setgroups(&[])?;
    nix::unistd::setresgid(gid.into(), gid.into(), gid.into())?;
    nix::unistd::setresuid(uid.into(), uid.into(), uid.into())?;
    give_up_held()?;
    nix::sys::prctl::set_no_new_privs()?;
    Ok(())
}

/// Becomes this owner for good, without any capability. Other processes of the owner's do not reach into this one: the
/// kernel keeps them from one that changed its user and ran nothing since.
///
/// # Errors
/// What the kernel refused. The process must end then: it may be anything in between.
pub fn become_owner(uid: u32, gid: u32, groups: &[u32]) -> io::Result<()> {
    if uid == 0 || gid == 0 {
        return Err(io::Error::other("root's files are not served"));
    }
    bound(&CapsHashSet::new())?;
    let groups: Vec<nix::unistd::Gid> = groups.iter().map(|group| (*group).into()).collect();
    nix::unistd::setgroups(&groups)?;
    nix::unistd::setresgid(gid.into(), gid.into(), gid.into())?;
    nix::unistd::setresuid(uid.into(), uid.into(), uid.into())?;
    give_up_held()?;
    nix::sys::prctl::set_no_new_privs()?;
    if nix::sys::prctl::get_dumpable()? {
        nix::sys::prctl::set_dumpable(false)?;
    }
    Ok(())
}

fn bound(keep: &CapsHashSet) -> io::Result<()> {
    let now = caps::read(None, CapSet::Bounding).map_err(io::Error::other)?;
    for capability in now.difference(keep) {
        caps::drop(None, CapSet::Bounding, *capability).map_err(io::Error::other)?;
    }
    Ok(())
}

fn give_up_held() -> io::Result<()> {
    for set in [CapSet::Ambient, CapSet::Inheritable, CapSet::Effective, CapSet::Permitted] {
        caps::clear(None, set).map_err(io::Error::other)?;
    }
    Ok(())
}

/// What a process is allowed, from `/proc/PID/status`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rights {
    /// Effective user.
    pub uid: u32,
    /// Effective group.
    pub gid: u32,
    /// Supplementary groups.
    pub groups: Vec<u32>,
    /// Bits of the permitted set, which holds the effective one.
    pub permitted: u64,
    /// Bits that a program that is started can have at most.
    pub bounding: u64,
    /// Bits of the inheritable and of the ambient set.
    pub handed_on: u64,
    /// It can never gain rights.
    pub no_new_privs: bool,
}

impl Rights {
    /// Of this process.
    ///
    /// # Errors
    /// It is not there, or its status is not understood.
    pub fn of(pid: i32) -> io::Result<Self> {
        let path = format!("/proc/{pid}/status");
        let text = std::fs::read_to_string(&path).map_err(|e| io::Error::new(e.kind(), format!("{path}: {e}")))?;
        Self::parse(&text).ok_or_else(|| io::Error::other(format!("{path} is not understood")))
    }

    fn parse(status: &str) -> Option<Self> {
        let field = |name: &str| status.lines().find_map(|l| l.strip_prefix(name)?.strip_prefix(':')).map(str::trim);
        let set = |name: &str| u64::from_str_radix(field(name)?, 16).ok();
        let effective = |name: &str| field(name)?.split_whitespace().nth(1)?.parse().ok();
        Some(Self {
            uid: effective("Uid")?,
            gid: effective("Gid")?,
            groups: field("Groups")?.split_whitespace().map(|g| g.parse().ok()).collect::<Option<_>>()?,
            permitted: set("CapPrm")? | set("CapEff")?,
            bounding: set("CapBnd")?,
            handed_on: set("CapInh")? | set("CapAmb")?,
            no_new_privs: field("NoNewPrivs")? == "1",
        })
    }

    /// Not root, no capability in any set, none to be had.
    pub fn are_none(&self) -> bool {
        self.uid != 0 && (self.permitted | self.bounding | self.handed_on) == 0 && self.no_new_privs
    }
}

/// Names of the capabilities in a set, in the order of their numbers; what has no name here is shown by number.
pub fn names(set: u64) -> Vec<String> {
    let known: std::collections::HashMap<u8, Capability> = caps::all().into_iter().map(|c| (c.index(), c)).collect();
    let name = |bit: u8| known.get(&bit).map_or_else(|| format!("CAP_{bit}"), ToString::to_string);
    (0..64).filter(|bit| set & (1 << bit) != 0).map(name).collect()
}

/// Every capability that this kernel knows.
pub fn all_capabilities() -> u64 {
    let last = std::fs::read_to_string("/proc/sys/kernel/cap_last_cap").ok().and_then(|t| t.trim().parse::<u32>().ok());
    u64::MAX >> 63u32.saturating_sub(last.unwrap_or(40))
}

/// The set of a list.
pub fn set_of(list: &[Kept]) -> u64 {
    list.iter().fold(0, |set, k| set | k.capability.bitmask())
}

#[cfg(test)]
mod tests {
    use super::*;

    const STATUS: &str = "Name:\tgrid\nUid:\t61200\t61200\t61200\t61200\nGid:\t7\t7\t7\t7\nGroups:\t4 27 \n\
        CapInh:\t0000000000000000\nCapPrm:\t0000000000000020\nCapEff:\t0000000000000000\nCapBnd:\t0000000000200000\n\
        CapAmb:\t0000000000000000\nNoNewPrivs:\t1\n";

    #[test]
    fn rights_are_read_from_a_status() {
        let rights = Rights::parse(STATUS).unwrap();
        assert_eq!((rights.uid, rights.gid, &rights.groups[..]), (61200, 7, &[4, 27][..]));
        assert_eq!(names(rights.permitted), ["CAP_KILL"]);
        assert_eq!(names(rights.bounding), ["CAP_SYS_ADMIN"]);
        assert!(rights.no_new_privs && !rights.are_none());
        assert_eq!(Rights::parse("Name:\tx\n"), None);
    }

    #[test]
    fn only_without_any_right_is_it_none() {
        let none = Rights { uid: 7, no_new_privs: true, ..Rights::default() };
        assert!(none.are_none());
        assert!(!Rights { uid: 0, ..none.clone() }.are_none());
        assert!(!Rights { bounding: 1, ..none.clone() }.are_none());
        assert!(!Rights { handed_on: 1, ..none.clone() }.are_none());
        assert!(!Rights { no_new_privs: false, ..none }.are_none());
    }

    #[test]
    fn a_list_names_each_capability_once() {
        assert_eq!(set_of(&AGENT).count_ones() as usize, AGENT.len());
        assert_eq!(names(set_of(&TREE_INIT)), ["CAP_KILL"]);
    }

    /// Rights are a thread's own: what this one gives up, the others keep.
    #[test]
    fn what_is_given_up_is_gone_from_every_set() {
        let held = caps::read(None, CapSet::Permitted).unwrap();
        if !held.contains(&Capability::CAP_SETPCAP) {
            println!("SKIPPED: giving up a bounding set takes CAP_SETPCAP");
            return;
        }
        let of_thread = || Rights::parse(&std::fs::read_to_string("/proc/thread-self/status").unwrap()).unwrap();
        let kept = std::thread::spawn(move || {
            keep_only(&AGENT).unwrap();
            of_thread()
        });
        let (kept, wanted) = (kept.join().unwrap(), set_of(&AGENT));
        assert_eq!((kept.bounding & !wanted, kept.permitted & !wanted, kept.handed_on), (0, 0, 0));
        let none = std::thread::spawn(move || {
            hold_none_hand_on(&AGENT).unwrap();
            of_thread()
        });
        let none = none.join().unwrap();
        assert_eq!((none.permitted, none.bounding & !wanted), (0, 0));
        assert_ne!(none.bounding, 0);
    }

    #[test]
    fn root_is_refused_as_an_unprivileged_user() {
        assert!(become_unprivileged(0, 7).is_err() && become_unprivileged(7, 0).is_err());
    }
}

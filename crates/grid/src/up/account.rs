//! As whom the head's daemon runs, and that its files are its own.
//!
//! Owns the choice of the account and the hand-over of `STATE/head`. Never makes a user. Invariant: never root, never
//! an account that somebody else uses.

use super::{UpError, failed};
use grid_os::rights::Rights;
use grid_os::users::{self, User};
use grid_types::exit::FaultClass;
use nix::fcntl::OFlag;
use nix::sys::stat::Mode;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::os::unix::fs::{MetadataExt, PermissionsExt, fchown};
use std::path::Path;

/// The user whom packages make for the daemon.
const SYSTEM_USER: &str = "grid";
/// Numbers that systemd hands to services that have no user of their own (`DynamicUser=`): no person has one.
const NOBODYS: std::ops::RangeInclusive<u32> = 61184..=65519;

/// A user and its group.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Account {
    /// User.
    pub uid: u32,
    /// Group.
    pub gid: u32,
}

impl std::str::FromStr for Account {
    type Err = String;
    /// `UID:GID`.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (uid, gid) = text.split_once(':').ok_or("expected UID:GID")?;
        let number = |t: &str| t.parse::<u32>().map_err(|e| format!("{t}: {e}"));
        Ok(Self { uid: number(uid)?, gid: number(gid)? })
    }
}

impl std::fmt::Display for Account {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{}", self.uid, self.gid)
    }
}

impl Account {
    /// A number that nobody uses, for a program whose folder this is: made here where it is not yet, and its own.
    pub(crate) fn unprivileged(folder: &Path) -> Result<Self, UpError> {
        let account = choose(None, super::plan::tag(folder), folder)?;
        hand_over(folder, account)?;
        Ok(account)
    }
}

/// The account that was named; else the system user `grid`; else a number that nobody uses, the same each time while
/// it stays free.
pub(super) fn choose(named: Option<&str>, tag: u16, head_dir: &Path) -> Result<Account, UpError> {
    let of = |user: User| Account { uid: user.uid, gid: user.gid };
    match named {
        Some(name) => {
            let known = match name.parse::<u32>() {
                Ok(uid) => Some(users::user_of(uid).ok().flatten().map_or(Account { uid, gid: uid }, of)),
                Err(_) => users::user_named(name).ok().flatten().map(of),
            };
            let account = known.ok_or_else(|| {
                UpError::new(FaultClass::Environment, format!("there is no user {name:?} for the daemon to run as"))
                    .hint(format!("useradd --system --shell /usr/sbin/nologin {name}, or leave out --daemon-user"))
            })?;
            if account.uid == 0 || account.gid == 0 {
                let what = format!("{name:?} has root's user or group number: the daemon runs without root");
                return Err(UpError::new(FaultClass::Usage, what).hint("leave out --daemon-user"));
            }
            Ok(account)
        }
        None => match users::user_named(SYSTEM_USER).ok().flatten() {
            Some(user) if user.uid != 0 && user.gid != 0 => Ok(of(user)),
            _ => unused(tag, head_dir),
        },
    }
}

fn unused(tag: u16, head_dir: &Path) -> Result<Account, UpError> {
    let running = running_uids();
    let free = |uid: &u32| {
        let known = users::user_of(*uid).map_or(true, |user| user.is_some())
            || users::group_of(*uid).map_or(true, |group| group.is_some());
        !known && !running.contains(uid)
    };
    // Whose the directory is already comes first: its files need no new owner then.
    let before = std::fs::symlink_metadata(head_dir).ok().map(|m| m.uid()).filter(|uid| NOBODYS.contains(uid));
    let found = before.into_iter().chain(candidates(tag)).find(free);
    found.map(|uid| Account { uid, gid: uid }).ok_or_else(|| {
        UpError::new(FaultClass::Environment, "no user number is free for the daemon")
            .hint("useradd --system --shell /usr/sbin/nologin grid")
    })
}

/// Every number of nobody's, from one that the cluster's tag gives.
fn candidates(tag: u16) -> impl Iterator<Item = u32> {
    let (first, count) = (*NOBODYS.start(), NOBODYS.end() - NOBODYS.start() + 1);
    (0..count).map(move |i| first + (u32::from(tag) + i) % count)
}

fn running_uids() -> BTreeSet<u32> {
    let entries = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = entries.filter_map(|e| e.file_name().to_str()?.parse::<i32>().ok());
    pids.filter_map(|pid| Rights::of(pid).ok()).map(|r| r.uid).collect()
}

/// Makes the daemon's directory and everything in it the account's own: also what a daemon that ran as root, or as
/// another account, left there. A file of anybody else's, or that has a second name elsewhere, is refused: giving it
/// away could give away more than a journal.
pub(super) fn hand_over(dir: &Path, account: Account) -> Result<(), UpError> {
    let what = dir.display().to_string();
    let files = can_hand_over(dir, account)?;
    if !dir.exists() {
        std::fs::create_dir(dir).map_err(failed(&what))?;
    }
    for (name, file) in files {
        fchown(&file, Some(account.uid), Some(account.gid)).map_err(failed(&name))?;
    }
    std::fs::set_permissions(dir, std::fs::Permissions::from_mode(0o700)).map_err(failed(&what))?;
    std::os::unix::fs::lchown(dir, Some(account.uid), Some(account.gid)).map_err(failed(&what))
}

/// The files that would be the account's, or why they may not. Changes nothing.
pub(super) fn can_hand_over(dir: &Path, account: Account) -> Result<Vec<(String, std::fs::File)>, UpError> {
    let what = dir.display().to_string();
    let before = match std::fs::symlink_metadata(dir) {
        Ok(found) if found.is_dir() => found.uid(),
        Ok(_) => {
            return Err(UpError::new(FaultClass::State, format!("{what} is not a directory; nothing was changed")));
        }
        Err(_) => return Ok(Vec::new()),
    };
    let mut files = Vec::new();
    for entry in std::fs::read_dir(dir).map_err(failed(&what))? {
        let path = entry.map_err(failed(&what))?.path();
        let name = path.display().to_string();
        let flags = OFlag::O_RDONLY | OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC;
        let file = nix::fcntl::open(&path, flags, Mode::empty()).map(std::fs::File::from);
        let file = file.map_err(|e| not_ours(&name, &format!("it cannot be opened ({})", e.desc())))?;
        let meta = file.metadata().map_err(failed(&name))?;
        let known = [0, before, account.uid].contains(&meta.uid());
        match meta.is_file() && meta.nlink() == 1 {
            true if known => files.push((name, file)),
            true => return Err(not_ours(&name, &format!("it belongs to uid {}", meta.uid()))),
            false => return Err(not_ours(&name, "it is no plain file with one name")),
        }
    }
    Ok(files)
}

fn not_ours(name: &str, why: &str) -> UpError {
    UpError::new(FaultClass::State, format!("{name}: {why}; nothing was started, nothing in there was changed"))
        .hint("move it aside if it is not grid's; else chown it to root, and grid up takes it over")
}

/// Number of a group, by name or number; none where there is no such group.
pub(super) fn group(name: &str) -> Option<u32> {
    name.parse().ok().or_else(|| users::group_named(name).ok().flatten())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cluster_gets_the_same_free_number_again_and_another_cluster_another() {
        let dir = Path::new("/nonexistent");
        let (a, b) = (unused(7, dir).unwrap(), unused(8, dir).unwrap());
        assert_eq!(a, unused(7, dir).unwrap());
        assert!(a != b && NOBODYS.contains(&a.uid) && a.gid == a.uid);
        assert_eq!(candidates(65535).collect::<BTreeSet<_>>(), NOBODYS.collect());
    }

    #[test]
    fn root_and_nobody_known_are_refused_by_name() {
        let dir = Path::new("/nonexistent");
        for name in ["root", "0"] {
            assert_eq!(choose(Some(name), 1, dir).unwrap_err().class, FaultClass::Usage);
        }
        let error = choose(Some("no-such-user-here"), 1, dir).unwrap_err();
        assert!(error.message.contains("no-such-user-here") && error.hint.is_some());
        assert_eq!(choose(Some("61999"), 1, dir).unwrap(), Account { uid: 61999, gid: 61999 });
        assert_eq!("7:8".parse(), Ok(Account { uid: 7, gid: 8 }));
        assert!("7".parse::<Account>().is_err());
    }

    #[test]
    fn what_root_left_is_taken_over_and_what_is_anothers_is_not() {
        if !nix::unistd::geteuid().is_root() {
            println!("SKIPPED: giving files away takes root");
            return;
        }
        let place = tempfile::tempdir().unwrap();
        let (dir, account) = (place.path().join("head"), Account { uid: 61999, gid: 61998 });
        let owner = |path: &Path| std::fs::symlink_metadata(path).map(|m| (m.uid(), m.gid())).unwrap();
        std::fs::create_dir(&dir).unwrap();
        let journal = dir.join("journal.db");
        std::fs::write(&journal, "x").unwrap();
        hand_over(&dir, account).unwrap();
        assert_eq!((owner(&dir), owner(&journal)), ((61999, 61998), (61999, 61998)));
        // Another account later: what the one before owned goes along.
        let next = Account { uid: 62000, gid: 62000 };
        hand_over(&dir, next).unwrap();
        assert_eq!(owner(&journal), (62000, 62000));

        std::os::unix::fs::lchown(&journal, Some(1), Some(1)).unwrap();
        let error = hand_over(&dir, next).unwrap_err();
        assert!(error.message.contains("uid 1") && error.hint.is_some(), "{error:?}");
        assert_eq!(owner(&journal), (1, 1));
        std::os::unix::fs::lchown(&journal, Some(0), Some(0)).unwrap();

        let precious = place.path().join("precious");
        std::fs::write(&precious, "x").unwrap();
        std::fs::hard_link(&precious, dir.join("second-name")).unwrap();
        assert!(hand_over(&dir, next).is_err());
        std::fs::remove_file(dir.join("second-name")).unwrap();
        std::os::unix::fs::symlink(&precious, dir.join("link")).unwrap();
        assert!(hand_over(&dir, next).is_err());
        assert_eq!((owner(&precious), owner(&journal)), ((0, 0), (0, 0)));
    }
}

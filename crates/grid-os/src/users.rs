//! Users and groups as this machine knows them: `/etc/passwd` and `/etc/group` first, then getent(1), which asks whatever
//! else the machine was told to ask (LDAP, SSSD, systemd). The C library is not asked itself: a grid that is linked
//! statically cannot ask it safely ([`crate::getent`]).

use crate::getent::getent;
use std::collections::HashMap;
use std::io;
use std::sync::Mutex;
use std::time::{Duration, Instant};

const PASSWD: &str = "/etc/passwd";
const GROUP: &str = "/etc/group";
/// So long an answer of getent's counts: a scan asks about every user of a process each time.
const COUNTS: Duration = Duration::from_secs(60);

/// A line of passwd(5).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct User {
    /// Login name.
    pub name: String,
    /// Number.
    pub uid: u32,
    /// Primary group.
    pub gid: u32,
}

/// Whoever has this number; none where nobody does.
///
/// # Errors
/// Neither the file nor getent could be read.
pub fn user_of(uid: u32) -> io::Result<Option<User>> {
    user(&uid.to_string(), |user| user.uid == uid)
}

/// Whoever has this login name; none where nobody does.
///
/// # Errors
/// As for [`user_of`].
pub fn user_named(name: &str) -> io::Result<Option<User>> {
    user(name, |user| user.name == name)
}

/// Login name of this number, where it is known.
pub fn name_of(uid: u32) -> Option<String> {
    user_of(uid).ok().flatten().map(|user| user.name)
}

/// Number of the group of this name; none where there is no such group.
///
/// # Errors
/// As for [`user_of`].
pub fn group_named(name: &str) -> io::Result<Option<u32>> {
    let found = entry(GROUP, "group", name, |line| group(line).is_some_and(|group| group.name == name))?;
    Ok(found.and_then(|line| group(&line).map(|group| group.gid)))
}

/// Name of the group of this number; none where there is no such group.
///
/// # Errors
/// As for [`user_of`].
pub fn group_of(gid: u32) -> io::Result<Option<String>> {
    let found = entry(GROUP, "group", &gid.to_string(), |line| group(line).is_some_and(|group| group.gid == gid))?;
    Ok(found.and_then(|line| group(&line).map(|group| group.name.to_owned())))
}

/// Every group that this user is in, the primary one too.
///
/// # Errors
/// `/etc/group` could not be read.
pub fn groups_of(user: &User) -> io::Result<Vec<u32>> {
    let text = std::fs::read_to_string(GROUP)?;
    let mut groups: Vec<u32> = groups_in(&text, &user.name);
    // `alice                 1000 27 100`; musl's getent has no such data base, and then the file is all there is.
    if let Ok(Some(line)) = asked("initgroups", &user.name) {
        groups.extend(line.split_whitespace().skip(1).filter_map(|gid| gid.parse::<u32>().ok()));
    }
    groups.push(user.gid);
    groups.sort_unstable();
    groups.dedup();
    Ok(groups)
}

struct Group<'a> {
    name: &'a str,
    gid: u32,
    members: &'a str,
}

/// `name:password:uid:gid:comment:home:shell`.
fn passwd(line: &str) -> Option<User> {
    let mut fields = line.split(':');
    let (name, uid, gid) = (fields.next()?, fields.nth(1)?, fields.next()?);
    Some(User { name: name.to_owned(), uid: uid.parse().ok()?, gid: gid.parse().ok()? })
}

/// `name:password:gid:member,member`.
fn group(line: &str) -> Option<Group<'_>> {
    let mut fields = line.split(':');
    let (name, gid, members) = (fields.next()?, fields.nth(1)?, fields.next()?);
    Some(Group { name, gid: gid.parse().ok()?, members })
}

fn groups_in(text: &str, name: &str) -> Vec<u32> {
    let has = |group: &Group<'_>| group.members.split(',').any(|member| member == name);
    text.lines().filter_map(group).filter(has).map(|group| group.gid).collect()
}

fn user(key: &str, is: impl Fn(&User) -> bool) -> io::Result<Option<User>> {
    let found = entry(PASSWD, "passwd", key, |line| passwd(line).is_some_and(|user| is(&user)))?;
    Ok(found.and_then(|line| passwd(&line)))
}

/// The first line that it is, of the file or else of getent.
fn entry(file: &str, database: &str, key: &str, is: impl Fn(&str) -> bool) -> io::Result<Option<String>> {
    let of_file = std::fs::read_to_string(file);
    if let Some(line) = of_file.as_ref().ok().and_then(|text| text.lines().find(|line| is(line))) {
        return Ok(Some(line.to_owned()));
    }
    match asked(database, key) {
        // It takes a number for a name and a name for a number.
        Ok(line) => Ok(line.filter(|line| is(line))),
        Err(e) if e.kind() == io::ErrorKind::NotFound => of_file.map(|_| None),
        Err(e) => Err(e),
    }
}

/// What getent answers, as of a short time ago. `NotFound` where there is no getent.
fn asked(database: &str, key: &str) -> io::Result<Option<String>> {
    type Answers = HashMap<(String, String), (Instant, Option<String>)>;
    static ANSWERS: Mutex<Option<Answers>> = Mutex::new(None);
    let question = (database.to_owned(), key.to_owned());
    let mut answers = ANSWERS.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let answers = answers.get_or_insert_default();
    answers.retain(|_, (at, _)| at.elapsed() < COUNTS);
    if let Some((_, answer)) = answers.get(&question) {
        return Ok(answer.clone());
    }
    let answer = getent(database, key)?.and_then(|lines| lines.into_iter().next());
    answers.insert(question, (Instant::now(), answer.clone()));
    Ok(answer)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_read_and_what_is_no_line_is_nobody() {
        let alice = User { name: "alice".into(), uid: 1000, gid: 100 };
        assert_eq!(passwd("alice:x:1000:100:Alice:/home/alice:/bin/sh"), Some(alice));
        for none in ["", "alice", "alice:x:one:100:::", "+::::::", "alice:x:1000"] {
            assert_eq!(passwd(none), None, "{none}");
        }
        let text = "root:x:0:\nvideo:x:44:alice,bob\naudio:x:29:alicen\nbad:x:y:alice\nrender:x:105:alice\n";
        assert_eq!(groups_in(text, "alice"), [44, 105]);
        assert_eq!(groups_in(text, ""), [0]);
    }

    #[test]
    fn root_and_nobody_are_known_and_a_free_number_is_not() {
        let root = User { name: "root".into(), uid: 0, gid: 0 };
        assert_eq!(user_of(0).unwrap(), Some(root.clone()));
        assert_eq!(user_named("root").unwrap(), Some(root.clone()));
        assert!(groups_of(&root).unwrap().contains(&0));
        assert_eq!(name_of(0).unwrap(), "root");
        assert_eq!(group_named("root").unwrap(), Some(0));
        assert_eq!(group_of(0).unwrap().as_deref(), Some("root"));
        assert_eq!(user_of(3_999_999_999).unwrap(), None);
        assert_eq!(group_of(3_999_999_999).unwrap(), None);
    }

    /// Getent would answer for a number as for a name.
    #[test]
    fn a_name_that_looks_like_something_else_is_nobodys() {
        for name in ["0", "-s", "--help", "", "root:x", "no such user"] {
            assert_eq!(user_named(name).unwrap(), None, "{name}");
            assert_eq!(group_named(name).unwrap(), None, "{name}");
        }
    }

    #[test]
    fn getent_answers_as_the_file_does() {
        let line = asked("passwd", "root").unwrap().unwrap();
        assert_eq!(passwd(&line), user_of(0).unwrap());
        assert_eq!(asked("passwd", "no-such-user").unwrap(), None);
    }
}

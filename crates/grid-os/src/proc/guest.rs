//! A staged process, read from outside for the lender's gate. Nothing is left out in silence: what cannot be read is an
//! error, and an error refuses.

use super::{ProcError, ProcRoot, sockets};
use grid_types::gate::{Guest, Mount, OpenFile, Rights};
use rustix::fs::{AtFlags, CWD, FileType, StatxFlags, statx};
use std::collections::{BTreeMap, BTreeSet};

/// Sets of capabilities in `status`.
const SETS: [&str; 4] = ["CapInh", "CapPrm", "CapEff", "CapAmb"];

impl ProcRoot {
    /// Everything of one process that the gate looks at.
    pub fn guest(&self, pid: i32) -> Result<Guest, ProcError> {
        let parse = |file: &str, what| ProcError::Parse { path: self.path(&format!("{pid}/{file}")), what };
        let stat = self.text(&format!("{pid}/stat"))?;
        let (nice, policy) = nice_and_policy(&stat).ok_or_else(|| parse("stat", "its fields"))?;
        let open = self.open_files(pid)?;
        let socket = |file: &OpenFile| file.target.strip_prefix("socket:[")?.strip_suffix(']')?.parse().ok();
        let inodes = open.iter().filter_map(socket).collect();
        let adj = self.text(&format!("{pid}/oom_score_adj"))?;
        Ok(Guest {
            pid,
            comm: self.text(&format!("{pid}/comm"))?.trim().to_owned(),
            threads: self.threads(pid)?,
            namespaces: self.namespace_links(pid)?,
            cgroups: self.cgroup_lines(pid)?,
            exe: self.link(&format!("{pid}/exe"))?,
            root: self.link(&format!("{pid}/root"))?,
            connections: sockets::connections(self, pid, &inodes)?,
            open,
            limits: limits(&self.text(&format!("{pid}/limits"))?),
            oom_score_adj: adj.trim().parse().map_err(|_| parse("oom_score_adj", "a number"))?,
            nice,
            policy,
        })
    }

    fn threads(&self, pid: i32) -> Result<Vec<Rights>, ProcError> {
        let tids = self.names(&format!("{pid}/task"))?;
        let read = |tid: &String| {
            let file = format!("{pid}/task/{tid}/status");
            let unclear = ProcError::Parse { path: self.path(&file), what: "its fields" };
            rights(&self.text(&file)?).ok_or(unclear)
        };
        tids.iter().map(read).collect()
    }

    /// Namespaces by name, as links: `pid` → `pid:[4026531836]`.
    pub fn namespace_links(&self, pid: i32) -> Result<BTreeMap<String, String>, ProcError> {
        let names = self.names(&format!("{pid}/ns"))?;
        names.into_iter().map(|name| Ok((name.clone(), self.link(&format!("{pid}/ns/{name}"))?))).collect()
    }

    /// Lines of `cgroup` without the hierarchies' numbers: `cpu,cpuacct:/path`.
    pub fn cgroup_lines(&self, pid: i32) -> Result<Vec<String>, ProcError> {
        let text = self.text(&format!("{pid}/cgroup"))?;
        Ok(text.lines().filter_map(|line| Some(line.split_once(':')?.1.to_owned())).collect())
    }

    /// The mounts that a process sees.
    pub fn mount_table(&self, pid: i32) -> Result<Vec<Mount>, ProcError> {
        let file = format!("{pid}/mountinfo");
        let unclear = || ProcError::Parse { path: self.path(&file), what: "its fields" };
        self.text(&file)?.lines().map(|line| mount(line).ok_or_else(unclear)).collect()
    }

    /// Hard limits of a process by name; `None` = without.
    pub fn hard_limits(&self, pid: i32) -> Result<BTreeMap<String, Option<u64>>, ProcError> {
        Ok(limits(&self.text(&format!("{pid}/limits"))?))
    }

    fn open_files(&self, pid: i32) -> Result<Vec<OpenFile>, ProcError> {
        let mut open = vec![
            self.one_open("the working directory".into(), &format!("{pid}/cwd"), None)?,
            self.one_open("its executable".into(), &format!("{pid}/exe"), None)?,
        ];
        for fd in self.fd_numbers(pid)? {
            let info = self.text(&format!("{pid}/fdinfo/{fd}"))?;
            let mount = info.lines().find_map(|l| l.strip_prefix("mnt_id:")?.trim().parse().ok());
            let mut file = self.one_open(format!("fd {fd}"), &format!("{pid}/fd/{fd}"), mount)?;
            // Pipes, sockets and anonymous inodes live on mounts of the kernel's own.
            let octal = info.lines().find_map(|l| l.strip_prefix("flags:"));
            file.flags = octal.and_then(|f| u32::from_str_radix(f.trim(), 8).ok()).unwrap_or(0);
            file.mount = file.mount.filter(|_| has_a_place(&file.target));
            open.push(file);
        }
        let maps = self.text(&format!("{pid}/maps"))?;
        let mapped: BTreeSet<&str> =
            maps.lines().filter_map(|line| line.splitn(6, ' ').nth(5)).map(str::trim).collect();
        let files = mapped.into_iter().filter(|path| !path.is_empty() && !path.starts_with('['));
        open.extend(files.map(|path| OpenFile {
            what: "a mapping".into(),
            target: path.to_owned(),
            mount: None,
            flags: 0,
            device: device_by_name(path),
        }));
        Ok(open)
    }

    fn one_open(&self, what: String, link: &str, mount: Option<i32>) -> Result<OpenFile, ProcError> {
        let target = self.link(link)?;
        let device = if self.live && has_a_place(&target) { device(&self.path(link)) } else { None };
        Ok(OpenFile { what, target, mount, flags: 0, device })
    }

    fn names(&self, relative: &str) -> Result<Vec<String>, ProcError> {
        let path = self.path(relative);
        let list = |source| ProcError::List { path: path.clone(), source };
        let mut names = Vec::new();
        for entry in std::fs::read_dir(&path).map_err(list)? {
            names.push(entry.map_err(list)?.file_name().to_string_lossy().into_owned());
        }
        Ok(names)
    }
}

fn has_a_place(target: &str) -> bool {
    target.starts_with('/') && !target.starts_with("/memfd:")
}

/// What the link leads to, where that is a device; it is not opened.
fn device(link: &std::path::Path) -> Option<(u32, u32)> {
    let stat = statx(CWD, link, AtFlags::STATX_DONT_SYNC, StatxFlags::TYPE).ok()?;
    match FileType::from_raw_mode(u32::from(stat.stx_mode)) {
        FileType::CharacterDevice | FileType::BlockDevice => Some((stat.stx_rdev_major, stat.stx_rdev_minor)),
        _ => None,
    }
}

/// A mapping of a device has no link that says its number here; one below `/dev` that is no memory counts as one.
fn device_by_name(path: &str) -> Option<(u32, u32)> {
    let plain = ["/dev/shm/", "/dev/mqueue/", "/dev/zero"].iter().any(|known| path.starts_with(known));
    (path.starts_with("/dev/") && !plain).then_some((0, 0))
}

fn rights(status: &str) -> Option<Rights> {
    let field = |name: &str| status.lines().find_map(|l| l.strip_prefix(name)?.strip_prefix(':')).map(str::trim);
    let numbers =
        |name: &str| -> Option<Vec<u32>> { field(name)?.split_whitespace().map(|n| n.parse().ok()).collect() };
    let inner = |name: &str| -> Option<i32> { field(name)?.split_whitespace().last()?.parse().ok() };
    let set = |name: &str| Some((name.to_owned(), u64::from_str_radix(field(name)?, 16).ok()?));
    Some(Rights {
        tid: field("Pid")?.parse().ok()?,
        uids: numbers("Uid")?,
        gids: numbers("Gid")?,
        groups: numbers("Groups")?,
        capabilities: SETS.iter().map(|name| set(name)).collect::<Option<_>>()?,
        tracer: field("TracerPid")?.parse().ok()?,
        filters: crate::seccomp::count(status),
        session: inner("NSsid")?,
        group: inner("NSpgid")?,
    })
}

/// Fields 19 and 41 of `stat`, counted behind the name.
fn nice_and_policy(stat: &str) -> Option<(i32, u32)> {
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_ascii_whitespace().collect();
    Some((fields.get(16)?.parse().ok()?, fields.get(38)?.parse().ok()?))
}

/// `Max open files   1024   524288   files`: the name is in the first 26 columns, the hard limit is the second number.
fn limits(text: &str) -> BTreeMap<String, Option<u64>> {
    let line = |line: &str| {
        let (name, rest) = line.split_at_checked(26)?;
        let hard = rest.split_whitespace().nth(1)?;
        let hard = if hard == "unlimited" { None } else { Some(hard.parse().ok()?) };
        Some((name.trim().to_owned(), hard))
    };
    text.lines().skip(1).filter_map(line).collect()
}

/// `36 35 98:0 /root /point rw,nosuid shared:1 - ext4 /dev/x rw`.
fn mount(line: &str) -> Option<Mount> {
    let (own, super_block) = line.split_once(" - ")?;
    let fields: Vec<&str> = own.split(' ').collect();
    Some(Mount {
        id: fields.first()?.parse().ok()?,
        point: (*fields.get(4)?).to_owned(),
        options: (*fields.get(5)?).to_owned(),
        fstype: super_block.split(' ').next()?.to_owned(),
        line: line.to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_texts_are_read() {
        let status = "Pid:\t9\nTracerPid:\t0\nUid:\t1\t2\t3\t4\nGid:\t5\t5\t5\t5\nGroups:\t5 7 \nNSpgid:\t40\t1\nNSsid:\t0\t0\n\
            CapInh:\t0\nCapPrm:\t0\nCapEff:\t00000000a80425fb\nCapAmb:\t0\n";
        let read = rights(status).unwrap();
        assert_eq!((read.tid, read.uids, read.groups), (9, vec![1, 2, 3, 4], vec![5, 7]));
        assert_eq!((read.capabilities["CapEff"], read.session, read.group), (0xa804_25fb, 0, 1));
        assert_eq!(rights("Pid:\t9\n"), None, "half a file is not understood");
        let text = "Limit                     Soft Limit           Hard Limit           Units     \n\
            Max open files            1024                 524288               files     \n\
            Max cpu time              unlimited            unlimited            seconds   \n";
        let read = limits(text);
        assert_eq!((read["Max open files"], read["Max cpu time"]), (Some(524_288), None));
        let read = mount("36 35 98:0 / /mnt rw,nosuid shared:1 master:2 - ext4 /dev/x rw").unwrap();
        assert_eq!(
            (read.id, read.point.as_str(), read.options.as_str(), read.fstype.as_str()),
            (36, "/mnt", "rw,nosuid", "ext4")
        );
    }

    #[test]
    fn a_process_is_read_as_it_is() {
        use std::io::{Read, Write};
        use std::process::{Command, Stdio};
        let mut child = Command::new("cat").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        // It has become the program once it answers.
        child.stdin.as_ref().unwrap().write_all(b"x").unwrap();
        child.stdout.as_mut().unwrap().read_exact(&mut [0]).unwrap();
        let read = ProcRoot::new("/proc").guest(child.id() as i32).unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
        assert_eq!((read.nice, read.policy, read.root.as_str(), read.threads.len()), (0, 0, "/", 1));
        assert!(read.threads[0].uids.len() == 4 && !read.limits.is_empty());
        assert!(read.open.iter().any(|f| f.what == "a mapping" && f.target.starts_with('/')), "{:?}", read.open);
        assert!(read.open.iter().any(|f| f.what == "fd 0" && f.target.starts_with("pipe:[")), "{:?}", read.open);
        assert_eq!(device(std::path::Path::new("/dev/null")), Some((1, 3)));
    }
}

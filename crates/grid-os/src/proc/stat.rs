//! The cheap pass: `/proc/PID/stat` of every process and the owner of its directory, nothing else.
//!
//! Three system calls to read a process and one for its owner; the buffers are reused. CPU is the difference to an
//! earlier sample of the same process, never an average over its life.

use super::{ProcError, ProcRoot};
use grid_types::facts::ProcStat;
use grid_types::ids::ProcId;
use grid_types::units::{BootMs, Bytes, MilliCpu, Millis};
use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, openat};
use nix::sys::stat::{Mode, fstatat};
use nix::unistd::{SysconfVar, read, sysconf};
use std::fmt::Write as _;
use std::os::fd::OwnedFd;
use std::path::PathBuf;

/// `PF_KTHREAD` of `include/linux/sched.h`.
const PF_KTHREAD: u64 = 0x0020_0000;
/// Closer together than this, the kernel's 10 ms ticks say too little: the earlier figure is kept.
const MIN_SPAN_NS: u64 = 100_000_000;

/// All processes at one moment, by pid.
#[derive(Clone, Debug)]
pub struct Sample {
    /// When, on CLOCK_BOOTTIME.
    pub at: BootMs,
    /// The processes, ascending by pid.
    pub procs: Vec<ProcStat>,
    /// Processes that are there and may not be read (`hidepid`).
    pub hidden: u32,
    at_ns: u64,
}

impl Sample {
    /// The process of this number.
    pub fn get(&self, pid: i32) -> Option<&ProcStat> {
        self.procs.binary_search_by_key(&pid, |p| p.id.pid).ok().map(|i| &self.procs[i])
    }
}

/// Ticks per second and bytes per page; constants of the running kernel.
#[derive(Clone, Copy)]
struct Scale {
    ms_per_tick: u64,
    page: u64,
}

impl Scale {
    fn of_kernel() -> Self {
        let ask = |var, default| {
            sysconf(var).ok().flatten().and_then(|n| u64::try_from(n).ok()).filter(|n| *n > 0).unwrap_or(default)
        };
        Self { ms_per_tick: (1000 / ask(SysconfVar::CLK_TCK, 100)).max(1), page: ask(SysconfVar::PAGE_SIZE, 4096) }
    }
}

/// Milliseconds after boot of a start time in ticks.
pub fn ticks_ms(ticks: u64) -> u64 {
    ticks.saturating_mul(Scale::of_kernel().ms_per_tick)
}

/// What one pass needs to know for each process.
struct Pass<'a> {
    prev: Option<&'a Sample>,
    boot_id: &'a str,
    now_ns: u64,
    scale: Scale,
}

impl ProcRoot {
    /// One cheap look at every process. `prev` gives the CPU figures their other end. Processes that end meanwhile are
    /// left out; a listing that fails is an error.
    pub fn all_stats(&self, prev: Option<&Sample>) -> Result<Sample, ProcError> {
        let pass = Pass { prev, boot_id: self.boot_id()?, now_ns: self.now_ns()?, scale: Scale::of_kernel() };
        let list = |e: Errno| ProcError::List { path: self.proc.clone(), source: e.into() };
        let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        let mut dir = nix::dir::Dir::open(&self.proc, flags, Mode::empty()).map_err(list)?;
        let mut pids = Vec::with_capacity(prev.map_or(256, |p| p.procs.len() + 16));
        for entry in dir.iter() {
            if let Some(pid) = entry.map_err(list)?.file_name().to_str().ok().and_then(|n| n.parse::<i32>().ok()) {
                pids.push(pid);
            }
        }
        pids.sort_unstable();
        let mut sample = Sample {
            at: BootMs(pass.now_ns / 1_000_000),
            procs: Vec::with_capacity(pids.len()),
            hidden: 0,
            at_ns: pass.now_ns,
        };
        let (mut name, mut buffer) = (String::with_capacity(32), [0u8; 1024]);
        for pid in pids {
            match self.one_stat(&dir, pid, &mut name, &mut buffer, &pass) {
                Ok(stat) => sample.procs.push(stat),
                Err(Errno::ENOENT | Errno::ESRCH) => {}
                Err(Errno::EACCES | Errno::EPERM) => sample.hidden += 1,
                Err(Errno::EINVAL) => return Err(ProcError::Parse { path: self.stat_path(pid), what: "its fields" }),
                Err(e) => return Err(ProcError::Read { path: self.stat_path(pid), source: e.into() }),
            }
        }
        Ok(sample)
    }

    fn stat_path(&self, pid: i32) -> PathBuf {
        self.path(&format!("{pid}/stat"))
    }

    fn one_stat(
        &self,
        dir: &nix::dir::Dir,
        pid: i32,
        name: &mut String,
        buffer: &mut [u8],
        pass: &Pass<'_>,
    ) -> Result<ProcStat, Errno> {
        name.clear();
        let _ = write!(name, "{pid}/stat");
        let file: OwnedFd = openat(dir, name.as_str(), OFlag::O_RDONLY | OFlag::O_CLOEXEC, Mode::empty())?;
        let length = read(&file, buffer)?;
        drop(file);
        let uid = if self.live {
            name.truncate(name.len() - "/stat".len());
            fstatat(dir, name.as_str(), AtFlags::AT_SYMLINK_NOFOLLOW)?.st_uid
        } else {
            self.saved_uid(pid).unwrap_or(0)
        };
        parse(&buffer[..length], uid, pass).ok_or(Errno::EINVAL)
    }

    /// The owner as `status` says: a saved directory belongs to whoever checked it out.
    fn saved_uid(&self, pid: i32) -> Option<u32> {
        let status = self.text(&format!("{pid}/status")).ok()?;
        status.lines().find_map(|l| l.strip_prefix("Uid:")).and_then(|l| l.split_whitespace().next()?.parse().ok())
    }
}

/// `pid (comm) state ppid …`, proc_pid_stat(5). The short name may hold anything, brackets and spaces too.
fn parse(line: &[u8], uid: u32, pass: &Pass<'_>) -> Option<ProcStat> {
    let open = line.iter().position(|b| *b == b'(')?;
    let close = line.iter().rposition(|b| *b == b')')?;
    let pid: i32 = std::str::from_utf8(&line[..open]).ok()?.trim().parse().ok()?;
    let comm = String::from_utf8_lossy(line.get(open + 1..close)?).into_owned();
    let mut fields = std::str::from_utf8(line.get(close + 2..)?).ok()?.split_ascii_whitespace();
    let state = fields.next()?.chars().next()?;
    let mut number = || fields.next()?.parse::<i64>().ok();
    let (ppid, pgid, sid, tty_nr, _tpgid, flags) = (number()?, number()?, number()?, number()?, number()?, number()?);
    let _faults = (number()?, number()?, number()?, number()?);
    let ticks = u64::try_from(number()?.saturating_add(number()?)).ok()?;
    let _waited = (number()?, number()?, number()?, number()?);
    let threads = number()?;
    let _timer = number()?;
    let start_ticks = u64::try_from(number()?).ok()?;
    let _vsize = fields.next()?;
    let pages: u64 = fields.next()?.parse().ok()?;
    let id = ProcId { pid, start_ticks, boot_id: pass.boot_id.to_owned() };
    let cpu_time = Millis(ticks.saturating_mul(pass.scale.ms_per_tick));
    let started_ms = start_ticks.saturating_mul(pass.scale.ms_per_tick);
    Some(ProcStat {
        cpu: cpu_since(pass, &id, cpu_time),
        id,
        ppid: ppid as i32,
        pgid: pgid as i32,
        sid: sid as i32,
        tty_nr: tty_nr as i32,
        state,
        comm,
        uid,
        threads: threads as u32,
        rss: Bytes(pages.saturating_mul(pass.scale.page)),
        cpu_time,
        age: Millis((pass.now_ns / 1_000_000).saturating_sub(started_ms)),
        kernel: flags as u64 & PF_KTHREAD != 0,
    })
}

/// CPU between the samples; none where the process is new to us.
fn cpu_since(pass: &Pass<'_>, id: &ProcId, cpu_time: Millis) -> Option<MilliCpu> {
    let prev = pass.prev?;
    let then = prev.get(id.pid).filter(|p| p.id.start_ticks == id.start_ticks && p.id.boot_id == id.boot_id)?;
    let span = pass.now_ns.saturating_sub(prev.at_ns);
    if span < MIN_SPAN_NS {
        return then.cpu;
    }
    let used_ns = cpu_time.0.saturating_sub(then.cpu_time.0).saturating_mul(1_000_000);
    Some(MilliCpu(u32::try_from(used_ns.saturating_mul(1000) / span).unwrap_or(u32::MAX)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pass(now_ns: u64, prev: Option<&Sample>) -> Pass<'_> {
        Pass { prev, boot_id: "boot", now_ns, scale: Scale { ms_per_tick: 10, page: 4096 } }
    }

    const LINE: &str = "77 (a) b (c) S 1 77 77 34816 -1 4194304 100 0 0 0 150 50 0 0 20 0 3 0 1000 3133440 361 1 2 3";

    #[test]
    fn a_short_name_may_hold_brackets_and_spaces() {
        let p = parse(LINE.as_bytes(), 1000, &pass(60_000_000_000, None)).unwrap();
        assert_eq!((p.comm.as_str(), p.id.pid, p.ppid, p.threads, p.tty_nr), ("a) b (c", 77, 1, 3, 34816));
        assert_eq!((p.cpu_time, p.age, p.rss), (Millis(2000), Millis(50_000), Bytes(361 * 4096)));
        assert_eq!(p.cpu, None);
    }

    #[test]
    fn cpu_is_the_difference_between_two_samples_of_the_same_process() {
        let at = |now_ns, prev: Option<&Sample>, line: &str| {
            let p = parse(line.as_bytes(), 0, &pass(now_ns, prev)).unwrap();
            Sample { at: BootMs(now_ns / 1_000_000), procs: vec![p], hidden: 0, at_ns: now_ns }
        };
        let first = at(60_000_000_000, None, LINE);
        let second = at(61_000_000_000, Some(&first), &LINE.replace("150 50", "200 100"));
        assert_eq!(second.procs[0].cpu, Some(MilliCpu(1000)));
        let too_soon = at(61_010_000_000, Some(&second), &LINE.replace("150 50", "200 101"));
        assert_eq!(too_soon.procs[0].cpu, Some(MilliCpu(1000)));
        let another = at(62_000_000_000, Some(&second), &LINE.replace(" 1000 3133440", " 1001 3133440"));
        assert_eq!(another.procs[0].cpu, None, "a reused pid is another process");
    }

    #[test]
    fn numbers_that_no_kernel_gives_do_not_overflow() {
        let line = LINE.replace("150 50", &format!("{0} {0}", i64::MAX)).replace("361", &u64::MAX.to_string());
        let p = parse(line.as_bytes(), 0, &pass(1, None)).unwrap();
        assert_eq!((p.cpu_time, p.rss), (Millis(u64::MAX), Bytes(u64::MAX)));
        let old = parse(LINE.replace(" 1000 3133440", &format!(" {} 3133440", i64::MAX)).as_bytes(), 0, &pass(1, None));
        assert_eq!(old.unwrap().age, Millis(0));
    }

    #[test]
    fn half_a_line_is_not_understood() {
        assert!(parse(&LINE.as_bytes()[..40], 0, &pass(1, None)).is_none());
        assert!(parse(b"", 0, &pass(1, None)).is_none());
    }
}

//! Where in a process's memory a system call can be made from and where its arguments can lie, and writing them there.
//! Reads `/proc/PID/maps` and `/proc/PID/mem`; never writes into code, or into what others map, too.

use super::registers::SYSCALL;
use std::ffi::CString;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt;

/// A private mapping.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Mapping {
    start: u64,
    end: u64,
    writable: bool,
    executable: bool,
    name: String,
}

impl Mapping {
    fn len(&self) -> usize {
        self.end.saturating_sub(self.start) as usize
    }

    /// Stack before heap before other anonymous memory before private copies of files: these last can be longer than
    /// their files.
    fn rank(&self) -> u8 {
        match self.name.as_str() {
            "[stack]" => 0,
            "[heap]" => 1,
            "" => 2,
            _ => 3,
        }
    }
}

/// The memory of a process that is stopped, or looked at from outside.
pub(super) struct Memory {
    file: File,
    private: Vec<Mapping>,
}

impl Memory {
    /// Opens it by one of its living threads, which takes the right to trace it.
    pub(super) fn open(tid: i32) -> io::Result<Self> {
        let file = File::options().read(true).write(true).open(format!("/proc/{tid}/mem"))?;
        let maps = fs::read(format!("/proc/{tid}/maps"))?;
        Ok(Self { file, private: private_mappings(&String::from_utf8_lossy(&maps)) })
    }

    /// The address of a `syscall` instruction in private executable memory: the kernel's own page first, which nearly
    /// every process has.
    pub(super) fn instruction(&self) -> Option<u64> {
        let mut code: Vec<&Mapping> = self.private.iter().filter(|m| m.executable).collect();
        code.sort_by_key(|m| m.name != "[vdso]");
        code.into_iter().find_map(|m| self.find(m))
    }

    fn find(&self, mapping: &Mapping) -> Option<u64> {
        const PIECE: usize = 64 << 10;
        let mut piece = [0; PIECE];
        let mut at = mapping.start;
        while at < mapping.end {
            let wanted = (mapping.end - at).min(PIECE as u64) as usize;
            // What cannot be read is no place to make a call from.
            let read = self.file.read_at(&mut piece[..wanted], at).ok().filter(|n| *n > 0)?;
            if let Some(offset) = piece[..read].windows(2).position(|two| two == SYSCALL) {
                return Some(at + offset as u64);
            }
            at += read as u64;
        }
        None
    }

    /// An address from which `needed` bytes can be written.
    pub(super) fn room(&self, needed: usize) -> Option<u64> {
        let fits = |m: &&Mapping| m.writable && m.len() >= needed;
        self.private.iter().filter(fits).min_by_key(|m| (m.rank(), usize::MAX - m.len())).map(|m| m.start)
    }

    /// Writes there.
    pub(super) fn write(&self, at: u64, bytes: &[u8]) -> io::Result<()> {
        self.file.write_all_at(bytes, at)
    }
}

/// Private mappings of programs: not the kernel's windows (`[vvar]`, and `[vsyscall]` beyond user space).
fn private_mappings(maps: &str) -> Vec<Mapping> {
    let one = |line: &str| {
        let mut words = line.splitn(6, ' ');
        let (start, end) = words.next()?.split_once('-')?;
        let permissions = words.next()?.as_bytes();
        let name = words.nth(3).unwrap_or_default().trim_start().to_owned();
        let number = |s| u64::from_str_radix(s, 16).ok().filter(|n| *n < 1 << 63);
        let (start, end) = (number(start)?, number(end)?);
        let (writable, executable) = (permissions.starts_with(b"rw"), permissions.get(2) == Some(&b'x'));
        let private = permissions.get(3) == Some(&b'p') && !name.starts_with("[vvar");
        private.then_some(Mapping { start, end, writable, executable, name })
    };
    maps.lines().filter_map(one).collect()
}

/// Everything that the injected calls point at, laid out for one address.
pub(super) struct Layout {
    /// What is written there.
    pub(super) bytes: Vec<u8>,
    /// A timer that is off (`struct itimerval`).
    pub(super) no_timer: u64,
    /// The vector of arguments.
    pub(super) argv: u64,
    /// The vector of the environment.
    pub(super) envp: u64,
    /// The program's path.
    pub(super) program: u64,
}

const WORD: usize = 8;
/// `sizeof(struct itimerval)`.
const TIMER: usize = 4 * WORD;

impl Layout {
    /// How many bytes it takes, with room to align it.
    pub(super) fn size(program: &CString, argv: &[CString], env: &[CString]) -> usize {
        let strings = argv.iter().chain(env).chain([program]).map(|s| s.as_bytes_with_nul().len()).sum::<usize>();
        TIMER + (argv.len() + env.len() + 2) * WORD + strings
    }

    /// Timer, vectors, strings, from `base` on, which mappings begin at: a page's.
    pub(super) fn at(base: u64, program: &CString, argv: &[CString], env: &[CString]) -> Self {
        let words = argv.len() + env.len() + 2;
        let mut text = base + (TIMER + words * WORD) as u64;
        let mut strings = Vec::new();
        let mut place = |s: &CString| {
            let at = text;
            strings.extend_from_slice(s.as_bytes_with_nul());
            text += s.as_bytes_with_nul().len() as u64;
            at
        };
        let mut bytes = vec![0; TIMER];
        for list in [argv, env] {
            for address in list.iter().map(&mut place).chain([0]) {
                bytes.extend_from_slice(&address.to_ne_bytes());
            }
        }
        let program = place(program);
        bytes.extend_from_slice(&strings);
        let argv_at = base + TIMER as u64;
        Self { bytes, no_timer: base, argv: argv_at, envp: argv_at + ((argv.len() + 1) * WORD) as u64, program }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAPS: &str = "\
400000-401000 r-xp 00000000 fe:00 41                         /usr/bin/some thing
401000-403000 rw-p 00000000 fe:00 41                         /usr/bin/some thing
7f00000-7f10000 rw-s 00000000 00:01 1024                     /dev/zero (deleted)
7f10000-7f20000 rw-p 00000000 00:00 0 
7f30000-7f40000 ---p 00000000 00:00 0 
7ffc000-7ffd000 r--p 00000000 00:00 0                        [vvar]
7ffd000-7fff000 rw-p 00000000 00:00 0                        [stack]
ffffffffff600000-ffffffffff601000 --xp 00000000 00:00 0      [vsyscall]
";

    fn memory() -> Memory {
        Memory { file: File::open("/dev/null").unwrap(), private: private_mappings(MAPS) }
    }

    #[test]
    fn private_mappings_alone_are_used() {
        let starts: Vec<u64> = memory().private.iter().map(|m| m.start).collect();
        assert_eq!(starts, [0x40_0000, 0x40_1000, 0x7f1_0000, 0x7f3_0000, 0x7ff_d000]);
        assert_eq!(memory().private[0].name, "/usr/bin/some thing");
    }

    #[test]
    fn room_is_on_the_stack_or_where_it_is_large_enough() {
        assert_eq!(memory().room(0x2000), Some(0x7ff_d000));
        assert_eq!(memory().room(0x2001), Some(0x7f1_0000));
        assert_eq!(memory().room(0x10001), None);
    }

    #[test]
    fn the_layout_points_into_itself() {
        let c = |s: &str| CString::new(s).unwrap();
        let (program, argv, env) = (c("/bin/x"), [c("x"), c("yy")], [c("A=1")]);
        let layout = Layout::at(0x1000, &program, &argv, &env);
        assert_eq!(layout.bytes.len(), Layout::size(&program, &argv, &env));
        let word = |at: u64| u64::from_ne_bytes(layout.bytes[(at - 0x1000) as usize..][..8].try_into().unwrap());
        let text = |at: u64| {
            let rest = &layout.bytes[(at - 0x1000) as usize..];
            String::from_utf8(rest.split(|b| *b == 0).next().unwrap().to_vec()).unwrap()
        };
        assert_eq!(text(layout.program), "/bin/x");
        assert_eq!((text(word(layout.argv)), text(word(layout.argv + 8))), ("x".into(), "yy".into()));
        assert_eq!((word(layout.argv + 16), text(word(layout.envp)), word(layout.envp + 8)), (0, "A=1".into(), 0));
    }
}

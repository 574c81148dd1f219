//! What a worker's end of the channel writes down of the ways to the head, for the worker's agent.

use grid_types::facts::LinkFacts;
use std::fs::OpenOptions;
use std::io::Read;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

/// Nothing that is said of a link is longer.
const MOST: u64 = 4 << 10;
/// A reason is cut after this: it is shown in a line.
const WHY: usize = 200;

/// Reads it. The channel has no rights, and may be somebody else's by now: nothing but a plain file of its own is read, and
/// what it says is only shown.
pub fn read(file: &Path) -> Option<LinkFacts> {
    let flags = nix::libc::O_NOFOLLOW | nix::libc::O_NONBLOCK;
    let file = OpenOptions::new().read(true).custom_flags(flags).open(file).ok()?;
    file.metadata().ok().filter(|meta| meta.is_file())?;
    let mut text = Vec::new();
    file.take(MOST).read_to_end(&mut text).ok()?;
    let mut facts: LinkFacts = serde_json::from_slice(&text).ok()?;
    let plain = |text: &str| text.chars().filter(|c| !c.is_control()).take(WHY).collect::<String>();
    (facts.address, facts.why) = (plain(&facts.address), facts.why.as_deref().map(plain));
    Some(facts)
}

#[cfg(test)]
mod tests {
    use super::*;
    use grid_types::facts::Way;

    #[test]
    fn only_a_plain_file_that_says_it_counts() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        let said = LinkFacts { way: Way::Ssh, address: "head:7443".into(), why: Some("timed out\n\x1b[2J".repeat(50)) };
        std::fs::write(at("link"), serde_json::to_vec(&said).unwrap()).unwrap();
        let got = read(&at("link")).unwrap();
        assert_eq!((got.way, got.address.as_str()), (Way::Ssh, "head:7443"));
        assert!(got.why.as_ref().unwrap().starts_with("timed out[2J") && got.why.unwrap().len() == WHY);
        std::os::unix::fs::symlink(at("link"), at("symlink")).unwrap();
        nix::unistd::mkfifo(&at("fifo"), nix::sys::stat::Mode::S_IRWXU).unwrap();
        std::fs::write(at("garbage"), b"{").unwrap();
        std::fs::write(at("huge"), vec![b' '; 1 << 20]).unwrap();
        for name in ["symlink", "fifo", "garbage", "huge", "none"] {
            assert_eq!(read(&at(name)), None, "{name}");
        }
    }
}

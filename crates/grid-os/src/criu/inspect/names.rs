//! Which image files a tree may bring, by CRIU's own names (`criu/image-desc.c`) and magic numbers (`magic.h`).
//!
//! What is not listed is refused: mounts, networks, cgroups, user namespaces, devices and whatever a later CRIU
//! adds. Pages and their maps are written by the receiver of the stream and do not come by name.

const COMMON: u32 = 0x5456_4319;
const SERVICE: u32 = 0x5510_5940;

/// Comes only where a terminal is announced.
pub(super) const TERMINALS: &str = "tty-info";

/// What numbers a name, where it has one.
#[derive(Clone, Copy, PartialEq)]
enum Number {
    None,
    Decimal,
    Hex,
}

/// Name before the number, number, magic.
const KINDS: [(&str, Number, u32); 31] = [
    ("inventory", Number::None, 0x5831_3116),
    ("pstree", Number::None, 0x5027_3030),
    ("core-", Number::Decimal, 0x5505_3847),
    ("ids-", Number::Decimal, 0x5443_2030),
    ("mm-", Number::Decimal, 0x5749_2820),
    ("fs-", Number::Decimal, 0x5140_3912),
    ("fdinfo-", Number::Decimal, 0x5621_3732),
    ("files", Number::None, 0x5630_3138),
    ("remap-fpath", Number::None, 0x5913_3954),
    ("ghost-file-", Number::Hex, 0x5258_3605),
    ("memfd", Number::None, 0x4845_3499),
    ("pipes", Number::None, 0x5651_3555),
    ("pipes-data", Number::None, 0x5645_3709),
    ("fifo", Number::None, 0x5836_4939),
    ("fifo-data", Number::None, 0x5933_3054),
    ("unixsk", Number::None, 0x5437_3943),
    ("inetsk", Number::None, 0x5644_3851),
    ("sk-queues", Number::None, 0x5626_4026),
    ("eventfd", Number::None, 0x4452_3722),
    ("eventpoll", Number::None, 0x4502_3858),
    ("eventpoll-tfd", Number::None, 0x4443_3746),
    ("signalfd", Number::None, 0x5732_3820),
    ("timerfd", Number::None, 0x5049_3712),
    ("inotify", Number::None, 0x4842_4431),
    ("inotify-wd", Number::None, 0x5456_2009),
    (TERMINALS, Number::None, 0x5945_3036),
    ("seccomp", Number::None, 0x6441_3049),
    ("timens-", Number::Decimal, 0x4311_4433),
    ("ipcns-shm-", Number::Decimal, 0x4628_3044),
    ("ipcns-var-", Number::Decimal, 0x5311_5007),
    ("stats-dump", Number::None, 0x5709_3306),
];

/// Bytes of the magic numbers before the first message; why it is refused otherwise.
pub(super) fn head_of(name: &str, bytes: &[u8]) -> Result<usize, String> {
    let (stem, magic) = kind(name).ok_or_else(|| format!("an image of a kind that no guest brings: {name}"))?;
    let word = |at: usize| bytes.get(at..at + 4).map(|b| u32::from_le_bytes([b[0], b[1], b[2], b[3]]));
    let (wanted, at) = match stem {
        "inventory" => (magic, 0),
        "stats-dump" => (SERVICE, 4),
        _ => (COMMON, 4),
    };
    // An empty file says the same as a missing one.
    let right = word(0) == Some(wanted) && (at == 0 || word(at) == Some(magic));
    if right { Ok(at + 4) } else { Err(format!("{name} does not begin as an image of its kind")) }
}

fn kind(name: &str) -> Option<(&'static str, u32)> {
    let stem = name.strip_suffix(".img").or_else(|| (name == "stats-dump").then_some(name))?;
    KINDS.iter().find_map(|(prefix, number, magic)| {
        let rest = stem.strip_prefix(prefix)?;
        let fits = match number {
            Number::None => rest.is_empty(),
            Number::Decimal => is_number(rest, |b| b.is_ascii_digit()),
            Number::Hex => is_number(rest, |b| b.is_ascii_hexdigit()),
        };
        fits.then_some((*prefix, *magic))
    })
}

fn is_number(text: &str, digit: impl Fn(&u8) -> bool) -> bool {
    !text.is_empty() && text.len() <= 10 && text.as_bytes().iter().all(digit)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_known_kinds_with_their_own_magic_pass() {
        let image = |words: &[u32]| words.iter().flat_map(|w| w.to_le_bytes()).collect::<Vec<u8>>();
        assert_eq!(head_of("core-12.img", &image(&[COMMON, 0x5505_3847])), Ok(8));
        assert_eq!(head_of("inventory.img", &image(&[0x5831_3116])), Ok(4));
        assert_eq!(head_of("stats-dump", &image(&[SERVICE, 0x5709_3306])), Ok(8));
        assert!(head_of("core-12.img", &image(&[COMMON, 0x5749_2820])).is_err(), "another kind's magic");
        assert!(head_of("core-12.img", b"").is_err(), "nothing at all");
        for name in
            ["mountpoints-12.img", "netns-9.img", "cgroup.img", "userns-1.img", "core-x.img", "core-.img", "zz.img"]
        {
            assert!(head_of(name, &image(&[COMMON, 0x5556_3928])).unwrap_err().contains("no guest brings"), "{name}");
        }
    }
}

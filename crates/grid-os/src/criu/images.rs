//! CRIU's image files, as far as grid reads and writes them: `pagemap` files, and the small files of a checkpoint on
//! their way over a stream.
//!
//! What arrives comes from another machine and is not believed: names are plain file names of CRIU's forms, sizes
//! are bounded.

use super::parked::skip;
use super::{CriuError, corrected, filter, open_files};
use prost::Message;
use std::fs;
use std::io::{self, BufWriter, Read, Write};
use std::path::Path;

/// `IMG_COMMON_MAGIC` and `PAGEMAP_MAGIC` of CRIU's `magic.h`.
const MAGIC: [u32; 2] = [0x5456_4319, 0x5608_4025];
/// Bytes of the two magic numbers at the head of an image.
pub(super) const IMAGE_HEAD: usize = 8;
/// Page flags of CRIU's `pagemap.h`.
pub(crate) const PE_LAZY: u32 = 1 << 1;
pub(crate) const PE_PRESENT: u32 = 1 << 2;
/// No file of a checkpoint other than pages is larger.
const MAX_FILE: u64 = 256 << 20;
/// All of them together: they lie in memory (a tmpfs) until the tree is restored.
const MAX_TOTAL: u64 = 1 << 30;
const MAX_FILES: u32 = 100_000;

#[derive(Clone, PartialEq, Message)]
struct PagemapHead {
    #[prost(uint32, required, tag = "1")]
    pages_id: u32,
}

#[derive(Clone, PartialEq, Message)]
struct PagemapEntry {
    #[prost(uint64, required, tag = "1")]
    vaddr: u64,
    #[prost(uint32, required, tag = "2")]
    compat_nr_pages: u32,
    #[prost(uint32, optional, tag = "4")]
    flags: Option<u32>,
    #[prost(uint64, optional, tag = "5")]
    nr_pages: Option<u64>,
}

/// Writes one `pagemap-*.img`.
pub(crate) struct PagemapWriter(BufWriter<fs::File>);

impl PagemapWriter {
    pub(crate) fn create(path: &Path, pages_id: u32) -> io::Result<Self> {
        let mut out = BufWriter::new(fs::File::create_new(path)?);
        for word in MAGIC {
            out.write_all(&word.to_le_bytes())?;
        }
        let mut writer = Self(out);
        writer.message(&PagemapHead { pages_id })?;
        Ok(writer)
    }

    pub(crate) fn entry(&mut self, vaddr: u64, pages: u64, flags: u32) -> io::Result<()> {
        // As CRIU writes it: the old 32-bit count is left at zero, the new one holds it.
        self.message(&PagemapEntry { vaddr, compat_nr_pages: 0, flags: Some(flags), nr_pages: Some(pages) })
    }

    fn message(&mut self, message: &impl Message) -> io::Result<()> {
        let bytes = message.encode_to_vec();
        self.0.write_all(&(bytes.len() as u32).to_le_bytes())?;
        self.0.write_all(&bytes)
    }

    pub(crate) fn finish(mut self) -> io::Result<()> {
        self.0.flush()
    }
}

#[derive(Clone, PartialEq, Message)]
struct DumpStats {
    #[prost(uint64, required, tag = "7")]
    pages_written: u64,
    #[prost(uint64, optional, tag = "14")]
    shpages_written: Option<u64>,
}

#[derive(Clone, PartialEq, Message)]
struct Stats {
    #[prost(message, optional, tag = "1")]
    dump: Option<DumpStats>,
}

/// Pages of memory that a dump wrote, by CRIU's own statistics; `None` where it left none.
pub fn pages_written(dir: &Path) -> Option<u64> {
    let bytes = fs::read(dir.join("stats-dump")).ok()?;
    let dump = Stats::decode(bytes.get(12..)?).ok()?.dump?;
    Some(dump.pages_written.saturating_add(dump.shpages_written.unwrap_or(0)))
}

fn is_image_name(name: &str) -> bool {
    !name.starts_with('.')
        && name.len() < 200
        && (name.ends_with(".img") || name == "stats-dump")
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'))
}

/// Sends every image of a directory over a stream: a count, then for each its name, its size and its bytes. Where the tree
/// is under the filter of `grid run`, that is not among them; where that is not so it is refused.
pub fn send_images(dir: &Path, filtered: bool, to: &mut impl Write) -> Result<u64, CriuError> {
    if filtered {
        filter::check(dir)?;
    }
    let io = |e| CriuError::Images(dir.to_owned(), e);
    let mut files = Vec::new();
    for entry in fs::read_dir(dir).map_err(io)? {
        let entry = entry.map_err(io)?;
        let name = entry.file_name().to_string_lossy().into_owned();
        let left_out = filtered && name == filter::IMAGE;
        if is_image_name(&name) && !left_out && entry.file_type().map_err(io)?.is_file() {
            files.push((name, entry.path(), entry.metadata().map_err(io)?.len()));
        }
    }
    let mut total = 0;
    let root = corrected::root_threads(&fs::read(dir.join("pstree.img")).unwrap_or_default());
    let mut out = BufWriter::with_capacity(1 << 18, to);
    out.write_all(&(files.len() as u32).to_le_bytes()).map_err(io)?;
    for (name, path, size) in files {
        out.write_all(&(name.len() as u32).to_le_bytes()).map_err(io)?;
        out.write_all(name.as_bytes()).map_err(io)?;
        if let Some(image) = in_place_of(&name, &path, size, &root, filtered)? {
            out.write_all(&(image.len() as u64).to_le_bytes()).map_err(io)?;
            out.write_all(&image).map_err(io)?;
            total += image.len() as u64;
            continue;
        }
        out.write_all(&size.to_le_bytes()).map_err(io)?;
        let copied = io::copy(&mut fs::File::open(&path).map_err(io)?.take(size), &mut out).map_err(io)?;
        if copied != size {
            return Err(io(io::ErrorKind::UnexpectedEof.into()));
        }
        total += size;
    }
    out.flush().map_err(io)?;
    Ok(total)
}

/// What is sent in place of an image; `None` where it goes as it is.
fn in_place_of(name: &str, path: &Path, size: u64, root: &[u32], filtered: bool) -> Result<Option<Vec<u8>>, CriuError> {
    let read = || fs::read(path).map_err(|e| CriuError::Images(path.to_owned(), e));
    let thread = name.strip_prefix("core-").and_then(|n| n.strip_suffix(".img")?.parse().ok());
    match thread.filter(|_| size <= MAX_FILE) {
        None if name == "files.img" && size <= MAX_FILE => Ok(open_files::corrected(&read()?)),
        Some(thread) => {
            let image = read()?;
            let corrected = corrected::corrected(&image, root.contains(&thread));
            if filtered { filter::without(&corrected.unwrap_or(image)).map(Some) } else { Ok(corrected) }
        }
        None => Ok(None),
    }
}

/// Takes what [`send_images`] sends into a directory. Refuses names that are not CRIU's and sizes past all reason.
pub fn receive_images(dir: &Path, from: &mut impl Read) -> Result<u64, CriuError> {
    let io = |e| CriuError::Images(dir.to_owned(), e);
    each_image(from, &io, |name, size, from| {
        let mut file = fs::File::create_new(dir.join(name)).map_err(|e| match e.kind() {
            io::ErrorKind::AlreadyExists => CriuError::Hostile(format!("{name} twice")),
            _ => io(e),
        })?;
        if io::copy(&mut from.take(size), &mut file).map_err(io)? != size {
            return Err(io(io::ErrorKind::UnexpectedEof.into()));
        }
        Ok(())
    })
}

/// Reads the same and keeps nothing of it: for whoever records it.
pub(super) fn skip_images(from: &mut impl Read) -> Result<u64, CriuError> {
    each_image(from, &CriuError::PageStream, |_, size, from| skip(from, size).map_err(CriuError::PageStream))
}

/// Heads of the images, one after the other; `take` takes the bytes that follow.
fn each_image<R: Read>(
    from: &mut R,
    io: &dyn Fn(io::Error) -> CriuError,
    mut take: impl FnMut(&str, u64, &mut R) -> Result<(), CriuError>,
) -> Result<u64, CriuError> {
    let count = read_u32(from).map_err(io)?;
    if count > MAX_FILES {
        return Err(CriuError::Hostile(format!("{count} image files announced")));
    }
    let mut total = 0;
    for _ in 0..count {
        let len = read_u32(from).map_err(io)?;
        if len > 200 {
            return Err(CriuError::Hostile(format!("an image name of {len} bytes")));
        }
        let mut name = vec![0u8; len as usize];
        from.read_exact(&mut name).map_err(io)?;
        let name = String::from_utf8(name).unwrap_or_default();
        if !is_image_name(&name) || name.starts_with("pages-") || name.starts_with("pagemap-") {
            return Err(CriuError::Hostile(format!("an image named {name:?}")));
        }
        let mut size = [0u8; 8];
        from.read_exact(&mut size).map_err(io)?;
        let size = u64::from_le_bytes(size);
        if size > MAX_FILE || total + size > MAX_TOTAL {
            return Err(CriuError::Hostile(format!("{name} announced with {size} bytes after {total}")));
        }
        take(&name, size, from)?;
        total += size;
    }
    Ok(total)
}

fn read_u32(from: &mut impl Read) -> io::Result<u32> {
    let mut word = [0u8; 4];
    from.read_exact(&mut word)?;
    Ok(u32::from_le_bytes(word))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn images_cross_a_stream_whole() {
        let (a, b) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        fs::write(a.path().join("core-12.img"), vec![7u8; 100_000]).unwrap();
        fs::write(a.path().join("inventory.img"), b"x").unwrap();
        fs::write(a.path().join("dump.log"), b"not an image").unwrap();
        let mut stream = Vec::new();
        let sent = send_images(a.path(), false, &mut stream).unwrap();
        assert_eq!(receive_images(b.path(), &mut stream.as_slice()).unwrap(), sent);
        assert_eq!(fs::read(b.path().join("core-12.img")).unwrap().len(), 100_000);
        assert!(!b.path().join("dump.log").exists());
    }

    #[test]
    fn a_hostile_stream_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        for name in ["../../etc/passwd.img", "pages-1.img", "a/b.img", ".img"] {
            let mut stream = 1u32.to_le_bytes().to_vec();
            stream.extend((name.len() as u32).to_le_bytes());
            stream.extend(name.as_bytes());
            stream.extend(1u64.to_le_bytes());
            stream.push(0);
            assert!(matches!(receive_images(dir.path(), &mut stream.as_slice()), Err(CriuError::Hostile(_))), "{name}");
        }
        let twice =
            [b"\x02\0\0\0".as_slice(), &[b"\x05\0\0\0a.img\x01\0\0\0\0\0\0\0x".as_slice(); 2].concat()].concat();
        assert!(matches!(receive_images(dir.path(), &mut twice.as_slice()), Err(CriuError::Hostile(_))));
        let huge = [1u32.to_le_bytes().as_slice(), &5u32.to_le_bytes(), b"a.img", &u64::MAX.to_le_bytes()].concat();
        assert!(matches!(receive_images(dir.path(), &mut huge.as_slice()), Err(CriuError::Hostile(_))));
    }
}

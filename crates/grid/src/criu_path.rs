//! Where CRIU is: `GRID_CRIU`, what `scripts/install-criu` noted in `.grid/criu-path`, what the package brought beside grid, or
//! `criu` in `PATH`.

use std::path::{Path, PathBuf};

/// File, relative to the current directory, in which `scripts/install-criu` notes the program's path.
const NOTE: &str = ".grid/criu-path";

/// The program, if there is one; whether it is usable is for `grid_os::criu::Criu::find` to say.
///
/// A `GRID_CRIU` that names nothing is not passed over: it is returned as it is, so that the error names it.
pub fn find() -> Option<PathBuf> {
    let set = |name: &str| std::env::var_os(name).filter(|v| !v.is_empty());
    let packaged = || of_installation(&std::env::current_exe().ok()?);
    let noted = || noted(Path::new(NOTE));
    set("GRID_CRIU").map(PathBuf::from).or_else(noted).or_else(packaged).or_else(|| in_path(&set("PATH")?))
}

/// The one that the package brought: of `/usr/bin/grid`, that is `/usr/lib/grid/criu/sbin/criu`.
pub fn of_installation(program: &Path) -> Option<PathBuf> {
    let prefix = program.parent()?.parent()?;
    Some(prefix.join("lib/grid/criu/sbin/criu")).filter(|path| path.is_file())
}

fn noted(note: &Path) -> Option<PathBuf> {
    let text = std::fs::read_to_string(note).ok()?;
    Some(PathBuf::from(text.trim())).filter(|p| p.is_absolute() && p.exists())
}

fn in_path(path: &std::ffi::OsStr) -> Option<PathBuf> {
    std::env::split_paths(path).filter(|d| d.is_absolute()).map(|d| d.join("criu")).find(|p| p.is_file())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_note_counts_only_where_what_it_names_exists() {
        let dir = tempfile::tempdir().unwrap();
        let note = dir.path().join("criu-path");
        std::fs::write(&note, format!("{}\n", note.display())).unwrap();
        assert_eq!(noted(&note), Some(note.clone()));
        std::fs::write(&note, "/nonexistent/criu\n").unwrap();
        assert_eq!(noted(&note), None);
        assert_eq!(noted(&dir.path().join("none")), None);
    }

    #[test]
    fn the_packages_own_lies_beside_the_program() {
        let dir = tempfile::tempdir().unwrap();
        let (program, criu) = (dir.path().join("bin/grid"), dir.path().join("lib/grid/criu/sbin/criu"));
        assert_eq!(of_installation(&program), None);
        std::fs::create_dir_all(criu.parent().unwrap()).unwrap();
        std::fs::write(&criu, "").unwrap();
        assert_eq!(of_installation(&program), Some(criu));
    }

    #[test]
    fn the_path_is_searched_in_order() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(in_path(dir.path().as_os_str()), None);
        std::fs::write(dir.path().join("criu"), "").unwrap();
        assert_eq!(in_path(dir.path().as_os_str()), Some(dir.path().join("criu")));
    }
}

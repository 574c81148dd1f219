//! The unit, rendered: pure. The package's own text is the model, with this machine's paths in it.

use std::path::{Path, PathBuf};

/// Where the package lays it.
pub const PACKAGED: &str = "/usr/lib/systemd/system/grid.service";
const MODEL: &str = include_str!("../../../../dist/systemd/grid.service");
const MODEL_PROGRAM: &str = "/usr/bin/grid";
const MODEL_STATE: &str = "/var/lib/grid";

/// What differs from machine to machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unit {
    /// grid itself.
    pub program: PathBuf,
    /// The cluster's file.
    pub config: PathBuf,
    /// Directory of its state.
    pub state: PathBuf,
    /// CRIU, where grid would not find it by itself.
    pub criu: Option<PathBuf>,
}

impl Unit {
    /// A path that a unit cannot carry as it is, if there is one.
    pub fn unfit(&self) -> Option<&Path> {
        let paths = [&self.program, &self.config, &self.state].into_iter().chain(&self.criu);
        let fit = |b: &u8| b.is_ascii_alphanumeric() || b"/._-+@".contains(b);
        paths.map(PathBuf::as_path).find(|p| !p.is_absolute() || !p.as_os_str().as_encoded_bytes().iter().all(fit))
    }

    /// The command that it starts.
    pub fn start(&self) -> String {
        format!("{}{} up --config {}", self.program.display(), self.options(), self.config.display())
    }

    /// The unit's text.
    pub fn text(&self) -> String {
        let mut lines = Vec::new();
        for line in MODEL.lines() {
            if line.starts_with("ExecStart=") {
                lines.extend(self.criu.iter().map(|criu| format!("Environment=GRID_CRIU={}", criu.display())));
                lines.push(format!("ExecStart={}", self.start()));
            } else if let Some((key, words)) = line.split_once(MODEL_PROGRAM).filter(|(key, _)| key.starts_with("Exec"))
            {
                lines.push(format!("{key}{}{}{words}", self.program.display(), self.options()));
            } else {
                lines.push(line.to_owned());
            }
        }
        lines.join("\n") + "\n"
    }

    fn options(&self) -> String {
        let usual = self.state == Path::new(MODEL_STATE);
        if usual { String::new() } else { format!(" --state {}", self.state.display()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MODEL_CONFIG: &str = "/etc/grid/cluster.yaml";

    fn packaged() -> Unit {
        Unit { program: MODEL_PROGRAM.into(), config: MODEL_CONFIG.into(), state: MODEL_STATE.into(), criu: None }
    }

    #[test]
    fn with_the_packages_paths_it_is_the_packages_own() {
        assert_eq!(packaged().text(), MODEL);
    }

    #[test]
    fn other_paths_are_in_it_wherever_grid_is_called() {
        let unit = Unit {
            program: "/opt/grid".into(),
            state: "/srv/grid".into(),
            criu: Some("/opt/criu".into()),
            ..packaged()
        };
        let text = unit.text();
        for line in [
            "Environment=GRID_CRIU=/opt/criu",
            "ExecStart=/opt/grid --state /srv/grid up --config /etc/grid/cluster.yaml",
            "ExecStop=/opt/grid --state /srv/grid down --recall-first --leave",
        ] {
            assert!(text.lines().any(|l| l == line), "{line} in {text}");
        }
        assert!(!text.contains(MODEL_PROGRAM));
    }

    #[test]
    fn what_would_end_a_word_or_mean_something_to_systemd_is_found() {
        assert_eq!(packaged().unfit(), None);
        for odd in ["/a b", "/a%h", "/a$b", "/a;b", "relative", "/a\nExecStart=/x"] {
            let unit = Unit { config: odd.into(), ..packaged() };
            assert_eq!(unit.unfit(), Some(Path::new(odd)));
        }
    }
}

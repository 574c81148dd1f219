//! Whose certificates count.

use crate::identity::Pin;
use grid_types::NodeName;
use std::path::PathBuf;

/// The peers that an end goes on with.
#[derive(Clone, Debug)]
pub(crate) enum Known {
    /// This one.
    Head(Pin),
    /// Those whose fingerprints are in this folder.
    Workers(PathBuf),
}

impl Known {
    pub(crate) fn counts(&self, pin: Pin) -> bool {
        match self {
            Self::Head(head) => *head == pin,
            Self::Workers(_) => self.worker(pin).is_some(),
        }
    }

    /// The worker of this certificate.
    pub(crate) fn worker(&self, pin: Pin) -> Option<NodeName> {
        let Self::Workers(folder) = self else { return None };
        let is_it = |entry: &std::fs::DirEntry| {
            let read = std::fs::read_to_string(entry.path()).ok();
            read.and_then(|text| text.trim().parse::<Pin>().ok()) == Some(pin)
        };
        let found = std::fs::read_dir(folder).ok()?.flatten().find(is_it)?;
        Some(NodeName::new(found.file_name().to_string_lossy()))
    }
}

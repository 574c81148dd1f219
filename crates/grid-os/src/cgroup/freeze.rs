//! Stop and continue by the kernel, confirmed. One write each way; the kernel's own word is awaited.

use super::{CgroupError, Controller, Group, read, write};
use std::path::Path;
use std::time::{Duration, Instant};

/// How long the kernel may take to confirm. Tasks in uninterruptible sleep hold it up.
const CONFIRM: Duration = Duration::from_secs(5);

impl Group {
    /// Freezes or thaws every process in the group and returns when the kernel confirms it.
    pub fn set_frozen(&self, frozen: bool) -> Result<(), CgroupError> {
        let dir = self.need(Controller::Freezer)?;
        let start = Instant::now();
        let v2 = self.is_v2(Controller::Freezer);
        loop {
            if v2 {
                write(&dir.join("cgroup.freeze"), if frozen { "1" } else { "0" })?;
            } else {
                write(&dir.join("freezer.state"), if frozen { "FROZEN" } else { "THAWED" })?;
            }
            if state(&dir, v2)? == frozen {
                return Ok(());
            }
            if start.elapsed() > CONFIRM {
                let what = if frozen { "frozen" } else { "thawed" };
                return Err(CgroupError::NotConfirmed { path: dir, what, waited: CONFIRM });
            }
            std::thread::sleep(Duration::from_micros(500));
        }
    }

    /// Thaws the group and each group below it, where they were frozen one by one. What cannot be written is left out.
    pub(super) fn thaw_with_all_below(&self) {
        let Ok(dir) = self.need(Controller::Freezer) else { return };
        let (file, word) =
            if self.is_v2(Controller::Freezer) { ("cgroup.freeze", "0") } else { ("freezer.state", "THAWED") };
        let mut open = vec![dir];
        while let Some(dir) = open.pop() {
            let _ = write(&dir.join(file), word);
            open.extend(super::subdirs(&dir));
        }
    }

    /// The kernel says that every process in the group is frozen.
    pub fn is_frozen(&self) -> Result<bool, CgroupError> {
        state(&self.need(Controller::Freezer)?, self.is_v2(Controller::Freezer))
    }
}

fn state(dir: &Path, v2: bool) -> Result<bool, CgroupError> {
    if v2 {
        Ok(read(&dir.join("cgroup.events"))?.lines().any(|l| l == "frozen 1"))
    } else {
        Ok(read(&dir.join("freezer.state"))?.trim() == "FROZEN")
    }
}

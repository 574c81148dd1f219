//! `ManagedOOMPreference=` of systemd units: an extended attribute of the unit's control group, as systemd-oomd reads it
//! (oomd-util.c: `user.oomd_avoid`, `user.oomd_omit`; `trusted.*` by older ones; the value is `1`).

use std::path::Path;

const ATTRIBUTES: [(&str, &str); 4] = [
    ("user.oomd_omit", "omit"),
    ("trusted.oomd_omit", "omit"),
    ("user.oomd_avoid", "avoid"),
    ("trusted.oomd_avoid", "avoid"),
];

/// The preference of a group, or of the nearest above it that has one, up to the mount point.
pub(super) fn preference(mount: &Path, group: &str) -> Option<String> {
    let mut group = Path::new(group.trim_start_matches('/'));
    loop {
        if let Some(word) = of(&mount.join(group)) {
            return Some(word.to_owned());
        }
        group = group.parent()?;
    }
}

fn of(dir: &Path) -> Option<&'static str> {
    let is_set = |name: &str| {
        let mut value = [0u8; 8];
        rustix::fs::getxattr(dir, name, &mut value).is_ok_and(|len| matches!(&value[..len], b"1" | b"1\0"))
    };
    ATTRIBUTES.into_iter().find(|(name, _)| is_set(name)).map(|(_, word)| word)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_groups_preference_holds_for_what_is_below_it() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(dir.path().join("a/unit.service/below")).unwrap();
        let unit = dir.path().join("a/unit.service");
        let set = |value: &[u8]| rustix::fs::setxattr(&unit, "user.oomd_avoid", value, rustix::fs::XattrFlags::empty());
        if let Err(e) = set(b"0") {
            println!("SKIPPED: {} takes no attributes: {e}", dir.path().display());
            return;
        }
        assert_eq!(preference(dir.path(), "/a/unit.service"), None, "0 is no preference");
        set(b"1").unwrap();
        assert_eq!(preference(dir.path(), "/a/unit.service/below").as_deref(), Some("avoid"));
        assert_eq!(preference(dir.path(), "/a"), None);
    }
}

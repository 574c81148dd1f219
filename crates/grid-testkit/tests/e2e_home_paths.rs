//! Folders of a worker's own (`execution.shared_paths`, `local_paths`) in what is otherwise the head's.

#![allow(clippy::unwrap_used)] // all of this file is tests and their helpers

use grid_testkit::cluster::{Cluster, Guest};
use grid_testkit::home::{answer, apart_with, job, more};
use grid_testkit::lab::Lab;
use grid_testkit::procs;
use grid_testkit::scratch::Scratch;
use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

/// A folder of an ordinary user's that the worker sees, too.
fn folder() -> Scratch {
    Scratch::within(Path::new("/var/tmp")).unwrap()
}

fn with_paths(lab: &Lab, shared: &Path, local: &Path) -> Option<Cluster> {
    let paths = format!("home, shared_paths: [{}], local_paths: [{}]", shared.display(), local.display());
    apart_with(lab, &paths)
}

fn file_system(guest: &Guest, path: &Path) -> String {
    answer(guest, &format!("stat -f -c %T {}", path.display())).trim().to_owned()
}

#[test]
fn a_shared_folder_is_used_where_it_is_and_a_local_one_is_each_machine_s_own() {
    let lab = Lab::start();
    let (shared, local) = (folder(), folder());
    let Some(cluster) = with_paths(&lab, &shared, &local) else { return };
    lab.hide(&local).unwrap();
    std::fs::set_permissions(lab.seen_there(&local), Permissions::from_mode(0o777)).unwrap();
    let guest = job(&cluster);
    let at_home = file_system(&guest, &shared);
    let out = cluster.move_out(guest.pid());
    more(&guest);
    assert_eq!(file_system(&guest, &shared), at_home, "not by way of the head");
    assert_ne!(file_system(&guest, &guest.dir), at_home);
    assert_eq!(answer(&guest, &format!("cp job.py {}/copy", shared.display())), "");
    assert_eq!(std::fs::read(shared.join("copy")).unwrap(), std::fs::read(guest.dir.join("job.py")).unwrap());
    assert_eq!(answer(&guest, &format!("touch {}/there", local.display())), "");
    assert!(!local.join("there").exists() && lab.seen_there(&local).join("there").exists());
    cluster.bring_home(out.record.id.as_str());
    more(&guest);
    assert_eq!(answer(&guest, &format!("ls -A {}", shared.display())), "copy\n");
    assert_eq!(answer(&guest, &format!("ls -A {}", local.display())), "");
    // What it has open there would be another file on the other machine.
    let holds = format!("exec 9>{}/held; exec sleep 1000", local.display());
    let holds = Guest::script(&cluster, &holds);
    let said = cluster.grid(&["offload", "execute", &holds.pid().to_string()]);
    assert!(said.code == 4 && said.err.contains("which each node has for itself"), "{said:?}");
}

/// Which folders those are is the head's word: it opens no door of the worker's to a user.
#[test]
fn a_local_folder_that_its_user_does_not_get_to_there_keeps_it_at_home() {
    let lab = Lab::start();
    let (shared, local) = (folder(), folder());
    let Some(cluster) = with_paths(&lab, &shared, &local) else { return };
    lab.hide(&local).unwrap();
    std::fs::set_permissions(lab.seen_there(&local), Permissions::from_mode(0o700)).unwrap();
    let guest = job(&cluster);
    let said = cluster.grid(&["offload", "execute", &guest.pid().to_string()]);
    let text = said.out.clone() + &said.err;
    assert!(said.code != 0 && text.contains("E-FILE") && text.contains("Permission denied"), "{said:?}");
    more(&guest);
    assert!(!procs::is_shadow(guest.pid()));
}

#[test]
fn a_folder_that_is_not_shared_is_found_out_before_anything_is_frozen() {
    let lab = Lab::start();
    let (shared, local) = (folder(), folder());
    let Some(cluster) = with_paths(&lab, &shared, &local) else { return };
    lab.hide(&shared).unwrap();
    let guest = job(&cluster);
    let said = cluster.grid(&["offload", "execute", &guest.pid().to_string()]);
    let text = said.out.clone() + &said.err;
    assert!(said.code == 4 && text.contains("E-FILE") && text.contains("is another folder here"), "{said:?}");
    assert!(std::fs::read_dir(&*shared).unwrap().next().is_none(), "a probe is left");
    more(&guest);
    assert!(!procs::is_shadow(guest.pid()));
}

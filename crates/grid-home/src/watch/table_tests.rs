use super::*;

const FOLDER: u64 = 1 << 47 | 10;
const FILE: u64 = 1 << 47 | 11;

fn told(node: u64) -> Told {
    Told::new(node, false, true)
}

fn id(of: u8) -> Id {
    Box::from([of])
}

fn change(name: &[u8]) -> Change {
    Change { folder: id(1), name: name.into(), is_of_name: false, is_of_content: false, is_own: false }
}

fn of_name(name: &[u8]) -> Change {
    Change { is_of_name: true, ..change(name) }
}

fn of_content(name: &[u8]) -> Change {
    Change { is_of_content: true, ..change(name) }
}

/// A watched folder, in which a file is believed.
fn table() -> Table {
    let mut table = Table::new(2);
    assert!(table.wants(FOLDER));
    table.watched(FOLDER, Some(id(1)));
    assert!(!table.wants(FOLDER));
    let begun = table.begin();
    let belief = table.name(begun, (FOLDER, b"file"), &told(FILE));
    assert_eq!(belief, Belief { name: true, attributes: true });
    table
}

fn ask(table: &mut Table, name: &[u8], node: u64) -> Belief {
    let begun = table.begin();
    table.name(begun, (FOLDER, name), &told(node))
}

#[test]
fn what_is_believed_is_told_once_until_it_is_asked_for_again() {
    let mut table = table();
    assert_eq!(table.change(&of_content(b"file")), [content_changed(FILE)]);
    assert_eq!(table.change(&of_content(b"file")), [] as [Vec<u8>; 0]);
    let begun = table.begin();
    assert!(table.attributes(begun, &told(FILE)));
    assert_eq!(table.change(&change(b"file")), [attributes_changed(FILE)]);
    table.content(FILE);
    assert_eq!(table.change(&of_content(b"file")), [content_changed(FILE)]);
    table.content(FILE);
    assert!(table.attributes(begun + 9, &told(FILE)));
    assert_eq!(table.change(&change(b"file")), [attributes_changed(FILE)]);
    assert_eq!(table.change(&of_content(b"file")), [content_changed(FILE)], "of its content nothing was told yet");
    assert_eq!(table.change(&of_content(b"nobody asked")), [] as [Vec<u8>; 0]);
    assert_eq!(table.change(&Change { folder: id(9), ..of_content(b"file") }), [] as [Vec<u8>; 0]);
}

#[test]
fn where_a_name_leads_elsewhere_name_and_file_are_told_and_the_file_is_believed_no_longer() {
    let mut table = table();
    assert_eq!(table.change(&of_name(b"file")), [name_changed(FOLDER, b"file"), attributes_changed(FILE)]);
    let begun = table.begin();
    assert!(!table.attributes(begun, &told(FILE)), "nobody knows its name");
    assert_eq!(table.change(&of_name(b"file")), [] as [Vec<u8>; 0]);
    assert!(ask(&mut table, b"other", FILE).attributes);
    assert_eq!(table.change(&of_content(b"other")), [content_changed(FILE)]);
}

#[test]
fn what_was_asked_while_its_folder_changed_is_not_believed() {
    let mut table = table();
    let begun = table.begin();
    table.change(&change(b"another"));
    assert_eq!(table.name(begun, (FOLDER, b"new"), &told(12)), Belief::default());
    assert!(!table.attributes(begun, &told(FILE)));
    assert!(ask(&mut table, b"new", FILE).name);
}

#[test]
fn attributes_are_believed_of_a_watched_folder_and_of_a_file_with_one_name_on_the_same_mount() {
    let mut table = table();
    let begun = table.begin();
    let folder = Told::new(FOLDER, true, false);
    assert!(table.attributes(begun, &folder));
    assert_eq!(table.change(&change(b".")), [attributes_changed(FOLDER)]);
    let begun = table.begin();
    assert!(table.attributes(begun, &folder));
    assert_eq!(table.change(&of_name(b"made")), [attributes_changed(FOLDER)], "its time is another");
    let below = table.name(table.begin(), (FOLDER, b"below"), &Told::new(FILE + 1, true, false));
    assert_eq!(below, Belief { name: true, attributes: false }, "it is not watched itself");
    let linked = table.name(table.begin(), (FOLDER, b"linked"), &Told::new(FILE + 2, false, false));
    assert_eq!(linked, Belief { name: true, attributes: false });
    let mounted = table.name(table.begin(), (FOLDER, b"mounted"), &told(2 << 47 | 5));
    assert_eq!(mounted, Belief { name: true, attributes: false });
    let unwatched = table.name(table.begin(), (FILE + 1, b"x"), &told(FILE + 3));
    assert_eq!(unwatched, Belief::default());
}

#[test]
fn the_worker_s_own_changes_are_followed() {
    let mut table = table();
    let begun = table.begin();
    assert!(table.renaming(begun, (FOLDER, b"file"), (FOLDER, b"new"), false).is_empty());
    assert_eq!(table.change(&of_content(b"file")), [] as [Vec<u8>; 0]);
    assert_eq!(table.change(&of_name(b"new")), [name_changed(FOLDER, b"new"), attributes_changed(FILE)]);
    // Out of what is watched, or while the folder changes, the kernel takes a belief along that nobody would correct.
    for (to, changes) in [(FILE + 1, false), (FOLDER, true)] {
        ask(&mut table, b"file", FILE);
        let begun = table.begin();
        if changes {
            table.change(&change(b"another"));
        }
        let told = table.renaming(begun, (FOLDER, b"file"), (to, b"there"), false);
        assert_eq!(told, [name_changed(to, b"there")]);
    }
    ask(&mut table, b"a", FILE);
    ask(&mut table, b"b", FILE + 1);
    let begun = table.begin();
    assert!(table.renaming(begun, (FOLDER, b"a"), (FOLDER, b"b"), true).is_empty());
    assert_eq!(table.change(&of_content(b"a")), [content_changed(FILE + 1)]);
    assert_eq!(table.change(&of_content(b"b")), [content_changed(FILE)]);
    table.removal((FOLDER, b"a"));
    assert_eq!(table.change(&of_name(b"a")), [] as [Vec<u8>; 0]);
}

#[test]
fn where_anything_may_have_changed_all_that_is_believed_is_told_once() {
    let mut table = table();
    let begun = table.begin();
    table.attributes(begun, &Told::new(FOLDER, true, false));
    let mut all = table.all_changed();
    all.sort();
    let mut wanted = vec![name_changed(FOLDER, b"file"), content_changed(FILE), attributes_changed(FOLDER)];
    wanted.sort();
    assert_eq!(all, wanted);
    assert!(table.all_changed().is_empty());
    assert_eq!(table.name(begun, (FOLDER, b"file"), &told(FILE)), Belief::default(), "it was asked before");
    assert!(ask(&mut table, b"file", FILE).attributes);
}

#[test]
fn what_is_forgotten_leaves_nothing_and_no_more_is_watched_or_believed_than_may() {
    const SAME: u64 = 2 << 47 | 10;
    let mut table = table();
    table.watched(SAME, Some(id(1)));
    assert!(!table.wants(FOLDER + 9), "two are watched");
    for (folder, name) in [(3, b"one"), (3, b"two")] {
        let begun = table.begin();
        table.name(begun, (folder, name), &Told::new(FOLDER, true, false));
        table.name(begun, (folder, name), &Told::new(SAME, true, false));
    }
    assert_eq!((table.forget(FILE, 1), table.names), (None, 0));
    assert_eq!(table.forget(FOLDER, 1), None, "it was told twice");
    assert_eq!(table.forget(FOLDER, 1), Some(false), "the same folder is watched by way of another mount");
    assert!(table.wants(FOLDER + 9));
    assert_eq!(table.forget(SAME, 2), Some(true));
    assert!(table.nodes.is_empty() && table.folders.is_empty() && table.by_id.is_empty());
    table.watched(FOLDER, None);
    assert!(table.folders.is_empty(), "nobody was told of it");
    table.name(0, (3, b"folder"), &Told::new(FOLDER, true, false));
    table.watched(FOLDER, None);
    assert!(!table.wants(FOLDER));
    assert_eq!(ask(&mut table, b"file", FILE), Belief::default());
    table.watched(FOLDER, Some(id(1)));
    table.names = MOST_NAMES;
    assert_eq!(ask(&mut table, b"file", FILE), Belief::default());
}

#[test]
fn where_nothing_can_be_watched_any_more_nothing_is_believed() {
    let mut table = table();
    assert_eq!(table.give_up(), [name_changed(FOLDER, b"file"), content_changed(FILE)]);
    assert_eq!(ask(&mut table, b"file", FILE), Belief::default());
    assert!(!table.wants(FOLDER + 9));
    table.watched(FOLDER, Some(id(1)));
    assert_eq!(ask(&mut table, b"file", FILE), Belief::default(), "it was being watched meanwhile");
    assert_eq!(table.forget(FOLDER, 1), None);
}

#[test]
fn what_is_not_there_is_believed_until_it_is_there() {
    let mut table = table();
    let begun = table.begin();
    assert_eq!(table.absence(begun, (FOLDER, b"new")), Some(vec![]));
    assert_eq!(table.change(&of_name(b"new")), [name_changed(FOLDER, b"new")]);
    assert_eq!(table.absence(begun, (FOLDER, b"other")), None, "it was asked before");
    assert_eq!(table.absence(table.begin(), (FILE, b"other")), None, "nobody watches");
    // The worker makes it itself.
    let begun = table.begin();
    table.absence(begun, (FOLDER, b"made"));
    assert!(ask(&mut table, b"made", FILE + 1).name);
    assert_eq!(table.change(&of_name(b"made")), [name_changed(FOLDER, b"made"), attributes_changed(FILE + 1)]);
    table.change(&of_name(b"file"));
    assert_eq!(table.names, 0);
    let begun = table.begin();
    for n in 0..MOST_ABSENT {
        assert_eq!(table.absence(begun, (FOLDER, &n.to_ne_bytes())), Some(vec![]));
    }
    let told = table.absence(begun, (FOLDER, b"one too many")).unwrap();
    assert!(told.len() == MOST_ABSENT && told.contains(&name_changed(FOLDER, &7usize.to_ne_bytes())));
    assert_eq!(table.names, 1);
    assert_eq!(table.all_changed(), [name_changed(FOLDER, b"one too many")]);
    table.absence(table.begin(), (FOLDER, b"x"));
    table.forget(FOLDER, 0);
    table.nodes.entry(FOLDER).or_default().told = 1;
    table.forget(FOLDER, 1);
    assert_eq!(table.names, 0);
}

#[test]
fn content_is_kept_while_nobody_changes_it_and_for_a_minute() {
    let mut table = table();
    let at = Duration::from_secs;
    assert!(!table.opening(FILE, at(100)), "nobody knows since when it is there");
    assert!(!table.opening(FILE, at(101)), "nothing was read");
    table.content(FILE);
    assert!(table.opening(FILE, at(102)) && table.opening(FILE, at(160)));
    assert!(!table.opening(FILE, at(161)) && table.opening(FILE, at(162)));
    table.change(&change(b"file"));
    assert!(table.opening(FILE, at(163)), "only its attributes changed");
    table.change(&of_content(b"file"));
    assert!(!table.opening(FILE, at(164)));
    table.content(FILE);
    assert!(table.opening(FILE, at(165)));
    table.writing(FILE);
    assert!(!table.opening(FILE, at(166)));
    // Whose other names are not watched.
    let begun = table.begin();
    table.attributes(begun, &Told::new(FILE, false, false));
    table.content(FILE);
    assert!(!table.opening(FILE, at(167)));
}

#[test]
fn who_closes_is_told_nothing_in_a_quiet_folder_of_the_same_mount() {
    let mut table = table();
    assert!(!table.closes_quietly(FILE));
    table.quiet(FOLDER);
    assert!(table.closes_quietly(FILE) && !table.closes_quietly(FOLDER));
    ask(&mut table, b"mounted", 2 << 47 | 5);
    assert!(!table.closes_quietly(2 << 47 | 5));
    table.change(&of_name(b"file"));
    assert!(!table.closes_quietly(FILE), "nobody knows its folder");
    table.quiet(FILE);
    table.give_up();
    table.quiet(FOLDER);
    assert!(!table.closes_quietly(FILE));
}

#[test]
fn that_a_file_has_no_capabilities_is_believed_until_it_is_told_otherwise() {
    let mut table = table();
    let begun = table.begin();
    table.change(&change(b"file"));
    assert!(!table.bare(begun, FILE), "it changed meanwhile");
    assert!(table.bare(table.begin(), FILE));
    assert_eq!(table.change(&change(b"file")), [attributes_changed(FILE)]);
    assert_eq!(table.change(&change(b"file")), [] as [Vec<u8>; 0]);
    let begun = table.begin();
    table.name(begun, (FOLDER, b"linked"), &Told::new(FILE + 2, false, false));
    assert!(!table.bare(begun, FILE + 2) && !table.bare(begun, FILE + 3));
}

//! Names that home takes away while the worker's kernel still believes them.

use super::*;

/// Looks at the file, waits until it is told to, and opens it: by its name, or by the descriptor that it has.
const OPENER: &str = r#"
import os, sys
name = os.environ['D'] + '/file'
f = open(name)
os.stat(name)
print('looked', flush=True)
sys.stdin.readline()
for path in name, f'/proc/self/fd/{f.fileno()}', name, f'/proc/self/fd/{f.fileno()}':
    try: print(open(path).read(), end=' ')
    except FileNotFoundError: print('none', end=' ')
"#;

#[test]
fn a_name_that_home_took_away_opens_nothing_old_and_a_file_without_one_is_there_for_who_has_it() {
    let Some(lab) = lab() else { return };
    let data = lab.dir.path().join("data");
    std::fs::write(data.join("opener.py"), OPENER).unwrap();
    let opens = |change: &dyn Fn()| {
        std::fs::write(data.join("file"), "old").unwrap();
        let mut child =
            lab.there("exec /usr/bin/python3 $D/opener.py").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn();
        let child = child.as_mut().unwrap();
        let mut said = [0; 7];
        child.stdout.as_mut().unwrap().read_exact(&mut said).unwrap();
        change();
        std::io::Write::write_all(child.stdin.as_mut().unwrap(), b"\n").unwrap();
        let mut said = String::new();
        child.stdout.take().unwrap().read_to_string(&mut said).unwrap();
        assert!(child.wait().unwrap().success());
        said
    };
    assert_eq!(opens(&|| std::fs::remove_file(data.join("file")).unwrap()), "none old none old ");
    let replace = || {
        std::fs::write(data.join("new"), "new").unwrap();
        std::fs::rename(data.join("new"), data.join("file")).unwrap();
    };
    assert_eq!(opens(&replace), "new old new old ");
}

//! What is run on a worker through ssh, rendered and read: pure. Folders are checked by the configuration to be words of a
//! shell; everything else crosses as standard input.

use std::path::Path;

/// The folder of a worker's programs.
pub(super) fn programs(directory: &Path) -> String {
    format!("{}/bin", directory.display())
}

/// What the worker says of itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Told {
    /// `uname -sm`.
    pub(super) system: String,
    /// As whom ssh came in.
    pub(super) uid: Option<u32>,
    /// SHA-256 of the programs that are there.
    pub(super) files: Vec<(String, String)>,
}

impl Told {
    /// SHA-256 of this program, where it is there.
    pub(super) fn has(&self, name: &str) -> Option<&str> {
        self.files.iter().find(|(n, _)| n == name).map(|(_, hash)| hash.as_str())
    }
}

/// Asks it.
pub(super) fn ask(directory: &Path) -> String {
    let programs = programs(directory);
    format!(
        "echo system $(uname -sm); echo uid $(id -u); \
         for name in grid criu; do [ -f {programs}/$name ] && echo file $name $(sha256sum <{programs}/$name); done; true"
    )
}

/// Reads its answer; lines that a login script may add are not taken for it.
pub(super) fn told(text: &str) -> Told {
    let mut told = Told::default();
    for line in text.lines() {
        match line.split_whitespace().collect::<Vec<_>>()[..] {
            ["system", name, machine] => told.system = format!("{name} {machine}"),
            ["uid", uid] => told.uid = uid.parse().ok(),
            ["file", name, hash, ..] if hash.len() == 64 => told.files.push((name.to_owned(), hash.to_owned())),
            _ => {}
        }
    }
    told
}

/// Takes a program from standard input: whole, or not at all. What runs already keeps its own file.
pub(super) fn take(directory: &Path, name: &str) -> String {
    let programs = programs(directory);
    format!(
        "umask 022 && mkdir -p {programs} && cat >{programs}/.{name}.new && chmod 755 {programs}/.{name}.new && \
         mv -f {programs}/.{name}.new {programs}/{name}"
    )
}

/// Each program there can be started; what it says otherwise is its loader's.
pub(super) fn works(directory: &Path) -> String {
    let programs = programs(directory);
    format!("{programs}/grid --version >/dev/null && {programs}/criu --version >/dev/null")
}

/// A folder in which the user's ssh makes the forwarded socket, and nobody else anything.
pub(super) fn doorstep(directory: &Path, uid: u32) -> String {
    let (folder, socket) = (folder(directory), socket(directory));
    format!("mkdir -p -m 711 {folder} && chown {uid} {folder} && rm -f {socket}")
}

/// The channel comes to it as a user of its own; what it says there is encrypted.
pub(super) fn open(directory: &Path) -> String {
    format!("chmod 666 {}", socket(directory))
}

fn folder(directory: &Path) -> String {
    format!("{}/ssh", directory.display())
}

/// The forwarded socket, on the worker.
pub(super) fn socket(directory: &Path) -> String {
    format!("{}/head.sock", folder(directory))
}

/// As root, where ssh came in as somebody else.
pub(super) fn as_root(uid: u32, script: &str) -> String {
    if uid == 0 { script.to_owned() } else { format!("sudo -n sh -c '{}'", script.replace('\'', r"'\''")) }
}

/// What ssh said, in a line: of a changed key it paints a box.
pub(super) fn short(said: &str) -> String {
    if said.contains("REMOTE HOST IDENTIFICATION HAS CHANGED") {
        return "Host key verification failed: it shows another key than the one that ssh knows".to_owned();
    }
    said.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// What to do about what ssh said.
pub(super) fn hint(said: &str, host: &str) -> Option<String> {
    let has = |what: &str| said.contains(what);
    if has("Host key verification failed") {
        Some(format!("ssh {host} by hand, and compare the fingerprint with the machine's own before you accept it"))
    } else if has("Permission denied") {
        Some(format!("ssh {host} must work without a question: ssh-copy-id {host}, or ssh-add"))
    } else if has("it did not end within") {
        Some(format!("ssh {host} true must end at once, and print nothing: look at what its login shell does there"))
    } else if has("Could not resolve") {
        Some("the node's host, as your ssh knows it".to_owned())
    } else if has("GLIBC_") {
        Some("the grid of `make build` or of the package, which brings its C library with it".to_owned())
    } else if has("loading shared libraries") {
        Some("the CRIU of scripts/install-criu or of the package, which needs none; or install criu there".to_owned())
    } else if has("a password is required") || has("sudo:") {
        Some("a rule in sudoers that lets this user run grid without a password, or log in as root".to_owned())
    } else {
        Some(format!("ssh {host} true"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_worker_says_is_read_between_other_lines() {
        let hash = "a".repeat(64);
        let text = format!("Welcome to gpu1\nsystem Linux x86_64\nuid 1000\nfile grid {hash} -\nfile criu short\n");
        let told = told(&text);
        assert_eq!((told.system.as_str(), told.uid), ("Linux x86_64", Some(1000)));
        assert_eq!((told.has("grid"), told.has("criu")), (Some(hash.as_str()), None));
    }

    #[test]
    fn a_script_is_one_word_for_sudo() {
        assert_eq!(as_root(0, "a 'b'"), "a 'b'");
        assert_eq!(as_root(7, "a 'b'"), r"sudo -n sh -c 'a '\''b'\'''");
    }

    #[test]
    fn what_ssh_says_is_one_line() {
        assert_eq!(short("a\r\n  b  \n"), "a b");
        assert!(short("@@@ WARNING: REMOTE HOST IDENTIFICATION HAS CHANGED! @@@").starts_with("Host key verification"));
    }

    #[test]
    fn each_refusal_of_ssh_has_something_to_do() {
        for (said, part) in [
            ("Host key verification failed.", "compare the fingerprint"),
            ("alice@gpu1: Permission denied (publickey).", "ssh-copy-id gpu1"),
            ("ssh: Could not resolve hostname gpu1", "as your ssh knows it"),
            ("it did not end within 30 s", "what its login shell does"),
            ("sudo: a password is required", "sudoers"),
            ("/x/grid: /lib/libc.so.6: version `GLIBC_2.34' not found (required by /x/grid)", "make build"),
            ("criu: error while loading shared libraries: libnet.so.1: cannot open", "install criu there"),
            ("connect to host gpu1 port 22: Connection refused", "ssh gpu1 true"),
        ] {
            assert!(hint(said, "gpu1").unwrap_or_default().contains(part), "{said}");
        }
    }
}

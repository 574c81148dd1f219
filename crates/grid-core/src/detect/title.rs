//! What people see of a process: the executable's name and its script, never the environment, secrets masked.
//!
//! `comm` and `argv[0]` can be set to anything, so the executable decides; `argv[0]` is believed only where it is another
//! form of the same name (`python3` for `python3.11`).

use super::names;
use grid_types::facts::{ProcDeep, ProcFacts};

/// Longest title, in characters.
const LENGTH: usize = 60;
/// Interpreters whose first plain argument is the program.
const INTERPRETERS: &[&str] =
    &["python", "pypy", "node", "nodejs", "bun", "deno", "perl", "ruby", "php", "Rscript", "julia", "lua", "java"];
/// Their options that take the next argument.
const WITH_VALUE: &[&str] =
    &["-W", "-X", "-r", "--require", "--import", "-cp", "-classpath", "--class-path", "-I", "--loader"];
/// Parts of an option's or variable's name that mean a secret.
const SECRET_NAMES: &[&str] = &[
    "passw",
    "passphrase",
    "pwd",
    "secret",
    "token",
    "apikey",
    "api-key",
    "api_key",
    "accesskey",
    "access-key",
    "access_key",
    "privatekey",
    "private-key",
    "private_key",
    "credential",
    "auth",
    "bearer",
];
/// How tokens of well-known issuers begin.
const SECRET_PREFIXES: &[&str] = &["ghp_", "gho_", "github_pat_", "glpat-", "sk-", "hf_", "AKIA", "xoxb-", "xoxp-"];
const MASK: &str = "***";

/// What an interpreter runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Program<'a> {
    /// A file, by its path.
    Script(&'a str),
    /// `-m module`.
    Module(&'a str),
    /// Text on the command line, which is never shown.
    Inline,
}

/// The last part of a path.
pub(super) fn base(path: &str) -> &str {
    let path = path.strip_suffix(" (deleted)").unwrap_or(path);
    path.rsplit('/').next().unwrap_or(path)
}

/// The program's name: the executable's, in the form it was called by where that is the same name.
pub(super) fn name(p: &ProcFacts) -> &str {
    let Some(deep) = &p.deep else { return &p.stat.comm };
    let Some(exe) = deep.exe.as_deref().map(base) else { return &p.stat.comm };
    let called = deep.argv.first().map_or("", |a| base(a.split(' ').next().unwrap_or("")).trim_start_matches('-'));
    // Programs that are several in one: the name that they were called by says which.
    let several_in_one = exe == "busybox" || exe.starts_with("redis-check-") || waits(deep);
    if !called.is_empty() && (exe.starts_with(called) || several_in_one) { called } else { exe }
}

/// It is what waits in a command's place for `grid run --private`, called as the command will be.
fn waits(deep: &ProcDeep) -> bool {
    deep.claims_run && deep.exe.as_deref().map(base) == Some("grid")
}

/// What an interpreter runs; none for other programs, and for an interpreter that waits for input.
pub(super) fn program(p: &ProcFacts) -> Option<Program<'_>> {
    let deep = p.deep.as_ref()?;
    let exe = if waits(deep) { base(deep.argv.first()?) } else { base(deep.exe.as_deref()?) };
    let shell = names::is_shell(exe);
    if !shell
        && !INTERPRETERS
            .iter()
            .any(|i| exe.strip_prefix(i).is_some_and(|rest| rest.chars().all(|c| c.is_ascii_digit() || c == '.')))
    {
        return None;
    }
    let mut arguments = deep.argv.iter().skip(1).map(String::as_str);
    while let Some(argument) = arguments.next() {
        match argument {
            "-m" if !shell => return arguments.next().map(Program::Module),
            "-c" | "-e" | "--eval" | "-p" | "--print" => return Some(Program::Inline),
            "-jar" => return arguments.next().map(Program::Script),
            "-" | "-s" | "-i" => return None,
            a if WITH_VALUE.contains(&a) => drop(arguments.next()),
            a if a.starts_with('-') || a.is_empty() => {}
            a => return Some(Program::Script(a)),
        }
    }
    None
}

/// A title for people. `hide_arguments` for those to whom the process does not belong.
pub fn title(p: &ProcFacts, hide_arguments: bool) -> String {
    let name = name(p);
    let mut text = name.to_owned();
    if !hide_arguments {
        match program(p) {
            Some(Program::Script(path)) => text.extend([" ", base(path)]),
            Some(Program::Module(module)) => text.extend([" -m ", module]),
            Some(Program::Inline) => text.push_str(" -c …"),
            None if names::SHOW_ARGUMENTS.contains(&name) => {
                let arguments = p.deep.as_ref().map_or(Vec::new(), |d| masked(&d.argv));
                arguments.iter().skip(1).for_each(|a| text.extend([" ", base(a)]));
            }
            None => {}
        }
    }
    printable(&text)
}

/// Control characters escaped, the length bounded: a title must not steer a terminal.
fn printable(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for (n, c) in text.chars().enumerate() {
        if n >= LENGTH {
            out.push('…');
            break;
        }
        if c.is_control() || matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}') {
            out.extend(c.escape_default());
        } else {
            out.push(c);
        }
    }
    out
}

/// Arguments with secrets replaced: `--password=x`, `--token x`, `KEY_SECRET=x`, `https://user:x@host`, known tokens.
pub fn masked(argv: &[String]) -> Vec<String> {
    let mut out = Vec::with_capacity(argv.len());
    let mut next_is_secret = false;
    let mysql = argv.first().is_some_and(|a| base(a).starts_with("mysql") || base(a).starts_with("mariadb"));
    for argument in argv {
        let secret = std::mem::replace(&mut next_is_secret, false);
        let lower = argument.to_ascii_lowercase();
        let (key, value) = lower.split_once(['=', ':']).map_or((lower.as_str(), None), |(k, v)| (k, Some(v)));
        let named = SECRET_NAMES.iter().any(|s| key.contains(s));
        if secret
            || SECRET_PREFIXES.iter().any(|p| argument.contains(p))
            || (mysql && argument.starts_with("-p") && argument.len() > 2)
        {
            out.push(MASK.to_owned());
        } else if named && value.is_some() && !key.contains('/') {
            out.push(format!("{}{MASK}", &argument[..key.len() + 1]));
        } else {
            next_is_secret = named && argument.starts_with('-') && value.is_none();
            out.push(without_url_secret(argument));
        }
    }
    out
}

/// `https://user:password@host/` → `https://***@host/`.
fn without_url_secret(argument: &str) -> String {
    if let Some((scheme, rest)) = argument.split_once("://")
        && let Some((_, host)) = rest.split('/').next().and_then(|authority| authority.rsplit_once('@'))
    {
        let path = rest.find('/').map_or("", |at| &rest[at..]);
        return format!("{scheme}://{MASK}@{host}{path}");
    }
    argument.to_owned()
}

#[cfg(test)]
mod tests {
    use super::super::testkit::{process, with_exe};
    use super::*;

    fn titled(exe: &str, argv: &[&str]) -> String {
        title(&with_exe(process(1, 1), exe, argv), false)
    }

    #[test]
    fn an_interpreter_shows_its_script() {
        assert_eq!(
            titled("/usr/bin/python3.11", &["python3", "-u", "-W", "ignore", "/home/a/prep.py", "--token", "x"]),
            "python3 prep.py"
        );
        assert_eq!(titled("/usr/bin/python3.11", &["python3", "-m", "http.server"]), "python3 -m http.server");
        assert_eq!(titled("/usr/bin/python3.11", &["python3", "-c", "secret = 5"]), "python3 -c …");
        assert_eq!(titled("/usr/bin/java", &["java", "-cp", "x", "-jar", "/opt/app.jar"]), "java app.jar");
        assert_eq!(titled("/usr/bin/xz", &["xz", "-T2", "/data/dump.tar"]), "xz -T2 dump.tar");
        assert_eq!(titled("/opt/solver", &["solver", "hunter2"]), "solver");
    }

    #[test]
    fn what_waits_in_a_commands_place_is_called_as_the_command() {
        let mut waits = with_exe(process(1, 1), "/usr/bin/grid", &["/usr/bin/python3", "/home/a/prep.py", "x"]);
        assert_eq!(title(&waits, false), "grid");
        waits.deep.as_mut().unwrap().claims_run = true;
        assert_eq!(title(&waits, false), "python3 prep.py");
        assert_eq!(title(&waits, true), "python3");
    }

    #[test]
    fn a_process_cannot_choose_its_title() {
        assert_eq!(titled("/usr/bin/node", &["next-server (v15)"]), "node");
        assert_eq!(titled("/usr/bin/redis-check-rdb", &["redis-server *:6379", ""]), "redis-server");
        assert_eq!(
            titled("/usr/bin/python3", &["python3", "a\x1b[31m\u{202e}.py"]),
            "python3 a\\u{1b}[31m\\u{202e}.py"
        );
        assert!(
            titled("/x", &["x"]).len() < 5
                && titled("/usr/bin/perl", &["perl", &"y".repeat(500)]).chars().count() == LENGTH + 1
        );
    }

    #[test]
    fn other_peoples_arguments_are_hidden() {
        let p = with_exe(process(1, 1), "/usr/bin/python3", &["python3", "private.py"]);
        assert_eq!(title(&p, true), "python3");
    }

    #[test]
    fn secrets_are_masked() {
        let argv = [
            "x",
            "--password=a",
            "--api-key",
            "b",
            "DB_TOKEN=c",
            "https://u:d@h/p",
            "ghp_e",
            "--out",
            "f",
            "Authorization: Bearer g",
        ];
        let shown = masked(&argv.map(str::to_owned));
        assert_eq!(
            shown,
            [
                "x",
                "--password=***",
                "--api-key",
                "***",
                "DB_TOKEN=***",
                "https://***@h/p",
                "***",
                "--out",
                "f",
                "Authorization:***"
            ]
        );
        assert_eq!(masked(&["mysql".to_owned(), "-phunter2".to_owned()])[1], "***");
    }
}

//! Every key of the file: its shape, whether it must be there, and what it means here. Checking, explaining and
//! printing all read this one table.

use super::schema_nodes::NODE;

/// A key of a section.
#[derive(Debug)]
pub(super) struct Key {
    pub(super) name: &'static str,
    pub(super) shape: Shape,
    pub(super) required: bool,
    pub(super) meaning: &'static str,
}

/// What a value may look like.
#[derive(Debug)]
pub(super) enum Shape {
    Text(TextRule),
    Word(&'static [Word]),
    Flag,
    Number(Unit, f64, f64),
    Size(Zero),
    Cpu(Zero),
    Span(Zero),
    Texts(TextRule),
    /// Name to text; values may be secrets.
    TextMap,
    /// Anything, uninterpreted; values may be secrets.
    Free,
    /// A mapping. With a second part, one word alone stands for that key.
    Section(&'static [Key], Option<&'static str>),
    /// A list of mappings.
    Sections(&'static [Key]),
}

/// A word that may be written, what it is called here, and what it means.
#[derive(Debug)]
pub(super) struct Word {
    pub(super) written: &'static str,
    pub(super) canonical: &'static str,
    pub(super) meaning: &'static str,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum TextRule {
    Any,
    /// Becomes part of paths and addresses.
    Name,
    /// Becomes an argument of ssh: never begins with a dash.
    Host,
    /// As `Host`.
    User,
    /// Becomes a word of a shell on another machine.
    Directory,
    /// An address of this machine and a port.
    Listen,
    /// A host, by name or address, and a port.
    Dial,
}

/// What a plain number counts, which decides what it is turned into and the hint for a wrong one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unit {
    Count,
    Percent,
    Fraction,
    Seconds,
    Minutes,
    Gib,
    Cpus,
    Weight,
}

/// Whether `0` is a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Zero {
    Refused,
    Allowed,
}

pub(super) const fn key(name: &'static str, shape: Shape, meaning: &'static str) -> Key {
    Key { name, shape, required: false, meaning }
}

pub(super) const fn required(name: &'static str, shape: Shape, meaning: &'static str) -> Key {
    Key { name, shape, required: true, meaning }
}

pub(super) const fn word(written: &'static str, meaning: &'static str) -> Word {
    Word { written, canonical: written, meaning }
}

const DAY: f64 = 86_400.0;
const PERCENT: Shape = Shape::Number(Unit::Percent, 1.0, 100.0);
const FRACTION: Shape = Shape::Number(Unit::Fraction, 0.0, 1.0);
const SECONDS: Shape = Shape::Number(Unit::Seconds, 0.1, DAY);
const ANY: Shape = Shape::Text(TextRule::Any);

const fn count(low: u32, high: u32) -> Shape {
    Shape::Number(Unit::Count, low as f64, high as f64)
}

pub(super) const ROOT: &[Key] = &[
    required("name", ANY, "name of the cluster"),
    required("nodes", Shape::Sections(NODE), "the machines; exactly one is the head"),
    key("execution", Shape::Section(EXECUTION, None), "how work runs and is shared"),
    key("detector", Shape::Section(DETECTOR, None), "which processes grid leaves alone"),
    key("limits", Shape::Section(LIMITS, None), "limits of boosts and moves"),
    key("users", Shape::Section(USERS, None), "who may do what, and as whom the head's daemon runs"),
    key("logging", Shape::Section(LOGGING, None), "accepted from the original"),
];

const EXECUTION: &[Key] = &[
    key("engine", Shape::Word(ENGINES), "how workers are reached"),
    key("ssh_config", ANY, "configuration of ssh in place of your own"),
    key(
        "worker_directory",
        Shape::Text(TextRule::Directory),
        "folder on a worker below which grid keeps what it has there",
    ),
    key("files", Shape::Word(FILES), "which files a process sees on a worker that is another machine"),
    key(
        "link_rate_limit",
        Shape::Size(Zero::Refused),
        "memory a second that leaves a machine for another at most, as it crosses; without it, what the link carries",
    ),
    key(
        "shared_paths",
        Shape::Texts(TextRule::Directory),
        "with files: home, folders that are the same on head and workers (proven before each move): no detour over the head",
    ),
    key(
        "local_paths",
        Shape::Texts(TextRule::Directory),
        "with files: home, folders that each worker has for itself: who uses a file there does not move",
    ),
    key(
        "files_patience",
        Shape::Span(Zero::Refused),
        "with files: home, who uses the head's files gets I/O errors once the head has been away for so long; without it, waits",
    ),
    key(
        "link_listen",
        Shape::Text(TextRule::Listen),
        "address and port of the head at which its workers' connections are accepted directly; without it, only through ssh",
    ),
    key(
        "link_dial",
        Shape::Text(TextRule::Dial),
        "with link_listen, the host and port that workers dial for it; without it, the same",
    ),
    key("default_nodes", count(1, 10_000), "kept for the Ray engine; not used"),
    key("default_gpus_per_node", count(0, 1024), "kept for the Ray engine; not used"),
    key(
        "timeout_seconds",
        Shape::Number(Unit::Seconds, 0.0, 365.0 * DAY),
        "kept for the Ray engine; not used: a move is bounded by limits.max_frozen",
    ),
    key("retry_attempts", count(0, 1000), "kept for the Ray engine; not used: nothing is started twice"),
    key("working_directory", ANY, "kept for the Ray engine; not used: a moved process keeps its directory"),
    key("environment", Shape::TextMap, "kept for the Ray engine; not used: a moved process keeps its environment"),
    key("resource_sharing", Shape::Section(SHARING, None), "lending between nodes"),
];

const SHARING: &[Key] = &[
    key("enabled", Shape::Flag, "nodes lend at all"),
    key("mode", Shape::Word(MODES), "where a process goes that is relieved"),
    key("policy", Shape::Word(POLICIES), "how much of itself a lender keeps free"),
    key("rebalance_interval_seconds", SECONDS, "accepted, not used: grid acts on pressure and boosts, not on a timer"),
    key(
        "allocation_timeout_minutes",
        Shape::Number(Unit::Minutes, 0.01, 525_600.0),
        "accepted, not used: a boost is granted or refused at once, nothing waits",
    ),
    key("monitoring_interval_seconds", SECONDS, "accepted, not used: every node reports each second"),
    key("thresholds", Shape::Section(THRESHOLDS, None), "when pressure is high and low"),
    key("auto_offload", Shape::Section(AUTO_OFFLOAD, Some("mode")), "whether grid moves by itself"),
];

const ENGINES: &[Word] = &[
    word("local", "each is made on this machine, in namespaces of its own"),
    word("ssh", "each is another machine, reached by your own ssh"),
];

const FILES: &[Word] = &[
    word("same", "the worker's own; a process goes only where those that it uses are the same"),
    word("home", "the head's, under their own paths"),
];

const MODES: &[Word] = &[
    word("offload_only", "always the recommended worker"),
    word("share_and_offload", "the head's own or boosted capacity if it fits there and may share, else a worker"),
    word("dynamic_balancing", "by memory rule, fit and mean pressure"),
];

const POLICIES: &[Word] = &[
    word("conservative", "twice thresholds.excess_threshold"),
    word("balanced", "thresholds.excess_threshold"),
    word("aggressive", "half of thresholds.excess_threshold"),
    word("predictive", "accepted; the same as balanced"),
];

const THRESHOLDS: &[Key] = &[
    key(
        "cpu_pressure_high",
        FRACTION,
        "accepted; cpu_pressure_low must be below it, and auto_offload.cpu_threshold is what triggers",
    ),
    key(
        "cpu_pressure_low",
        FRACTION,
        "CPU pressure is over after 10 s below auto_offload.cpu_threshold less 10 points, or below this fraction where that is higher",
    ),
    key(
        "memory_pressure_high",
        FRACTION,
        "with mode: dynamic_balancing, a process is to leave the head while this fraction of its memory, boosts counted, is in use; auto_offload.memory_threshold is what triggers",
    ),
    key(
        "memory_pressure_low",
        FRACTION,
        "memory pressure is over after 10 s below auto_offload.memory_threshold less 10 points, or below this fraction where that is higher",
    ),
    key(
        "gpu_pressure_high",
        FRACTION,
        "accepted; gpu_pressure_low must be below it, and auto_offload.gpu_threshold is what triggers",
    ),
    key(
        "gpu_pressure_low",
        FRACTION,
        "GPU pressure is over after 10 s below auto_offload.gpu_threshold less 10 points, or below this fraction where that is higher",
    ),
    key(
        "excess_threshold",
        Shape::Number(Unit::Fraction, 0.0, 0.9),
        "fraction of its capacity that a lender keeps free",
    ),
];

const AUTO_OFFLOAD: &[Key] = &[
    key("enabled", Shape::Flag, "the original's switch: true means mode on, false means mode off"),
    key("mode", Shape::Word(AUTO), "whether grid moves processes by itself"),
    key(
        "head_only_mode",
        Shape::Flag,
        "accepted, not used: only processes of the head are moved by themselves, either way",
    ),
    key("cpu_threshold", PERCENT, "percent of the head's CPU that triggers when it lasts for 30 s"),
    key("memory_threshold", PERCENT, "percent of the head's memory that triggers when it lasts for 30 s"),
    key("gpu_threshold", PERCENT, "percent of a GPU that triggers when it lasts for 30 s"),
    key("critical_threshold", PERCENT, "percent of memory in use from which a round is critical: then 5 s are enough"),
    key("check_interval_seconds", SECONDS, "seconds between looks"),
    key(
        "cooldown_seconds",
        Shape::Number(Unit::Seconds, 0.0, DAY),
        "seconds for which a process that was moved, or whose move failed, is left alone; twice as long with each further failure in a row, up to 32 times",
    ),
    key("per_boost", count(0, 1000), "most processes moved when a boost becomes active"),
    key("per_round", count(0, 1000), "most processes moved in a round of pressure"),
    key("per_critical_round", count(0, 1000), "most processes moved in a critical round"),
    key("burst", count(1, 1000), "activations of boosts that may move processes at once"),
    key("refill_seconds", SECONDS, "seconds after which one more activation may"),
];

const AUTO: &[Word] = &[
    word("off", "never looks"),
    word("observe", "says what it would do and does nothing"),
    word("on", "does it"),
    Word { written: "true", canonical: "on", meaning: "does it" },
    Word { written: "false", canonical: "off", meaning: "never looks" },
];

const DETECTOR: &[Key] = &[
    key("min_age", Shape::Span(Zero::Allowed), "younger processes are left alone"),
    key("min_memory", Shape::Size(Zero::Allowed), "smaller processes are left alone"),
    key(
        "worth_cpu",
        Shape::Cpu(Zero::Allowed),
        "CPUs; with less than this and less than worth_memory a process is left alone",
    ),
    key("worth_memory", Shape::Size(Zero::Allowed), "see worth_cpu"),
    key(
        "protected_users",
        Shape::Texts(TextRule::User),
        "users, by name or number, whose processes grid never chooses",
    ),
    key(
        "tcp_connections",
        Shape::Word(TCP_CONNECTIONS),
        "what becomes of established TCP connections of a process that would move",
    ),
    key("rules", Shape::Sections(RULE), "your rules about processes; the first that matches wins"),
];

const RULE: &[Key] = &[
    key("name", ANY, "shown in reasons"),
    key("exe", ANY, "matches the executable's path; * is any run, ? any one character"),
    key("comm", ANY, "and the short name"),
    key("arg", ANY, "and some argument"),
    key("user", Shape::Text(TextRule::User), "and the owner, by name or number"),
    key("kind", Shape::Word(KINDS), "what such a process is, in place of the built-in answer"),
    key("action", Shape::Word(ACTIONS), "what grid does with such a process"),
];

const KINDS: &[Word] = &[
    word("training", "trains a model"),
    word("inference", "serves a model"),
    word("data_processing", "transforms data"),
    word("compute", "computes"),
    word("io", "mostly reads and writes"),
    word("batch", "batch work without a terminal"),
    word("interactive", "talks with a person"),
    word("daemon", "serves others and never ends"),
];

const ACTIONS: &[Word] = &[
    word("allow", "grid may choose it though a default protects it"),
    word("protect", "grid never chooses it by itself"),
];

const LIMITS: &[Key] = &[
    key("boost_duration", Shape::Span(Zero::Refused), "duration of a boost that names none"),
    key("max_boost_duration", Shape::Span(Zero::Refused), "longest duration of a boost"),
    key("max_frozen", Shape::Span(Zero::Refused), "a move that would freeze its process for longer is refused"),
    key("plan_validity", Shape::Span(Zero::Refused), "a plan can be applied for so long"),
    key("facts_every", Shape::Span(Zero::Refused), "each node tells the head so often what it has and uses"),
    key("stale_after", Shape::Span(Zero::Refused), "facts older than this are unknown"),
    key("at_end", Shape::Word(AT_END), "what happens with moved processes when their boost ends"),
    key("history", count(0, 1_000_000), "records kept of ended boosts and offloads"),
];

const TCP_CONNECTIONS: &[Word] = &[
    word("refuse", "it stays while it has one"),
    word("close", "they are closed, also by moves that grid makes by itself"),
];

const AT_END: &[Word] = &[
    word("recall", "home if it fits whole there, else to another lease, else it stays and is reported"),
    word("stay", "stays and is reported"),
    word("park", "parked on its lender's disk; where that fails it stays and is reported"),
    word("end", "ended by force"),
];

const USERS: &[Key] = &[
    key("daemon", Shape::Text(TextRule::User), "user of the head's daemon; default: `grid`, else a number nobody uses"),
    key("boost_group", Shape::Text(TextRule::User), "members of this group, and root, may boost"),
];

const LOGGING: &[Key] = &[
    key("level", Shape::Word(LEVELS), "accepted, not used: what happened is in the journal (`grid events`)"),
    key("format", ANY, "accepted, not used: `--output` chooses the form"),
    key("file_path", ANY, "accepted, not used: messages go to standard error, events to the journal"),
];

const LEVELS: &[Word] = &[
    word("DEBUG", ""),
    word("INFO", ""),
    word("WARNING", ""),
    Word { written: "WARN", canonical: "WARNING", meaning: "" },
    word("ERROR", ""),
    word("CRITICAL", ""),
];

/// The section that some key of this name belongs in (`execution.resource_sharing`), for one in the wrong place.
pub(super) fn home_of(name: &str) -> Option<String> {
    fn look(keys: &[Key], path: &str, name: &str) -> Option<String> {
        keys.iter().find_map(|k| {
            if k.name == name {
                return Some(if path.is_empty() { "the top level".to_owned() } else { path.to_owned() });
            }
            let dot = if path.is_empty() { "" } else { "." };
            match &k.shape {
                Shape::Section(keys, _) => look(keys, &format!("{path}{dot}{}", k.name), name),
                Shape::Sections(keys) => look(keys, &format!("{path}{dot}{}[]", k.name), name),
                _ => None,
            }
        })
    }
    look(ROOT, "", name)
}

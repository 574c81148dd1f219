//! What a process is for, with the rule that said so. The user's rules come first, then the built-in tables, then its
//! behaviour.

use super::title::{self, Program, base, name};
use super::{DetectContext, names, rules};
use grid_types::facts::{FdKind, ProcDeep, ProcFacts, TreeFacts};
use grid_types::policy::{Detector, ProcessKind, ProcessRule, RuleAction};
use grid_types::reason::ReasonCode;

/// Less CPU than this, in thousandths, with a terminal as its input: it waits for a person.
const WAITING_CPU: u32 = 50;

/// Kind, why, and the user's rule that applies.
pub(super) struct Class<'p> {
    pub(super) kind: ProcessKind,
    pub(super) why: String,
    pub(super) rule: Option<&'p ProcessRule>,
}

impl Class<'_> {
    pub(super) fn allowed(&self) -> bool {
        self.rule.is_some_and(|r| r.action == Some(RuleAction::Allow))
    }
}

/// Classifies a tree by its root.
pub(super) fn classify<'p>(tree: &TreeFacts, ctx: &DetectContext, policy: &'p Detector) -> Class<'p> {
    let Some(deep) = &tree.root.deep else {
        return Class { kind: ProcessKind::Batch, why: "not looked at".into(), rule: None };
    };
    let rule = rules::find(policy, ctx, &tree.root.stat, deep);
    if let Some((kind, rule)) = rule.and_then(|r| Some((r.kind?, r))) {
        return Class { kind, why: format!("rule \"{}\"", rule.name), rule: Some(rule) };
    }
    let (kind, why) =
        by_words(&tree.root, deep).or_else(|| by_name(&tree.root)).unwrap_or_else(|| by_behaviour(tree, deep));
    Class { kind, why, rule }
}

/// The script's name, and every argument too where a numerical framework is mapped.
fn by_words(root: &ProcFacts, deep: &ProcDeep) -> Option<(ProcessKind, String)> {
    let framework = framework(deep);
    let script = match title::program(root) {
        Some(Program::Script(path)) => base(path),
        Some(Program::Module(module)) => module,
        _ => "",
    };
    let arguments = deep.argv.iter().skip(1).filter(|_| framework.is_some()).map(|a| base(a));
    for text in [name(root), script].into_iter().chain(arguments) {
        let Some((kind, word)) = word_kind(text) else { continue };
        let with = framework.map_or(String::new(), |f| format!(", maps {f}"));
        return Some((kind, format!("\"{word}\" in its name{with}")));
    }
    framework.map(|f| (ProcessKind::Compute, format!("maps {f}")))
}

fn word_kind(text: &str) -> Option<(ProcessKind, &'static str)> {
    let lower = text.to_ascii_lowercase();
    let has = |list: &'static [&'static str]| {
        list.iter().find(|w| lower.split(|c: char| !c.is_ascii_alphabetic()).any(|part| part == **w))
    };
    has(names::TRAINING_WORDS)
        .map(|w| (ProcessKind::Training, *w))
        .or_else(|| has(names::INFERENCE_WORDS).map(|w| (ProcessKind::Inference, *w)))
}

fn framework(deep: &ProcDeep) -> Option<&str> {
    deep.mapped_files.iter().map(|f| base(f)).find(|f| names::FRAMEWORKS.iter().any(|l| f.starts_with(l)))
}

fn by_name(root: &ProcFacts) -> Option<(ProcessKind, String)> {
    let name = name(root);
    if let Some(kind) = names::kind_of(name) {
        return Some((kind, format!("known program {name}")));
    }
    // A shell that runs a script is batch work, unless a person sits at it.
    let script = matches!(title::program(root), Some(Program::Script(_)));
    if names::is_shell(name) && script && root.stat.tty_nr == 0 {
        return Some((ProcessKind::Batch, "a script without a terminal".into()));
    }
    let (code, what) = names::protected(name)?;
    let kind = match code {
        ReasonCode::Database | ReasonCode::Service | ReasonCode::Grid => ProcessKind::Daemon,
        _ => ProcessKind::Interactive,
    };
    Some((kind, format!("{name} is {what}")))
}

fn by_behaviour(tree: &TreeFacts, deep: &ProcDeep) -> (ProcessKind, String) {
    let listens = |k: &FdKind| matches!(k, FdKind::TcpListen { .. } | FdKind::Unix { listening: true, .. });
    let root_terminal = deep.fds.iter().any(|f| f.fd == 0 && matches!(f.kind, FdKind::Tty { .. }));
    if tree.all().filter_map(|p| p.deep.as_ref()).flat_map(|d| &d.fds).any(|f| listens(&f.kind)) {
        (ProcessKind::Daemon, "it listens".into())
    } else if root_terminal && tree.root.stat.cpu.is_some_and(|c| c.0 < WAITING_CPU) {
        (ProcessKind::Interactive, "its input is a terminal and it waits".into())
    } else if tree.root.stat.tty_nr == 0 {
        (ProcessKind::Batch, "no terminal".into())
    } else {
        (ProcessKind::Batch, "it works by itself".into())
    }
}

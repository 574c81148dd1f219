//! Is it worth moving: why grid would not choose a tree by itself.
//!
//! The checks that need only the cheap facts are shared with the first pass.

use super::classify::Class;
use super::{DetectContext, names, rules, title};
use grid_types::facts::{ProcDeep, ProcFacts, ProcStat, TreeFacts};
use grid_types::policy::{Detector, ProcessKind, RuleAction};
use grid_types::reason::{Reason, ReasonCode};
use grid_types::units::{MilliCpu, Resources};

/// First uid of ordinary users (`UID_MIN` of login.defs).
const UID_MIN: u32 = 1000;
/// Uids that systemd draws for services (`DynamicUser=`).
const DYNAMIC_UIDS: std::ops::RangeInclusive<u32> = 61184..=65519;
/// Units of systemd in which people's logins and jobs live, so that living there makes nothing a service.
const LOGIN_UNITS: [&str; 7] = ["ssh", "sshd", "cron", "crond", "atd", "user", "getty"];

/// A protection by owner: who it is, whatever it does.
pub(super) fn owner(stat: &ProcStat, ctx: &DetectContext, policy: &Detector) -> Option<Reason> {
    let reason = |code, detail| Some(Reason::new(code, detail));
    let uid = stat.uid;
    match uid {
        _ if stat.kernel => reason(ReasonCode::Kernel, "a kernel thread".into()),
        _ if ctx.is_anothers(uid) => reason(ReasonCode::Owner, format!("it belongs to {}", ctx.user(uid))),
        _ if stat.id.pid == 1 => reason(ReasonCode::Service, "it is init".into()),
        0 => reason(ReasonCode::Root, "it belongs to root".into()),
        _ if policy.protected_users.iter().any(|u| rules::matches_user(u, ctx, uid)) => {
            reason(ReasonCode::Protected, format!("{} is a protected user", ctx.user(uid)))
        }
        _ => None,
    }
}

/// A system user's process; `nobody` counts as ordinary.
pub(super) fn system_user(stat: &ProcStat, ctx: &DetectContext) -> Option<Reason> {
    let system = stat.uid < UID_MIN || DYNAMIC_UIDS.contains(&stat.uid);
    system.then(|| Reason::new(ReasonCode::Service, format!("{} is a system user", ctx.user(stat.uid))))
}

/// A protection by name, of the short name and of the executable where it is known.
fn by_name(p: &ProcFacts) -> Option<Reason> {
    let exe = p.deep.as_ref().and_then(|d| d.exe.as_deref()).map(title::base);
    protected_name(exe.into_iter().chain([p.stat.comm.as_str()]))
}

/// A protection by the first of these names that has one.
pub(super) fn protected_name<'a>(names: impl IntoIterator<Item = &'a str>) -> Option<Reason> {
    let (name, (code, what)) = names.into_iter().find_map(|n| Some((n, names::protected(n)?)))?;
    Some(Reason::new(code, format!("{} is {what}", name.escape_debug())))
}

/// Younger than the policy wants.
pub(super) fn too_new(stat: &ProcStat, policy: &Detector) -> Option<Reason> {
    let detail = || format!("{} old, less than {}", stat.age, policy.min_age);
    (stat.age < policy.min_age).then(|| Reason::new(ReasonCode::New, detail()))
}

/// Smaller than the policy wants. `cpu` unknown is not zero: it is never called small for that alone.
pub(super) fn too_small(used: Resources, cpu: Option<MilliCpu>, policy: &Detector) -> Option<Reason> {
    if used.memory < policy.min_memory {
        return Some(Reason::new(ReasonCode::Small, format!("{}, less than {}", used.memory, policy.min_memory)));
    }
    if used.memory >= policy.worth_memory {
        return None;
    }
    match cpu {
        None => Some(Reason::new(ReasonCode::Unknown, "its CPU use is not measured yet; look again in a second")),
        Some(cpu) if cpu < policy.worth_cpu => {
            let (least_cpu, least) = (policy.worth_cpu.0, policy.worth_memory);
            Some(Reason::new(
                ReasonCode::Small,
                format!("{}m CPU and {}, less than {least_cpu}m and {least}", cpu.0, used.memory),
            ))
        }
        Some(_) => None,
    }
}

/// Every reason why grid would not choose this tree by itself.
pub(super) fn reasons(tree: &TreeFacts, ctx: &DetectContext, policy: &Detector, class: &Class<'_>) -> Vec<Reason> {
    let (root, stat) = (&tree.root, &tree.root.stat);
    let mut all: Vec<Reason> = Vec::new();
    all.extend(of_grid(tree, ctx));
    all.extend(owner(stat, ctx, policy));
    all.extend(asked_for(tree, ctx, class));
    if !class.allowed() {
        all.extend(defaults(tree, ctx, class));
    }
    all.extend(too_new(stat, policy));
    let used = tree.used();
    all.extend(too_small(used, stat.cpu.map(|_| used.cpu), policy));
    if ctx.recent.contains(&root.stat.id) {
        all.push(Reason::new(ReasonCode::Cooldown, "it was moved or refused a moment ago"));
    }
    all
}

fn of_grid(tree: &TreeFacts, ctx: &DetectContext) -> Option<Reason> {
    let member = |p: &ProcFacts| ctx.own_pids.contains(&p.stat.id.pid);
    let group =
        |d: &ProcDeep| d.cgroups.iter().any(|line| ctx.own_cgroups.iter().any(|own| line.contains(own.as_str())));
    let mine = tree.all().any(|p| member(p) || p.deep.as_ref().is_some_and(group));
    if tree.all().any(|p| ctx.away.contains(&p.stat.id.pid)) {
        return Some(Reason::new(ReasonCode::Away, "it is being moved, or is away already"));
    }
    (mine && !ctx.tree_roots.contains(&tree.root.stat.id.pid))
        .then(|| Reason::new(ReasonCode::Grid, "it belongs to grid"))
}

/// What the user asked for: a protecting rule, or `grid keep`.
fn asked_for(tree: &TreeFacts, ctx: &DetectContext, class: &Class<'_>) -> Vec<Reason> {
    let mut all = Vec::new();
    if let Some(rule) = class.rule.filter(|r| r.action == Some(RuleAction::Protect)) {
        all.push(Reason::new(ReasonCode::Protected, format!("rule \"{}\"", rule.name)));
    }
    if tree.all().any(|p| ctx.kept.contains(&p.stat.id)) {
        all.push(Reason::new(ReasonCode::Keep, "kept here by grid keep"));
    }
    all
}

/// The defaults, which an allowing rule lifts.
fn defaults(tree: &TreeFacts, ctx: &DetectContext, class: &Class<'_>) -> Vec<Reason> {
    let root = &tree.root;
    let mut all: Vec<Reason> = Vec::new();
    if root.stat.uid != 0 {
        all.extend(system_user(&root.stat, ctx));
    }
    // A shell that runs a script without a terminal was classified as batch work.
    let a_script = class.kind == ProcessKind::Batch && names::is_shell(&root.stat.comm);
    all.extend(by_name(root).filter(|r| !(a_script && r.code == ReasonCode::Shell)));
    if let Some(others) = tree.session_outsiders.first() {
        let count = tree.session_outsiders.len();
        all.push(Reason::new(
            ReasonCode::Leader,
            format!("it leads a session in which {count} others live, {others} first"),
        ));
    }
    for p in tree.all() {
        let Some(deep) = &p.deep else { continue };
        if deep.oom_score_adj < 0 {
            let detail = format!("oom_score_adj of {} is {}", p.stat.id, deep.oom_score_adj);
            all.push(Reason::new(ReasonCode::Protected, detail));
        }
        if let Some(word) = &deep.oom_preference {
            let detail = format!("the unit of {} has ManagedOOMPreference={word}", p.stat.id);
            all.push(Reason::new(ReasonCode::Protected, detail));
        }
    }
    if let Some(deep) = &root.deep {
        all.extend(
            service_unit(deep).map(|unit| Reason::new(ReasonCode::Service, format!("systemd runs it as {unit}"))),
        );
        let editor = deep.argv.iter().chain(&deep.exe).find(|path| names::is_editors(path));
        all.extend(editor.map(|_| Reason::new(ReasonCode::Desktop, "it is part of an editor")));
    }
    if all.is_empty() && matches!(class.kind, ProcessKind::Interactive | ProcessKind::Daemon) {
        let kind = if class.kind == ProcessKind::Daemon { "a daemon" } else { "interactive" };
        all.push(Reason::new(ReasonCode::Kind, format!("{kind}: {}", class.why)));
    }
    all
}

/// The unit of systemd that a process is part of, where that is a service and no login.
pub(super) fn service_unit(deep: &ProcDeep) -> Option<&str> {
    let systemds = deep
        .cgroups
        .iter()
        .filter_map(|line| line.split_once(':'))
        .filter(|(c, _)| c.is_empty() || c.contains("name=systemd"));
    systemds.map(|(_, path)| path).find_map(|path| {
        let unit = path.rsplit('/').find(|part| part.ends_with(".service") || part.ends_with(".scope"))?;
        let name = unit.strip_suffix(".service")?;
        let login = LOGIN_UNITS.contains(&name.split('@').next().unwrap_or(name));
        (!login).then_some(unit)
    })
}

/// Why it is worth it, for people.
pub(super) fn worth(tree: &TreeFacts, ctx: &DetectContext, class: &Class<'_>, used: Resources) -> Vec<String> {
    let mut all = vec![format!("{}: {}", kind_name(class.kind), class.why)];
    if ctx.node_memory.0 > 0 {
        let percent = u128::from(used.memory.0) * 100 / u128::from(ctx.node_memory.0);
        all.push(format!("{} of memory, {percent} % of this node's", used.memory));
    }
    if let Some(cpu) = tree.root.stat.cpu.map(|_| used.cpu).filter(|c| c.0 > 0) {
        all.push(format!("{cpu} CPU"));
    }
    all
}

/// A kind as people read it.
pub(super) fn kind_name(kind: ProcessKind) -> &'static str {
    match kind {
        ProcessKind::Training => "training",
        ProcessKind::Inference => "inference",
        ProcessKind::DataProcessing => "data processing",
        ProcessKind::Compute => "compute",
        ProcessKind::Io => "I/O",
        ProcessKind::Batch => "batch",
        ProcessKind::Interactive => "interactive",
        ProcessKind::Daemon => "daemon",
    }
}

//! The user's rules: first match wins.

use super::{DetectContext, glob, title};
use grid_types::facts::{ProcDeep, ProcStat};
use grid_types::policy::{Detector, ProcessRule, RuleAction};

/// Whether a rule applies, as far as is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Applies {
    Yes,
    No,
    /// It asks for facts that only the deep look gives.
    Maybe,
}

/// The rule that applies, with the deep facts at hand.
pub(super) fn find<'p>(
    policy: &'p Detector,
    ctx: &DetectContext,
    stat: &ProcStat,
    deep: &ProcDeep,
) -> Option<&'p ProcessRule> {
    policy.rules.iter().find(|r| applies(r, ctx, stat, Some(deep)) == Applies::Yes)
}

/// What the rules may say of a process of which only the cheap facts are known.
pub(super) enum Early<'p> {
    /// No rule, or one that decides nothing here.
    Nothing,
    /// This rule applies for sure.
    Sure(&'p ProcessRule),
    /// An allowing rule may apply: nothing that it would lift may be held against the process yet.
    MayAllow,
}

/// See [`Early`].
pub(super) fn early<'p>(policy: &'p Detector, ctx: &DetectContext, stat: &ProcStat) -> Early<'p> {
    for rule in &policy.rules {
        match applies(rule, ctx, stat, None) {
            Applies::Yes => return Early::Sure(rule),
            Applies::Maybe if rule.action == Some(RuleAction::Allow) => return Early::MayAllow,
            _ => {}
        }
    }
    Early::Nothing
}

/// All of the rule's conditions; a rule without any applies to nothing.
fn applies(rule: &ProcessRule, ctx: &DetectContext, stat: &ProcStat, deep: Option<&ProcDeep>) -> Applies {
    let known = |hit: bool| if hit { Applies::Yes } else { Applies::No };
    let conditions = [
        rule.user.as_deref().map(|p| known(matches_user(p, ctx, stat.uid))),
        rule.comm.as_deref().map(|p| known(glob::matches(p, &stat.comm))),
        rule.exe.as_deref().map(|p| deep.map_or(Applies::Maybe, |d| known(matches_exe(p, d)))),
        rule.arg.as_deref().map(|p| deep.map_or(Applies::Maybe, |d| known(d.argv.iter().any(|a| glob::matches(p, a))))),
    ];
    let asked = || conditions.iter().flatten();
    match () {
        () if asked().next().is_none() || asked().any(|a| *a == Applies::No) => Applies::No,
        () if asked().any(|a| *a == Applies::Maybe) => Applies::Maybe,
        () => Applies::Yes,
    }
}

/// The executable's path, or its file name where the pattern has no slash.
fn matches_exe(pattern: &str, deep: &ProcDeep) -> bool {
    let Some(exe) = deep.exe.as_deref() else { return false };
    let exe = exe.strip_suffix(" (deleted)").unwrap_or(exe);
    glob::matches(pattern, exe) || (!pattern.contains('/') && glob::matches(pattern, title::base(exe)))
}

/// By name or number.
pub(super) fn matches_user(pattern: &str, ctx: &DetectContext, uid: u32) -> bool {
    pattern.parse() == Ok(uid) || ctx.users.get(&uid).is_some_and(|name| glob::matches(pattern, name))
}

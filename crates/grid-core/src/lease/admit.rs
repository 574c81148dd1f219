//! Which node lends for a request: best fit on live free capacity, all or nothing.

use super::lendable::{Lendable, lendable, shortfall};
use super::{LenderView, request::Terms};
use grid_types::exit::FaultClass;
use grid_types::policy::Policy;
use grid_types::reason::{Reason, ReasonCode};
use grid_types::{Bytes, MilliCpu, NodeName, Resources};
use std::cmp::Reverse;

/// A lender was found. Nothing is reserved until it is written down.
#[derive(Clone, Debug, PartialEq)]
pub struct Grant {
    /// Who lends.
    pub lender: NodeName,
    /// How much.
    pub amount: Resources,
    /// Why this one: "gpu2 best fit, 6.0 CPU 16.0 GiB lendable before; gpu1 silent 35m00s".
    pub chosen: String,
}

/// The largest part of a refused request that one node could give now.
#[derive(Clone, Debug, PartialEq)]
pub struct Nearest {
    /// How much; typing this is granted as long as nothing changes.
    pub amount: Resources,
    /// By whom.
    pub node: NodeName,
}

/// No node lends that.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[error("no lender has {asked} together. Nothing was reserved.")]
pub struct Refusal {
    /// What was asked for.
    pub asked: Resources,
    /// Why not, for every node that was considered, in the order given.
    pub reasons: Vec<(NodeName, Reason)>,
    /// What would be granted.
    pub nearest: Option<Nearest>,
}

impl Refusal {
    /// Exit code class.
    pub fn class(&self) -> FaultClass {
        FaultClass::NoCapacity
    }
    /// Code of the headline.
    pub fn code(&self) -> ReasonCode {
        ReasonCode::NoFit
    }
    /// The reasons in the form that the journal keeps, each naming its node.
    pub fn journal_reasons(&self) -> Vec<Reason> {
        self.reasons.iter().map(|(n, r)| Reason::new(r.code, format!("{n}: {}", r.detail))).collect()
    }
}

struct Considered<'a> {
    lender: &'a LenderView,
    answer: Result<Lendable, Reason>,
}

/// Finds the lender for validated terms among `lenders`, at most one view a node. With `--from`, only that one is
/// considered. `utc_offset_s` shifts the clock times in reasons.
///
/// Best fit: the node where the least is left over, each resource measured against the largest lendable amount of it
/// in the cluster; then the higher `sharing.priority`, then the name.
///
/// # Errors
/// [`Refusal`] with a reason for each considered node.
pub fn admit(terms: &Terms, lenders: &[LenderView], policy: &Policy, utc_offset_s: i32) -> Result<Grant, Refusal> {
    let considered: Vec<_> = lenders
        .iter()
        .filter(|l| terms.from.as_ref().is_none_or(|f| *f == l.node))
        .map(|lender| Considered { lender, answer: answer(terms, lender, policy, utc_offset_s) })
        .collect();
    let scale = largest(&considered);
    let best =
        considered.iter().filter_map(|c| c.answer.as_ref().ok().map(|l| (c.lender, l))).min_by(|(a, la), (b, lb)| {
            leftover(la, &terms.amount, &scale)
                .cmp(&leftover(lb, &terms.amount, &scale))
                .then(b.sharing.priority.total_cmp(&a.sharing.priority))
                .then(a.node.cmp(&b.node))
        });
    match best {
        Some((lender, l)) => Ok(Grant {
            lender: lender.node.clone(),
            amount: terms.amount,
            chosen: chosen_text(terms, lender, l, &considered),
        }),
        None => Err(Refusal {
            asked: terms.amount,
            nearest: nearest(terms, lenders, policy),
            reasons: considered
                .into_iter()
                .filter_map(|c| c.answer.err().map(|reason| (c.lender.node.clone(), reason)))
                .collect(),
        }),
    }
}

fn answer(terms: &Terms, lender: &LenderView, policy: &Policy, utc_offset_s: i32) -> Result<Lendable, Reason> {
    if lender.node == terms.borrower {
        return Err(Reason::new(ReasonCode::Self_, "it is the borrower itself"));
    }
    let l = lendable(lender, policy)?;
    if terms.amount.fits_in(&l.amount) { Ok(l) } else { Err(shortfall(&terms.amount, lender, &l, utc_offset_s)) }
}

fn largest(considered: &[Considered<'_>]) -> Resources {
    considered.iter().filter_map(|c| c.answer.as_ref().ok()).fold(Resources::default(), |m, l| Resources {
        cpu: m.cpu.max(l.amount.cpu),
        memory: m.memory.max(l.amount.memory),
        gpu: m.gpu.max(l.amount.gpu),
    })
}

/// What stays lendable after the request, in millionths of the largest, summed over the three resources.
fn leftover(l: &Lendable, asked: &Resources, scale: &Resources) -> u128 {
    let rest = l.amount.saturating_sub(asked);
    let part = |left: u64, of: u64| u128::from(left) * 1_000_000 / u128::from(of.max(1));
    part(rest.cpu.0.into(), scale.cpu.0.into())
        + part(rest.memory.0, scale.memory.0)
        + part(rest.gpu.into(), scale.gpu.into())
}

fn chosen_text(terms: &Terms, lender: &LenderView, l: &Lendable, considered: &[Considered<'_>]) -> String {
    let how = if terms.from.is_some() { "as asked" } else { "best fit" };
    let mut text = format!("{} {how}, {} lendable before", lender.node, l.amount);
    for other in considered.iter().filter(|c| c.lender.node != lender.node && c.lender.node != terms.borrower) {
        match &other.answer {
            Ok(o) => text.push_str(&format!("; {} has {}", other.lender.node, o.amount)),
            Err(r) => text.push_str(&format!("; {} {}", other.lender.node, r.detail)),
        }
    }
    text
}

/// The node that could give the largest part of every resource asked for, in figures that can be typed.
fn nearest(terms: &Terms, lenders: &[LenderView], policy: &Policy) -> Option<Nearest> {
    let asked = &terms.amount;
    let holds_all = |o: &Resources| {
        (asked.cpu.0 == 0) == (o.cpu.0 == 0)
            && (asked.memory.0 == 0) == (o.memory.0 == 0)
            && (asked.gpu == 0) == (o.gpu == 0)
    };
    lenders
        .iter()
        .filter(|l| l.node != terms.borrower)
        .filter_map(|l| lendable(l, policy).ok().map(|a| (l, typable(a.amount.min(asked)))))
        .filter(|(_, offer)| holds_all(offer))
        .min_by_key(|(l, offer)| (Reverse(share_of(offer, asked)), l.node.clone()))
        .map(|(l, amount)| Nearest { amount, node: l.node.clone() })
}

/// Rounded down to tenths of a CPU and whole MiB, so that what is printed is what is granted.
fn typable(r: Resources) -> Resources {
    const MIB: u64 = 1 << 20;
    Resources { cpu: MilliCpu(r.cpu.0 / 100 * 100), memory: Bytes(r.memory.0 / MIB * MIB), gpu: r.gpu }
}

fn share_of(offer: &Resources, asked: &Resources) -> u128 {
    let part = |x: u64, of: u64| if of == 0 { 0 } else { u128::from(x) * 1_000_000 / u128::from(of) };
    part(offer.cpu.0.into(), asked.cpu.0.into())
        + part(offer.memory.0, asked.memory.0)
        + part(offer.gpu.into(), asked.gpu.into())
}

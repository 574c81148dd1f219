//! What one node can lend now, and the exact reason where it cannot.

use super::LenderView;
use crate::lend;
use grid_types::policy::Policy;
use grid_types::reason::{Reason, ReasonCode};
use grid_types::{Bytes, MilliCpu, Resources, UnixMs};

/// The parts of the answer, so that reasons can name figures.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Lendable {
    /// What it can lend now.
    pub amount: Resources,
    /// Its `lending_limit`.
    pub limit: Resources,
    /// Sum of its live leases.
    pub promised: Resources,
    /// What its own work uses (guests within their leases not counted).
    pub own_use: Resources,
    /// What it keeps free.
    pub reserve: Resources,
}

/// What a node of this size keeps free: `total × excess × factor of the sharing policy`, for CPU and memory.
pub fn reserve(total: Resources, policy: &Policy) -> Resources {
    let part = (policy.thresholds.excess * policy.sharing.reserve_factor()).clamp(0.0, 1.0);
    Resources {
        cpu: MilliCpu((f64::from(total.cpu.0) * part).ceil() as u32),
        memory: Bytes((total.memory.0 as f64 * part).ceil() as u64),
        gpu: 0,
    }
}

/// What `lender` can lend now by the formula in the module's head.
///
/// # Errors
/// `E-NOLEND` where sharing is off or the node lends nothing; `E-CORDON` where it takes nothing new; `E-VERSION` where its grid is an older one; `E-SILENT` where it is silent or its use is unknown.
pub fn lendable(lender: &LenderView, policy: &Policy) -> Result<Lendable, Reason> {
    let limit = limit(lender);
    if !policy.sharing_enabled {
        return Err(Reason::new(ReasonCode::NoLend, "sharing is switched off in the configuration"));
    }
    if !lender.sharing.can_share {
        return Err(Reason::new(ReasonCode::NoLend, "it lends nothing: can_share is false"));
    }
    if lender.cordoned {
        return Err(Reason::new(ReasonCode::Cordon, "it is cordoned"));
    }
    if let Some(older) = &lender.older {
        return Err(older.clone());
    }
    if lender.total.is_zero() {
        return Err(Reason::new(ReasonCode::Silent, "nothing has been heard of it yet"));
    }
    if let Some(closed) = lender.says.as_ref().and_then(|says| says.closed.as_ref()) {
        return Err(lend::closed(closed));
    }
    if limit.is_zero() {
        return Err(Reason::new(ReasonCode::NoLend, "it lends nothing: its limits are zero"));
    }
    if let Some(silent) = lender.silent_for {
        return Err(Reason::new(ReasonCode::Silent, format!("silent {silent}")));
    }
    let Some(used) = lender.used else {
        return Err(Reason::new(ReasonCode::Silent, "its use has not been measured yet"));
    };
    let promised = lender.promised();
    let own_use = used.saturating_sub(&lender.lease_use.min(&promised));
    let reserve = reserve(lender.total, policy);
    let by_limit = limit.saturating_sub(&promised);
    let by_use = lender.total.saturating_sub(&own_use).saturating_sub(&promised).saturating_sub(&reserve);
    let mut amount = by_limit.min(&by_use);
    if let Some(spare) = lender.says.as_ref().and_then(|says| says.spare_memory) {
        amount.memory = amount.memory.min(spare);
    }
    Ok(Lendable { amount, limit, promised, own_use, reserve })
}

/// By the configuration, and by the lender's own word; its agent says nothing of GPUs.
fn limit(lender: &LenderView) -> Resources {
    let limit = lender.sharing.lending_limit(lender.total);
    match &lender.says {
        Some(says) => Resources { gpu: limit.gpu, ..limit.min(&says.limit) },
        None => limit,
    }
}

/// Why `asked` is not in `l`: "2.1 of 4.0 CPU, 512 MiB of 8.0 GiB free; 1.9 CPU 7.5 GiB lent as b-3aa until 12:40".
pub(super) fn shortfall(asked: &Resources, lender: &LenderView, l: &Lendable, utc_offset_s: i32) -> Reason {
    let mut text = format!("{} of {} CPU, {} of {}", l.amount.cpu, l.limit.cpu, l.amount.memory, l.limit.memory);
    if asked.gpu > 0 || l.limit.gpu > 0 {
        text.push_str(&format!(", {} of {} GPU", l.amount.gpu, l.limit.gpu));
    }
    text.push_str(" free");
    for lent in &lender.leases {
        let until = clock_text(lent.until_unix, utc_offset_s);
        text.push_str(&format!("; {} lent as {} until {until}", lent.amount, lent.boost));
    }
    if let Some(limited) = lender.says.as_ref().and_then(lend::limited) {
        text.push_str(&format!("; {limited}"));
    }
    let short_by_use = !l.limit.saturating_sub(&l.promised).fits_in(&l.amount);
    if short_by_use {
        text.push_str(&format!("; its own work uses {}, {} kept free", l.own_use, l.reserve));
    }
    Reason::new(ReasonCode::NoFit, text)
}

/// Hours and minutes of a moment, shifted by the offset from UTC in seconds: "12:40".
pub fn clock_text(at: UnixMs, utc_offset_s: i32) -> String {
    let seconds = (at.0 / 1000) as i64 + i64::from(utc_offset_s);
    let of_day = seconds.rem_euclid(86_400);
    format!("{:02}:{:02}", of_day / 3600, of_day % 3600 / 60)
}

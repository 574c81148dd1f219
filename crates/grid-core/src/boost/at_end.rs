//! What becomes of guests when a boost ends. Asked again after every step until it says `Close` or `StayOverdue`.

use grid_types::boost::{Boost, BoostState, EndReason};
use grid_types::event::OffloadPhase;
use grid_types::policy::AtEnd;
use grid_types::{OffloadId, Resources};

/// A process that lives in the lease, or is on its way.
#[derive(Clone, Debug, PartialEq)]
pub struct Guest {
    /// Which offload.
    pub offload: OffloadId,
    /// For people.
    pub title: String,
    /// Needed to hold it.
    pub needed: Resources,
    /// Where it is.
    pub phase: OffloadPhase,
    /// Why a recall of it failed since the end began; it is not tried again by itself.
    pub recall_failed: Option<String>,
}

/// The next step of an end.
#[derive(Clone, Debug, PartialEq)]
pub enum EndStep {
    /// Moves are under way in or out: wait for them (those that are not committed are cancelled), then ask again.
    Wait {
        /// These.
        offloads: Vec<OffloadId>,
    },
    /// Bring these home, then ask again.
    RecallHome {
        /// In this order.
        offloads: Vec<OffloadId>,
    },
    /// They stay; the lease is kept and overdue, and that is said loudly.
    StayOverdue {
        /// Who stays, and why.
        detail: String,
    },
    /// End these by force: the request asked for it.
    EndGuests {
        /// These.
        offloads: Vec<OffloadId>,
    },
    /// Nothing lives there: stop the lease; it is over when its cgroup is empty.
    Close,
}

/// The next step for a boost whose end has begun. `home_free` is what the head has free now, `None` where unknown.
///
/// `recall` brings home each guest that fits whole, smallest first; what does not fit stays. Only `end`, which the
/// request itself must have asked for, ends guests.
pub fn at_end(boost: &Boost, guests: &[Guest], home_free: Option<Resources>) -> EndStep {
    let ids = |wanted: &dyn Fn(&Guest) -> bool| {
        guests.iter().filter(|g| wanted(g)).map(|g| g.offload.clone()).collect::<Vec<_>>()
    };
    let moving = ids(&|g| g.phase.is_under_way());
    let inside: Vec<&Guest> =
        guests.iter().filter(|g| matches!(g.phase, OffloadPhase::Away | OffloadPhase::InDoubt)).collect();
    if matches!(boost.state, BoostState::Ending { why: EndReason::LenderLost }) && !inside.is_empty() {
        return stay(&inside, &|_| format!("{} is lost; they run there or went with it", boost.lender));
    }
    if !moving.is_empty() {
        return EndStep::Wait { offloads: moving };
    }
    if inside.is_empty() {
        return EndStep::Close;
    }
    match boost.at_end {
        AtEnd::End => EndStep::EndGuests { offloads: inside.iter().map(|g| g.offload.clone()).collect() },
        AtEnd::Stay => stay(&inside, &|_| "at-end is stay".to_owned()),
        AtEnd::Recall => recall(&inside, home_free),
    }
}

fn recall(inside: &[&Guest], home_free: Option<Resources>) -> EndStep {
    let Some(free) = home_free else {
        return stay(inside, &|_| "what is free at home is unknown".to_owned());
    };
    let mut order: Vec<&&Guest> =
        inside.iter().filter(|g| g.phase == OffloadPhase::Away && g.recall_failed.is_none()).collect();
    order.sort_by(|a, b| a.needed.memory.cmp(&b.needed.memory).then(a.offload.cmp(&b.offload)));
    let mut left = free;
    let mut home = Vec::new();
    for guest in order {
        if guest.needed.fits_in(&left) {
            left = left.saturating_sub(&guest.needed);
            home.push(guest.offload.clone());
        }
    }
    if !home.is_empty() {
        return EndStep::RecallHome { offloads: home };
    }
    stay(inside, &|g| match (&g.recall_failed, g.phase) {
        (_, OffloadPhase::InDoubt) => "in doubt: grid offload resolve".to_owned(),
        (Some(why), _) => format!("recall failed: {why}"),
        (None, _) => format!("needs {} at home, {free} free there", g.needed),
    })
}

fn stay(inside: &[&Guest], why: &dyn Fn(&Guest) -> String) -> EndStep {
    let parts: Vec<_> = inside.iter().map(|g| format!("{} {} stays: {}", g.offload, g.title, why(g))).collect();
    EndStep::StayOverdue { detail: parts.join("; ") }
}

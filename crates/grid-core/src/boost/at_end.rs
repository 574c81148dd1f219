//! What becomes of guests when a boost ends. Asked again after every step until it says `Close` or `StayOverdue`.

use grid_types::boost::{Boost, BoostState, EndReason};
use grid_types::event::OffloadPhase;
use grid_types::policy::AtEnd;
use grid_types::{BoostId, OffloadId, Resources};

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
    /// Why a recall or a parking of it failed since the end began; it is not tried again before the end begins anew.
    pub recall_failed: Option<String>,
}

/// Another active lease of the same borrower, on another lender that is reached.
#[derive(Clone, Debug, PartialEq)]
pub struct OtherLease {
    /// Which.
    pub boost: BoostId,
    /// What it has left.
    pub free: Resources,
}

/// What is free elsewhere for the guests of a boost that ends.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Room {
    /// At home; none where that is unknown.
    pub home: Option<Resources>,
    /// In other leases.
    pub others: Vec<OtherLease>,
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
    /// Home has no room: move these on to other leases, then ask again.
    MoveOn {
        /// Each, and the boost into whose lease it goes.
        moves: Vec<(OffloadId, BoostId)>,
    },
    /// Park these on their lender's disk, then ask again.
    Park {
        /// These.
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

/// The next step for a boost whose end has begun.
///
/// `recall` brings home each guest that fits whole, smallest first; then what does not fit goes to another lease where it
/// fits whole; what fits nowhere stays. `park` puts each onto its lender's disk. Only `end`, which the request itself must have asked for, ends guests.
pub fn at_end(boost: &Boost, guests: &[Guest], room: &Room) -> EndStep {
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
        // Whoever drains a node ends nobody's work.
        AtEnd::End if matches!(boost.state, BoostState::Ending { why: EndReason::Drained }) => recall(&inside, room),
        AtEnd::End => EndStep::EndGuests { offloads: inside.iter().map(|g| g.offload.clone()).collect() },
        AtEnd::Stay => stay(&inside, &|_| "at-end is stay".to_owned()),
        AtEnd::Park => park(&inside),
        AtEnd::Recall => recall(&inside, room),
    }
}

fn park(inside: &[&Guest]) -> EndStep {
    let able = |g: &&&Guest| g.phase == OffloadPhase::Away && g.recall_failed.is_none();
    let offloads: Vec<OffloadId> = inside.iter().filter(able).map(|g| g.offload.clone()).collect();
    if !offloads.is_empty() {
        return EndStep::Park { offloads };
    }
    stay(inside, &|g| match &g.recall_failed {
        Some(why) if g.phase == OffloadPhase::Away => format!("it could not be parked: {why}"),
        _ => "in doubt: grid offload resolve".to_owned(),
    })
}

fn recall(inside: &[&Guest], room: &Room) -> EndStep {
    let mut order: Vec<&Guest> =
        inside.iter().copied().filter(|g| g.phase == OffloadPhase::Away && g.recall_failed.is_none()).collect();
    order.sort_by(|a, b| a.needed.memory.cmp(&b.needed.memory).then(a.offload.cmp(&b.offload)));
    let home = going_home(&order, room.home.unwrap_or_default());
    if !home.is_empty() {
        return EndStep::RecallHome { offloads: home };
    }
    let moves = moving_on(&order, &room.others);
    if !moves.is_empty() {
        return EndStep::MoveOn { moves };
    }
    let home = room.home.map_or("what is free there is unknown".to_owned(), |free| format!("{free} free there"));
    let others = match room.others.len() {
        0 => "no other lease is active".to_owned(),
        1 => "the other lease has no room for it".to_owned(),
        n => format!("none of {n} other leases has room for it"),
    };
    stay(inside, &|g| match (&g.recall_failed, g.phase) {
        (_, OffloadPhase::InDoubt) => "in doubt: grid offload resolve".to_owned(),
        (Some(why), _) => format!("recall failed: {why}"),
        (None, _) => format!("needs {} at home, {home}; {others}", g.needed),
    })
}

fn going_home(order: &[&Guest], mut left: Resources) -> Vec<OffloadId> {
    let mut home = Vec::new();
    for guest in order {
        if guest.needed.fits_in(&left) {
            left = left.saturating_sub(&guest.needed);
            home.push(guest.offload.clone());
        }
    }
    home
}

/// Each into the fullest lease that takes it whole, so that large ones keep their room.
fn moving_on(order: &[&Guest], others: &[OtherLease]) -> Vec<(OffloadId, BoostId)> {
    let mut left = others.to_vec();
    let mut moves = Vec::new();
    for guest in order {
        let fitting = left.iter_mut().filter(|lease| guest.needed.fits_in(&lease.free));
        if let Some(lease) = fitting.min_by(|a, b| a.free.memory.cmp(&b.free.memory).then(a.boost.cmp(&b.boost))) {
            lease.free = lease.free.saturating_sub(&guest.needed);
            moves.push((guest.offload.clone(), lease.boost.clone()));
        }
    }
    moves
}

fn stay(inside: &[&Guest], why: &dyn Fn(&Guest) -> String) -> EndStep {
    let parts: Vec<_> = inside.iter().map(|g| format!("{} {} stays: {}", g.offload, g.title, why(g))).collect();
    EndStep::StayOverdue { detail: parts.join("; ") }
}

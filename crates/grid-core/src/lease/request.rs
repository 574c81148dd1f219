//! Whether a request for a boost makes sense at all, before any lender is asked.

use crate::boost::Clock;
use grid_types::boost::{Boost, BoostRequest, BoostState, Priority};
use grid_types::exit::FaultClass;
use grid_types::policy::{AtEnd, Policy};
use grid_types::reason::ReasonCode;
use grid_types::{BoostId, BootMs, Bytes, MilliCpu, Millis, NodeName, Resources, UnixMs};

/// Past this nothing can be meant: a million CPUs, an exbibyte, 65,536 GPUs.
const HUGE: Resources = Resources { cpu: MilliCpu(1_000_000_000), memory: Bytes(1 << 60), gpu: 1 << 16 };
/// Shortest boost that is accepted.
const SHORTEST: Millis = Millis(1_000);

/// A validated request, with the policy's defaults filled in.
#[derive(Clone, Debug, PartialEq)]
pub struct Terms {
    /// Who shall have it.
    pub borrower: NodeName,
    /// How much; a part can be zero and is then none of it (see `complete_amount` for memory and CPU).
    pub amount: Resources,
    /// How urgent.
    pub priority: Priority,
    /// For how long.
    pub duration: Millis,
    /// Only this lender.
    pub from: Option<NodeName>,
    /// What happens with guests at the end.
    pub at_end: AtEnd,
}

/// A request that is refused whatever the lenders have.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum RequestFault {
    /// No such node.
    #[error("there is no node \"{name}\"; the nodes are {}", list(.known))]
    UnknownNode {
        /// As it was typed.
        name: NodeName,
        /// Those there are.
        known: Vec<NodeName>,
    },
    /// Lender and borrower are one.
    #[error("{name} cannot borrow from itself; name another lender")]
    BorrowerIsLender {
        /// The node.
        name: NodeName,
    },
    /// Nothing of anything.
    #[error("the amount is zero; ask for CPU, memory or GPUs, for example --cpu 2 --memory 1GiB")]
    AmountZero,
    /// More than any machine has.
    #[error("{amount} cannot be meant: no machine has that")]
    AmountHuge {
        /// As asked.
        amount: Resources,
    },
    /// Shorter than a second.
    #[error("{asked} is too short; the shortest boost is 1.0 s")]
    TooShort {
        /// As asked.
        asked: Millis,
    },
    /// Longer than the policy allows.
    #[error("{asked} is longer than the limit of {max}; raise max_boost_duration, or ask for less")]
    TooLong {
        /// As asked, or what would be left after an extension.
        asked: Millis,
        /// The limit.
        max: Millis,
    },
    /// It is not in a state that can be extended.
    #[error("{boost} cannot be extended: {state}")]
    NotExtendable {
        /// Which.
        boost: BoostId,
        /// Why, for people.
        state: &'static str,
    },
}

fn list(names: &[NodeName]) -> String {
    names.iter().map(NodeName::as_str).collect::<Vec<_>>().join(", ")
}

impl RequestFault {
    /// Exit code class.
    pub fn class(&self) -> FaultClass {
        match self {
            RequestFault::UnknownNode { .. } => FaultClass::NotFound,
            RequestFault::BorrowerIsLender { .. } | RequestFault::TooLong { .. } => FaultClass::Refused,
            RequestFault::AmountZero | RequestFault::AmountHuge { .. } | RequestFault::TooShort { .. } => {
                FaultClass::Usage
            }
            RequestFault::NotExtendable { .. } => FaultClass::Conflict,
        }
    }
    /// Reason code, where one of the closed list applies.
    pub fn code(&self) -> Option<ReasonCode> {
        match self {
            RequestFault::BorrowerIsLender { .. } => Some(ReasonCode::Self_),
            RequestFault::TooLong { .. } => Some(ReasonCode::Limit),
            RequestFault::NotExtendable { .. } => Some(ReasonCode::Expired),
            _ => None,
        }
    }
}

/// Checks a request against the known nodes and the policy and fills in the defaults.
///
/// # Errors
/// The first [`RequestFault`] found; nothing has been changed.
pub fn validate_request(req: &BoostRequest, nodes: &[NodeName], policy: &Policy) -> Result<Terms, RequestFault> {
    let known = |name: &NodeName| {
        let fault = || RequestFault::UnknownNode { name: name.clone(), known: nodes.to_vec() };
        nodes.contains(name).then_some(()).ok_or_else(fault)
    };
    known(&req.borrower)?;
    if let Some(from) = &req.from {
        known(from)?;
        if *from == req.borrower {
            return Err(RequestFault::BorrowerIsLender { name: from.clone() });
        }
    }
    if req.amount.is_zero() {
        return Err(RequestFault::AmountZero);
    }
    if !req.amount.fits_in(&HUGE) {
        return Err(RequestFault::AmountHuge { amount: req.amount });
    }
    let duration = req.duration.unwrap_or(policy.limits.boost_duration);
    duration_ok(duration, policy)?;
    Ok(Terms {
        borrower: req.borrower.clone(),
        amount: req.amount,
        priority: req.priority,
        duration,
        from: req.from.clone(),
        at_end: req.at_end.unwrap_or(default_end(policy)),
    })
}

/// `end` is for the request that asks for it, never a default.
fn default_end(policy: &Policy) -> AtEnd {
    match policy.limits.at_end {
        AtEnd::End | AtEnd::Recall => AtEnd::Recall,
        at_end @ (AtEnd::Stay | AtEnd::Park) => at_end,
    }
}

fn duration_ok(asked: Millis, policy: &Policy) -> Result<(), RequestFault> {
    let max = policy.limits.max_boost_duration;
    if asked < SHORTEST {
        return Err(RequestFault::TooShort { asked });
    }
    if asked > max {
        return Err(RequestFault::TooLong { asked, max });
    }
    Ok(())
}

/// New end of a boost that is made `by` longer: counted from its present end, or from now where that has passed.
/// Returns the end on both clocks and the new epoch, as `BoostExtended` takes them.
///
/// # Errors
/// It is not active or overdue, or more would be left than the policy's longest duration.
pub fn validate_extension(
    boost: &Boost,
    by: Millis,
    policy: &Policy,
    now: &Clock,
) -> Result<(BootMs, UnixMs, u64), RequestFault> {
    let refuse = |state| Err(RequestFault::NotExtendable { boost: boost.id.clone(), state });
    match boost.state {
        BoostState::Active | BoostState::Overdue { .. } => {}
        BoostState::Granting => return refuse("it is not active yet"),
        BoostState::Ending { .. } => return refuse("its guests are going home already"),
        BoostState::Ended { .. } => return refuse("it is over"),
        BoostState::Failed { .. } => return refuse("it never became active"),
    }
    if by < SHORTEST {
        return Err(RequestFault::TooShort { asked: by });
    }
    let left = Millis(now.left(boost).0.saturating_add(by.0));
    duration_ok(left, policy)?;
    let until = BootMs(now.boot.0.saturating_add(left.0));
    Ok((until, UnixMs(now.unix.0.saturating_add(left.0)), boost.epoch + 1))
}

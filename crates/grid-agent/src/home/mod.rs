//! The head's files on a worker: on the lender, the mount that a tree gets as its root (`view`), and
//! which locks it has (`held`); at home, who answers for it (`servers`). What crosses between the two is `grid_home`'s.

mod held;
mod servers;
mod view;

pub(crate) use self::held::none_is_held;
pub(crate) use self::servers::FilesLink;
pub(crate) use self::view::{Linked, View};

use grid_types::wire::Stage;

/// Its mounts are not this machine's alone: what this machine runs in them is found beforehand.
pub(crate) fn carried(stage: &Stage) -> bool {
    shown(stage) || stage.private_tmp
}

/// On a lender it sees the head's files; at home they are there anyway.
pub(crate) fn shown(stage: &Stage) -> bool {
    stage.home_files && stage.lease.is_some() && !stage.park
}

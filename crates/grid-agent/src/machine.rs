//! What of this machine a process notices that comes from another one, told to the head before it has anything moved.

use crate::agent::Agent;
use grid_os::criu::Criu;
use grid_os::{clock::unix_ms, machine};
use grid_types::machine::{MachineFacts, UserHere};
use std::collections::BTreeSet;
use std::process::{Command, Stdio};

/// What CRIU is asked for: without the first nothing arrives, the second shortens freezes.
const CRIU_FEATURES: [&str; 2] = ["uffd-noncoop", "mem_dirty_track"];

impl Agent {
    /// The machine now. CRIU is asked once in the life of an agent: neither it nor the kernel changes under one.
    pub(crate) fn machine(&mut self, user: Option<&UserHere>) -> MachineFacts {
        let has = self.criu_has.get_or_insert_with(|| features(&self.criu)).clone();
        let (arch, kernel) = machine::kernel();
        let mut facts = MachineFacts {
            arch,
            kernel,
            cpu: machine::cpu_features(),
            criu: self.criu.version_text(),
            criu_has: has,
            criu_asked: CRIU_FEATURES.map(str::to_owned).into(),
            user: user.map(machine::user),
            clock: unix_ms(),
        };
        self.faults.alter_machine(&mut facts);
        facts
    }
}

fn features(criu: &Criu) -> BTreeSet<String> {
    let has = |name: &&str| {
        let mut ask = Command::new(&criu.path);
        ask.args(["check", "--feature", name]).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        ask.status().is_ok_and(|status| status.success())
    };
    CRIU_FEATURES.iter().filter(|name| has(name)).map(|name| (*name).to_owned()).collect()
}

//! Every step of a handover that can fail, as one closed list: tests make each of them fail or hang.
//!
//! A step of the state machines gets its point by an exhaustive match (`grid-agent/src/faults.rs`), a step of a dump or
//! of a staging is run through its point: a step without one does not compile.
//!
//! A point lies *before* its step: at `SourceSendGo` the commit is durable and nothing has been said.

use serde::{Deserialize, Serialize};

/// A node's side of a handover.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Side {
    /// The agent from which the tree leaves.
    Source,
    /// The agent to which it goes.
    Destination,
}

macro_rules! fault_points {
    ($($variant:ident $side:ident $text:literal $what:literal;)*) => {
        /// A step that can be made to fail.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        pub enum FaultPoint { $(#[doc = $what] #[serde(rename = $text)] $variant,)* }

        impl FaultPoint {
            /// Every point, in the order of a move.
            pub const ALL: &'static [FaultPoint] = &[$(FaultPoint::$variant,)*];
            /// As it is written: `send-go`.
            pub fn as_str(self) -> &'static str { match self { $(FaultPoint::$variant => $text,)* } }
            /// Whose step it is.
            pub fn side(self) -> Side { match self { $(FaultPoint::$variant => Side::$side,)* } }
            /// File in the agent's state directory that arms it; holds the [`Effect`] as JSON.
            pub fn armed_file(self) -> &'static str { match self { $(FaultPoint::$variant => concat!("fault.", $text),)* } }
            /// What that file becomes when the point is reached.
            pub fn hit_file(self) -> &'static str { match self { $(FaultPoint::$variant => concat!("fault.", $text, ".hit"),)* } }
        }
    };
}

fault_points! {
    SourcePersistRunning Source "persist-running" "writes down that the attempt is known";
    SendStage Source "send-stage" "asks the destination to stage";
    DestinationPersistEmpty Destination "persist-empty" "writes down that it was asked";
    OpenStream Destination "open-stream" "opens the connection for memory (a lender dials, in both directions)";
    MakeTree Destination "make-tree" "makes the tree's namespaces, groups and pid 1";
    MakeRoom Destination "make-room" "takes the memory into which the pages go";
    SayReady Destination "say-ready" "says that it can receive";
    TakeHold Source "take-hold" "takes the running tree into its hold";
    PrepareImages Source "prepare-images" "makes the directory of the images";
    AwaitReady Source "await-ready" "waits until the destination can receive";
    StartDump Source "start-dump" "starts CRIU, which stops the tree and reads it";
    FreezeSource Source "freeze-source" "freezes the hold while CRIU still stops the tree";
    ReceivePages Destination "receive-pages" "takes the memory off the stream";
    SendManifest Source "send-manifest" "says what was frozen";
    ReceiveManifest Destination "receive-manifest" "hears what was frozen";
    SendImages Source "send-images" "sends the small images";
    ReceiveImages Destination "receive-images" "takes the small images";
    OpenParked Destination "open-parked" "makes room on its disk for a parked copy";
    SealParked Destination "seal-parked" "writes a parked copy to the disk for good, and reads it once more";
    InspectImages Destination "inspect-images" "inspects the images before CRIU reads them";
    PersistFrozen Source "persist-frozen" "writes down that the tree is frozen";
    StartRestore Destination "start-restore" "starts CRIU, which restores the tree";
    FreezeStaged Destination "freeze-staged" "freezes the restored tree before CRIU lets go of it";
    FindRoot Destination "find-root" "finds the restored root's number";
    Gate Destination "gate" "inspects the staged tree";
    WriteRoot Destination "write-root" "writes the root's number down for pid 1";
    PersistStaged Destination "persist-staged" "writes down that a copy is staged";
    SendReady Destination "send-ready" "says that the copy is staged";
    PersistCommitted Source "persist-committed" "the commit: writes down that the destination may run it";
    SendGo Source "send-go" "says that the destination may run it";
    DestinationPersistRunning Destination "persist-started" "writes down that its copy runs";
    ArmFence Destination "arm-fence" "starts the two seconds of the fence";
    ThawStaged Destination "thaw-staged" "lets the copy run, or run again";
    SendStarted Destination "send-started" "says that the copy runs";
    KeepSignals Source "keep-signals" "writes down the signals that arrived during the freeze";
    PersistReleased Source "persist-released" "writes down that its own copy is to go";
    SendReleased Source "send-released" "says that its own copy is gone";
    DiscardCopy Source "discard-copy" "ends its own frozen copy";
    MakeShadow Source "make-shadow" "lets its own frozen copy, traced by now, become the shadow";
    SourceReport Source "source-report" "tells the head what became of it";
    DisarmFence Destination "disarm-fence" "lifts the fence";
    DeliverSignals Destination "deliver-signals" "sends the signals that had arrived during the freeze";
    DestinationPersistReleased Destination "persist-owned" "writes down that it is the owner now";
    DestinationReport Destination "destination-report" "tells the head what lives here";
    PersistAborted Source "persist-aborted" "writes down that the tree never left";
    CloseStream Source "close-stream" "closes the page stream, which ends the dump";
    SendAbort Source "send-abort" "tells the destination to discard its copy";
    ThawHome Source "thaw-home" "lets the copy at home run again";
    PersistRefused Destination "persist-refused" "writes down that it never ran here and never will";
    DiscardStaged Destination "discard-staged" "ends what is staged";
    SendRefusal Destination "send-refusal" "says that it never ran here: could not stage, or refused";
    Refreeze Destination "refreeze" "freezes the running copy, unanswered past the fence, until the owner speaks";
    SendQuery Source "send-query" "asks what the destination knows";
    DestinationPersistLost Destination "persist-lost" "writes down that its copy is gone unseen";
    SendGone Destination "send-gone" "says that its copy is gone unseen";
    PersistInDoubt Source "persist-in-doubt" "writes down that nobody can know";
    DestinationPersistEnded Destination "persist-ended" "writes down that the tree ended here";
    CheckParked Source "check-parked" "looks whether a parked copy is whole, and its files are as they were";
    SendParked Source "send-parked" "sends a parked copy";
    DropParked Source "drop-parked" "deletes a parked copy that runs elsewhere";
}

/// What happens at a point; it happens once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Effect {
    /// The step fails. A message gets lost.
    Fail,
    /// The step waits for as long as a lock on [`FaultPoint::hit_file`] is held by another. (Time for whoever holds it to kill
    /// something.)
    Hang,
}

/// An agent looks for faults only where this variable is set to 1.
pub const VARIABLE: &str = "GRID_FAULTS";
/// In an agent's state directory: the memory, in bytes, of which its node is said to consist, all of it free.
pub const MEMORY_FILE: &str = "fault-memory";
/// A feature that a node pretends its CPUs to have, in the same place.
pub const CPU_FILE: &str = "fault-cpu";
/// The control group that is said to hold all that the owner of the machine does: its CPU is the owner's load. In the same place.
pub const OWNER_FILE: &str = "fault-owner";

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn each_point_has_a_name_of_its_own() {
        let names: BTreeSet<_> = FaultPoint::ALL.iter().map(|p| p.as_str()).collect();
        assert_eq!(names.len(), FaultPoint::ALL.len());
        assert_eq!(FaultPoint::SendGo.armed_file(), "fault.send-go");
    }
}

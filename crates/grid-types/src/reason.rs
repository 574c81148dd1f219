//! The closed list of reason codes. Every refusal has one; each has a cause, a fix and an anchor in `docs/reasons.md`.

use serde::{Deserialize, Serialize};
use std::fmt;

macro_rules! reason_codes {
    ($($variant:ident $text:literal $cause:literal $fix:literal;)*) => {
        /// Why something was refused, or why a process stays.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        pub enum ReasonCode { $(#[doc = $cause] #[serde(rename = $text)] $variant,)* }

        impl ReasonCode {
            /// Every code, in the order of the documentation.
            pub const ALL: &'static [ReasonCode] = &[$(ReasonCode::$variant,)*];
            /// As it is printed: `E-TTY`.
            pub fn as_str(self) -> &'static str { match self { $(ReasonCode::$variant => $text,)* } }
            /// What causes it.
            pub fn cause(self) -> &'static str { match self { $(ReasonCode::$variant => $cause,)* } }
            /// What to do about it.
            pub fn fix(self) -> &'static str { match self { $(ReasonCode::$variant => $fix,)* } }
        }
    };
}

reason_codes! {
    // Cannot be moved: from the process's real state.
    Tty "E-TTY" "it leads the session of a terminal, or holds another one than its own" "move the programs that run in it: each takes its terminal along";
    Pipe "E-PIPE" "it shares both ends of a pipe with a process that stays, or one that the tree's first process does not hold" "move the tree of which the other is a part, or write to a file";
    Parent "E-PARENT" "nothing can stand in for it at home, where its parent or a pipe would miss it" "see the reason; or start it detached, so that init is its parent: setsid -f CMD";
    Tcp "E-TCP" "established TCP connections would be cut" "wait until they are closed, or agree to that: --close-tcp";
    Udp "E-UDP" "it holds a connected or bound UDP socket with traffic" "wait until it is closed";
    Uring "E-URING" "an io_uring cannot be saved by CRIU" "start it with io_uring disabled";
    Gpu "E-GPU" "it uses a GPU and no checkpoint support for it is installed here" "install CRIU's CUDA plugin and a driver with checkpoint support";
    Dev "E-DEV" "it holds a device" "close the device";
    Unix "E-UNIX" "it holds a Unix socket that is bound, or connected to a process that stays" "stop the peer, or wait until it is closed";
    Sock "E-SOCK" "it holds a socket that cannot be moved, or listens at an address that only this node has" "close it, or let it listen at 0.0.0.0, :: or a loopback address";
    File "E-FILE" "a file it uses is not the same file at the destination" "use a path that both nodes share";
    Lock "E-LOCK" "it holds a file lock, which blocks its restore while the source holds it" "wait until it is released";
    Ns "E-NS" "it lives in namespaces of its own (a container or a sandbox)" "move it by its container's tools";
    Fd "E-FD" "a descriptor of a kind that CRIU cannot save" "close it";
    Watch "E-WATCH" "it watches files by inotify, which cannot be saved with its owner's rights" "let it poll for changes (CHOKIDAR_USEPOLLING=1, tail ---disable-inotify), or stop the watching";
    Seccomp "E-SECCOMP" "it runs under a seccomp filter, which cannot be lifted for the dump with its owner's rights; that of `grid run` alone goes along" "start it without its sandbox";
    Closed "E-CLOSED" "its owner may not look into it, so it cannot be dumped with its owner's rights" "none; it guards secrets, or its executable cannot be read";
    Session "E-SESSION" "the leader of a member's session has ended, and nobody can put the member back into it" "wait until that member has ended";
    Map "E-MAP" "a mapping that CRIU cannot save" "none; run it where it can stay";
    Hugetlb "E-HUGETLB" "it maps huge pages" "start it without huge pages";
    Shm "E-SHM" "it shares memory with a process that stays" "move the whole group as one tree";
    Ptrace "E-PTRACE" "a debugger or tracer is attached" "detach it";
    Frozen "E-FROZEN" "its cgroup is frozen, and a frozen tree cannot be dumped" "thaw it first";
    Stopped "E-STOPPED" "it is stopped" "continue it first: kill -CONT PID";
    Zombie "E-ZOMBIE" "it has ended and waits for its parent" "nothing to do";
    Root "E-ROOT" "it runs as root, or with capabilities, which no lender restores" "run it as an ordinary user";
    Unknown "E-UNKNOWN" "a fact that the decision needs could not be read" "run grid doctor";
    // Stays: grid does not choose it by itself.
    Grid "E-GRID" "it belongs to grid" "none";
    Kernel "E-KERNEL" "it is a kernel thread" "none";
    Owner "E-OWNER" "it belongs to another user" "ask its owner, or root";
    Leader "E-LEADER" "it leads a session that others live in" "name it: grid offload execute PID";
    Shell "E-SHELL" "it is a shell or a terminal" "none";
    Desktop "E-DESKTOP" "it is a display server, desktop, editor or browser" "none";
    Database "E-DATABASE" "it is a database" "name it: grid offload execute PID";
    Service "E-SERVICE" "it is a system service" "name it: grid offload execute PID";
    Protected "E-PROTECTED" "a rule, its oom_score_adj or its unit's ManagedOOMPreference protects it" "change the rule, or name it: grid offload execute PID";
    Keep "E-KEEP" "its owner keeps it here" "let it go: grid keep --drop PID";
    New "E-NEW" "it started too recently" "wait";
    Small "E-SMALL" "it uses too little to be worth it" "name it: grid offload execute PID";
    Kind "E-KIND" "its kind is not one that grid offloads by itself" "add a rule, or name it";
    Cooldown "E-COOLDOWN" "it was moved or refused a moment ago" "wait";
    Away "E-AWAY" "it is being moved, or is away already" "grid offload list";
    // Rights.
    Right "E-RIGHT" "it takes a right that you do not have" "ask root, or for boosts a place in the group that may boost";
    // Capacity and plans.
    NoFit "E-NOFIT" "no lender or lease holds it whole" "ask for less, or another node";
    Split "E-SPLIT" "it would fit only spread over two nodes" "request one larger boost";
    Silent "E-SILENT" "the node has not been heard of" "try again in a moment: it is dialled again and again; what stands in the way is said in STATE/log, by ssh in reach-NODE.log";
    NoLend "E-NOLEND" "the node lends nothing" "set can_share for that node; or, where its owner says no, on the node itself: grid lend on; where a rule of his does: grid lend status, grid lend rule";
    Cordon "E-CORDON" "the node is cordoned: it takes nothing new" "grid node uncordon NODE, or another node";
    Version "E-VERSION" "the node's grid is an older one: what lives there goes on and comes home, and nothing new goes there" "wait until ssh reaches it: grid brings its own program there (grid node list)";
    Self_ "E-SELF" "borrower and lender are the same node" "name another lender";
    Expired "E-EXPIRED" "the plan or lease is past its time" "ask again";
    Changed "E-CHANGED" "the world changed since the plan was made" "grid offload scan";
    Limit "E-LIMIT" "a limit of the policy is reached" "wait, or raise the limit";
    Frozen10 "E-MAXFROZEN" "the predicted freeze is longer than max_frozen" "raise max_frozen, or free memory in the process";
    Disk "E-DISK" "the disk with grid's own state is full: how a move ends, or a parked copy, could not be written down" "free some space where grid keeps its state (grid doctor names it)";
    Parked "E-PARKED" "a parked copy is damaged or missing on its disk" "put the file back from a backup of that disk and unpark again; or give it up: kill -9 PID";
    Machine "E-MACHINE" "the other machine lacks what a process of this one relies on" "grid doctor --between head NODE";
    Criu "E-CRIU" "CRIU refused or failed" "grid doctor";
    Writable "E-WRITABLE" "a program that grid runs with privileges could be changed by somebody else" "chown root and chmod go-w what is named, or set GRID_CRIU to a CRIU that only root can change";
    Gate "E-GATE" "the lender's gate refused the tree, or would" "nothing ran there; a file that root opened for it (a shell's redirection): chown it to its user, or start it from that user's own shell";
    Stop "E-STOP" "grid is stopped: nothing is frozen, and what was not past its commit was thawed" "lift it: grid stop --lift";
    Cancelled "E-CANCELLED" "it was cancelled before the commit" "none; it runs at home";
    Link "E-LINK" "the link to the other node was lost" "grid node list";
    Doubt "E-DOUBT" "nobody can know whether the destination ran it" "grid offload resolve";
}

impl fmt::Display for ReasonCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// A reason: its code and what exactly was seen.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reason {
    /// Which.
    pub code: ReasonCode,
    /// What exactly: "fd 19 is an io_uring", "holds terminal /dev/pts/3".
    pub detail: String,
}

impl Reason {
    /// Makes one.
    pub fn new(code: ReasonCode, detail: impl Into<String>) -> Self {
        Self { code, detail: detail.into() }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.code, self.detail)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn codes_are_unique_and_each_has_cause_and_fix() {
        let texts: HashSet<_> = ReasonCode::ALL.iter().map(|c| c.as_str()).collect();
        assert_eq!(texts.len(), ReasonCode::ALL.len());
        for code in ReasonCode::ALL {
            assert!(code.as_str().starts_with("E-") && !code.cause().is_empty() && !code.fix().is_empty());
        }
    }
}

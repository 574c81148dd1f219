//! Arguments of `grid boost`, `grid offload` and `grid plan`.

use super::amount;
use clap::{Args, Subcommand, ValueEnum};
use grid_types::boost::Priority;
use grid_types::policy::{AtEnd, AutoMode};
use grid_types::units::{Bytes, MilliCpu, Millis};
use std::ffi::OsString;

/// `grid boost …`.
#[derive(Clone, Debug, Subcommand)]
pub enum BoostCommand {
    /// Ask for capacity: all of it from one lender, or nothing
    #[command(after_help = "Examples:
  grid boost request head --cpu 2 --memory 8GiB --duration 1h
  grid boost request head --gpu 1 --from gpu2 --dry-run
  grid boost request head cpu 2            (memory: what the plan needs)
  grid boost request head memory 8         (bare numbers are GiB)")]
    Request(BoostRequestArgs),
    /// Boosts that hold capacity
    #[command(alias = "status", after_help = "Examples:\n  grid boost list")]
    List,
    /// All about one boost
    #[command(after_help = "Examples:\n  grid boost show b-7k2\n  grid boost show last")]
    Show {
        /// Which: a prefix is enough, or `last`
        id: String,
    },
    /// Give it more time
    #[command(after_help = "Examples:\n  grid boost extend b-7k2 --by 30m")]
    Extend {
        /// Which
        id: String,
        /// By so much, such as 30m
        #[arg(long, value_name = "D", allow_hyphen_values = true)]
        by: Millis,
        /// Only say what would happen
        #[arg(long)]
        dry_run: bool,
    },
    /// Give the capacity back; what lives in it comes home first
    #[command(after_help = "Examples:\n  grid boost release b-7k2 --dry-run\n  grid boost release b-7k2")]
    Release {
        /// Which
        id: String,
        /// End what lives in it by force in place of bringing it home
        #[arg(long)]
        end: bool,
        /// Only say what would happen
        #[arg(long)]
        dry_run: bool,
    },
    /// For its lender: freeze what lives in it at once, and have it leave
    #[command(
        after_help = "Examples:\n  grid boost reclaim b-7k2 --within 30s\n  grid boost reclaim b-7k2 --lift\n  grid boost reclaim b-7k2 --dry-run"
    )]
    Reclaim(ReclaimArgs),
}

/// `grid boost reclaim`.
#[derive(Clone, Debug, Args)]
pub struct ReclaimArgs {
    /// Which
    pub id: String,
    /// How long its guests have to leave
    #[arg(long, value_name = "D", default_value = "30s", allow_hyphen_values = true)]
    pub within: Millis,
    /// End by force what is still there then
    #[arg(long, conflicts_with = "lift")]
    pub end: bool,
    /// Let its guests run there again
    #[arg(long)]
    pub lift: bool,
    /// Only say what would happen
    #[arg(long)]
    pub dry_run: bool,
}

/// `grid boost request`.
#[derive(Clone, Debug, Args)]
pub struct BoostRequestArgs {
    /// The node that shall have the capacity
    pub borrower: String,
    /// Pairs such as `cpu 2`, `memory 8`, `gpu 1`, in place of the options
    #[arg(value_name = "RESOURCE AMOUNT", allow_negative_numbers = true)]
    pub amounts: Vec<String>,
    /// CPUs: 2, 0.5 or 1500m
    #[arg(long, value_name = "N", allow_hyphen_values = true)]
    pub cpu: Option<MilliCpu>,
    /// Memory: 8GiB, 512MiB [default with CPUs: what the plan needs]
    #[arg(long, value_name = "SIZE", allow_hyphen_values = true, value_parser = amount::size)]
    pub memory: Option<Bytes>,
    /// GPUs
    #[arg(long, value_name = "N", allow_hyphen_values = true, value_parser = amount::gpus)]
    pub gpu: Option<u32>,
    /// How urgent
    #[arg(long, value_enum, default_value = "normal")]
    pub priority: PriorityWord,
    /// For how long: 90s, 2m, 1h30m [default: the policy's]
    #[arg(long, value_name = "D", allow_hyphen_values = true)]
    pub duration: Option<Millis>,
    /// Only from this lender
    #[arg(long, value_name = "NODE")]
    pub from: Option<String>,
    /// What happens at the end with what lives in it [default: the policy's]
    #[arg(long, value_enum)]
    pub at_end: Option<AtEndWord>,
    /// Only say what would happen
    #[arg(long)]
    pub dry_run: bool,
}

/// `grid offload …`.
#[derive(Clone, Debug, Subcommand)]
pub enum OffloadCommand {
    /// What could move now, and why the rest stays
    #[command(
        after_help = "Examples:\n  grid offload scan\n  grid offload scan --all\n  grid offload scan --explain 4711\n  grid offload scan --code E-TTY"
    )]
    Scan {
        /// Name every process that was looked at closely
        #[arg(long, conflicts_with_all = ["explain", "code"])]
        all: bool,
        /// Everything about one process
        #[arg(long, value_name = "PID", conflicts_with = "code", value_parser = clap::value_parser!(i32).range(1..))]
        explain: Option<i32>,
        /// What a reason code means, and which processes have it
        #[arg(long, value_name = "E-X")]
        code: Option<String>,
    },
    /// Move one process, with all its children
    #[command(
        after_help = "Examples:\n  grid offload execute 4711 --dry-run\n  grid offload execute 4711 --boost b-7k2"
    )]
    Execute {
        /// The process; an offload's id means the process that has come home from it
        #[arg(value_name = "PID|ID", allow_hyphen_values = true, value_parser = super::ask::pid_or_offload)]
        pid: String,
        /// Only to this node
        #[arg(long, value_name = "NODE", conflicts_with = "boost")]
        to: Option<String>,
        /// Only into this boost
        #[arg(long, value_name = "ID")]
        boost: Option<String>,
        /// Close its established TCP connections; else one that has any stays
        #[arg(long)]
        close_tcp: bool,
        /// Only say what would happen
        #[arg(long)]
        dry_run: bool,
    },
    /// Everything that was moved
    #[command(alias = "status", after_help = "Examples:\n  grid offload list")]
    List,
    /// All about one move, with the exit status of a process that ended
    #[command(after_help = "Examples:\n  grid offload show o-19\n  grid offload show last")]
    Show {
        /// Which
        #[arg(value_name = "ID|PID")]
        id: String,
    },
    /// Stop a move that is under way; before its commit it is thawed at home, unharmed
    #[command(after_help = "Examples:\n  grid offload cancel o-19\n  grid offload cancel 4711")]
    Cancel {
        /// Which
        #[arg(value_name = "ID|PID")]
        id: String,
        /// Only say what would happen
        #[arg(long)]
        dry_run: bool,
    },
    /// Bring a process home, or move it on from its lender to another
    #[command(
        after_help = "Examples:\n  grid offload recall 4711\n  grid offload recall 4711 --to gpu2\n  grid offload recall o-19 --dry-run"
    )]
    Recall {
        /// Which
        #[arg(value_name = "ID|PID")]
        id: String,
        /// The head, or a node with an active lease in which it fits [default: home]
        #[arg(long, value_name = "head|NODE")]
        to: Option<String>,
        /// Close its established TCP connections; else one that has any stays where it is
        #[arg(long)]
        close_tcp: bool,
        /// Only say what would happen
        #[arg(long)]
        dry_run: bool,
    },
    /// Free a process's memory: it stands still on a disk, as long as you want
    #[command(
        after_help = "Its PID, its terminal and its pipes stay. kill -9 PID gives it up, and deletes what is parked.\n\nExamples:\n  grid offload park 4711\n  grid offload park 4711 --on head\n  grid offload park o-19 --dry-run"
    )]
    Park {
        /// Which: a process at home, or one that is away
        #[arg(value_name = "PID|ID")]
        id: String,
        /// On this node's disk [default: its lender's, or a worker's]
        #[arg(long, value_name = "NODE|head")]
        on: Option<String>,
        /// Only say what would happen
        #[arg(long)]
        dry_run: bool,
    },
    /// Let a parked process run on, from where it stood
    #[command(
        after_help = "Examples:\n  grid offload unpark 4711\n  grid offload unpark 4711 --to gpu2\n  grid offload unpark o-19 --dry-run"
    )]
    Unpark {
        /// Which
        #[arg(value_name = "ID|PID")]
        id: String,
        /// The head, or a node with an active lease in which it fits [default: home]
        #[arg(long, value_name = "head|NODE")]
        to: Option<String>,
        /// Only say what would happen
        #[arg(long)]
        dry_run: bool,
    },
    /// Decide about a move whose outcome nobody can know
    #[command(
        after_help = "Examples:\n  grid offload resolve o-19 --accept-repeat\n  grid offload resolve o-19 --drop"
    )]
    #[command(group = clap::ArgGroup::new("decision").required(true))]
    Resolve {
        /// Which
        #[arg(value_name = "ID|PID")]
        id: String,
        /// Thaw the copy at home, though work may be done twice
        #[arg(long, group = "decision")]
        accept_repeat: bool,
        /// Let the copy at home go
        #[arg(long, group = "decision")]
        drop: bool,
        /// Also of a move whose destination is silent: that machine is off, and does not come back with its copy
        #[arg(long)]
        gone: bool,
        /// Only say what would happen
        #[arg(long)]
        dry_run: bool,
    },
    /// Switch automatic offloading
    #[command(after_help = "Examples:\n  sudo grid offload auto observe\n  sudo grid offload auto on")]
    Auto {
        /// To
        mode: AutoWord,
        /// Only say what would happen
        #[arg(long)]
        dry_run: bool,
    },
}

/// `grid plan …`.
#[derive(Clone, Debug, Subcommand)]
pub enum PlanCommand {
    /// Plans that were made, and what became of them
    #[command(after_help = "Examples:\n  grid plan list")]
    List,
    /// One plan, step by step
    #[command(after_help = "Examples:\n  grid plan show p-52\n  grid plan show last")]
    Show {
        /// Which
        id: String,
    },
    /// Execute exactly this plan, or refuse with what has changed since
    #[command(after_help = "Examples:\n  grid plan apply p-52 --dry-run\n  grid plan apply p-52")]
    Apply {
        /// Which
        id: String,
        /// Only say what would happen
        #[arg(long)]
        dry_run: bool,
    },
}

/// `grid run`.
#[derive(Clone, Debug, Args)]
pub struct RunArgs {
    /// Move it into this boost as soon as it runs; where that fails it runs at home, and standard error says why
    #[arg(long, value_name = "ID", value_parser = super::ask::boost_id)]
    pub boost: Option<String>,
    /// Give it PID, mount and IPC namespaces of its own from the start, with an init that reaps, and an empty /tmp and
    /// /dev/shm that nobody else sees and that move with it; needs the cluster, and is refused where that is impossible
    #[arg(long)]
    pub private: bool,
    /// Let it use io_uring: while it does, it cannot be moved
    #[arg(long)]
    pub allow_io_uring: bool,
    /// Only say what would happen
    #[arg(long)]
    pub dry_run: bool,
    /// The command, and its words
    #[arg(required = true, trailing_var_arg = true, value_name = "COMMAND")]
    pub command: Vec<OsString>,
}

/// `grid stop`.
#[derive(Clone, Debug, Args)]
pub struct StopArgs {
    /// Let processes move again
    #[arg(long)]
    pub lift: bool,
    /// Only say what would happen
    #[arg(long)]
    pub dry_run: bool,
}

/// `grid rescue`.
#[derive(Clone, Debug, Args)]
pub struct RescueArgs {
    /// Thaw the copy at home of this attempt, though its work may be done twice
    #[arg(long, value_name = "ATTEMPT")]
    pub accept_repeat: Vec<String>,
    /// Only say what would happen
    #[arg(long)]
    pub dry_run: bool,
}

/// `grid keep`.
#[derive(Clone, Debug, Args)]
#[command(group = clap::ArgGroup::new("what").required(true))]
pub struct KeepArgs {
    /// The process
    #[arg(group = "what", value_parser = clap::value_parser!(i32).range(1..))]
    pub pid: Option<i32>,
    /// For so long: 30m, 2h [default: until it ends]
    #[arg(long = "for", value_name = "D", requires = "pid", allow_hyphen_values = true)]
    pub span: Option<Millis>,
    /// What is kept
    #[arg(long, group = "what")]
    pub list: bool,
    /// Keep it no longer
    #[arg(long, value_name = "PID", group = "what", value_parser = clap::value_parser!(i32).range(1..))]
    pub drop: Option<i32>,
    /// Only say what would happen
    #[arg(long)]
    pub dry_run: bool,
}

macro_rules! words {
    ($(#[$doc:meta])* $name:ident => $type:ident { $($(#[$what:meta])* $variant:ident,)* }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
        pub enum $name { $($(#[$what])* $variant,)* }
        impl From<$name> for $type {
            fn from(word: $name) -> Self {
                match word { $($name::$variant => $type::$variant,)* }
            }
        }
    };
}

words! {
    /// `--priority`.
    PriorityWord => Priority {
        /// Yields to all others
        Low,
        /// The default
        Normal,
        /// Before normal ones
        High,
        /// Before all
        Critical,
    }
}
words! {
    /// `--at-end`.
    AtEndWord => AtEnd {
        /// Home if it fits whole there, else to another lease, else it stays and that is said loudly
        Recall,
        /// Stays, and that is said loudly
        Stay,
        /// Parked on its lender's disk, out of its memory; where that fails it stays and that is said loudly
        Park,
        /// Ended by force
        End,
    }
}
words! {
    /// `grid offload auto`.
    AutoWord => AutoMode {
        /// Never looks
        Off,
        /// Says what it would do and does nothing
        Observe,
        /// Does it
        On,
    }
}

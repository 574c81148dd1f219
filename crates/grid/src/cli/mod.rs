//! The commands people type, as one definition: help, completions and man pages are made from it.
//!
//! Owns words, output and exit codes. Never decides anything: it asks the head's daemon, or reads a file. Data goes to
//! stdout, messages to stderr; [`FaultClass`] sets the exit code.
//!
//! ```text
//!  words ──Cli──► ask(…) ──Client──► daemon ──Reply<T>──► render::*(&T) ──Printed──► stdout
//!                                          └──ApiError──► Failure ──────────────────► stderr, exit code
//! ```

mod amount;
mod args;
mod ask;
mod client;
mod commands;
mod config;
mod doctor;
mod failure;
mod generate;
mod init;
mod internal;
mod lend;
mod lend_args;
mod lend_rule;
mod may;
mod members;
mod node;
mod node_args;
mod offload;
mod output;
mod reclaim;
pub mod render;
mod rescue;
mod run_helper;
mod trust;
mod words;

pub use args::{
    AtEndWord, AutoWord, BoostCommand, BoostRequestArgs, KeepArgs, OffloadCommand, PlanCommand, PriorityWord,
    ReclaimArgs, RescueArgs, RunArgs, StopArgs,
};
pub use client::{Answer, Client};
pub use commands::run;
pub use config::trusted;
pub use failure::Failure;
pub use internal::{
    AgentArgs, ChannelArgs, DaemonArgs, DaemonCommand, DaemonRunArgs, DownArgs, HomePumpArgs, HomeServeArgs,
    NodeInitArgs, ReachArgs, RunHelperArgs, TreeInitArgs, UpArgs,
};
pub use lend_args::{LendCommand, LendOffArgs, LimitArgs, MeasureWord, RuleArgs, ThenWord, WhichNode};
pub use node_args::{NodeAddArgs, NodeRemoveArgs};
pub use output::{Format, Printed, Progress, data, message, text};

use clap::{Args, Parser, Subcommand};
use grid_types::exit::FaultClass;
use std::path::PathBuf;

/// Borrow capacity from other machines and move running processes there and back.
#[derive(Clone, Debug, Parser)]
#[command(name = "grid", version, after_help = exit_codes(), disable_help_subcommand = true, max_term_width = 100)]
pub struct Cli {
    /// Options of every command.
    #[command(flatten)]
    pub global: Global,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// Options of every command.
#[derive(Clone, Debug, Args)]
pub struct Global {
    /// Form of the output
    #[arg(
        long,
        short = 'o',
        global = true,
        value_enum,
        env = "GRID_OUTPUT",
        hide_env_values = true,
        default_value = "human",
        help_heading = "Global options"
    )]
    pub output: Format,
    /// Directory of the daemon's state
    #[arg(
        long,
        global = true,
        value_name = "DIR",
        env = "GRID_STATE",
        hide_env_values = true,
        default_value = "/var/lib/grid",
        help_heading = "Global options"
    )]
    pub state: PathBuf,
    /// The daemon's socket [default: STATE/head.sock]
    #[arg(
        long,
        global = true,
        value_name = "PATH",
        env = "GRID_SOCKET",
        hide_env_values = true,
        help_heading = "Global options"
    )]
    pub socket: Option<PathBuf>,
}

impl Global {
    /// The head daemon's socket.
    pub fn socket(&self) -> PathBuf {
        self.socket.clone().unwrap_or_else(|| self.state.join("head.sock"))
    }
}

/// What can be asked of grid.
#[derive(Clone, Debug, Subcommand)]
pub enum Command {
    /// Nodes, boosts and what is away, at a glance
    #[command(after_help = "Examples:\n  grid status\n  grid status --output json | jq .ok.away")]
    Status,
    /// Boosts: more capacity, lent by other nodes
    #[command(alias = "resource-sharing", subcommand)]
    Boost(BoostCommand),
    /// Moving processes away and back
    #[command(subcommand)]
    Offload(OffloadCommand),
    /// Plans: exactly what would be done
    #[command(subcommand)]
    Plan(PlanCommand),
    /// Why a process can or cannot move, or all about a boost, an offload, a plan, a node or a reason code
    #[command(
        after_help = "Examples:\n  grid explain 4711\n  grid explain b-7k2\n  grid explain o-19\n  grid explain E-TTY"
    )]
    Explain {
        /// A process, or an id, or a node, or a reason code
        #[arg(value_name = "PID|BOOST|OFFLOAD|PLAN|NODE|CODE")]
        what: String,
    },
    /// Start a command so that it can be moved later: no io_uring, no stray descriptors
    #[command(
        override_usage = "grid run [--boost ID] [--private] [--allow-io-uring] [--dry-run] [--] COMMAND...",
        after_help = "Examples:\n  grid run -- python3 prep.py\n  grid run node server.js | tee log\n  \
grid run --boost b-7k2 -- make -j8\n  grid run --private -- ./train.sh\n\n\
It becomes the command: same PID, parent, terminal and pipes, and its exit status is the command's.\n\
Descriptors beyond 0, 1 and 2 are closed. io_uring answers ENOSYS, by a seccomp filter; for that everybody\n\
but root gives up new privileges (sudo in it gets none). Where nothing was started: 127 no such command,\n\
126 it cannot be executed, 125 it could not be prepared."
    )]
    Run(RunArgs),
    /// Keep a process of yours where it is
    #[command(
        after_help = "Examples:\n  grid keep 4711\n  grid keep 4711 --for 2h\n  grid keep --list\n  grid keep --drop 4711"
    )]
    Keep(KeepArgs),
    /// Freeze nothing more, thaw what is not past its commit; works without the daemon
    #[command(after_help = "Examples:\n  grid stop\n  grid stop --dry-run\n  grid stop --lift\n\n\
It makes the file STATE/control/stop. Every grid of the machine: touch /etc/grid/stop")]
    Stop(StopArgs),
    /// Thaw what dead agents left frozen, where that is provably right; needs no daemon and no agent
    #[command(after_help = "Examples:\n  sudo grid rescue --dry-run\n  sudo grid rescue\n  \
sudo grid rescue --accept-repeat o-19.1")]
    Rescue(RescueArgs),
    /// Nodes
    #[command(subcommand, alias = "nodes")]
    Node(NodeCommand),
    /// On a lender, for its owner: what it lends, and to whom; works without the head
    #[command(subcommand)]
    Lend(LendCommand),
    /// What happened, and who did it
    #[command(after_help = "Examples:\n  grid events --after 120\n  grid events --follow")]
    Events {
        /// Go on with what happens from now on
        #[arg(long, short)]
        follow: bool,
        /// Only what came after this number
        #[arg(long, value_name = "N", default_value_t = 0)]
        after: u64,
    },
    /// The configuration file
    #[command(subcommand)]
    Config(ConfigCommand),
    /// Write a commented configuration from what is found on this machine
    #[command(after_help = "Examples:\n  grid init\n  grid init --output-file -")]
    Init {
        /// File to write, `-` for stdout; an existing file is never overwritten
        #[arg(long, value_name = "FILE", default_value = config::DEFAULT_FILE)]
        output_file: PathBuf,
        /// Only say what would happen
        #[arg(long)]
        dry_run: bool,
    },
    /// Check what this machine offers, what each thing enables and how to get it
    #[command(after_help = "Examples:\n  grid doctor\n  grid doctor --output json\n  grid doctor --between head gpu1")]
    Doctor {
        /// Compare two machines, as every move between them does before it freezes anything
        #[arg(long, num_args = 2, value_names = ["HERE", "THERE"])]
        between: Option<Vec<String>>,
    },
    /// Start a cluster: the head's daemon, and workers
    #[command(after_help = "Examples:\n  sudo grid up --local 2\n  sudo grid up --config grid.yaml --detach\n\n\
Without --detach, Ctrl-C brings everything home and ends the cluster. What cannot come home keeps it up;\n\
Ctrl-C once more ends that too.")]
    Up(UpArgs),
    /// Stop the cluster; says what is still away and what becomes of it
    #[command(after_help = "Examples:\n  sudo grid down\n  sudo grid down --recall-first")]
    Down(DownArgs),
    /// Hand the cluster that is up over to this program; what is away goes on
    #[command(after_help = "Examples:\n  sudo grid upgrade --dry-run\n  sudo grid upgrade")]
    Upgrade {
        /// Only say what would happen
        #[arg(long)]
        dry_run: bool,
    },
    /// The cluster as a service of systemd's, there after each boot
    #[command(subcommand)]
    Service(ServiceCommand),
    /// What grid has on this machine, and what takes each thing away
    #[command(after_help = "Examples:\n  grid uninstall --list")]
    Uninstall {
        /// Only tell: each thing goes by its own command
        #[arg(long, required = true)]
        list: bool,
    },
    /// Completions for a shell, to stdout
    #[command(after_help = "Examples:\n  grid completions bash >/etc/bash_completion.d/grid")]
    Completions {
        /// Which shell
        shell: clap_complete::Shell,
    },
    /// Write the man pages into a directory
    #[command(after_help = "Examples:\n  grid man target/man")]
    Man {
        /// Where to; made if it does not exist
        dir: PathBuf,
        /// Only say what would happen
        #[arg(long)]
        dry_run: bool,
    },
    /// One node's agent
    #[command(hide = true)]
    Agent(AgentArgs),
    /// The head's daemon
    #[command(hide = true)]
    Daemon(DaemonArgs),
    /// Who asks for the move of what `grid run` started
    #[command(hide = true)]
    RunHelper(RunHelperArgs),
    /// An end of the channel between machines
    #[command(hide = true)]
    Channel(ChannelArgs),
    /// Who keeps ssh to a worker
    #[command(hide = true)]
    Reach(ReachArgs),
    /// The supervisor on a worker that is another machine
    #[command(hide = true)]
    NodeRun(AgentArgs),
    /// Starts that supervisor
    #[command(hide = true)]
    NodeStart,
    /// Ends that supervisor and all that lives there
    #[command(hide = true)]
    NodeStop {
        /// Its folder
        directory: PathBuf,
        /// And remove that
        #[arg(long, conflicts_with = "unless_living")]
        purge: bool,
        /// But leave it alone where something lives there
        #[arg(long)]
        unless_living: bool,
    },
    /// First process of an embedded worker
    #[command(hide = true)]
    NodeInit(NodeInitArgs),
    /// Leader of the session of a moved tree's terminal
    #[command(hide = true)]
    TreeSession,
    /// The head's files beside a moved tree
    #[command(hide = true)]
    HomePump(HomePumpArgs),
    /// The head's files at home
    #[command(hide = true)]
    HomeServe(HomeServeArgs),
    /// First process of a moved tree
    #[command(hide = true)]
    TreeInit(TreeInitArgs),
}

/// `grid node …`.
#[derive(Clone, Debug, Subcommand)]
pub enum NodeCommand {
    /// Every node, what it has, uses and could lend
    #[command(alias = "status", after_help = "Examples:\n  grid node list")]
    List,
    /// Take a machine in as a worker of a cluster that runs
    #[command(after_help = "Examples:\n  sudo grid node add gpu3 --host gpu3.lab --lend-cpu 8 --lend-memory 16GiB\n  \
sudo grid node add gpu3 --host gpu3.lab --user alice --sudo --dry-run\n\n\
It stays one of the cluster's: after grid down and grid up it is there again. The configuration file is not changed.")]
    Add(NodeAddArgs),
    /// Let a worker go: its daemons end, and it cannot come back; refused while something is there
    #[command(
        after_help = "Examples:\n  sudo grid node remove gpu3 --dry-run\n  sudo grid node remove gpu3 --drain --purge\n  \
sudo grid node remove gpu3 --unreachable"
    )]
    Remove(NodeRemoveArgs),
    /// Nothing new comes to it: no boost, no process; what is there stays
    #[command(after_help = "Examples:\n  sudo grid node cordon gpu1\n  sudo grid node cordon gpu1 --dry-run")]
    Cordon(NodeArgs),
    /// It may take something again
    #[command(after_help = "Examples:\n  sudo grid node uncordon gpu1")]
    Uncordon(NodeArgs),
    /// Cordon it, and move away what lives there: home, or to another lease; nothing is ended
    #[command(after_help = "Examples:\n  sudo grid node drain gpu1 --dry-run\n  sudo grid node drain gpu1 --by 5m")]
    Drain {
        /// Which.
        #[command(flatten)]
        node: NodeArgs,
        /// How long this command waits for them to leave
        #[arg(long, value_name = "D", default_value = "1m", allow_hyphen_values = true)]
        by: grid_types::units::Millis,
    },
}

/// `grid service …`.
#[derive(Clone, Debug, Subcommand)]
pub enum ServiceCommand {
    /// Check the configuration, have systemd start the cluster now and at each boot
    #[command(after_help = "Examples:\n  sudo grid service install --config /etc/grid/cluster.yaml")]
    Install {
        /// Configuration of the cluster
        #[arg(long, short, value_name = "FILE", default_value = "/etc/grid/cluster.yaml")]
        config: PathBuf,
        /// Only say what would happen
        #[arg(long)]
        dry_run: bool,
    },
    /// Bring everything home, end the cluster, and take the service away
    #[command(after_help = "Examples:\n  sudo grid service uninstall --dry-run\n  sudo grid service uninstall")]
    Uninstall {
        /// Only say what would happen
        #[arg(long)]
        dry_run: bool,
    },
}

/// One node.
#[derive(Clone, Debug, Args)]
pub struct NodeArgs {
    /// Which
    pub node: String,
    /// Only say what would happen
    #[arg(long)]
    pub dry_run: bool,
}

/// `grid config …`.
#[derive(Clone, Debug, Subcommand)]
pub enum ConfigCommand {
    /// Check a file and say what each value means here
    #[command(after_help = "Examples:\n  grid config check cluster.yaml")]
    Check {
        /// The file
        #[arg(default_value = config::DEFAULT_FILE)]
        file: PathBuf,
    },
    /// The configuration in force as YAML, defaults included
    #[command(after_help = "Examples:\n  grid config show cluster.yaml")]
    Show {
        /// The file
        #[arg(default_value = config::DEFAULT_FILE)]
        file: PathBuf,
    },
}

/// The exit codes, for `grid --help`.
fn exit_codes() -> String {
    let mut out = String::from("Exit codes:\n   0  done\n");
    for class in FaultClass::ALL {
        out.push_str(&format!("  {:2}  {}\n", class.code(), class.meaning()));
    }
    out + "\nids may be shortened to any unambiguous prefix; `last` is the newest."
}

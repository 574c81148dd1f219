//! Arguments of the commands that start and stop daemons; `main.rs` executes them.

use crate::up::Account;
use clap::{Args, Subcommand};
use grid_types::units::{Bytes, MilliCpu};
use std::ffi::OsString;
use std::path::PathBuf;

/// `grid up`.
#[derive(Clone, Debug, Args)]
#[command(group = clap::ArgGroup::new("workers").required(true).args(["local", "config"]))]
pub struct UpArgs {
    /// Start the head and N workers on this machine
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=16))]
    pub local: Option<u32>,
    /// Configuration of the cluster
    #[arg(long, short, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Return when it is up; without it, it runs until it is interrupted
    #[arg(long)]
    pub detach: bool,
    /// CPUs that each local worker lends at most [default: as many as this machine has]
    #[arg(long, value_name = "N", requires = "local", allow_hyphen_values = true)]
    pub worker_cpu: Option<MilliCpu>,
    /// Memory that each local worker lends at most [default: a quarter of this machine's]
    #[arg(long, value_name = "SIZE", requires = "local", allow_hyphen_values = true, value_parser = super::amount::size)]
    pub worker_memory: Option<Bytes>,
    /// On workers that ssh reaches as another user than root, use sudo (without a password)
    #[arg(long, requires = "config")]
    pub sudo: bool,
    /// Only say what would happen
    #[arg(long, conflicts_with = "detach")]
    pub dry_run: bool,
    /// User of the head's daemon, by name or number [default: `users.daemon`, else `grid`, else a number nobody uses]
    #[arg(long, value_name = "NAME")]
    pub daemon_user: Option<String>,
}

/// `grid down`.
#[derive(Clone, Debug, Args)]
pub struct DownArgs {
    /// Bring everything home first, and stop only if that worked
    #[arg(long)]
    pub recall_first: bool,
    /// What is still away ends with it
    #[arg(long, short)]
    pub yes: bool,
    /// What is still away runs on where it is, without the head, and the next `grid up` takes it over
    #[arg(long, conflicts_with_all = ["yes", "purge"])]
    pub leave: bool,
    /// Also remove what grid has on workers that are other machines: programs, logs, ledger
    #[arg(long)]
    pub purge: bool,
    /// Only say what would happen
    #[arg(long)]
    pub dry_run: bool,
}

/// `grid agent`.
#[derive(Clone, Debug, Args)]
pub struct AgentArgs {
    /// What the agent needs to know, as JSON
    #[arg(long, value_name = "FILE")]
    pub config: PathBuf,
}

/// `grid daemon …`.
#[derive(Clone, Debug, Args)]
pub struct DaemonArgs {
    /// What of it.
    #[command(subcommand)]
    pub command: DaemonCommand,
}

/// What `grid daemon` can be told.
#[derive(Clone, Debug, Subcommand)]
pub enum DaemonCommand {
    /// Run in the foreground
    Run(DaemonRunArgs),
}

/// `grid daemon run`.
#[derive(Clone, Debug, Args)]
pub struct DaemonRunArgs {
    /// Configuration of the cluster
    #[arg(long, short, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Become this user and group first, without any right of root's
    #[arg(long, value_name = "UID:GID")]
    pub run_as: Option<Account>,
}

/// `grid channel`.
#[derive(Clone, Debug, Args)]
pub struct ChannelArgs {
    /// What it needs to know, as JSON
    #[arg(long, value_name = "FILE")]
    pub config: PathBuf,
    /// Become this user and group first, without any right of root's
    #[arg(long, value_name = "UID:GID")]
    pub run_as: Option<Account>,
}

/// `grid reach`.
#[derive(Clone, Debug, Args)]
pub struct ReachArgs {
    /// What it needs to know, as JSON
    #[arg(long, value_name = "FILE")]
    pub config: PathBuf,
    /// Become this user and group first, without any right of root's
    #[arg(long, value_name = "UID:GID")]
    pub run_as: Option<Account>,
    /// Only end the worker's daemons
    #[arg(long)]
    pub leave: bool,
    /// And remove what grid has there
    #[arg(long, requires = "leave")]
    pub purge: bool,
}

/// `grid node-init`.
#[derive(Clone, Debug, Args)]
pub struct NodeInitArgs {
    /// Passed on as they are
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    pub args: Vec<OsString>,
}

/// `grid run-helper`.
#[derive(Clone, Debug, Args)]
pub struct RunHelperArgs {
    /// What is moved, once standard input has come to its end without a word.
    pub pid: i32,
    /// Boost to move into.
    #[arg(long)]
    pub boost: Option<String>,
    /// Give it namespaces and a /tmp of its own first, and tell it then.
    #[arg(long)]
    pub private: bool,
}

/// `grid tree-init`.
#[derive(Clone, Debug, Args)]
pub struct TreeInitArgs {
    /// Directory of the tree's control socket
    pub dir: PathBuf,
    /// It is a guest on a lender
    #[arg(long)]
    pub guest: bool,
    /// It has a /tmp and a /dev/shm of its own, this user's and group's
    #[arg(long, value_name = "UID:GID")]
    pub private_tmp: Option<Account>,
    /// The highest number of a process or thread of the tree
    #[arg(long, default_value_t = 0)]
    pub highest: i32,
}

/// `grid home-pump`.
#[derive(Clone, Debug, Args)]
pub struct HomePumpArgs {
    /// Folder of the tree
    pub dir: PathBuf,
    /// The attempt that brings it
    pub attempt: String,
    /// Its owner
    pub uid: u32,
    /// Its owner's group
    pub gid: u32,
    /// A further group of its owner's
    #[arg(long = "group")]
    pub groups: Vec<u32>,
    /// It has a /tmp of its own.
    #[arg(long)]
    pub private_tmp: bool,
    /// Who waits for home gets an error once it has been away for so long.
    #[arg(long)]
    pub patience_ms: Option<u64>,
    /// A folder in which it sees this machine's files.
    #[arg(long)]
    pub own: Vec<PathBuf>,
}

/// `grid home-serve`.
#[derive(Clone, Debug, Args)]
pub struct HomeServeArgs {
    /// Folder of this server's
    pub dir: PathBuf,
    /// The attempt that takes the tree away
    pub attempt: String,
    /// Its owner
    pub uid: u32,
    /// Its owner's group
    pub gid: u32,
    /// Its owner's further groups
    #[arg(long, value_delimiter = ',')]
    pub groups: Vec<u32>,
}

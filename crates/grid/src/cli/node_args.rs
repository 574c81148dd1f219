//! Arguments of `grid node add` and `grid node remove`. What the file calls something is called the same here.

use super::amount;
use clap::Args;
use grid_types::units::{Bytes, MilliCpu, Millis};
use std::path::PathBuf;

/// `grid node add`.
#[derive(Clone, Debug, Args)]
pub struct NodeAddArgs {
    /// What it is called from now on
    pub name: String,
    /// Its host name or address, as your ssh knows it [default: NAME]
    #[arg(long, value_name = "HOST")]
    pub host: Option<String>,
    /// Its ssh port [default: ssh's own choice]
    #[arg(long, value_name = "PORT")]
    pub port: Option<u16>,
    /// User to log in as [default: ssh's own choice]
    #[arg(long, value_name = "USER")]
    pub user: Option<String>,
    /// Private key for ssh [default: ssh's own choice]
    #[arg(long, value_name = "FILE")]
    pub ssh_key: Option<PathBuf>,
    /// Most CPUs that it lends: 2, 0.5 or 1500m [default: 1]
    #[arg(long, value_name = "N", allow_hyphen_values = true)]
    pub lend_cpu: Option<MilliCpu>,
    /// Most memory that it lends: 8GiB, 512MiB [default: 1GiB]
    #[arg(long, value_name = "SIZE", allow_hyphen_values = true, value_parser = amount::size)]
    pub lend_memory: Option<Bytes>,
    /// Among lenders that fit equally well the higher one lends first [default: 1]
    #[arg(long, value_name = "NUMBER", allow_negative_numbers = true)]
    pub priority: Option<f64>,
    /// A free word: accepted, not used; may be given more than once
    #[arg(long = "tag", value_name = "WORD")]
    pub tags: Vec<String>,
    /// Where ssh comes in as another user than root, use sudo (without a password)
    #[arg(long)]
    pub sudo: bool,
    /// Only say what would happen; the machine is not reached for that
    #[arg(long)]
    pub dry_run: bool,
}

/// `grid node remove`.
#[derive(Clone, Debug, Args)]
pub struct NodeRemoveArgs {
    /// Which
    pub node: String,
    /// Move away first what lives there, as `grid node drain` does
    #[arg(long)]
    pub drain: bool,
    /// How long this command waits for them to leave
    #[arg(long, value_name = "D", default_value = "1m", requires = "drain", allow_hyphen_values = true)]
    pub by: Millis,
    /// Remove what grid has there, too: programs, logs, ledger
    #[arg(long)]
    pub purge: bool,
    /// Also where it does not answer: what grid has there stays, and cannot come back
    #[arg(long)]
    pub unreachable: bool,
    /// With --unreachable: what lives on it, or is parked there, counts as lost, and its shadows end with 113
    #[arg(long, requires = "unreachable")]
    pub give_up: bool,
    /// Only say what would happen
    #[arg(long)]
    pub dry_run: bool,
}

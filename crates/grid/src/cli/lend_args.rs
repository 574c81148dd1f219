//! The words of `grid lend`, which is said on the machine that lends.

use super::amount;
use clap::{Args, Subcommand, ValueEnum};
use grid_types::{Bytes, MilliCpu, Millis};

/// `grid lend …`.
#[derive(Clone, Debug, Subcommand)]
pub enum LendCommand {
    /// What this machine lends, who is here, what they use, and until when
    #[command(after_help = "Examples:\n  grid lend status\n  grid lend status --node gpu1 --output json")]
    Status {
        /// Of which node.
        #[command(flatten)]
        which: WhichNode,
    },
    /// Lend again; what was taken back runs on
    #[command(after_help = "Examples:\n  sudo grid lend on")]
    On {
        /// Of which node.
        #[command(flatten)]
        which: WhichNode,
        /// Only say what would happen
        #[arg(long)]
        dry_run: bool,
    },
    /// Lend nothing more; what is lent stays, unless it is taken back
    #[command(
        after_help = "Examples:\n  sudo grid lend off\n  sudo grid lend off --reclaim --by 1m\n  sudo grid lend off --reclaim --dry-run"
    )]
    Off(LendOffArgs),
    /// Lend no more than this; what is not named stays as it is
    #[command(
        after_help = "Examples:\n  sudo grid lend limit --cpu 2 --memory 4GiB\n  sudo grid lend limit --reserve-memory 8GiB\n  \
sudo grid lend limit --hours 18:00-08:00\n  sudo grid lend limit --none"
    )]
    Limit(LimitArgs),
    /// This machine goes to sleep: what lives here stands still first, and nothing comes. Where systemd suspends, it says so itself
    #[command(after_help = "Examples:\n  sudo grid lend sleep && systemctl suspend")]
    Sleep(SleepArgs),
    /// It is awake: what stood still runs again as soon as its head has confirmed it
    #[command(after_help = "Examples:\n  sudo grid lend wake")]
    Wake(SleepArgs),
    /// What you do on this machine says no for you; each rule may be another, and `grid lend status` shows them
    #[command(after_help = "Examples:\n  sudo grid lend rule --when-load 1.5 --for 30s\n  \
sudo grid lend rule --when-memory 2GiB --quiet 10m\n  sudo grid lend rule --when-input 10m --then reclaim\n  \
sudo grid lend rule --remove load\n  sudo grid lend rule --none")]
    Rule(RuleArgs),
}

/// Of which node of this machine.
#[derive(Clone, Debug, Args)]
pub struct WhichNode {
    /// The node, where this machine has several
    #[arg(long, value_name = "NAME")]
    pub node: Option<String>,
}

/// `grid lend sleep` and `wake`.
#[derive(Clone, Debug, Args)]
pub struct SleepArgs {
    /// Of which node.
    #[command(flatten)]
    pub which: WhichNode,
    /// Only say what would happen
    #[arg(long)]
    pub dry_run: bool,
}

/// `grid lend off`.
#[derive(Clone, Debug, Args)]
pub struct LendOffArgs {
    /// Freeze what lives here at once, and have it leave; nothing is ended
    #[arg(long)]
    pub reclaim: bool,
    /// How long this command waits for them to leave
    #[arg(long, value_name = "D", default_value = "30s", requires = "reclaim", allow_hyphen_values = true)]
    pub by: Millis,
    /// Of which node.
    #[command(flatten)]
    pub which: WhichNode,
    /// Only say what would happen
    #[arg(long)]
    pub dry_run: bool,
}

/// `grid lend limit`.
#[derive(Clone, Debug, Args)]
#[command(group = clap::ArgGroup::new("limits").required(true).multiple(true))]
pub struct LimitArgs {
    /// CPUs of all leases together: 2, 0.5 or 1500m
    #[arg(long, value_name = "N", group = "limits", allow_hyphen_values = true)]
    pub cpu: Option<MilliCpu>,
    /// Memory of all leases together: 4GiB
    #[arg(long, value_name = "SIZE", group = "limits", allow_hyphen_values = true, value_parser = amount::size)]
    pub memory: Option<Bytes>,
    /// So much of the machine's memory stays free of new leases
    #[arg(long, value_name = "SIZE", group = "limits", allow_hyphen_values = true, value_parser = amount::size)]
    pub reserve_memory: Option<Bytes>,
    /// New leases only in this part of the day, by this machine's clock: 18:00-08:00
    #[arg(long, value_name = "FROM-TO", group = "limits", allow_hyphen_values = true)]
    pub hours: Option<grid_types::lend::Hours>,
    /// No limits but the configuration's
    #[arg(long, group = "limits", conflicts_with_all = ["cpu", "memory", "reserve_memory", "hours"])]
    pub none: bool,
    /// Of which node.
    #[command(flatten)]
    pub which: WhichNode,
    /// Only say what would happen
    #[arg(long)]
    pub dry_run: bool,
}

/// `grid lend rule`.
#[derive(Clone, Debug, Args)]
#[command(group = clap::ArgGroup::new("rules").required(true).multiple(true))]
#[command(group = clap::ArgGroup::new("when").multiple(true))]
pub struct RuleArgs {
    /// Somebody used a terminal or a desktop here within this time; guests do not count
    #[arg(long, value_name = "D", groups = ["rules", "when"], allow_hyphen_values = true)]
    pub when_input: Option<Millis>,
    /// Your own processes use this many CPUs or more; guests do not count
    #[arg(long, value_name = "N", groups = ["rules", "when"], allow_hyphen_values = true)]
    pub when_load: Option<MilliCpu>,
    /// Less of this machine's memory is available; guests count
    #[arg(long, value_name = "SIZE", groups = ["rules", "when"], allow_hyphen_values = true, value_parser = amount::size)]
    pub when_memory: Option<Bytes>,
    /// Nothing new is lent (off), or guests are frozen at once and leave, too (reclaim) [default: input off, others reclaim]
    #[arg(long, requires = "when")]
    pub then: Option<ThenWord>,
    /// Load or memory must be so for this long [default: load 30s, memory 10s]
    #[arg(long = "for", value_name = "D", requires = "when", allow_hyphen_values = true)]
    pub hold: Option<Millis>,
    /// It lends again when load or memory has been over for this long [default: load 5m, memory 10m]
    #[arg(long, value_name = "D", requires = "when", allow_hyphen_values = true)]
    pub quiet: Option<Millis>,
    /// Take a rule away; what it did is undone
    #[arg(long, value_name = "RULE", group = "rules", conflicts_with = "when")]
    pub remove: Vec<MeasureWord>,
    /// Take all rules away
    #[arg(long, group = "rules", conflicts_with_all = ["when", "remove"])]
    pub none: bool,
    /// Of which node.
    #[command(flatten)]
    pub which: WhichNode,
    /// Only say what would happen
    #[arg(long)]
    pub dry_run: bool,
}

/// What a rule does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum ThenWord {
    /// Nothing new is lent; what is lent stays
    Off,
    /// Guests are frozen at once, and leave; nothing is ended
    Reclaim,
}

/// Which rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum MeasureWord {
    /// The one for input
    Input,
    /// The one for your own processes' load
    Load,
    /// The one for available memory
    Memory,
}

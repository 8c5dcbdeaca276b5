//! The arguments of `recover`.

use std::path::PathBuf;

use backstop_policy::plan::Ending;
use backstop_types::ids::ShardName;
use backstop_types::listen_address::ListenAddress;
use clap::{Args, ValueEnum};

use super::TargetArgs;

/// `recover`.
#[derive(Debug, Clone, Args)]
pub struct RecoverArgs {
    /// Name of the shard
    pub shard: ShardName,
    /// The moment and the backup.
    #[command(flatten)]
    pub target: TargetArgs,
    /// Target directory: new, empty, or with an unfinished recovery with the same arguments, which
    /// resumes
    #[arg(long, value_name = "DIR")]
    pub into: PathBuf,
    /// With --backup: use the data directory that DIR/data has already, on a mounted volume made
    /// from the EBS backup
    #[arg(long, requires = "backup")]
    pub on_volume: bool,
    /// With --on-volume: mount point of a further volume of the backup, mounted where the source had
    /// it; may be repeated
    #[arg(long, value_name = "MOUNT", requires = "on_volume")]
    pub volume_at: Vec<PathBuf>,
    /// The ending.
    #[command(flatten)]
    pub ending: EndingArgs,
    /// With --as-primary: disregard members that may live; repeat the shard's name to confirm
    #[arg(long, value_name = "SHARD")]
    pub force_as_primary: Option<ShardName>,
    /// Addresses that the server listens on after the hand-over, as bind_address takes them; the
    /// server is restarted once for that [default: 127.0.0.1]
    #[arg(long, value_name = "ADDRESS")]
    pub listen: Option<ListenAddress>,
    /// TCP port of the server [default: a free one]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    pub port: Option<u16>,
    /// Depth of the check of the tables
    #[arg(long, value_enum, default_value_t = CheckArg::Quick)]
    pub check: CheckArg,
    /// Show the steps, and do nothing
    #[arg(long)]
    pub plan: bool,
    /// User that the server runs as; root must name one, or give --run-as-root
    /// [default: the user that runs this command]
    #[arg(long, value_name = "USER", conflicts_with = "run_as_root")]
    pub server_user: Option<String>,
    /// Let the server run as root, with access to every file
    #[arg(long)]
    pub run_as_root: bool,
    /// Option file for the server; its options override the settings recorded with the backup
    #[arg(long, value_name = "FILE")]
    pub defaults_file: Option<PathBuf>,
    /// Option for the server, which overrides --defaults-file; may be repeated
    #[arg(long, value_name = "KEY=VALUE")]
    pub server_option: Vec<String>,
    /// Table that may be broken after the recovery, besides those that the backup recorded; may be
    /// repeated
    #[arg(long, value_name = "SCHEMA.TABLE", value_parser = table_name)]
    pub accept_broken: Vec<String>,
    /// Write a systemd unit for the server into DIR
    #[arg(long)]
    pub systemd: bool,
    /// With --standalone: leave an account to read the copy with, over the socket, and its password
    /// in DIR/client.cnf
    #[arg(long, conflicts_with_all = ["join", "as_primary"])]
    pub copy_login: bool,
    /// With --as-primary: handling of the events that were enabled on the primary
    #[arg(long, value_enum, conflicts_with_all = ["join", "standalone"], default_value_t = EventsArg::Enable)]
    pub events: EventsArg,
}

/// Parses a table with its schema.
fn table_name(text: &str) -> Result<String, &'static str> {
    let is_table = |(schema, table): (&str, &str)| !schema.is_empty() && !table.is_empty();
    if text.split_once('.').is_some_and(is_table) { Ok(text.to_owned()) } else { Err("write SCHEMA.TABLE") }
}

/// The choices of `recover --as-primary` about events.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum EventsArg {
    /// Enable them, and the event scheduler if it was on
    Enable,
    /// Print the statements that do so
    Print,
}

/// Ending of a recovery.
#[derive(Debug, Clone, Copy, Args)]
#[group(required = true, multiple = false)]
pub struct EndingArgs {
    /// Make a replica of the shard's current primary, caught up; only with --to latest
    #[arg(long)]
    pub join: bool,
    /// Make a read-only copy, without contacting any member of the shard
    #[arg(long)]
    pub standalone: bool,
    /// Make the shard's new primary, after the loss of all its servers; refused while a member may
    /// live
    #[arg(long)]
    pub as_primary: bool,
}

impl EndingArgs {
    /// Returns the chosen ending.
    pub fn ending(self) -> Ending {
        match self {
            Self { as_primary: true, .. } => Ending::AsPrimary,
            Self { standalone: true, .. } => Ending::Standalone,
            _ => Ending::Join,
        }
    }
}

/// `recover --check`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum CheckArg {
    /// The structure of every table's indexes
    Quick,
    /// Every row of every index
    Full,
}

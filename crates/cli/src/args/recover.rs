//! The arguments of `recover`.

use std::path::PathBuf;

use backstop_model::ids::ShardName;
use backstop_model::listen_address::ListenAddress;
use backstop_model::plan::Ending;
use clap::{Args, ValueEnum};

use super::TargetArgs;

/// `recover`.
#[derive(Debug, Clone, Args)]
pub struct RecoverArgs {
    /// The shard
    pub shard: ShardName,
    /// What to recover to
    #[command(flatten)]
    pub target: TargetArgs,
    /// The target directory: new, empty, or of this same recovery, which then goes on
    #[arg(long, value_name = "DIR")]
    pub into: PathBuf,
    /// The volume made from the EBS snapshot of this backup is mounted at DIR, with its data directory at DIR/data
    #[arg(long, requires = "backup")]
    pub on_volume: bool,
    /// How it ends
    #[command(flatten)]
    pub ending: EndingArgs,
    /// With --as-primary: go on although members of the shard answer; repeat the shard's name
    #[arg(long, value_name = "SHARD")]
    pub force_as_primary: Option<ShardName>,
    /// Addresses that the server listens on once it is handed over, as bind_address takes them; it is restarted once for that
    /// [default: 127.0.0.1]
    #[arg(long, value_name = "ADDRESS")]
    pub listen: Option<ListenAddress>,
    /// TCP port of the server [default: a free one]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    pub port: Option<u16>,
    /// How thoroughly the tables are checked
    #[arg(long, value_enum, default_value_t = CheckArg::Quick)]
    pub check: CheckArg,
    /// Show what would be done, and do nothing
    #[arg(long)]
    pub plan: bool,
    /// User to run the server as; root must name one [default: who runs this command]
    #[arg(long, value_name = "USER", conflicts_with = "run_as_root")]
    pub server_user: Option<String>,
    /// Let the server run as root, as which it reads and writes every file
    #[arg(long)]
    pub run_as_root: bool,
    /// Your own option file for the server: its options win over the settings recorded with the backup
    #[arg(long, value_name = "FILE")]
    pub defaults_file: Option<PathBuf>,
    /// An option of the server, which wins over --defaults-file; may be repeated
    #[arg(long, value_name = "KEY=VALUE")]
    pub server_option: Vec<String>,
    /// A table that may be broken after the recovery, beside those that the backup recorded; may be repeated
    #[arg(long, value_name = "SCHEMA.TABLE", value_parser = table_name)]
    pub accept_broken: Vec<String>,
    /// Write a systemd unit for the server into the target directory
    #[arg(long)]
    pub systemd: bool,
    /// With --standalone: leave an account that may read everything and logs in over the socket, and DIR/client.cnf for clients
    #[arg(long, conflicts_with_all = ["join", "as_primary"])]
    pub copy_login: bool,
    /// With --as-primary: enable the events that were enabled at the primary, and the event scheduler if it ran; or print the statements
    /// that do so, and run none
    #[arg(long, value_enum, conflicts_with_all = ["join", "standalone"], default_value_t = EventsArg::Enable)]
    pub events: EventsArg,
}

/// A table with its schema.
fn table_name(text: &str) -> Result<String, &'static str> {
    let is_table = |(schema, table): (&str, &str)| !schema.is_empty() && !table.is_empty();
    if text.split_once('.').is_some_and(is_table) { Ok(text.to_owned()) } else { Err("write SCHEMA.TABLE") }
}

/// The choices of `recover --as-primary` about events.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum EventsArg {
    /// They are enabled
    Enable,
    /// The statements are printed
    Print,
}

/// How a recovery ends.
#[derive(Debug, Clone, Copy, Args)]
#[group(required = true, multiple = false)]
pub struct EndingArgs {
    /// As a replica of the shard's current primary, caught up
    #[arg(long)]
    pub join: bool,
    /// As a read-only server by itself; contacts no member of the shard
    #[arg(long)]
    pub standalone: bool,
    /// As the shard's new primary, after all its servers were lost; refused while a member answers
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

//! The command line: commands, options, and their help.

mod examples;
mod key;
mod recover;

use std::path::PathBuf;

use backstop_binlog::ChangeKind;
use backstop_engine::find::TableName;
use backstop_policy::first_day::roles::AwsRole;
use backstop_policy::parse_time::TimeSpec;
use backstop_policy::plan::Ending;
use backstop_policy::recovery_target::TargetSpec;
use backstop_types::ids::{BackupId, Endpoint, ShardName};
use chrono_tz::Tz;
use clap::{ArgAction, Args, Parser, Subcommand, ValueEnum};

pub use self::key::{KeyArgs, KeyCommand, KeyFileArgs, KeyRemoveArgs};
pub use self::recover::{CheckArg, EndingArgs, EventsArg, RecoverArgs};
use crate::app::SettingOverrides;

/// `backstop`.
#[derive(Debug, Parser)]
#[command(
    name = "backstop",
    version,
    about = "Back up MySQL shards, and rebuild lost servers from backups and binlogs",
    after_help = examples::MAIN_EXAMPLES
)]
pub struct CommandLine {
    /// Options of every command.
    #[command(flatten)]
    pub global: GlobalArgs,
    /// The command.
    #[command(subcommand)]
    pub command: Command,
}

/// Options of every command.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Options of every command")]
pub struct GlobalArgs {
    /// Configuration file, also set by the variable BACKSTOP_CONFIG
    /// [default: ./backstop.toml, then /etc/backstop/backstop.toml]
    #[arg(long, global = true, value_name = "FILE", env = "BACKSTOP_CONFIG", hide_env = true)]
    pub config: Option<PathBuf>,
    /// Print one JSON object on standard output, and progress as JSON lines on standard error
    #[arg(long, global = true)]
    pub json: bool,
    /// Print more on standard error: -v the actions, -vv also the reasons
    #[arg(short, long, global = true, action = ArgAction::Count, conflicts_with = "quiet")]
    pub verbose: u8,
    /// Print only problems and requests for action on standard error
    #[arg(short, long, global = true)]
    pub quiet: bool,
    /// URL of the repository: file:///directory or s3://bucket/prefix (repository.url)
    #[arg(long, global = true, value_name = "URL")]
    pub repository: Option<String>,
    /// Server program to start: a path, or a name on PATH (mysql.server) [default: mysqld]
    #[arg(long, global = true, value_name = "PROGRAM")]
    pub mysql_server: Option<String>,
    /// Configuration key to set, such as shards.orders.freeze.hold=3s; may be repeated
    #[arg(long, global = true, value_name = "KEY=VALUE", value_parser = key_and_value)]
    pub set: Vec<(String, String)>,
}

impl GlobalArgs {
    /// Returns the settings that were given by flags.
    pub fn given(&self) -> SettingOverrides {
        let short = [
            ("repository.url", &self.repository, "--repository"),
            ("mysql.server", &self.mysql_server, "--mysql-server"),
        ];
        let short = short.into_iter().filter_map(|(key, value, flag)| {
            value.as_ref().map(|value| (key.to_owned(), value.clone(), flag.to_owned()))
        });
        let set = self.set.iter().map(|(key, value)| (key.clone(), value.clone(), format!("--set {key}")));
        SettingOverrides { file: self.config.clone(), overrides: short.chain(set).collect() }
    }
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Demonstrate backup, loss and recovery on a temporary shard
    #[command(after_help = examples::DEMO_EXAMPLES)]
    Demo(DemoArgs),
    /// Make the repository, or write a first configuration
    #[command(after_help = examples::INIT_EXAMPLES)]
    Init(InitArgs),
    /// Check that shards can be backed up and recovered
    #[command(after_help = examples::CHECK_EXAMPLES)]
    Check(CheckArgs),
    /// Back up a shard
    #[command(after_help = examples::BACKUP_EXAMPLES)]
    Backup(BackupArgs),
    /// List the backups of a shard, newest first
    #[command(after_help = examples::BACKUPS_EXAMPLES)]
    Backups(BackupsArgs),
    /// Stream the binlog of a shard into the repository until stopped
    #[command(after_help = examples::ARCHIVE_EXAMPLES)]
    Archive(ArchiveArgs),
    /// Show what a recovery would do, and touch nothing
    #[command(after_help = examples::PLAN_EXAMPLES)]
    Plan(PlanArgs),
    /// Rebuild a server from backup and archive
    #[command(after_help = examples::RECOVER_EXAMPLES)]
    Recover(RecoverArgs),
    /// Print the commands of a runbook, and touch nothing
    #[command(after_help = examples::RESCUE_EXAMPLES)]
    Rescue(RescueArgs),
    /// Search the archive for transactions
    #[command(after_help = examples::FIND_EXAMPLES)]
    Find(FindArgs),
    /// Delete backups that the retention no longer keeps
    #[command(after_help = examples::PRUNE_EXAMPLES)]
    Prune(PruneArgs),
    /// Verify the stored objects of backups and archive
    #[command(after_help = examples::VERIFY_EXAMPLES)]
    Verify(VerifyArgs),
    /// Rebuild damaged or lost logs and archive indexes of a shard
    #[command(after_help = examples::REPAIR_EXAMPLES)]
    Repair(RepairArgs),
    /// Show the state of every shard, for monitoring
    #[command(after_help = examples::STATUS_EXAMPLES)]
    Status(StatusArgs),
    /// Manage the keys of an encrypted repository
    #[command(after_help = examples::KEY_EXAMPLES)]
    Key(KeyArgs),
    /// Manage the name of a shard
    #[command(after_help = examples::SHARD_EXAMPLES)]
    Shard(ShardArgs),
    /// Print a systemd service and timer for the schedule of a shard
    #[command(after_help = examples::SCHEDULE_EXAMPLES)]
    Schedule(ScheduleArgs),
    /// Print completions for a shell
    #[command(after_help = examples::COMPLETIONS_EXAMPLES)]
    Completions(CompletionsArgs),
}

/// `init`.
#[derive(Debug, Clone, Args)]
pub struct InitArgs {
    /// Write a first configuration for the shard of this server instead; needs --shard and
    /// --credentials [default port: 3306]
    #[arg(long, value_name = "HOST[:PORT]", requires = "shard", requires = "credentials")]
    pub from: Option<Endpoint>,
    /// Name of the shard in the configuration
    #[arg(long, value_name = "NAME", requires = "from")]
    pub shard: Option<ShardName>,
    /// File of the shard's credentials: TOML with user and password, mode 0600
    #[arg(long, value_name = "FILE", requires = "from")]
    pub credentials: Option<PathBuf>,
}

/// `demo`.
#[derive(Debug, Clone, Args)]
pub struct DemoArgs {
    /// Leave the servers running, and print the commands to connect to them and to remove them;
    /// skips the dropped table and the loss of all servers
    #[arg(long)]
    pub keep: bool,
    /// Directory to work in [default: the system's temporary directory]
    #[arg(long, value_name = "DIR")]
    pub dir: Option<PathBuf>,
}

/// `check`.
#[derive(Debug, Clone, Args)]
#[command(group = clap::ArgGroup::new("shards").args(["shard", "all"]))]
pub struct CheckArgs {
    /// Only this shard [default: all]
    pub shard: Option<ShardName>,
    /// Ask the AWS account, by reads and dry runs, if the first backup, deletion and recovery would
    /// work; needs a shard or --all
    #[arg(long, requires = "shards", conflicts_with = "fix")]
    pub aws: bool,
    /// With --aws: all shards
    #[arg(long, requires = "aws")]
    pub all: bool,
    /// With --aws: a role whose actions are asked; may be repeated [default: all roles]
    #[arg(long, value_enum, value_name = "ROLE", requires = "aws")]
    pub role: Vec<RoleArg>,
    /// Show the statements that correct the findings on the server, ask, and run them; needs a
    /// shard
    #[arg(long, requires = "shard")]
    pub fix: bool,
    /// With --fix: run the statements without asking
    #[arg(long, requires = "fix")]
    pub yes: bool,
}

/// `check --role`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum RoleArg {
    /// The function that backs up
    Function,
    /// The function that ends backups
    Completion,
    /// Deletes backups
    Prune,
    /// Archives binary logs
    Archiver,
    /// Recovers shards
    Recover,
    /// Drills recoveries
    Drill,
}

impl From<RoleArg> for AwsRole {
    fn from(role: RoleArg) -> Self {
        match role {
            RoleArg::Function => Self::Function,
            RoleArg::Completion => Self::Completion,
            RoleArg::Prune => Self::Prune,
            RoleArg::Archiver => Self::Archiver,
            RoleArg::Recover => Self::Recover,
            RoleArg::Drill => Self::Drill,
        }
    }
}

/// `backup`.
#[derive(Debug, Clone, Args)]
pub struct BackupArgs {
    /// Name of the shard
    pub shard: ShardName,
    /// Reason for the backup, recorded with it
    #[arg(long, value_enum, default_value_t = KindArg::OnDemand)]
    pub kind: KindArg,
    /// Store all data, not only the differences from the newest backup
    #[arg(long)]
    pub full: bool,
}

/// `backup --kind`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum KindArg {
    /// A timer
    Scheduled,
    /// A person
    OnDemand,
}

/// `backups`.
#[derive(Debug, Clone, Args)]
pub struct BackupsArgs {
    /// Name of the shard
    pub shard: ShardName,
    /// Only the newest backup; exit code 21 if there is none
    #[arg(long)]
    pub latest: bool,
    /// Read the tags of EBS snapshots instead of the repository, for the case that the repository
    /// is lost; the shard need not be configured
    #[arg(long)]
    pub from_tags: bool,
}

/// `archive`.
#[derive(Debug, Clone, Args)]
pub struct ArchiveArgs {
    /// Name of the shard
    pub shard: ShardName,
    /// End when everything that the source has is archived
    #[arg(long, visible_alias = "once")]
    pub until_caught_up: bool,
    /// Print a systemd service that runs the archiver, and do nothing else
    #[arg(long, conflicts_with = "until_caught_up")]
    pub systemd: bool,
}

/// `plan`.
#[derive(Debug, Clone, Args)]
pub struct PlanArgs {
    /// Name of the shard
    pub shard: ShardName,
    /// The moment and the backup.
    #[command(flatten)]
    pub target: TargetArgs,
    /// Target directory of the server
    #[arg(long, value_name = "DIR")]
    pub into: Option<PathBuf>,
    /// TCP port of the server
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    pub port: Option<u16>,
    /// Plan a replica of the shard's current primary
    #[arg(long, conflicts_with = "standalone")]
    pub join: bool,
    /// Plan a read-only copy
    #[arg(long)]
    pub standalone: bool,
    /// Plan the shard's new primary
    #[arg(long, conflicts_with_all = ["standalone", "join"])]
    pub as_primary: bool,
}

impl PlanArgs {
    /// Returns the chosen ending, if one was chosen.
    pub fn ending(&self) -> Option<Ending> {
        let chosen = self.join || self.standalone || self.as_primary;
        let args = EndingArgs { join: self.join, standalone: self.standalone, as_primary: self.as_primary };
        chosen.then(|| args.ending())
    }
}

/// The moment to recover to.
#[derive(Debug, Clone, Args)]
#[group(skip)]
pub struct TargetArgs {
    /// Moment to recover to: latest, after:GTID, before:GTID, a time such as
    /// 2026-11-23T02:21:33Z, or an age such as -20m
    #[arg(long, value_name = "MOMENT", required_unless_present = "backup", allow_hyphen_values = true)]
    pub to: Option<TargetSpec>,
    /// Time zone of a time that is written without one, such as Europe/Berlin
    #[arg(long, value_name = "NAME", requires = "to")]
    pub time_zone: Option<Tz>,
    /// Backup to use (see `backstop backups`); --to may then be left out
    #[arg(long, value_name = "ID")]
    pub backup: Option<BackupId>,
    /// Abandoned timeline of the archive (see `backstop status`) [default: the current one]
    #[arg(long, value_name = "N", requires = "to")]
    pub line: Option<u32>,
}

/// `rescue`.
#[derive(Debug, Clone, Args)]
pub struct RescueArgs {
    /// Name of the shard [default: the only one of the configuration]
    pub shard: Option<ShardName>,
    /// Situation whose runbook is printed [default: asked for on a terminal]
    #[arg(long, value_name = "NAME")]
    pub situation: Option<String>,
    /// List the situations that have a runbook
    #[arg(long)]
    pub list: bool,
    /// Moment to recover to, in the forms of `recover --to`; replaces the moment that the page
    /// takes from `find`
    #[arg(long, value_name = "MOMENT", allow_hyphen_values = true)]
    pub at: Option<TargetSpec>,
    /// Time zone of a time that is written without one, such as Europe/Berlin
    #[arg(long, value_name = "NAME", requires = "at")]
    pub time_zone: Option<Tz>,
    /// Directory to recover into
    #[arg(long, value_name = "DIR")]
    pub into: Option<PathBuf>,
    /// Print the whole page instead of its commands
    #[arg(long)]
    pub page: bool,
}

/// `find`.
#[derive(Debug, Clone, Args)]
pub struct FindArgs {
    /// Name of the shard
    pub shard: ShardName,
    /// Earliest commit time, such as 2026-11-23T02:21:33Z or -20m
    #[arg(long, value_name = "TIME", allow_hyphen_values = true)]
    pub from: Option<TimeSpec>,
    /// Latest commit time, such as 2026-11-23T02:21:33Z or -20m
    #[arg(long, value_name = "TIME", allow_hyphen_values = true)]
    pub until: Option<TimeSpec>,
    /// Time zone of times that are written without one, such as Europe/Berlin
    #[arg(long, value_name = "NAME")]
    pub time_zone: Option<Tz>,
    /// Table that the transaction touched: TABLE or SCHEMA.TABLE
    #[arg(long, value_name = "TABLE")]
    pub table: Option<TableName>,
    /// Kind of change
    #[arg(long, value_enum)]
    pub kind: Option<FindKindArg>,
    /// Minimum number of rows that the transaction touched
    #[arg(long, value_name = "N")]
    pub rows: Option<u64>,
    /// Abandoned timeline of the archive (see `backstop status`) [default: the current one]
    #[arg(long, value_name = "N")]
    pub line: Option<u32>,
    /// Maximum number of transactions to show
    #[arg(long, value_name = "N", default_value_t = 100)]
    pub limit: usize,
}

/// `find --kind`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum FindKindArg {
    /// Definitions, accounts, privileges
    Ddl,
    /// Rows
    Dml,
}

impl FindKindArg {
    /// Returns the corresponding kind of change.
    pub fn kind(self) -> ChangeKind {
        match self {
            Self::Ddl => ChangeKind::Ddl,
            Self::Dml => ChangeKind::Dml,
        }
    }
}

/// `prune`.
#[derive(Debug, Clone, Args)]
pub struct PruneArgs {
    /// Only this shard [default: all]
    pub shard: Option<ShardName>,
    /// Delete the backups; without this option they are only shown
    #[arg(long)]
    pub apply: bool,
    /// With --apply: delete even more than half of a shard's backups
    #[arg(long, requires = "apply")]
    pub yes_really: bool,
    /// Undo the deletions of the last hour: of these backups [default: all], and of archived binlogs
    #[arg(long, value_name = "ID", num_args = 0.., requires = "shard", conflicts_with = "apply")]
    pub undo: Option<Vec<BackupId>>,
}

/// `repair`.
#[derive(Debug, Clone, Args)]
pub struct RepairArgs {
    /// Name of the shard
    pub shard: ShardName,
    /// Write the repairs; without this option they are only shown
    #[arg(long)]
    pub apply: bool,
}

/// `verify`.
#[derive(Debug, Clone, Args)]
pub struct VerifyArgs {
    /// Only this shard [default: all that have something stored]
    pub shard: Option<ShardName>,
    /// Read, check and decode every byte, not only names and sizes
    #[arg(long)]
    pub content: bool,
}

/// `status`.
#[derive(Debug, Clone, Args)]
pub struct StatusArgs {
    /// Only this shard [default: all]
    pub shard: Option<ShardName>,
}

/// `shard`.
#[derive(Debug, Clone, Args)]
pub struct ShardArgs {
    /// The command.
    #[command(subcommand)]
    pub command: ShardCommand,
}

/// Commands for a shard's name.
#[derive(Debug, Clone, Subcommand)]
pub enum ShardCommand {
    /// Give the name of a shard to the history that its members have now
    Adopt(AdoptArgs),
}

/// `shard adopt`.
#[derive(Debug, Clone, Args)]
pub struct AdoptArgs {
    /// Name of the shard
    pub shard: ShardName,
}

/// `schedule`.
#[derive(Debug, Clone, Args)]
pub struct ScheduleArgs {
    /// Name of the shard
    pub shard: ShardName,
    /// Print a systemd service and a timer
    #[arg(long, required = true)]
    pub systemd: bool,
}

/// `completions`.
#[derive(Debug, Clone, Args)]
pub struct CompletionsArgs {
    /// Shell to print completions for
    #[arg(value_enum)]
    pub shell: clap_complete::Shell,
}

fn key_and_value(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.trim().is_empty() => Ok((key.trim().to_owned(), value.trim().to_owned())),
        _ => Err("write KEY=VALUE, such as shards.orders.freeze.hold=3s".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use clap::CommandFactory;

    use super::*;

    fn read(line: &str) -> Result<CommandLine, clap::Error> {
        CommandLine::read(&line.split_whitespace().map(Into::into).collect::<Vec<_>>())
    }

    #[test]
    fn the_command_line_is_consistent() {
        CommandLine::command().debug_assert();
        crate::help::command().debug_assert();
    }

    #[test]
    fn every_command_has_a_summary_and_an_example() {
        for command in CommandLine::command().get_subcommands() {
            let name = command.get_name();
            let about = command.get_about().unwrap().to_string();
            assert!(!about.contains('\n') && about.len() < 100, "{name}: {about}");
            let after = command.get_after_help().unwrap().to_string();
            assert!(after.contains(&format!("backstop {name}")), "{name} has no example");
        }
    }

    #[test]
    fn recover_requires_a_moment_and_an_ending() {
        let line = "backstop recover orders --into /srv/new";
        for more in ["", "--to latest", "--join", "--to latest --join --standalone", "--join --to yesterday"]
        {
            assert!(read(&format!("{line} {more}")).is_err(), "{more}");
        }
        assert!(read(&format!("{line} --to latest --join --port 0")).is_err());
        assert!(read(&format!("{line} --backup nonsense --join")).is_err());
        let id = "20261123T022133Z-9f3a04c1";
        for more in [
            "--to latest --join",
            &format!("--backup {id} --standalone --port 3307"),
            &format!("--backup {id} --to latest --join"),
        ] {
            assert!(read(&format!("{line} {more}")).is_ok(), "{more}");
        }
    }

    #[test]
    fn flags_become_keys_of_the_configuration() {
        let line =
            "backstop --repository file:///x backup orders --set shards.orders.freeze.hold=3s --set a=b=c";
        let given = read(line).unwrap().global.given();
        let expected = [
            ("repository.url", "file:///x", "--repository"),
            ("shards.orders.freeze.hold", "3s", "--set shards.orders.freeze.hold"),
            ("a", "b=c", "--set a"),
        ];
        let expected = expected.map(|(a, b, c)| (a.to_owned(), b.to_owned(), c.to_owned()));
        assert_eq!(given.overrides, expected);
        assert!(read("backstop backup orders --set nonsense").is_err());
        assert!(read("backstop backup Orders").is_err(), "not a shard's name");
    }
}

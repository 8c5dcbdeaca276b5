//! Stories (backup, recover, prune), and the ports they need. Depends on no AWS, SQL or terminal.

pub mod adopt;
pub mod archive;
pub mod backup;
pub mod backup_health;
pub mod check;
pub mod compare_schemas;
pub mod completion;
pub mod context;
pub mod damaged_backups;
pub mod datadir_files;
pub mod datadir_tree;
pub mod disk;
pub mod fallback_sources;
pub mod find;
#[cfg(test)]
#[path = "../../testkit/src/frozen.rs"]
mod fixtures;
pub mod freeze;
#[cfg(test)]
mod frozen;
pub mod journal;
pub mod last_known_members;
pub mod plan;
pub mod ports;
pub mod prune;
mod read_segment;
pub mod record_run;
mod recorded_events;
pub mod recover;
pub mod recover_ebs;
pub mod report;
pub mod shard_dir;
pub mod shard_status;
pub mod shared_credentials;
pub mod shell_quote;
pub mod source_selection;
pub mod status;
mod suspect_transactions;

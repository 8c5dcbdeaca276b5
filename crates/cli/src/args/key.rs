//! The arguments of `key`.

use std::path::PathBuf;

use clap::{Args, Subcommand};

/// `key`.
#[derive(Debug, Clone, Args)]
pub struct KeyArgs {
    /// The subcommand.
    #[command(subcommand)]
    pub command: KeyCommand,
}

/// Subcommands of `key`.
#[derive(Debug, Clone, Subcommand)]
pub enum KeyCommand {
    /// Write a new random key into a file of mode 0600; the repository is not touched
    Generate(KeyFileArgs),
    /// List the keys that open the repository, and check both copies of each
    Check,
    /// Let another key open the repository, too
    Add(KeyFileArgs),
    /// Let a new key open the repository instead of the configured one
    Rotate(KeyFileArgs),
    /// Let a key no longer open the repository
    Remove(KeyRemoveArgs),
    /// Write the configured key's wrapping of the data key into a file, to keep it elsewhere
    Export(KeyFileArgs),
    /// Store an exported wrapping again, in a repository that has lost it
    Import(KeyFileArgs),
}

/// A file of `key`.
#[derive(Debug, Clone, Args)]
pub struct KeyFileArgs {
    /// The file
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
}

/// `key remove`.
#[derive(Debug, Clone, Args)]
pub struct KeyRemoveArgs {
    /// Id of the key, as `backstop key check` lists it
    #[arg(value_name = "ID")]
    pub id: String,
}

//! AWS behind the ports: EBS snapshots of EC2 instances, and secrets in Secrets Manager. Adapters
//! decide nothing; the stories do.
//!
//! Without the Cargo feature `aws`, what a command uses of the account is there too, and each
//! request fails with the way to a build that has it.

#[cfg(feature = "aws")]
mod account;
mod account_questions;
#[cfg(feature = "aws")]
pub mod backup_instances;
#[cfg(feature = "aws")]
pub mod client;
#[cfg(feature = "aws")]
pub mod ebs;
#[cfg(feature = "aws")]
mod error;
#[cfg(feature = "aws")]
pub mod first_day;
mod infrastructure;
#[cfg(feature = "aws")]
pub mod secrets_manager;
#[cfg(not(feature = "aws"))]
mod without_aws;

#[cfg(feature = "aws")]
pub use account::{AwsVolumes, backup_instances, check_account, read_secret};
pub use account_questions::{AccountQuestions, QUESTION_DEADLINE, ShardQuestions};
pub use infrastructure::AwsInfrastructure;
#[cfg(not(feature = "aws"))]
pub use without_aws::{AwsVolumes, backup_instances, check_account, read_secret};

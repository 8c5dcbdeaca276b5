//! AWS behind the ports: EBS snapshots of EC2 instances, and secrets in Secrets Manager. Adapters
//! decide nothing; the stories do.

pub mod backup_instances;
pub mod client;
pub mod ebs;
mod error;
pub mod secrets_manager;

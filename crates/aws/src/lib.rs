//! AWS behind the ports: EBS snapshots of EC2 instances, and secrets in Secrets Manager. Adapters decide nothing; the
//! stories do.

pub mod connect;
pub mod ebs;
mod fault;
pub mod instances;
pub mod secrets;

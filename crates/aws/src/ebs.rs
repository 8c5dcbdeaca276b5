//! Snapshots of an EC2 instance's EBS volumes.

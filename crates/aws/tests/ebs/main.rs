//! EBS snapshots of real servers, against a strict double of EC2 and against moto.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
#![allow(clippy::disallowed_methods, reason = "tests measure and wait by the machine's own clock")]

mod backups;
mod conformance;
mod failures;
mod find_instance;
mod first_day;
mod moto;
mod secrets;
mod support;

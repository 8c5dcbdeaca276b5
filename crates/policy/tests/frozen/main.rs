//! Checks that stored and published values keep their bytes: `*.json` has one value per line.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

#[path = "../../../testkit/src/frozen.rs"]
mod frozen;
mod input;
mod published;
mod sample;
mod values;

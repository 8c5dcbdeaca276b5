//! Values that are stored or published stay what they are, byte for byte: `*.json` has one value a line.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

#[path = "../../../testkit/src/frozen.rs"]
mod frozen;
mod input;
mod published;
mod sample;
mod values;

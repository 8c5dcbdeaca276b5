//! Helpers of the tests of the MySQL adapters.

pub mod certificates;

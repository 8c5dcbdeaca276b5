//! The plan of a recovery: decided whole, shown, and only then carried out.

mod gtids;

pub use gtids::{GtidStep, gtid_step};

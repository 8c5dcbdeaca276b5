//! Helpers of the tests of hardships.

#[path = "../../production/support/certificates.rs"]
pub mod certificates;
#[allow(dead_code, reason = "shared with the other tests of the program")]
pub mod program;
pub mod random;
pub mod recovered_server;
pub mod source_unharmed;

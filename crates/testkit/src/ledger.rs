//! The lab's ledger, whose failures fail the test: one writer, ids without gaps.

use std::ops::Deref;

use backstop_lab::ledger::Load;
pub use backstop_lab::ledger::Written;

use crate::member::Member;

/// Writes rows, one transaction each, until it is stopped.
pub struct Ledger(backstop_lab::Ledger);

impl Deref for Ledger {
    type Target = backstop_lab::Ledger;

    fn deref(&self) -> &Self::Target {
        &self.0
    }
}

impl Ledger {
    /// Creates the table if there is none and begins to write, after what is there.
    pub async fn start(primary: &Member) -> Self {
        Self(backstop_lab::Ledger::start(primary, Load::Entries).await.expect("the ledger"))
    }

    /// Waits until `more` further rows are acknowledged.
    pub async fn wait_for_more(&self, more: u64) {
        self.0.wait_for_more(more).await.expect("a ledger that gets on");
    }

    /// Stops writing, and gives what was acknowledged.
    pub async fn stop(self) -> Written {
        self.0.stop().await.expect("the ledger's writer")
    }
}

/// The acknowledged rows that a server lacks or holds with another value.
pub async fn missing_on(written: &Written, member: &Member) -> Vec<u64> {
    written.missing_on(&mut member.root().await).await.expect("read the ledger")
}

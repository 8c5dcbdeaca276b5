//! Workload of the testbed, whose failures fail the test: one writer, ids without gaps.

use std::ops::Deref;

use backstop_testbed::workload::Load;
pub use backstop_testbed::workload::WrittenRows;

use crate::member::TestMember;

/// Writes rows, one transaction each, until it is stopped.
pub struct TestWorkload(backstop_testbed::Workload);

impl Deref for TestWorkload {
    type Target = backstop_testbed::Workload;

    fn deref(&self) -> &Self::Target {
        &self.0
    }
}

impl TestWorkload {
    /// Creates the table if there is none and begins to write after the existing rows.
    pub async fn start(primary: &TestMember) -> Self {
        Self(backstop_testbed::Workload::start(primary, Load::Entries).await.expect("the ledger"))
    }

    /// Waits until `more` further rows are acknowledged.
    pub async fn wait_for_more(&self, more: u64) {
        self.0.wait_for_more(more).await.expect("a ledger that gets on");
    }

    /// Stops writing, and returns the acknowledged rows.
    pub async fn stop(self) -> WrittenRows {
        self.0.stop().await.expect("the ledger's writer")
    }
}

/// Returns the acknowledged rows that a server lacks or holds with another value.
pub async fn missing_on(written: &WrittenRows, member: &TestMember) -> Vec<u64> {
    written.missing_on(&mut member.root().await).await.expect("read the ledger")
}

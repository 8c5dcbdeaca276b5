//! Compares the rebuilt server with the writer's ledger and the primary.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use backstop_adapters::mysql::connection::Connection;
use backstop_engine::report::RecoverReport;
use backstop_testbed::member::root;
use backstop_testbed::workload::TOTAL_BALANCE;
use backstop_testbed::{Shard, Workload, tables};
use backstop_types::error::{Error, Result, ResultExt};
use backstop_types::gtid::GtidSet;

use super::steps::DemoSteps;
use crate::format;

/// Limit for the last commits to arrive.
const CATCH_UP_TIMEOUT: Duration = Duration::from_secs(60);

/// Result of a comparison.
pub(super) struct ServerComparison {
    pub(super) acknowledged: u64,
    pub(super) lost: u64,
    differing: Vec<String>,
    balance: i64,
}

impl ServerComparison {
    /// Returns true if every acknowledged commit exists, every table is the same, and the sum of
    /// all money is unchanged.
    pub(super) fn same(&self) -> bool {
        let total = i64::try_from(TOTAL_BALANCE).unwrap_or_default();
        self.lost == 0 && self.acknowledged > 0 && self.differing.is_empty() && self.balance == total
    }
}

/// Stops the writer, waits for the last commits to arrive, and compares the rebuilt server with the
/// ledger and the primary.
pub(super) async fn compare(
    shard: &Shard,
    workload: Workload,
    recovered: &RecoverReport,
    steps: &mut DemoSteps<'_>,
) -> Result<ServerComparison> {
    steps.begin("compare");
    let written = workload.stop().await?;
    let mut rebuilt = root(Path::new(&recovered.server.socket)).await?;
    arrive(shard, &mut rebuilt, steps).await?;
    let lost = written.missing_on(&mut rebuilt).await?.len() as u64;
    let theirs = tables::checksums(&mut shard.primary()?.root().await?).await?;
    let ours = tables::checksums(&mut rebuilt).await?;
    let balance = rebuilt.one("SELECT CAST(SUM(balance) AS SIGNED) FROM shop.accounts").await?;
    let acknowledged = written.rows.len() as u64;
    let compared = ServerComparison { acknowledged, lost, differing: differing(&theirs, &ours), balance };
    steps.end(summary(&compared, ours.len() as u64));
    Ok(compared)
}

/// Waits until the rebuilt server holds exactly the primary's transactions.
async fn arrive(shard: &Shard, rebuilt: &mut Connection, steps: &DemoSteps<'_>) -> Result<()> {
    let clock = &steps.ctx.host.clock;
    let (wanted, begun) = (shard.primary()?.gtid_executed().await?, clock.monotonic());
    loop {
        let held: String = rebuilt.one("SELECT @@GLOBAL.gtid_executed").await?;
        let held: GtidSet = held.parse().failed("cannot read gtid_executed of the rebuilt server")?;
        if held == wanted {
            return Ok(());
        }
        if clock.monotonic() - begun > CATCH_UP_TIMEOUT {
            let message = format!(
                "the rebuilt server and the primary hold different transactions: the server lacks `{}` and has `{}` in excess",
                wanted.subtract(&held),
                held.subtract(&wanted)
            );
            return Err(Error::failed(message));
        }
        clock.sleep(Duration::from_millis(50)).await;
    }
}

type TableChecksums = BTreeMap<String, Option<u64>>;

/// Returns the tables that only one server has, that differ, or whose checksum is unknown.
fn differing(theirs: &TableChecksums, ours: &TableChecksums) -> Vec<String> {
    let names: std::collections::BTreeSet<&String> = theirs.keys().chain(ours.keys()).collect();
    let same = |name: &String| matches!((theirs.get(name), ours.get(name)), (Some(Some(a)), Some(Some(b))) if a == b);
    names.into_iter().filter(|name| !same(name)).cloned().collect()
}

fn summary(compared: &ServerComparison, tables: u64) -> String {
    let commits = format::thousands(compared.acknowledged);
    let differing = match compared.differing.as_slice() {
        [] => format!("{} with the primary's checksums", format::count(tables, "table")),
        names => format!("DIFFERENT: {}", names.join(", ")),
    };
    let balance = if compared.same() { "" } else { "; check the balance of shop.accounts" };
    format!("{commits} commits acknowledged, {} lost; {differing}{balance}", compared.lost)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sums(of: &[(&str, Option<u64>)]) -> TableChecksums {
        of.iter().map(|(name, sum)| ((*name).to_owned(), *sum)).collect()
    }

    #[test]
    fn every_table_difference_is_found() {
        let theirs = sums(&[("a", Some(1)), ("b", Some(2)), ("c", None), ("d", Some(4))]);
        assert!(differing(&sums(&[("a", Some(1))]), &sums(&[("a", Some(1))])).is_empty());
        let ours = sums(&[("a", Some(1)), ("b", Some(3)), ("c", None), ("e", Some(5))]);
        assert_eq!(differing(&theirs, &ours), ["b", "c", "d", "e"]);
    }

    #[test]
    fn comparison_fails_without_acknowledged_commits() {
        let total = i64::try_from(TOTAL_BALANCE).unwrap_or_default();
        let good = ServerComparison { acknowledged: 5, lost: 0, differing: vec![], balance: total };
        assert!(good.same());
        assert!(!ServerComparison { acknowledged: 0, ..good }.same());
    }
}

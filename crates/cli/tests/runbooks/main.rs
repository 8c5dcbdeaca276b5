//! The runbook pages (`docs/runbooks`), pasted: a shell runs their commands in the order written,
//! against a real shard.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stderr)]
#![allow(clippy::disallowed_methods, reason = "tests measure and wait by the machine's own clock")]

mod blocked_writes;
mod damaged_repository;
mod failover;
mod lost_rows;
mod maintenance;
mod support;
mod total_loss;

use support::shell_session::ShellSession;

/// One shard for all pages: each page begins with the state that the one before left, as in a long
/// night.
#[tokio::test(flavor = "multi_thread")]
async fn runbook_pages_work_when_pasted() {
    let mut night = ShellSession::begin().await;
    lost_rows::table_was_dropped(&mut night).await;
    lost_rows::update_was_bad(&mut night).await;
    blocked_writes::semi_sync_holds_them(&mut night).await;
    maintenance::disk_is_full(&mut night).await;
    maintenance::passwords_are_changed(&mut night).await;
    damaged_repository::something_is_damaged(&mut night).await;
    damaged_repository::configuration_is_lost(&mut night).await;
    failover::primary_is_dead(&mut night).await;
    total_loss::everything(&mut night).await;
    damaged_repository::only_the_bucket_is_left(&mut night).await;
    damaged_repository::archive_has_a_gap(&mut night).await;
    damaged_repository::key_is_lost(&mut night).await;
}

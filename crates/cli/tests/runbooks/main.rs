//! The pages for the night (`docs/runbooks`), pasted: their commands run by a shell in the order written, against a real shard.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stderr)]
#![allow(clippy::disallowed_methods, reason = "tests measure and wait by the machine's own clock")]

#[allow(dead_code, reason = "shared with the other tests of the program")]
#[path = "../archive/archived.rs"]
mod archived;
mod failover;
mod gone;
mod night;
mod pasted;
#[allow(dead_code, reason = "shared with the other tests of the program")]
#[path = "../hardship/program.rs"]
mod program;
#[allow(dead_code, reason = "shared with the other tests of the program")]
#[path = "../pitr/rebuilt.rs"]
mod rebuilt;
mod rows;
mod stored;
mod upkeep;
mod writes;

use night::Night;

/// One shard for all pages: what one leaves is what the next one finds, as in a long night.
#[tokio::test(flavor = "multi_thread")]
async fn pages_work_as_they_are_pasted() {
    let mut night = Night::begin().await;
    rows::table_was_dropped(&mut night).await;
    rows::update_was_bad(&mut night).await;
    writes::semi_sync_holds_them(&mut night).await;
    upkeep::disk_is_full(&mut night).await;
    upkeep::passwords_are_changed(&mut night).await;
    stored::something_is_damaged(&mut night).await;
    stored::configuration_is_lost(&mut night).await;
    failover::primary_is_dead(&mut night).await;
    gone::everything(&mut night).await;
    stored::only_the_bucket_is_left(&mut night).await;
    stored::archive_has_a_gap(&mut night).await;
    stored::key_is_lost(&mut night).await;
}

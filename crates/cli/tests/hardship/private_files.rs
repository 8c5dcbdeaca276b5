//! No other user reads or writes what the program makes, whatever the umask it is started with.

use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::time::Duration;

use backstop_testkit::{ShardLayout, TestShard};
use rustix::process::Signal;

use crate::support::program::{Backstop, until};

const OPEN_TO_ALL: &str = "umask 000; ulimit -c unlimited; exec \"$0\" \"$@\"";

/// Returns the files and folders below this one that other users may read or write, and counts all.
fn open_to_others(folder: &Path, count: &mut usize) -> Vec<String> {
    let mut open = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap().flatten() {
        let Ok(meta) = entry.path().symlink_metadata() else { continue };
        *count += 1;
        if meta.permissions().mode() & 0o066 != 0 {
            open.push(format!("{} {:o}", entry.path().display(), meta.permissions().mode()));
        }
        if meta.is_dir() {
            open.extend(open_to_others(&entry.path(), count));
        }
    }
    open
}

#[tokio::test(flavor = "multi_thread")]
async fn files_and_memory_are_for_the_own_user_only() {
    let shard = TestShard::start(ShardLayout {
        grants: vec!["base", "replication", "clone"],
        ..ShardLayout::single()
    })
    .await;
    let mut backstop = Backstop::of(&shard, "clone").await;
    backstop.prefix = ["sh", "-c", OPEN_TO_ALL].map(str::to_owned).into();
    backstop.json("backup orders").await;
    let archiver = backstop.spawn("--json archive orders --set shards.orders.archive.from=primary", None);
    let streams = || archiver.told().contains("archiving from");
    until(Duration::from_secs(60), || archiver.told(), streams).await;
    shard.primary().run(&["CREATE DATABASE one"]).await;
    let recovered = backstop.dir.join("recovered");
    backstop
        .json(&format!(
            "recover orders --to latest --standalone --run-as-root --into {}",
            recovered.display()
        ))
        .await;
    for (folder, least) in [(&backstop.repository, 10), (&backstop.work, 3), (&recovered, 10)] {
        let mut count = 0;
        let open = open_to_others(folder, &mut count);
        let server = |path: &String| path.contains("/recovered/data/") || path.contains("mysqld.");
        let open: Vec<_> = open.into_iter().filter(|path| !server(path)).collect();
        assert!(open.is_empty(), "{open:#?}");
        assert!(count >= least, "{count} files in {}", folder.display());
    }
    backstop_testkit::member::kill_server_on(&recovered.join("data"));
    archiver.signal(Signal::ABORT);
    let ended = archiver.end().await;
    assert_eq!((ended.status.signal(), ended.status.core_dumped()), (Some(6), false), "{ended}");
}

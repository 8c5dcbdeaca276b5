//! Initialised data directory, made once and copied by every test.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::server_program::{server_program, servers, shared_folder};

/// Server options for initialising a data directory; they cannot be changed later.
type Options<'a> = &'a [&'a str];

/// Copies the template for these options to `datadir`, which may exist and be empty (a subvolume, a
/// mount).
pub async fn copy(options: Options<'_>, datadir: &Path) {
    backstop_testbed::shard::copy(&template(options).await, datadir).await.expect("a copy of the template");
}

async fn template(options: Options<'_>) -> PathBuf {
    let version = &server_program().await.version;
    let name = format!("template-{version}{}", options.join("").replace(['/', ' '], "_"));
    let path = shared_folder().join(&name);
    let lock =
        File::create(shared_folder().join(format!("{name}.lock"))).expect("create the template's lock");
    let begin = Instant::now();
    while lock.try_lock().is_err() {
        assert!(begin.elapsed() < Duration::from_secs(180), "the template is not made within 3 minutes");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    if !path.exists() {
        let unfinished = shared_folder().join(format!("{name}.unfinished"));
        let _ = std::fs::remove_dir_all(&unfinished);
        let made = backstop_testbed::shard::make_template(&servers().await, &unfinished, options).await;
        made.expect("make the template");
        std::fs::rename(&unfinished, &path).expect("move the template into place");
    }
    path
}

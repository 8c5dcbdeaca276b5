//! An initialised data directory, made once and copied by every test.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::program::{server_program, servers, shared_folder};

/// Options of the server that a data directory is made with; they cannot be changed later.
type Options<'a> = &'a [&'a str];

/// Copies the template for these options to `datadir`, which may exist and be empty (a subvolume, a mount).
pub async fn copy(options: Options<'_>, datadir: &Path) {
    let template = template(options).await;
    std::fs::create_dir_all(datadir).expect("create a data directory");
    let mut cp = tokio::process::Command::new("cp");
    cp.args(["-a", "--reflink=auto"]).arg(template.join(".")).arg(datadir);
    assert!(cp.status().await.expect("cp").success(), "copy the template to {}", datadir.display());
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
        make(options, &unfinished).await;
        std::fs::rename(&unfinished, &path).expect("move the template into place");
    }
    path
}

async fn make(options: Options<'_>, datadir: &Path) {
    let small = ["--innodb-buffer-pool-size=64M", "--innodb-redo-log-capacity=16M"];
    let options: Vec<_> = small.iter().chain(options).copied().collect();
    servers().await.initialize(datadir, &options).await.expect("make the template");
    // Every copy is a server of its own.
    std::fs::remove_file(datadir.join("auto.cnf")).expect("remove the template's server UUID");
}

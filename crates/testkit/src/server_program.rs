//! Server program that the tests run.

use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use backstop_adapters::mysql::mysqld::LocalMysqld;
use backstop_adapters::mysql::packages::{MysqldPrograms, default_cache_dir, find_or_fetch};
use tokio::sync::OnceCell;

pub use backstop_testbed::QuietReporter;

/// Returns the server program: the one in `BACKSTOP_TEST_SERVER` or on PATH, else the fetched one.
pub async fn server_program() -> &'static MysqldPrograms {
    static PROGRAM: OnceCell<MysqldPrograms> = OnceCell::const_new();
    PROGRAM
        .get_or_init(|| async {
            let configured = std::env::var("BACKSTOP_TEST_SERVER").ok();
            let cache = default_cache_dir().expect("a cache folder");
            find_or_fetch(&cache, configured.as_deref(), &QuietReporter).await.expect("a MySQL server")
        })
        .await
}

/// Returns the adapter that starts and stops that program.
pub async fn servers() -> LocalMysqld {
    LocalMysqld::new(&server_program().await.mysqld, Arc::new(QuietReporter))
}

/// Returns a server program that user `nobody` can run: the tests' own, or its package linked into
/// this folder. `None`, with a message on standard error, if no other user's server can be started.
#[allow(clippy::print_stderr, reason = "tests say what they leave out")]
pub async fn program_for_all_users(folder: &Path) -> Option<PathBuf> {
    if !rustix::process::geteuid().is_root() {
        eprintln!("SKIPPED: a server of another user needs root");
        return None;
    }
    let own = &server_program().await.mysqld;
    if runs_as_nobody(own) {
        return Some(own.clone());
    }
    let (package, linked) = (own.parent()?.parent()?, folder.join("mysql"));
    let done = Command::new("cp").arg("-al").args([package, linked.as_path()]).status().expect("run cp");
    assert!(done.success(), "link {} to {}", package.display(), linked.display());
    let program = linked.join("bin/mysqld");
    let text = std::fs::read_to_string(own).expect("the script that runs the server");
    std::fs::remove_file(&program).expect("replace it");
    let text = text.replace(&package.display().to_string(), &linked.display().to_string());
    std::fs::write(&program, text).expect("write the script");
    std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).expect("let it run");
    assert!(runs_as_nobody(&program), "{} runs as nobody", program.display());
    Some(program)
}

/// Returns true if user `nobody` can run it.
fn runs_as_nobody(program: &Path) -> bool {
    let mut command = Command::new(program);
    command.arg("--version").uid(65534).gid(65534).current_dir("/");
    command.output().is_ok_and(|output| output.status.success())
}

/// Returns the folder of the tests' shared files: `BACKSTOP_TEST_CACHE`, else `target/testkit`.
pub fn shared_folder() -> PathBuf {
    let folder = std::env::var_os("BACKSTOP_TEST_CACHE")
        .map(PathBuf::from)
        .unwrap_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../target/testkit"));
    std::fs::create_dir_all(&folder).expect("create the tests' shared folder");
    folder.canonicalize().expect("the tests' shared folder")
}

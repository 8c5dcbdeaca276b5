//! The server program that the tests run.

use std::path::PathBuf;
use std::sync::Arc;

use backstop_adapters::mysql::packages::{ServerProgram, default_cache_dir, find_or_fetch};
use backstop_adapters::mysql::server::Servers;
use tokio::sync::OnceCell;

pub use backstop_lab::Quiet;

/// The server program: the one in `BACKSTOP_TEST_SERVER` or on PATH, else the fetched one.
pub async fn server_program() -> &'static ServerProgram {
    static PROGRAM: OnceCell<ServerProgram> = OnceCell::const_new();
    PROGRAM
        .get_or_init(|| async {
            let configured = std::env::var("BACKSTOP_TEST_SERVER").ok();
            let cache = default_cache_dir().expect("a cache folder");
            find_or_fetch(&cache, configured.as_deref(), &Quiet).await.expect("a MySQL server")
        })
        .await
}

/// The adapter that starts and stops that program.
pub async fn servers() -> Servers {
    Servers::new(&server_program().await.mysqld, Arc::new(Quiet))
}

/// Where the tests keep what they share: `BACKSTOP_TEST_CACHE`, else `target/testkit`.
pub fn shared_folder() -> PathBuf {
    let folder = std::env::var_os("BACKSTOP_TEST_CACHE")
        .map(PathBuf::from)
        .unwrap_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../target/testkit"));
    std::fs::create_dir_all(&folder).expect("create the tests' shared folder");
    folder.canonicalize().expect("the tests' shared folder")
}

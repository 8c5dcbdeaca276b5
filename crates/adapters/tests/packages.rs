//! Provides a real server without user action.

#![allow(clippy::disallowed_methods, reason = "tests measure and wait by the machine's own clock")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use backstop_adapters::mysql::mysqld_version::locate;
use backstop_adapters::mysql::packages::{MysqldPrograms, find_or_fetch};
use backstop_testkit::server_program::QuietReporter;
use backstop_types::error::ErrorKind;

/// Returns true if packages can be downloaded on this host and it has no server that would be used
/// instead.
fn can_fetch() -> bool {
    let system = std::fs::read_to_string("/etc/os-release").unwrap_or_default();
    let served = system.lines().any(|line| matches!(line, "ID=debian" | "ID=ubuntu"));
    served && locate("mysqld").is_none()
}

fn version_line(program: &Path) -> String {
    let output = Command::new(program).arg("--version").output().unwrap();
    assert!(output.status.success(), "{}: {output:?}", program.display());
    String::from_utf8(output.stdout).unwrap()
}

async fn fetch(cache: &Path) -> MysqldPrograms {
    find_or_fetch(cache, None, &QuietReporter).await.expect("a server")
}

#[tokio::test(flavor = "multi_thread")]
async fn concurrent_requests_fetch_the_server_once() {
    if !can_fetch() {
        return; // the host's own server is used; nothing to fetch
    }
    let cache = tempfile::tempdir().unwrap();
    // A killed download leaves half an unpacked tree and a truncated package.
    std::fs::create_dir_all(cache.path().join("unpack/root/usr")).unwrap();
    let partial = cache.path().join("fetch/cache/archives/partial");
    std::fs::create_dir_all(&partial).unwrap();
    std::fs::write(partial.join("zlib1g_1_amd64.deb"), "cut").unwrap();
    let sources = std::fs::read_dir("/etc/apt/sources.list.d").map(Iterator::count).unwrap_or(0);

    let (first, second) = tokio::join!(fetch(cache.path()), fetch(cache.path()));
    assert_eq!(first, second);
    assert!(first.version.at_least(8, 0, 0));
    assert!(version_line(&first.mysqld).contains(&first.version.to_string()));
    for tool in ["mysql", "mysqlbinlog", "mysqldump"] {
        version_line(&first.tools.join(tool));
    }
    let left: Vec<_> = std::fs::read_dir(cache.path())
        .unwrap()
        .flatten()
        .map(|entry| entry.file_name().into_string().unwrap())
        .collect();
    assert_eq!(left.len(), 2, "only the server and the lock stay: {left:?}");
    assert_eq!(std::fs::read_dir("/etc/apt/sources.list.d").map(Iterator::count).unwrap_or(0), sources);
}

/// Body of the process that the next test kills.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "started by another test"]
async fn child_fetches_into_the_given_cache() {
    fetch(Path::new(&std::env::var_os("BACKSTOP_TEST_FETCH").unwrap())).await;
}

fn first_package(cache: &Path) -> bool {
    let archives = std::fs::read_dir(cache.join("fetch/cache/archives")).into_iter().flatten().flatten();
    archives.into_iter().any(|entry| entry.path().extension().is_some_and(|end| end == "deb"))
}

fn first_program(cache: &Path) -> bool {
    cache.join("unpack/root/usr").exists()
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_fetch_is_resumed() {
    if !can_fetch() {
        return; // the host's own server is used; nothing to fetch
    }
    let cache = tempfile::tempdir().unwrap();
    for reached in [first_package, first_program] {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["child_fetches_into_the_given_cache", "--exact", "--ignored"])
            .env("BACKSTOP_TEST_FETCH", cache.path())
            .stdout(std::process::Stdio::null())
            .spawn()
            .unwrap();
        let begin = Instant::now();
        while !reached(cache.path()) {
            assert!(begin.elapsed() < Duration::from_secs(300), "the fetch does not get on");
            assert!(child.try_wait().unwrap().is_none(), "the fetch ended before it was killed");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        child.kill().unwrap();
        child.wait().unwrap();
        let servers = std::fs::read_dir(cache.path()).unwrap().flatten();
        assert!(servers.into_iter().all(|entry| !entry.file_name().to_string_lossy().starts_with("mysql-")));
    }
    version_line(&fetch(cache.path()).await.mysqld);
}

#[tokio::test]
async fn configured_server_is_used_or_refused() {
    use std::os::unix::fs::PermissionsExt;
    let cache = tempfile::tempdir().unwrap();
    let program = cache.path().join("mysqld");
    let print = |version: &str| {
        std::fs::write(&program, format!("#!/bin/sh\necho 'mysqld  Ver {version} for Linux'\n")).unwrap();
        std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
    };
    let name = program.display().to_string();
    print("8.4.6");
    assert_eq!(find_or_fetch(cache.path(), Some(&name), &QuietReporter).await.unwrap().mysqld, program);
    print("10.11.6-MariaDB-0+deb12u1");
    assert_eq!(
        find_or_fetch(cache.path(), Some(&name), &QuietReporter).await.unwrap_err().kind,
        ErrorKind::Refused
    );
    let missing = find_or_fetch(cache.path(), Some("/nonexistent/mysqld"), &QuietReporter).await.unwrap_err();
    assert_eq!(missing.kind, ErrorKind::Usage);
}

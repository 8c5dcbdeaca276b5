//! Wraps the tests' server program: with a keyring, a separate clock, or a second volume.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::server_program::server_program;

/// Returns a server program with a keyring (the component `keyring_file`), whose files are in
/// `dir`.
pub async fn with_keyring(dir: &Path) -> PathBuf {
    let own = &server_program().await.mysqld;
    let plugins = linked_plugins(dir, own, &[]);
    let keyring = serde_json::json!({ "path": dir.join("keyring"), "read_only": false });
    std::fs::write(plugins.join("component_keyring_file.cnf"), keyring.to_string()).expect("write");
    // Read from the folder that the server is started in, because its name is given without one.
    let manifest = serde_json::json!({ "components": "file://component_keyring_file" });
    std::fs::write(dir.join("mysqld.my"), manifest.to_string()).expect("write");
    let last = format!("--plugin-dir='{}'", plugins.display());
    write_script(dir, own, &format!("cd '{}'", dir.display()), &last)
}

/// Returns a server program in `dir` that lacks these libraries (`auth_socket.so`).
pub async fn without_plugins(dir: &Path, libraries: &[&str]) -> PathBuf {
    let own = &server_program().await.mysqld;
    let plugins = linked_plugins(dir, own, libraries);
    write_script(dir, own, "", &format!("--plugin-dir='{}'", plugins.display()))
}

/// Returns a folder in `dir` with the plugins of a server program, except some.
fn linked_plugins(dir: &Path, program: &Path, but: &[&str]) -> PathBuf {
    let plugins = dir.join("plugin");
    std::fs::create_dir_all(&plugins).expect("create a folder for plugins");
    for entry in std::fs::read_dir(plugin_dir(program)).expect("the server's plugins") {
        let path = entry.expect("a plugin").path();
        let name = path.file_name().expect("a name");
        if !but.iter().any(|left_out| name == *left_out) {
            std::os::unix::fs::symlink(&path, plugins.join(name)).expect("link a plugin");
        }
    }
    plugins
}

/// Returns a server program in `dir` that every user of this host can run and load the plugins of:
/// the fetched one may be in a folder that only root can enter. Returns an installed program
/// unchanged.
pub async fn for_all_users(dir: &Path) -> PathBuf {
    let own = &server_program().await.mysqld;
    let home = own.parent().and_then(Path::parent).expect("a folder of programs");
    if !std::fs::read_to_string(own).is_ok_and(|script| script.contains(&*home.to_string_lossy())) {
        return own.clone();
    }
    // As links to the files if possible: the program has some hundred MB.
    let link = || Command::new("cp").arg("-al").args([home, dir]).output().expect("cp");
    let copy = || Command::new("cp").arg("-a").args([home, dir]).output().expect("cp");
    let done = link().status.success() || copy().status.success();
    assert!(done, "copy {} to {}", home.display(), dir.display());
    for entry in std::fs::read_dir(dir.join("bin")).expect("the programs") {
        let path = entry.expect("a program").path();
        let script = std::fs::read_to_string(&path).expect("a script");
        std::fs::remove_file(&path).expect("unlink a script");
        std::fs::write(&path, script.replace(&*home.to_string_lossy(), &dir.to_string_lossy()))
            .expect("write a script");
        std::fs::set_permissions(&path, PermissionsExt::from_mode(0o755)).expect("make a script");
    }
    dir.join("bin/mysqld")
}

/// Returns a server program in `base` that sees the folder `redo` beside its data directory as
/// `base/redo`, in a mount namespace of its own: as if each server had a volume there on its own
/// host.
pub async fn with_redo_volume(base: &Path) -> PathBuf {
    let (dir, mount) = (base.join("program"), base.join("redo"));
    for folder in [&dir, &mount] {
        std::fs::create_dir_all(folder).expect("create a folder");
    }
    let before = format!(
        "for given in \"$@\"; do case $given in --defaults-file=*) file=${{given#*=}} ;; esac; done\n\
         if [ -n \"$file\" ]; then\n\
         [ -n \"$REDO_MOUNTED\" ] || exec env REDO_MOUNTED=1 unshare -m \"$0\" \"$@\"\n\
         folder=$(dirname \"$file\")\n\
         [ -d \"$folder/redo\" ] || {{ mkdir \"$folder/redo\"; mv \"$folder/data/#innodb_redo\" \"$folder/redo/\"; }}\n\
         mount --bind \"$folder/redo\" '{}'\n\
         fi",
        mount.display()
    );
    write_script(&dir, &server_program().await.mysqld, &before, "")
}

/// Returns a server program whose clock differs from the machine's as [`set_clock_offset`] sets it;
/// `None`, with a message on standard error, if there is no libfaketime.
pub async fn with_clock(dir: &Path) -> Option<PathBuf> {
    let Ok(asked) = Command::new("faketime").args(["-m", "now", "printenv", "LD_PRELOAD"]).output() else {
        crate::volume::skip("there is no faketime");
        return None;
    };
    let library = String::from_utf8(asked.stdout).expect("a path");
    assert!(library.contains("libfaketime"), "faketime named {library:?}");
    std::fs::create_dir_all(dir).expect("create a folder");
    set_clock_offset(dir, 0);
    // Without the last variable mysqld's timed waits return immediately, forever.
    let variables = format!(
        "export LD_PRELOAD='{}' FAKETIME_TIMESTAMP_FILE='{}' FAKETIME_NO_CACHE=1 FAKETIME_FORCE_MONOTONIC_FIX=1",
        library.trim(),
        dir.join("clock").display()
    );
    Some(write_script(dir, &server_program().await.mysqld, &variables, ""))
}

/// Sets the clock of a program made by [`with_clock`] to this many seconds after the machine's.
pub fn set_clock_offset(dir: &Path, seconds: i64) {
    let (next, clock) = (dir.join("clock.next"), dir.join("clock"));
    std::fs::write(&next, format!("{seconds:+}\n")).expect("write a clock");
    std::fs::rename(&next, &clock).expect("set a clock");
}

/// Writes a script that runs `before` and then executes a program with one more last argument.
fn write_script(dir: &Path, program: &Path, before: &str, last: &str) -> PathBuf {
    let text = std::fs::read_to_string(program).unwrap_or_default();
    // The fetched server is such a script itself; the server obeys its last arguments.
    let become_it = match text.strip_prefix("#!/bin/sh\n") {
        Some(text) => text.trim_end().to_owned(),
        None => format!("exec -a mysqld '{}' \"$@\"", program.display()),
    };
    let path = dir.join("mysqld");
    std::fs::write(&path, format!("#!/bin/bash\n{before}\n{become_it} {last}\n")).expect("write a script");
    std::fs::set_permissions(&path, PermissionsExt::from_mode(0o755)).expect("make a script");
    path
}

fn plugin_dir(mysqld: &Path) -> PathBuf {
    let help = Command::new(mysqld).args(["--no-defaults", "--verbose", "--help"]).output().expect("mysqld");
    let help = String::from_utf8_lossy(&help.stdout).into_owned();
    let line = help.lines().find_map(|line| line.strip_prefix("plugin-dir ")).expect("plugin-dir");
    PathBuf::from(line.trim())
}

//! Unpacks the packages into a separate folder, with wrapper scripts that run the programs with the
//! libraries from the packages.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use backstop_types::error::{Error, Result, ResultExt};
use tokio::process::Command;

use super::apt::DownloadedPackages;
use crate::command;

const CLIENT_PROGRAMS: [&str; 7] =
    ["mysql", "mysqladmin", "mysqlbinlog", "mysqldump", "mysqlcheck", "innochecksum", "ibd2sdi"];

/// Unpacks into `temporary` and moves the whole to `home` when it is complete, so that a folder at
/// `home` is always usable.
pub async fn unpack(packages: &DownloadedPackages, temporary: &Path, home: &Path) -> Result<()> {
    let doing = format!("cannot unpack into {}", temporary.display());
    remove(temporary)?;
    let root = temporary.join("root");
    std::fs::create_dir_all(&root).failed(&doing)?;
    for file in &packages.files {
        let mut dpkg = Command::new("dpkg-deb");
        dpkg.arg("-x").arg(file).arg(&root);
        let doing = format!("cannot unpack {}", file.display());
        command::output(&mut dpkg, Duration::from_secs(120), &doing).await?;
    }
    write_wrappers(&root, &temporary.join("bin"), &home.join("root"))?;
    remove(home)?; // one that does not run
    std::fs::rename(temporary, home).failed(format!(
        "cannot move {} to {}",
        temporary.display(),
        home.display()
    ))
}

fn remove(dir: &Path) -> Result<()> {
    match std::fs::remove_dir_all(dir) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(Error::failed(format!("cannot remove {}: {error}", dir.display())))
        }
        _ => Ok(()),
    }
}

/// Writes the scripts for the programs under `root`, with the paths that the programs will have
/// under `home`.
fn write_wrappers(root: &Path, bin: &Path, home: &Path) -> Result<()> {
    std::fs::create_dir_all(bin).failed(format!("cannot create {}", bin.display()))?;
    let missing = || Error::failed("cannot find the dynamic loader in the packages");
    let libraries = library_folders(root);
    let loader = libraries.iter().find_map(|folder| find_loader(&root.join(folder))).ok_or_else(missing)?;
    let loader = home.join(loader.strip_prefix(root).unwrap_or(&loader));
    let libraries: Vec<_> = libraries.iter().map(|folder| home.join(folder).display().to_string()).collect();
    let start = |program: &str, path: &Path, more: &str| {
        format!(
            "#!/bin/sh\nexec {} --library-path {} --argv0 {program} {} \"$@\"{more}\n",
            quote(&loader),
            quote(Path::new(&libraries.join(":"))),
            quote(&home.join(path)),
        )
    };
    let server = [
        ("--basedir", "usr"),
        ("--lc-messages-dir", "usr/share/mysql"),
        ("--character-sets-dir", "usr/share/mysql/charsets"),
        ("--plugin-dir", "usr/lib/mysql/plugin"),
    ];
    let server: String =
        server.iter().map(|(option, path)| format!(" {option}={}", quote(&home.join(path)))).collect();
    write_script(&bin.join("mysqld"), &start("mysqld", Path::new("usr/sbin/mysqld"), &server))?;
    for client in CLIENT_PROGRAMS {
        let path = Path::new("usr/bin").join(client);
        if root.join(&path).is_file() {
            write_script(&bin.join(client), &start(client, &path, ""))?;
        }
    }
    Ok(())
}

/// Returns the folders with shared libraries, relative to `root`: `usr/lib/<triplet>`, and
/// `lib/<triplet>` in older releases.
fn library_folders(root: &Path) -> Vec<PathBuf> {
    let mut folders = Vec::new();
    for parent in ["usr/lib", "lib"] {
        let Ok(entries) = std::fs::read_dir(root.join(parent)) else { continue };
        for entry in entries.flatten() {
            let name = entry.file_name();
            if name.to_string_lossy().contains("-linux-gnu") {
                folders.push(Path::new(parent).join(name));
            }
        }
    }
    folders
}

fn find_loader(folder: &Path) -> Option<PathBuf> {
    let entries = std::fs::read_dir(folder).ok()?.flatten();
    let is_loader = |name: &str| name.starts_with("ld-linux") || name.starts_with("ld64.so");
    entries
        .map(|entry| entry.path())
        .find(|path| path.file_name().and_then(|name| name.to_str()).is_some_and(is_loader))
}

/// Quotes a path as one word of a shell script.
fn quote(path: &Path) -> String {
    format!("'{}'", path.display().to_string().replace('\'', "'\\''"))
}

fn write_script(path: &Path, text: &str) -> Result<()> {
    let doing = format!("cannot write {}", path.display());
    std::fs::write(path, text).failed(&doing)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).failed(&doing)
}

//! Preflight of a recovery: refuses before it touches anything.

use std::net::{Ipv4Addr, TcpListener};
use std::path::Path;

use backstop_policy::plan::Ending;
use backstop_repo::{Manifest, Storage};
use backstop_types::error::{Error, Result, ResultExt};
use backstop_types::server::ServerVersion;

use super::listen::{can_listen, port_is_free};
use super::volumes::folders_on_volumes;
use super::{DataSource, Recovery, RecoveryDecision, RecoveryRequest, join, promote};
use crate::ports::MysqldControl;

/// Checks that the directory is absent or empty, or holds the journal of this kind of recovery.
pub(crate) fn check_target_dir(dir: &Path) -> Result<()> {
    let what = format!("cannot read target directory {}", dir.display());
    match std::fs::read_dir(dir) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(Error::refused(format!("{what}: {error}")).hint("name a directory with `--into`")),
        Ok(entries) => {
            // A new ext4 file system contains this folder, and no data in it.
            let mut others = entries.flatten().filter(|entry| entry.file_name() != "lost+found");
            if others.next().is_none() || dir.join(".backstop/journal").is_file() {
                return Ok(());
            }
            Err(Error::refused(format!("target directory {} is not empty", dir.display()))
                .hint("name an empty or new directory with `--into`; only unfinished recoveries are resumed"))
        }
    }
}

/// Checks that this recovery can begin or resume in the directory.
pub(super) async fn check_target(request: &RecoveryRequest, mysqld: &dyn MysqldControl) -> Result<()> {
    match request.data {
        DataSource::Repository => check_target_dir(&request.into),
        DataSource::Volumes { .. } => check_volume(&request.into, mysqld).await,
    }
}

/// Checks that the directory holds the backup's data directory (a volume made from its snapshot is
/// mounted there) or the journal of this kind of recovery. Refuses if a server runs on it that this
/// recovery did not start.
async fn check_volume(dir: &Path, mysqld: &dyn MysqldControl) -> Result<()> {
    if dir.join(".backstop/journal").is_file() {
        return Ok(());
    }
    holds_data(dir)?;
    let data = dir.join("data");
    match mysqld.running_on(&data).await? {
        None => Ok(()),
        Some(pid) => Err(Error::refused(format!("a server is running on {}, pid {pid}", data.display()))
            .hint("name the directory of a volume that was created from the backup's snapshot and on which no server was started")),
    }
}

/// Checks that the directory holds a data directory.
fn holds_data(dir: &Path) -> Result<()> {
    let data = dir.join("data");
    // The system tablespace may be on another volume.
    if data.join("ibdata1").is_file() || data.join("mysql.ibd").is_file() {
        return Ok(());
    }
    Err(Error::refused(format!("{} is not a MySQL data directory", data.display())).hint(
        "mount the volume that was created from the backup's snapshot so that it contains this data directory (docs/aws.md); \
         omit --on-volume to restore the files from the repository",
    ))
}

/// Checks everything that can be known beforehand, and makes the decisions that must not change on
/// a resume.
pub(super) async fn decide(recovery: &Recovery<'_>, manifest: &Manifest) -> Result<RecoveryDecision> {
    let to_write = match (&manifest.storage, &recovery.request.data) {
        (Storage::Blocks { .. }, DataSource::Repository) => manifest.sizes.data_bytes,
        (Storage::Ebs { .. }, DataSource::Volumes { .. }) => {
            folders_on_volumes(&recovery.request, manifest)?;
            0
        }
        (Storage::Ebs { .. }, DataSource::Repository) => {
            return Err(Error::refused(format!("backup {} is an EBS snapshot", recovery.request.backup_id)).hint(
                "recover it with `--join` and the shard's `recovery` settings, or on a volume created from it with `--on-volume` (docs/aws.md)",
            ));
        }
        (Storage::Blocks { .. }, DataSource::Volumes { .. }) => {
            return Err(Error::refused(format!(
                "backup {} is in the repository, not on a volume",
                recovery.request.backup_id
            ))
            .hint("omit --on-volume"));
        }
    };
    // Replayed transactions are on the disk three times for a while: as relay logs, as binary logs
    // and in the tables.
    let replayed = recovery.request.replay.as_ref().map_or(0, |replay| replay.bytes);
    space(&recovery.request.into, to_write + 3 * replayed)?;
    version(&recovery.mysqld.version().await?, &manifest.facts.server_version)?;
    let server_id = match recovery.request.ending {
        Ending::Join => {
            let backup = &manifest.facts.gtid_executed;
            let held =
                recovery.request.replay.as_ref().map_or_else(|| backup.clone(), |replay| replay.reached());
            join::check_joinable(recovery, &held).await?
        }
        Ending::Standalone => join::server_id(recovery.ctx, &[])?,
        Ending::AsPrimary => promote::check_promotable(recovery).await?,
    };
    let port = port(recovery.request.port)?;
    if let Some(listen) = &recovery.request.listen {
        can_listen(listen, port)?;
    }
    Ok(RecoveryDecision {
        backup_id: recovery.request.backup_id.clone(),
        target: recovery.request.target.clone(),
        ending: recovery.request.ending,
        port,
        listen: recovery.request.listen.clone(),
        server_id,
        replay: recovery.request.replay.clone(),
    })
}

/// Checks that a resumed recovery is the one that was begun.
pub(super) fn same_request(decided: &RecoveryDecision, request: &RecoveryRequest) -> Result<()> {
    let port_differs = request.port.is_some_and(|port| port != decided.port);
    let same = (&decided.target, decided.ending, &decided.listen)
        == (&request.target, request.ending, &request.listen);
    if same && !port_differs {
        return Ok(());
    }
    Err(Error::refused(format!(
        "{} holds a recovery of backup {} to `{}` ({:?}, port {}{}) that was begun with other arguments",
        request.into.display(),
        decided.backup_id,
        decided.target,
        decided.ending,
        decided.port,
        decided.listen.as_ref().map(|listen| format!(", to listen on {listen}")).unwrap_or_default()
    ))
    .hint(format!(
        "repeat the same arguments to resume it (`--to {}` for a time that was written differently), or name another directory",
        decided.target
    )))
}

fn port(wanted: Option<u16>) -> Result<u16> {
    if let Some(port) = wanted {
        return port_is_free(port).map(|()| port);
    }
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).failed("cannot find a free port")?;
    Ok(listener.local_addr().failed("cannot find a free port")?.port())
}

/// Checks the version: a server can open data of its version or an older one of the last
/// release series, never newer data.
fn version(program: &ServerVersion, data: &ServerVersion) -> Result<()> {
    if (program.major, program.minor, program.patch) >= (data.major, data.minor, data.patch) {
        return Ok(());
    }
    Err(Error::refused(format!("the server program {program} is older than the backup's server {data}"))
        .hint("set `mysql.server` to a mysqld of the same version or newer"))
}

/// Checks the free space: the files, a tenth more for the redo log and the server's writes, and 64
/// MiB.
fn space(dir: &Path, data_bytes: u64) -> Result<()> {
    let existing = dir.ancestors().find(|path| path.exists()).unwrap_or(Path::new("/"));
    let what = format!("cannot get the free space in {}", existing.display());
    let volume = rustix::fs::statvfs(existing).failed(what)?;
    let free = volume.f_bavail.saturating_mul(volume.f_frsize);
    let needed = data_bytes + data_bytes / 10 + (64 << 20);
    if free >= needed {
        return Ok(());
    }
    let mib = |bytes: u64| bytes >> 20;
    Err(Error::refused(format!(
        "not enough space in {}: {} MiB needed, {} MiB free",
        existing.display(),
        mib(needed),
        mib(free)
    ))
    .hint("free space, or name a directory on a larger volume with `--into`"))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use backstop_types::error::ErrorKind;

    use super::*;

    #[test]
    fn target_dir_is_accepted_only_if_new_empty_or_begun() {
        let dir = tempfile::tempdir().unwrap();
        assert!(check_target_dir(&dir.path().join("new")).is_ok());
        assert!(check_target_dir(dir.path()).is_ok());
        std::fs::create_dir(dir.path().join("lost+found")).unwrap();
        assert!(check_target_dir(dir.path()).is_ok(), "a new ext4 file system");
        std::fs::write(dir.path().join("precious"), "x").unwrap();
        assert_eq!(check_target_dir(dir.path()).unwrap_err().kind, ErrorKind::Refused);
        std::fs::create_dir(dir.path().join(".backstop")).unwrap();
        std::fs::write(dir.path().join(".backstop/journal"), "").unwrap();
        assert!(check_target_dir(dir.path()).is_ok());
    }

    #[test]
    fn preflight_refuses_old_version_low_space_and_used_port() {
        let v = |text: &str| text.parse::<ServerVersion>().unwrap();
        assert!(version(&v("9.7.4-2"), &v("9.7.4-1")).is_ok());
        assert_eq!(version(&v("8.4.0"), &v("9.7.4")).unwrap_err().kind, ErrorKind::Refused);
        assert_eq!(space(Path::new("/tmp/x/y"), u64::MAX / 4).unwrap_err().kind, ErrorKind::Refused);
        let taken = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        assert_eq!(port_is_free(taken.local_addr().unwrap().port()).unwrap_err().kind, ErrorKind::Refused);
        assert!(port(None).unwrap() > 0);
        let listen = |text: &str, port| can_listen(&text.parse().unwrap(), port).map_err(|error| error.kind);
        let port = taken.local_addr().unwrap().port();
        assert_eq!(listen("127.0.0.1", port), Err(ErrorKind::Refused));
        assert_eq!(listen("*", port), Err(ErrorKind::Refused));
        assert_eq!(
            listen("192.0.2.1", 0),
            Err(ErrorKind::Refused),
            "an address of documents, not of this host"
        );
        assert_eq!(listen("no-such-host.invalid", 0), Err(ErrorKind::Refused));
        assert_eq!((listen("127.0.0.1,127.0.0.2", 0), listen("localhost", 0)), (Ok(()), Ok(())));
    }
}

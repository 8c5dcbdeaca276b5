//! The user that a recovered server runs as, and where that user may go.

use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::Duration;

use backstop_types::error::{Error, ErrorKind, Result, ResultExt};
use rustix::fs::Access;
use tokio::process::Command;

use crate::command;

const LOOKUP_TIMEOUT: Duration = Duration::from_secs(10);

/// Permission to write in a folder.
const WRITE: u32 = 0o2;
/// Permission to pass a folder.
const PASS: u32 = 0o1;

/// The first port that every user may listen on, unless the kernel says another.
const FIRST_FREE_PORT: u16 = 1024;

/// A user of this host as whom this process can start a server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerUser {
    name: String,
    uid: u32,
    groups: Vec<u32>,
}

impl ServerUser {
    /// The user of this name; `None`: who runs this process.
    ///
    /// # Errors
    /// [`ErrorKind::Usage`] if there is none, or if only root could start a server as that user.
    pub async fn of(name: Option<&str>) -> Result<Self> {
        let me = rustix::process::geteuid();
        let Some(name) = name else {
            return Ok(Self { name: me.to_string(), uid: me.as_raw(), groups: Vec::new() });
        };
        let lookup = async { Ok((ids(name, "-u").await?, ids(name, "-G").await?)) };
        let (uid, groups) = lookup
            .await
            .map_err(|error: Error| error.hint("name a user of this host with `--server-user`"))?;
        let uid = *uid.first().ok_or("it has no numeric id").failed(format!("cannot look up user {name}"))?;
        if me.is_root() || me.as_raw() == uid {
            return Ok(Self { name: name.to_owned(), uid, groups });
        }
        Err(Error::new(ErrorKind::Usage, format!("cannot start a server as user {name}: only root can"))
            .hint("run as root, or omit `--server-user`"))
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Fails if it cannot get to a directory, which need not be there yet.
    ///
    /// # Errors
    /// [`ErrorKind::Refused`] with the folder that it cannot pass.
    pub fn can_reach(&self, dir: &Path) -> Result<()> {
        let dir = std::path::absolute(dir).failed(format!("cannot resolve {}", dir.display()))?;
        let above = || dir.ancestors().skip(1);
        // The way through symbolic links, too.
        let real = above().find_map(|path| path.canonicalize().ok()).unwrap_or_default();
        let Some(closed) = above().chain(real.ancestors()).find(|path| !self.may(path, PASS)) else {
            return Ok(());
        };
        let message = format!(
            "user {} cannot reach {}: it has no access to {}",
            self.name,
            dir.display(),
            closed.display()
        );
        Err(Error::refused(message)
            .hint(format!("run `chmod o+x {}`, or name another directory with `--into`", closed.display())))
    }

    /// True if it can write in a folder.
    pub fn can_write_in(&self, folder: &Path) -> bool {
        self.may(folder, WRITE | PASS) && self.can_reach(folder).is_ok()
    }

    /// Fails for a port that only root can listen on: the server gives up being root first.
    ///
    /// # Errors
    /// [`ErrorKind::Refused`] with the first port that it can have.
    pub fn can_listen_on(&self, port: u16) -> Result<()> {
        let first = std::fs::read_to_string("/proc/sys/net/ipv4/ip_unprivileged_port_start");
        let first = first.ok().and_then(|text| text.trim().parse().ok()).unwrap_or(FIRST_FREE_PORT);
        if port >= first || self.is_me() || self.uid == 0 {
            return Ok(());
        }
        Err(Error::refused(format!("user {} cannot listen on port {port}", self.name))
            .hint(format!("name a port of {first} or higher with `--port`, or omit it to have one chosen")))
    }

    fn is_me(&self) -> bool {
        rustix::process::geteuid().as_raw() == self.uid
    }

    /// False if the permissions of a folder deny it. What this process cannot judge, an access control list, is taken to allow it.
    fn may(&self, folder: &Path, wanted: u32) -> bool {
        if self.is_me() {
            let wanted = Access::from_bits_truncate(wanted);
            return rustix::fs::access(folder, wanted) != Err(rustix::io::Errno::ACCESS);
        }
        let Ok(meta) = std::fs::metadata(folder) else { return true };
        let shift = match meta {
            _ if self.uid == 0 => return true,
            _ if meta.uid() == self.uid => 6,
            _ if self.groups.contains(&meta.gid()) => 3,
            _ => 0,
        };
        (meta.mode() >> shift) & wanted == wanted || has_acl(folder)
    }
}

fn has_acl(folder: &Path) -> bool {
    let mut none: [u8; 0] = [];
    rustix::fs::getxattr(folder, "system.posix_acl_access", &mut none).is_ok()
}

/// Numeric user and group id of a user of this host, however it knows its users.
pub(super) async fn ids_of(user: &str) -> Result<(u32, u32)> {
    let one = async |option| {
        let found = ids(user, option).await?;
        found.first().copied().ok_or("it has no numeric id").failed(format!("cannot look up user {user}"))
    };
    Ok((one("-u").await?, one("-g").await?))
}

/// The numbers that `id` prints of a user.
async fn ids(user: &str, option: &str) -> Result<Vec<u32>> {
    let mut command = Command::new("id");
    let doing = format!("cannot look up user {user}");
    let text = command::output(command.args([option, "--", user]), LOOKUP_TIMEOUT, &doing).await;
    let text = text.map_err(|error| Error { kind: ErrorKind::Usage, ..error })?;
    text.split_whitespace().map(|id| id.parse().failed(&doing)).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[tokio::test]
    async fn unknown_users_and_others_without_root_are_refused() {
        let unknown = ServerUser::of(Some("no-such-user")).await.unwrap_err();
        assert!(unknown.kind == ErrorKind::Usage && unknown.message.contains("no-such-user"), "{unknown}");
        let me = ServerUser::of(None).await.unwrap();
        assert!(me.is_me() && me.can_listen_on(1).is_ok());
        if !rustix::process::geteuid().is_root() {
            let root = ServerUser::of(Some("root")).await.unwrap_err();
            assert!(root.kind == ErrorKind::Usage && root.message.contains("only root"), "{root}");
        }
    }

    #[test]
    fn closed_parent_directory_is_named() {
        let base = tempfile::tempdir().unwrap();
        let (closed, link) = (base.path().join("closed"), base.path().join("link"));
        std::fs::set_permissions(base.path(), PermissionsExt::from_mode(0o755)).unwrap();
        std::fs::create_dir_all(closed.join("deep")).unwrap();
        std::os::unix::fs::symlink(closed.join("deep"), &link).unwrap();
        let meta = std::fs::metadata(&closed).unwrap();
        let other = ServerUser { name: "other".into(), uid: meta.uid() + 1, groups: vec![meta.gid() + 1] };
        let member = ServerUser { groups: vec![meta.gid()], ..other.clone() };
        for (mode, others, members) in [(0o700, false, false), (0o710, false, true), (0o701, true, false)] {
            std::fs::set_permissions(&closed, PermissionsExt::from_mode(mode)).unwrap();
            for dir in [closed.join("new/er"), link.join("new")] {
                assert_eq!(other.can_reach(&dir).is_ok(), others, "{mode:o}");
                assert_eq!(member.can_reach(&dir).is_ok(), members, "{mode:o}");
            }
            assert!(other.can_reach(&closed).is_ok(), "the target directory is given to it");
            assert!(!other.can_write_in(&closed) && !member.can_write_in(&closed.join("deep")));
        }
        std::fs::set_permissions(&closed, PermissionsExt::from_mode(0o700)).unwrap();
        let error = other.can_reach(&closed.join("new")).unwrap_err();
        let told = format!("no access to {}", closed.display());
        assert!(error.kind == ErrorKind::Refused && error.message.ends_with(&told), "{error}");
    }
}

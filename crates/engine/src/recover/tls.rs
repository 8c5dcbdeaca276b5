//! Certificate of the recovered server: copies of the files that the configuration names.

use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use backstop_config::option_file::quoted;
use backstop_types::error::{Result, ResultExt};

use super::{Recovery, layout};

/// Copies the files into `DIR/tls`, readable only by the user that the server runs as, and returns
/// the options that name them. Returns none without a certificate.
pub(super) async fn copy(recovery: &Recovery<'_>) -> Result<String> {
    let Some(tls) = &recovery.request.tls else { return Ok(String::new()) };
    let folder = layout::target_layout(&recovery.request).defaults_file.with_file_name("tls");
    let doing = format!("cannot create {}", folder.display());
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(&folder).failed(doing)?;
    let files = [("ssl_ca", tls.ca.as_ref()), ("ssl_cert", Some(&tls.cert)), ("ssl_key", Some(&tls.key))];
    let mut options = String::new();
    for (option, from) in files {
        let Some(from) = from else { continue };
        let to = folder.join(format!("{option}.pem"));
        copy_private(from, &to)?;
        options.push_str(&format!("{option} = {}\n", quoted(&to.display().to_string())));
    }
    if let Some(user) = &recovery.request.server_user {
        recovery.mysqld.chown(&folder, user).await?;
    }
    Ok(options)
}

/// Replaces a file by a copy that only its owner can read.
fn copy_private(from: &Path, to: &PathBuf) -> Result<()> {
    use std::io::Write as _;
    let doing = format!("cannot copy {} to {}", from.display(), to.display());
    let content = std::fs::read(from).failed(&doing)?;
    let new = to.with_extension("new");
    match std::fs::remove_file(&new) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error).failed(&doing),
        _ => {}
    }
    let mut options = std::fs::OpenOptions::new();
    let mut file = options.write(true).create_new(true).mode(0o600).open(&new).failed(&doing)?;
    file.write_all(&content).failed(&doing)?;
    file.sync_all().failed(&doing)?;
    std::fs::rename(&new, to).failed(&doing)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn key_copy_is_private_and_replaces_older_copy() {
        let dir = tempfile::tempdir().unwrap();
        let (from, to) = (dir.path().join("from"), dir.path().join("to.pem"));
        std::fs::write(dir.path().join("to.new"), "left by a kill").unwrap();
        for content in ["one", "two"] {
            std::fs::write(&from, content).unwrap();
            std::fs::set_permissions(&from, std::fs::Permissions::from_mode(0o644)).unwrap();
            copy_private(&from, &to).unwrap();
            assert_eq!(std::fs::read_to_string(&to).unwrap(), content);
            assert_eq!(std::fs::metadata(&to).unwrap().permissions().mode() & 0o777, 0o600);
        }
    }
}

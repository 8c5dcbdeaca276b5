//! Small files that hold a secret: mode 0600, in a folder of mode 0700.

#![allow(clippy::disallowed_methods, reason = "a password is random and has no other use")]

use std::io::{Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::Path;

use backstop_binlog::{SALT_BYTES, password_hash};
use backstop_types::error::{Result, ResultExt};
use secrecy::{ExposeSecret, SecretString};

use super::dialect::quote_text;

/// Creates the folder, or restricts its mode.
pub fn create_dir(dir: &Path) -> Result<()> {
    let doing = format!("cannot create {}", dir.display());
    std::fs::create_dir_all(dir).failed(&doing)?;
    std::fs::set_permissions(dir, std::fs::Permissions::from_mode(0o700)).failed(doing)
}

/// Returns the text, if the file exists.
pub fn read(path: &Path) -> Result<Option<SecretString>> {
    let mut text = String::new();
    match std::fs::File::open(path).and_then(|mut file| file.read_to_string(&mut text)) {
        Ok(_) => Ok(Some(SecretString::from(text))),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error).failed(format!("cannot read {}", path.display())),
    }
}

/// Writes the file atomically. The file gets the owner of its folder: the user a server runs as
/// must be able to read it.
pub fn write(path: &Path, text: &SecretString) -> Result<()> {
    let doing = format!("cannot write {}", path.display());
    let temporary = path.with_extension("new");
    remove(&temporary)?;
    let mut options = std::fs::OpenOptions::new();
    let mut file = options.write(true).create_new(true).mode(0o600).open(&temporary).failed(&doing)?;
    file.write_all(text.expose_secret().as_bytes()).failed(&doing)?;
    if let Some(dir) = path.parent()
        && rustix::process::geteuid().is_root()
    {
        let owner = std::fs::metadata(dir).failed(&doing)?;
        std::os::unix::fs::fchown(&file, Some(owner.uid()), Some(owner.gid())).failed(&doing)?;
    }
    file.sync_all().failed(&doing)?;
    std::fs::rename(&temporary, path).failed(doing)
}

/// Removes the file. A missing file is not an error.
pub fn remove(path: &Path) -> Result<()> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).failed(format!("cannot remove {}", path.display()))
        }
        _ => Ok(()),
    }
}

/// Returns a password of 128 random bits.
pub fn random_password() -> SecretString {
    SecretString::from(format!("Bs1-{}", uuid::Uuid::new_v4().simple()))
}

/// Returns the clause `WITH … AS …` of `CREATE USER` with the hash that a server stores: a password
/// policy cannot refuse a password that it does not see.
pub fn identified(password: &SecretString) -> SecretString {
    let mut salt = [0; SALT_BYTES];
    let random = uuid::Uuid::new_v4().simple().to_string();
    salt.iter_mut().zip(random.bytes()).for_each(|(byte, sign)| *byte = sign);
    let stored = password_hash(password, salt);
    SecretString::from(format!("WITH caching_sha2_password AS {}", quote_text(stored.expose_secret())))
}

//! Minimum versions of Backstop that may read a repository and write to it.

use std::cmp::Ordering;

use backstop_types::error::{Error, Result};
use serde::{Deserialize, Serialize};

use crate::encrypted_store::EncryptedStore;
use crate::keys::REQUIRED_VERSIONS_DIRECTORY;
use crate::object::{ExpectedObject, ObjectKind};

/// Version of this program.
const OWN_VERSION: &str = env!("CARGO_PKG_VERSION");
/// Oldest version that understands everything that this one stores.
const MIN_READER_VERSION: &str = "0.1.0";
/// Oldest version that may write, append or prune beside this one.
const MIN_WRITER_VERSION: &str = "0.1.0";

/// Versions that a repository requires of the programs that use it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct RequiredVersions {
    /// Minimum version to read.
    pub(crate) read: String,
    /// Minimum version to write, append or prune.
    pub(crate) write: String,
}

/// Kind of access to a repository.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Access {
    Read,
    Write,
}

impl Default for RequiredVersions {
    /// Returns the versions for a repository that this program creates.
    fn default() -> Self {
        Self { read: MIN_READER_VERSION.to_owned(), write: MIN_WRITER_VERSION.to_owned() }
    }
}

/// Returns the requirement that was raised last; `None` if it was never raised since the repository
/// was created.
pub(crate) async fn raised_versions(store: &EncryptedStore) -> Result<Option<RequiredVersions>> {
    let Some((key, _)) = store.list(REQUIRED_VERSIONS_DIRECTORY).await?.pop() else { return Ok(None) };
    let expected = ExpectedObject { kind: ObjectKind::Root, key: &key, reference: None };
    Ok(Some(store.get(expected).await?))
}

/// Checks that this program has the required version.
pub(crate) fn require_access(needs: Option<&RequiredVersions>, what: Access) -> Result<()> {
    admit_version(needs, what, OWN_VERSION)
}

fn admit_version(needs: Option<&RequiredVersions>, what: Access, own: &str) -> Result<()> {
    let Some(needs) = needs else { return Ok(()) };
    let (least, verb) = match what {
        Access::Read => (&needs.read, "read"),
        Access::Write => (&needs.write, "written to"),
    };
    if at_least(own, least) {
        return Ok(());
    }
    Err(Error::refused(format!(
        "the repository may only be {verb} by Backstop {least} or newer; this is {own}"
    ))
    .hint(format!("install Backstop {least} or newer here")))
}

/// Compares versions. Returns false for an invalid one as well: a later Backstop may write versions
/// in another form.
fn at_least(own: &str, least: &str) -> bool {
    match (numbers(own), numbers(least)) {
        (Some(own), Some(least)) => own.cmp(&least) != Ordering::Less,
        _ => false,
    }
}

fn numbers(version: &str) -> Option<Vec<u64>> {
    let plain = version.split(['-', '+']).next()?;
    let numbers: Option<Vec<u64>> = plain.split('.').map(|number| number.parse().ok()).collect();
    numbers.filter(|numbers| numbers.len() == 3)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn an_older_program_is_refused_with_both_versions() {
        let needs = RequiredVersions { read: "0.2.0".into(), write: "0.10.0".into() };
        for (own, read, write) in [
            ("0.1.9", false, false),
            ("0.2.0", true, false),
            ("0.9.1-rc.1", true, false),
            ("0.10.0", true, true),
            ("1.0.0", true, true),
        ] {
            assert_eq!(admit_version(Some(&needs), Access::Read, own).is_ok(), read, "{own}");
            assert_eq!(admit_version(Some(&needs), Access::Write, own).is_ok(), write, "{own}");
        }
        let error = admit_version(Some(&needs), Access::Write, "0.2.0").unwrap_err();
        assert_eq!(error.kind.exit_code(), 20);
        assert!(error.message.contains("0.10.0") && error.message.contains("0.2.0"), "{error}");
        assert!(
            require_access(None, Access::Write).is_ok()
                && require_access(Some(&RequiredVersions::default()), Access::Write).is_ok()
        );
        let other = RequiredVersions { read: "next".into(), write: "0.1.0".into() };
        assert!(require_access(Some(&other), Access::Read).is_err());
    }
}

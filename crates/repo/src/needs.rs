//! The least version of Backstop that may read a repository, and the least that may write to it.

use std::cmp::Ordering;

use backstop_model::fault::{Fault, Result};
use serde::{Deserialize, Serialize};

use crate::keys::NEEDS;
use crate::object::{Expected, ObjectKind};
use crate::shelf::Shelf;

/// This program's version.
const OWN: &str = env!("CARGO_PKG_VERSION");
/// The oldest version that understands all that this one stores.
const READS: &str = "0.1.0";
/// The oldest version that may write, append or prune beside this one.
const WRITES: &str = "0.1.0";

/// What a repository asks of the programs that use it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Needs {
    /// The least version that may read.
    pub(crate) read: String,
    /// The least version that may write, append or prune.
    pub(crate) write: String,
}

/// What is done with a repository.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Use {
    Read,
    Write,
}

impl Default for Needs {
    /// Those of a repository that this program makes.
    fn default() -> Self {
        Self { read: READS.to_owned(), write: WRITES.to_owned() }
    }
}

/// What was asked for last, where more was asked for since the repository was made.
pub(crate) async fn raised(shelf: &Shelf) -> Result<Option<Needs>> {
    let Some((key, _)) = shelf.list(NEEDS).await?.pop() else { return Ok(None) };
    let expected = Expected { kind: ObjectKind::Root, key: &key, reference: None };
    Ok(Some(shelf.get(expected).await?))
}

/// Ok if this program may.
pub(crate) fn admit(needs: Option<&Needs>, what: Use) -> Result<()> {
    admit_version(needs, what, OWN)
}

fn admit_version(needs: Option<&Needs>, what: Use, own: &str) -> Result<()> {
    let Some(needs) = needs else { return Ok(()) };
    let (least, verb) = match what {
        Use::Read => (&needs.read, "read"),
        Use::Write => (&needs.write, "written to"),
    };
    if at_least(own, least) {
        return Ok(());
    }
    Err(Fault::refused(format!(
        "the repository may only be {verb} by Backstop {least} or newer; this is {own}"
    ))
    .hint(format!("install Backstop {least} or newer here")))
}

/// False also for what is no version: a later Backstop may write them in another way.
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
        let needs = Needs { read: "0.2.0".into(), write: "0.10.0".into() };
        for (own, read, write) in [
            ("0.1.9", false, false),
            ("0.2.0", true, false),
            ("0.9.1-rc.1", true, false),
            ("0.10.0", true, true),
            ("1.0.0", true, true),
        ] {
            assert_eq!(admit_version(Some(&needs), Use::Read, own).is_ok(), read, "{own}");
            assert_eq!(admit_version(Some(&needs), Use::Write, own).is_ok(), write, "{own}");
        }
        let fault = admit_version(Some(&needs), Use::Write, "0.2.0").unwrap_err();
        assert_eq!(fault.kind.exit_code(), 20);
        assert!(fault.message.contains("0.10.0") && fault.message.contains("0.2.0"), "{fault}");
        assert!(admit(None, Use::Write).is_ok() && admit(Some(&Needs::default()), Use::Write).is_ok());
        let other = Needs { read: "next".into(), write: "0.1.0".into() };
        assert!(admit(Some(&other), Use::Read).is_err());
    }
}

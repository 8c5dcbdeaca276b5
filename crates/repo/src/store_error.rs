//! Errors of stores, converted to Backstop's kinds.

use std::error::Error as StdError;
use std::fmt;
use std::path::PathBuf;

use backstop_types::error::{Error, ErrorKind};

/// Directory that lists the descriptors of this process. Its entries are paths by which the store
/// reaches a directory that it holds open; they say nothing about the process.
pub(crate) const DESCRIPTOR_DIRECTORY: &str = "/proc/self/fd";

/// Error: the path names another directory than the open one.
#[derive(Debug)]
pub(crate) struct DirectoryReplaced {
    pub(crate) path: PathBuf,
    pub(crate) wrong: String,
}

impl fmt::Display for DirectoryReplaced {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} is no longer the repository's directory: {}", self.path.display(), self.wrong)
    }
}

impl std::error::Error for DirectoryReplaced {}

/// Hint for a bucket with Object Lock.
const OBJECT_LOCK_HINT: &str = "add a lifecycle rule for noncurrent versions: in a bucket with Object Lock, objects that `prune` removes and \
                      overwritten heartbeats stay as versions until their retention ends; backups and archives are stored";

/// Address from which the credentials of an instance's role are requested if there are no others.
const METADATA_ADDRESS: &str = "//169.254.169.254/";

/// Hint that lists the sources of credentials.
const NO_CREDENTIALS_HINT: &str = "set `repository.credentials`, or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or run on an instance \
                              with a role; the files of the AWS command line (~/.aws) are not read";

/// Converts an error of the store: `cannot verb key: cause`, with the kind for the remedy.
pub(crate) fn store_error(verb: &str, key: &str, error: &object_store::Error) -> Error {
    let cause = error_chain(error);
    let message = format!("cannot {verb} {key}: {cause}");
    match error {
        object_store::Error::PermissionDenied { .. } | object_store::Error::Unauthenticated { .. } => {
            denied(message)
        }
        _ if find_cause::<DirectoryReplaced>(error).is_some() => Error::new(ErrorKind::Store, message)
            .hint("mount the repository's volume there again; until then nothing is stored or acknowledged"),
        _ if io_kind(error) == Some(std::io::ErrorKind::PermissionDenied) => denied(message),
        _ if cause.contains(METADATA_ADDRESS) => {
            let why = cause.rsplit(": ").next().unwrap_or_default();
            let message = format!(
                "cannot {verb} {key}: no credentials for the store were found, and the role of this instance provided none: {why}"
            );
            Error::new(ErrorKind::Store, message).hint(NO_CREDENTIALS_HINT)
        }
        _ if io_kind(error) == Some(std::io::ErrorKind::StorageFull) => Error::failed(message)
            .hint("free space on the repository's file system, which is full, then repeat"),
        // A refused listing has no error kind in the library.
        _ if cause.contains("403 Forbidden") || cause.contains("401 Unauthorized") => denied(message),
        _ if cause.contains("ObjectLock") || cause.contains("Object Lock") || cause.contains("WORM") => {
            Error::new(ErrorKind::Denied, message).hint(OBJECT_LOCK_HINT)
        }
        _ if cause.contains("NoSuchBucket") => {
            Error::new(ErrorKind::Store, message).hint("create the bucket, or correct `repository.url`")
        }
        _ => Error::new(ErrorKind::Store, message).hint("check that the repository's store can be reached"),
    }
}

fn denied(message: String) -> Error {
    Error::new(ErrorKind::Denied, message).hint("correct the repository's credentials or their permissions")
}

fn io_kind(error: &object_store::Error) -> Option<std::io::ErrorKind> {
    find_cause::<std::io::Error>(error).map(std::io::Error::kind)
}

/// Returns the cause of this type, if there is one.
fn find_cause<T: StdError + 'static>(error: &object_store::Error) -> Option<&T> {
    let mut next: Option<&dyn StdError> = Some(error);
    while let Some(error) = next {
        if let Some(found) = error.downcast_ref::<T>() {
            return Some(found);
        }
        next = error.source();
    }
    None
}

/// Formats an error with its causes, each one once, on one line.
pub(crate) fn error_chain(error: &dyn StdError) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text = format!("{text}: {cause_text}");
        }
        next = cause.source();
    }
    let line = with_relative_keys(&text.split_whitespace().collect::<Vec<_>>().join(" "));
    if line.len() <= 600 { line } else { line.chars().take(600).chain("…".chars()).collect() }
}

/// Replaces the descriptor paths in a message with the keys of the objects.
fn with_relative_keys(text: &str) -> String {
    let descriptors = format!("{DESCRIPTOR_DIRECTORY}/");
    let mut parts = text.split(&descriptors);
    let mut plain = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let number = part.bytes().take_while(u8::is_ascii_digit).count();
        plain.push_str(part[number..].strip_prefix('/').unwrap_or(&part[number..]));
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_name_objects_by_their_keys() {
        let told = "Unable to open file /proc/self/fd/17/shards/a#1: from /proc/self/fd/3";
        assert_eq!(with_relative_keys(told), "Unable to open file shards/a#1: from ");
        assert_eq!(with_relative_keys("nothing to do"), "nothing to do");
    }
}

//! Parses `repository.url`.

use std::fmt;
use std::path::Path;

use super::{RepositoryUrl, S3Settings};

impl RepositoryUrl {
    /// Parses `file:///absolute/path` or `s3://bucket/prefix`; the options of a bucket are left
    /// unset.
    ///
    /// # Errors
    /// Returns the valid forms if the text is not a repository URL.
    pub fn parse(text: &str) -> Result<Self, String> {
        if let Some(path) = text.strip_prefix("file://") {
            return directory(path)
                .ok_or_else(|| format!("`{text}` is not an absolute path: write file:///var/lib/backstop"));
        }
        if let Some(rest) = text.strip_prefix("s3://") {
            return bucket(rest).ok_or_else(|| format!("`{text}` names no bucket: write s3://bucket/prefix"));
        }
        if text.starts_with('/') {
            return Err(format!("`{text}` is a path: write file://{text}"));
        }
        Err(format!("`{text}` is not a repository: write file:///absolute/path or s3://bucket/prefix"))
    }
}

fn directory(path: &str) -> Option<RepositoryUrl> {
    let plain = path.starts_with('/') && !Path::new(path).components().any(|c| c.as_os_str() == "..");
    plain.then(|| RepositoryUrl::File { path: path.into() })
}

fn bucket(rest: &str) -> Option<RepositoryUrl> {
    let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
    let allowed = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    let prefix = prefix.trim_matches('/');
    let clean =
        prefix.split('/').all(|part| !part.is_empty() && part != "." && part != "..") || prefix.is_empty();
    let prefix_ok = clean && prefix.chars().all(|c| allowed(c) || "/=+@,!".contains(c));
    (!bucket.is_empty() && bucket.len() <= 255 && bucket.chars().all(allowed) && prefix_ok).then(|| {
        RepositoryUrl::S3(S3Settings {
            bucket: bucket.to_owned(),
            prefix: prefix.to_owned(),
            endpoint: None,
            region: None,
            allow_http: false,
            ca: None,
            kms_key: None,
            storage_class: None,
            credentials: None,
        })
    })
}

impl fmt::Display for RepositoryUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File { path } => write!(f, "file://{}", path.display()),
            Self::S3(s3) if s3.prefix.is_empty() => write!(f, "s3://{}", s3.bucket),
            Self::S3(s3) => write!(f, "s3://{}/{}", s3.bucket, s3.prefix),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn repository_urls_are_parsed_and_printed() {
        for text in ["file:///var/lib/backstop", "s3://bucket", "s3://bucket/a/b"] {
            assert_eq!(RepositoryUrl::parse(text).unwrap().to_string(), text);
        }
        assert_eq!(RepositoryUrl::parse("s3://b/p/").unwrap().to_string(), "s3://b/p");
    }

    #[test]
    fn malformed_url_is_refused_with_the_correct_form() {
        for (text, part) in [
            ("/var/lib/x", "write file:///var/lib/x"),
            ("file://relative", "absolute"),
            ("file:///a/../b", "absolute"),
            ("s3://", "names no bucket"),
            ("s3://b/a//c", "names no bucket"),
            ("s3://b?x=y", "names no bucket"),
            ("gs://b", "write file:///"),
        ] {
            assert!(RepositoryUrl::parse(text).unwrap_err().contains(part), "{text}");
        }
    }
}

//! User key of an encrypted repository.

use std::sync::Arc;

use backstop_types::error::{Error, ErrorKind, Result};
use secrecy::{ExposeSecret, SecretBox, SecretString};

/// User key: 32 bytes that wrap the repository's data key.
#[derive(Clone)]
pub struct RepoKey(Arc<SecretBox<[u8; 32]>>);

impl RepoKey {
    /// Parses a key: 32 random bytes as 64 hex digits or as base64. Ignores white space around
    /// them.
    ///
    /// # Errors
    /// Returns [`ErrorKind::Usage`] for anything else. The message never repeats the text.
    pub fn parse(text: &SecretString) -> Result<Self> {
        let text = text.expose_secret().trim();
        let bytes = if text.len() == 64 { from_hex(text) } else { from_base64(text) };
        bytes.map(|bytes| Self(Arc::new(SecretBox::new(Box::new(bytes))))).ok_or_else(|| {
            Error::new(ErrorKind::Usage, "the encryption key is not 32 bytes in hex or base64")
                .hint("make one with `openssl rand -hex 32` and keep a copy of it away from the repository")
        })
    }

    pub(crate) fn expose(&self) -> &[u8; 32] {
        self.0.expose_secret()
    }
}

fn from_hex(text: &str) -> Option<[u8; 32]> {
    let digits: Option<Vec<u8>> = text.chars().map(|c| c.to_digit(16).map(|d| d as u8)).collect();
    let bytes: Vec<u8> =
        digits?.chunks(2).map(|pair| pair.iter().fold(0, |byte, digit| byte << 4 | digit)).collect();
    bytes.try_into().ok()
}

fn from_base64(text: &str) -> Option<[u8; 32]> {
    let body = text.strip_suffix('=').unwrap_or(text);
    let (mut bits, mut count, mut bytes) = (0u32, 0, Vec::with_capacity(32));
    for c in body.bytes() {
        let six = match c {
            b'A'..=b'Z' => c - b'A',
            b'a'..=b'z' => c - b'a' + 26,
            b'0'..=b'9' => c - b'0' + 52,
            b'+' | b'-' => 62,
            b'/' | b'_' => 63,
            _ => return None,
        };
        bits = bits << 6 | u32::from(six);
        count += 6;
        if count >= 8 {
            count -= 8;
            bytes.push((bits >> count) as u8);
        }
    }
    // 43 digits carry 258 bits: the two left over must be zero, or two texts would mean one key.
    if body.len() != 43 || bits & 0b11 != 0 {
        return None;
    }
    bytes.try_into().ok()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn hex_and_base64_give_the_same_key() {
        let hex = RepoKey::parse(&SecretString::from(format!(" {}\n", "0f".repeat(32)))).unwrap();
        let base64 =
            RepoKey::parse(&SecretString::from("Dw8PDw8PDw8PDw8PDw8PDw8PDw8PDw8PDw8PDw8PDw8=")).unwrap();
        assert_eq!(hex.expose(), &[0x0f; 32]);
        assert_eq!(hex.expose(), base64.expose());
    }

    #[test]
    fn malformed_key_is_refused_without_repeating_it() {
        let long = "x".repeat(64);
        for bad in ["", "hunter2", &long, "Dw8PDw8PDw8PDw8PDw8PDw8PDw8PDw8PDw8PDw8PDw9="] {
            let error = RepoKey::parse(&SecretString::from(bad)).err().unwrap();
            assert_eq!(error.kind, ErrorKind::Usage);
            assert!(bad.is_empty() || !format!("{error:?}").contains(bad));
        }
    }
}

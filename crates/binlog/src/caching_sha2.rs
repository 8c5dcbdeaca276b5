//! The plugin `caching_sha2_password` ("Caching_sha2_password information" of MySQL's source
//! documentation).
//!
//! The client sends SHA256(password) XOR SHA256(SHA256(SHA256(password)) · nonce), with a nonce of
//! 20 bytes. The server stores SHA256(SHA256(password)) and can check this without ever seeing the
//! password. A server that has forgotten it requests the password itself: over TLS as it is, with a
//! zero byte; over plain text the same, XOR the nonce repeated, encrypted with the server's RSA key
//! (OAEP with SHA-1).

use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::digest;
use aws_lc_rs::rsa::{OAEP_SHA1_MGF1SHA1, OaepPublicEncryptingKey, PublicEncryptingKey};
use backstop_types::error::{Error, Result, ResultExt};
use rustls::pki_types::SubjectPublicKeyInfoDer;
use rustls::pki_types::pem::PemObject;
use secrecy::{ExposeSecret, SecretString};

/// The plugin's name.
pub(crate) const PLUGIN_NAME: &str = "caching_sha2_password";
/// Length of the nonce in bytes.
pub(crate) const NONCE_BYTES: usize = 20;

pub(crate) type Sha256Hash = [u8; 32];

/// The stored form of a password on a server: SHA256(SHA256(password)). Debug does not show it.
#[derive(Clone)]
pub struct PasswordCheck {
    /// The hash; `None`: the password is empty.
    twice: Option<Sha256Hash>,
}

impl PasswordCheck {
    /// Computes the stored form of a password.
    pub fn new(password: &SecretString) -> Self {
        let password = password.expose_secret().as_bytes();
        Self { twice: (!password.is_empty()).then(|| sha256(&[&sha256(&[password])])) }
    }

    /// True if the password produced this answer to the nonce.
    pub(crate) fn accepts(&self, answer: &[u8], nonce: &[u8]) -> bool {
        let Some(twice) = &self.twice else { return answer.is_empty() };
        let Ok(answer) = Sha256Hash::try_from(answer) else { return false };
        let once = xor(answer, &sha256(&[twice, nonce]));
        verify_slices_are_equal(&sha256(&[&once]), twice).is_ok()
    }
}

impl std::fmt::Debug for PasswordCheck {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("PasswordCheck")
    }
}

/// Returns the client's answer to the nonce; empty for an empty password.
pub(crate) fn password_answer(password: &SecretString, nonce: &[u8]) -> Vec<u8> {
    let password = password.expose_secret().as_bytes();
    if password.is_empty() {
        return Vec::new();
    }
    let once = sha256(&[password]);
    xor(once, &sha256(&[&sha256(&[&once]), nonce])).to_vec()
}

/// Returns the password with its zero byte, the form sent over TLS.
pub(crate) fn clear_password(password: &SecretString) -> Vec<u8> {
    let mut bytes = password.expose_secret().as_bytes().to_vec();
    bytes.push(0);
    bytes
}

/// Encrypts the password for a plain-text connection. Only the holder of the private key can read
/// it; `pem` is the server's public key.
pub(crate) fn rsa_encrypted(password: &SecretString, nonce: &[u8], pem: &[u8]) -> Result<Vec<u8>> {
    let doing = "cannot encrypt the password with the server's RSA key";
    let spki = SubjectPublicKeyInfoDer::from_pem_slice(pem).failed(doing)?;
    let bad = |_| Error::failed(format!("{doing}: the key cannot be used"));
    let key = PublicEncryptingKey::from_der(&spki).map_err(|_| ()).map_err(bad)?;
    let key = OaepPublicEncryptingKey::new(key).map_err(|_| ()).map_err(bad)?;
    let mut hidden = clear_password(password);
    hidden.iter_mut().zip(nonce.iter().cycle()).for_each(|(byte, mask)| *byte ^= mask);
    let mut sent = vec![0; key.ciphertext_size()];
    let written = key.encrypt(&OAEP_SHA1_MGF1SHA1, &hidden, &mut sent, None);
    let length = written.map_err(|_| Error::failed(format!("{doing}: the password is too long")))?.len();
    sent.truncate(length);
    Ok(sent)
}

pub(crate) fn sha256(parts: &[&[u8]]) -> Sha256Hash {
    let mut context = digest::Context::new(&digest::SHA256);
    parts.iter().for_each(|part| context.update(part));
    let mut hash = Sha256Hash::default();
    hash.copy_from_slice(context.finish().as_ref());
    hash
}

fn xor(mut left: Sha256Hash, right: &Sha256Hash) -> Sha256Hash {
    left.iter_mut().zip(right).for_each(|(a, b)| *a ^= b);
    left
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_password_is_accepted() {
        let nonce = [7; NONCE_BYTES];
        let right = SecretString::from("hunter2");
        let check = PasswordCheck::new(&right);
        assert!(check.accepts(&password_answer(&right, &nonce), &nonce));
        assert!(!check.accepts(&password_answer(&right, &nonce), &[8; NONCE_BYTES]), "an answer serves once");
        assert!(!check.accepts(&password_answer(&SecretString::from("hunter3"), &nonce), &nonce));
        assert!(!check.accepts(b"", &nonce) && !check.accepts(&[0; 33], &nonce));
        let empty = PasswordCheck::new(&SecretString::from(""));
        assert!(empty.accepts(b"", &nonce) && !empty.accepts(&password_answer(&right, &nonce), &nonce));
        assert_eq!(format!("{check:?}"), "PasswordCheck");
    }
}

//! Stored password of the plugin `caching_sha2_password`: `$A$`, the rounds in thousands (three
//! hexadecimal digits), `$`, a salt of 20 bytes, and 43 characters of SHA-crypt
//! (<https://www.akkadia.org/drepper/SHA-crypt.txt>, the SHA-256 kind, with the longer salt).
//!
//! Every server accepts an account created with the stored form: no password policy can check a
//! password that it does not see.

use secrecy::{ExposeSecret, SecretString};

use crate::caching_sha2::{Sha256Hash, sha256};

/// Length of a salt in bytes.
pub const SALT_BYTES: usize = 20;
/// Number of rounds, in thousands: the minimum that servers accept. A password of 128 random bits
/// needs no more.
const ROUNDS_IN_THOUSANDS: usize = 5;

/// Returns the value for `CREATE USER … IDENTIFIED WITH caching_sha2_password AS '…'` for this
/// password. The salt is ASCII without `$` and zero bytes.
pub fn password_hash(password: &SecretString, salt: [u8; SALT_BYTES]) -> SecretString {
    let digest = crypt(password.expose_secret().as_bytes(), &salt, ROUNDS_IN_THOUSANDS * 1000);
    let salt: String = salt.map(char::from).iter().collect();
    SecretString::from(format!("$A${ROUNDS_IN_THOUSANDS:03X}${salt}{}", crypt_base64(&digest)))
}

/// Computes SHA-crypt, with the steps in the order of its specification.
fn crypt(password: &[u8], salt: &[u8], rounds: usize) -> Sha256Hash {
    let inner = sha256(&[password, salt, password]);
    let mut begin = [password, salt, &fill_from_digest(&inner, password.len())].concat();
    let mut bits = password.len();
    while bits > 0 {
        begin.extend(if bits & 1 == 1 { &inner[..] } else { password });
        bits >>= 1;
    }
    let mut digest = sha256(&[&begin]);
    let p = fill_from_digest(&sha256(&[&password.repeat(password.len())]), password.len());
    let s = fill_from_digest(&sha256(&[&salt.repeat(16 + usize::from(digest[0]))]), salt.len());
    for round in 0..rounds {
        let (first, last): (&[u8], &[u8]) = if round % 2 == 1 { (&p, &digest) } else { (&digest, &p) };
        let salted: &[u8] = if round % 3 == 0 { &[] } else { &s };
        let again: &[u8] = if round % 7 == 0 { &[] } else { &p };
        digest = sha256(&[first, salted, again, last]);
    }
    digest
}

/// Returns this many bytes, from the repeated digest.
fn fill_from_digest(digest: &Sha256Hash, length: usize) -> Vec<u8> {
    digest.iter().copied().cycle().take(length).collect()
}

/// Encodes in SHA-crypt's base 64: three bytes at a time in rotating positions, lowest bits first.
fn crypt_base64(digest: &Sha256Hash) -> String {
    const ALPHABET: &[u8; 64] = b"./0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
    let sign = |value: u32, place: u32| char::from(ALPHABET[(value >> (6 * place) & 63) as usize]);
    let mut out = String::with_capacity(43);
    let (mut a, mut b, mut c) = (0, 10, 20);
    for _ in 0..10 {
        let value = u32::from_be_bytes([0, digest[a], digest[b], digest[c]]);
        out.extend((0..4).map(|place| sign(value, place)));
        (a, b, c) = (c + 1, a + 1, b + 1);
    }
    let value = u32::from_be_bytes([0, 0, digest[31], digest[30]]);
    out.extend((0..3).map(|place| sign(value, place)));
    out
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    /// `HEX(authentication_string)` of a MySQL 9.7.4 with `caching_sha2_password_digest_rounds = 5000`.
    const SERVER_HASHES: [(&str, &str); 3] = [
        (
            "Bs1-0123456789abcdef0123456789abcdef",
            "2441243030352408213F556D18601660147F7B2C5E587176373D252F7A7046365974326638394156493242362F674579696D4756537063613363796534424F4F6B4A62513635",
        ),
        (
            "x",
            "24412430303524016116761F7349644A514326517E442664651B7F5A494D32385373545368632F7541365034585A65412F437A574D4E436B507A674135477444633563426E41",
        ),
        (
            "a password of more than thirty-two bytes, and so of several blocks, ünïcode",
            "244124303035242D54573D0D2B154D774007757936231C670A0B7370614F443030445A41784B70664D417736724B324968724C53377A6D4A344D6C30426650416A76536E2E32",
        ),
    ];

    #[test]
    fn a_password_is_stored_as_servers_store_it() {
        for (password, hex) in SERVER_HASHES {
            let byte = |at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap();
            let bytes: Vec<u8> = (0..hex.len()).step_by(2).map(byte).collect();
            let salt = bytes[7..7 + SALT_BYTES].try_into().unwrap();
            let stored = password_hash(&SecretString::from(password), salt);
            assert_eq!(stored.expose_secret().as_bytes(), bytes, "{password}");
        }
    }
}

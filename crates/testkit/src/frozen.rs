//! Frozen fixtures: stored or published bytes, as files in `tests/frozen` of the crate whose test
//! runs.
//!
//! A missing file fails its test, unless `BACKSTOP_FREEZE` is set: then the test writes it. An
//! existing file is never overwritten. This module needs nothing from Backstop, so that the crates
//! below this one can include the file itself in their tests.
#![allow(dead_code, missing_docs, clippy::expect_used, clippy::panic)]

use std::fmt::Debug;
use std::io::Write;
use std::path::PathBuf;

use serde::Serialize;
use serde::de::DeserializeOwned;

/// Fails unless the text is exactly that of the fixture.
#[track_caller]
pub fn frozen(name: &str, text: &str) {
    let kept = kept(name, || text.to_owned());
    if kept != text {
        let same = kept.bytes().zip(text.bytes()).take_while(|(one, other)| one == other).count();
        let line = 1 + kept.as_bytes()[..same].iter().filter(|byte| **byte == b'\n').count();
        let part = |text: &str| {
            let bytes = &text.as_bytes()[same.saturating_sub(60)..text.len().min(same + 120)];
            String::from_utf8_lossy(bytes).into_owned()
        };
        panic!("{name}, line {line}\nfrozen: {}\nnow:    {}", part(&kept), part(text));
    }
}

/// Fails unless the bytes are exactly those of the fixture, which has them in hexadecimal digits.
#[track_caller]
pub fn frozen_bytes(name: &str, bytes: &[u8]) {
    frozen(name, &to_hex(bytes));
}

/// Fails unless these values serialize exactly to the fixture, one JSON text per line.
#[track_caller]
pub fn published<T: Serialize>(name: &str, values: &[T]) {
    let lines = values.iter().map(|value| serde_json::to_string(value).expect("JSON") + "\n");
    frozen(name, &lines.collect::<String>());
}

/// Fails as [`published`] does, and unless the fixture's lines deserialize to these values.
#[track_caller]
pub fn stored<T: Serialize + DeserializeOwned + PartialEq + Debug>(name: &str, values: &[T]) {
    published(name, values);
    let read: Vec<T> = lines(name).iter().map(|line| parsed(line)).collect();
    assert_eq!(read, values, "{name}");
}

/// Checks the same for values that cannot be compared: the values read from the fixture's lines
/// serialize to these lines.
#[track_caller]
pub fn stored_unseen<T: Serialize + DeserializeOwned>(name: &str, values: &[T]) {
    published(name, values);
    published(name, &lines(name).iter().map(|line| parsed::<T>(line)).collect::<Vec<T>>());
}

/// Parses a JSON text.
#[track_caller]
pub fn parsed<T: DeserializeOwned>(text: &str) -> T {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

/// Returns the lines of a fixture.
#[track_caller]
pub fn lines(name: &str) -> Vec<String> {
    kept(name, || panic!("{name} is missing")).lines().map(str::to_owned).collect()
}

/// Returns the text of a fixture. `make` produces it if there is none and writing is allowed.
#[track_caller]
pub fn kept(name: &str, make: impl FnOnce() -> String) -> String {
    let path = folder().join(name);
    match std::fs::read_to_string(&path) {
        Ok(text) => text,
        Err(_) if std::env::var_os("BACKSTOP_FREEZE").is_some() => {
            let text = make();
            std::fs::create_dir_all(folder()).expect("make the folder of fixtures");
            // Not even a file of a concurrent test is overwritten.
            let mut file = std::fs::File::create_new(&path).expect("write a fixture");
            file.write_all(text.as_bytes()).expect("write a fixture");
            text
        }
        Err(error) => panic!(
            "{}: {error}. A new kind of stored or published bytes is frozen with BACKSTOP_FREEZE=1",
            path.display()
        ),
    }
}

/// Returns the names of the crate's fixtures with this ending.
pub fn names(end: &str) -> Vec<String> {
    let files = std::fs::read_dir(folder()).expect("list the fixtures");
    let names = files.map(|file| file.expect("list the fixtures").file_name().to_string_lossy().into_owned());
    let mut names: Vec<String> = names.filter(|name| name.ends_with(end)).collect();
    names.sort();
    names
}

/// Formats bytes as lines of 64 hexadecimal digits.
pub fn to_hex(bytes: &[u8]) -> String {
    let line = |line: &[u8]| line.iter().map(|byte| format!("{byte:02x}")).collect::<String>() + "\n";
    bytes.chunks(32).map(line).collect()
}

/// Reverses [`to_hex`].
pub fn from_hex(text: &str) -> Vec<u8> {
    let digits: Vec<u32> = text.chars().filter_map(|digit| digit.to_digit(16)).collect();
    digits.chunks(2).map(|pair| pair.iter().fold(0, |byte, digit| byte << 4 | *digit as u8)).collect()
}

fn folder() -> PathBuf {
    // Cargo runs tests in the folder of their crate.
    std::env::var_os("CARGO_MANIFEST_DIR").map_or_else(|| ".".into(), PathBuf::from).join("tests/frozen")
}

/// Returns values of an enum, one for each variant. It takes a pattern and a value for each; it
/// does not compile if a variant is missing.
#[macro_export]
macro_rules! every {
    ($type:ty: $($pattern:pat => $value:expr),+ $(,)?) => {{
        let _complete = |value: &$type| match value { $($pattern => ()),+ };
        vec![$($value),+]
    }};
    ($type:ty: $($variant:path),+ $(,)?) => {{
        let _complete = |value: &$type| match value { $($variant => ()),+ };
        vec![$($variant),+]
    }};
}

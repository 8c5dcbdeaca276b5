//! Kinds of values of recorded variables. A value of another form is invalid for its variable.

use std::fmt;

/// Kind of a variable's values.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ValueKind {
    /// `ON` or `OFF`.
    Switch,
    /// A decimal number.
    Number,
    /// One word.
    Word,
    /// Words, or words with values, separated by commas.
    List,
    /// A time zone: a name or an offset.
    Zone,
    /// The name of a file in the data directory.
    File,
    /// Files in the data directory with their sizes.
    DataFile,
    /// Any text that fits into a line of an option file.
    Text,
}

/// Longest value in an option file, in bytes. Older servers read lines in parts of 4,095 bytes and
/// would take the rest of a longer line for another option; each character of a value may need two
/// bytes.
pub(super) const MAX_VALUE_BYTES: usize = 2000;

impl ValueKind {
    /// True if the text is a value of this kind.
    pub fn fits(self, value: &str) -> bool {
        let only = |signs: &str| value.chars().all(|c| c.is_ascii_alphanumeric() || signs.contains(c));
        let shape = match self {
            Self::Switch => ["ON", "OFF", "1", "0"].contains(&value),
            Self::Number => is_number(value),
            Self::Word => !value.is_empty() && only("_-."),
            Self::List => only("_-.,=:*%"),
            Self::Zone => !value.is_empty() && only("_-+:/"),
            Self::File => {
                !["", ".", ".."].contains(&value) && !value.contains(|c: char| c == '/' || c.is_control())
            }
            Self::DataFile => !value.is_empty() && only("_-.:;"),
            Self::Text => !value.contains('\0'),
        };
        shape && value.len() <= MAX_VALUE_BYTES
    }
}

impl fmt::Display for ValueKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Switch => "ON or OFF",
            Self::Number => "a number",
            Self::Word => "a word",
            Self::List => "a list of words",
            Self::Zone => "a time zone",
            Self::File => "a file name",
            Self::DataFile => "file names with sizes",
            Self::Text => "a text",
        })
    }
}

fn is_number(value: &str) -> bool {
    let (whole, fraction) = value.split_once('.').unwrap_or((value, "0"));
    let digits =
        |text: &str, most| (1..=most).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_digit());
    digits(whole.strip_prefix('-').unwrap_or(whole), 20) && digits(fraction, 12)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_fit_their_kinds() {
        for (kind, good, bad) in [
            (ValueKind::Switch, vec!["ON", "OFF", "0"], vec!["", "MAYBE", "ON\n"]),
            (
                ValueKind::Number,
                vec!["0", "-1", "10.000000", "18446744073709551615"],
                vec!["", "1e3", "1.", "9 9", "-"],
            ),
            (ValueKind::Word, vec!["utf8mb4_0900_ai_ci", "REPEATABLE-READ"], vec!["", "a b", "../x", "a\n"]),
            (ValueKind::List, vec!["", "a=on,b=off", "TLSv1.2,TLSv1.3"], vec!["a,\"b", "a\nb", "/x"]),
            (ValueKind::Zone, vec!["SYSTEM", "+02:00", "Europe/Berlin", "Etc/GMT-3"], vec!["", "a b"]),
            (ValueKind::File, vec!["binlog", "mysql bin.index"], vec!["", "a/b", "..", "a\nb"]),
            (ValueKind::DataFile, vec!["ibdata1:12M:autoextend"], vec!["/x/ibdata1:12M", "a:1M raw"]),
            (ValueKind::Text, vec!["", "say \"x\"\n"], vec!["a\0b"]),
        ] {
            good.iter().for_each(|value| assert!(kind.fits(value), "{kind}: {value:?}"));
            bad.iter().for_each(|value| assert!(!kind.fits(value), "{kind}: {value:?}"));
        }
        assert!(!ValueKind::Text.fits(&"x".repeat(MAX_VALUE_BYTES + 1)));
    }
}

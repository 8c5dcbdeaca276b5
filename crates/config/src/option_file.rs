//! MySQL's option files.

/// Quotes a value for an option file: in double quotes, with the escapes of MySQL's manual ("Using
/// Option Files"), so that no value can end its line and become an option.
pub fn quoted(value: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-:,".contains(c);
    if !value.is_empty() && value.chars().all(plain) {
        return value.to_owned();
    }
    let mut text = String::from("\"");
    for c in value.chars() {
        match c {
            '\\' => text.push_str("\\\\"),
            '"' => text.push_str("\\\""),
            '\n' => text.push_str("\\n"),
            '\r' => text.push_str("\\r"),
            '\t' => text.push_str("\\t"),
            '\u{8}' => text.push_str("\\b"),
            _ => text.push(c),
        }
    }
    text + "\""
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_quoted_where_needed() {
        assert_eq!(quoted("ROW"), "ROW");
        assert_eq!(quoted("/a/b-c.d"), "/a/b-c.d");
        assert_eq!(quoted("a b#c"), "\"a b#c\"");
        assert_eq!(quoted("say \"x\" \\"), "\"say \\\"x\\\" \\\\\"");
        assert_eq!(quoted(""), "\"\"");
        assert_eq!(quoted("a\ngeneral_log = ON\r\t"), "\"a\\ngeneral_log = ON\\r\\t\"");
    }
}

//! Escapes text from a server, a store or a file: it cannot control the terminal that shows it, nor
//! pass for a line of Backstop's.

use std::borrow::Cow;

/// Indentation of each further line of one message.
const INDENT: &str = "    ";

/// Escapes a text to one line: a control character becomes `\u{1b}`, a line break `\n`.
pub fn line(text: &str) -> Cow<'_, str> {
    if !text.contains(steers) {
        return Cow::Borrowed(text);
    }
    let mut shown = String::new();
    for c in text.chars() {
        if steers(c) { shown.extend(c.escape_default()) } else { shown.push(c) }
    }
    Cow::Owned(shown)
}

/// Escapes a text of several lines and indents the further ones.
pub fn lines(text: &str) -> String {
    text.trim_end().lines().map(line).collect::<Vec<_>>().join(&format!("\n{INDENT}"))
}

/// Escapes, as `\u202e`, characters in JSON that the encoder leaves unchanged. The meaning of the
/// JSON stays the same.
pub fn json(text: &str) -> Cow<'_, str> {
    if !text.contains(steers) {
        return Cow::Borrowed(text);
    }
    let mut shown = String::new();
    for c in text.chars() {
        if steers(c) { shown.push_str(&format!("\\u{:04x}", u32::from(c))) } else { shown.push(c) }
    }
    Cow::Owned(shown)
}

/// Returns true for control characters (C0, DEL, C1), separators of lines and paragraphs, and marks
/// of the writing direction.
fn steers(c: char) -> bool {
    let direction =
        matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    c.is_control() || direction || matches!(c, '\u{2028}' | '\u{2029}')
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn control_characters_are_escaped() {
        let shown = line("\x1b]0;owned\x07\r\n\t\x7f\u{9b}31m \u{202e}txt\u{2066}\u{200f}\u{2028}");
        let expected = r"\u{1b}]0;owned\u{7}\r\n\t\u{7f}\u{9b}31m \u{202e}txt\u{2066}\u{200f}\u{2028}";
        assert_eq!(shown, expected);
        assert!(matches!(line("übung – \\ ✓"), Cow::Borrowed("übung – \\ ✓")));
    }

    #[test]
    fn further_lines_are_indented() {
        assert_eq!(lines("a\nerror: b\r\n\x1bc\n"), "a\n    error: b\n    \\u{1b}c");
    }

    #[test]
    fn escaped_json_keeps_its_meaning() {
        let value = serde_json::json!({"a\u{7f}": "\x1b\u{9b}\u{202e}\n ü"});
        let text = value.to_string();
        let shown = json(&text);
        assert!(!shown.contains(steers), "{shown}");
        assert_eq!(serde_json::from_str::<serde_json::Value>(&shown).unwrap(), value);
    }
}

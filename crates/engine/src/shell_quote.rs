//! Quotes words for shell commands that are shown for pasting.

/// Quotes a text as one word.
pub fn shell_quote(text: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-+,@%:=".contains(c);
    if !text.is_empty() && text.chars().all(plain) {
        text.to_owned()
    } else {
        format!("'{}'", text.replace('\'', "'\\''"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quoted_text_is_one_shell_word() {
        assert_eq!(shell_quote("/srv/new-1"), "/srv/new-1");
        assert_eq!(shell_quote("/srv/it's $HOME"), "'/srv/it'\\''s $HOME'");
        assert_eq!(shell_quote(""), "''");
    }
}

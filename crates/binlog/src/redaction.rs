//! Redacts secrets in statements: passwords, and their hashes, which reveal short passwords to a
//! brute force.

use crate::tokenizer::{Token, Tokens};

/// Placeholder for a secret.
const REDACTED: &str = "<secret>";

/// Prefix of a statement quoted in a server's message. The quotes do not escape those of the
/// statement.
const QUOTED_STATEMENT: &str = "Query: '";

/// Returns a server's message without the secrets of quoted statements.
#[must_use]
pub fn redact_message(message: &str) -> String {
    let parts = message.split(QUOTED_STATEMENT).map(|part| redact_statement(part, usize::MAX, false, false));
    parts.collect::<Vec<_>>().join(QUOTED_STATEMENT)
}

/// Returns the first characters of a statement without its secrets; with `all`, every string in it
/// counts as one. A truncated secret is hidden too.
pub(crate) fn redact_statement(text: &str, letters: usize, plain_backslashes: bool, all: bool) -> String {
    let mut shown = String::new();
    let (mut at, mut left) = (0, letters);
    let mut show = |part: &str, left: &mut usize| {
        let part: String = part.chars().take(*left).collect();
        *left -= part.chars().count();
        shown.push_str(&part);
    };
    let mut reader = StatementReader::default();
    for (place, token) in (Tokens { text, at: 0, plain_backslashes }) {
        if left == 0 {
            break;
        }
        if reader.is_secret(&token) || (all && is_text(&token)) {
            show(&text[at..place.start], &mut left);
            show(REDACTED, &mut left);
            at = place.end;
        }
    }
    show(&text[at..], &mut left);
    shown
}

/// Parser state while reading a statement from left to right.
#[derive(Default)]
struct StatementReader {
    expected: NextText,
    /// True after IDENTIFIED, up to the next comma.
    identified: bool,
    /// True within SET PASSWORD.
    password_is_set: bool,
    /// Number of brackets opened since a secret was expected.
    depth: usize,
    /// The previous keyword.
    before: String,
}

/// Expectation of a secret in the next string.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum NextText {
    /// The next string is not a secret.
    #[default]
    No,
    /// The next string is a secret if it follows directly.
    Text,
    /// The next string is a secret, also after an operator or a bracket.
    Secret,
    /// The strings within the following bracket are secrets.
    Call,
}

impl StatementReader {
    fn is_secret(&mut self, token: &Token) -> bool {
        if is_text(token) && matches!(self.expected, NextText::Text | NextText::Secret) {
            return true;
        }
        match token {
            Token::Word(word) | Token::Quoted(word) => self.word(&word.to_ascii_uppercase()),
            Token::Text => self.expected = NextText::No,
            Token::Sign(sign) => self.sign(*sign),
        }
        false
    }

    fn word(&mut self, word: &str) {
        let before = std::mem::replace(&mut self.before, word.to_owned());
        self.password_is_set |= before == "SET" && word == "PASSWORD";
        self.identified |= word == "IDENTIFIED";
        let introduces = match word {
            "BY" | "AS" | "USING" if self.identified => NextText::Text,
            // REPLACE 'the old password'; no statement has another string after this word.
            "REPLACE" => NextText::Text,
            "CONNECTION" | "AUTHENTICATION_STRING" | "PASSPHRASE" => NextText::Secret,
            _ if word.ends_with("PASSWORD") => NextText::Secret,
            _ => NextText::No,
        };
        let charset = word.starts_with('_') || ["N", "X", "B"].contains(&word);
        self.expected = match self.expected {
            _ if introduces != NextText::No => {
                self.depth = 0;
                introduces
            }
            expected if charset || self.depth > 0 => expected,
            NextText::Secret => NextText::Call,
            _ => NextText::No,
        };
    }

    fn sign(&mut self, sign: char) {
        self.expected = match sign {
            '(' if matches!(self.expected, NextText::Secret | NextText::Call) => {
                self.depth += 1;
                NextText::Secret
            }
            ')' if self.depth > 1 => {
                self.depth -= 1;
                self.expected
            }
            '=' if self.password_is_set => NextText::Secret,
            '=' | ':' if self.expected == NextText::Secret => NextText::Secret,
            _ if self.depth > 0 && sign != ')' => self.expected,
            _ => {
                self.depth = 0;
                NextText::No
            }
        };
        if sign == ',' {
            self.identified = false;
        }
    }
}

/// True for a string, or a number in its place.
fn is_text(token: &Token) -> bool {
    match token {
        Token::Text | Token::Quoted(_) => true,
        Token::Word(word) => {
            let digits = word.strip_prefix("0x").or_else(|| word.strip_prefix("0b"));
            digits.is_some_and(|digits| digits.chars().all(|c| c.is_ascii_hexdigit()))
        }
        Token::Sign(_) => false,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn shown(text: &str) -> String {
        redact_statement(text, 1000, false, false)
    }

    #[test]
    fn no_form_of_a_statement_shows_its_secret() {
        for text in [
            "CREATE USER 'u'@'h' IDENTIFIED WITH 'caching_sha2_password' AS '$A$005$hunter2' REQUIRE NONE",
            "CREATE USER u IDENTIFIED BY 'hunter2'",
            "create user u identified by \"hunter2\"",
            "CREATE USER u IDENTIFIED WITH mysql_native_password BY 'hunter2'",
            "CREATE USER u IDENTIFIED BY 'x', v IDENTIFIED WITH p AS 'hunter2'",
            "CREATE USER u IDENTIFIED BY 'x' AND IDENTIFIED WITH p BY 'hunter2'",
            "CREATE USER u IDENTIFIED WITH p INITIAL AUTHENTICATION IDENTIFIED BY 'hunter2'",
            "ALTER USER u ADD 2 FACTOR IDENTIFIED WITH p AS 'hunter2'",
            "ALTER USER u IDENTIFIED BY 'x' REPLACE 'hunter2' RETAIN CURRENT PASSWORD",
            "ALTER USER u IDENTIFIED BY PASSWORD '*hunter2'",
            "ALTER USER u IDENTIFIED /* 'a' */ BY /*!80000 'hunter2' */",
            "ALTER USER u IDENTIFIED -- 'a'\n BY -- \n 'hunter2'",
            "ALTER USER u IDENTIFIED BY 'a''hunter2'",
            "ALTER USER u IDENTIFIED BY 'a\\'hunter2'",
            "ALTER USER u IDENTIFIED BY 'a' 'hunter2'",
            "ALTER USER u IDENTIFIED BY _utf8mb4'hunter2'",
            "ALTER USER u IDENTIFIED BY N'hunter2'",
            "ALTER USER u IDENTIFIED WITH p AS X'hunter2'",
            "ALTER USER u IDENTIFIED BY 'hunter2 and it is cut off",
            "GRANT ALL ON *.* TO 'u'@'h' IDENTIFIED BY 'hunter2'",
            "SET PASSWORD FOR 'u'@'h' = 'hunter2'",
            "SET PASSWORD FOR `u`@`h`='hunter2'",
            "SET PASSWORD = PASSWORD('hunter2')",
            "SET PASSWORD = 'x' REPLACE 'hunter2'",
            "CHANGE REPLICATION SOURCE TO SOURCE_USER = 'u', SOURCE_PASSWORD = 'hunter2'",
            "CHANGE MASTER TO MASTER_PASSWORD='hunter2'",
            "START REPLICA USER = 'u' PASSWORD = 'hunter2'",
            "CREATE SERVER s FOREIGN DATA WRAPPER mysql OPTIONS (USER 'u', PASSWORD 'hunter2', PORT 3306)",
            "CREATE TABLE t (a INT) ENGINE=FEDERATED CONNECTION='mysql://u:hunter2@h/s/t'",
            "CLONE INSTANCE FROM u@h:3306 IDENTIFIED BY 'hunter2'",
            "UPDATE mysql.user SET authentication_string = 'hunter2'",
            "UPDATE t SET `password` = SHA2(CONCAT('x', 'hunter2'), 256)",
            "CREATE PROCEDURE p() BEGIN ALTER USER u IDENTIFIED BY 'hunter2'; END",
        ] {
            let shown = shown(text);
            assert!(shown.contains(REDACTED) && !shown.contains("hunter2"), "{text}\n{shown}");
        }
        let hash = "CREATE USER u IDENTIFIED WITH p AS 0x2441243035";
        assert_eq!(shown(hash), "CREATE USER u IDENTIFIED WITH p AS <secret>");
    }

    #[test]
    fn text_that_is_no_secret_is_shown() {
        for text in [
            "CREATE USER 'u'@'h' IDENTIFIED WITH 'p' REQUIRE SUBJECT '/CN=x' PASSWORD EXPIRE INTERVAL 9 DAY COMMENT 'c'",
            "CREATE TABLE t (password VARCHAR(10) DEFAULT 'x', b TEXT COMMENT 'y')",
            "CREATE VIEW v AS SELECT 'a' AS 'b', REPLACE(c, 'd', 'e') FROM t",
            "DROP TABLE `a`.`b` /* generated by server */",
            "ALTER USER u PASSWORD HISTORY DEFAULT ACCOUNT LOCK ATTRIBUTE '{}'",
            "REPLACE INTO t VALUES ('a')",
        ] {
            assert_eq!(shown(text), text);
        }
        assert_eq!(
            shown("CREATE USER 'u'@'h' IDENTIFIED WITH 'p' AS 'x' REQUIRE SUBJECT '/CN=x'"),
            "CREATE USER 'u'@'h' IDENTIFIED WITH 'p' AS <secret> REQUIRE SUBJECT '/CN=x'"
        );
    }

    #[test]
    fn statement_is_truncated_after_its_redaction() {
        let text = format!("CREATE USER u IDENTIFIED BY '{}' ACCOUNT LOCK", "x".repeat(2000));
        assert_eq!(shown(&text), "CREATE USER u IDENTIFIED BY <secret> ACCOUNT LOCK");
        assert_eq!(redact_statement(&text, 30, false, false), "CREATE USER u IDENTIFIED BY <s");
    }

    #[test]
    fn plain_backslash_does_not_extend_a_secret() {
        let text = "ALTER USER u IDENTIFIED BY 'a\\', v IDENTIFIED BY 'hunter2'";
        let shown = redact_statement(text, 1000, true, false);
        assert_eq!(shown, "ALTER USER u IDENTIFIED BY <secret>, v IDENTIFIED BY <secret>");
    }

    #[test]
    fn a_message_that_quotes_a_statement_shows_no_secret() {
        let message = "Error 'Operation CREATE USER failed for 'u'@'h'' on query. Default database: ''. \
                       Query: 'CREATE USER 'u'@'h' IDENTIFIED WITH 'p' AS 'hunter2''; it stopped";
        let shown = redact_message(message);
        assert!(shown.contains("CREATE USER 'u'@'h' IDENTIFIED WITH 'p' AS <secret>"), "{shown}");
        assert!(!shown.contains("hunter2"), "{shown}");
    }

    #[test]
    fn all_texts_are_hidden_on_request() {
        let text = "INSERT INTO mysql.user VALUES ('h', \"u\", 0x41, 7)";
        assert_eq!(
            redact_statement(text, 1000, false, true),
            "INSERT INTO mysql.user VALUES (<secret>, <secret>, <secret>, 7)"
        );
    }

    proptest! {
        #[test]
        fn a_secret_is_hidden_however_it_is_quoted(secret in "[a-z'\\\\\"é -]{1,12}") {
            let secret = format!("hunter{secret}2");
            for quote in ["'", "\""] {
                let escaped = secret.replace('\\', "\\\\").replace(quote, &quote.repeat(2));
                let plain = secret.replace(quote, &quote.repeat(2));
                for (inner, plain) in [(escaped, false), (plain, true)] {
                    let text = format!("CREATE USER u IDENTIFIED BY {quote}{inner}{quote} ACCOUNT LOCK");
                    prop_assert_eq!(
                        redact_statement(&text, 1000, plain, false),
                        "CREATE USER u IDENTIFIED BY <secret> ACCOUNT LOCK"
                    );
                }
            }
        }

        #[test]
        fn arbitrary_texts_are_read(text: String, letters in 0..50_usize) {
            prop_assert!(redact_statement(&text, letters, false, true).chars().count() <= letters);
            let _ = redact_message(&text);
        }
    }
}

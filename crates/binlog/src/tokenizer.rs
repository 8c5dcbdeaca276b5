//! Tokenizer for statements: words, names, strings and operators.

use std::ops::Range;

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Token {
    Word(String),
    /// Text in backticks or double quotes: a name, or with the usual `sql_mode` a string in double
    /// quotes.
    Quoted(String),
    /// String in single quotes.
    Text,
    Sign(char),
}

impl Token {
    /// Returns the word in upper case, if it may be a keyword.
    pub(crate) fn keyword(&self) -> Option<String> {
        match self {
            Self::Word(word) => Some(word.to_ascii_uppercase()),
            _ => None,
        }
    }

    pub(crate) fn is(&self, keyword: &str) -> bool {
        matches!(self, Self::Word(word) if word.eq_ignore_ascii_case(keyword))
    }
}

/// Returns the first tokens of a statement, without the contents of strings.
pub(crate) fn tokenize(text: &str, most: usize, plain_backslashes: bool) -> Vec<Token> {
    let tokens = Tokens { text, at: 0, plain_backslashes }.map(|(_, token)| token);
    tokens.filter(|token| *token != Token::Text).take(most).collect()
}

/// Iterator over the tokens of a statement, without comments, each with its position. The content
/// of a version comment counts.
pub(crate) struct Tokens<'a> {
    pub(crate) text: &'a str,
    pub(crate) at: usize,
    /// True if a backslash in a string is an ordinary character.
    pub(crate) plain_backslashes: bool,
}

impl Iterator for Tokens<'_> {
    type Item = (Range<usize>, Token);

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let rest = self.text.get(self.at..)?;
            let first = rest.chars().next()?;
            let begin = self.at;
            let (length, token) = self.token(rest, first);
            self.at += length;
            if let Some(token) = token {
                return Some((begin..self.at, token));
            }
        }
    }
}

impl Tokens<'_> {
    /// Returns the length of the first element, and the token if it is one.
    fn token(&self, rest: &str, first: char) -> (usize, Option<Token>) {
        let behind = |from: usize, end: &str| {
            rest.get(from..).and_then(|tail| tail.find(end)).map_or(rest.len(), |at| from + at + end.len())
        };
        match first {
            c if is_space(c) => (rest.find(|c| !is_space(c)).unwrap_or(rest.len()), None),
            '/' if rest.starts_with("/*!") => (3 + rest.get(3..).map_or(0, digits), None),
            '/' if rest.starts_with("/*") => (behind(2, "*/"), None),
            '*' if rest.starts_with("*/") => (2, None),
            '#' => (behind(1, "\n"), None),
            '-' if is_dashes(rest) => (behind(2, "\n"), None),
            '\'' => (quoted(rest, first, self.plain_backslashes).0, Some(Token::Text)),
            '`' | '"' => {
                let (length, name) = quoted(rest, first, self.plain_backslashes);
                (length, Some(Token::Quoted(name)))
            }
            c if is_word(c) => {
                let length = rest.find(|c| !is_word(c)).unwrap_or(rest.len());
                (length, Some(Token::Word(rest[..length].to_owned())))
            }
            sign => (sign.len_utf8(), Some(Token::Sign(sign))),
        }
    }
}

/// True for a comment of two dashes, which needs a space after them.
fn is_dashes(text: &str) -> bool {
    text.strip_prefix("--")
        .is_some_and(|rest| rest.chars().next().is_none_or(|c| c.is_whitespace() || c.is_control()))
}

fn digits(text: &str) -> usize {
    text.bytes().take_while(u8::is_ascii_digit).count()
}

fn is_space(c: char) -> bool {
    c.is_whitespace() || c == '\0'
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_' || c == '$' || c == '@' || c as u32 >= 0x80
}

/// Returns the length of a quoted string, including the quotes, and its content.
fn quoted(text: &str, quote: char, plain_backslashes: bool) -> (usize, String) {
    let (mut inner, mut escaped, mut closed) = (String::new(), false, false);
    for (at, c) in text.char_indices().skip(1) {
        match c {
            _ if closed && c == quote => {
                inner.push(c);
                closed = false;
            }
            _ if closed => return (at, inner),
            '\\' if quote != '`' && !plain_backslashes && !escaped => escaped = true,
            _ if c == quote && !escaped => closed = true,
            _ => {
                inner.push(c);
                escaped = false;
            }
        }
    }
    (text.len(), inner)
}

//! Text output for people: lines, fields and tables.

use std::io::IsTerminal;

use chrono::{DateTime, Utc};
use chrono_tz::Tz;
use unicode_width::UnicodeWidthStr;

use crate::escape;
use crate::format;
use crate::terminal::{ColoredText, Colors};

/// Limits for the width of wrapped prose, in columns.
const TEXT_COLUMNS: std::ops::RangeInclusive<usize> = 40..=120;

/// Width of the narrowest column of prose, in columns.
const MIN_PROSE_COLUMNS: usize = 24;

/// Page that is filled from top to bottom. It escapes everything that is written to it.
#[derive(Debug)]
pub struct TextWriter {
    /// Colours, or none.
    pub colors: Colors,
    /// Width to which prose is wrapped, in columns; `None` if a program reads the output.
    width: Option<usize>,
    /// Time zone of the times beside UTC; this host's if none was named.
    zone: Option<Tz>,
    text: String,
}

/// A result that has text output.
pub trait RenderText {
    /// Writes the result to a page.
    fn render_text(&self, out: &mut TextWriter);
}

impl TextWriter {
    /// Creates an empty page, as wide as the terminal.
    pub fn new(colors: Colors, zone: Option<Tz>) -> Self {
        let stdout = std::io::stdout();
        let columns = || rustix::termios::tcgetwinsize(&stdout).ok().map(|size| usize::from(size.ws_col));
        let columns = if stdout.is_terminal() { columns().filter(|columns| *columns > 0) } else { None };
        let width = columns.map(|columns| columns.clamp(*TEXT_COLUMNS.start(), *TEXT_COLUMNS.end()));
        Self { colors, width, zone, text: String::new() }
    }

    /// Formats a moment in UTC and in the reader's time zone: `2026-11-23T02:21:33Z
    /// (03:21:33+01:00)`.
    pub fn moment(&self, at: DateTime<Utc>) -> String {
        format::moment(at) + &format::local(at, self.zone)
    }

    /// Formats a moment in the same way to the microsecond.
    pub fn exact_moment(&self, at: DateTime<Utc>) -> String {
        format::exact_moment(at) + &format::local(at, self.zone)
    }

    /// Formats a recovery's target as it was given; a time also in the reader's time zone.
    pub fn target(&self, target: &str) -> String {
        let at = DateTime::parse_from_rfc3339(target);
        target.to_owned() + &at.map_or(String::new(), |at| format::local(at.to_utc(), self.zone))
    }

    /// Writes one line.
    pub fn line(&mut self, text: impl Into<ColoredText>) {
        self.text.push_str(text.into().to_string().trim_end());
        self.text.push('\n');
    }

    /// Writes an empty line, unless the page begins here or already ends with one.
    pub fn blank_line(&mut self) {
        if !self.text.is_empty() && !self.text.ends_with("\n\n") {
            self.text.push('\n');
        }
    }

    /// Writes names with their values, aligned. Values are for copying: none is wrapped.
    pub fn fields<'a>(&mut self, fields: impl IntoIterator<Item = (&'a str, String)>) {
        self.rows(named(fields), None);
    }

    /// Writes names with their descriptions, aligned and wrapped.
    pub fn prose<'a>(&mut self, said: impl IntoIterator<Item = (&'a str, String)>) {
        self.rows(named(said), self.width);
    }

    /// Writes a table with a line of headings. Its last column is wrapped.
    pub fn table(&mut self, header: &[&str], rows: Vec<Vec<String>>) {
        let header = header.iter().map(|name| (*name).to_owned()).collect();
        self.rows([vec![header], rows].concat(), self.width);
    }

    /// Writes the operator's next steps: commands, which are not wrapped.
    pub fn next<T: AsRef<str>>(&mut self, steps: &[T]) {
        if steps.is_empty() {
            return;
        }
        self.blank_line();
        self.line(self.colors.strong("Next:"));
        let rows = steps.iter().map(|step| vec!["  -".to_owned(), step.as_ref().to_owned()]);
        self.rows(rows.collect(), None);
    }

    /// Returns the whole page.
    pub fn into_text(self) -> String {
        self.text
    }

    /// Writes aligned cells, with two blanks between columns. The text of the last column may take
    /// several lines.
    fn rows(&mut self, rows: Vec<Vec<String>>, width: Option<usize>) {
        let columns = rows.iter().map(Vec::len).max().unwrap_or_default();
        let cells = |row: &Vec<String>| row.iter().map(|cell| escape::line(cell).width()).collect::<Vec<_>>();
        let widths: Vec<Vec<usize>> = rows.iter().map(cells).collect();
        let widest =
            |column| widths.iter().filter_map(|row| row.get(column)).max().copied().unwrap_or_default();
        let widest: Vec<usize> = (0..columns.saturating_sub(1)).map(widest).collect();
        let before: usize = widest.iter().map(|width| width + 2).sum();
        for row in &rows {
            let mut start = String::new();
            for (cell, width) in row.iter().zip(&widest) {
                let cell = escape::line(cell);
                start.push_str(&cell);
                start.push_str(&" ".repeat(width + 2 - cell.width()));
            }
            let last = row.get(widest.len()).map(String::as_str).unwrap_or_default();
            let room = width.map(|width| width.saturating_sub(before).max(MIN_PROSE_COLUMNS));
            for line in wrapped(last, room) {
                self.line(format!("{start}{line}"));
                start = " ".repeat(before);
            }
        }
    }
}

fn named<'a>(fields: impl IntoIterator<Item = (&'a str, String)>) -> Vec<Vec<String>> {
    fields.into_iter().map(|(name, value)| vec![format!("  {name}"), value]).collect()
}

/// Breaks a text at blanks into lines that fit into a column. Words and text between backticks stay
/// whole.
fn wrapped(text: &str, width: Option<usize>) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for text in text.trim_end().split('\n') {
        let text = escape::line(text.trim_end());
        let Some(width) = width else {
            lines.push(text.into_owned());
            continue;
        };
        let mut line = String::new();
        for word in words(&text) {
            if !line.is_empty() && line.width() + 1 + word.width() > width {
                lines.push(std::mem::take(&mut line));
            } else if !line.is_empty() {
                line.push(' ');
            }
            line.push_str(&word);
        }
        lines.push(line);
    }
    lines
}

/// Splits a text into words; a command between backticks is one word.
fn words(text: &str) -> Vec<String> {
    let mut words: Vec<String> = Vec::new();
    let mut quoted = false;
    for word in text.split(' ') {
        match words.last_mut().filter(|_| quoted) {
            Some(last) => last.extend([" ", word]),
            None => words.push(word.to_owned()),
        }
        quoted ^= word.matches('`').count() % 2 == 1;
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    fn out(width: usize) -> TextWriter {
        TextWriter { colors: Colors::PLAIN, width: Some(width), zone: None, text: String::new() }
    }

    #[test]
    fn prose_is_wrapped_between_words() {
        let mut out = out(60);
        out.fields([("id", "x".to_owned())]);
        out.prose([("position", "word ".repeat(30))]);
        out.next(&["do this"]);
        let text = out.into_text();
        assert!(text.lines().all(|line| line.len() <= 60 && line.trim_end() == line), "{text}");
        assert!(text.starts_with("  id  x\n  position  word word"), "{text}");
        assert!(text.ends_with("\nNext:\n  -  do this\n"), "{text}");
    }

    #[test]
    fn values_and_commands_stay_whole() {
        let set = format!("3e11fa47-71ca-11e1-9e33-c80aa9429562:1{}", ":3-5".repeat(40));
        let command =
            "backstop recover orders --to latest --into /var/lib/mysql-new --join --server-user mysql";
        let mut out = out(60);
        out.fields([("gtid_executed", set.clone()), ("command", command.to_owned())]);
        out.table(&["ID", "SET"], vec![vec!["x".repeat(70), set.clone()]]);
        out.prose([("PROBLEM", format!("lacks {set}, so give `{command}` and look again"))]);
        out.next(&[command]);
        let text = out.into_text();
        assert_eq!(text.matches(&set).count(), 3, "{text}");
        assert_eq!(text.matches(command).count(), 3, "{text}");
    }

    #[test]
    fn columns_are_aligned_by_displayed_width() {
        let mut out = out(60);
        let row = |a: &str, b: &str| vec![a.to_owned(), b.to_owned(), "end".to_owned()];
        out.table(&["A", "B", "C"], vec![row("ü", "漢字"), row("\x1b[2J", "b")]);
        let expected = "A          B     C\nü          漢字  end\n\\u{1b}[2J  b     end\n";
        assert_eq!(out.into_text(), expected);
    }

    #[test]
    fn page_text_cannot_control_the_terminal() {
        let evil = "a\x1b]0;owned\x07\u{202e}b\r\nerror: c";
        let mut out = out(60);
        out.line(evil);
        out.line(out.colors.bad(evil));
        out.fields([("a", evil.to_owned())]);
        out.prose([("b", evil.to_owned())]);
        out.table(&["C", "D"], vec![vec![evil.to_owned(), evil.to_owned()]]);
        out.next(&[evil]);
        let text = out.into_text();
        let seen = |c: char| c == '\n' || !c.is_control() && c != '\u{202e}';
        assert!(text.chars().all(seen), "{text:?}");
        assert!(!text.contains("\nerror:"), "{text}");
    }
}

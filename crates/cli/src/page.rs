//! What a result looks like for people: lines, fields and tables, readable at 80 to 100 columns.

use comfy_table::{ColumnConstraint, ContentArrangement, Table, presets};

use crate::terminal::Paint;

/// Columns where standard output is no terminal.
const DEFAULT_WIDTH: u16 = 100;

/// A page that is filled from top to bottom.
#[derive(Debug)]
pub struct Page {
    /// Colours, or none.
    pub paint: Paint,
    width: u16,
    text: String,
}

/// A result that can be shown to people.
pub trait Screen {
    /// Fills a page with it.
    fn draw(&self, page: &mut Page);
}

impl Page {
    /// An empty page, as wide as the terminal.
    pub fn new(paint: Paint) -> Self {
        let width = Table::new().width().unwrap_or(DEFAULT_WIDTH).clamp(60, 120);
        Self { paint, width, text: String::new() }
    }

    /// One line.
    pub fn line(&mut self, text: impl AsRef<str>) {
        self.text.push_str(text.as_ref().trim_end());
        self.text.push('\n');
    }

    /// An empty line, unless the page begins here or there is one already.
    pub fn gap(&mut self) {
        if !self.text.is_empty() && !self.text.ends_with("\n\n") {
            self.text.push('\n');
        }
    }

    /// Names with their values, aligned; long values are wrapped.
    pub fn fields<'a>(&mut self, fields: impl IntoIterator<Item = (&'a str, String)>) {
        let rows = fields.into_iter().map(|(name, value)| vec![format!("  {name}"), value]);
        self.rows(None, rows.collect());
    }

    /// A table with a line of headings.
    pub fn table(&mut self, header: &[&str], rows: Vec<Vec<String>>) {
        self.rows(Some(header), rows);
    }

    /// What the operator does next.
    pub fn next<T: AsRef<str>>(&mut self, steps: &[T]) {
        if steps.is_empty() {
            return;
        }
        self.gap();
        self.line(self.paint.strong("Next:"));
        let rows = steps.iter().map(|step| vec!["  -".to_owned(), step.as_ref().to_owned()]);
        self.rows(None, rows.collect());
    }

    /// The whole page.
    pub fn into_text(self) -> String {
        self.text
    }

    fn rows(&mut self, header: Option<&[&str]>, rows: Vec<Vec<String>>) {
        let mut table = Table::new();
        table.load_preset(presets::NOTHING).set_content_arrangement(ContentArrangement::Dynamic);
        table.set_width(self.width);
        if let Some(header) = header {
            table.set_header(header.iter().copied());
        }
        table.add_rows(rows);
        let columns = table.column_count();
        for column in table.column_iter_mut() {
            if column.index == 0 {
                column.set_constraint(ColumnConstraint::ContentWidth); // ids and names are never cut
            }
            // Two spaces between columns, none before the first.
            column.set_padding((0, if column.index + 1 < columns { 2 } else { 0 }));
        }
        for line in table.lines() {
            self.line(line);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_are_aligned_and_wrapped() {
        let mut page = Page { paint: Paint::PLAIN, width: 60, text: String::new() };
        page.fields([("id", "x".to_owned()), ("position", "word ".repeat(30))]);
        page.next(&["do this"]);
        let text = page.into_text();
        assert!(text.lines().all(|line| line.len() <= 60 && line.trim_end() == line), "{text}");
        assert!(text.starts_with("  id        x\n  position  word"), "{text}");
        assert!(text.ends_with("\nNext:\n  -  do this\n"), "{text}");
    }
}

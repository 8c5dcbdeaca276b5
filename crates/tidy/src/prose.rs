//! Plain English in comments, and documents that can be read in a diff.
//!
//! Each count has a bound that may only be lowered.

use crate::files::Text;

/// Words that a comment must not begin with: it begins with a verb, or with the plain definition of a noun.
const OPENINGS: [&str; 8] = ["What", "Who", "Whom", "Whose", "Whoever", "Whatever", "How", "Whether"];

/// Idioms of another language, and their plain English.
const IDIOMS: [(&str, &str); 12] = [
    (" goes on", "continues, resumes"),
    (" go on", "continue, resume"),
    (" is told", "is reported; name who says it to whom"),
    (" are told", "are reported; name who says it to whom"),
    (" told ", "reported, said"),
    (" anew", "again"),
    ("nobody", "no one"),
    ("whoever", "the caller, a process that"),
    (" of its own", "own, separate"),
    (" so long", "this long"),
    (" so many", "this many"),
    (" meanwhile", "at the same time"),
];

/// Maximum banned openings per 1,000 comment lines.
pub const OPENINGS_BOUND: usize = 1;
/// Maximum idioms per 1,000 comment lines.
pub const IDIOMS_BOUND: usize = 1;
/// Maximum columns of a line of a document.
const COLUMNS: usize = 100;

/// Documents that programs write.
const GENERATED: [&str; 2] = ["docs/recovered-settings.md", "bench/RESULTS.md"];

/// Returns complaints about comments of Rust sources that begin with a banned word.
pub fn openings(texts: &[Text]) -> Vec<String> {
    let found = comments(texts).filter(|comment| comment.begins && begins_badly(comment.text));
    found
        .map(|comment| format!("{}: begin with a verb or a definition: {}", comment.place(), comment.text))
        .collect()
}

/// Returns complaints about comment lines with an idiom.
pub fn idioms(texts: &[Text]) -> Vec<String> {
    let idiom = |text: &str| {
        let text = format!(" {}", text.to_lowercase());
        IDIOMS.iter().find(|(idiom, _)| text.contains(idiom)).copied()
    };
    let found = comments(texts).filter_map(|comment| Some((idiom(comment.text)?, comment)));
    found
        .map(|((idiom, better), comment)| {
            format!("{}: `{}` ({better}): {}", comment.place(), idiom.trim(), comment.text)
        })
        .collect()
}

/// Returns the number of comment lines of all Rust sources.
pub fn comment_lines(texts: &[Text]) -> usize {
    comments(texts).count()
}

/// Returns complaints about lines of documents that are too long to be read in a diff. Code, tables
/// and lines without a blank are exempt.
pub fn long_lines(documents: &[Text]) -> Vec<String> {
    let written = documents.iter().filter(|document| !GENERATED.contains(&document.path.as_str()));
    written.flat_map(long_lines_of).collect()
}

fn long_lines_of(document: &Text) -> Vec<String> {
    let mut code = false;
    let mut long = Vec::new();
    for (index, line) in document.text.lines().enumerate() {
        code ^= line.trim_start().starts_with("```");
        let breakable = line.trim().contains(' ') && !line.starts_with('|');
        if !code && breakable && line.chars().count() > COLUMNS {
            let columns = line.chars().count();
            long.push(format!("{}:{}: {columns} columns, wrap at {COLUMNS}", document.path, index + 1));
        }
    }
    long
}

struct Comment<'a> {
    path: &'a str,
    line: usize,
    text: &'a str,
    /// True for the first line of a comment, and after a line that ends a sentence.
    begins: bool,
}

impl Comment<'_> {
    fn place(&self) -> String {
        format!("{}:{}", self.path, self.line)
    }
}

fn comments(texts: &[Text]) -> impl Iterator<Item = Comment<'_>> {
    texts.iter().filter(|file| file.path.ends_with(".rs")).flat_map(|file| {
        let mut ended = true;
        file.text.lines().enumerate().filter_map(move |(index, line)| {
            let Some(text) = comment(line) else {
                ended = true;
                return None;
            };
            let begins = ended;
            ended = text.is_empty() || text.ends_with(['.', ':']);
            Some(Comment { path: &file.path, line: index + 1, text, begins })
        })
    })
}

/// Returns the text of a line that is a comment.
fn comment(line: &str) -> Option<&str> {
    let text = line.trim_start().strip_prefix("//")?;
    Some(text.trim_start_matches(['/', '!']).trim())
}

fn begins_badly(text: &str) -> bool {
    let word = text.split(|c: char| !c.is_alphabetic()).next().unwrap_or_default();
    OPENINGS.contains(&word)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(path: &str, text: &str) -> Text {
        Text { path: path.to_owned(), text: text.to_owned() }
    }

    #[test]
    fn openings_and_idioms_are_found_in_comments_only() {
        let source = "//! What is here.\n/// Reads it and\n/// what follows. It goes on.\n// Nobody reads. How so?\nlet what = \"Whoever\";\n";
        let texts = [text("a.rs", source), text("a.md", "// What is here.")];
        assert_eq!(comment_lines(&texts), 4);
        assert_eq!(openings(&texts), ["a.rs:1: begin with a verb or a definition: What is here."]);
        let found = idioms(&texts);
        assert!(found.len() == 2 && found[0].starts_with("a.rs:3: `goes on`"), "{found:?}");
    }

    #[test]
    fn long_lines_are_found_where_they_could_be_wrapped() {
        let long = "word ".repeat(30);
        let page = format!("{long}\n| {long} |\n```sh\n{long}\n```\n{}\n", "x".repeat(200));
        let found = long_lines(&[text("a.md", &page)]);
        assert_eq!(found, ["a.md:1: 150 columns, wrap at 100"]);
    }
}

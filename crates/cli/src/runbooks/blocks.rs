//! The commands of a page, and the warnings that are shown with them.

/// Commands of a page that are pasted together.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize)]
pub struct CommandBlock {
    /// The heading that they stand under.
    pub heading: String,
    /// Paragraphs to read before the commands are given.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
    /// The commands, one a line.
    pub commands: String,
}

/// Returns the commands of a page, in the order written. Paragraphs with bold words are warnings,
/// except `When`, which says when to use the page.
pub fn blocks(text: &str) -> Vec<CommandBlock> {
    let mut page = Page::default();
    let mut fence: Option<bool> = None;
    for line in text.lines() {
        match fence {
            Some(commands) if line == "```" => {
                fence = None;
                if commands {
                    page.end_block();
                }
            }
            Some(true) => page.next.commands.push_str(&format!("{line}\n")),
            Some(false) => {}
            None if line.starts_with("```") => {
                page.end_paragraph();
                fence = Some(line == "```sh");
            }
            None => page.prose(line),
        }
    }
    page.end_section();
    page.blocks
}

/// A page that is read from top to bottom.
#[derive(Default)]
struct Page {
    blocks: Vec<CommandBlock>,
    /// The block that comes next.
    next: CommandBlock,
    paragraph: Vec<String>,
    /// The items that follow belong to the warning before them.
    list_follows: bool,
}

impl Page {
    fn prose(&mut self, line: &str) {
        if let Some(title) = line.strip_prefix("## ") {
            self.end_section();
            title.clone_into(&mut self.next.heading);
            return;
        }
        if line.trim().is_empty() || line.starts_with("- ") {
            self.end_paragraph();
        }
        if !line.trim().is_empty() {
            self.paragraph.push(line.to_owned());
        }
    }

    fn end_paragraph(&mut self) {
        let text = std::mem::take(&mut self.paragraph).join("\n");
        if text.is_empty() || text.starts_with("# ") {
            return;
        }
        let is_warning = text.contains("**") && !text.starts_with("- **When:**");
        let is_item = self.list_follows && text.starts_with("- ");
        self.list_follows = is_item || (is_warning && text.ends_with(':'));
        if is_warning || is_item {
            self.next.warnings.push(text.replace("**", ""));
        }
    }

    fn end_block(&mut self) {
        let heading = self.next.heading.clone();
        self.blocks.push(std::mem::replace(&mut self.next, CommandBlock { heading, ..Default::default() }));
        self.list_follows = false;
    }

    /// Assigns the warnings after a section's last commands to these commands, and those of a
    /// section without commands to the next section.
    fn end_section(&mut self) {
        self.end_paragraph();
        self.list_follows = false;
        if let Some(last) = self.blocks.last_mut().filter(|last| last.heading == self.next.heading) {
            last.warnings.append(&mut self.next.warnings);
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn commands_are_read_with_their_headings() {
        let page = "# T\n```toml\nx\n```\n## 1. A\n\n```sh\na\nb\n```\ntext\n```sh\nc\n```\n";
        let read = blocks(page);
        let shown: Vec<_> = read.iter().map(|b| (b.heading.as_str(), b.commands.as_str())).collect();
        assert_eq!(shown, [("1. A", "a\nb\n"), ("1. A", "c\n")]);
    }

    #[test]
    fn warnings_are_shown_with_the_commands_of_their_step() {
        let page = "# T\n\n- **When:** x\n- **Never:** y\n  z\n\n## 1. A\n\ntext\n\n```sh\na\n```\n\n\
                    **If b lacks it**:\n\n- do not\n  go on\n\ntext\n\n## 2. B\n\n**Look** first.\n\n\
                    ## 3. C\n\n```sh\nc\n```\n\n- item\n\n## Refusals\n\n**Not** shown.\n";
        let read = blocks(page);
        assert_eq!(read[0].warnings, ["- Never: y\n  z", "If b lacks it:", "- do not\n  go on"]);
        assert_eq!(read[1].warnings, ["Look first."]);
        assert_eq!(read.len(), 2);
    }
}

//! Writes the XML of answers.

/// One element.
#[derive(Debug, Clone)]
pub(super) struct Element {
    name: String,
    content: String,
}

impl Element {
    pub(super) fn new(name: &str) -> Self {
        Self { name: name.to_owned(), content: String::new() }
    }

    pub(super) fn with(mut self, child: Self) -> Self {
        self.content.push_str(&child.render());
        self
    }

    pub(super) fn text(self, name: &str, text: &str) -> Self {
        let mut child = Self::new(name);
        child.content = escape(text);
        self.with(child)
    }

    /// Adds a set: each of its elements is an `item`.
    pub(super) fn set(self, name: &str, items: impl IntoIterator<Item = Self>) -> Self {
        let mut set = Self::new(name);
        for mut item in items {
            "item".clone_into(&mut item.name);
            set = set.with(item);
        }
        self.with(set)
    }

    pub(super) fn document(&self) -> String {
        format!("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n{}", self.render())
    }

    fn render(&self) -> String {
        format!("<{0}>{1}</{0}>", self.name, self.content)
    }
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

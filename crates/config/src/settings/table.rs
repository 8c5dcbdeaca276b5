//! Reads the keys of one table, and collects every error instead of stopping at the first.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use super::config_errors::{ConfigError, ValueOrigin};
use super::document::{KeyValue, Node, Value};
use super::suggest::nearest;

/// Length of the longest unknown key that messages about secrets name: a longer one may be a secret.
const LONGEST_NAMED_KEY: usize = 40;

/// The errors found so far, shared by all tables of one document.
#[derive(Debug, Default)]
pub(crate) struct ErrorCollector {
    errors: RefCell<Vec<ConfigError>>,
    discreet: bool,
    /// Texts that the names of unknown keys may not repeat; `None`: no unknown key is named.
    secrets: Option<Vec<String>>,
}

/// Reader of one table. Callers read each key by name; [`TableReader::finish`] refuses the others.
pub(crate) struct TableReader<'a> {
    path: String,
    node: &'a Node,
    found: &'a ErrorCollector,
    asked: RefCell<Vec<&'static str>>,
}

impl ErrorCollector {
    /// Returns a collector for texts that hold secrets: messages repeat neither values nor the
    /// names of unknown keys.
    pub(crate) fn discreet() -> Self {
        Self { discreet: true, ..Self::default() }
    }

    /// Returns a discreet collector that names unknown keys: the document has no lines that could
    /// be named instead. A name that is also a text of the document stays unnamed.
    pub(crate) fn naming_keys(document: &Node) -> Self {
        let mut secrets = Vec::new();
        document.texts(&mut secrets);
        Self { discreet: true, secrets: Some(secrets), ..Self::default() }
    }

    /// True if a message may contain this name of an unknown key.
    fn may_name(&self, key: &str) -> bool {
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.');
        let name = key.len() <= LONGEST_NAMED_KEY && key.chars().all(plain);
        let told = |secrets: &Vec<String>| name && !secrets.iter().any(|text| text == key);
        if self.discreet { self.secrets.as_ref().is_some_and(told) } else { true }
    }

    fn push(&self, origin: &ValueOrigin, key: String, message: impl Into<String>) {
        self.errors.borrow_mut().push(ConfigError { origin: origin.clone(), key, message: message.into() });
    }

    /// Returns all errors.
    pub(crate) fn into_faults(self) -> Vec<ConfigError> {
        self.errors.into_inner()
    }
}

impl<'a> TableReader<'a> {
    /// Returns a reader of the whole document.
    pub(crate) fn root(node: &'a Node, found: &'a ErrorCollector) -> Self {
        Self::at(String::new(), node, found)
    }

    fn at(path: String, node: &'a Node, found: &'a ErrorCollector) -> Self {
        Self { path, node, found, asked: RefCell::default() }
    }

    /// Reads a text. `None` if it is absent or invalid; an invalid one is recorded.
    pub(crate) fn text(&self, key: &'static str) -> Option<String> {
        self.read(key, |text| Ok(text.to_owned()))
    }

    /// Reads a text with `parse`, whose error is recorded.
    pub(crate) fn read<T>(
        &self,
        key: &'static str,
        parse: impl FnOnce(&str) -> Result<T, String>,
    ) -> Option<T> {
        let node = self.get(key)?;
        match &node.value {
            Value::Text(text) => self.understood(key, node, self.unrepeated(text, parse(text))),
            _ => self.wrong_kind(key, node, "a string in quotes"),
        }
    }

    /// Reads a duration.
    pub(crate) fn duration(&self, key: &'static str) -> Option<Duration> {
        let node = self.get(key)?;
        match &node.value {
            Value::Text(text) => {
                self.understood(key, node, self.unrepeated(text, crate::duration::parse(text)))
            }
            _ => self.wrong_kind(key, node, "a duration in quotes, such as \"5s\" or \"14d\""),
        }
    }

    /// Reads `true` or `false`.
    pub(crate) fn boolean(&self, key: &'static str) -> Option<bool> {
        let node = self.get(key)?;
        match (&node.value, &node.origin) {
            (Value::Boolean(value), _) => Some(*value),
            (Value::Text(text), ValueOrigin::Given(_)) if text == "true" => Some(true),
            (Value::Text(text), ValueOrigin::Given(_)) if text == "false" => Some(false),
            _ => self.wrong_kind(key, node, "true or false"),
        }
    }

    /// Reads a whole number from 0 to 100 000.
    pub(crate) fn count(&self, key: &'static str) -> Option<u32> {
        let node = self.get(key)?;
        let number = match (&node.value, &node.origin) {
            (Value::Integer(number), _) => Some(*number),
            (Value::Text(text), ValueOrigin::Given(_)) => text.parse().ok(),
            _ => None,
        };
        let number = number.and_then(|number| u32::try_from(number).ok()).filter(|number| *number <= 100_000);
        number.or_else(|| self.wrong_kind(key, node, "a whole number from 0 to 100000"))
    }

    /// Reads one of a few words.
    pub(crate) fn choice<T: Copy>(&self, key: &'static str, words: &[(&'static str, T)]) -> Option<T> {
        let node = self.get(key)?;
        let Value::Text(text) = &node.value else { return self.wrong_kind(key, node, "a string in quotes") };
        let found = words.iter().find(|(word, _)| word == text).map(|(_, value)| *value);
        let words = words.iter().map(|(word, _)| *word);
        self.understood(key, node, found.ok_or_else(|| not_a_word(text, self.found.discreet, words)))
    }

    /// Reads a list of texts, each with `parse`. A flag or variable separates them by commas.
    pub(crate) fn list<T>(
        &self,
        key: &'static str,
        parse: impl Fn(&str) -> Result<T, String>,
    ) -> Option<Vec<T>> {
        let node = self.get(key)?;
        match (&node.value, &node.origin) {
            (Value::List(items), _) => items
                .iter()
                .map(|item| self.item(key, item, &parse))
                .collect::<Vec<_>>()
                .into_iter()
                .collect(),
            (Value::Text(text), ValueOrigin::Given(_)) => {
                let items = text.split(',').map(|item| self.understood(key, node, parse(item.trim())));
                items.collect::<Vec<_>>().into_iter().collect()
            }
            _ => self.wrong_kind(key, node, "a list of strings"),
        }
    }

    /// Returns a reader of a table below this one.
    pub(crate) fn table(&self, key: &'static str) -> Option<TableReader<'a>> {
        self.table_such_as(key, "{ … }")
    }

    /// Returns a reader of a table below this one; `example` shows a valid one.
    pub(crate) fn table_such_as(&self, key: &'static str, example: &str) -> Option<TableReader<'a>> {
        let node = self.get(key)?;
        match node.value {
            Value::Table(_) => Some(TableReader::at(self.full(key), node, self.found)),
            _ => self.wrong_kind(key, node, &format!("a table, such as {example}")),
        }
    }

    /// Returns readers of every table below this one, where keys are names. A name that `parse`
    /// rejects is an error; its table is still read.
    pub(crate) fn named<T>(
        &self,
        parse: impl Fn(&str) -> Result<T, String>,
    ) -> Vec<(Option<T>, TableReader<'a>)> {
        let mut tables = Vec::new();
        for entry in self.node.entries() {
            let name = self.understood(&entry.key, &entry.node, parse(&entry.key));
            match entry.node.value {
                Value::Table(_) => {
                    tables.push((name, TableReader::at(self.full(&entry.key), &entry.node, self.found)));
                }
                _ => self.found.push(&entry.node.origin, self.full(&entry.key), "expected a table"),
            }
        }
        tables
    }

    /// Reads every key of this table, with any name, and parses its value with `parse`. For tables
    /// whose keys are not Backstop's.
    pub(crate) fn free<T>(self, parse: impl Fn(&Value) -> Result<T, String>) -> BTreeMap<String, T> {
        let understood = |entry: &KeyValue| {
            let value = self.understood(&entry.key, &entry.node, parse(&entry.node.value))?;
            Some((entry.key.clone(), value))
        };
        self.node.entries().iter().filter_map(understood).collect()
    }

    /// True if the key exists, valid or not.
    pub(crate) fn has(&self, key: &str) -> bool {
        self.node.entries().iter().any(|entry| entry.key == key)
    }

    /// Returns the value read for `key`, or records the error that it is missing.
    pub(crate) fn required<T>(&self, key: &'static str, value: Option<T>, example: &str) -> Option<T> {
        if value.is_none() && !self.has(key) {
            self.found.push(&self.node.origin, self.full(key), format!("is missing; write {example}"));
        }
        value
    }

    /// Records an error of a key, or of the whole table if the key does not exist.
    pub(crate) fn refuse(&self, key: &'static str, message: impl Into<String>) {
        let entry = self.node.entries().iter().find(|entry| entry.key == key);
        let (origin, full) = match entry {
            Some(entry) => (&entry.node.origin, self.full(key)),
            None => (&self.node.origin, self.path.clone()),
        };
        self.found.push(origin, full, message);
    }

    /// Accepts these keys with any value, which is not read.
    pub(crate) fn ignore(&self, keys: &[&'static str]) {
        for key in keys {
            self.get(key);
        }
    }

    /// Refuses every key that was not read.
    pub(crate) fn finish(self) {
        let asked = self.asked.borrow();
        for entry in self.node.entries().iter().filter(|entry| !asked.contains(&entry.key.as_str())) {
            let message = match nearest(&entry.key, asked.iter().copied()) {
                Some(meant) => format!("unknown key; did you mean `{meant}`?"),
                None => format!("unknown key; known keys: {}", asked.join(", ")),
            };
            let key = if self.found.may_name(&entry.key) { self.full(&entry.key) } else { self.path.clone() };
            self.found.push(&entry.node.origin, key, message);
        }
    }

    fn get(&self, key: &'static str) -> Option<&'a Node> {
        let mut asked = self.asked.borrow_mut();
        if !asked.contains(&key) {
            asked.push(key);
        }
        self.node.entries().iter().find(|entry| entry.key == key).map(|entry| &entry.node)
    }

    fn item<T>(
        &self,
        key: &'static str,
        item: &Node,
        parse: impl Fn(&str) -> Result<T, String>,
    ) -> Option<T> {
        match &item.value {
            Value::Text(text) => self.understood(key, item, self.unrepeated(text, parse(text))),
            _ => self.wrong_kind(key, item, "a string in quotes"),
        }
    }

    /// Replaces the text of an error where values must not be repeated.
    fn unrepeated<T>(&self, text: &str, result: Result<T, String>) -> Result<T, String> {
        if self.found.discreet && !text.is_empty() {
            return result.map_err(|message| message.replace(&format!("`{text}`"), "it").replace(text, "…"));
        }
        result
    }

    fn understood<T>(&self, key: &str, node: &Node, result: Result<T, String>) -> Option<T> {
        result.map_err(|message| self.found.push(&node.origin, self.full(key), message)).ok()
    }

    /// Records the expected kind. Never shows the value: it might be a secret in the wrong place.
    fn wrong_kind<T>(&self, key: &str, node: &Node, expected: &str) -> Option<T> {
        let found = match &node.origin {
            ValueOrigin::Line(_) | ValueOrigin::Entry => format!(", found {}", node.kind()),
            ValueOrigin::Given(_) => String::new(),
        };
        self.found.push(&node.origin, self.full(key), format!("expected {expected}{found}"));
        None
    }

    fn full(&self, key: &str) -> String {
        if self.path.is_empty() { key.to_owned() } else { format!("{}.{key}", self.path) }
    }
}

/// Returns the message for an unknown word. A text close to one of the words is not a misplaced
/// Accepts an absolute path.
pub(super) fn absolute(text: &str) -> Result<PathBuf, String> {
    if text.starts_with('/') { Ok(text.into()) } else { Err(format!("`{text}` is not an absolute path")) }
}

/// secret.
fn not_a_word(text: &str, discreet: bool, words: impl Iterator<Item = &'static str>) -> String {
    let words: Vec<&str> = words.collect();
    match nearest(text, words.iter().copied()) {
        Some(meant) => format!("`{text}` is not one of {}; did you mean `{meant}`?", words.join(", ")),
        None if discreet => format!("the value is not one of {}", words.join(", ")),
        None => format!("`{text}` is not one of {}", words.join(", ")),
    }
}

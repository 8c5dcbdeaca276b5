//! Configuration as a tree in which every value records its origin.

use toml::de::{DeTable, DeValue};

use super::config_errors::{ConfigError, ConfigErrors, ValueOrigin};
use super::keys;

/// A configuration that has been read but not validated. [`Document::set`] applies flags and
/// variables over the file; then the whole is validated at once.
#[derive(Debug, Clone)]
pub struct Document {
    file: String,
    root: Node,
    errors: Vec<ConfigError>,
}

/// A value and its origin.
#[derive(Debug, Clone)]
pub(crate) struct Node {
    pub(crate) origin: ValueOrigin,
    pub(crate) value: Value,
}

/// A value.
#[derive(Debug, Clone)]
pub(crate) enum Value {
    Text(String),
    Integer(i128),
    Boolean(bool),
    List(Vec<Node>),
    Table(Vec<KeyValue>),
    /// A kind of value that no key has (a date, a fraction), by its name.
    Other(&'static str),
}

/// A key of a table. Its origin is that of its value, unless the value is a separate table.
#[derive(Debug, Clone)]
pub(crate) struct KeyValue {
    pub(crate) key: String,
    pub(crate) node: Node,
}

impl Document {
    /// Parses TOML. Invalid TOML is recorded as an error; the rest is still parsed.
    pub fn read(text: &str, file_name: &str) -> Self {
        let (table, errors) = DeTable::parse_recoverable(text);
        let ends: Vec<usize> = text.match_indices('\n').map(|(at, _)| at).collect();
        let line = |offset: usize| ValueOrigin::Line(ends.partition_point(|end| *end < offset) + 1);
        let errors = errors.iter().map(|error| ConfigError {
            origin: line(error.span().map_or(0, |span| span.start)),
            key: String::new(),
            message: error.message().to_owned(),
        });
        let errors = errors.collect();
        let root =
            Node { origin: ValueOrigin::Line(1), value: Value::Table(entries(table.get_ref(), &line)) };
        Self { file: file_name.to_owned(), root, errors }
    }

    /// Returns a document from parsed values.
    pub(super) fn of(name: &str, root: Node, errors: impl IntoIterator<Item = ConfigError>) -> Self {
        Self { file: name.to_owned(), root, errors: errors.into_iter().collect() }
    }

    /// Returns a configuration without a file: flags and variables set all of it.
    pub fn empty() -> Self {
        Self::read("", "the configuration")
    }

    /// Sets one key by the flag or variable `given_by`, over the file's value. Where a table is one
    /// of several alternatives (`{ file = … }` or `{ env = … }`), the other alternatives are
    /// removed.
    ///
    /// `text` is the value without quotes: `5s`, `true`, `db1:3306,db2:3306`; or a TOML list or
    /// table.
    pub fn set(&mut self, key: &[&str], text: &str, given_by: &str) {
        let origin = ValueOrigin::Given(given_by.to_owned());
        let node = parse_override(text, &origin);
        self.root.set(key, node);
    }

    /// Sets every key that a `BACKSTOP_…` variable names (see
    /// [`variable_name`](super::variable_name)). Empty variables count as unset. A name with the
    /// prefix of a key that names no key is an error.
    pub fn set_from_environment(&mut self, variables: impl IntoIterator<Item = (String, String)>) {
        let mut all: Vec<_> = variables.into_iter().filter(|(_, value)| !value.is_empty()).collect();
        all.sort();
        let shards = self.shard_names();
        for (name, value) in all {
            match keys::key_of_variable(&name, &shards) {
                Some(Ok(key)) => {
                    let key: Vec<&str> = key.iter().map(String::as_str).collect();
                    self.set(&key, &value, &name);
                }
                Some(Err(message)) => {
                    self.errors.push(ConfigError {
                        origin: ValueOrigin::Given(name),
                        key: String::new(),
                        message,
                    });
                }
                None => {}
            }
        }
    }

    /// Returns the root table.
    pub(crate) fn root(&self) -> &Node {
        &self.root
    }

    fn shard_names(&self) -> Vec<String> {
        let Some(shards) = self.root.entries().iter().find(|entry| entry.key == "shards") else {
            return Vec::new();
        };
        shards.node.entries().iter().map(|entry| entry.key.clone()).collect()
    }

    /// Returns the value if there was no error.
    pub(crate) fn conclude<T>(self, found: Vec<ConfigError>, value: Option<T>) -> Result<T, ConfigErrors> {
        let mut errors = self.errors;
        errors.extend(found);
        match value {
            Some(value) if errors.is_empty() => Ok(value),
            _ => {
                errors.sort_by(|a, b| a.origin.cmp(&b.origin));
                Err(ConfigErrors { file: self.file, errors })
            }
        }
    }
}

impl Node {
    /// Returns the keys of a table; none for any other value.
    pub(crate) fn entries(&self) -> &[KeyValue] {
        match &self.value {
            Value::Table(entries) => entries,
            _ => &[],
        }
    }

    /// Adds every text in this value, at any depth.
    pub(crate) fn texts(&self, texts: &mut Vec<String>) {
        match &self.value {
            Value::Text(text) => texts.push(text.clone()),
            Value::List(items) => items.iter().for_each(|item| item.texts(texts)),
            Value::Table(entries) => entries.iter().for_each(|entry| entry.node.texts(texts)),
            Value::Integer(_) | Value::Boolean(_) | Value::Other(_) => {}
        }
    }

    /// Names the kind of a value, with its article.
    pub(crate) fn kind(&self) -> &'static str {
        match &self.value {
            Value::Text(_) => "a string",
            Value::Integer(_) => "a number",
            Value::Boolean(_) => "true or false",
            Value::List(_) => "a list",
            Value::Table(_) => "a table",
            Value::Other(kind) => kind,
        }
    }

    fn set(&mut self, key: &[&str], node: Self) {
        let mut entries = match std::mem::replace(&mut self.value, Value::Table(Vec::new())) {
            Value::Table(entries) => entries,
            _ => Vec::new(),
        };
        match key {
            [] => return,
            [last] => {
                let others = keys::alternatives(last);
                // Removes only the file's alternatives: two contradictory flags are still an error.
                let from_file = |entry: &KeyValue| matches!(entry.node.origin, ValueOrigin::Line(_));
                entries.retain(|e| e.key != *last && !(others.contains(&e.key.as_str()) && from_file(e)));
                entries.push(KeyValue { key: (*last).to_owned(), node });
            }
            [first, rest @ ..] => {
                let index = entries.iter().position(|entry| entry.key == *first).unwrap_or_else(|| {
                    let table = Self { origin: node.origin.clone(), value: Value::Table(Vec::new()) };
                    entries.push(KeyValue { key: (*first).to_owned(), node: table });
                    entries.len() - 1
                });
                entries[index].node.set(rest, node);
            }
        }
        self.value = Value::Table(entries);
    }
}

fn entries(table: &DeTable<'_>, line: &impl Fn(usize) -> ValueOrigin) -> Vec<KeyValue> {
    let entry = |(key, value): (&toml::Spanned<_>, &toml::Spanned<DeValue<'_>>)| {
        let key: &toml::Spanned<std::borrow::Cow<'_, str>> = key;
        let value = Node { origin: line(key.span().start), value: convert(value.get_ref(), line) };
        KeyValue { key: key.get_ref().to_string(), node: value }
    };
    table.iter().map(entry).collect()
}

fn convert(value: &DeValue<'_>, line: &impl Fn(usize) -> ValueOrigin) -> Value {
    match value {
        DeValue::String(text) => Value::Text(text.to_string()),
        DeValue::Integer(number) => i128::from_str_radix(number.as_str(), number.radix())
            .map_or(Value::Other("a number out of range"), Value::Integer),
        DeValue::Boolean(value) => Value::Boolean(*value),
        DeValue::Array(items) => Value::List(
            items
                .iter()
                .map(|item| Node { origin: line(item.span().start), value: convert(item.get_ref(), line) })
                .collect(),
        ),
        DeValue::Table(table) => Value::Table(entries(table, line)),
        DeValue::Float(_) => Value::Other("a fraction"),
        DeValue::Datetime(_) => Value::Other("a date"),
    }
}

/// Parses a value of a flag or variable: a TOML list or table if it looks like one, else text.
fn parse_override(text: &str, origin: &ValueOrigin) -> Node {
    let structured = text.starts_with('[') || text.starts_with('{');
    let value = structured.then(|| DeValue::parse(text).ok()).flatten();
    let value =
        value.map_or_else(|| Value::Text(text.to_owned()), |v| convert(v.get_ref(), &|_| origin.clone()));
    Node { origin: origin.clone(), value }
}

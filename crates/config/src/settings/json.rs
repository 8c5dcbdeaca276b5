//! Parses a document in JSON, the format of Secrets Manager entries. A duplicate key is an error.

use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};

use super::config_errors::{ConfigError, ValueOrigin};
use super::document::{Document, KeyValue, Node, Value};

impl Document {
    /// Parses JSON. A text that is not an object is recorded as an error. Errors repeat no value.
    pub fn read_json(text: &str, name: &str) -> Self {
        let config_error =
            |message: String| ConfigError { origin: ValueOrigin::Entry, key: String::new(), message };
        match serde_json::from_str::<JsonNode>(text) {
            Ok(JsonNode(Value::Table(entries))) => {
                let errors =
                    duplicate_key(&entries).map(|()| config_error("a key is written twice".to_owned()));
                Self::of(name, Node { origin: ValueOrigin::Entry, value: Value::Table(entries) }, errors)
            }
            Ok(JsonNode(_)) => {
                Self::of(name, nothing(), Some(config_error("expected a JSON object { … }".to_owned())))
            }
            // Keep only the error's position: its text may repeat the input.
            Err(error) => {
                let place = format!("is not JSON (line {}, column {})", error.line(), error.column());
                Self::of(name, nothing(), Some(config_error(place)))
            }
        }
    }
}

fn nothing() -> Node {
    Node { origin: ValueOrigin::Entry, value: Value::Table(Vec::new()) }
}

/// Returns `Some` if a table, at any depth, has a duplicate key.
fn duplicate_key(entries: &[KeyValue]) -> Option<()> {
    let again = |(place, entry): (usize, &KeyValue)| entries[..place].iter().any(|one| one.key == entry.key);
    let here = entries.iter().enumerate().any(again);
    let below = || entries.iter().any(|entry| duplicate_key(entry.node.entries()).is_some());
    (here || below()).then_some(())
}

struct JsonNode(Value);

impl<'de> Deserialize<'de> for JsonNode {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(NodeVisitor)
    }
}

struct NodeVisitor;

impl<'de> Visitor<'de> for NodeVisitor {
    type Value = JsonNode;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_bool<E>(self, value: bool) -> Result<JsonNode, E> {
        Ok(JsonNode(Value::Boolean(value)))
    }

    fn visit_i64<E>(self, value: i64) -> Result<JsonNode, E> {
        Ok(JsonNode(Value::Integer(value.into())))
    }

    fn visit_u64<E>(self, value: u64) -> Result<JsonNode, E> {
        Ok(JsonNode(Value::Integer(value.into())))
    }

    fn visit_f64<E>(self, _: f64) -> Result<JsonNode, E> {
        Ok(JsonNode(Value::Other("a fraction")))
    }

    fn visit_unit<E>(self) -> Result<JsonNode, E> {
        Ok(JsonNode(Value::Other("null")))
    }

    fn visit_str<E>(self, value: &str) -> Result<JsonNode, E> {
        Ok(JsonNode(Value::Text(value.to_owned())))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<JsonNode, A::Error> {
        let mut list = Vec::new();
        while let Some(JsonNode(value)) = items.next_element()? {
            list.push(Node { origin: ValueOrigin::Entry, value });
        }
        Ok(JsonNode(Value::List(list)))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<JsonNode, A::Error> {
        let mut entries = Vec::new();
        while let Some((key, JsonNode(value))) = map.next_entry::<String, JsonNode>()? {
            entries.push(KeyValue { key, node: Node { origin: ValueOrigin::Entry, value } });
        }
        Ok(JsonNode(Value::Table(entries)))
    }
}

//! A document in JSON, as entries of Secrets Manager are. Strict: a key that is written twice is a fault.

use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};

use super::document::{Document, Entry, Node, Value};
use super::faults::{ConfigFault, Origin};

impl Document {
    /// Reads JSON. What is not an object is remembered as a fault. No value is ever repeated.
    pub fn read_json(text: &str, name: &str) -> Self {
        let fault = |message: String| ConfigFault { origin: Origin::Entry, key: String::new(), message };
        match serde_json::from_str::<Json>(text) {
            Ok(Json(Value::Table(entries))) => {
                let faults = twice(&entries).map(|()| fault("a key is written twice".to_owned()));
                Self::of(name, Node { origin: Origin::Entry, value: Value::Table(entries) }, faults)
            }
            Ok(Json(_)) => Self::of(name, nothing(), Some(fault("expected a JSON object { … }".to_owned()))),
            // Of the error only the place: its text may repeat what was written.
            Err(error) => {
                let place = format!("is not JSON (line {}, column {})", error.line(), error.column());
                Self::of(name, nothing(), Some(fault(place)))
            }
        }
    }
}

fn nothing() -> Node {
    Node { origin: Origin::Entry, value: Value::Table(Vec::new()) }
}

/// Something if a table, at any depth, has a key twice.
fn twice(entries: &[Entry]) -> Option<()> {
    let again = |(place, entry): (usize, &Entry)| entries[..place].iter().any(|one| one.key == entry.key);
    let here = entries.iter().enumerate().any(again);
    let below = || entries.iter().any(|entry| twice(entry.node.entries()).is_some());
    (here || below()).then_some(())
}

struct Json(Value);

impl<'de> Deserialize<'de> for Json {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Anything)
    }
}

struct Anything;

impl<'de> Visitor<'de> for Anything {
    type Value = Json;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_bool<E>(self, value: bool) -> Result<Json, E> {
        Ok(Json(Value::Boolean(value)))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Json, E> {
        Ok(Json(Value::Integer(value.into())))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Json, E> {
        Ok(Json(Value::Integer(value.into())))
    }

    fn visit_f64<E>(self, _: f64) -> Result<Json, E> {
        Ok(Json(Value::Other("a fraction")))
    }

    fn visit_unit<E>(self) -> Result<Json, E> {
        Ok(Json(Value::Other("null")))
    }

    fn visit_str<E>(self, value: &str) -> Result<Json, E> {
        Ok(Json(Value::Text(value.to_owned())))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Json, A::Error> {
        let mut list = Vec::new();
        while let Some(Json(value)) = items.next_element()? {
            list.push(Node { origin: Origin::Entry, value });
        }
        Ok(Json(Value::List(list)))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Json, A::Error> {
        let mut entries = Vec::new();
        while let Some((key, Json(value))) = map.next_entry::<String, Json>()? {
            entries.push(Entry { key, node: Node { origin: Origin::Entry, value } });
        }
        Ok(Json(Value::Table(entries)))
    }
}

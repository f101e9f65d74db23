//! Merge of JSON by the keys of its objects, for configuration.
//!
//! A key that one side changed, added or removed is taken from that side. If both sides changed a key,
//! objects are merged; lists of names (the enabled plugins, for instance) get the additions and removals of
//! both sides; for anything else the remote value wins.

use std::collections::HashSet;
use std::fmt;

use indexmap::IndexMap;
use serde::de::{self, Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde::ser::{Serialize, SerializeMap, SerializeSeq, Serializer};
use serde_json::ser::PrettyFormatter;
use serde_json::{Number, Value};

use super::no_merge::NoMerge;

/// Merges the changes of both sides. A side that equals the result is returned as it is written.
pub(super) fn merge(base: &str, local: &str, remote: &str) -> Result<String, NoMerge> {
    let [base, ours, theirs] = [base, local, remote].map(parse);
    let (base, ours, theirs) = (base?, ours?, theirs?);
    let merged = match (&base, &ours, &theirs) {
        (Json::Object(_), Json::Object(_), Json::Object(_))
        | (Json::List(_), Json::List(_), Json::List(_)) => {
            merge_values(Some(&base), Some(&ours), Some(&theirs)).ok_or(NoMerge::NotJson)?
        }
        _ => return Err(NoMerge::NotJson),
    };
    if merged == theirs {
        return Ok(remote.to_owned());
    }
    if merged == ours {
        return Ok(local.to_owned());
    }
    write(&merged, remote).ok_or(NoMerge::NotJson)
}

/// JSON with ordered object keys. Objects are equal whatever their order is.
#[derive(Clone, Debug, PartialEq)]
enum Json {
    Object(IndexMap<String, Json>),
    List(Vec<Json>),
    /// Anything else.
    Single(Value),
}

/// Merges a value that any of the three may lack; `None` if the result lacks it.
fn merge_values(base: Option<&Json>, local: Option<&Json>, remote: Option<&Json>) -> Option<Json> {
    // A change of the remote side only needs no case of its own: its value wins in any case.
    if remote == base {
        return local.cloned();
    }
    let merged = match (base, local, remote) {
        (base, Some(Json::Object(local)), Some(Json::Object(remote))) => {
            Some(Json::Object(merge_objects(base, local, remote)))
        }
        (Some(Json::List(base)), Some(Json::List(local)), Some(Json::List(remote))) => {
            merge_names(base, local, remote)
        }
        _ => None,
    };
    merged.or_else(|| remote.cloned())
}

fn merge_objects(
    base: Option<&Json>,
    local: &IndexMap<String, Json>,
    remote: &IndexMap<String, Json>,
) -> IndexMap<String, Json> {
    let base = |key: &str| match base {
        Some(Json::Object(base)) => base.get(key),
        _ => None,
    };
    let added = local.keys().filter(|key| !remote.contains_key(*key));
    let merged = remote.keys().chain(added).filter_map(|key| {
        let value = merge_values(base(key), local.get(key), remote.get(key))?;
        Some((key.clone(), value))
    });
    merged.collect()
}

/// Merges lists of texts without duplicates; `None` for other lists.
fn merge_names(base: &[Json], local: &[Json], remote: &[Json]) -> Option<Json> {
    let (before, ours, theirs) = (names(base)?, names(local)?, names(remote)?);
    let kept = |name: &&Json| match name {
        Json::Single(Value::String(name)) => {
            let (name, before) = (name.as_str(), before.contains(name.as_str()));
            if before { ours.contains(name) && theirs.contains(name) } else { true }
        }
        _ => false,
    };
    let added = local.iter().filter(|name| !remote.contains(name));
    Some(Json::List(remote.iter().chain(added).filter(kept).cloned().collect()))
}

fn names(list: &[Json]) -> Option<HashSet<&str>> {
    let texts = list.iter().map(|item| match item {
        Json::Single(Value::String(text)) => Some(text.as_str()),
        _ => None,
    });
    let names: HashSet<&str> = texts.collect::<Option<_>>()?;
    (names.len() == list.len()).then_some(names)
}

fn parse(text: &str) -> Result<Json, NoMerge> {
    serde_json::from_str(text).map_err(|_| NoMerge::NotJson)
}

/// Writes a value in the style of the text `like`: its indentation and its last line end.
fn write(json: &Json, like: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(like.len());
    match indentation(like) {
        None => serde_json::to_writer(&mut bytes, json).ok()?,
        Some(indent) => {
            let formatter = PrettyFormatter::with_indent(indent.as_bytes());
            json.serialize(&mut serde_json::Serializer::with_formatter(&mut bytes, formatter)).ok()?;
        }
    }
    bytes.extend(like.ends_with('\n').then_some(b'\n'));
    String::from_utf8(bytes).ok()
}

/// The white space at the beginning of the second line; `None` for a single line.
fn indentation(text: &str) -> Option<&str> {
    let (_, second) = text.trim().split_once('\n')?;
    Some(&second[..second.len() - second.trim_start_matches([' ', '\t']).len()])
}

impl Serialize for Json {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Object(fields) => {
                let mut map = serializer.serialize_map(Some(fields.len()))?;
                for (key, value) in fields {
                    map.serialize_entry(key, value)?;
                }
                map.end()
            }
            Self::List(items) => {
                let mut list = serializer.serialize_seq(Some(items.len()))?;
                for item in items {
                    list.serialize_element(item)?;
                }
                list.end()
            }
            Self::Single(value) => value.serialize(serializer),
        }
    }
}

impl<'de> Deserialize<'de> for Json {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(JsonVisitor)
    }
}

struct JsonVisitor;

impl<'de> Visitor<'de> for JsonVisitor {
    type Value = Json;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Json, A::Error> {
        let mut fields = IndexMap::new();
        while let Some((key, value)) = access.next_entry::<String, Json>()? {
            if fields.insert(key, value).is_some() {
                return Err(de::Error::custom("a key comes twice"));
            }
        }
        Ok(Json::Object(fields))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut access: A) -> Result<Json, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = access.next_element()? {
            items.push(item);
        }
        Ok(Json::List(items))
    }

    fn visit_str<E>(self, text: &str) -> Result<Json, E> {
        Ok(Json::Single(Value::String(text.to_owned())))
    }

    fn visit_bool<E>(self, value: bool) -> Result<Json, E> {
        Ok(Json::Single(Value::Bool(value)))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Json, E> {
        Ok(Json::Single(Value::Number(value.into())))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Json, E> {
        Ok(Json::Single(Value::Number(value.into())))
    }

    fn visit_f64<E: de::Error>(self, value: f64) -> Result<Json, E> {
        let number = Number::from_f64(value).ok_or_else(|| E::custom("a number is out of range"))?;
        Ok(Json::Single(Value::Number(number)))
    }

    fn visit_unit<E>(self) -> Result<Json, E> {
        Ok(Json::Single(Value::Null))
    }
}

//! JSON schemas of the printed output, for the tests that compare them with docs/schemas. Not part of any
//! program.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use schemars::JsonSchema;
use schemars::generate::SchemaSettings;
use serde_json::{Map, Value, json};

use crate::problem::SCHEMA_VERSION;

/// Set to write schemas instead of comparing them.
const UPDATE: &str = "OBSYNC_UPDATE_SCHEMAS";

/// The schema of a type as it is printed, closed: objects have no other fields than those named, and every
/// field that is always present is required.
pub fn of<T: JsonSchema>() -> Value {
    let mut schema = SchemaSettings::draft2020_12()
        .for_serialize()
        .into_generator()
        .into_root_schema_for::<T>()
        .to_value();
    close(&mut schema);
    schema
}

/// The schema of a value that matches any of these.
pub fn any_of(title: &str, schemas: impl IntoIterator<Item = Value>) -> Value {
    let mut definitions = Map::new();
    let mut variants = Vec::new();
    for mut schema in schemas {
        let object = schema.as_object_mut();
        let own = object.and_then(|object| {
            object.remove("$schema");
            object.remove("$defs")
        });
        if let Some(Value::Object(own)) = own {
            definitions.extend(own);
        }
        variants.push(schema);
    }
    json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": title,
        "anyOf": variants,
        "$defs": definitions,
    })
}

fn close(schema: &mut Value) {
    match schema {
        Value::Object(object) => {
            if let Some(Value::Object(properties)) = object.get_mut("properties") {
                if properties.contains_key("schema_version") {
                    properties.insert("schema_version".to_owned(), json!({ "const": SCHEMA_VERSION }));
                }
                object.entry("additionalProperties").or_insert(json!(false));
            }
            // The width of the program's own numbers is not part of the contract.
            if object.get("format").and_then(Value::as_str).is_some_and(|format| format.starts_with("uint")) {
                object.remove("format");
            }
            object.values_mut().for_each(close);
        }
        Value::Array(values) => values.iter_mut().for_each(close),
        _ => {}
    }
}

/// The schema without its texts for people.
fn shape(schema: &Value) -> Value {
    match schema {
        Value::Object(object) => {
            let is_text =
                |name: &str, value: &Value| matches!(name, "description" | "title") && value.is_string();
            let rest = object.iter().filter(|(name, value)| !is_text(name, value));
            Value::Object(rest.map(|(name, value)| (name.clone(), shape(value))).collect())
        }
        Value::Array(values) => Value::Array(values.iter().map(shape).collect()),
        other => other.clone(),
    }
}

/// Compares a schema with the file of its name in docs/schemas, seen from a crate of the workspace. With
/// `OBSYNC_UPDATE_SCHEMAS` set it is written instead; a changed shape only if there is no schema of this
/// version yet.
///
/// # Errors
///
/// Instructions for the developer.
pub fn keep_current(crate_folder: &str, name: &str, schema: &Value) -> Result<(), String> {
    let file = file(crate_folder, name);
    let shown = file.display();
    let mut text = serde_json::to_string_pretty(schema).map_err(|error| error.to_string())?;
    text.push('\n');
    let found = fs::read_to_string(&file).unwrap_or_default();
    if found == text {
        return Ok(());
    }
    let before: Value = serde_json::from_str(&found).unwrap_or_default();
    let mut problem = String::new();
    if !found.is_empty() && shape(&before) != shape(schema) && version(&before) == version(schema) {
        let _ = write!(
            problem,
            "the fields of {name} changed: raise SCHEMA_VERSION in crates/core/src/problem.rs and say so in docs/JSON.md, then "
        );
    }
    if std::env::var_os(UPDATE).is_some() && problem.is_empty() {
        return fs::write(&file, text).map_err(|error| format!("{shown}: {error}"));
    }
    Err(format!("{problem}write {shown} anew by {UPDATE}=1"))
}

/// The schema in docs/schemas.
///
/// # Errors
///
/// If there is none.
pub fn kept(crate_folder: &str, name: &str) -> Result<Value, String> {
    let text = fs::read_to_string(file(crate_folder, name)).map_err(|error| format!("{name}: {error}"))?;
    serde_json::from_str(&text).map_err(|error| format!("{name}: {error}"))
}

fn file(crate_folder: &str, name: &str) -> PathBuf {
    Path::new(crate_folder).join("../../docs/schemas").join(format!("{name}.json"))
}

/// The first version number in a schema.
fn version(schema: &Value) -> Option<&Value> {
    match schema {
        Value::Object(object) => {
            match object.get("schema_version").and_then(|version| version.get("const")) {
                Some(version) => Some(version),
                None => object.values().find_map(version),
            }
        }
        Value::Array(values) => values.iter().find_map(version),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_field_that_changes_without_a_version_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let schemas = folder.path().join("docs/schemas");
        fs::create_dir_all(&schemas).unwrap();
        fs::create_dir_all(folder.path().join("crates/one")).unwrap();
        let place = folder.path().join("crates/one");
        let of = |version: u32, field: &str, text: &str| json!({ "properties": { "schema_version": { "const": version }, field: { "description": text } } });
        let kept =
            |version, field, text| keep_current(place.to_str().unwrap(), "x", &of(version, field, text));
        assert!(kept(1, "a", "text").unwrap_err().contains("write "));
        fs::write(schemas.join("x.json"), serde_json::to_string_pretty(&of(1, "a", "text")).unwrap() + "\n")
            .unwrap();
        assert_eq!(kept(1, "a", "text"), Ok(()));
        assert!(kept(1, "b", "text").unwrap_err().contains("raise SCHEMA_VERSION"));
        let other_text = kept(1, "a", "other text").unwrap_err();
        assert!(!other_text.contains("raise"), "{other_text}");
        assert!(!kept(2, "b", "text").unwrap_err().contains("raise"));
    }
}

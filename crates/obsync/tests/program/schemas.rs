//! All JSON output in any test conforms to a schema of docs/schemas. They are closed, so that a missing,
//! renamed or unknown field fails the test.

use std::collections::{BTreeSet, HashSet};
use std::fs;
use std::path::PathBuf;
use std::sync::LazyLock;

use jsonschema::Validator;
use serde_json::Value;

/// The commands with `--json`, each with the validator of its schema.
static SCHEMAS: LazyLock<Vec<(&str, Validator)>> = LazyLock::new(|| {
    [
        "pull",
        "verify",
        "status",
        "vaults",
        "aws-init",
        "create",
        "confirm",
        "reset",
        "unlink",
        "log",
        "check-service",
    ]
    .into_iter()
    .map(|name| (name, validator(name)))
    .collect()
});

fn validator(name: &str) -> Validator {
    let file =
        PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../docs/schemas").join(format!("{name}.json"));
    let schema: Value = serde_json::from_str(&fs::read_to_string(file).unwrap()).unwrap();
    jsonschema::validator_for(&schema).unwrap()
}

/// Why a document is no valid output of a command; nothing if it is.
pub(crate) fn faults(command: &str, document: &Value) -> Vec<String> {
    let (_, validator) = SCHEMAS.iter().find(|(name, _)| *name == command).unwrap();
    validator.iter_errors(document).map(|error| format!("{}: {error}", error.instance_path)).collect()
}

/// Fails unless a document is valid output of one of the commands.
#[track_caller]
pub(crate) fn assert_known(document: &Value) {
    if SCHEMAS.iter().any(|(_, validator)| validator.is_valid(document)) {
        return;
    }
    let faults: Vec<_> = SCHEMAS.iter().map(|(name, _)| (name, faults(name, document))).collect();
    panic!("no schema describes {document:#}\n{faults:#?}");
}

/// Every schema of docs/schemas, by its name.
fn all() -> Vec<(String, Value)> {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../docs/schemas");
    let files = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let read = |file: PathBuf| {
        let name = file.file_stem().unwrap().to_str().unwrap().to_owned();
        (name, serde_json::from_str(&fs::read_to_string(file).unwrap()).unwrap())
    };
    files.map(read).collect()
}

/// Calls `look` with every value of a schema and its path.
fn walk(schema: &Value, place: &str, look: &mut impl FnMut(&str, &Value)) {
    look(place, schema);
    match schema {
        Value::Object(object) => {
            object.iter().for_each(|(name, value)| walk(value, &format!("{place}/{name}"), look));
        }
        Value::Array(values) => values.iter().for_each(|value| walk(value, place, look)),
        _ => {}
    }
}

#[test]
fn every_object_of_every_schema_is_closed() {
    // A policy in IAM's format, and the context of an invocation: docs/JSON.md and deploy/README.md say so.
    let open = ["aws-init/anyOf/properties/policy", "function/properties/metadata"];
    let schemas = all();
    assert!(schemas.len() > SCHEMAS.len(), "the function has one, too");
    let mut found = Vec::new();
    for (name, schema) in &schemas {
        walk(schema, name, &mut |place, schema| {
            let Some(object) = schema.as_object() else { return };
            let is_type = |wanted| match object.get("type") {
                Some(Value::String(name)) => name == wanted,
                Some(Value::Array(names)) => names.iter().any(|name| name == wanted),
                _ => false,
            };
            let is_object = is_type("object") || object.get("properties").is_some_and(Value::is_object);
            // `false`, or the schema of each further value of a map.
            let is_closed = object.get("additionalProperties").is_some_and(|more| {
                *more == Value::Bool(false) || more.as_object().is_some_and(|more| !more.is_empty())
            });
            let parent = place.rsplit('/').nth(1);
            let says_nothing = parent == Some("properties") && object.keys().all(|key| key == "description");
            if (is_object && !is_closed) || says_nothing {
                found.push(place.to_owned());
            }
        });
    }
    found.sort();
    assert_eq!(found, open);
}

#[test]
fn the_documentation_has_every_field_of_the_schemas() {
    let file = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../docs/JSON.md");
    let text = fs::read_to_string(file).unwrap();
    // What is between two backquotes, split into names.
    let quoted = text.split('`').skip(1).step_by(2);
    let names: HashSet<&str> = quoted
        .flat_map(|words| words.split(|letter: char| !letter.is_alphanumeric() && letter != '_'))
        .collect();
    let mut missing = BTreeSet::new();
    for (name, schema) in &all() {
        walk(schema, name, &mut |place, value| {
            if let Some(fields) = value.get("properties").and_then(Value::as_object) {
                let unknown = fields.keys().filter(|field| !names.contains(field.as_str()));
                missing.extend(unknown.map(|field| format!("{place}: {field}")));
            }
        });
    }
    assert_eq!(missing, BTreeSet::new());
}

#[test]
fn the_documentation_has_every_word_of_the_schemas() {
    let file = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../docs/JSON.md");
    let text = fs::read_to_string(file).unwrap();
    for (name, schema) in &all() {
        for (definition, words) in schema["$defs"].as_object().into_iter().flatten() {
            if !matches!(definition.as_str(), "Ending" | "ProblemCode" | "Unfinished" | "CheckedBy") {
                continue;
            }
            walk(words, definition, &mut |place, value| {
                let is_word = place.ends_with("/const") || place.ends_with("/enum");
                if let Some(word) = value.as_str().filter(|_| is_word) {
                    assert!(text.contains(&format!("`{word}`")), "{name}: {word} is missing in docs/JSON.md");
                }
            });
        }
    }
    // The reverse, for the outcomes.
    let section = text.split("| `outcome` | exit status |").nth(1).unwrap().split("\n\n").next().unwrap();
    let outcomes = section.lines().filter_map(|line| line.strip_prefix("| `")?.split('`').next());
    let (_, function) = all().into_iter().find(|(name, _)| name == "function").unwrap();
    for outcome in outcomes {
        assert!(function["$defs"]["Ending"].to_string().contains(&format!("\"{outcome}\"")), "{outcome}");
    }
}

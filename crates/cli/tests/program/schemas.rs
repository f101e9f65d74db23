//! Whatever any test has the program print as JSON follows a schema of docs/schemas. They are closed, so that a field that
//! is missing, renamed or unknown fails the test.

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

/// Why a document is not what a command prints; nothing if it is.
pub(crate) fn faults(command: &str, document: &Value) -> Vec<String> {
    let (_, validator) = SCHEMAS.iter().find(|(name, _)| *name == command).unwrap();
    validator.iter_errors(document).map(|error| format!("{}: {error}", error.instance_path)).collect()
}

/// Fails unless a document is what one of the commands prints.
#[track_caller]
pub(crate) fn assert_known(document: &Value) {
    if SCHEMAS.iter().any(|(_, validator)| validator.is_valid(document)) {
        return;
    }
    let faults: Vec<_> = SCHEMAS.iter().map(|(name, _)| (name, faults(name, document))).collect();
    panic!("no schema describes {document:#}\n{faults:#?}");
}

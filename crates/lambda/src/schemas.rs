//! The schema of the function's answers is in docs/schemas, and is that of the program (docs/JSON.md).

use obsync_core::schema::{keep_current, of};
use schemars::JsonSchema;

use crate::answer::Answer;
use crate::status::VaultState;
use crate::vault_report::VaultReport;

/// The part of an answer for one vault: the report of a sync, or the result of the action `status`.
#[derive(JsonSchema)]
#[serde(untagged)]
#[expect(dead_code, reason = "only its schema is used")]
pub(crate) enum VaultAnswer {
    Report(Box<VaultReport>),
    State(Box<VaultState>),
}

#[test]
fn the_schema_of_the_function_is_current_and_no_field_changes_without_a_version() {
    keep_current(env!("CARGO_MANIFEST_DIR"), "function", &of::<Answer>()).unwrap();
}

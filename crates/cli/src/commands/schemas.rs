//! The schemas of the `--json` output are in docs/schemas, and are those of the program (docs/JSON.md).

use obsync_core::schema::{any_of, keep_current, of};
use obsync_core::{Ending, Problem};
use schemars::JsonSchema;

use super::{aws, check_service, confirm, create, log, pull, reset, status, unlink, vaults, verify};
use crate::answer::Answer;

/// The output of a command that failed: `error` is always set.
#[derive(JsonSchema)]
#[expect(dead_code, reason = "only its schema is used")]
struct Refused {
    schema_version: u32,
    outcome: Ending,
    exit_code: u8,
    error: Problem,
}

/// Compares the schema of a command's output: its result, or a refusal.
fn check<T: JsonSchema>(command: &str) -> Result<(), String> {
    let title = format!("What `obsync {} --json` prints", command.replace('-', " "));
    let schema = any_of(&title, [of::<Answer<T>>(), of::<Refused>()]);
    keep_current(env!("CARGO_MANIFEST_DIR"), command, &schema)
}

#[test]
fn the_schemas_of_the_program_are_current_and_no_field_changes_without_a_version() {
    let checked = [
        check::<pull::PullDocument>("pull"),
        check::<verify::VerifyDocument>("verify"),
        check::<status::StatusDocument>("status"),
        check::<vaults::VaultsDocument>("vaults"),
        check::<aws::AwsDocument>("aws-init"),
        check::<create::CreateDocument>("create"),
        check::<confirm::ConfirmDocument>("confirm"),
        check::<reset::ResetDocument>("reset"),
        check::<unlink::UnlinkDocument>("unlink"),
        check::<log::LogDocument>("log"),
        check::<check_service::CheckServiceDocument>("check-service"),
    ];
    let wrong: Vec<String> = checked.into_iter().filter_map(Result::err).collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

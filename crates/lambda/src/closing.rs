//! The line that ends the work on a vault: its result, and the duration of each stage.

use std::time::Duration;

use obsync_dynamodb::RunDurations;

use crate::vault_report::{FollowUp, VaultReport, VaultStatus};

/// Durations of the stages of work on a vault. They overlap.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Stages {
    /// Listing, fetching and commits.
    pub(crate) run: RunDurations,
    /// Making contents visible in the bucket.
    pub(crate) publish: Duration,
}

/// Durations before the work on the vaults of an invocation could begin.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Beginning {
    /// Starting the process; zero in a process that served before.
    pub(crate) init: Duration,
    /// Reading the secret, signing in and listing vaults.
    pub(crate) sign_in: Duration,
}

/// Logs the result of a vault, without any text of its owner.
pub(crate) fn note(report: &VaultReport, beginning: Beginning) {
    // Errors may name the vault.
    let untitled = |text: &str| match report.name.as_str() {
        "" => text.to_owned(),
        name => text.replace(&format!("{name:?}"), "(name not logged)"),
    };
    let Stages { run, publish } = report.stages;
    macro_rules! close {
        ($level:ident, $($field:tt)*) => {
            tracing::$level!(
                vault_id = report.vault_id,
                encryption = report.encryption,
                $($field)*
                init_ms = milliseconds(beginning.init),
                sign_in_ms = milliseconds(beginning.sign_in),
                list_ms = milliseconds(run.list),
                fetch_ms = milliseconds(run.fetch),
                publish_ms = milliseconds(publish),
                commit_ms = milliseconds(run.commit),
                duration_ms = report.duration_ms,
                s3_requests = report.s3_requests,
                "{}",
                message_of(report.status)
            )
        };
    }
    match report.status {
        VaultStatus::Failed => close!(error, reason = untitled(&report.message),),
        status => close!(
            info,
            status = status.word(),
            version = report.version,
            files = report.files(),
            bytes = report.bytes(),
            deleted = report.deleted.files,
            pushed = report.pushed.files,
            deleted_in_vault = report.deleted_in_vault.files,
            failed_files = report.failed_files,
            conflicts = report.conflicts.len(),
            left = report.remaining.files,
        ),
    }
    if let FollowUp::Ended(reason) = report.follow_up {
        tracing::error!(
            vault_id = report.vault_id,
            reason,
            step = report.step,
            "the run does not go on by itself"
        );
    }
    for warning in &report.warnings {
        tracing::warn!(vault_id = report.vault_id, "{}", untitled(warning));
    }
}

fn message_of(status: VaultStatus) -> &'static str {
    match status {
        VaultStatus::Failed => "the vault could not be synced",
        _ => "the vault is done for now",
    }
}

pub(crate) fn milliseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

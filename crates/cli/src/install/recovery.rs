//! Point-in-time recovery: restores a table as of any second of the last weeks.
//!
//! Nothing depends on it (a destination without a state is adopted, at the cost of checking everything), and
//! DynamoDB-compatible services need not offer it.

use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::types::{PointInTimeRecoverySpecification, PointInTimeRecoveryStatus};
use obsync_core::StateError;
use tokio::time::Instant;

use super::table::{LOOK, SETTLING, TableInstaller};

/// The error of a service that does not offer it.
const NOT_OFFERED: &str = "UnknownOperationException";
/// The error of DynamoDB for a table that was just created.
const TOO_SOON: &str = "ContinuousBackupsUnavailableException";

impl TableInstaller {
    /// True if the table can be restored, or the service does not offer that.
    pub(super) async fn is_restorable(&self) -> Result<bool, StateError> {
        let name = self.table.name().as_str();
        let request = |client: &Client| client.describe_continuous_backups().table_name(name).send();
        let Some(answer) = self.table.send_unless(NOT_OFFERED, request).await? else {
            return Ok(true);
        };
        let backups = answer.continuous_backups_description;
        let recovery = backups.and_then(|backups| backups.point_in_time_recovery_description);
        let status = recovery.and_then(|recovery| recovery.point_in_time_recovery_status);
        Ok(status == Some(PointInTimeRecoveryStatus::Enabled))
    }

    /// Enables recovery of the table.
    pub(super) async fn make_restorable(&self) -> Result<(), StateError> {
        let specification = PointInTimeRecoverySpecification::builder().point_in_time_recovery_enabled(true);
        let specification = specification.build().map_err(|error| self.unavailable(error.to_string()))?;
        let request = |client: &Client| {
            client
                .update_continuous_backups()
                .table_name(self.table.name().as_str())
                .point_in_time_recovery_specification(specification.clone())
                .send()
        };
        let deadline = Instant::now() + SETTLING;
        while self.table.send_unless(TOO_SOON, request).await?.is_none() {
            if Instant::now() > deadline {
                let waited = SETTLING.as_secs();
                let reason = format!("it cannot be made restorable after {waited} s; try again later");
                return Err(self.unavailable(reason));
            }
            tokio::time::sleep(LOOK).await;
        }
        Ok(())
    }
}

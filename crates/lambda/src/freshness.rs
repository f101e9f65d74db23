//! Measures how long ago the vaults of the function were last found up to date.

use jiff::Timestamp;
use obsync_core::StateError;
use obsync_dynamodb::{DynamoTable, StateKey};

use crate::metrics::OldestSuccess;
use crate::sync::Job;

/// The location of a job's state.
pub(crate) fn key_of(job: &Job) -> StateKey {
    StateKey {
        vault_id: job.vault.info.id.clone(),
        vault_name: job.vault.info.name.clone(),
        destination: job.place.to_string(),
    }
}

/// The oldest last success of these states. Reads their heads, a hundred at a time.
pub(crate) async fn oldest(table: &DynamoTable, states: &[StateKey]) -> Result<OldestSuccess, StateError> {
    let found = table.freshness(states).await?;
    let now = Timestamp::now().as_millisecond();
    let mut oldest = OldestSuccess { vaults: states.len(), ..OldestSuccess::default() };
    for (state, freshness) in states.iter().zip(found) {
        let Some(freshness) = freshness else {
            oldest.not_begun += 1;
            continue;
        };
        let since = freshness.checked.unwrap_or(freshness.created);
        let age = u64::try_from(now.saturating_sub(since).max(0) / 1000).unwrap_or_default();
        if oldest.oldest.as_ref().is_none_or(|(_, most)| age > *most) {
            oldest.oldest = Some((state.vault_id.to_string(), age));
        }
    }
    Ok(oldest)
}

//! Records failed runs in the table, including those without a lease or even without known vaults: `obsync
//! status` and the action `status` count consecutive failures there.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use jiff::Timestamp;
use obsync_bucket::BucketLocation;
use obsync_core::{Problem, StateError};
use obsync_dynamodb::{DynamoState, DynamoTable, ProgressStatus, StateKey};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::timeout_at;

use crate::deadline::Deadline;
use crate::placement;
use crate::warm::Warm;

/// Concurrent writes.
const WIDTH: usize = 8;

/// A failed run.
#[derive(Clone, Debug)]
pub(crate) struct Failure {
    /// The error.
    pub(crate) problem: Problem,
    pub(crate) began: Timestamp,
}

impl Failure {
    /// Records it for these states.
    pub(crate) async fn note(&self, warm: &Warm, states: Vec<StateKey>, deadline: &Deadline) {
        if warm.config.progress {
            in_time(deadline, self.write(&warm.table, states, &BTreeSet::new())).await;
        }
    }

    /// Records it for the vaults below `root` that the table knows and these names denote, or for all of them
    /// without names: the account's vaults could not be listed.
    pub(crate) async fn note_unlisted(
        &self,
        warm: &Warm,
        root: &BucketLocation,
        wanted: &BTreeSet<String>,
        deadline: &Deadline,
    ) {
        if !warm.config.progress {
            return;
        }
        let noting = async {
            let places = warm.table.places(&root.to_string(), |_| BTreeMap::new()).await?;
            let key = |(vault, name): (_, &String)| {
                let place = root.join(name).ok().filter(|_| placement::is_sound(vault, &places.names))?;
                Some(StateKey {
                    vault_id: vault.clone(),
                    vault_name: String::new(),
                    destination: place.to_string(),
                })
            };
            let states = places.names.iter().filter_map(key).collect();
            self.write(&warm.table, states, wanted).await
        };
        in_time(deadline, noting).await;
    }

    async fn write(
        &self,
        table: &DynamoTable,
        states: Vec<StateKey>,
        wanted: &BTreeSet<String>,
    ) -> Result<(), StateError> {
        let slots = Arc::new(Semaphore::new(WIDTH));
        let mut tasks = JoinSet::new();
        for key in states {
            let (failure, table, wanted) = (self.clone(), table.clone(), wanted.clone());
            let slots = slots.clone();
            tasks.spawn(async move {
                // The semaphore is never closed.
                let _slot = slots.acquire().await;
                failure.write_one(&table, key, &wanted).await
            });
        }
        let mut result = Ok(());
        while let Some(written) = tasks.join_next().await {
            if let Ok(Err(error)) = written {
                result = Err(error);
            }
        }
        result
    }

    async fn write_one(
        &self,
        table: &DynamoTable,
        key: StateKey,
        wanted: &BTreeSet<String>,
    ) -> Result<(), StateError> {
        let id = key.vault_id.to_string();
        let state = DynamoState::read(table, key).await?;
        let is_meant = wanted.is_empty()
            || wanted.contains(&id)
            || state.seen().await.is_some_and(|summary| wanted.contains(&summary.vault_name));
        if is_meant {
            state.note_failure(ProgressStatus::Failed, &self.problem, self.began).await?;
        }
        Ok(())
    }
}

/// Writes within the time that is kept for the end. The run has failed anyway.
async fn in_time(deadline: &Deadline, noting: impl Future<Output = Result<(), StateError>>) {
    match timeout_at(deadline.farewell(), noting).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::warn!(%error, "that the run failed could not be written to the table"),
        Err(_) => tracing::warn!("there was no time to write to the table that the run failed"),
    }
}

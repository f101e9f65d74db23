//! Ensures that no vault's place lies inside another's: each vault treats all objects in its place as its
//! own.
//!
//! Below one root that is impossible, since each vault has a unique name there. But roots differ: by events
//! that name another one, by functions and command lines that use the same table. So a vault without objects
//! in its place checks the places of all others, under its lease: of two that begin at once, one sees the
//! other.

use std::sync::Arc;

use obsync_bucket::BucketLocation;
use obsync_core::StateError;
use obsync_dynamodb::{DynamoState, DynamoTable, FoundState, StateKey};
use tokio::sync::Mutex;
use tokio::time::Instant;

/// Two places of which one is or contains the other.
#[derive(Debug, thiserror::Error)]
#[error(
    "the vault {vault} cannot have {place}: {relation} {other_place}, which is the place of the vault {other_vault}; \
     choose another prefix, or give that place up first (`obsync reset` with `--state {table}`)"
)]
pub(crate) struct Nested {
    vault: String,
    place: String,
    relation: &'static str,
    other_vault: String,
    other_place: String,
    table: String,
}

/// All states of the table as last read, and when that read began.
#[derive(Debug, Default)]
pub(crate) struct Neighbours(Mutex<Option<(Instant, Arc<Vec<FoundState>>)>>);

impl Neighbours {
    /// All states, read no earlier than now. Callers during a read wait, and share the next read with all who
    /// wait with them.
    async fn states(&self, table: &DynamoTable) -> Result<Arc<Vec<FoundState>>, StateError> {
        let asked = Instant::now();
        let mut read = self.0.lock().await;
        if let Some((begun, states)) = &*read
            && *begun >= asked
        {
            return Ok(Arc::clone(states));
        }
        let begun = Instant::now();
        let states = Arc::new(table.states().await?);
        *read = Some((begun, Arc::clone(&states)));
        Ok(states)
    }
}

/// The place that conflicts with a vault's own, if the vault has nothing there yet.
pub(crate) async fn nested(
    state: &DynamoState,
    place: &BucketLocation,
    neighbours: &Neighbours,
) -> Result<Option<Nested>, StateError> {
    if !state.is_blank().await? {
        return Ok(None);
    }
    let (table, key) = (state.table(), state.key());
    let others = neighbours.states(table).await?;
    let others = others.iter().filter(|other| !other.is_blank() && !is_same(&other.key, key));
    Ok(others.into_iter().find_map(|other: &FoundState| {
        let other_place = BucketLocation::parse(&other.key.destination).ok()?;
        let relation = match (other_place.holds(place), place.holds(&other_place)) {
            (true, true) => "it is",
            (true, false) => "it is inside",
            (false, true) => "it holds",
            (false, false) => return None,
        };
        Some(Nested {
            vault: key.vault_id.to_string(),
            place: place.to_string(),
            relation,
            other_vault: other.key.vault_id.to_string(),
            other_place: other_place.to_string(),
            table: table.name().to_string(),
        })
    }))
}

fn is_same(one: &StateKey, other: &StateKey) -> bool {
    one.vault_id == other.vault_id && one.destination == other.destination
}

//! Looks up when the states of many vaults were last found up to date.

use std::collections::HashMap;

use obsync_core::StateError;

use super::attributes::Item;
use super::head::Head;
use super::keys::{ItemKeys, StateKey};
use super::state::head_of;
use super::table::DynamoTable;

/// When the state of a vault at a destination was last found up to date.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Freshness {
    /// When its first run began, milliseconds since the epoch.
    pub created: i64,
    /// When a run last found or made the destination up to date, milliseconds since the epoch; `None`: never.
    pub checked: Option<i64>,
}

impl DynamoTable {
    /// The freshness of these states, in order; `None` where no run has begun, or where the state is
    /// unreadable. One request for every hundred of them, and one more for every hundred further destinations
    /// of vaults.
    ///
    /// # Errors
    ///
    /// [`StateError::Unavailable`] if the table is unusable.
    pub async fn freshness(&self, states: &[StateKey]) -> Result<Vec<Option<Freshness>>, StateError> {
        let mut found: Vec<Option<Freshness>> = vec![None; states.len()];
        let mut missing: Vec<usize> = (0..states.len()).collect();
        let ways: [fn(&StateKey) -> ItemKeys; 2] =
            [|state| ItemKeys::of_vault(&state.vault_id), ItemKeys::of_destination];
        for keys_of in ways {
            // A vault may have several destinations; no key may be requested twice.
            let mut wanted: HashMap<String, Vec<usize>> = HashMap::new();
            for index in missing.drain(..) {
                if let Some(state) = states.get(index) {
                    wanted.entry(keys_of(state).head().to_owned()).or_default().push(index);
                }
            }
            let items = self.look_up(wanted.keys().cloned().collect()).await?;
            for head in items.iter().filter_map(|item| self.readable_head(item)) {
                let Some(indices) = wanted.get_mut(&head.0) else { continue };
                indices.retain(|index| {
                    let is_its =
                        states.get(*index).is_some_and(|state| state.destination == head.1.destination);
                    if is_its && let Some(place) = found.get_mut(*index) {
                        *place = Some(Freshness { created: head.1.created, checked: head.1.checked });
                    }
                    !is_its
                });
            }
            missing = wanted.into_values().flatten().collect();
        }
        Ok(found)
    }

    fn readable_head(&self, item: &Item) -> Option<(String, Head)> {
        let key = super::attributes::Reader(item).key().ok()?.to_owned();
        let head = head_of(self, &key, item).ok()?;
        Some((key, head))
    }
}

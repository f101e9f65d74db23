//! Removes a state, even a damaged one: the next pull begins anew and adopts existing files of the
//! destination.
//!
//! The items are removed in transactions that check the lease, so that a reset that was frozen and wakes up
//! cannot remove a later run's items. The head is marked first and emptied last: an interrupted reset has to
//! be repeated before anything else, since its remains are neither the old state nor an empty one.

use std::sync::atomic::AtomicU64;

use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::types::AttributeValue;
use obsync_core::StateError;

use super::attributes::{Changes, Item, Reader, VAULT_ID, number, text};
use super::batch::Wanted;
use super::head::{Counts, FORMAT, names};
use super::keys::{ItemKeys, StateKey};
use super::lease::{self, Denied, Lease, LeaseOptions, Taken};
use super::table::DynamoTable;
use super::transaction::{WRITES, Write, WriteError, Writer};

impl DynamoTable {
    /// Removes the state of a destination from this table. Reads the whole table, and makes a request for
    /// every 99 removed items.
    ///
    /// # Errors
    ///
    /// [`StateError::Locked`] if a run works on the destination, [`StateError::LeaseLost`] if one took over
    /// meanwhile, [`StateError::Unavailable`] if the table is unusable.
    pub async fn reset(&self, state: &StateKey, options: &LeaseOptions) -> Result<(), StateError> {
        let Taken { keys, lease, .. } = self.take_for_reset(state, options).await?;
        match self.reset_under(&keys, &lease).await {
            Ok(true) => Ok(()),
            Ok(false) => Err(StateError::LeaseLost { destination: state.destination.clone() }),
            Err(error) => {
                lease::give_back(self, &keys, &lease.id).await;
                Err(error)
            }
        }
    }

    /// Removes it under a lease, which is removed with the rest.
    async fn reset_under(&self, keys: &ItemKeys, lease: &Lease) -> Result<bool, StateError> {
        Ok(self.mark(keys, lease).await?
            && self.remove_items(keys, lease).await?
            && self.empty_head(keys, lease).await?)
    }

    /// Marks the head: a reset is in progress. `false`, here and below: another run has the lease.
    async fn mark(&self, keys: &ItemKeys, lease: &Lease) -> Result<bool, StateError> {
        let mut changes = Changes::default();
        changes.set(names::RESETTING, AttributeValue::Bool(true));
        lease::update_under_lease(self, keys, lease, changes).await
    }

    /// Removes everything but the head.
    async fn remove_items(&self, keys: &ItemKeys, lease: &Lease) -> Result<bool, StateError> {
        let mut found = Vec::new();
        let take = |item: Item| {
            let key = Reader(&item).key().unwrap_or_default();
            if keys.own(key) {
                found.push(Write::removal(key.to_owned(), Counts::default()));
            }
            Ok(())
        };
        self.scan(Wanted::KeysWith(keys.head()), take).await?;
        let revisions = AtomicU64::new(0);
        let writer = Writer { table: self, keys, lease, revisions: &revisions };
        let mut renewed = self.clock().steady();
        for removals in found.chunks(WRITES) {
            if self.is_hurried() {
                return Err(self.unavailable("the reset was cut short; the next one goes on"));
            }
            if self.clock().steady() - renewed > lease.duration / 3 {
                if !lease::renew(self, keys, lease).await? {
                    return Ok(false);
                }
                renewed = self.clock().steady();
            }
            match writer.write_beside(removals).await {
                Ok(()) => {}
                Err(WriteError::State(error)) => return Err(error),
                Err(WriteError::LeaseLost | WriteError::Stale) => return Ok(false),
            }
        }
        Ok(true)
    }

    /// Empties the head last, as long as it has our lease. The head itself stays, with only the key of its
    /// state: without it the next destination to be opened would take the place that belongs to this one.
    async fn empty_head(&self, keys: &ItemKeys, lease: &Lease) -> Result<bool, StateError> {
        let mut changes = Changes::default();
        names::STATE.iter().chain(&names::LEASE).chain(&names::CHAIN).for_each(|name| changes.remove(name));
        lease::update_under_lease(self, keys, lease, changes).await
    }

    /// Takes the lease. If the head is too damaged for that, replaces it first: nobody else can have the
    /// lease then.
    async fn take_for_reset(&self, state: &StateKey, options: &LeaseOptions) -> Result<Taken, StateError> {
        match lease::take(self, state, options).await {
            Err(Denied::Damaged { keys, error }) => {
                tracing::debug!(%error, "the head of the state is damaged");
                self.replace_head(&keys, state).await?;
                Ok(lease::take(self, state, options).await?)
            }
            taken => Ok(taken?),
        }
    }

    /// Replaces a damaged head by one whose reset has begun.
    async fn replace_head(&self, keys: &ItemKeys, state: &StateKey) -> Result<(), StateError> {
        let item = Item::from([
            (VAULT_ID.to_owned(), text(keys.head())),
            (names::FORMAT.to_owned(), number(FORMAT)),
            (names::PLACE.to_owned(), text(&state.destination)),
            (names::CREATED.to_owned(), number(self.now())),
            (names::RESETTING.to_owned(), AttributeValue::Bool(true)),
        ]);
        let name = self.name().as_str();
        let request =
            |client: &Client| client.put_item().table_name(name).set_item(Some(item.clone())).send();
        self.send(request).await?;
        Ok(())
    }
}

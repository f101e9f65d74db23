//! Removes a state, also one that is damaged: the next pull begins anew and adopts what is in the destination.
//!
//! The items go in transactions that check the lease, so that a reset that was frozen and wakes up cannot remove what a
//! later run wrote. The head is marked first and emptied last: a reset that was cut off has to be done again before
//! anything else, since what it left is neither the old state nor an empty one.

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
    /// Removes what is known of a destination, as far as it is in this table. Reads the whole table, and makes a request
    /// for every 99 items that are removed.
    ///
    /// # Errors
    ///
    /// [`StateError::Locked`] if a run works on the destination, [`StateError::LeaseLost`] if one took over meanwhile,
    /// [`StateError::Unavailable`] if the table cannot be used.
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

    /// Does it under a lease, which goes with the rest.
    async fn reset_under(&self, keys: &ItemKeys, lease: &Lease) -> Result<bool, StateError> {
        Ok(self.mark(keys, lease).await?
            && self.remove_items(keys, lease).await?
            && self.empty_head(keys, lease).await?)
    }

    /// Says in the head that a reset is under way. `false`, here and below: the lease is another's.
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

    /// Empties the head last, as long as the lease in it is ours. It stays, with no more than whose state it is: without it
    /// the next destination to be opened would take the place that belongs to this one.
    async fn empty_head(&self, keys: &ItemKeys, lease: &Lease) -> Result<bool, StateError> {
        let mut changes = Changes::default();
        names::STATE.iter().chain(&names::LEASE).chain(&names::CHAIN).for_each(|name| changes.remove(name));
        lease::update_under_lease(self, keys, lease, changes).await
    }

    /// Takes the lease, also of a state whose head is too damaged for that: nobody else can have it then, so another head
    /// takes its place first.
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

    /// Puts the head of a state whose reset was begun over a damaged one.
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

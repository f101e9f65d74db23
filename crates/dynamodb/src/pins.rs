//! Pins of vaults in a table, shared by every machine that uses it.
//!
//! A pin is filed three times: under the vault, under its name and under the destination, so that neither a
//! new id under an old name nor another vault for the same destination counts as a first contact. The three
//! are written in one transaction, on the condition that each is unchanged since it was read. No reset
//! removes them.

use std::collections::BTreeSet;

use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::types::{Put, TransactWriteItem};
use obsync_core::StateError;
use obsync_core::pin::{FoundPin, Pin, PinPlace};

use super::attributes::{Damage, Item, Reader, VAULT_ID, text};
use super::error::{CallError, transaction_fault};
use super::keys;
use super::table::DynamoTable;

/// The attribute with the pin, as JSON.
const PIN: &str = "pin";

/// The pins that concern one vault and one destination, as read.
#[derive(Clone, Debug)]
pub struct TablePins {
    filed: [Filed; 3],
    /// Pins of other vaults whose key has this vault's id, or its name as an id. Never written.
    others: [Filed; 2],
}

/// A place for a pin.
#[derive(Clone, Debug)]
struct Filed {
    key: String,
    is_of_destination: bool,
    /// The pin found there, and its text.
    found: Option<(Pin, String)>,
}

impl TablePins {
    /// The pins that were found.
    pub fn found(&self) -> Vec<FoundPin> {
        let found = |filed: &Filed| {
            let (pin, _) = filed.found.clone()?;
            Some(FoundPin { place: PinPlace::Table, is_of_destination: filed.is_of_destination, pin })
        };
        self.filed.iter().chain(&self.others).filter_map(found).collect()
    }

    /// True if they all equal this one, so that nothing needs to be written.
    pub fn are(&self, pin: &Pin) -> bool {
        self.filed.iter().all(|filed| filed.found.as_ref().is_some_and(|(found, _)| found == pin))
    }
}

impl DynamoTable {
    /// The pins of a vault (`listed` is the [pin](Pin::of) of the service's listing) and of a destination in
    /// its canonical form (`s3://bucket/prefix`). One request.
    ///
    /// # Errors
    ///
    /// [`StateError::Unavailable`] if a pin cannot be parsed (that is never a first contact), or the table is
    /// unusable.
    pub async fn pins(&self, listed: &Pin, destination: &str) -> Result<TablePins, StateError> {
        let place = |key, is_of_destination| Filed { key, is_of_destination, found: None };
        let (service, vault) = (&listed.service, listed.vault.as_str());
        let mut filed = [
            place(keys::pin(&["vault", service, vault]), false),
            place(keys::pin(&["name", service, &listed.name]), false),
            place(keys::pin(&["destination", destination]), true),
        ];
        let mut others = [
            place(keys::pin(&["name", service, vault]), false),
            place(keys::pin(&["vault", service, &listed.name]), false),
        ];
        // One request must not name a key twice.
        let keys: BTreeSet<String> = filed.iter().chain(&others).map(|filed| filed.key.clone()).collect();
        for item in self.look_up(keys.into_iter().collect()).await? {
            let reader = Reader(&item);
            let key = reader.key().unwrap_or_default();
            for filed in filed.iter_mut().chain(&mut others).filter(|filed| filed.key == key) {
                filed.found = Some(read(reader).map_err(|damage| self.unreadable_pin(key, &damage))?);
            }
        }
        Ok(TablePins { filed, others })
    }

    /// Files a pin in place of those found. `false`: another run filed one meanwhile; read and judge them
    /// again. One request, and none if they equal this one already.
    ///
    /// # Errors
    ///
    /// [`StateError::Unavailable`] if the table is unusable.
    pub async fn keep_pin(&self, pin: &Pin, seen: &TablePins) -> Result<bool, StateError> {
        if seen.are(pin) {
            return Ok(true);
        }
        let pin = pin.to_text().map_err(|error| self.unavailable(error.to_string()))?;
        let puts = seen.filed.iter().map(|filed| self.put_pin(filed, &pin));
        let puts: Vec<TransactWriteItem> = puts.collect::<Result<_, _>>()?;
        let request =
            |client: &Client| client.transact_write_items().set_transact_items(Some(puts.clone())).send();
        match self.call_judged(request, transaction_fault).await {
            Ok(_) => Ok(true),
            Err(CallError::Refused(_)) => Ok(false),
            Err(CallError::Failed(error)) => Err(error),
        }
    }

    /// Advises no reset: it would neither help nor be right.
    fn unreadable_pin(&self, key: &str, damage: &str) -> StateError {
        self.unavailable(format!(
            "its item {key}, which says how a vault was encrypted, cannot be understood: {damage}. Restore the item from a \
             backup of the table; docs/SEMANTICS.md (\"Encryption that changes\") says what else can be done"
        ))
    }

    fn put_pin(&self, filed: &Filed, pin: &str) -> Result<TransactWriteItem, StateError> {
        let item = Item::from([(VAULT_ID.to_owned(), text(&filed.key)), (PIN.to_owned(), text(pin))]);
        let put = Put::builder()
            .table_name(self.name().as_str())
            .set_item(Some(item))
            .expression_attribute_names("#pin", PIN);
        let put = match &filed.found {
            None => put.condition_expression("attribute_not_exists(#pin)"),
            Some((_, seen)) => {
                put.condition_expression("#pin = :seen").expression_attribute_values(":seen", text(seen))
            }
        };
        let put = put.build().map_err(|error| self.unavailable(error.to_string()))?;
        Ok(TransactWriteItem::builder().put(put).build())
    }
}

fn read(item: Reader<'_>) -> Result<(Pin, String), Damage> {
    let text = item.text(PIN)?;
    let pin = Pin::from_text(text).map_err(|error| error.to_string())?;
    Ok((pin, text.to_owned()))
}

//! Where the vaults below one place lie: an item for each such place that remembers which vault was given
//! which name, so that a vault stays where it is when it is renamed.
//!
//! The item is written on the condition that it still is as it was read, so two runs that give out places at
//! the same time never give one to two vaults.

use std::collections::{BTreeMap, HashMap};

use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::types::AttributeValue;
use obsync_core::StateError;
use obsync_protocol::VaultId;

use super::attributes::{Damage, Item, Reader, VAULT_ID, number, text};
use super::errors::CallError;
use super::keys;
use super::table::DynamoTable;

/// The attribute with the place that the names are below.
const ROOT: &str = "root";
/// The attribute with the names, by the ids of the vaults.
const PLACES: &str = "places";
/// The attribute with the number of times that the item was written.
const REVISION: &str = "revision";
/// How often places are given out anew because another run was faster.
const ATTEMPTS: usize = 10;

/// The places below one root, as read.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Remembered {
    pub(super) revision: u64,
    pub(super) places: BTreeMap<VaultId, String>,
}

impl DynamoTable {
    /// The names below `root` (such as `s3://bucket/prefix`) under which vaults lie, by their ids, after
    /// `give` was asked for those of vaults that have none yet. What `give` returns is added to what it is
    /// shown, and remembered; it may be asked again, if another run was faster. One request, one more if
    /// there is anything new.
    ///
    /// # Errors
    ///
    /// [`StateError::Corrupt`] if the item is damaged, [`StateError::Unavailable`] if the table cannot be
    /// used.
    pub async fn places(
        &self,
        root: &str,
        give: impl Fn(&BTreeMap<VaultId, String>) -> BTreeMap<VaultId, String>,
    ) -> Result<BTreeMap<VaultId, String>, StateError> {
        let key = keys::places(root);
        for _ in 0..ATTEMPTS {
            let known = match self.get(&key).await? {
                Some(item) => Remembered::read(&item).map_err(|damage| self.corrupt(&key, damage))?,
                None => Remembered::default(),
            };
            let given = give(&known.places);
            if given.keys().all(|vault| known.places.contains_key(vault)) {
                return Ok(known.places);
            }
            let mut places = given;
            places.extend(known.places.clone());
            let next = known.next(places);
            if self.remember(&key, root, known.revision, &next).await? {
                return Ok(next.places);
            }
        }
        Err(self.unavailable("other runs keep giving out places; run again later"))
    }

    /// Writes the item if it still is at the revision `seen`. `false`: it is not.
    async fn remember(
        &self,
        key: &str,
        root: &str,
        seen: u64,
        next: &Remembered,
    ) -> Result<bool, StateError> {
        let item = next.item(key, root);
        let request = |client: &Client| {
            client
                .put_item()
                .table_name(self.name().as_str())
                .set_item(Some(item.clone()))
                .condition_expression("attribute_not_exists(#revision) OR #revision = :revision")
                .expression_attribute_names("#revision", REVISION)
                .expression_attribute_values(":revision", number(seen))
                .send()
        };
        match self.call(request).await {
            Ok(_) => Ok(true),
            Err(CallError::Refused(_)) => Ok(false),
            Err(CallError::Failed(error)) => Err(error),
        }
    }
}

impl Remembered {
    /// What it is to be after this one. There is room: see [`read`](Self::read).
    pub(super) fn next(&self, places: BTreeMap<VaultId, String>) -> Self {
        Remembered { revision: self.revision + 1, places }
    }

    /// The item of this key.
    pub(super) fn item(&self, key: &str, root: &str) -> Item {
        let names = self.places.iter().map(|(vault, name)| (vault.as_str().to_owned(), text(name)));
        Item::from([
            (VAULT_ID.to_owned(), text(key)),
            (ROOT.to_owned(), text(root)),
            (REVISION.to_owned(), number(self.revision)),
            (PLACES.to_owned(), AttributeValue::M(names.collect())),
        ])
    }

    /// Reads an item. One that could not be written again, for its revision is at its end, is refused.
    pub(super) fn read(item: &Item) -> Result<Self, Damage> {
        let empty = HashMap::new();
        let names = match item.get(PLACES) {
            None => &empty,
            Some(AttributeValue::M(names)) => names,
            Some(_) => return Err(format!("`{PLACES}` is not a map")),
        };
        let places = names.iter().map(|(vault, name)| match (VaultId::try_new(vault.as_str()), name) {
            (Ok(vault), AttributeValue::S(name)) => Ok((vault, name.clone())),
            _ => Err(format!("`{PLACES}` has something else than names of vaults")),
        });
        let revision = match Reader(item).number(REVISION)? {
            u64::MAX => return Err(format!("`{REVISION}` is higher than it ever gets")),
            revision => revision,
        };
        Ok(Remembered { revision, places: places.collect::<Result<_, _>>()? })
    }
}

//! The folders of vaults below one prefix: an item for each such place with the name of each vault's folder,
//! so that a vault keeps its folder when it is renamed.
//!
//! The item is written on the condition that it is unchanged since it was read, so two simultaneous runs
//! never give one folder to two vaults.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::types::AttributeValue;
use obsync_core::StateError;
use obsync_protocol::VaultId;

use super::attributes::{Damage, Item, Reader, VAULT_ID, number, text};
use super::error::CallError;
use super::keys;
use super::table::DynamoTable;

/// The attribute with the place.
const ROOT: &str = "root";
/// The attribute with the names, by vault id.
const PLACES: &str = "places";
/// The attribute with the revision of the item.
const REVISION: &str = "revision";
/// Attempts at assigning places when other runs do so at the same time.
const ATTEMPTS: usize = 10;

/// The names of the vaults' folders below one root.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Places {
    /// The name of each vault's folder.
    pub names: BTreeMap<VaultId, String>,
    /// Vaults whose entry is no valid name: their place is unknown until somebody corrects or removes the
    /// entry.
    pub damaged: BTreeSet<VaultId>,
}

/// The item of one root, as read.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Remembered {
    pub(super) revision: u64,
    pub(super) places: BTreeMap<VaultId, String>,
    /// Invalid entries in their original form: written again unchanged, so that damage to one entry costs no
    /// other vault its place.
    damaged: HashMap<String, AttributeValue>,
}

impl DynamoTable {
    /// The names of the vaults' folders below `root` (such as `s3://bucket/prefix`), by id. Calls `give` for
    /// vaults without one, and stores the names that it returns; it is called again if another run was
    /// faster. A vault with a damaged entry gets no name. One request, one more if there is anything new.
    ///
    /// # Errors
    ///
    /// [`StateError::Corrupt`] if the item as a whole is damaged, [`StateError::Unavailable`] if the table is
    /// unusable.
    pub async fn places(
        &self,
        root: &str,
        give: impl Fn(&BTreeMap<VaultId, String>) -> BTreeMap<VaultId, String>,
    ) -> Result<Places, StateError> {
        let key = keys::places(root);
        for _ in 0..ATTEMPTS {
            let known = match self.get(&key).await? {
                Some(item) => Remembered::read(&item).map_err(|damage| self.corrupt(&key, damage))?,
                None => Remembered::default(),
            };
            let mut places = give(&known.places);
            places.retain(|vault, _| !known.damaged.contains_key(vault.as_str()));
            if places.keys().all(|vault| known.places.contains_key(vault)) {
                return Ok(known.into());
            }
            places.extend(known.places.clone());
            let next = known.next(places);
            if self.remember(&key, root, known.revision, &next).await? {
                return Ok(next.into());
            }
        }
        Err(self.unavailable("other runs keep giving out places; run again later"))
    }

    /// Writes the item if its revision is still `seen`. `false`: it is not.
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
    /// The next revision. It does not overflow: see [`read`](Self::read).
    pub(super) fn next(&self, places: BTreeMap<VaultId, String>) -> Self {
        Remembered { revision: self.revision + 1, places, damaged: self.damaged.clone() }
    }

    pub(super) fn item(&self, key: &str, root: &str) -> Item {
        let names = self.places.iter().map(|(vault, name)| (vault.as_str().to_owned(), text(name)));
        let damaged = self.damaged.iter().map(|(vault, entry)| (vault.clone(), entry.clone()));
        Item::from([
            (VAULT_ID.to_owned(), text(key)),
            (ROOT.to_owned(), text(root)),
            (REVISION.to_owned(), number(self.revision)),
            (PLACES.to_owned(), AttributeValue::M(names.chain(damaged).collect())),
        ])
    }

    /// Parses an item; an invalid entry affects only itself. An item with the highest possible revision is
    /// refused, since it could not be written again.
    pub(super) fn read(item: &Item) -> Result<Self, Damage> {
        let empty = HashMap::new();
        let names = match item.get(PLACES) {
            None => &empty,
            Some(AttributeValue::M(names)) => names,
            Some(_) => return Err(format!("`{PLACES}` is not a map")),
        };
        let (mut places, mut damaged) = (BTreeMap::new(), HashMap::new());
        for (vault, name) in names {
            match (VaultId::try_new(vault.as_str()), name) {
                (Ok(vault), AttributeValue::S(name)) => drop(places.insert(vault, name.clone())),
                _ => drop(damaged.insert(vault.clone(), name.clone())),
            }
        }
        let revision = match Reader(item).number(REVISION)? {
            u64::MAX => return Err(format!("`{REVISION}` is higher than it ever gets")),
            revision => revision,
        };
        Ok(Remembered { revision, places, damaged })
    }
}

impl From<Remembered> for Places {
    fn from(remembered: Remembered) -> Self {
        let damaged = remembered.damaged.keys().filter_map(|vault| VaultId::try_new(vault.as_str()).ok());
        Places { damaged: damaged.collect(), names: remembered.places }
    }
}

//! Keys of a state's items: all items are addressed by the table's one key, `vault_id`.

use obsync_protocol::{ContentHash, VaultId, VaultPath};

/// Hexadecimal digits of a path's hash in its item's key: 128 bits.
const PATH_DIGITS: usize = 32;
/// Hexadecimal digits of a destination's hash in the keys of a vault's further destinations.
const DESTINATION_DIGITS: usize = 16;
/// Hexadecimal digits of a hash in the key of a pin: all, as it guards against a service that chooses names.
const PIN_DIGITS: usize = 64;

/// The vault and destination of a state.
///
/// The first destination of a vault in a table has its state under the vault's plain id, so that it can be
/// found by that alone. Each further one has it under `<vault id>@<hash of the destination>`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StateKey {
    /// The vault.
    pub vault_id: VaultId,
    /// The vault's name, for people. It may change.
    pub vault_name: String,
    /// The destination in its canonical form (`s3://bucket/prefix`).
    pub destination: String,
}

/// The keys of one state's items.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ItemKeys {
    base: String,
}

impl ItemKeys {
    /// The items of a vault's first destination.
    pub(super) fn of_vault(vault: &VaultId) -> Self {
        ItemKeys { base: vault.as_str().to_owned() }
    }

    /// The vault of a head's key, if it is one.
    pub(super) fn vault_of_head(key: &str) -> Option<VaultId> {
        let vault = key.split_once('@').map_or(key, |(vault, _)| vault);
        VaultId::try_new(vault).ok()
    }

    /// The items of another destination of the vault. No vault id has an `@`.
    pub(super) fn of_destination(key: &StateKey) -> Self {
        let hash = digits(&key.destination, DESTINATION_DIGITS);
        ItemKeys { base: format!("{}@{hash}", key.vault_id) }
    }

    /// The head: everything except files and changes.
    pub(super) fn head(&self) -> &str {
        &self.base
    }

    /// The item of the file or folder at a path.
    pub(super) fn file(&self, path: &VaultPath) -> String {
        format!("file#{}#{}", self.base, digits(path.as_str(), PATH_DIGITS))
    }

    /// Prefix of the keys of all files and folders.
    pub(super) fn files(&self) -> String {
        format!("file#{}#", self.base)
    }

    /// True if a key is one of this state's, except the head's.
    pub(super) fn own(&self, key: &str) -> bool {
        let Some((_, rest)) = key.split_once('#') else { return false };
        rest.strip_prefix(&self.base).is_some_and(|rest| rest.is_empty() || rest.starts_with('#'))
    }

    /// Page `number` of `pages` of a kind of deferred changes. A division into more pages has other keys, so
    /// that it can be written before it is valid.
    pub(super) fn page(&self, kind: &str, pages: u32, number: u32) -> String {
        match pages {
            0 | 1 => format!("{kind}#{}", self.base),
            _ => format!("{kind}#{}#{pages}.{number}", self.base),
        }
    }

    /// Page `number` of the intents.
    pub(super) fn intents(&self, number: u32) -> String {
        match number {
            0 => format!("announced#{}", self.base),
            _ => format!("announced#{}#{number}", self.base),
        }
    }

    /// The deletions that were confirmed during a run.
    pub(super) fn confirmed(&self) -> String {
        format!("confirmed#{}", self.base)
    }

    /// The progress record of a run.
    pub(super) fn progress(&self) -> String {
        format!("progress#{}", self.base)
    }
}

/// The item with the names of the vaults below a place.
pub(super) fn places(root: &str) -> String {
    format!("places#{}", digits(root, PATH_DIGITS))
}

/// The item of a pin filed under these texts. Their lengths are hashed, too, which keeps two lists of texts
/// apart.
pub(super) fn pin(under: &[&str]) -> String {
    let text: String = under.iter().map(|text| format!("{}:{text}", text.len())).collect();
    format!("pin#{}", digits(&text, PIN_DIGITS))
}

/// The first hexadecimal digits of a text's SHA-256.
fn digits(text: &str, count: usize) -> String {
    let mut hash = ContentHash::of(text.as_bytes()).to_string();
    hash.truncate(count);
    hash
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_items_of_two_states_never_share_a_key() {
        let vault = VaultId::try_new("abc").unwrap();
        let key = |destination: &str| StateKey {
            vault_id: vault.clone(),
            vault_name: String::new(),
            destination: destination.to_owned(),
        };
        let first = ItemKeys::of_vault(&vault);
        let second = ItemKeys::of_destination(&key("s3://b/two"));
        let third = ItemKeys::of_destination(&key("s3://b/three"));
        let path = VaultPath::parse("a/b.md").unwrap();
        let longer = ItemKeys::of_vault(&VaultId::try_new("abcd").unwrap());
        for (one, other) in [(&first, &second), (&second, &third), (&third, &first), (&longer, &first)] {
            let own = [
                one.file(&path),
                one.page("failed", 1, 0),
                one.page("failed", 4, 3),
                one.intents(0),
                one.progress(),
            ];
            assert!(own.iter().all(|key| one.own(key) && !other.own(key)));
            assert!(!one.own(one.head()));
            assert_ne!(one.head(), other.head());
            assert!(!one.file(&path).starts_with(&other.files()));
            assert_ne!(one.progress(), other.progress());
            assert!(own.iter().all(|key| ItemKeys::vault_of_head(key).is_none()));
        }
        assert!(first.file(&path).starts_with(&first.files()));
        assert!(
            [&first, &second]
                .iter()
                .all(|keys| ItemKeys::vault_of_head(keys.head()).as_ref() == Some(&vault))
        );
        assert_eq!(first.progress(), "progress#abc");
        assert_eq!(first.page("failed", 1, 0), "failed#abc");
    }
}

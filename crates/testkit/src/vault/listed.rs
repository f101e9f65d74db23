//! Vaults in the format of the service's list, for tests that need no server.

use obsync_protocol::VaultInfo;

/// An end-to-end encrypted vault with this id and name, and otherwise default values.
///
/// # Panics
///
/// If the id is invalid.
pub fn vault_info(id: &str, name: &str) -> VaultInfo {
    VaultInfo {
        id: id.parse().unwrap_or_else(|error| panic!("{id}: {error}")),
        uid: String::new(),
        name: name.to_owned(),
        password: None,
        salt: String::new(),
        created: 0,
        host: String::new(),
        region: String::new(),
        size: 0,
        encryption_version: 3,
    }
}

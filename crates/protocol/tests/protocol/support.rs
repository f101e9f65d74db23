//! Shared helpers of the tests.

use obsync_protocol::{EncryptionVersion, MasterKey, VaultKeys};

/// Every encryption version.
pub(crate) const VERSIONS: [EncryptionVersion; 3] =
    [EncryptionVersion::V0, EncryptionVersion::V2, EncryptionVersion::V3];

/// The master key of the cipher vectors.
pub(crate) const MASTER_KEY: &str = "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f";

/// Keys for a vault of this version; the same ones every time, without the cost of deriving a master key.
pub(crate) fn keys(version: EncryptionVersion) -> VaultKeys {
    VaultKeys::new(&MasterKey::from_hex(MASTER_KEY).expect("64 digits"), version, "salt")
}

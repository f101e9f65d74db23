//! The account and the keys of its vaults: signing in, passwords, stored tokens and keys, pins.

pub(crate) mod admission;
pub(crate) mod credentials;
pub(crate) mod keys;
pub(crate) mod password;
pub(crate) mod pins;
pub(crate) mod secret_text;
pub(crate) mod sign_in;
pub(crate) mod vault_choice;
pub(crate) mod vault_keys;

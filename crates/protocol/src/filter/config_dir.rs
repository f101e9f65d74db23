//! Names of configuration folders, as a user gives them.

use thiserror::Error;

use crate::VaultPath;

/// A text that is not the name of a configuration folder.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("it is the name of one folder, such as .obsidian")]
pub struct ConfigDirError;

/// Checks the name of a configuration folder: one folder at the vault's root, with a name that obsync may write.
///
/// # Errors
/// [`ConfigDirError`] if it is a path of several parts or cannot be written.
pub fn parse_config_dir(text: &str) -> Result<String, ConfigDirError> {
    match VaultPath::parse(text) {
        Ok(path) if !text.contains('/') && path.check_to_write().is_ok() => Ok(text.to_owned()),
        _ => Err(ConfigDirError),
    }
}

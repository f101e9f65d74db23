//! The directories of obsync: `OBSYNC_HOME`, else the XDG folders.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use etcetera::BaseStrategy;

use crate::exit::{Exit, Failed};

/// The home of a user without one: nothing exists there, and nothing is written there.
const NOWHERE: &str = "/nonexistent/obsync";

/// The two directories of one user of obsync.
#[derive(Clone, Debug)]
pub(crate) struct Home {
    config: PathBuf,
    state: PathBuf,
}

impl Home {
    /// `OBSYNC_HOME` when it is set and not empty (then `config` and `state` below it), else the XDG folders.
    /// A user of a container may have neither: then nothing is stored.
    pub(crate) fn find(obsync_home: Option<OsString>) -> Result<Self, Failed> {
        match obsync_home.filter(|home| !home.is_empty()) {
            Some(home) => {
                let home = std::path::absolute(&home).map_err(|error| {
                    Failed::cannot(format_args!("use OBSYNC_HOME {}", Path::new(&home).display()), &error)
                })?;
                Ok(Home { config: home.join("config"), state: home.join("state") })
            }
            None => Ok(Self::of_user().unwrap_or_else(Self::nowhere)),
        }
    }

    fn of_user() -> Option<Self> {
        let base = etcetera::choose_base_strategy().ok()?;
        // Not every convention has a folder for state.
        let state = base.state_dir().unwrap_or_else(|| base.data_dir());
        Some(Home { config: base.config_dir().join("obsync"), state: state.join("obsync") })
    }

    fn nowhere() -> Self {
        let nowhere = Path::new(NOWHERE);
        Home { config: nowhere.join("config"), state: nowhere.join("state") }
    }

    /// Refuses actions that need a home.
    ///
    /// # Errors
    /// When there is none.
    pub(crate) fn require(&self) -> Result<(), Failed> {
        require_somewhere(&self.state)
    }

    /// The directory of tokens and derived keys; only its owner can read it.
    pub(crate) fn config(&self) -> &Path {
        &self.config
    }

    /// The directory of the state databases.
    pub(crate) fn state(&self) -> &Path {
        &self.state
    }
}

/// Refuses to store anything for a user without a home.
///
/// # Errors
/// When `directory` lies there.
pub(crate) fn require_somewhere(directory: &Path) -> Result<(), Failed> {
    match directory.starts_with(NOWHERE) {
        true => Err(Failed::new(
            Exit::Error,
            "cannot find your home directory; set OBSYNC_HOME to a directory where obsync may keep its data",
        )),
        false => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_kept_where_there_is_no_home() {
        let home = Home::nowhere();
        assert_eq!(home.require().unwrap_err().exit, Exit::Error);
        assert!(require_somewhere(home.config()).is_err());
        assert!(Home::find(Some("/srv/obsync".into())).unwrap().require().is_ok());
    }

    #[test]
    fn obsync_home_holds_both_directories() {
        let home = Home::find(Some("/srv/obsync".into())).unwrap();
        assert_eq!(home.config(), Path::new("/srv/obsync/config"));
        assert_eq!(home.state(), Path::new("/srv/obsync/state"));
    }

    #[test]
    fn an_empty_obsync_home_counts_as_unset() {
        let home = Home::find(Some(OsString::new())).unwrap();
        assert!(home.config().ends_with("obsync"));
        assert_ne!(home.config(), home.state());
    }
}

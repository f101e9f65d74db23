//! The direction in which vaults are synced: a setting, which an event can only narrow.

use std::str::FromStr;

use obsync_core::{MaxDelete, SyncDirection};
use serde::Deserialize;

use crate::variables::Variables;

/// A direction of syncing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Direction {
    /// From the vault to the bucket. Nothing is ever written to the vault.
    #[default]
    Pull,
    /// Both ways.
    Sync,
    /// From the bucket to the vault.
    Push,
}

/// A text that is no direction.
#[derive(Debug, thiserror::Error)]
#[error("is none of `pull`, `sync` and `push`")]
pub(crate) struct DirectionError;

impl FromStr for Direction {
    type Err = DirectionError;

    fn from_str(text: &str) -> Result<Self, DirectionError> {
        [Direction::Pull, Direction::Sync, Direction::Push]
            .into_iter()
            .find(|direction| direction.as_str() == text)
            .ok_or(DirectionError)
    }
}

impl Direction {
    /// Its name in settings and events.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Direction::Pull => "pull",
            Direction::Sync => "sync",
            Direction::Push => "push",
        }
    }

    /// This direction, narrowed by an event. `None`: the event asks for more.
    pub(crate) fn narrowed(self, asked: Option<Direction>) -> Option<Direction> {
        match asked {
            None => Some(self),
            Some(asked) => (asked == self || self == Direction::Sync).then_some(asked),
        }
    }

    pub(crate) fn of_engine(self) -> obsync_core::Direction {
        self.sends().map_or(obsync_core::Direction::Pull, Into::into)
    }

    /// The direction for the engine, if it sends.
    pub(crate) fn sends(self) -> Option<SyncDirection> {
        match self {
            Direction::Pull => None,
            Direction::Sync => Some(SyncDirection::Both),
            Direction::Push => Some(SyncDirection::Push { mirrors: false }),
        }
    }
}

/// The direction, and settings of sending.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SendingSettings {
    /// Which way.
    pub(crate) direction: Direction,
    /// Objects that are missing count as deleted.
    pub(crate) deletes: bool,
    /// The configuration folder is sent, too.
    pub(crate) configuration: bool,
    /// Limit of deletions in a vault before they are held back.
    pub(crate) max_delete: MaxDelete,
}

impl SendingSettings {
    /// Reads `OBSYNC_DIRECTION` and the variables that go with it.
    pub(crate) fn read(variables: &mut Variables<'_>) -> Self {
        SendingSettings {
            direction: variables.parsed("OBSYNC_DIRECTION").unwrap_or_default(),
            deletes: variables.flag("OBSYNC_BUCKET_DELETES", false),
            configuration: variables.flag("OBSYNC_PUSH_CONFIGS", false),
            max_delete: variables.parsed("OBSYNC_MAX_DELETE_IN_VAULT").unwrap_or(MaxDelete::InVault),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_can_narrow_the_setting_and_never_widen_it() {
        use Direction::{Pull, Push, Sync};
        for (set, asked, taken) in [
            (Pull, None, Some(Pull)),
            (Pull, Some(Pull), Some(Pull)),
            (Pull, Some(Sync), None),
            (Pull, Some(Push), None),
            (Push, Some(Push), Some(Push)),
            (Push, Some(Pull), None),
            (Push, Some(Sync), None),
            (Sync, None, Some(Sync)),
            (Sync, Some(Pull), Some(Pull)),
            (Sync, Some(Push), Some(Push)),
        ] {
            assert_eq!(set.narrowed(asked), taken, "{set:?} {asked:?}");
        }
        assert!("both".parse::<Direction>().is_err() && "".parse::<Direction>().is_err());
        assert_eq!("push".parse::<Direction>().unwrap(), Push);
    }
}

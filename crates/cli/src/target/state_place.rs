//! The place of states, from the command line.

use std::fmt;
use std::str::FromStr;

use obsync_dynamodb::TableName;

/// The name of [`StatePlace::Local`].
const LOCAL: &str = "local";

/// Where states are kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum StatePlace {
    /// In databases of this computer.
    Local,
    /// In a DynamoDB table, which other computers and functions use, too.
    Table(TableName),
}

/// An empty text counts as unset: container tools pass missing values on like that.
impl FromStr for StatePlace {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "" | LOCAL => Ok(StatePlace::Local),
            _ if text.starts_with("dynamodb://") => {
                text.parse().map(StatePlace::Table).map_err(|error| format!("{error}"))
            }
            _ => Err(format!("it is {LOCAL} or dynamodb://TABLE")),
        }
    }
}

impl fmt::Display for StatePlace {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            StatePlace::Local => formatter.write_str(LOCAL),
            StatePlace::Table(table) => table.fmt(formatter),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_state_is_local_or_in_a_table() {
        for (text, place) in [("", "local"), ("local", "local"), ("dynamodb://", "dynamodb://obsync-state")] {
            assert_eq!(text.parse::<StatePlace>().unwrap().to_string(), place);
        }
        for wrong in ["obsync-state", "sqlite", "dynamodb://a/b", "s3://bucket"] {
            assert!(wrong.parse::<StatePlace>().is_err(), "{wrong}");
        }
    }
}

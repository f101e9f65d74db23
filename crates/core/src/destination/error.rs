//! Errors of a destination.

use std::io;

use obsync_protocol::{Uid, VaultPath};

use crate::model::KnownContent;
use crate::problem::ProblemCode;

/// An error of a destination. Each is a sentence, with the remedy where there is one.
#[derive(Debug, thiserror::Error)]
pub enum DestinationError {
    /// A segment or the whole path is longer than the destination can name.
    #[error("the name is too long for {location}{}; shorten it in Obsidian", in_parentheses(said.as_deref()))]
    NameTooLong {
        /// The path in question.
        path: String,
        /// The destination.
        location: String,
        /// The service's own message, if the service refused the name.
        said: Option<String>,
    },
    /// The destination cannot have a name like this (for reasons other than its length).
    #[error("{location} cannot store a file named {path:?} ({reason}); rename it in Obsidian")]
    NameRefused {
        /// The path in question.
        path: String,
        /// The destination.
        location: String,
        /// Why.
        reason: String,
    },
    /// A file is where a folder must be, or a folder where a file must be.
    #[error("{:?} is in the way of {path:?}; move it away", occupant.as_str())]
    InTheWay {
        /// The path that could not be made.
        path: String,
        /// The path of the obstacle.
        occupant: VaultPath,
    },
    /// Something else than expected is at the path of a publication. It was left alone.
    #[error("{path:?} in {location} was changed by another program meanwhile")]
    Changed {
        /// The path in question.
        path: String,
        /// The destination.
        location: String,
        /// The content of the file that is there, where it was read: only one that could make a difference is.
        found: Option<KnownContent>,
        /// The version of this vault that the file says it was written as, where its content still is that version's. `None` in a
        /// destination whose files say nothing of themselves, and where `found` is.
        version: Option<Uid>,
    },
    /// A symbolic link leads out of the destination.
    #[error(
        "{path:?} leads out of {location} through a symbolic link, which obsync does not follow; remove the link"
    )]
    LeadsOut {
        /// The path in question.
        path: String,
        /// The destination.
        location: String,
    },
    /// The staged content of this path is of no use any more, and cannot be had from the place itself: the content is to be
    /// downloaded. A destination says so at most once for each path in a run.
    #[error("the content of {path:?} must come from the vault, because {location} refuses it ({reason})")]
    ContentNeeded {
        /// The path in question.
        path: String,
        /// The destination.
        location: String,
        /// The destination's own message.
        reason: String,
    },
    /// No right to write or read.
    #[error("no permission to {action} {path:?} in {location}; check its owner and mode")]
    PermissionDenied {
        /// The attempted action.
        action: &'static str,
        /// The path in question.
        path: String,
        /// The destination.
        location: String,
    },
    /// No space or quota is left. Fatal.
    #[error(
        "{location} is full; free some space and run the same command again, it goes on where it stopped"
    )]
    Full {
        /// The destination.
        location: String,
    },
    /// Another process works on the same destination. Fatal.
    #[error("another obsync is working on {location}; wait for it to end, or stop it")]
    Locked {
        /// The destination.
        location: String,
    },
    /// The run was told to stop before this was done, or was known to be done. Fatal, but nothing is wrong.
    #[error("the run was stopped before everything was in {location}; the next run continues there")]
    Stopped {
        /// The destination.
        location: String,
    },
    /// The destination as a whole cannot be used. Fatal.
    #[error("{location} cannot be used: {reason}")]
    Unavailable {
        /// The destination.
        location: String,
        /// The problem and the remedy.
        reason: String,
        /// The same for scripts.
        code: ProblemCode,
    },
    /// Anything else the system says about one path.
    #[error("cannot {action} {path:?} in {location}: {source}")]
    Io {
        /// The attempted action.
        action: &'static str,
        /// The path in question.
        path: String,
        /// The destination.
        location: String,
        /// The system's word.
        source: io::Error,
    },
}

impl DestinationError {
    /// Whether going on with other files is pointless.
    pub fn is_fatal(&self) -> bool {
        matches!(
            self,
            DestinationError::Full { .. }
                | DestinationError::Locked { .. }
                | DestinationError::Stopped { .. }
                | DestinationError::Unavailable { .. }
        )
    }

    /// The obstacle, if that is why something failed.
    pub(crate) fn occupant(&self) -> Option<VaultPath> {
        match self {
            DestinationError::InTheWay { occupant, .. } => Some(occupant.clone()),
            _ => None,
        }
    }
}

fn in_parentheses(said: Option<&str>) -> String {
    said.map(|said| format!(" ({said})")).unwrap_or_default()
}

impl From<&DestinationError> for ProblemCode {
    fn from(error: &DestinationError) -> Self {
        match error {
            DestinationError::Full { .. } => ProblemCode::DestinationFull,
            DestinationError::Locked { .. } => ProblemCode::AlreadyRunning,
            DestinationError::Stopped { .. } => ProblemCode::Interrupted,
            DestinationError::Unavailable { code, .. } => *code,
            _ => ProblemCode::Destination,
        }
    }
}

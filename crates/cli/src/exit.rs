//! Exit codes as documented, and the error type that carries a sentence to them.
//!
//! Each crate below the program has its error enum. Here each error is mapped to a code that a script can act
//! on; the sentence for people is kept whole, with its source chain.

use std::error::Error;
use std::fmt;
use std::process::ExitCode;

use obsync_client::ClientError;
use obsync_core::{DestinationError, Ending, Problem, ProblemCode, StateError};
use obsync_protocol::with_reasons;
use serde::Serialize;

use crate::ui::human;

/// Precedes the name of a process that holds a lock, in the sentences of core's errors.
const HELD_BY: &str = " (held by ";

/// The program's exit status. `obsync help exit-codes` has the same table for people.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Exit {
    /// 0: done.
    Done,
    /// 1: an error that none of the others describes.
    Error,
    /// 2: the command line is invalid.
    Usage,
    /// 3: the account or vault password, the code, the token or the subscription is not accepted.
    SignIn,
    /// 4: no such vault or destination, or more than one.
    NotFound,
    /// 5: finished, but some files failed or differ.
    Failures,
    /// 6: interrupted or cut off midway; the next run resumes.
    Unfinished,
    /// 7: another obsync works on the destination.
    AlreadyRunning,
    /// 8: the service was not reached, or may not be contacted; nothing was done.
    Unreachable,
    /// 9: finished, except for deletions that somebody has to confirm.
    HeldBack,
    /// 10: the last successful check is too old.
    TooOld,
    /// 11: the vault on the server is older than the destination; nothing was removed.
    VaultOlder,
}

impl Exit {
    /// The numeric exit status.
    pub fn code(self) -> u8 {
        match self {
            Exit::Done => 0,
            Exit::Error => 1,
            Exit::Usage => 2,
            Exit::SignIn => 3,
            Exit::NotFound => 4,
            Exit::Failures => 5,
            Exit::Unfinished => 6,
            Exit::AlreadyRunning => 7,
            Exit::Unreachable => 8,
            Exit::HeldBack => 9,
            Exit::TooOld => 10,
            Exit::VaultOlder => 11,
        }
    }
}

impl Exit {
    /// Its name in JSON.
    pub(crate) fn ending(self) -> Ending {
        match self {
            Exit::Done => Ending::Complete,
            Exit::Failures => Ending::Failures,
            Exit::HeldBack => Ending::HeldBack,
            Exit::VaultOlder => Ending::VaultOlder,
            Exit::Unfinished => Ending::Interrupted,
            Exit::TooOld => Ending::TooOld,
            Exit::AlreadyRunning => Ending::Skipped,
            Exit::Error | Exit::Usage | Exit::SignIn | Exit::NotFound | Exit::Unreachable => Ending::Failed,
        }
    }

    /// The default code of a failure.
    fn problem(self) -> ProblemCode {
        match self {
            Exit::Done | Exit::Error => ProblemCode::Error,
            Exit::Usage => ProblemCode::Usage,
            Exit::SignIn => ProblemCode::SignIn,
            Exit::NotFound => ProblemCode::VaultNotFound,
            Exit::Failures => ProblemCode::Failures,
            Exit::Unfinished => ProblemCode::Interrupted,
            Exit::AlreadyRunning => ProblemCode::AlreadyRunning,
            Exit::Unreachable => ProblemCode::Unreachable,
            Exit::HeldBack => ProblemCode::HeldBack,
            Exit::TooOld => ProblemCode::TooOld,
            Exit::VaultOlder => ProblemCode::VaultOlder,
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        ExitCode::from(exit.code())
    }
}

/// Why a command did not do its work: one sentence for people, one [`Exit`] for scripts.
#[derive(Debug)]
pub(crate) struct Failed {
    /// The exit status.
    pub(crate) exit: Exit,
    /// A more precise code for scripts.
    pub(crate) code: ProblemCode,
    /// The cause and the remedy.
    pub(crate) message: String,
    /// The remedy for scripts, where the code alone does not imply it.
    pub(crate) hint: Option<String>,
    /// The state itself is unusable, so nothing can be recorded there.
    pub(crate) of_state: bool,
}

impl Failed {
    /// A failure with its own sentence.
    pub(crate) fn new(exit: Exit, message: impl Into<String>) -> Self {
        Failed { exit, code: exit.problem(), message: message.into(), hint: None, of_state: false }
    }

    /// The same with a more precise code.
    pub(crate) fn coded(self, code: ProblemCode) -> Self {
        Failed { code, ..self }
    }

    /// The same with a remedy.
    pub(crate) fn hinted(self, hint: Option<String>) -> Self {
        Failed { hint, ..self }
    }

    /// The failure for people, with times in local time. Only the part about the process that holds a lock
    /// has a time; the rest can contain names of files, and is unchanged.
    pub(crate) fn for_people(&self) -> String {
        match self.message.split_once(HELD_BY) {
            Some((before, holder)) if self.exit == Exit::AlreadyRunning => {
                format!("{before}{HELD_BY}{}", human::with_local_times(holder))
            }
            _ => self.message.clone(),
        }
    }

    /// The failure for scripts.
    pub(crate) fn problem(&self) -> Problem {
        let problem = Problem::new(self.code, self.message.clone());
        match &self.hint {
            Some(hint) => problem.with_hint(hint),
            None => problem,
        }
    }

    /// A failure by an error of another crate, with its source chain.
    pub(crate) fn of(exit: Exit, error: &(dyn Error + 'static)) -> Self {
        Failed::new(exit, with_reasons(error))
    }

    /// A failure of `action` (as in "cannot `action`") because of `error`.
    pub(crate) fn cannot(action: impl fmt::Display, error: &(dyn Error + 'static)) -> Self {
        Failed::new(Exit::Error, format!("cannot {action}: {}", with_reasons(error)))
    }

    /// The work was interrupted.
    pub(crate) fn interrupted() -> Self {
        Failed::new(Exit::Unfinished, "interrupted; nothing was lost")
    }
}

impl fmt::Display for Failed {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.message)
    }
}

impl Error for Failed {}

impl From<ClientError> for Failed {
    /// Maps an error of the service or the network, assuming that nothing was done yet.
    fn from(error: ClientError) -> Self {
        let exit = match &error {
            _ if error.is_auth() => Exit::SignIn,
            ClientError::VaultNotFound => Exit::NotFound,
            ClientError::InvalidOption { .. } => Exit::Usage,
            ClientError::HostNotAllowed { .. }
            | ClientError::Tls { .. }
            | ClientError::Certificate { .. }
            | ClientError::Proxy { .. }
            | ClientError::NotTheService { .. }
            | ClientError::Http { .. } => Exit::Unreachable,
            _ if error.is_retryable() || error.ends_run() => Exit::Unreachable,
            _ => Exit::Error,
        };
        let failed = Failed::of(exit, &error).coded(ProblemCode::from(&error));
        match remedy(&error) {
            Some(remedy) => Failed { message: format!("{failed} ({remedy})"), ..failed },
            None => failed,
        }
    }
}

impl From<StateError> for Failed {
    fn from(error: StateError) -> Self {
        let exit = match &error {
            StateError::Locked { .. } | StateError::LeaseLost { .. } => Exit::AlreadyRunning,
            _ => Exit::Error,
        };
        let failed = Failed::of(exit, &error).coded(ProblemCode::from(&error));
        Failed { of_state: true, ..failed }
    }
}

impl From<DestinationError> for Failed {
    fn from(error: DestinationError) -> Self {
        let exit = match &error {
            DestinationError::Locked { .. } => Exit::AlreadyRunning,
            _ => Exit::Error,
        };
        Failed::of(exit, &error).coded(ProblemCode::from(&error))
    }
}

/// The command to type, which the error's own sentence cannot know. Nothing that the service said becomes
/// part of a command: it could name a host of its own to be allowed.
fn remedy(error: &ClientError) -> Option<String> {
    match error {
        ClientError::NotSignedIn => Some("`obsync login`".to_owned()),
        ClientError::ComputedCodesRefused { .. } => Some("OBSIDIAN_TOTP_SECRET".to_owned()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_exit_has_its_own_code() {
        let all = [
            Exit::Done,
            Exit::Error,
            Exit::Usage,
            Exit::SignIn,
            Exit::NotFound,
            Exit::Failures,
            Exit::Unfinished,
            Exit::AlreadyRunning,
            Exit::Unreachable,
            Exit::HeldBack,
            Exit::TooOld,
            Exit::VaultOlder,
        ];
        let codes: Vec<u8> = all.into_iter().map(Exit::code).collect();
        assert!(codes.is_sorted_by(|a, b| a < b), "{codes:?}");
    }
}

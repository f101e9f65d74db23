//! Problems for scripts: one format for every program, with stable codes.
//!
//! docs/JSON.md lists the codes. A code is never reused for something else and never removed.

use obsync_client::ClientError;
use serde::Serialize;

/// The version of everything that is printed as JSON. It rises when a field is added, removed, renamed or changes its type.
pub const SCHEMA_VERSION: u32 = 1;

/// Why something was not done, or not completely.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Problem {
    /// The code, for scripts.
    pub code: ProblemCode,
    /// The message, for people.
    pub message: String,
    /// True if a later attempt may succeed without any action.
    pub retryable: bool,
    /// The remedy, if known.
    pub hint: Option<String>,
}

impl Problem {
    /// A problem with the default hint of its code.
    pub fn new(code: ProblemCode, message: impl Into<String>) -> Self {
        let hint = code.hint().map(str::to_owned);
        Problem { code, message: message.into(), retryable: code.is_retryable(), hint }
    }

    /// The same with another hint.
    #[must_use]
    pub fn with_hint(self, hint: impl Into<String>) -> Self {
        Problem { hint: Some(hint.into()), ..self }
    }

    /// The same, if only an action can resolve it, whatever its code says.
    #[must_use]
    pub fn lasting(self) -> Self {
        Problem { retryable: false, ..self }
    }
}

/// The outcome. Reports of runs, of commands and of the function share these values.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub enum Ending {
    /// Everything was done.
    Complete,
    /// Dry run: the report lists what would be done.
    DryRun,
    /// Done, except for changes that failed; or differences were found.
    Failures,
    /// Done, except for deletions that have to be confirmed.
    HeldBack,
    /// The vault on the server is older than the destination; nothing was removed.
    VaultOlder,
    /// Stopped or cut off midway; the next run continues.
    Interrupted,
    /// The last successful check is too old.
    TooOld,
    /// Nothing was done, because another obsync is working on the destination.
    Skipped,
    /// Nothing was done, because another invocation of the function did it or is doing it.
    Superseded,
    /// Failed.
    Failed,
}

macro_rules! codes {
    ($($(#[$text:meta])* $name:ident, $word:literal, $retryable:literal, $hint:expr;)*) => {
        /// The kind of problem.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
        #[serde(rename_all = "snake_case")]
        #[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
        pub enum ProblemCode {
            $($(#[$text])* $name,)*
        }

        impl ProblemCode {
            /// Every code.
            pub const ALL: &[ProblemCode] = &[$(ProblemCode::$name,)*];

            /// The word for scripts.
            pub fn as_str(self) -> &'static str {
                match self {
                    $(ProblemCode::$name => $word,)*
                }
            }

            /// True if the same command may succeed later by itself.
            pub fn is_retryable(self) -> bool {
                match self {
                    $(ProblemCode::$name => $retryable,)*
                }
            }

            /// The default hint.
            pub fn hint(self) -> Option<&'static str> {
                match self {
                    $(ProblemCode::$name => $hint,)*
                }
            }
        }
    };
}

codes! {
    /// Any other error.
    Error, "error", false, None;
    /// The command line, an event or a setting is invalid.
    Usage, "usage", false, None;
    /// Not signed in, or the token is no longer valid.
    NotSignedIn, "not_signed_in", false, Some("run `obsync login`, or set OBSIDIAN_AUTH_TOKEN");
    /// The email address, password or two-factor code is wrong or missing.
    SignIn, "sign_in", false, None;
    /// The subscription to Obsidian Sync has expired.
    SubscriptionExpired, "subscription_expired", false, Some("renew the subscription in the account's settings");
    /// The vault password is wrong or missing.
    VaultPassword, "vault_password", false, Some("set OBSYNC_VAULT_PASSWORD, or pipe it in with --password-stdin");
    /// The vault's encryption changed, or is not the requested one.
    EncryptionChanged, "encryption_changed", false, None;
    /// There is no such vault.
    VaultNotFound, "vault_not_found", false, Some("`obsync vaults` lists the vaults of the account");
    /// More than one vault matches.
    VaultAmbiguous, "vault_ambiguous", false, Some("give the vault's id; `obsync vaults` lists them");
    /// The destination belongs to another vault.
    OtherVault, "other_vault", false, None;
    /// No vault was pulled to this destination.
    DestinationUnknown, "destination_unknown", false, Some("`obsync status` lists the destinations");
    /// The service could not be reached.
    Unreachable, "unreachable", true, None;
    /// The service did not answer in time, or too slowly.
    TimedOut, "timed_out", true, None;
    /// The service is overloaded.
    Overloaded, "overloaded", true, None;
    /// A certificate was rejected, or no encrypted connection could be established.
    Certificate, "certificate", false, Some("docs/NETWORKS.md: --ca-file");
    /// A proxy refused the connection.
    Proxy, "proxy", false, Some("docs/NETWORKS.md");
    /// Something other than the service answered.
    NotTheService, "not_the_service", false, None;
    /// The vault is on a host that the token must not be sent to.
    HostNotAllowed, "host_not_allowed", false, None;
    /// The service refused the request, or violated the protocol.
    Service, "service", false, None;
    /// The vault lists more entries than obsync accepts.
    VaultTooLarge, "vault_too_large", false, None;
    /// The destination is full.
    DestinationFull, "destination_full", false, Some("free some space and run the same command again");
    /// The credentials of the destination or of the state's table are missing, refused or expired.
    Credentials, "credentials", false, Some("renew them, or choose another profile or account; set the clock if it is wrong");
    /// The credentials are valid, but lack a permission.
    AccessDenied, "access_denied", false, Some("allow it to these credentials; for AWS `obsync aws init --bucket BUCKET --dry-run` prints the policy, run with credentials that can read the bucket's settings");
    /// No region is set, or the bucket is in another one.
    Region, "region", false, Some("set AWS_REGION");
    /// There is no such bucket, container or table.
    NoSuchPlace, "no_such_place", false, Some("check the name and the region; on AWS `obsync aws init` creates bucket and table");
    /// The destination cannot be used.
    Destination, "destination", false, None;
    /// The state cannot be read or written.
    State, "state", false, None;
    /// The state is damaged.
    StateDamaged, "state_damaged", false, Some("`obsync reset DEST`, then pull again: no file is downloaded twice");
    /// The state was written by a newer obsync.
    StateNewer, "state_newer", false, Some("update obsync");
    /// Another obsync is working on the destination.
    AlreadyRunning, "already_running", true, None;
    /// The run was stopped, or cut off midway.
    Interrupted, "interrupted", true, Some("run the same command again; it continues where this one stopped");
    /// Some changes could not be applied.
    Failures, "failures", true, None;
    /// The destination differs from what was pulled.
    Differs, "differs", false, None;
    /// A pull did not finish, so the destination is not the whole vault.
    Unfinished, "unfinished", false, None;
    /// Deletions are held back.
    HeldBack, "held_back", false, Some("look at the deletions; `obsync confirm DEST` allows them");
    /// The last successful check is too old.
    TooOld, "too_old", false, None;
    /// The vault on the server is older than the destination.
    VaultOlder, "vault_older", false, Some("look at the vault in Obsidian; if it is as it should be, run the same with --accept-older-vault");
    /// The result could not be written.
    Output, "output", false, None;
}

impl From<&ClientError> for ProblemCode {
    fn from(error: &ClientError) -> Self {
        match error {
            ClientError::NotSignedIn => ProblemCode::NotSignedIn,
            ClientError::SubscriptionExpired => ProblemCode::SubscriptionExpired,
            ClientError::WrongVaultPassword => ProblemCode::VaultPassword,
            _ if error.is_auth() => ProblemCode::SignIn,
            ClientError::VaultNotFound => ProblemCode::VaultNotFound,
            ClientError::InvalidOption { .. } => ProblemCode::Usage,
            ClientError::HostNotAllowed { .. } => ProblemCode::HostNotAllowed,
            ClientError::Tls { .. } | ClientError::Certificate { .. } => ProblemCode::Certificate,
            ClientError::Proxy { temporary: false, .. } => ProblemCode::Proxy,
            ClientError::NotTheService { .. } => ProblemCode::NotTheService,
            // A temporary error is not the proxy's refusal of this user or this host.
            ClientError::Proxy { temporary: true, .. }
            | ClientError::NoAddress { .. }
            | ClientError::Unreachable { .. }
            | ClientError::ConnectionLost { .. } => ProblemCode::Unreachable,
            ClientError::TimedOut { .. } | ClientError::NoListing { .. } | ClientError::TooSlow { .. } => {
                ProblemCode::TimedOut
            }
            ClientError::Overloaded | ClientError::OverloadedForLong { .. } => ProblemCode::Overloaded,
            ClientError::Http { .. } if error.is_retryable() => ProblemCode::Overloaded,
            ClientError::Randomness { .. } | ClientError::Source { .. } | ClientError::SourceChanged => {
                ProblemCode::Error
            }
            _ => ProblemCode::Service,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_code_is_one_word_for_scripts_and_for_the_program() {
        for code in ProblemCode::ALL {
            assert_eq!(serde_json::to_value(code).unwrap(), code.as_str(), "{code:?}");
        }
        // Scripts rely on them: this test fails if a code is renamed or removed.
        let words: Vec<&str> = ProblemCode::ALL.iter().map(|code| code.as_str()).collect();
        insta::assert_snapshot!(words.join("\n"));
    }

    #[test]
    fn a_proxy_that_refuses_and_one_that_fails_have_different_codes() {
        for temporary in [true, false] {
            let error = ClientError::Proxy { reason: "it answered".to_owned(), temporary };
            let code = ProblemCode::from(&error);
            assert_eq!(code, if temporary { ProblemCode::Unreachable } else { ProblemCode::Proxy });
            assert_eq!(code.is_retryable(), error.is_retryable());
        }
    }

    #[test]
    fn the_documentation_has_every_code_and_no_other() {
        let file = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/JSON.md");
        let text = std::fs::read_to_string(file).unwrap();
        let section = text.split("## Errors").nth(1).unwrap().split("\n## ").next().unwrap();
        let row = |line: &str| {
            let (code, rest) = line.strip_prefix("| `")?.split_once("` | ")?;
            let (retryable, text) = rest.split_once(" | ")?;
            (code != "code" && text.len() > 3).then(|| format!("{code} {retryable}"))
        };
        let documented: Vec<String> = section.lines().filter_map(row).collect();
        let of_code = |code: &ProblemCode| {
            let retryable = if code.is_retryable() { "yes" } else { "no" };
            format!("{} {retryable}", code.as_str())
        };
        assert_eq!(documented, ProblemCode::ALL.iter().map(of_code).collect::<Vec<_>>());
    }
}

//! The command line: every option with the sentence that explains it.
//!
//! No option takes a secret: command lines are visible to every user of a computer. Secrets come from a
//! prompt, from standard input or from the environment.

mod cloud;
mod help;
mod monitoring;
mod syncing;

use std::path::PathBuf;
use std::time::Duration;

use clap::builder::NonEmptyStringValueParser;
use clap::{ArgAction, Args, Parser, Subcommand};
use clap_complete::Shell;
use obsync_client::DEFAULT_API_URL;
use obsync_core::pin::VaultKind;
use obsync_protocol::VaultPath;
use obsync_protocol::limits::LEAST_SPEED;
use url::Url;

use crate::target::destination::Destination;

pub(crate) use cloud::{
    Aws, AwsCommand, AwsInit, CredentialsArgs, CredentialsCommand, CredentialsExport, CredentialsRevoke,
    Objects, StateOption,
};
use help::FIRST_SCREEN;
pub(crate) use help::{Help, OPTIONS, TOPICS};
use syncing::vault_folder;
pub(crate) use syncing::{BucketDeletes, Choice, EncryptionOption, Pull, PullHere, Push, Sync};

/// Copies Obsidian Sync vaults to folders and buckets, and syncs them both ways.
#[derive(Debug, Parser)]
#[command(name = "obsync", version, help_template = FIRST_SCREEN, disable_help_subcommand = true, max_term_width = 80)]
pub(crate) struct Arguments {
    #[command(flatten)]
    pub(crate) global: Global,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// Options that every command has.
#[derive(Debug, Args)]
#[command(next_help_heading = "Global options")]
pub(crate) struct Global {
    /// URL of the sync service
    #[arg(
        long,
        value_name = "URL",
        env = "OBSYNC_API_URL",
        hide_env_values = true,
        default_value = DEFAULT_API_URL,
        value_parser = api_url,
        global = true
    )]
    pub(crate) api_url: Url,
    /// Allow vaults on this host, besides hosts under obsidian.md (HOST or HOST:PORT; repeatable)
    #[arg(
        long,
        value_name = "HOST",
        env = "OBSYNC_ALLOW_HOST",
        hide_env_values = true,
        value_delimiter = ',',
        action = ArgAction::Append,
        global = true
    )]
    pub(crate) allow_host: Vec<String>,
    /// Timeout for a response of the service, in seconds [default: 60; connecting and idle connections: 120]; and for
    /// a request to a bucket or a table, with retries [default: 180]
    #[arg(
        long,
        value_name = "SECONDS",
        env = "OBSYNC_TIMEOUT",
        hide_env_values = true,
        value_parser = patience,
        allow_hyphen_values = true,
        global = true
    )]
    pub(crate) timeout: Option<Patience>,
    /// Minimum speed of the service while a response is due, in bytes per second over ten minutes; 0 for no minimum
    #[arg(
        long,
        value_name = "BYTES",
        env = "OBSYNC_MIN_SPEED",
        hide_env_values = true,
        default_value_t = LEAST_SPEED,
        value_parser = min_speed,
        allow_hyphen_values = true,
        global = true
    )]
    pub(crate) min_speed: u64,
    /// PEM file of certificates to trust in addition to the system's, for the service, buckets and tables
    #[arg(long, value_name = "FILE", env = "OBSYNC_CA_FILE", hide_env_values = true, global = true)]
    pub(crate) ca_file: Option<PathBuf>,
    /// Log each action to standard error (-vv: details for developers, with timestamps)
    #[arg(short, long, action = ArgAction::Count, global = true)]
    pub(crate) verbose: u8,
    /// Print only errors and the requested output
    #[arg(short, long, global = true, conflicts_with = "verbose")]
    pub(crate) quiet: bool,
}

/// The user's time limit for an answer; `None` if not set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Patience(pub(crate) Option<Duration>);

/// A command.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    Login(Login),
    Logout(Logout),
    Vaults(Vaults),
    Create(Create),
    Pull(PullHere),
    Sync(Sync),
    Push(Push),
    Status(Status),
    Log(Log),
    CheckService(CheckService),
    Verify(Verify),
    Reset(Reset),
    Unlink(Unlink),
    Confirm(Confirm),
    Credentials(CredentialsArgs),
    Aws(Aws),
    Totp(Totp),
    Completions(Completions),
    Help(Help),
}

/// Sign in and store the token
///
/// Prompts for missing values. The token is stored in a file that only you can read; the password is not stored. If
/// OBSIDIAN_AUTH_TOKEN is set, that token is only checked, and nothing is stored.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  obsync login
  obsync login --email me@example.com --mfa 123456
  pass obsidian | obsync login --email me@example.com --password-stdin
  OBSIDIAN_EMAIL=me@example.com OBSIDIAN_PASSWORD=… OBSIDIAN_TOTP_SECRET=… obsync login")]
pub(crate) struct Login {
    /// Email address of the account
    #[arg(long, value_name = "EMAIL", env = "OBSIDIAN_EMAIL", hide_env_values = true)]
    pub(crate) email: Option<String>,
    /// Two-factor code, 6 digits [default: from OBSIDIAN_TOTP_SECRET, else a prompt]
    #[arg(long, value_name = "CODE", value_parser = mfa_code)]
    pub(crate) mfa: Option<String>,
    /// Read the password from the first line of standard input
    #[arg(long)]
    pub(crate) password_stdin: bool,
    /// Read the password from the output of a program, run without a shell (such as "pass show obsidian")
    #[arg(long, value_name = "COMMAND", conflicts_with = "password_stdin")]
    pub(crate) password_command: Option<String>,
}

/// Sign out, and delete the token and the keys of vaults
///
/// Revokes the token at the service, and deletes the derived keys of this service's vaults. Pulled notes and their
/// state stay.
#[derive(Debug, Args)]
pub(crate) struct Logout {
    /// Keep the derived keys, so that vault passwords need not be entered again
    #[arg(long)]
    pub(crate) keep_keys: bool,
}

/// List the vaults of the account
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  obsync vaults
  obsync vaults --json | jq -r '.vaults[].vault'")]
pub(crate) struct Vaults {
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

/// Create a vault
///
/// Its name must be unique in the account. Prompts twice for the password of an end-to-end encrypted vault. Nobody
/// can recover that password, or the vault without it. The key derived from it is stored, as by `obsync pull`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  obsync create \"My Vault\"
  obsync create \"My Vault\" --encryption standard
  pass vault | obsync create \"My Vault\" --password-stdin --json")]
pub(crate) struct Create {
    /// Name of the vault
    #[arg(value_name = "NAME", value_parser = NonEmptyStringValueParser::new())]
    pub(crate) name: String,
    /// Encryption of the vault: end-to-end (only you have the password) or standard (the service creates and keeps
    /// the password)
    #[arg(long, value_name = "KIND", default_value = "end-to-end")]
    pub(crate) encryption: VaultKind,
    /// Region where the service stores the vault [default: chosen by the service]
    #[arg(long, value_name = "REGION", value_parser = NonEmptyStringValueParser::new())]
    pub(crate) region: Option<String>,
    /// Read the vault password from the first line of standard input
    #[arg(long)]
    pub(crate) password_stdin: bool,
    /// Read the vault password from the output of a program, run without a shell
    #[arg(long, value_name = "COMMAND", conflicts_with = "password_stdin")]
    pub(crate) password_command: Option<String>,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

/// Show the state of pulled vaults
///
/// Works offline. Shows the last check and change, how the last run ended, the number of consecutive failed runs, and
/// the active run. Failed files are listed with their reasons.
///
/// With a table, also shows which process is working on a vault, and the progress of the function on AWS Lambda.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  obsync status
  obsync status ./notes
  obsync status ./notes --max-age 26h
  obsync status --state dynamodb://obsync-state \"My Vault\"
  obsync status --state dynamodb://obsync-state s3://bucket/notes --json")]
pub(crate) struct Status {
    /// Show only this folder or bucket; with a table, only this bucket or this vault, by name or id
    #[arg(value_name = "DEST")]
    pub(crate) wanted: Option<Destination>,
    /// End with exit status 10 if no run within this time (such as 90s, 30m or 26h) found a destination up to date or
    /// brought it up to date
    #[arg(long, value_name = "DURATION", value_parser = duration, allow_hyphen_values = true)]
    pub(crate) max_age: Option<Duration>,
    #[command(flatten)]
    pub(crate) state: StateOption,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

/// Check the content of every pulled file
///
/// Reads and hashes all files of the folder, and lists files that are missing, changed, or not part of the vault.
/// Works offline and changes nothing. `obsync pull --full` restores missing and changed files. If a pull did not
/// finish, changes failed or deletions are held back, verify reports that and ends with exit status 5.
///
/// In a bucket, verify lists all objects, and compares their sizes and the SHA-256 in their metadata (anyone who
/// replaces an object can replace that too). It reads and hashes objects without a SHA-256.
#[derive(Debug, Args)]
pub(crate) struct Verify {
    /// The folder or bucket
    #[arg(value_name = "DEST")]
    pub(crate) destination: Destination,
    #[command(flatten)]
    pub(crate) state: StateOption,
    /// Wait this long for another obsync that is working on the destination (such as 90s or 10m)
    ///
    /// While a follower (`--follow`) is idle, verify does not wait for it.
    #[arg(long, value_name = "DURATION", value_parser = duration, allow_hyphen_values = true)]
    pub(crate) wait: Option<Duration>,
    /// List every checked file, and whether it was read or compared by its metadata
    #[arg(long)]
    pub(crate) list_files: bool,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

/// Show past changes: on which side, by which device, from which version
///
/// Runs record every change that they make in the destination or in the vault, except for the changes of a first run.
/// Local states keep the newest 20,000 changes of the last 90 days; a state in a table keeps none.
#[derive(Debug, Args)]
pub(crate) struct Log {
    /// The folder or bucket
    #[arg(value_name = "DEST")]
    pub(crate) destination: Destination,
    /// Show only this file or folder of the vault
    #[arg(value_name = "PATH", value_parser = vault_folder)]
    pub(crate) path: Option<VaultPath>,
    #[command(flatten)]
    pub(crate) state: StateOption,
    /// Show at most this many changes, newest first
    #[arg(long, value_name = "NUMBER", default_value_t = 50, value_parser = count, allow_hyphen_values = true)]
    pub(crate) limit: usize,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

/// Test on a scratch vault whether the service does what two-way sync depends on
///
/// Creates a vault on your account, writes some small files to it over several connections, prints the results, and
/// deletes the vault again. Your other vaults are not touched. Exit status 0: everything is as expected; 5: something
/// is not, and you should not use `obsync sync` and `obsync push`.
#[derive(Debug, Args)]
pub(crate) struct CheckService {
    /// Do not ask for confirmation
    #[arg(long)]
    pub(crate) yes: bool,
    /// Keep the scratch vault
    #[arg(long)]
    pub(crate) keep: bool,
    /// Print JSON (needs --yes)
    #[arg(long, requires = "yes")]
    pub(crate) json: bool,
}

/// Forget the state of a destination; no note is touched
///
/// The next pull compares every file, and downloads only those that differ. A reset also frees the folder or bucket
/// for another vault, and removes a damaged state.
#[derive(Debug, Args)]
pub(crate) struct Reset {
    /// The folder or bucket
    #[arg(value_name = "DEST")]
    pub(crate) destination: Destination,
    /// Forget only other folders that were at this path before
    ///
    /// For example, the folder of a disk that was replaced. The state of the folder that is there now stays.
    #[arg(long)]
    pub(crate) gone: bool,
    #[command(flatten)]
    pub(crate) state: StateOption,
    /// Do not ask for confirmation
    #[arg(long)]
    pub(crate) yes: bool,
    /// Print JSON (needs --yes)
    #[arg(long, requires = "yes")]
    pub(crate) json: bool,
}

/// Unlink a folder or a bucket from its vault; no note is touched
///
/// Forgets the state, as `obsync reset` does, and removes the marker (.obsync/id) that identifies the folder. It is
/// then a folder like any other, for this vault or another: its next run is a first run, which deletes nothing. The
/// vault keeps everything.
#[derive(Debug, Args)]
pub(crate) struct Unlink {
    /// The folder or bucket
    #[arg(value_name = "DEST")]
    pub(crate) destination: Destination,
    #[command(flatten)]
    pub(crate) state: StateOption,
    /// Do not ask for confirmation
    #[arg(long)]
    pub(crate) yes: bool,
    /// Print JSON (needs --yes)
    #[arg(long, requires = "yes")]
    pub(crate) json: bool,
}

/// Allow the deletions that a run held back
///
/// A run that would delete too many files does everything else, lists those files, and ends with exit status 9. After
/// this command, the next run deletes exactly the files that are listed now, and each only if it is still as it was
/// synced. Files that are changed or restored before that run stay. If a follower or a function is working on the
/// destination, it picks the confirmation up.
#[derive(Debug, Args)]
pub(crate) struct Confirm {
    /// The folder or bucket
    #[arg(value_name = "DEST")]
    pub(crate) destination: Destination,
    #[command(flatten)]
    pub(crate) state: StateOption,
    /// Do not ask for confirmation
    #[arg(long)]
    pub(crate) yes: bool,
    /// Print JSON (needs --yes)
    #[arg(long, requires = "yes")]
    pub(crate) json: bool,
}

/// Print the two-factor code of OBSIDIAN_TOTP_SECRET
///
/// Prints the code to standard output, and the seconds until it expires to standard error.
#[derive(Debug, Args)]
pub(crate) struct Totp {
    /// Print each new code, until interrupted
    #[arg(long)]
    pub(crate) watch: bool,
}

/// Print the completion script for a shell
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  obsync completions bash > ~/.local/share/bash-completion/completions/obsync
  obsync completions fish > ~/.config/fish/completions/obsync.fish
  obsync completions zsh > ~/.zfunc/_obsync")]
pub(crate) struct Completions {
    /// Shell to print the script for
    #[arg(value_name = "SHELL")]
    pub(crate) shell: Shell,
}

/// The service's address. An empty variable counts as unset: container tools pass missing values on like
/// that.
fn api_url(text: &str) -> Result<Url, String> {
    let text = if text.is_empty() { DEFAULT_API_URL } else { text };
    Url::parse(text).map_err(|error| format!("{error}; give an address such as {DEFAULT_API_URL}"))
}

/// Bytes a second; empty as for [`api_url`].
fn min_speed(text: &str) -> Result<u64, String> {
    if text.is_empty() {
        Ok(LEAST_SPEED)
    } else {
        text.parse().map_err(|_| "expected a number of bytes".to_owned())
    }
}

/// A number.
fn count(text: &str) -> Result<usize, String> {
    text.parse().map_err(|_| "expected a number, such as 50".to_owned())
}

/// Seconds, from one to an hour; empty as for [`api_url`].
fn patience(text: &str) -> Result<Patience, String> {
    match text.parse() {
        _ if text.is_empty() => Ok(Patience(None)),
        Ok(seconds @ 1..=3600) => Ok(Patience(Some(Duration::from_secs(seconds)))),
        _ => Err("expected a number of seconds from 1 to 3600".to_owned()),
    }
}

/// A whole number of seconds, minutes or hours: `90s`, `30m`, `2h`.
fn duration(text: &str) -> Result<Duration, String> {
    let wrong =
        || "expected a number above 0 followed by s, m, h or d, such as 90s, 30m, 2h or 7d".to_owned();
    let (number, unit) = text.split_at_checked(text.len().saturating_sub(1)).ok_or_else(wrong)?;
    let seconds = match unit {
        "s" => 1,
        "m" => 60,
        "h" => 3600,
        "d" => 86_400,
        _ => return Err(wrong()),
    };
    let number: u32 = number.parse().map_err(|_| wrong())?;
    if number == 0 { Err(wrong()) } else { Ok(Duration::from_secs(u64::from(number) * seconds)) }
}

/// A two-factor code; spaces as authenticator apps show them are fine.
fn mfa_code(text: &str) -> Result<String, String> {
    let code: String = text.chars().filter(|character| !character.is_whitespace()).collect();
    if code.len() == 6 && code.bytes().all(|byte| byte.is_ascii_digit()) {
        Ok(code)
    } else {
        Err("a two-factor code has 6 digits".to_owned())
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn an_empty_variable_counts_as_unset() {
        assert_eq!(api_url("").unwrap().as_str(), DEFAULT_API_URL);
        assert_eq!(patience(""), Ok(Patience(None)));
        assert_eq!((min_speed(""), min_speed("0")), (Ok(LEAST_SPEED), Ok(0)));
        assert_eq!(patience("90"), Ok(Patience(Some(Duration::from_secs(90)))));
        for wrong in ["0", "3601", "-1", "1.5", "soon"] {
            assert!(patience(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn durations_have_a_unit() {
        assert_eq!(duration("90s"), Ok(Duration::from_secs(90)));
        assert_eq!(duration("30m"), Ok(Duration::from_secs(1800)));
        assert_eq!(duration("2h"), Ok(Duration::from_secs(7200)));
        assert_eq!(duration("2d"), Ok(Duration::from_secs(172_800)));
        for wrong in ["", "90", "0s", "s", "1.5h", "2w", "-1s", "9ü"] {
            assert!(duration(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn codes_are_taken_as_apps_show_them() {
        assert_eq!(mfa_code("123 456").as_deref(), Ok("123456"));
        for wrong in ["", "12345", "1234567", "12345a", "１２３４５６"] {
            assert!(mfa_code(wrong).is_err(), "{wrong}");
        }
    }
}

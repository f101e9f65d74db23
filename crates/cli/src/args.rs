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

/// Brings Obsidian Sync vaults to a folder or a bucket: exactly, and whatever happens on the way.
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
    /// Address of the sync service
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
    /// Host that vaults may lie on besides those under obsidian.md (HOST or HOST:PORT; repeatable)
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
    /// Longest wait for an answer of the service, in seconds [default: 60; connecting and silence: 120]; and
    /// for that of a bucket or a table, repeated attempts included [default: 180]
    #[arg(
        long,
        value_name = "SECONDS",
        env = "OBSYNC_TIMEOUT",
        hide_env_values = true,
        value_parser = patience,
        global = true
    )]
    pub(crate) timeout: Option<Patience>,
    /// Least that the service has to send while an answer is due, in bytes a second over ten minutes; 0 for any speed
    #[arg(
        long,
        value_name = "BYTES",
        env = "OBSYNC_MIN_SPEED",
        hide_env_values = true,
        default_value_t = LEAST_SPEED,
        value_parser = min_speed,
        global = true
    )]
    pub(crate) min_speed: u64,
    /// PEM file with certificates to trust besides the system's, for the service, buckets and tables
    #[arg(long, value_name = "FILE", env = "OBSYNC_CA_FILE", hide_env_values = true, global = true)]
    pub(crate) ca_file: Option<PathBuf>,
    /// Say more about what is done, on standard error (-vv: for developers, with times)
    #[arg(short, long, action = ArgAction::Count, global = true)]
    pub(crate) verbose: u8,
    /// Print nothing but errors and what was asked for
    #[arg(short, long, global = true, conflicts_with = "verbose")]
    pub(crate) quiet: bool,
}

/// The user's time limit for an answer; `None` if not set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Patience(pub(crate) Option<Duration>);

/// What to do.
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

/// Sign in and keep the token
///
/// Asks for what is not given. The token is kept, readable only by you; the password is not.
/// With OBSIDIAN_AUTH_TOKEN set nothing is kept: the token is only checked.
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
    /// Two-factor code, 6 digits [default: from OBSIDIAN_TOTP_SECRET, else asked for]
    #[arg(long, value_name = "CODE", value_parser = mfa_code)]
    pub(crate) mfa: Option<String>,
    /// Read the password from the first line of standard input
    #[arg(long)]
    pub(crate) password_stdin: bool,
    /// Take the password from the output of a program, run without a shell (as in "pass show obsidian")
    #[arg(long, value_name = "COMMAND", conflicts_with = "password_stdin")]
    pub(crate) password_command: Option<String>,
}

/// Sign out, and forget the token and the keys of vaults
///
/// The token becomes worthless at the service, and the derived keys of vaults of this service are removed.
/// Pulled notes and their state stay.
#[derive(Debug, Args)]
pub(crate) struct Logout {
    /// Keep the derived keys, so that vault passwords are not asked for again
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

/// Make a vault
///
/// Its name must not be that of another vault of the account. The password of an end-to-end encrypted vault is asked for twice;
/// nobody can restore it, nor the vault without it. The key derived from it is kept as `obsync pull` does.
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
    /// Who can read it: end-to-end (only you have the password) or standard (the service makes a password and has it)
    #[arg(long, value_name = "KIND", default_value = "end-to-end")]
    pub(crate) encryption: VaultKind,
    /// Where the service keeps it [default: the service chooses]
    #[arg(long, value_name = "REGION", value_parser = NonEmptyStringValueParser::new())]
    pub(crate) region: Option<String>,
    /// Read the vault password from the first line of standard input
    #[arg(long)]
    pub(crate) password_stdin: bool,
    /// Take the vault password from the output of a program, run without a shell
    #[arg(long, value_name = "COMMAND", conflicts_with = "password_stdin")]
    pub(crate) password_command: Option<String>,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

/// Show what is known of pulled vaults
///
/// Works without a connection to the service: the last check and change, how the last run ended, how many failed in a row,
/// who is at work. Files that failed are listed with their reason.
///
/// A table also tells who works on a vault at this moment, and how far the function on AWS Lambda came with it.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  obsync status
  obsync status ./notes
  obsync status ./notes --max-age 26h
  obsync status --state dynamodb://obsync-state \"My Vault\"
  obsync status --state dynamodb://obsync-state s3://bucket/notes --json")]
pub(crate) struct Status {
    /// Only of this folder or bucket; with a table, of this bucket or this vault, by name or id
    #[arg(value_name = "DEST")]
    pub(crate) wanted: Option<Destination>,
    /// End with exit status 10 when the last run that found a destination up to date, or made it so, is longer ago (such as
    /// 90s, 30m or 26h), or when there was none
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    pub(crate) max_age: Option<Duration>,
    #[command(flatten)]
    pub(crate) state: StateOption,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

/// Check every pulled file by its content
///
/// Reads and hashes all files of the folder and lists those that are missing, changed, or not of the vault.
/// Works without a connection to the service and changes nothing. Missing and changed files come back with
/// `obsync pull --full`. After a pull that did not come to its end, and while changes failed or deletions are held back, it
/// says so and ends with exit status 5.
///
/// In a bucket, every object is listed; of each its size and the SHA-256 that obsync wrote beside it are compared
/// (whoever replaces an object replaces that, too), and an object without it is read and hashed.
#[derive(Debug, Args)]
pub(crate) struct Verify {
    /// The folder or bucket
    #[arg(value_name = "DEST")]
    pub(crate) destination: Destination,
    #[command(flatten)]
    pub(crate) state: StateOption,
    /// Wait this long for another obsync that is working on the destination, such as 90s, 10m
    ///
    /// Beside a follower (`--follow`) that has nothing to do, files are compared without waiting.
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    pub(crate) wait: Option<Duration>,
    /// Name every file that was looked at, and whether it was read or compared by its metadata
    #[arg(long)]
    pub(crate) list_files: bool,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

/// Show what was changed on which side, by which device, and from which version
///
/// Runs note every change that they make in the destination or in the vault, but for what a first run brings. Local states keep
/// the newest 20,000 changes of the last 90 days; a state in a table keeps none.
#[derive(Debug, Args)]
pub(crate) struct Log {
    /// The folder or bucket
    #[arg(value_name = "DEST")]
    pub(crate) destination: Destination,
    /// A file or folder of the vault; everything, if none is given
    #[arg(value_name = "PATH", value_parser = vault_folder)]
    pub(crate) path: Option<VaultPath>,
    #[command(flatten)]
    pub(crate) state: StateOption,
    /// Show so many changes at most, the newest first
    #[arg(long, value_name = "NUMBER", default_value_t = 50, value_parser = count)]
    pub(crate) limit: usize,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

/// Find out on a scratch vault whether the service does what two-way sync rests on
///
/// Makes a vault on your account, writes some small files to it over several connections, prints what it found, and deletes the
/// vault again. Your other vaults are not touched. Exit status 0: everything is as expected; 5: something is not, and `obsync
/// sync` and `obsync push` are better not used.
#[derive(Debug, Args)]
pub(crate) struct CheckService {
    /// Do not ask
    #[arg(long)]
    pub(crate) yes: bool,
    /// Leave the scratch vault
    #[arg(long)]
    pub(crate) keep: bool,
    /// Print JSON (needs --yes)
    #[arg(long, requires = "yes")]
    pub(crate) json: bool,
}

/// Forget what is known of a pulled vault; no note is touched
///
/// The next pull compares every file and downloads only what differs. This also frees the folder or bucket for
/// another vault, and removes a state that is damaged.
#[derive(Debug, Args)]
pub(crate) struct Reset {
    /// The folder or bucket
    #[arg(value_name = "DEST")]
    pub(crate) destination: Destination,
    /// Forget other folders alone that were at this path before
    ///
    /// Such as that of a disk that was replaced. What is known of the folder that is there now stays.
    #[arg(long)]
    pub(crate) gone: bool,
    #[command(flatten)]
    pub(crate) state: StateOption,
    /// Do not ask
    #[arg(long)]
    pub(crate) yes: bool,
    /// Print JSON (needs --yes)
    #[arg(long, requires = "yes")]
    pub(crate) json: bool,
}

/// Part a folder or a bucket from its vault; no note is touched
///
/// Forgets the state as `obsync reset` does, and removes the marker (.obsync/id) by which a folder is known again where it is
/// moved to. What is left is a folder like any other: it can go to another vault, or be synced for the first time again, which
/// deletes nothing. The vault keeps everything.
#[derive(Debug, Args)]
pub(crate) struct Unlink {
    /// The folder or bucket
    #[arg(value_name = "DEST")]
    pub(crate) destination: Destination,
    #[command(flatten)]
    pub(crate) state: StateOption,
    /// Do not ask
    #[arg(long)]
    pub(crate) yes: bool,
    /// Print JSON (needs --yes)
    #[arg(long, requires = "yes")]
    pub(crate) json: bool,
}

/// Let the deletions go that a run held back
///
/// A run that would delete too many files does everything else, names them and ends with exit status 9. After this command
/// the next run deletes exactly those that are named now, each if it still is as it was synced. What is changed or brought
/// back until then stays. If a follower or a function is working on the destination, it takes the confirmation over.
#[derive(Debug, Args)]
pub(crate) struct Confirm {
    /// The folder or bucket
    #[arg(value_name = "DEST")]
    pub(crate) destination: Destination,
    #[command(flatten)]
    pub(crate) state: StateOption,
    /// Do not ask
    #[arg(long)]
    pub(crate) yes: bool,
    /// Print JSON (needs --yes)
    #[arg(long, requires = "yes")]
    pub(crate) json: bool,
}

/// Print the two-factor code of OBSIDIAN_TOTP_SECRET
///
/// The code goes to standard output, the seconds that it is still valid to standard error.
#[derive(Debug, Args)]
pub(crate) struct Totp {
    /// Go on, with every new code, until interrupted
    #[arg(long)]
    pub(crate) watch: bool,
}

/// Print the completion script of a shell
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  obsync completions bash > ~/.local/share/bash-completion/completions/obsync
  obsync completions fish > ~/.config/fish/completions/obsync.fish
  obsync completions zsh > ~/.zfunc/_obsync")]
pub(crate) struct Completions {
    /// Which shell
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
        text.parse().map_err(|_| "it is a number of bytes".to_owned())
    }
}

/// A number.
fn count(text: &str) -> Result<usize, String> {
    text.parse().map_err(|_| "it is a number, such as 50".to_owned())
}

/// Seconds, from one to an hour; empty as for [`api_url`].
fn patience(text: &str) -> Result<Patience, String> {
    match text.parse() {
        _ if text.is_empty() => Ok(Patience(None)),
        Ok(seconds @ 1..=3600) => Ok(Patience(Some(Duration::from_secs(seconds)))),
        _ => Err("it is a number of seconds from 1 to 3600".to_owned()),
    }
}

/// A whole number of seconds, minutes or hours: `90s`, `30m`, `2h`.
fn duration(text: &str) -> Result<Duration, String> {
    let wrong = || "it is a number above 0 followed by s, m, h or d, such as 90s, 30m, 2h or 7d".to_owned();
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

//! The arguments of `pull`, `sync` and `push`.

use std::time::Duration;

use clap::builder::NonEmptyStringValueParser;
use clap::{ArgAction, Args};
use obsync_core::MaxDelete;
use obsync_core::pin::VaultKind;
use obsync_protocol::{ConfigCategories, DEFAULT_CONFIG_DIR, FileTypes, VaultPath, parse_config_dir};

use super::cloud::{Objects, StateOption};
use super::duration;
use super::monitoring::Monitoring;
use crate::target::destination::Destination;

/// Headings of the help: without one, options would be listed under the last heading of the shared options.
const LOCAL_FILES: &str = "Files here";
const SENDING: &str = "Sending";

/// What everything that syncs has in common.
#[derive(Debug, Args)]
pub(crate) struct Pull {
    /// Name of the vault, its id, or the beginning of its id
    #[arg(value_name = "VAULT", value_parser = NonEmptyStringValueParser::new())]
    pub(crate) vault: String,
    /// Folder, made if it is not there (`push` needs one that is); or s3://BUCKET/PREFIX, az://CONTAINER/PREFIX,
    /// gs://BUCKET/PREFIX (untested)
    #[arg(value_name = "DEST")]
    pub(crate) destination: Destination,
    #[command(flatten)]
    pub(crate) state: StateOption,
    /// Read the vault password from the first line of standard input
    #[arg(long)]
    pub(crate) password_stdin: bool,
    /// Take the vault password from the output of a program, run without a shell, when no kept key opens the vault
    #[arg(long, value_name = "COMMAND", conflicts_with = "password_stdin")]
    pub(crate) password_command: Option<String>,
    #[command(flatten)]
    pub(crate) encryption: EncryptionOption,
    /// Go on although the vault is encrypted otherwise than before. Asks for the password again if the vault is end-to-end
    /// encrypted; this run removes nothing, and keeps what differs as conflicted copies
    #[arg(long, conflicts_with = "dry_run")]
    pub(crate) accept_encryption_change: bool,
    /// Check everything again from the vault's first version on; only what differs is downloaded
    #[arg(long)]
    pub(crate) full: bool,
    /// Go on from the vault's version though it is older than that of DEST (exit status 11). Files that the vault does
    /// not list are only removed with --full
    #[arg(long)]
    pub(crate) accept_older_vault: bool,
    /// Hold deletions back when there are more: a number, a part of the files (20%), or none for no limit. Counted over an hour,
    /// without files that are only moved [default: more than 50 and 20%, or more than half of 10 or more]
    #[arg(long, value_name = "LIMIT", env = "OBSYNC_MAX_DELETE", hide_env_values = true)]
    pub(crate) max_delete: Option<MaxDelete>,
    /// Accept what can never be had in DEST, such as names that its file system refuses: it is no failure any more until the
    /// vault changes it. `status` goes on naming it
    #[arg(long, conflicts_with = "dry_run")]
    pub(crate) accept_failures: bool,
    /// Only tell what a run would do
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// Most connections to download over, 1 to 10. A run starts with up to four and adds more while each one more makes
    /// it faster
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u8).range(1..=10), default_value = "10")]
    pub(crate) connections: u8,
    /// Stop in good order after this time, as for Ctrl-C (such as 90s, 30m or 2h); the next pull goes on
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    pub(crate) max_time: Option<Duration>,
    /// Wait this long for another obsync that is working on the destination (such as 90s, 30m or 2h), in place of ending with
    /// status 7 at once
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    pub(crate) wait: Option<Duration>,
    /// Stay connected, and go on with every change as it comes, until interrupted. With --json a report is printed for the first
    /// run and for each one that has news, on a line of its own
    #[arg(long, conflicts_with_all = ["dry_run", "max_time", "full", "accept_encryption_change"])]
    pub(crate) follow: bool,
    /// Print one JSON report at the end, also when it fails
    #[arg(long)]
    pub(crate) json: bool,
    /// Name every file that changed in the JSON report
    #[arg(long, requires = "json")]
    pub(crate) list_changes: bool,
    #[command(flatten)]
    pub(crate) choice: Choice,
    #[command(flatten)]
    pub(crate) objects: Objects,
    #[command(flatten)]
    pub(crate) monitoring: Monitoring,
}

/// Bring a vault to a folder or a bucket, or what is new in it since the last pull
///
/// Files appear complete and checked, with their times, or not at all. What is there already is not
/// downloaded, and a file that obsync did not write is never overwritten: it is kept as a conflicted copy. A
/// pull that was stopped by anything goes on when it is run again.
///
/// All file types and the configuration are pulled unless you choose fewer.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  obsync pull \"My Vault\" ./notes
  obsync pull \"My Vault\" ./notes --configs none --exclude Archive
  obsync pull \"My Vault\" ./notes --mirror
  obsync pull \"My Vault\" s3://bucket/notes
  obsync pull \"My Vault\" s3://bucket/notes --state dynamodb://obsync-state
  obsync pull 4f2a… /backup/notes --json --quiet < /dev/null
  pass vault | obsync pull \"My Vault\" ./notes --password-stdin

In a bucket each file is one object, with its SHA-256 and its times as metadata (sha256, mtime, ctime, uid). A vault has a \
bucket, or a prefix in it, to itself. The bucket must be there: `obsync aws init` makes one.

The password of an end-to-end encrypted vault is asked for once; the key derived from it is kept, readable only by you. \
How a vault is encrypted is written down when it is first opened, here and with the destination; a vault that the service \
lists otherwise later is refused. If you converted it yourself in Obsidian, say --accept-encryption-change once.

`obsync help exit-codes` lists the exit status.")]
pub(crate) struct PullHere {
    #[command(flatten)]
    pub(crate) pull: Pull,
    /// Take back what was changed or added in the folder: it goes to .obsync/trash in it, where it stays for 30 days, and
    /// everything is checked again. Held back when there is more than --max-delete
    #[arg(
        long,
        help_heading = LOCAL_FILES,
        conflicts_with_all = ["follow", "accept_encryption_change", "accept_older_vault"]
    )]
    pub(crate) mirror: bool,
    /// Keep files that the vault deletes, and those that it renames under their old name, too. They are yours from then on
    #[arg(long, help_heading = LOCAL_FILES, conflicts_with = "mirror")]
    pub(crate) keep_deleted: bool,
}

/// Keep a folder or a bucket and a vault the same, both ways (experimental)
///
/// Brings what the vault changed to DEST, then sends what was changed there. What both sides changed is merged: text by lines,
/// configuration by keys; what cannot be merged is kept in both forms, the one of DEST as a conflicted copy, here and in the
/// vault. An edit survives a deletion.
///
/// The first run deletes nothing on either side. Later ones delete in the vault only what obsync itself saw in this very
/// folder and what is gone when it looks twice, and of a bucket nothing without --bucket-deletes; deletions that are too many
/// wait for `obsync confirm`. What a run replaces or removes in a folder stays in .obsync/trash for 30 days, and the vault has
/// its own history.
///
/// Experimental: what the service does with changes was tried with a server of our own and the official client, not with the
/// service itself.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  obsync sync \"My Vault\" ./notes --dry-run
  obsync sync \"My Vault\" ./notes
  obsync sync \"My Vault\" ./notes --exclude Archive --push-configs
  obsync sync \"My Vault\" s3://bucket/notes")]
pub(crate) struct Sync {
    #[command(flatten)]
    pub(crate) pull: Pull,
    /// Hold deletions in the vault back when there are more: as --max-delete [default: more than 20 and 5%, more than 50, or more
    /// than half of 10 or more]
    #[arg(
        long,
        help_heading = SENDING,
        value_name = "LIMIT",
        env = "OBSYNC_MAX_DELETE_IN_VAULT",
        hide_env_values = true
    )]
    pub(crate) max_delete_in_vault: Option<MaxDelete>,
    /// Send the configuration folder, too, as far as --configs has it
    #[arg(long, help_heading = SENDING)]
    pub(crate) push_configs: bool,
    /// Of a bucket: delete in the vault what is missing there since an earlier run, unless objects expire there by a rule
    #[arg(
        long,
        help_heading = SENDING,
        env = "OBSYNC_BUCKET_DELETES",
        hide_env_values = true,
        action = ArgAction::SetTrue,
        default_missing_value = GIVEN,
        value_parser = bucket_deletes
    )]
    pub(crate) bucket_deletes: BucketDeletes,
    /// With --follow: how long a file that changes again and again must be left alone before it is sent (such as 2s or 1m)
    #[arg(
        long,
        help_heading = SENDING,
        value_name = "DURATION",
        value_parser = duration,
        default_value = "2s"
    )]
    pub(crate) quiet_for: Duration,
    /// Do not ask before the first run; needed for that one without a terminal and with --json
    #[arg(long, help_heading = SENDING)]
    pub(crate) yes: bool,
    /// Name of this device in the vault's history and in the names of conflicted copies [default: the host's name]
    #[arg(long, help_heading = SENDING, value_name = "NAME")]
    pub(crate) device_name: Option<String>,
}

/// Send what was changed in a folder or a bucket to a vault, and apply nothing here (experimental)
///
/// For vaults whose truth is a folder: a git repository, the output of a script. What only the vault changed is left there and
/// told; `--mirror` replaces it by what the folder or bucket has. Deletions are as careful as those of `obsync sync`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  obsync push \"My Vault\" ./site --dry-run
  obsync push \"My Vault\" ./site --mirror")]
pub(crate) struct Push {
    #[command(flatten)]
    pub(crate) sync: Sync,
    /// Replace what the vault changed by what DEST has
    #[arg(long, help_heading = SENDING)]
    pub(crate) mirror: bool,
}

/// How a vault must be encrypted.
#[derive(Debug, Args)]
pub(crate) struct EncryptionOption {
    /// Open a vault only if it is encrypted so: standard (the service has the password) or end-to-end (only you have it)
    #[arg(
        long = "encryption",
        value_name = "KIND",
        env = "OBSYNC_ENCRYPTION",
        hide_env_values = true,
        value_parser = wanted_kind
    )]
    kind: Option<WantedKind>,
}

impl EncryptionOption {
    /// The only accepted kind of encryption; `None` for any.
    pub(crate) fn kind(&self) -> Option<VaultKind> {
        self.kind.and_then(|WantedKind(kind)| kind)
    }
}

/// A kind of encryption, if the user sets it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct WantedKind(Option<VaultKind>);

/// Which files of a vault are wanted.
#[derive(Debug, Args)]
#[command(next_help_heading = "What to pull")]
pub(crate) struct Choice {
    /// Attachments: all, none, or a list of image, audio, video, pdf, unsupported (any other type)
    #[arg(long, value_name = "LIST", default_value = "all")]
    pub(crate) file_types: FileTypes,
    /// Configuration: all, none, or a list of app, appearance, hotkey, core-plugin, community-plugin,
    /// appearance-data, core-plugin-data, community-plugin-data
    #[arg(long, value_name = "LIST", default_value = "all")]
    pub(crate) configs: ConfigCategories,
    /// Leave out what Obsidian runs or applies by itself: plugins (main.js, styles.css, the list of those that are on),
    /// themes and snippets. What was pulled earlier stays
    #[arg(long)]
    pub(crate) no_code: bool,
    /// Folder or file of the vault to leave out, a folder with what is below it (repeatable)
    #[arg(long, value_name = "FOLDER", value_parser = vault_folder)]
    pub(crate) exclude: Vec<VaultPath>,
    /// Name of the vault's configuration folder, if it was changed in Obsidian (repeatable: devices can use different ones)
    #[arg(long, value_name = "NAME", default_value = DEFAULT_CONFIG_DIR, value_parser = parse_config_dir)]
    pub(crate) config_dir: Vec<String>,
}

/// Treatment of objects missing in a bucket: kept or deleted in the vault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum BucketDeletes {
    No,
    /// By the variable, which does not apply to folders.
    OfAnyBucket,
    /// By the option, which needs a bucket.
    OfThisBucket,
}

/// The value of `--bucket-deletes`, which no variable has.
const GIVEN: &str = "--bucket-deletes";

fn bucket_deletes(text: &str) -> Result<BucketDeletes, String> {
    match text {
        GIVEN => Ok(BucketDeletes::OfThisBucket),
        text => flag(text).map(|is_on| if is_on { BucketDeletes::OfAnyBucket } else { BucketDeletes::No }),
    }
}

/// Parses a variable that switches something on. Empty as for the service's address; anything but yes and no
/// is refused.
fn flag(text: &str) -> Result<bool, String> {
    match text.to_ascii_lowercase().as_str() {
        "" | "false" | "no" | "off" | "0" => Ok(false),
        "true" | "yes" | "on" | "1" => Ok(true),
        _ => Err("it is true or false".to_owned()),
    }
}

/// Empty as for the service's address.
fn wanted_kind(text: &str) -> Result<WantedKind, String> {
    match text {
        "" => Ok(WantedKind(None)),
        text => text.parse().map(|kind| WantedKind(Some(kind))),
    }
}

/// A folder; a slash at its end is accepted.
pub(super) fn vault_folder(text: &str) -> Result<VaultPath, String> {
    let folder = text.strip_prefix("./").unwrap_or(text).trim_end_matches('/');
    VaultPath::parse(folder)
        .map_err(|error| format!("{error}; give it as it is in the vault, such as Archive/2020"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_variable_that_is_neither_yes_nor_no_switches_nothing_on() {
        assert_eq!([flag(""), flag("0"), flag("False")], [Ok(false), Ok(false), Ok(false)]);
        assert_eq!([flag("1"), flag("true"), flag("YES")], [Ok(true), Ok(true), Ok(true)]);
        assert!(flag("maybe").is_err() && flag("2").is_err());
    }

    #[test]
    fn the_option_is_told_from_the_variable() {
        assert_eq!(bucket_deletes(GIVEN), Ok(BucketDeletes::OfThisBucket));
        assert_eq!(bucket_deletes("true"), Ok(BucketDeletes::OfAnyBucket));
        assert_eq!(bucket_deletes("false"), Ok(BucketDeletes::No));
    }

    #[test]
    fn folders_are_taken_with_a_slash_at_the_end() {
        assert_eq!(vault_folder("./Archive/2020/").unwrap().as_str(), "Archive/2020");
        for wrong in ["", "/", "..", "/etc", "a//b"] {
            assert!(vault_folder(wrong).is_err(), "{wrong}");
        }
        assert!(parse_config_dir(".obsidian-phone").is_ok());
        assert!(parse_config_dir("a/b").is_err());
    }
}

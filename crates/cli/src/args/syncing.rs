//! The arguments of `pull`, `sync` and `push`.

use std::time::Duration;

use clap::builder::{NonEmptyStringValueParser, Resettable};
use clap::{Arg, ArgAction, Args};
use obsync_core::MaxDelete;
use obsync_core::pin::VaultKind;
use obsync_protocol::{ConfigCategories, DEFAULT_CONFIG_DIR, FileTypes, VaultPath, parse_config_dir};

use super::cloud::{Objects, StateOption};
use super::duration;
use super::monitoring::Monitoring;
use crate::target::destination::Destination;

/// Headings of the help: without one, options would be listed under the last heading of the shared options.
const LOCAL_FILES: &str = "Local files";
const SENDING: &str = "Sending";

/// Options that pull, sync and push share.
#[derive(Debug, Args)]
pub(crate) struct Pull {
    /// Name of the vault, its id, or the beginning of its id
    #[arg(value_name = "VAULT", value_parser = NonEmptyStringValueParser::new())]
    pub(crate) vault: String,
    /// Folder, created if it does not exist; or s3://BUCKET/PREFIX, az://CONTAINER/PREFIX, gs://BUCKET/PREFIX
    /// (untested)
    #[arg(value_name = "DEST")]
    pub(crate) destination: Destination,
    #[command(flatten)]
    pub(crate) state: StateOption,
    /// Name of this device for the vault and in the names of conflicted copies [default: the host name]
    #[arg(long, value_name = "NAME")]
    pub(crate) device_name: Option<String>,
    /// Read the vault password from the first line of standard input
    #[arg(long)]
    pub(crate) password_stdin: bool,
    /// Read the vault password from the output of a program, run without a shell, if no stored key opens the vault
    #[arg(long, value_name = "COMMAND", conflicts_with = "password_stdin")]
    pub(crate) password_command: Option<String>,
    #[command(flatten)]
    pub(crate) encryption: EncryptionOption,
    /// Continue although the encryption of the vault changed. Prompts for the password again if the vault is
    /// end-to-end encrypted. This run removes nothing, and keeps both versions of files that differ
    #[arg(long, conflicts_with = "dry_run")]
    pub(crate) accept_encryption_change: bool,
    /// Check everything again, from the vault's first version; only files that differ are transferred
    #[arg(long)]
    pub(crate) full: bool,
    /// Continue from the vault's version although it is older than that of DEST (exit status 11). Files that the
    /// vault does not list are removed only with --full
    #[arg(long)]
    pub(crate) accept_older_vault: bool,
    /// Hold deletions back if there are more than this: a number, a share of the files (20%), or none for no limit.
    /// Deletions of the last hour count; moved files do not [default: more than 50 and 20%, or more than half of 10
    /// or more]
    #[arg(
        long,
        value_name = "LIMIT",
        env = "OBSYNC_MAX_DELETE",
        hide_env_values = true,
        allow_hyphen_values = true
    )]
    pub(crate) max_delete: Option<MaxDelete>,
    /// Accept files that can never be stored in DEST, such as names that its file system refuses. They no longer
    /// count as failures until the vault changes them; `status` still lists them
    #[arg(long, conflicts_with = "dry_run")]
    pub(crate) accept_failures: bool,
    /// Show what a run would do, and change nothing
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// Maximum number of connections to transfer files over, 1 to 10. A run starts with up to four, and adds more
    /// while each one makes it faster
    #[arg(
        long,
        value_name = "N",
        value_parser = connections,
        default_value = "10",
        allow_hyphen_values = true
    )]
    pub(crate) connections: u8,
    /// Stop cleanly after this time (such as 90s, 30m or 2h), as on Ctrl-C; the next run continues
    #[arg(long, value_name = "DURATION", value_parser = duration, allow_hyphen_values = true)]
    pub(crate) max_time: Option<Duration>,
    /// Wait this long (such as 90s, 30m or 2h) for another obsync that is working on the destination, instead of
    /// ending with exit status 7 at once
    #[arg(long, value_name = "DURATION", value_parser = duration, allow_hyphen_values = true)]
    pub(crate) wait: Option<Duration>,
    /// Stay connected, and sync every change as it comes, until interrupted. With --json, prints a report on a line
    /// of its own for the first run and for each run with something to report
    #[arg(long, conflicts_with_all = ["dry_run", "max_time", "full", "accept_encryption_change"])]
    pub(crate) follow: bool,
    /// Print one JSON report at the end, also on failure
    #[arg(long)]
    pub(crate) json: bool,
    /// List every changed file in the JSON report
    #[arg(long, requires = "json")]
    pub(crate) list_changes: bool,
    #[command(flatten)]
    pub(crate) choice: Choice,
    #[command(flatten)]
    pub(crate) objects: Objects,
    #[command(flatten)]
    pub(crate) monitoring: Monitoring,
}

/// Copy a vault, or its changes since the last pull, to a folder or a bucket
///
/// Each file appears complete, checked and with its times, or not at all. Content that the destination already has is
/// not downloaded. A file that obsync did not write is never overwritten: it is kept as a conflicted copy. To resume
/// an interrupted pull, run it again.
///
/// By default, all file types and the configuration are pulled.
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

In a bucket, each file is one object, with its SHA-256 and times as metadata (sha256, mtime, ctime, uid). Each vault needs a \
bucket, or a prefix in one, of its own. The bucket must exist: `obsync aws init` creates one.

obsync prompts once for the password of an end-to-end encrypted vault, and stores the key derived from it in a file that \
only you can read. When it first opens a vault, it records the vault's encryption, here and in the destination. If the \
service later lists another encryption, the vault is refused. If you converted the vault yourself in Obsidian, run once with \
--accept-encryption-change.

`obsync help exit-codes` explains the exit status.")]
pub(crate) struct PullHere {
    #[command(flatten)]
    pub(crate) pull: Pull,
    /// Revert local changes, and check everything again. Files that were changed or added in the folder are moved to
    /// its .obsync/trash, and stay there for 30 days. Held back if there are more than --max-delete
    #[arg(
        long,
        help_heading = LOCAL_FILES,
        conflicts_with_all = ["follow", "accept_encryption_change", "accept_older_vault"]
    )]
    pub(crate) mirror: bool,
    /// Keep files that the vault deletes, and keep files that it renames under their old names too. They are yours
    /// from then on
    #[arg(long, help_heading = LOCAL_FILES, conflicts_with = "mirror")]
    pub(crate) keep_deleted: bool,
}

/// Sync a folder or a bucket with a vault, both ways (experimental)
///
/// Applies the changes of the vault to DEST, then sends the changes of DEST. Files that both sides changed are
/// merged: text by lines, configuration by keys. If they cannot be merged, both versions are kept: the one of DEST
/// becomes a conflicted copy, here and in the vault. An edit survives a deletion.
///
/// The first run deletes nothing on either side. Later runs delete a file in the vault only if obsync itself saw it
/// in this very folder and finds it missing twice. For a bucket, they delete nothing in the vault without
/// --bucket-deletes. If there are too many deletions, they wait for `obsync confirm`. Files that a run replaces or
/// removes in a folder stay in .obsync/trash for 30 days, and the vault has its own history.
///
/// Experimental: sending changes was tested with our own server and the official client, not with the service itself.
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
    /// Hold deletions in the vault back if there are more than this, as --max-delete [default: more than 20 and 5%,
    /// more than 50, or more than half of 10 or more]
    #[arg(
        long,
        help_heading = SENDING,
        value_name = "LIMIT",
        env = "OBSYNC_MAX_DELETE_IN_VAULT",
        hide_env_values = true,
        allow_hyphen_values = true
    )]
    pub(crate) max_delete_in_vault: Option<MaxDelete>,
    /// Also send the configuration folder, as far as --configs includes it
    #[arg(long, help_heading = SENDING)]
    pub(crate) push_configs: bool,
    /// For a bucket: delete files in the vault whose objects are missing since an earlier run, unless a lifecycle
    /// rule expires objects there
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
    /// With --follow: send a file that changes repeatedly only once it has not changed for this long (such as 2s or
    /// 1m)
    #[arg(
        long,
        help_heading = SENDING,
        value_name = "DURATION",
        value_parser = duration,
        default_value = "2s",
        allow_hyphen_values = true
    )]
    pub(crate) quiet_for: Duration,
    /// Do not ask for confirmation of the first run; required for it without a terminal and with --json
    #[arg(long, help_heading = SENDING)]
    pub(crate) yes: bool,
}

/// Send the changes of a folder or a bucket to a vault, and apply nothing here (experimental)
///
/// For vaults that are published from a folder, such as a git repository or the output of a script. Files that only
/// the vault changed are left as they are and reported; with `--mirror` they are replaced by those of DEST. Deletions
/// follow the rules of `obsync sync`.
#[derive(Debug, Args)]
#[command(
    after_help = "\
Examples:
  obsync push \"My Vault\" ./site --dry-run
  obsync push \"My Vault\" ./site --mirror",
    mut_args = of_push
)]
pub(crate) struct Push {
    #[command(flatten)]
    pub(crate) sync: Sync,
    /// Replace files that the vault changed by those of DEST
    #[arg(long, help_heading = SENDING)]
    pub(crate) mirror: bool,
}

impl Push {
    /// Why the options ask for what no push does: it stores and deletes nothing in DEST.
    pub(crate) fn unfit(&self) -> Option<&'static str> {
        let Pull { accept_failures, max_delete, .. } = &self.sync.pull;
        match (accept_failures, max_delete) {
            (true, _) => Some(
                "--accept-failures is for pull and sync: a push stores nothing in DEST, so nothing can fail there",
            ),
            (false, Some(_)) => Some(
                "--max-delete is for pull and sync: a push deletes nothing in DEST; --max-delete-in-vault limits its \
                 deletions",
            ),
            (false, None) => None,
        }
    }
}

/// The shared options as far as a push has them. The variable of `--max-delete` is for all commands, so a push
/// ignores it.
fn of_push(arg: Arg) -> Arg {
    match arg.get_id().as_str() {
        "destination" => arg.help(
            "Folder, which must exist; or s3://BUCKET/PREFIX, az://CONTAINER/PREFIX, gs://BUCKET/PREFIX (untested)",
        ),
        "accept_encryption_change" => arg.help(
            "Continue although the encryption of the vault changed. Prompts for the password again if the vault is \
             end-to-end encrypted. This run deletes nothing in the vault",
        ),
        "accept_older_vault" => arg.help(
            "Continue from the vault's version although it is older than that of DEST (exit status 11)",
        ),
        "max_delete_in_vault" => arg.help(
            "Hold deletions in the vault back if there are more than this: a number, a share of the files (20%), or \
             none for no limit [default: more than 20 and 5%, more than 50, or more than half of 10 or more]",
        ),
        "accept_failures" => arg.hide(true),
        "max_delete" => arg.hide(true).env(Resettable::Reset),
        _ => arg,
    }
}

/// How a vault must be encrypted.
#[derive(Debug, Args)]
pub(crate) struct EncryptionOption {
    /// Open the vault only if it has this encryption: standard (the service has the password) or end-to-end (only you
    /// have it)
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
#[command(next_help_heading = "Filters")]
pub(crate) struct Choice {
    /// Attachments: all, none, or a list of image, audio, video, pdf, unsupported (any other type)
    #[arg(long, value_name = "LIST", default_value = "all")]
    pub(crate) file_types: FileTypes,
    /// Configuration: all, none, or a list of app, appearance, hotkey, core-plugin, community-plugin,
    /// appearance-data, core-plugin-data, community-plugin-data
    #[arg(long, value_name = "LIST", default_value = "all")]
    pub(crate) configs: ConfigCategories,
    /// Exclude code that Obsidian runs or applies by itself: plugins (main.js, styles.css, the list of enabled
    /// plugins), themes and snippets. Files that were pulled earlier stay
    #[arg(long)]
    pub(crate) no_code: bool,
    /// Folder or file of the vault to exclude; a folder with everything in it (repeatable)
    #[arg(long, value_name = "FOLDER", value_parser = vault_folder)]
    pub(crate) exclude: Vec<VaultPath>,
    /// Name of the vault's configuration folder, if it was changed in Obsidian (repeatable: devices can use different
    /// folders)
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
        _ => Err("expected true or false".to_owned()),
    }
}

/// A number of connections.
fn connections(text: &str) -> Result<u8, String> {
    let number = text.parse().ok().filter(|number| (1..=10).contains(number));
    number.ok_or_else(|| "expected a number from 1 to 10".to_owned())
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
        .map_err(|error| format!("{error}; expected a path in the vault, such as Archive/2020"))
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

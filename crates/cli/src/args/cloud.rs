//! Arguments for buckets, tables and functions.

use std::path::PathBuf;

use clap::builder::NonEmptyStringValueParser;
use clap::{Args, Subcommand};
use obsync_dynamodb::TableName;

use super::{EncryptionOption, mfa_code};
use crate::target::state_place::StatePlace;

/// Where the state of a destination is.
#[derive(Debug, Args)]
pub(crate) struct StateOption {
    /// Where to store the state of the destination: local, a database on this computer; or dynamodb://TABLE, which
    /// several computers and functions can use in turn
    #[arg(
        long = "state",
        value_name = "STATE",
        env = "OBSYNC_STATE",
        hide_env_values = true,
        default_value = "local"
    )]
    pub(crate) place: StatePlace,
}

/// How objects are written.
#[derive(Debug, Args)]
#[command(next_help_heading = "Buckets only")]
pub(crate) struct Objects {
    /// KMS key for S3 to encrypt objects with: id, ARN or alias [default: that of the bucket]
    #[arg(long, value_name = "ID", value_parser = NonEmptyStringValueParser::new())]
    pub(crate) sse_kms_key: Option<String>,
    /// Storage class of objects, by the provider's name (STANDARD_IA, NEARLINE, Cool) [default: the provider's]
    #[arg(long, value_name = "CLASS", value_parser = NonEmptyStringValueParser::new())]
    pub(crate) storage_class: Option<String>,
}

/// Export credentials for a function or a container, or revoke them
#[derive(Debug, Args)]
pub(crate) struct CredentialsArgs {
    #[command(subcommand)]
    pub(crate) command: CredentialsCommand,
}

/// A command of `obsync credentials`.
#[derive(Debug, Subcommand)]
pub(crate) enum CredentialsCommand {
    Export(CredentialsExport),
    Revoke(CredentialsRevoke),
}

/// Write a secret for the function on AWS Lambda, without any password
///
/// The secret contains a token of its own and the derived keys of end-to-end encrypted vaults, in the format for AWS
/// Secrets Manager. To get the token, obsync signs in to the account once more, with the password from
/// OBSIDIAN_PASSWORD or a prompt. Vault passwords are obtained as by `obsync pull`. Without VAULT, the secret
/// contains every vault that can be opened.
///
/// If OBSIDIAN_AUTH_TOKEN is set, that token is written instead.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  obsync credentials export \"My Vault\" --output secret.json
  aws secretsmanager create-secret --name obsync --secret-string file://secret.json

`obsync logout` does not revoke the token; `obsync credentials revoke secret.json` does.")]
pub(crate) struct CredentialsExport {
    /// Names or ids of vaults
    #[arg(value_name = "VAULT")]
    pub(crate) vaults: Vec<String>,
    /// File to write, readable only by you [default: standard output, unless it is a terminal]
    #[arg(long, value_name = "FILE")]
    pub(crate) output: Option<PathBuf>,
    /// Read vault passwords from standard input, one per line, in the order of VAULT
    #[arg(long, requires = "vaults")]
    pub(crate) password_stdin: bool,
    /// Read the vault password from the output of a program, run without a shell, if no stored key opens the vault
    #[arg(long, value_name = "COMMAND", conflicts_with = "password_stdin")]
    pub(crate) password_command: Option<String>,
    /// Read the account password from the output of a program, run without a shell
    #[arg(long, value_name = "COMMAND")]
    pub(crate) account_password_command: Option<String>,
    /// Two-factor code, 6 digits [default: from OBSIDIAN_TOTP_SECRET, else a prompt]
    #[arg(long, value_name = "CODE", value_parser = mfa_code)]
    pub(crate) mfa: Option<String>,
    #[command(flatten)]
    pub(crate) encryption: EncryptionOption,
    /// Overwrite FILE if it exists; or print the secret to a terminal
    #[arg(long)]
    pub(crate) force: bool,
}

/// Revoke the token of an exported secret
///
/// After that, nobody can use the secret, including the function. Other sign-ins, including that of this computer,
/// stay valid.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  obsync credentials revoke secret.json
  pass obsync-secret | obsync credentials revoke")]
pub(crate) struct CredentialsRevoke {
    /// File with the secret [default: standard input]
    #[arg(value_name = "FILE")]
    pub(crate) secret: Option<PathBuf>,
}

/// Set up AWS for vaults
#[derive(Debug, Args)]
pub(crate) struct Aws {
    #[command(subcommand)]
    pub(crate) command: AwsCommand,
}

/// A command of `obsync aws`.
#[derive(Debug, Subcommand)]
pub(crate) enum AwsCommand {
    Init(AwsInit),
}

/// Create a bucket for vaults and a table for their state
///
/// The bucket blocks public access, is encrypted, keeps earlier versions for 90 days, and aborts uploads that are not
/// finished within a day. The table is billed per request and can be restored. An existing bucket or table keeps its
/// settings, and missing settings are added. The command can be repeated safely.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  obsync aws init --bucket my-notes --dry-run
  obsync aws init --bucket my-notes --table obsync-state --region eu-central-1

Credentials are found as by AWS's tools: environment, profile, SSO, container, instance.")]
pub(crate) struct AwsInit {
    /// Name of the bucket
    #[arg(long, value_name = "NAME", value_parser = bucket_name)]
    pub(crate) bucket: String,
    /// Name of the DynamoDB table
    #[arg(long, value_name = "NAME", default_value = TableName::DEFAULT)]
    pub(crate) table: TableName,
    /// Region of both [default: as in AWS's tools]
    #[arg(long, value_name = "REGION", value_parser = NonEmptyStringValueParser::new())]
    pub(crate) region: Option<String>,
    /// KMS key to encrypt objects with: id or ARN [default: keys managed by S3]
    #[arg(long, value_name = "ID", value_parser = NonEmptyStringValueParser::new())]
    pub(crate) kms_key: Option<String>,
    /// Show what would be done, and change nothing
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

/// The name of a bucket of S3 (S3 user guide, "General purpose bucket naming rules").
fn bucket_name(text: &str) -> Result<String, String> {
    let name = text.strip_prefix("s3://").unwrap_or(text).trim_end_matches('/');
    let allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-.".contains(&byte);
    let is_edge =
        |byte: Option<u8>| byte.is_some_and(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit());
    let edges_are_good = is_edge(name.bytes().next()) && is_edge(name.bytes().last());
    match (3..=63).contains(&name.len()) && edges_are_good && name.bytes().all(allowed) {
        true => Ok(name.to_owned()),
        false => Err("a bucket name has 3 to 63 lower-case letters, digits, hyphens and dots".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bucket_has_a_name_that_s3_takes() {
        for name in ["my-notes", "s3://my-notes/", "my.notes.2026"] {
            assert!(bucket_name(name).is_ok(), "{name}");
        }
        for wrong in ["", "ab", "My-Notes", "-notes", "notes-", "a/b", "s3://a/b", &"x".repeat(64)] {
            assert!(bucket_name(wrong).is_err(), "{wrong}");
        }
    }
}

//! The first screen, and the topics of `obsync help`. Every line fits 80 columns.

use clap::Args;

/// The first screen: every command and three examples, in 25 lines at most.
pub(super) const FIRST_SCREEN: &str = "\
Copies Obsidian Sync vaults to folders and buckets, and syncs them both ways

Usage: {usage}

Common commands:
  login, logout    sign in and store the token; sign out and delete it
  vaults, create   list the vaults of the account; create one
  pull             copy a vault, or its changes, to a folder or a bucket
  sync, push       sync both ways; only send changes (experimental)
  status, log      show the state of destinations; show past changes
  verify           check the content of every pulled file
Other commands:
  confirm          allow the deletions that a run held back
  reset, unlink    forget the state of a destination; unlink it from its vault
  credentials      export a secret for a function or a container; revoke it
  aws, check-service  create a bucket and a table on AWS; test the service
  totp, completions  print a two-factor code; print a shell completion script

Examples:
  obsync login
  obsync pull \"My Vault\" ./notes
  obsync pull \"My Vault\" s3://bucket/notes

`obsync help COMMAND` explains a command. `obsync help TOPIC` explains a topic:
`options`, `environment`, `exit-codes` or `destinations`.";

/// Explain a command or a topic
///
/// Topics: options, environment, exit-codes, destinations.
#[derive(Debug, Args)]
pub(crate) struct Help {
    /// A command (`pull`, `aws init`) or a topic
    #[arg(value_name = "COMMAND|TOPIC")]
    pub(crate) subject: Vec<String>,
}

/// The topics beside the commands, with their texts. That of the global options comes from their definitions.
pub(crate) const TOPICS: [(&str, &str); 3] =
    [("environment", ENVIRONMENT), ("exit-codes", EXIT_CODES), ("destinations", DESTINATIONS)];

/// The topic of the global options.
pub(crate) const OPTIONS: &str = "options";

const ENVIRONMENT: &str = "\
Sign-in (to read one of these five from a file, add _FILE to its name):
  OBSIDIAN_EMAIL, OBSIDIAN_PASSWORD   account to sign in to without a prompt
  OBSIDIAN_TOTP_SECRET                base32 secret for two-factor codes
  OBSIDIAN_AUTH_TOKEN                 token to use instead of signing in
  OBSYNC_VAULT_PASSWORD               password of an end-to-end encrypted vault

obsync:
  OBSYNC_HOME                where to store obsync's data (else the XDG folders)
  OBSYNC_STATE               where to store states, as --state
  OBSYNC_ENCRYPTION          required encryption of a vault, as --encryption
  OBSYNC_MAX_DELETE          how many files a pull may delete, as --max-delete
  OBSYNC_MAX_DELETE_IN_VAULT
                             how many files a sync may delete in the vault
  OBSYNC_BUCKET_DELETES      true for buckets: as --bucket-deletes
  OBSYNC_PING_URL            URL to report runs to, as --ping; or in the file
                             that OBSYNC_PING_URL_FILE names
  OBSYNC_LEASE_SECONDS       with a table: how long a killed run blocks others
                             [60]
  OBSYNC_API_URL, OBSYNC_ALLOW_HOST, OBSYNC_TIMEOUT, OBSYNC_MIN_SPEED
                             as the options of the same names

Network:
  OBSYNC_CA_FILE             as --ca-file
  SSL_CERT_FILE, SSL_CERT_DIR
                             replace the system's certificates
  AWS_CA_BUNDLE              the same, for AWS only
  HTTPS_PROXY, ALL_PROXY, NO_PROXY
                             proxy; not used for loopback and plain http

Buckets and tables (`obsync help destinations`):
  AWS_PROFILE, AWS_REGION, …       s3:// and dynamodb://, as in AWS's tools
  AWS_ENDPOINT_URL_S3              URL of another S3-compatible service
  AWS_S3_ADDRESSING_STYLE          how to address buckets: path, virtual, auto
  GOOGLE_APPLICATION_CREDENTIALS   gs:// (untested), as in Google's tools
  AZURE_STORAGE_ACCOUNT_NAME, AZURE_STORAGE_ACCOUNT_KEY
                                   az:// account and its key

Terminal:
  TERM                       if \"dumb\" or unset: lines instead of a bar, and
                             no colours
  NO_COLOR                   no colours in help and usage errors
  TZ                         time zone of printed times

An empty variable counts as unset. Output is UTF-8 in every locale.";

const EXIT_CODES: &str = "\
Exit status of every command:
  0  done; also if you answered no to a question
  1  another error (destination not usable, no space for anything, damaged
     state)
  2  invalid command line
  3  sign-in: account or vault password, two-factor code, expired token or
     subscription; or the encryption of a vault changed
  4  no such vault or destination, or more than one
  5  finished, but some files failed (pull; for example, on a full disk); the
     destination is not what was pulled, or not all of it (verify); or the
     service is not as expected (check-service)
  6  interrupted or cut off midway; the next run continues
  7  another obsync is working on the destination; nothing was done
  8  the service could not be reached, or may not be contacted; nothing was
     done
  9  finished, except for too many deletions: `obsync confirm` allows them
 10  the last successful run is too old (status --max-age)
 11  the vault on the server is older than the destination; nothing was removed

Treat 0 and 7 as success: with 7, another run does the work (but a `verify` that
ends with 7 has compared nothing). 6 and 8 usually pass without action; the
others need your attention. docs/CRON.md has examples.";

const DESTINATIONS: &str = "\
Destinations of a vault:
  ./notes, /backup/notes     a folder; created if it does not exist
  s3://BUCKET/PREFIX         Amazon S3, or an S3-compatible service
  gs://BUCKET/PREFIX         Google Cloud Storage (untested)
  az://CONTAINER/PREFIX      Azure Blob Storage

Each vault needs a folder, bucket or prefix of its own; / and your home folder
itself are refused. Files that obsync did not write are never overwritten. In a
bucket, each file is one object, with its SHA-256 and times as metadata. The
bucket must exist.

Credentials:
  s3://  the standard AWS chain: environment, profile, SSO, container,
         instance. It needs s3:ListBucket on the bucket, and s3:GetObject,
         s3:PutObject, s3:DeleteObject and s3:AbortMultipartUpload on its
         objects. `obsync aws init` creates a bucket and prints the policy.
         For another S3-compatible service, set AWS_ENDPOINT_URL_S3.
  gs://  GOOGLE_APPLICATION_CREDENTIALS, or the credentials of the machine
  az://  AZURE_STORAGE_ACCOUNT_NAME and AZURE_STORAGE_ACCOUNT_KEY

State:
  The state of a destination is stored on this computer, so only this computer
  should pull to it. --state dynamodb://TABLE stores it in a table: then any
  number of computers and functions can take turns.";

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;
    use crate::args::Arguments;

    #[test]
    fn every_line_fits_80_columns() {
        let texts = TOPICS.iter().map(|(_, text)| *text).chain([FIRST_SCREEN]);
        for line in texts.flat_map(str::lines) {
            assert!(line.chars().count() <= 80, "{line}");
        }
    }

    #[test]
    fn the_first_screen_has_every_command_and_at_most_25_lines() {
        assert!(FIRST_SCREEN.lines().count() <= 25);
        for command in Arguments::command().get_subcommands() {
            let name = command.get_name();
            assert!(FIRST_SCREEN.contains(&format!(" {name}")), "{name} is missing");
        }
    }

    #[test]
    fn every_variable_that_an_option_reads_is_explained() {
        let program = Arguments::command();
        let commands = program
            .get_subcommands()
            .flat_map(|command| std::iter::once(command).chain(command.get_subcommands()));
        let options = commands.chain([&program]).flat_map(|command| command.get_arguments());
        for name in options.filter_map(|option| option.get_env()?.to_str()) {
            assert!(ENVIRONMENT.contains(name), "{name} is missing");
        }
    }
}

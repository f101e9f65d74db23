//! The first screen, and the topics of `obsync help`. Every line fits 80 columns.

use clap::Args;

/// The first screen: every command and three examples, in 25 lines at most.
pub(super) const FIRST_SCREEN: &str = "\
Brings Obsidian Sync vaults to a folder or a bucket: exactly, and resumable

Usage: {usage}

Every day:
  login, logout    sign in and keep the token; sign out and forget it
  vaults, create   list the vaults of the account; make one
  pull             bring a vault to a folder or a bucket, or what is new in it
  sync, push       keep the two the same; send only (experimental)
  status, log      what is known of pulled vaults; what was changed, and by whom
  verify           check every pulled file by its content
Now and then:
  confirm          let the deletions go that a run held back
  reset, unlink    forget a destination's state; part it from its vault
  credentials      export a secret for a function or a container; revoke it
  aws, check-service  make a bucket and a table at AWS; try what sync rests on
  totp, completions  print a two-factor code; the completion script of a shell

Examples:
  obsync login
  obsync pull \"My Vault\" ./notes
  obsync pull \"My Vault\" s3://bucket/notes

`obsync help COMMAND` explains a command, `obsync help options`, `environment`,
`exit-codes` and `destinations` what they have in common.";

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
Sign-in (each of these five can be in a file: its name with _FILE):
  OBSIDIAN_EMAIL, OBSIDIAN_PASSWORD   sign in without being asked
  OBSIDIAN_TOTP_SECRET                base32 secret that makes the codes
  OBSIDIAN_AUTH_TOKEN                 a token, instead of signing in
  OBSYNC_VAULT_PASSWORD               password of an end-to-end encrypted vault

obsync:
  OBSYNC_HOME                where obsync keeps its data (else the XDG folders)
  OBSYNC_STATE               where states are kept, as --state
  OBSYNC_ENCRYPTION          open vaults of this kind only, as --encryption
  OBSYNC_MAX_DELETE          how many files a pull may delete, as --max-delete
  OBSYNC_MAX_DELETE_IN_VAULT
                             how many files a sync may delete in the vault
  OBSYNC_BUCKET_DELETES      of a bucket: delete in the vault what is missing
  OBSYNC_PING_URL            monitor to be told of runs, as --ping; or in the
                             file that OBSYNC_PING_URL_FILE names
  OBSYNC_LEASE_SECONDS       with a table: how long a run that died keeps others
                             out [60]
  OBSYNC_API_URL, OBSYNC_ALLOW_HOST, OBSYNC_TIMEOUT, OBSYNC_MIN_SPEED
                             as the options of these names

Network:
  OBSYNC_CA_FILE             as --ca-file
  SSL_CERT_FILE, SSL_CERT_DIR
                             in place of the system's certificates
  AWS_CA_BUNDLE              the same for AWS only
  HTTPS_PROXY, ALL_PROXY, NO_PROXY
                             the proxy; loopback and plain http go direct

Buckets and tables (`obsync help destinations`):
  AWS_PROFILE, AWS_REGION, …       s3:// and dynamodb://: as AWS's own tools
  AWS_ENDPOINT_URL_S3              address of another S3-compatible service
  AWS_S3_ADDRESSING_STYLE          how it names buckets: path, virtual or auto
  GOOGLE_APPLICATION_CREDENTIALS   gs:// (untested): as Google's own tools
  AZURE_STORAGE_ACCOUNT_NAME, AZURE_STORAGE_ACCOUNT_KEY
                                   az://: the account and its key

Terminal:
  TERM                       with \"dumb\" or without one, lines instead of a bar,
                             and no colours
  NO_COLOR                   no colours in help and usage errors
  TZ                         the time zone of printed times

An empty variable counts as unset. Text is printed as UTF-8 whatever the locale.";

const EXIT_CODES: &str = "\
Every command ends with one of these:
  0  done; also when a question was answered with no
  1  an error that none of the others describes (destination not usable, no
     space for anything, damaged state)
  2  the command line cannot be understood
  3  sign-in: account or vault password, two-factor code, expired token or
     subscription; or a vault is encrypted otherwise than before
  4  no such vault or destination, or more than one
  5  finished, but some files failed (pull; such as those for which a disk has
     no space) or differ (verify)
  6  interrupted or cut off midway; the next run goes on where this one stopped
  7  another obsync is working on the destination; nothing was done
  8  the service was not reached, or may not be talked to; nothing was done
  9  finished, but for too many deletions: `obsync confirm` lets them go
 10  the last successful run is too old (status --max-age)
 11  the vault on the server is older than the destination; nothing was removed

A monitor takes 0 and 7 for success: with 7, another run does the work (but a
`verify` that ends with 7 has compared nothing). 6 and 8 pass by themselves; the
others need somebody. docs/CRON.md has examples.";

const DESTINATIONS: &str = "\
Where a vault can be pulled to:
  ./notes, /backup/notes     a folder; made if it is not there
  s3://BUCKET/PREFIX         Amazon S3, or what speaks its protocol
  gs://BUCKET/PREFIX         Google Cloud Storage (untested)
  az://CONTAINER/PREFIX      Azure Blob Storage

A vault has its folder, bucket or prefix to itself; / and your home folder
itself are refused. What somebody else puts there is never overwritten. In a
bucket each file is one object, with its SHA-256 and its times as metadata. The
bucket must be there already.

Credentials:
  s3://  the standard chain of AWS: environment, profile, SSO, container,
         instance. It needs s3:ListBucket for the bucket, and s3:GetObject,
         s3:PutObject, s3:DeleteObject and s3:AbortMultipartUpload for its
         objects. `obsync aws init` makes a bucket, and prints the policy.
         Another maker's service: set AWS_ENDPOINT_URL_S3.
  gs://  GOOGLE_APPLICATION_CREDENTIALS, or those of the machine
  az://  AZURE_STORAGE_ACCOUNT_NAME and AZURE_STORAGE_ACCOUNT_KEY

State:
  What is known of a destination is kept on this computer, so only this one
  should pull to it. --state dynamodb://TABLE keeps it in a table: then any
  number of computers and functions take turns.";

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

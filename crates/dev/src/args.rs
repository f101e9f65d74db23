//! The command line: every option with the sentence that explains it.

use std::path::PathBuf;
use std::time::Duration;

use clap::{ArgAction, Args, Parser, Subcommand};
use obsync_protocol::VaultPath;
use obsync_testkit::Faults;

use crate::values::{Account, Bucket, EndToEndVault, Fault, Loopback};

/// Tools for developing obsync, and for trying it without an account.
#[derive(Debug, Parser)]
#[command(
    name = "obsync-dev",
    version,
    disable_help_subcommand = true,
    max_term_width = 110,
    after_help = "\
Examples:
  obsync-dev demo                                    see obsync at work, without any setup
  obsync-dev server --sign-up --managed Notes        a sync service on this machine
  obsync-dev edit write Notes Daily/today.md Rain    change a vault of that service
  obsync-dev cloud --server                          an emulated cloud, and a vault to copy there
  obsync-dev invoke --local deploy/events/empty.json run the function as AWS Lambda would
  obsync-dev generate --files 1000 --seed 7 ./vault  a folder that looks like a vault
  obsync-dev bench                                   measure obsync on this machine
  obsync-dev soak --minutes 10                       pull over a faulty connection for ten minutes"
)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    pub(crate) command: Command,
    /// Log more (-vv: much more) to standard error
    #[arg(short, long, action = ArgAction::Count, global = true, display_order = 100)]
    pub(crate) verbose: u8,
}

/// A command.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    Server(ServerOptions),
    Edit(EditOptions),
    Cloud(CloudOptions),
    Invoke(InvokeOptions),
    Generate(GenerateOptions),
    Demo(DemoOptions),
    Bench(BenchOptions),
    Soak(SoakOptions),
    Interop(InteropOptions),
}

/// Run a development server of the sync protocol on this machine
///
/// Serves REST calls and WebSocket sessions on one port, until Ctrl-C. Every account sees every vault, except vaults
/// that a client created: those belong to the client's account.
///
/// For tests and experiments only: connections are not encrypted, and every user of this machine can see the
/// passwords on the command line. Do not use real passwords.
#[derive(Debug, Args)]
#[command(after_help = SERVER_EXAMPLES, after_long_help = server_notes())]
pub(crate) struct ServerOptions {
    /// Address to listen on, loopback only. Port 0 takes any free port
    #[arg(long, value_name = "127.0.0.1:PORT", default_value = "127.0.0.1:8787")]
    pub(crate) listen: Loopback,
    /// Store accounts and vaults in this folder, and serve those that are in it [default: in memory only]
    #[arg(long, value_name = "DIR")]
    pub(crate) data: Option<PathBuf>,
    /// Serve the vault of a fixture folder (vault.json, entries.jsonl, blobs/), without writing changes to it
    /// (repeatable)
    #[arg(long, value_name = "FIXTURE_DIR")]
    pub(crate) vault: Vec<PathBuf>,
    /// Add this account, with two-factor authentication if a base32 secret is given (repeatable)
    #[arg(long, value_name = "EMAIL:PASSWORD[:TOTP_SECRET]")]
    pub(crate) user: Vec<Account>,
    /// Create an account for every unknown address that signs in
    #[arg(long)]
    pub(crate) sign_up: bool,
    /// Create a vault with standard encryption: the server provides its password (repeatable)
    #[arg(long, value_name = "NAME")]
    pub(crate) managed: Vec<String>,
    /// Create an end-to-end encrypted vault with encryption version 0, 2 or 3 (repeatable) [default version: 3]
    #[arg(long, value_name = "NAME:PASSWORD[:VERSION]")]
    pub(crate) create: Vec<EndToEndVault>,
    /// Fill empty vaults of --managed and --create with this many generated files
    #[arg(long, value_name = "FILES")]
    pub(crate) fill: Option<usize>,
    /// Inject a fault; `--help` lists them (repeatable)
    #[arg(long, value_name = "NAME[=VALUE]")]
    pub(crate) fault: Vec<Fault>,
}

const SERVER_EXAMPLES: &str = "\
Examples:
  obsync-dev server --sign-up --managed Notes --fill 500
  obsync-dev server --user me@example.com:pw --create \"Diary:secret\" --data ./served
  obsync-dev server --sign-up --managed Notes --fill 500 --fault latency=50ms --fault drop-in-content=2%";

/// The long help's end: the examples, and every fault.
fn server_notes() -> String {
    let mut text = format!(
        "{SERVER_EXAMPLES}\n\n\
         Faults (the first ones are settings). They strike always, or as VALUE says: 10% or 0.1 of the\n\
         time, next:3, after:5, at-most:2, uid:7, or several of these joined by +.\n"
    );
    for (name, help) in Faults::names() {
        let mut heading = name;
        for line in wrapped(help, 76) {
            text.push_str(&format!("  {heading:<19} {line}\n"));
            heading = "";
        }
    }
    text
}

/// The text in lines of at most this many characters, broken between words.
fn wrapped(text: &str, width: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in text.split_whitespace() {
        match lines.last_mut() {
            Some(line) if line.chars().count() + 1 + word.chars().count() <= width => {
                line.extend([" ", word])
            }
            _ => lines.push(word.to_owned()),
        }
    }
    lines
}

/// Change a vault of a development server, as another device would
///
/// Signs in with OBSIDIAN_EMAIL and OBSIDIAN_PASSWORD, and opens an end-to-end encrypted vault with
/// OBSYNC_VAULT_PASSWORD. The server records the change before the command ends, so the next `obsync pull` gets it.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  export OBSIDIAN_EMAIL=you@example.com OBSIDIAN_PASSWORD=any
  obsync-dev edit write Notes Daily/today.md \"Rain until noon\"
  obsync-dev edit write Notes Pictures/cat.png < cat.png
  obsync-dev edit mv Notes Daily Journal
  obsync-dev edit rm Notes Journal/today.md")]
pub(crate) struct EditOptions {
    /// URL of the development server, loopback only
    #[arg(
        long,
        value_name = "URL",
        env = "OBSYNC_API_URL",
        hide_env_values = true,
        default_value = "http://127.0.0.1:8787",
        global = true
    )]
    pub(crate) api_url: String,
    #[command(subcommand)]
    pub(crate) change: Change,
}

/// A change. VAULT is the name or the id of a vault.
#[derive(Debug, Subcommand)]
pub(crate) enum Change {
    /// Create or overwrite a file, and create its folders
    Write {
        /// Name or id of the vault
        vault: String,
        /// Path of the file in the vault
        #[arg(value_parser = vault_path)]
        path: VaultPath,
        /// Its content [default: standard input]
        text: Option<String>,
    },
    /// Remove a file, or a folder with everything in it
    Rm {
        /// Name or id of the vault
        vault: String,
        /// The file or folder
        #[arg(value_parser = vault_path)]
        path: VaultPath,
    },
    /// Move a file, or a folder with everything in it
    Mv {
        /// Name or id of the vault
        vault: String,
        /// The file or folder
        #[arg(value_parser = vault_path)]
        from: VaultPath,
        /// Its new path
        #[arg(value_parser = vault_path)]
        to: VaultPath,
    },
}

/// Emulate S3, DynamoDB, Secrets Manager and Lambda on this machine, for obsync and the function
///
/// Each service listens on a port of its own, until Ctrl-C, and keeps all data in memory. The command creates a
/// bucket and a table, and prints the environment variables for obsync, the function (`obsync-dev invoke`) and any
/// other client of AWS. At the end it prints the number of requests to each service.
///
/// The emulated Lambda accepts events of functions that invoke themselves, but does not run them. Requests to S3 must
/// be signed with the printed key, which is valid only here.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  obsync-dev cloud --server              with a sync server, a vault, and the secret that opens it
  obsync-dev cloud --server --fill 10000
  OBSYNC_API_URL=http://127.0.0.1:8787 obsync-dev cloud --secret secret.json")]
pub(crate) struct CloudOptions {
    /// Bucket to create
    #[arg(long, value_name = "NAME", default_value = "vaults")]
    pub(crate) bucket: Bucket,
    /// Table to create
    #[arg(long, value_name = "NAME", default_value = "obsync-state")]
    pub(crate) table: String,
    /// Create the secret `obsync` from this file: JSON as written by `obsync credentials export`
    #[arg(long, value_name = "FILE")]
    pub(crate) secret: Option<PathBuf>,
    /// Port of S3; DynamoDB, Secrets Manager and Lambda use the next three. 0 takes any four free ports
    #[arg(long, value_name = "PORT", default_value_t = 8790, value_parser = first_of_four)]
    pub(crate) port: u16,
    /// Also run a sync server with a vault, and create the secret that opens it unless --secret is given
    #[arg(long)]
    pub(crate) server: bool,
    /// Number of generated files in the vault of --server
    #[arg(long, value_name = "FILES", default_value_t = 300, requires = "server")]
    pub(crate) fill: usize,
    /// URL of the sync service for the function, without --server [default: the official one]
    #[arg(long, value_name = "URL", env = "OBSYNC_API_URL")]
    pub(crate) api_url: Option<String>,
}

/// Run the function as AWS Lambda would: the real program, with a deadline and a memory limit
///
/// Runs the `bootstrap` program beside this one if it was built, else this program in its place. The function gets
/// the environment variables that begin with AWS_, OBSYNC_, OBSIDIAN_, S3_, STATE_ or LAMBDA_, so it works with
/// `obsync-dev cloud` in another terminal as well as with AWS itself.
///
/// Prints the function's logs and a line for each invocation to standard error, and its answers to standard output,
/// as JSON. If an invocation fails, the exit status is 1.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  obsync-dev invoke --local deploy/events/empty.json      without any setup
  obsync-dev invoke deploy/events/sync-single-vault.json --memory 256
  echo '{\"action\":\"sync\"}' | obsync-dev invoke - --timeout 5 --invocations 20")]
pub(crate) struct InvokeOptions {
    /// Event: a JSON file, or - for standard input
    #[arg(value_name = "EVENT.json")]
    pub(crate) event: PathBuf,
    /// Memory size of the function in MB: set in its environment, and enforced
    #[arg(long, value_name = "MB", default_value_t = 128, value_parser = clap::value_parser!(u32).range(64..=10_240))]
    pub(crate) memory: u32,
    /// Timeout of an invocation in seconds
    #[arg(long, value_name = "S", default_value = "60", value_parser = timeout)]
    pub(crate) timeout: Duration,
    /// Invoke the function again in the same process while the answer is `incomplete`, at most this many times in
    /// total
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=1_000))]
    pub(crate) invocations: u32,
    /// Program to run [default: bootstrap beside this program]
    #[arg(long, value_name = "PATH")]
    pub(crate) function: Option<PathBuf>,
    /// Start an emulated cloud and a sync server in this program, for the duration of the run. The server has the
    /// vault Notes, and the vaults that the events in deploy/events name
    #[arg(long)]
    pub(crate) local: bool,
    /// Number of generated files in each vault of --local
    #[arg(long, value_name = "FILES", default_value_t = 300, requires = "local")]
    pub(crate) files: usize,
}

/// Generate a folder that looks like a vault: notes, attachments, configuration
///
/// Half of the notes are shorter than 2 KiB, some are long, and attachments are random bytes, like compressed
/// pictures. The same number, seed and options generate the same files, byte for byte, on every machine.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  obsync-dev generate --files 1000 --seed 7 ./vault
  obsync-dev generate --files 11000 --seed 1 --many-scripts --max-size 100000 ./vault")]
pub(crate) struct GenerateOptions {
    /// Number of files
    #[arg(long, value_name = "N")]
    pub(crate) files: usize,
    /// Seed of the random generator
    #[arg(long, value_name = "S")]
    pub(crate) seed: u64,
    /// Use names in more than sixty scripts, some of 255 bytes, instead of English names
    #[arg(long)]
    pub(crate) many_scripts: bool,
    /// Share of the files that are pictures, sounds and the like, from 0 to 1
    #[arg(long, value_name = "SHARE", default_value_t = 0.03, value_parser = share)]
    pub(crate) attachments: f64,
    /// Maximum size of a file, in bytes
    #[arg(long, value_name = "BYTES", default_value_t = 16 * 1024 * 1024)]
    pub(crate) max_size: u64,
    /// Factor for all sizes, applied before --max-size
    #[arg(long, value_name = "FACTOR", default_value_t = 1.0, value_parser = factor)]
    pub(crate) scale: f64,
    /// Generate no configuration folder
    #[arg(long)]
    pub(crate) no_configuration: bool,
    /// Folder to fill, new or empty
    #[arg(value_name = "DIR")]
    pub(crate) folder: PathBuf,
}

/// See obsync at work: one device writes a vault, another pulls it with `obsync pull`, the function for AWS Lambda
/// copies it to a bucket, and the first device changes it
///
/// Everything runs on this machine: the server and the cloud in this program, obsync and the function as separate
/// processes, so that their memory can be measured and limited. Each result is compared with the vault; a difference
/// is an error.
#[derive(Debug, Args)]
pub(crate) struct DemoOptions {
    /// Number of files that the first device writes
    #[arg(long, value_name = "N", default_value_t = 300, value_parser = at_least_20)]
    pub(crate) files: usize,
    /// Seed of the generated vault
    #[arg(long, value_name = "S", default_value_t = 1)]
    pub(crate) seed: u64,
    /// Pull to this folder, new or empty, and leave it there [default: a temporary one, removed at the end]
    #[arg(long, value_name = "DIR")]
    pub(crate) keep: Option<PathBuf>,
}

/// Measure obsync on this machine: time, processor time and memory of pulls over loopback
///
/// The server and the cloud run in this program; obsync runs as a separate process, which is measured from start to
/// end. Each result is printed beside its floors, measured in the same run on the same bytes: copying the files with
/// the standard library (also durably), decrypting and hashing them on one processor, putting them to S3, waiting for
/// round trips. The floors show how close obsync is to the optimum on any machine. The pulled files are compared with
/// the vault each time.
///
/// Without options, this takes about two minutes.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  obsync-dev bench
  obsync-dev bench --only small-100k,large-1gb --runs 1
  obsync-dev bench --full --json > bench.json
  obsync-dev bench --runs 15 --obsync target/release/obsync --against ~/.cargo/bin/obsync")]
pub(crate) struct BenchOptions {
    /// Run only these scenarios (repeatable, or a list)
    #[arg(long, value_name = "NAME", value_delimiter = ',')]
    pub(crate) only: Vec<String>,
    /// List the scenarios, and measure nothing
    #[arg(long)]
    pub(crate) list: bool,
    /// Also run the scenarios that take minutes or gigabytes
    #[arg(long)]
    pub(crate) full: bool,
    /// Factor for the number of small files and the size of large files
    #[arg(long, value_name = "FACTOR", default_value_t = 1.0, value_parser = vault_factor)]
    pub(crate) scale: f64,
    /// Number of measurements; the medians are shown
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=100))]
    pub(crate) runs: u32,
    /// Measure this program instead of the built-in obsync
    #[arg(long, value_name = "FILE")]
    pub(crate) obsync: Option<PathBuf>,
    /// Also measure this other obsync, alternating with the first, and print the ratios of time and memory
    #[arg(long, value_name = "FILE")]
    pub(crate) against: Option<PathBuf>,
    /// Pull to this folder's file system [default: that of the temporary folder]
    #[arg(long, value_name = "DIR")]
    pub(crate) dir: Option<PathBuf>,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

/// Pull a large vault repeatedly over a faulty connection, and look for leaks
///
/// The server runs in this program; one separate process makes the pulls. Each round fills a new folder and then
/// updates it after changes, while connections are cut and stall, contents are refused and the server is overloaded.
/// After each pull, the folder must equal the vault, and the process must have no more open files and tasks than
/// before the first pull. At the end, memory must not have grown, and its peak must be below the limit.
///
/// Prints a line for each round. A violation is an error.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  obsync-dev soak
  obsync-dev soak --minutes 1 --files 1000 --seed 7")]
pub(crate) struct SoakOptions {
    /// Duration in minutes; the current round is finished, and there are at least three rounds
    #[arg(long, value_name = "M", default_value_t = 10.0, value_parser = minutes)]
    pub(crate) minutes: f64,
    /// Maximum resident memory of the process that pulls, in MB (10^6 bytes)
    #[arg(long, value_name = "MB", default_value_t = 128, value_parser = clap::value_parser!(u32).range(16..=100_000))]
    pub(crate) memory: u32,
    /// Number of files of the vault, besides two large ones
    #[arg(long, value_name = "N", default_value_t = 10_000, value_parser = at_least_20)]
    pub(crate) files: usize,
    /// Seed of faults and changes
    #[arg(long, value_name = "S", default_value_t = 1)]
    pub(crate) seed: u64,
    /// Pull to this folder's file system [default: that of the temporary folder]
    #[arg(long, value_name = "DIR")]
    pub(crate) dir: Option<PathBuf>,
}

/// Test obsync against a third-party server, and print a row of the table in docs/SERVICES.md
///
/// `dev/interop/run` installs and starts such servers. A difference is an error.
#[derive(Debug, Args)]
pub(crate) struct InteropOptions {
    #[command(subcommand)]
    pub(crate) subject: InteropSubject,
}

/// A subject of the test.
#[derive(Debug, Subcommand)]
pub(crate) enum InteropSubject {
    Bucket(InteropBucket),
    Function(InteropFunction),
}

/// Test an object storage service, configured by AWS_ENDPOINT_URL_S3 and keys, or by AZURE_ variables
///
/// Creates the bucket if it is s3://, runs the conformance suite, and pulls every fixture with changes in between.
#[derive(Debug, Args)]
pub(crate) struct InteropBucket {
    /// Name of the service in the table
    #[arg(long, value_name = "NAME")]
    pub(crate) name: String,
    /// Create the bucket with versioning
    #[arg(long)]
    pub(crate) versioned: bool,
    /// Create the bucket with Object Lock, which retains each object for a day
    #[arg(long)]
    pub(crate) object_lock: bool,
    /// Bucket: s3://NAME or az://NAME
    #[arg(value_name = "BUCKET")]
    pub(crate) bucket: String,
}

/// Test the function in AWS's runtime interface emulator
#[derive(Debug, Args)]
pub(crate) struct InteropFunction {
    /// Name of the emulator in the table
    #[arg(long, value_name = "NAME")]
    pub(crate) name: String,
    /// Path of aws-lambda-rie
    #[arg(long, value_name = "PATH")]
    pub(crate) emulator: PathBuf,
    /// Path of the function's program, bootstrap
    #[arg(long, value_name = "PATH")]
    pub(crate) function: PathBuf,
}

/// The other devices' changes need something to change.
fn at_least_20(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(files @ 20..) => Ok(files),
        _ => Err("expected a number of at least 20".to_owned()),
    }
}

/// The first of four ports, or 0.
fn first_of_four(text: &str) -> Result<u16, String> {
    match text.parse() {
        Ok(port @ ..=65_532) => Ok(port),
        _ => Err("expected a number up to 65532: the next three ports are used too".to_owned()),
    }
}

/// A function's timeout in seconds.
fn timeout(text: &str) -> Result<Duration, String> {
    text.parse()
        .ok()
        .filter(|seconds| (0.1..=900.0).contains(seconds))
        .map(Duration::from_secs_f64)
        .ok_or_else(|| "expected a number of seconds from 0.1 to 900".to_owned())
}

fn share(text: &str) -> Result<f64, String> {
    text.parse()
        .ok()
        .filter(|share| (0.0..=1.0).contains(share))
        .ok_or_else(|| "expected a number from 0 to 1".to_owned())
}

fn vault_path(text: &str) -> Result<VaultPath, String> {
    VaultPath::parse(text).map_err(|error| error.to_string())
}

/// A duration in minutes.
fn minutes(text: &str) -> Result<f64, String> {
    text.parse()
        .ok()
        .filter(|minutes| (0.0..=10_000.0).contains(minutes))
        .ok_or_else(|| "expected a number of minutes from 0 to 10,000".to_owned())
}

/// The factor of vault sizes.
fn vault_factor(text: &str) -> Result<f64, String> {
    text.parse()
        .ok()
        .filter(|factor| (0.001..=10.0).contains(factor))
        .ok_or_else(|| "expected a number from 0.001 to 10".to_owned())
}

/// The factor of file sizes.
fn factor(text: &str) -> Result<f64, String> {
    text.parse()
        .ok()
        .filter(|factor| (0.0..=1e6).contains(factor))
        .ok_or_else(|| "expected a number from 0 to 1,000,000".to_owned())
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_sound() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn the_long_help_of_the_server_lists_every_fault() {
        let help = server_notes();
        for (name, _) in Faults::names() {
            assert!(help.contains(&format!("\n  {name} ")), "{name} is not listed");
        }
    }

    #[test]
    fn texts_are_broken_between_words() {
        assert_eq!(wrapped("one two three", 7), ["one two", "three"]);
        assert_eq!(wrapped("longer than that", 3), ["longer", "than", "that"]);
    }

    #[test]
    fn every_option_of_the_server_is_understood() {
        let line = "obsync-dev server --listen 127.0.0.1:0 --data d --vault a --vault b --user a@b.c:pw \
                    --user d@e.f:pw:JBSWY3DPEHPK3PXPJBSWY3DPEHPK3PXP --sign-up --managed Notes --create Diary:pw:2 \
                    --fill 10 --fault latency=20ms --fault rest-hang";
        let arguments = Arguments::try_parse_from(line.split_whitespace()).unwrap();
        let Command::Server(options) = arguments.command else { panic!("another command") };
        assert_eq!((options.vault.len(), options.user.len(), options.fault.len()), (2, 2, 2));
        assert!(options.sign_up);
    }
}

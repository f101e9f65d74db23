//! The command line: every option with the sentence that explains it.

use std::path::PathBuf;
use std::time::Duration;

use clap::{ArgAction, Args, Parser, Subcommand};
use obsync_protocol::VaultPath;
use obsync_testkit::Faults;

use crate::values::{Account, Bucket, EndToEndVault, Fault, Loopback};

/// Tools for working on obsync, and for trying it without an account.
#[derive(Debug, Parser)]
#[command(
    name = "obsync-dev",
    version,
    disable_help_subcommand = true,
    max_term_width = 110,
    after_help = "\
Examples:
  obsync-dev demo                                    see obsync at work; nothing else is needed
  obsync-dev server --sign-up --managed Notes        a sync service on this machine
  obsync-dev edit write Notes Daily/today.md Rain    change a vault of that service
  obsync-dev cloud --server                          a cloud on this machine, and a vault to bring there
  obsync-dev invoke --local deploy/events/empty.json the function, run as AWS Lambda would
  obsync-dev generate --files 1000 --seed 7 ./vault  a folder that looks like a vault
  obsync-dev bench                                   how fast obsync is on this machine
  obsync-dev soak --minutes 10                       whether it stands a bad line for long"
)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    pub(crate) command: Command,
    /// Tell more (-vv: much more), on standard error
    #[arg(short, long, action = ArgAction::Count, global = true, display_order = 100)]
    pub(crate) verbose: u8,
}

/// What to do.
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

/// Run a development server that speaks the sync protocol, on this machine alone
///
/// It answers REST calls and WebSocket sessions on one port, until Ctrl-C. Every account sees every vault, but those
/// that a client made, which belong to their account.
///
/// It is for tests and for trying things: nothing is encrypted on the way, and passwords on its command line can be
/// seen by every user of this machine. Give it no real ones.
#[derive(Debug, Args)]
#[command(after_help = SERVER_EXAMPLES, after_long_help = server_notes())]
pub(crate) struct ServerOptions {
    /// Where to listen; only on loopback. Port 0 takes any that is free
    #[arg(long, value_name = "127.0.0.1:PORT", default_value = "127.0.0.1:8787")]
    pub(crate) listen: Loopback,
    /// Keep accounts and vaults in this folder, and serve what is in it [default: in memory only]
    #[arg(long, value_name = "DIR")]
    pub(crate) data: Option<PathBuf>,
    /// Serve the vault of a fixture folder (vault.json, entries.jsonl, blobs/); changes are not written to it
    /// (repeatable)
    #[arg(long, value_name = "FIXTURE_DIR")]
    pub(crate) vault: Vec<PathBuf>,
    /// Have this account, with two-factor authentication if a base32 secret is given (repeatable)
    #[arg(long, value_name = "EMAIL:PASSWORD[:TOTP_SECRET]")]
    pub(crate) user: Vec<Account>,
    /// Make an account for every unknown address that signs in
    #[arg(long)]
    pub(crate) sign_up: bool,
    /// Make a vault whose password the server hands out (repeatable)
    #[arg(long, value_name = "NAME")]
    pub(crate) managed: Vec<String>,
    /// Make an end-to-end encrypted vault, of encryption version 0, 2 or 3 (repeatable) [default version: 3]
    #[arg(long, value_name = "NAME:PASSWORD[:VERSION]")]
    pub(crate) create: Vec<EndToEndVault>,
    /// Fill the vaults of --managed and --create, if they are empty, with this many generated files
    #[arg(long, value_name = "FILES")]
    pub(crate) fill: Option<usize>,
    /// Do something wrong; `--help` lists what there is (repeatable)
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
         Faults (the first ones are settings). They strike always, or when VALUE says: 10% or 0.1 of the\n\
         times, next:3, after:5, at-most:2, uid:7, or several of these joined by +.\n"
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

/// Change a vault of a development server, as a device of the user would
///
/// Signs in with OBSIDIAN_EMAIL and OBSIDIAN_PASSWORD; an end-to-end encrypted vault is opened with OBSYNC_VAULT_PASSWORD.
/// Each change is recorded by the server before the command ends, so the next `obsync pull` brings it.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  export OBSIDIAN_EMAIL=you@example.com OBSIDIAN_PASSWORD=any
  obsync-dev edit write Notes Daily/today.md \"Rain until noon\"
  obsync-dev edit write Notes Pictures/cat.png < cat.png
  obsync-dev edit mv Notes Daily Journal
  obsync-dev edit rm Notes Journal/today.md")]
pub(crate) struct EditOptions {
    /// The development server; only on loopback
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

/// What to change. VAULT is the name or the id of a vault.
#[derive(Debug, Subcommand)]
pub(crate) enum Change {
    /// Write a file, new or over an old one, and the folders that it lies in
    Write {
        /// Name or id of the vault
        vault: String,
        /// Where the file is in the vault
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
    /// Give a file, or a folder with everything in it, another path
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

/// Run a cloud for the function and for obsync, on this machine alone: S3, DynamoDB, Secrets Manager, Lambda
///
/// Each service listens on a port of its own, until Ctrl-C, and keeps everything in memory. It makes a bucket and a
/// table, prints the variables by which obsync, the function (`obsync-dev invoke`) and any other client of AWS find
/// them, and tells at the end what was asked of each service.
///
/// Lambda only takes events, for functions that invoke themselves again; it does not run them. Requests to S3 must be
/// signed with the key that is printed; it is worth nothing anywhere else.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  obsync-dev cloud --server              with a sync server, a vault, and the secret that opens it
  obsync-dev cloud --server --fill 10000
  OBSYNC_API_URL=http://127.0.0.1:8787 obsync-dev cloud --secret secret.json")]
pub(crate) struct CloudOptions {
    /// The bucket to make
    #[arg(long, value_name = "NAME", default_value = "vaults")]
    pub(crate) bucket: Bucket,
    /// The table to make
    #[arg(long, value_name = "NAME", default_value = "obsync-state")]
    pub(crate) table: String,
    /// Make the secret `obsync` with the text of this file, JSON as `obsync credentials export` writes it
    #[arg(long, value_name = "FILE")]
    pub(crate) secret: Option<PathBuf>,
    /// Where S3 listens; the three ports after it are DynamoDB's, Secrets Manager's and Lambda's. 0 takes any four that
    /// are free
    #[arg(long, value_name = "PORT", default_value_t = 8790, value_parser = first_of_four)]
    pub(crate) port: u16,
    /// Run a sync server too, with a vault, and make the secret that opens it unless --secret is given
    #[arg(long)]
    pub(crate) server: bool,
    /// How many generated files the vault of --server has
    #[arg(long, value_name = "FILES", default_value_t = 300, requires = "server")]
    pub(crate) fill: usize,
    /// The sync server that the function is to ask, where it is not --server [default: the official one]
    #[arg(long, value_name = "URL", env = "OBSYNC_API_URL")]
    pub(crate) api_url: Option<String>,
}

/// Run the function as AWS Lambda would: the real program, with a deadline and a memory limit
///
/// The program is the `bootstrap` that was built beside this one, else this program in its place. It gets the variables
/// of this terminal that begin with AWS_, OBSYNC_, OBSIDIAN_, S3_, STATE_ or LAMBDA_, so it works with what
/// `obsync-dev cloud` started in another terminal as well as with AWS itself.
///
/// Its logs, and a line on each invocation, are on standard error; its answers on standard output, as JSON. Once an
/// invocation fails, the exit status is 1.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  obsync-dev invoke --local deploy/events/empty.json      to try it: nothing else is needed
  obsync-dev invoke deploy/events/sync-single-vault.json --memory 256
  echo '{\"action\":\"sync\"}' | obsync-dev invoke - --timeout 5 --invocations 20")]
pub(crate) struct InvokeOptions {
    /// The event: a file with JSON, or - for standard input
    #[arg(value_name = "EVENT.json")]
    pub(crate) event: PathBuf,
    /// The function's memory size in MB, which is told to it and which it is held to
    #[arg(long, value_name = "MB", default_value_t = 128, value_parser = clap::value_parser!(u32).range(64..=10_240))]
    pub(crate) memory: u32,
    /// How many seconds an invocation may take before it is killed
    #[arg(long, value_name = "S", default_value = "60", value_parser = timeout)]
    pub(crate) timeout: Duration,
    /// Invoke it again, so many times in all at most, while the answer is `incomplete`; the process stays the same
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=1_000))]
    pub(crate) invocations: u32,
    /// The program to run [default: bootstrap beside this program]
    #[arg(long, value_name = "PATH")]
    pub(crate) function: Option<PathBuf>,
    /// Start a cloud and a sync server for it, in this program, and end them after it. The server has the vault Notes, and
    /// what an event of deploy/events names
    #[arg(long)]
    pub(crate) local: bool,
    /// How many generated files each vault of --local has
    #[arg(long, value_name = "FILES", default_value_t = 300, requires = "local")]
    pub(crate) files: usize,
}

/// Write a folder that looks like a vault: notes, attachments, configuration
///
/// Half of the notes are shorter than 2 KiB, some are long, and attachments are noise, as compressed pictures are. The
/// same number, seed and options give the same files, byte for byte, on every machine.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  obsync-dev generate --files 1000 --seed 7 ./vault
  obsync-dev generate --files 11000 --seed 1 --many-scripts --max-size 100000 ./vault")]
pub(crate) struct GenerateOptions {
    /// How many files
    #[arg(long, value_name = "N")]
    pub(crate) files: usize,
    /// What everything depends on, a number
    #[arg(long, value_name = "S")]
    pub(crate) seed: u64,
    /// Names in more than sixty scripts, some of 255 bytes, instead of English ones
    #[arg(long)]
    pub(crate) many_scripts: bool,
    /// Share of the files that are pictures, sounds and the like, from 0 to 1
    #[arg(long, value_name = "SHARE", default_value_t = 0.03, value_parser = share)]
    pub(crate) attachments: f64,
    /// Size that no file is larger than, in bytes
    #[arg(long, value_name = "BYTES", default_value_t = 16 * 1024 * 1024)]
    pub(crate) max_size: u64,
    /// What to multiply all sizes by, before --max-size
    #[arg(long, value_name = "FACTOR", default_value_t = 1.0, value_parser = factor)]
    pub(crate) scale: f64,
    /// Without a configuration folder
    #[arg(long)]
    pub(crate) no_configuration: bool,
    /// The folder, new or empty
    #[arg(value_name = "DIR")]
    pub(crate) folder: PathBuf,
}

/// See obsync at work: one device writes a vault, another pulls it with `obsync pull`, the function for AWS Lambda
/// brings it to a bucket, and the first device changes it
///
/// Everything runs on this machine: the server and the cloud in this program, obsync and the function as processes of
/// their own, so that their memory can be measured and limited. Each result is compared with what the vault holds; a
/// difference is an error.
#[derive(Debug, Args)]
pub(crate) struct DemoOptions {
    /// How many files the first device writes
    #[arg(long, value_name = "N", default_value_t = 300, value_parser = at_least_20)]
    pub(crate) files: usize,
    /// What the vault depends on, a number
    #[arg(long, value_name = "S", default_value_t = 1)]
    pub(crate) seed: u64,
    /// Pull to this folder, new or empty, and leave it there [default: a temporary one, removed at the end]
    #[arg(long, value_name = "DIR")]
    pub(crate) keep: Option<PathBuf>,
}

/// Measure obsync on this machine: time, processor time and memory of pulls over loopback
///
/// The server and the cloud are in this program, obsync a process of its own, and what is measured is that process from
/// its start to its end. Beside each result stand floors, measured in the same run on the same bytes: copying the files
/// with the standard library (durably, too), decrypting and hashing them on one processor, putting them to S3, waiting
/// for round trips. They tell how far from possible obsync is on any machine. What was pulled is compared with the vault
/// each time.
///
/// Without options this takes about two minutes.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  obsync-dev bench
  obsync-dev bench --only small-100k,large-1gb --runs 1
  obsync-dev bench --full --json > bench.json
  obsync-dev bench --runs 15 --obsync target/release/obsync --against ~/.cargo/bin/obsync")]
pub(crate) struct BenchOptions {
    /// Only these scenarios (repeatable, or a list)
    #[arg(long, value_name = "NAME", value_delimiter = ',')]
    pub(crate) only: Vec<String>,
    /// List the scenarios, and measure nothing
    #[arg(long)]
    pub(crate) list: bool,
    /// The scenarios that take minutes or gigabytes, too
    #[arg(long)]
    pub(crate) full: bool,
    /// What to multiply the vaults' numbers of small files and their large files' sizes by
    #[arg(long, value_name = "FACTOR", default_value_t = 1.0, value_parser = vault_factor)]
    pub(crate) scale: f64,
    /// How often to measure; the medians are shown
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=100))]
    pub(crate) runs: u32,
    /// Measure this program in place of the obsync that is built into this one
    #[arg(long, value_name = "FILE")]
    pub(crate) obsync: Option<PathBuf>,
    /// Measure this other obsync as well, by turns with the first, and tell how many times as long and as large the first is
    #[arg(long, value_name = "FILE")]
    pub(crate) against: Option<PathBuf>,
    /// Pull to this folder's file system [default: that of the temporary folder]
    #[arg(long, value_name = "DIR")]
    pub(crate) dir: Option<PathBuf>,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

/// Pull a large vault over and over through a line that breaks and a server that errs, and look for what grows
///
/// The server is in this program; the pulls are made by one process of their own. In each round a new folder is filled
/// from nothing and then brought up to date after changes, while connections are cut and stall, contents are refused
/// and the server is overloaded. After each pull the folder must be exactly the vault, no file may be open and no task be
/// alive that was not before the first; at the end memory must not have grown, and its peak must be below the limit.
///
/// Prints a line for each round. A miss is an error.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  obsync-dev soak
  obsync-dev soak --minutes 1 --files 1000 --seed 7")]
pub(crate) struct SoakOptions {
    /// How long to go on; the round that has begun is finished, and there are three at least
    #[arg(long, value_name = "M", default_value_t = 10.0, value_parser = minutes)]
    pub(crate) minutes: f64,
    /// How much memory the process that pulls may have resident at most, in MB (10^6 bytes)
    #[arg(long, value_name = "MB", default_value_t = 128, value_parser = clap::value_parser!(u32).range(16..=100_000))]
    pub(crate) memory: u32,
    /// Files of the vault, besides two large ones
    #[arg(long, value_name = "N", default_value_t = 10_000, value_parser = at_least_20)]
    pub(crate) files: usize,
    /// What faults and changes depend on, a number
    #[arg(long, value_name = "S", default_value_t = 1)]
    pub(crate) seed: u64,
    /// Pull to this folder's file system [default: that of the temporary folder]
    #[arg(long, value_name = "DIR")]
    pub(crate) dir: Option<PathBuf>,
}

/// Try obsync against a server that others wrote, and print a row of the table of docs/SERVICES.md
///
/// `dev/interop/run` installs and starts such servers. A difference is an error.
#[derive(Debug, Args)]
pub(crate) struct InteropOptions {
    #[command(subcommand)]
    pub(crate) subject: InteropSubject,
}

/// What to try.
#[derive(Debug, Subcommand)]
pub(crate) enum InteropSubject {
    Bucket(InteropBucket),
    Function(InteropFunction),
}

/// A service of buckets, found as obsync finds it: by AWS_ENDPOINT_URL_S3 and keys, or by AZURE_ variables
///
/// Makes the bucket where it is s3://, runs the conformance suite, and pulls every fixture with changes between.
#[derive(Debug, Args)]
pub(crate) struct InteropBucket {
    /// What the service is called in the table
    #[arg(long, value_name = "NAME")]
    pub(crate) name: String,
    /// Make the bucket with versions
    #[arg(long)]
    pub(crate) versioned: bool,
    /// Make the bucket with Object Lock, each object kept for a day
    #[arg(long)]
    pub(crate) object_lock: bool,
    /// The bucket, s3://NAME or az://NAME
    #[arg(value_name = "BUCKET")]
    pub(crate) bucket: String,
}

/// The function in AWS's runtime interface emulator
#[derive(Debug, Args)]
pub(crate) struct InteropFunction {
    /// What the emulator is called in the table
    #[arg(long, value_name = "NAME")]
    pub(crate) name: String,
    /// The program aws-lambda-rie
    #[arg(long, value_name = "PATH")]
    pub(crate) emulator: PathBuf,
    /// The function's program, bootstrap
    #[arg(long, value_name = "PATH")]
    pub(crate) function: PathBuf,
}

/// The other devices' changes need something to change.
fn at_least_20(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(files @ 20..) => Ok(files),
        _ => Err("it is a number from 20 on".to_owned()),
    }
}

/// The first of four ports, or 0.
fn first_of_four(text: &str) -> Result<u16, String> {
    match text.parse() {
        Ok(port @ ..=65_532) => Ok(port),
        _ => Err("it is a number up to 65532: three more ports follow".to_owned()),
    }
}

/// A function's timeout in seconds.
fn timeout(text: &str) -> Result<Duration, String> {
    text.parse()
        .ok()
        .filter(|seconds| (0.1..=900.0).contains(seconds))
        .map(Duration::from_secs_f64)
        .ok_or_else(|| "it is a number of seconds from 0.1 to 900".to_owned())
}

fn share(text: &str) -> Result<f64, String> {
    text.parse()
        .ok()
        .filter(|share| (0.0..=1.0).contains(share))
        .ok_or_else(|| "it is a number from 0 to 1".to_owned())
}

fn vault_path(text: &str) -> Result<VaultPath, String> {
    VaultPath::parse(text).map_err(|error| error.to_string())
}

/// A duration in minutes.
fn minutes(text: &str) -> Result<f64, String> {
    text.parse()
        .ok()
        .filter(|minutes| (0.0..=10_000.0).contains(minutes))
        .ok_or_else(|| "it is a number of minutes from 0 to 10,000".to_owned())
}

/// The factor of vault sizes.
fn vault_factor(text: &str) -> Result<f64, String> {
    text.parse()
        .ok()
        .filter(|factor| (0.001..=10.0).contains(factor))
        .ok_or_else(|| "it is a number from 0.001 to 10".to_owned())
}

/// The factor of file sizes.
fn factor(text: &str) -> Result<f64, String> {
    text.parse()
        .ok()
        .filter(|factor| (0.0..=1e6).contains(factor))
        .ok_or_else(|| "it is a number from 0 to 1,000,000".to_owned())
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

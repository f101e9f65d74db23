//! The command line: every option with the sentence that explains it.

use std::path::PathBuf;

use clap::{ArgAction, Args, Parser, Subcommand};
use obsync_testkit::Faults;

use crate::values::{Account, EndToEndVault, Fault, Loopback};

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
  obsync-dev generate --files 1000 --seed 7 ./vault  a folder that looks like a vault
  obsync-dev bench                                   how fast obsync is on this machine"
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
    Generate(GenerateOptions),
    Demo(DemoOptions),
    Bench(BenchOptions),
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

/// The text in lines of at most so many characters, broken between words.
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

/// See obsync at work: one device writes a vault, another pulls it with `obsync pull`, the first changes it
///
/// Everything runs on this machine: the server in this program, obsync as a process of its own, so that its memory can
/// be measured. Each result is compared with what the vault holds; a difference is an error.
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
/// The server is in this program, obsync a process of its own, and what is measured is that process from its start to
/// its end. Beside each result stands a floor, measured in the same run on the same bytes: copying the files with the
/// standard library and decrypting and hashing them on one processor. It tells how far from possible obsync is on any
/// machine. Every pulled folder is compared with the vault.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  obsync-dev bench
  obsync-dev bench --files 100000 --large-mb 0 --runs 1
  obsync-dev bench --json > bench.json")]
pub(crate) struct BenchOptions {
    /// Files of the vault of small files; 0 leaves it out
    #[arg(long, value_name = "N", default_value_t = 10_000)]
    pub(crate) files: usize,
    /// Size of the one large file in MB (10^6 bytes); 0 leaves it out
    #[arg(long, value_name = "MB", default_value_t = 190, value_parser = clap::value_parser!(u64).range(..=2_000))]
    pub(crate) large_mb: u64,
    /// How often to measure; the medians are shown
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=100))]
    pub(crate) runs: u32,
    /// Pull to this folder's file system [default: that of the temporary folder]
    #[arg(long, value_name = "DIR")]
    pub(crate) dir: Option<PathBuf>,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

/// The demonstration's changes need something to change.
fn at_least_20(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(files @ 20..) => Ok(files),
        _ => Err("it is a number from 20 on".to_owned()),
    }
}

/// A share of a whole.
fn share(text: &str) -> Result<f64, String> {
    text.parse()
        .ok()
        .filter(|share| (0.0..=1.0).contains(share))
        .ok_or_else(|| "it is a number from 0 to 1".to_owned())
}

/// What sizes are multiplied by.
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

//! The program obsync as a separate process: this program, run again under another command, and measured.
//!
//! `obsync-dev obsync ARGS…` is the program obsync; `obsync-dev measured FILE PROGRAM ARGS…` runs a program,
//! waits for it, and writes its resource use to FILE; `obsync-dev bootstrap` is the function for AWS Lambda;
//! `obsync-dev soaking` pulls for the soak test. All are handled before the command line of this program is
//! parsed, so that obsync has the process to itself.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};

use anyhow::{Context, Result, bail};
use secrecy::{ExposeSecret, SecretString};
use tokio::runtime::Builder;

use crate::console::note;
use crate::measure::{Usage, run_measured};
use crate::pull::PullReport;
use crate::soak::{self, SOAKING};

/// The command that is the program obsync.
const OBSYNC: &str = "obsync";

/// The command that runs a program and measures it.
const MEASURED: &str = "measured";

/// The command that is the function for AWS Lambda, the program `bootstrap`.
pub(crate) const BOOTSTRAP: &str = "bootstrap";

/// The exit status of a process that a signal ended, as shells have it for SIGKILL.
const KILLED: u8 = 137;

/// Handles a command line with one of this module's commands.
pub(crate) fn serve(args: &[OsString]) -> Option<ExitCode> {
    match args.get(1)?.to_str()? {
        OBSYNC => Some(obsync_cli::main_with(args[1..].iter().cloned())),
        MEASURED => Some(measured(args)),
        BOOTSTRAP => Some(bootstrap()),
        SOAKING => Some(soak::worker::serve()),
        _ => None,
    }
}

/// Serves invocations as the program `bootstrap` does, with as many threads.
fn bootstrap() -> ExitCode {
    match Builder::new_multi_thread().worker_threads(2).enable_all().build() {
        Ok(runtime) => runtime.block_on(obsync_lambda::serve()),
        Err(error) => {
            note(&format!("obsync-dev: the function cannot start: {error}"));
            ExitCode::FAILURE
        }
    }
}

fn measured(args: &[OsString]) -> ExitCode {
    let [_, _, file, program, args @ ..] = args else {
        return ExitCode::FAILURE;
    };
    let run = || -> Result<Option<i32>> {
        let (code, usage) = run_measured(Command::new(program).args(args))?;
        fs::write(file, serde_json::to_vec(&usage)?)?;
        Ok(code)
    };
    match run() {
        Ok(code) => code.and_then(|code| u8::try_from(code).ok()).unwrap_or(KILLED).into(),
        Err(error) => {
            note(&format!("obsync-dev: cannot run and measure obsync: {error:#}"));
            ExitCode::FAILURE
        }
    }
}

/// Runs obsync as one user of one server, with its own home folder.
#[derive(Debug)]
pub(crate) struct Obsync {
    /// This program.
    measurer: PathBuf,
    /// The program, with the arguments that make it obsync.
    program: (PathBuf, &'static [&'static str]),
    home: PathBuf,
    environment: Vec<(String, SecretString)>,
}

/// A run of obsync that has ended.
#[derive(Debug)]
pub(crate) struct Finished {
    /// Its standard output.
    pub(crate) output: String,
    /// Its resource use.
    pub(crate) usage: Usage,
}

/// Credentials of obsync: the account, and the password of the vault.
#[derive(Clone, Debug)]
pub(crate) struct Identity {
    /// The account's address.
    pub(crate) email: String,
    /// The account's password.
    pub(crate) password: SecretString,
    /// The password of an end-to-end vault.
    pub(crate) vault_password: Option<SecretString>,
}

impl Obsync {
    /// obsync with its tokens and state below `home`, for the server at `url`.
    pub(crate) fn new(home: &Path, url: &str, identity: &Identity) -> Result<Self> {
        fs::create_dir_all(home).with_context(|| format!("cannot make {}", home.display()))?;
        let mut environment = vec![
            ("OBSYNC_API_URL".to_owned(), SecretString::from(url)),
            ("OBSIDIAN_EMAIL".to_owned(), SecretString::from(identity.email.as_str())),
            ("OBSIDIAN_PASSWORD".to_owned(), identity.password.clone()),
        ];
        let vault_password = identity.vault_password.clone();
        environment.extend(vault_password.map(|password| ("OBSYNC_VAULT_PASSWORD".to_owned(), password)));
        let measurer = std::env::current_exe().context("cannot find this program's own file")?;
        let program = (measurer.clone(), &[OBSYNC][..]);
        Ok(Self { measurer, program, home: home.to_path_buf(), environment })
    }

    /// Uses another obsync than the built-in one.
    pub(crate) fn with_program(&mut self, program: &Path) {
        self.program = (program.to_path_buf(), &[]);
    }

    /// Adds variables, for a cloud.
    pub(crate) fn with_environment(&mut self, variables: Vec<(String, String)>) {
        self.environment.extend(variables.into_iter().map(|(name, value)| (name, SecretString::from(value))));
    }

    /// Runs a command of obsync to its end.
    ///
    /// # Errors
    /// When it cannot be run, or its status is not 0.
    pub(crate) fn run(&self, args: &[&OsStr]) -> Result<Finished> {
        let usage_file = tempfile::NamedTempFile::new().context("cannot make a temporary file")?;
        let (program, first) = &self.program;
        let mut command = Command::new(&self.measurer);
        command
            .arg(MEASURED)
            .arg(usage_file.path())
            .arg(program)
            .args(*first)
            .args(args)
            .stdin(Stdio::null());
        for (name, _) in std::env::vars_os() {
            if is_ours(&name) {
                command.env_remove(name);
            }
        }
        command.env("OBSYNC_HOME", &self.home);
        for (name, value) in &self.environment {
            command.env(name, value.expose_secret());
        }
        let output = command.output().context("cannot run obsync")?;
        if !output.status.success() {
            bail!("`obsync {}` failed ({}):\n{}", shown(args), output.status, printed(&output));
        }
        let usage =
            serde_json::from_slice(&fs::read(usage_file.path())?).context("obsync was not measured")?;
        Ok(Finished { output: String::from_utf8_lossy(&output.stdout).into_owned(), usage })
    }

    /// Signs in, so that later commands have a token.
    pub(crate) fn login(&self) -> Result<Finished> {
        self.run(&["login".as_ref(), "--quiet".as_ref()])
    }

    /// Pulls a vault into a folder or a bucket.
    pub(crate) fn pull(&self, vault: &str, destination: impl AsRef<OsStr>) -> Result<(PullReport, Usage)> {
        let options = ["--json", "--quiet"].map(OsStr::new);
        let args = [&["pull".as_ref(), vault.as_ref(), destination.as_ref()], &options[..]].concat();
        let finished = self.run(&args)?;
        let report: PullReport =
            serde_json::from_str(&finished.output).context("the report of `obsync pull` cannot be read")?;
        if report.outcome != "complete" {
            let first =
                report.failures.first().map(|failure| format!("; {}: {}", failure.path, failure.reason));
            bail!("`obsync pull` ended with the outcome {:?}{}", report.outcome, first.unwrap_or_default());
        }
        Ok((report, finished.usage))
    }
}

/// True for environment variables of obsync: the user's must not be inherited.
fn is_ours(name: &OsStr) -> bool {
    let name = name.to_string_lossy();
    ["OBSYNC_", "OBSIDIAN_", "AWS_"].iter().any(|beginning| name.starts_with(beginning))
}

fn shown(args: &[&OsStr]) -> String {
    args.iter().map(|arg| arg.to_string_lossy()).collect::<Vec<_>>().join(" ")
}

/// The output of a failed process, its errors first.
fn printed(output: &std::process::Output) -> String {
    let text = [&output.stderr, &output.stdout].map(|bytes| String::from_utf8_lossy(bytes).trim().to_owned());
    text.join("\n").trim().to_owned()
}

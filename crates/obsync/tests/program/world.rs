//! A separate world for each test: a server, and a home and a working directory for the program.

use std::fs;
use std::io::ErrorKind;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Output;
use std::time::Duration;

use crate::schemas::assert_known;
use assert_cmd::Command;
use obsync_testkit::{Expected, Server, ServerBuilder, VaultHandle, VaultSpec};
use serde_json::Value;
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::runtime::Runtime;

/// The account of every world.
pub(crate) const EMAIL: &str = "me@example.com";
pub(crate) const PASSWORD: &str = "account-s3cret";
/// The password of the end-to-end encrypted vault `Private`.
pub(crate) const VAULT_PASSWORD: &str = "vault-s3cret";

/// Longer than any run of the program takes, unless it hangs.
const LIMIT: Duration = Duration::from_secs(120);

/// Dropped in this order: the server stops before its runtime.
pub(crate) struct World {
    pub(crate) server: Server,
    pub(crate) runtime: Runtime,
    directory: TempDir,
}

/// Waits until an address is free: another test may have been given its port the moment it was free.
async fn until_free(address: SocketAddr) {
    while TcpListener::bind(address).await.is_err_and(|error| error.kind() == ErrorKind::AddrInUse) {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// The exit status and output of a run of the program.
#[derive(Debug)]
pub(crate) struct Ran {
    pub(crate) code: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl World {
    /// A server with the account [`EMAIL`] and the vaults `Notes` (standard) and `Private` (end-to-end).
    pub(crate) fn new() -> Self {
        Self::with(|builder| {
            builder.vault(VaultSpec::managed("Notes")).vault(VaultSpec::end_to_end("Private", VAULT_PASSWORD))
        })
    }

    /// A server with the account [`EMAIL`] and further contents.
    pub(crate) fn with(more: impl FnOnce(ServerBuilder) -> ServerBuilder) -> Self {
        Self::without_account(|builder| more(builder.user(EMAIL, PASSWORD)))
    }

    /// A server with the given contents.
    pub(crate) fn without_account(more: impl FnOnce(ServerBuilder) -> ServerBuilder) -> Self {
        let runtime = Runtime::new().unwrap();
        let server = runtime.block_on(more(Server::builder()).start()).unwrap();
        World { server, runtime, directory: tempfile::tempdir().unwrap() }
    }

    /// Ends the server, and starts another at the same address, also with the account [`EMAIL`].
    pub(crate) fn serve_instead(&mut self, more: impl FnOnce(ServerBuilder) -> ServerBuilder) {
        let address = self.server.address();
        self.server = self.runtime.block_on(async {
            let stand_in = Server::builder().start().await.unwrap();
            std::mem::replace(&mut self.server, stand_in).shutdown().await;
            tokio::time::timeout(LIMIT, until_free(address)).await.unwrap();
            more(Server::builder().listen(address).user(EMAIL, PASSWORD)).start().await.unwrap()
        });
    }

    /// The vault with this name, to be written to.
    pub(crate) fn vault(&self, name: &str) -> VaultHandle {
        self.server.vault(name).unwrap()
    }

    /// A command with the id of the vault "Notes" in the place of its name, as messages have it.
    pub(crate) fn with_id(&self, command: &str) -> String {
        command.replacen(" Notes ", &format!(" {} ", self.vault("Notes").id()), 1)
    }

    /// Where the program runs; destinations are named relative to it.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// The program's own directory.
    pub(crate) fn home(&self) -> PathBuf {
        self.path("home")
    }

    /// The program with only the addresses of the server and its home in its environment.
    pub(crate) fn anonymous(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_obsync"));
        command
            .args(args)
            .current_dir(self.directory.path())
            .env_clear()
            .env("TZ", "UTC")
            .env("OBSYNC_HOME", self.home())
            .env("OBSYNC_API_URL", self.server.url())
            .timeout(LIMIT);
        command
    }

    /// The program with the account's credentials in its environment.
    pub(crate) fn command(&self, args: &[&str]) -> Command {
        let mut command = self.anonymous(args);
        command.env("OBSIDIAN_EMAIL", EMAIL).env("OBSIDIAN_PASSWORD", PASSWORD);
        command
    }

    /// Runs the program with the account's credentials.
    pub(crate) fn run(&self, args: &[&str]) -> Ran {
        ran(&mut self.command(args))
    }

    /// Runs the program with the account's credentials; it must succeed.
    pub(crate) fn must(&self, args: &[&str]) -> Ran {
        self.run(args).expect(0)
    }

    /// The text with everything that differs from run to run replaced by a placeholder.
    pub(crate) fn redacted(&self, text: &str) -> String {
        let directory = self.directory.path().canonicalize().unwrap();
        let mut text = text.replace(directory.to_str().unwrap(), "[DIR]");
        text = text.replace(self.server.url().as_str(), "[URL]").replace(&self.server.host(), "[HOST]");
        for vault in self.server.vaults() {
            text = text.replace(vault.id().as_str(), &format!("[ID of {}]", vault.name()));
        }
        without_durations(&text)
    }

    /// The differences of a destination from the vault; empty when there are none.
    pub(crate) fn differences(&self, vault: &str, destination: &str) -> Vec<String> {
        self.vault(vault).expected().unwrap().differences(&self.path(destination)).unwrap()
    }

    /// The files of a destination: path and content, sorted.
    pub(crate) fn files(&self, destination: &str) -> Vec<(String, String)> {
        let root = self.path(destination);
        let found = Expected::of_directory(&root).unwrap();
        let content = |path: &str| String::from_utf8_lossy(&fs::read(root.join(path)).unwrap()).into_owned();
        found.files.iter().map(|file| (file.path.clone(), content(&file.path))).collect()
    }
}

impl Ran {
    /// The same with a known exit status.
    #[track_caller]
    pub(crate) fn expect(self, code: i32) -> Self {
        assert_eq!(self.code, code, "stdout:\n{}\nstderr:\n{}", self.stdout, self.stderr);
        self
    }

    /// The output as one JSON document.
    #[track_caller]
    pub(crate) fn json(&self) -> Value {
        let document =
            serde_json::from_str(&self.stdout).unwrap_or_else(|error| panic!("{error}: {:?}", self.stdout));
        assert_known(&document);
        assert_eq!(document["exit_code"], self.code, "{document:#}");
        document
    }

    /// The standard error without the line about a vault that is opened for the first time.
    pub(crate) fn errors(&self) -> String {
        let lines = self.stderr.split_inclusive('\n');
        lines.filter(|line| !line.contains("is opened for the first time")).collect()
    }

    /// All output for a snapshot, without that line.
    pub(crate) fn told(&self, world: &World) -> String {
        let mut told = format!("exit status {}\n", self.code);
        for (name, text) in [("stdout", &self.stdout), ("stderr", &self.errors())] {
            if !text.is_empty() {
                told.push_str(&format!("--- {name}\n{}", world.redacted(text)));
            }
        }
        told
    }
}

/// Runs a command to its end, which must not be a signal or the time limit.
#[track_caller]
pub(crate) fn ran(command: &mut Command) -> Ran {
    let Output { status, stdout, stderr } = command.output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    let (stdout, stderr) = (text(stdout), text(stderr));
    let code = status.code().unwrap_or_else(|| panic!("{status}\nstdout:\n{stdout}\nstderr:\n{stderr}"));
    for secret in [PASSWORD, VAULT_PASSWORD] {
        assert!(
            !stdout.contains(secret) && !stderr.contains(secret),
            "a secret was printed:\n{stdout}\n{stderr}"
        );
    }
    assert!(!stderr.contains("panicked"), "{stderr}");
    Ran { code, stdout, stderr }
}

/// `12.3 s` becomes `[TIME]`.
fn without_durations(text: &str) -> String {
    let mut words: Vec<String> = text.split(' ').map(str::to_owned).collect();
    for index in 1..words.len() {
        let unit =
            words[index].trim_end_matches(|c: char| !c.is_alphanumeric()).split('\n').next() == Some("s");
        let number = words[index - 1].trim_start_matches('(').to_owned();
        if unit && number.contains('.') && number.parse::<f64>().is_ok() {
            words[index - 1] = words[index - 1].replace(&number, "[TIME]");
        }
    }
    words.join(" ")
}

/// Writes a file and its folders into a destination, as a user would.
pub(crate) fn put(file: &Path, content: &str) {
    fs::create_dir_all(file.parent().unwrap()).unwrap();
    fs::write(file, content).unwrap();
}

//! Runs the program `obsync-dev` like a user.

#![expect(clippy::unwrap_used, reason = "in tests, helper functions included, a failure is told by a panic")]

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Output, Stdio};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use obsync_client::{Client, ClientError, ClientOptions};
use obsync_protocol::VaultInfo;
use obsync_testkit::Expected;
use serde_json::Value;

fn obsync_dev(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_obsync-dev"));
    command.args(args).stdin(Stdio::null());
    command
}

fn output(mut command: Command) -> Output {
    command.output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// A running server; it is ended with the test, however that ends.
struct Running {
    child: Child,
    stdout: BufReader<ChildStdout>,
    url: String,
}

impl Running {
    fn start(args: &[&str]) -> Self {
        let args = [&["server", "--listen", "127.0.0.1:0"], args].concat();
        let mut child = obsync_dev(&args).stdout(Stdio::piped()).spawn().unwrap();
        let mut stdout = BufReader::new(child.stdout.take().unwrap());
        let mut line = String::new();
        stdout.read_line(&mut line).unwrap();
        let url =
            line.split_whitespace().find(|word| word.starts_with("http://")).unwrap_or_default().to_owned();
        Self { child, stdout, url }
    }

    fn client(&self) -> Client {
        Client::new(ClientOptions { api_url: self.url.clone(), ..ClientOptions::default() }).unwrap()
    }

    /// Sends it SIGTERM, as service managers do; returns the rest of its output, and true if it ended well.
    fn stop(mut self) -> (String, bool) {
        kill(Pid::from_raw(i32::try_from(self.child.id()).unwrap()), Signal::SIGTERM).unwrap();
        let mut rest = String::new();
        self.stdout.read_to_string(&mut rest).unwrap();
        (rest, self.child.wait().unwrap().success())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

async fn vaults(server: &Running, email: &str, password: &str) -> Result<Vec<VaultInfo>, ClientError> {
    let client = server.client();
    let token = client.sign_in(email, &password.into(), None).await?.token;
    client.vaults(&token).await
}

#[test]
fn the_demonstration_ends_well_whatever_the_users_own_obsync_is_set_to() {
    let home = tempfile::tempdir().unwrap();
    let notes = home.path().join("notes");
    let mut command = obsync_dev(&["demo", "--files", "60", "--keep", notes.to_str().unwrap()]);
    command
        .env("OBSYNC_HOME", home.path().join("of the user"))
        .env("OBSYNC_VAULT_PASSWORD", "another")
        .env("OBSIDIAN_AUTH_TOKEN", "no token");
    let output = output(command);
    let told = text(&output.stdout);
    assert!(output.status.success(), "{told}\n{}", text(&output.stderr));
    assert!(told.contains("All of it is as it must be."), "{told}");
    assert_eq!(told.matches("✓").count(), 6, "{told}");
    assert!(told.contains("$ obsync pull \"Field notes\""), "{told}");
    for told_of_the_bucket in [
        "incomplete in ",
        "complete in ",
        "warm start",
        " of 128 MB",
        "progress in the table: 59 of 59 files, complete",
        "metrics in the log: metric_type \"sync_performance\"",
        "requests: S3 ",
        "vaults/notes/Field notes/ has 59 objects",
        "sha256 ",
    ] {
        assert!(told.contains(told_of_the_bucket), "{told_of_the_bucket} is missing:\n{told}");
    }
    assert!(told.lines().count() < 70, "{told}");
    assert!(notes.join("Seasons/Autumn/First.md").is_file());
    assert!(!home.path().join("of the user").exists());
}

#[test]
fn the_demonstration_does_not_mix_with_notes_of_the_user() {
    let notes = tempfile::tempdir().unwrap();
    fs::write(notes.path().join("mine.md"), "mine").unwrap();
    let output = output(obsync_dev(&["demo", "--keep", notes.path().to_str().unwrap()]));
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).contains("is not empty"), "{}", text(&output.stderr));
    assert_eq!(fs::read_dir(notes.path()).unwrap().count(), 1);
}

#[test]
fn the_same_seed_generates_the_same_folder_and_another_seed_another() {
    let home = tempfile::tempdir().unwrap();
    let generate = |name: &str, seed: &str| {
        let folder = home.path().join(name);
        let args = ["generate", "--files", "120", "--seed", seed, "--many-scripts", "--max-size", "50000"];
        let mut command = obsync_dev(&args);
        command.arg(&folder);
        let output = output(command);
        assert!(output.status.success(), "{}", text(&output.stderr));
        assert!(text(&output.stdout).starts_with("Wrote 120 files"), "{}", text(&output.stdout));
        Expected::of_directory(&folder).unwrap()
    };
    let one = generate("one", "7");
    assert_eq!(one.files.len(), 120);
    assert_eq!(one, generate("the same", "7"));
    assert_ne!(one, generate("another", "8"));
}

#[test]
fn generated_files_do_not_mix_with_files_of_the_user() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("mine.md"), "mine").unwrap();
    let mut command = obsync_dev(&["generate", "--files", "10", "--seed", "1"]);
    command.arg(folder.path());
    let output = output(command);
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
}

#[tokio::test]
async fn the_server_has_what_it_was_told_to_have_and_ends_when_it_is_told_to() {
    let fixture = obsync_testkit::fixture_dir("official-v0");
    let server = Running::start(&[
        "--user",
        "me@example.com:hunter2",
        "--managed",
        "Notes",
        "--create",
        "Diary:secret:2",
        "--fill",
        "30",
        "--vault",
        fixture.to_str().unwrap(),
    ]);
    let found = vaults(&server, "me@example.com", "hunter2").await.unwrap();
    let found: Vec<_> = found.iter().map(|vault| (vault.name.as_str(), vault.encryption_version)).collect();
    assert_eq!(found, [("official-v0", 0), ("Notes", 3), ("Diary", 2)]);
    let refused = vaults(&server, "you@example.com", "hunter2").await;
    assert!(matches!(refused, Err(ClientError::WrongCredentials)), "{refused:?}");
    let url = server.url.clone();
    let (told, ended_well) = server.stop();
    assert!(ended_well, "{told}");
    assert!(told.contains(&format!("export OBSYNC_API_URL={url}")), "{told}");
    assert!(told.contains("encryption version 2, 30 files"), "{told}");
    assert!(told.contains("Served 3 REST calls"), "{told}");
    assert!(!told.contains("hunter2") && !told.contains("secret"), "{told}");
}

#[tokio::test]
async fn what_the_server_keeps_is_there_when_it_is_started_again() {
    let data = tempfile::tempdir().unwrap();
    let folder = data.path().join("served");
    let args = ["--data", folder.to_str().unwrap(), "--managed", "Notes", "--fill", "20", "--sign-up"];
    let server = Running::start(&args);
    let first = vaults(&server, "me@example.com", "hunter2").await.unwrap();
    server.stop();
    let server = Running::start(&args);
    let second = vaults(&server, "me@example.com", "hunter2").await.unwrap();
    assert_eq!(first.len(), 1);
    assert_eq!((&first[0].id, first[0].size), (&second[0].id, second[0].size));
    assert!(first[0].size > 0);
}

#[tokio::test]
async fn the_server_does_wrong_what_it_was_told_to() {
    let server =
        Running::start(&["--sign-up", "--fault", "rest-status-error=next:1", "--fault", "rest-status=418"]);
    let first = vaults(&server, "me@example.com", "hunter2").await;
    assert!(matches!(first, Err(ClientError::Http { status: 418 })), "{first:?}");
    vaults(&server, "me@example.com", "hunter2").await.unwrap();
}

#[test]
fn what_the_server_cannot_be_told_is_refused_with_a_sentence() {
    for (args, status, sentence) in [
        (&["--sign-up", "--listen", "0.0.0.0:0"][..], 2, "for this machine alone"),
        (&["--sign-up", "--fault", "nonsense"], 2, "there is no fault \"nonsense\""),
        (&["--sign-up", "--fault", "latency=soon"], 2, "it is a duration"),
        (&["--user", "me@example.com"], 2, "EMAIL:PASSWORD"),
        (&["--sign-up", "--create", "Diary:secret:1"], 2, "0, 2 or 3"),
        (&["--sign-up", "--vault", "no/such/vault"], 1, "cannot be read"),
        (&["--listen", "127.0.0.1:0"], 1, "nobody could sign in"),
    ] {
        let output = output(obsync_dev(&[&["server"], args].concat()));
        let told = text(&output.stderr);
        assert_eq!(output.status.code(), Some(status), "{args:?}: {told}");
        assert!(told.contains(sentence), "{args:?}: {told}");
    }
}

#[test]
fn the_benchmark_measures_the_pulling_process_alone() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path().to_str().unwrap();
    let args = ["bench", "--only", "large-200mb", "--scale", "0.4", "--runs", "1", "--json", "--dir", dir];
    let output = output(obsync_dev(&args));
    assert!(output.status.success(), "{}", text(&output.stderr));
    let results: Value = serde_json::from_slice(&output.stdout).unwrap();
    let first = &results["rows"][0];
    assert_eq!((first["requests"].as_u64(), first["bytes"].as_u64()), (Some(4), Some(80_000_000)));
    // The benchmark itself has the vault in memory; the pulling process never has all of it.
    let memory = first["peak_memory_bytes"].as_u64().unwrap();
    assert!((2_000_000..75_000_000).contains(&memory), "{first}");
    let floors: Vec<&str> =
        first["floors"].as_array().unwrap().iter().map(|floor| floor["kind"].as_str().unwrap()).collect();
    assert_eq!(floors, ["copy", "durable_copy", "crypto"]);
    assert!(is_empty(folder.path()), "the folder was not tidied up");
}

#[test]
fn each_step_of_a_benchmark_stands_beside_its_floors() {
    let args = ["bench", "--only", "s3-10k,rtt20-10k", "--scale", "0.004", "--runs", "1", "--json"];
    let output = output(obsync_dev(&args));
    assert!(output.status.success(), "{}", text(&output.stderr));
    let results: Value = serde_json::from_slice(&output.stdout).unwrap();
    let rows: Vec<Value> = results["rows"].as_array().unwrap().clone();
    let told: Vec<String> = rows.iter().map(named).collect();
    let steps = ["first", "again", "changed", "renamed"];
    let both = ["rtt20-10k", "s3-10k"].iter().flat_map(|name| steps.map(|step| format!("{name} {step}")));
    assert_eq!(told, both.collect::<Vec<_>>());
    assert_eq!(floors(&rows[0]), ["latency"]);
    assert_eq!(floors(&rows[1]), ["trips"]);
    assert_eq!(floors(&rows[4]), ["puts"]);
    for row in &rows {
        assert!(row["wall_seconds"].as_f64().unwrap() > 0.0, "{row}");
    }
    assert!(rows[4]["cloud_requests"].as_u64().unwrap() >= 40, "{}", rows[4]);
    assert_eq!([&rows[1], &rows[3]].map(|row| row["requests"].as_u64()), [Some(0); 2]);
}

fn named(row: &Value) -> String {
    [&row["scenario"], &row["step"]].map(|part| part.as_str().unwrap()).join(" ")
}

fn floors(row: &Value) -> Vec<&str> {
    row["floors"].as_array().unwrap().iter().map(|floor| floor["kind"].as_str().unwrap()).collect()
}

#[test]
fn the_benchmark_lists_its_scenarios_and_refuses_others() {
    let listed = output(obsync_dev(&["bench", "--list"]));
    assert!(
        text(&listed.stdout).contains("rtt20-10k           10,000 small files to a folder, round trip 20 ms")
    );
    let refused = output(obsync_dev(&["bench", "--only", "nonsense"]));
    assert_eq!(refused.status.code(), Some(1));
    assert!(text(&refused.stderr).contains("there is no scenario \"nonsense\""), "{}", text(&refused.stderr));
}

fn is_empty(folder: &Path) -> bool {
    fs::read_dir(folder).unwrap().next().is_none()
}

#[test]
fn pulls_through_everything_that_goes_wrong_are_exact_and_leave_nothing_behind() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path().to_str().unwrap();
    let output =
        output(obsync_dev(&["soak", "--minutes", "0", "--files", "300", "--seed", "3", "--dir", dir]));
    let told = text(&output.stdout);
    assert!(output.status.success(), "{told}\n{}", text(&output.stderr));
    assert_eq!(told.matches("\nround ").count(), 9, "{told}");
    assert!(told.contains("9 rounds, each exact."), "{told}");
    assert!(told.contains("No descriptor and no task was left."), "{told}");
    assert!(is_empty(folder.path()), "the folder was not tidied up");
}

#[test]
fn memory_above_the_limit_of_a_soak_is_a_miss() {
    let output = output(obsync_dev(&["soak", "--minutes", "0", "--files", "20", "--memory", "16"]));
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).contains("the memory's peak was"), "{}", text(&output.stderr));
}

#[test]
fn it_is_the_program_obsync_too() {
    let output = output(obsync_dev(&["obsync", "--version"]));
    assert!(output.status.success());
    assert!(text(&output.stdout).starts_with("obsync "), "{}", text(&output.stdout));
}

#[test]
fn a_vault_of_the_server_is_changed_from_the_command_line_and_pulled_as_it_is_then() {
    let home = tempfile::tempdir().unwrap();
    let args = ["--sign-up", "--managed", "Notes", "--create", "Diary:secret"];
    let server = Running::start(&args);
    let run = |mut command: Command, code: i32| {
        command
            .current_dir(home.path())
            .env("OBSYNC_API_URL", &server.url)
            .env("OBSYNC_HOME", home.path().join("home"))
            .env("OBSIDIAN_EMAIL", "you@example.com")
            .env("OBSIDIAN_PASSWORD", "any")
            .env("OBSYNC_VAULT_PASSWORD", "secret");
        let output = output(command);
        let told = text(&output.stdout) + &text(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{told}");
        told
    };
    let edit = |args: &[&str], code: i32| run(obsync_dev(&[&["edit"], args].concat()), code);
    let pulled = |vault: &str, kind: &str| {
        let args = ["obsync", "pull", vault, vault, "--encryption", kind, "--quiet"];
        run(obsync_dev(&args), 0);
        let folder = home.path().join(vault);
        let files = Expected::of_directory(&folder).unwrap().files;
        let content = |path: &str| fs::read_to_string(folder.join(path)).unwrap();
        files.iter().map(|file| (file.path.clone(), content(&file.path))).collect::<Vec<_>>()
    };
    for (vault, kind) in [("Notes", "standard"), ("Diary", "end-to-end")] {
        edit(&["write", vault, "Daily/one.md", "first"], 0);
        edit(&["write", vault, "Daily/Deep/two.md", "second"], 0);
        edit(&["write", vault, "Daily/one.md", "first again"], 0);
        edit(&["write", vault, "gone.md", "gone"], 0);
        assert_eq!(edit(&["rm", vault, "gone.md"], 0), "Removed gone.md (1 file).\n");
        assert_eq!(
            edit(&["mv", vault, "Daily", "Journal/2026"], 0),
            "Moved Daily to Journal/2026 (2 files).\n"
        );
        edit(&["mv", vault, "Journal/2026/one.md", "top.md"], 0);
        let expected = [("Journal/2026/Deep/two.md", "second"), ("top.md", "first again")];
        assert_eq!(pulled(vault, kind), expected.map(|(path, text)| (path.to_owned(), text.to_owned())));
    }
    edit(&["rm", "Notes", "Journal"], 0);
    assert_eq!(pulled("Notes", "standard").len(), 1);
    for (args, sentence) in [
        (&["rm", "Notes", "nothing.md"][..], "there is no nothing.md in the vault"),
        (&["rm", "Nothing", "top.md"], "the server has no vault"),
        (&["mv", "Notes", "top.md", "top.md"], "cannot be moved"),
        (&["write", "Notes", "top.md/below.md", "x"], "top.md is a file"),
        (&["rm", "Notes", "top.md", "--api-url", "https://api.obsidian.md"], "is not on this machine"),
    ] {
        let told = edit(args, 1);
        assert!(told.contains(sentence), "{told}");
    }
}

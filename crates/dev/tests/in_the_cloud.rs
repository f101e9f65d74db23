//! Runs `obsync-dev cloud` and `obsync-dev invoke` like a user: each is a process, and so is the function.

#![expect(clippy::unwrap_used, reason = "in tests, helper functions included, a failure is told by a panic")]

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Output, Stdio};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

/// An event for everything.
const SYNC: &str = r#"{"action":"sync"}"#;

/// The program, with only these variables for the function.
fn program(path: &Path, args: &[&str], variables: &[(String, String)]) -> Command {
    let mut command = Command::new(path);
    command.args(args).stdin(Stdio::null());
    for (name, _) in std::env::vars_os() {
        let name = name.to_string_lossy().into_owned();
        if ["AWS_", "OBSYNC_", "OBSIDIAN_", "S3_", "STATE_", "LAMBDA_"].iter().any(|it| name.starts_with(it))
        {
            command.env_remove(name);
        }
    }
    command.envs(variables.iter().map(|(name, value)| (name, value)));
    command
}

fn obsync_dev(args: &[&str], variables: &[(String, String)]) -> Command {
    program(Path::new(env!("CARGO_BIN_EXE_obsync-dev")), args, variables)
}

fn variable(name: &str, value: &str) -> (String, String) {
    (name.to_owned(), value.to_owned())
}

/// A running cloud; it is ended with the test, however that ends.
struct Cloud {
    child: Child,
    stdout: BufReader<ChildStdout>,
    /// The variables that it prints for exporting.
    variables: Vec<(String, String)>,
}

impl Cloud {
    fn start(args: &[&str]) -> Self {
        let args = [&["cloud", "--port", "0"], args].concat();
        let mut child = obsync_dev(&args, &[]).stdout(Stdio::piped()).spawn().unwrap();
        let mut stdout = BufReader::new(child.stdout.take().unwrap());
        let mut variables = Vec::new();
        let mut line = String::new();
        // The next commands are the last line that it prints.
        while !line.starts_with("Then:") {
            line.clear();
            assert!(stdout.read_line(&mut line).unwrap() > 0, "the cloud ended");
            if let Some((name, value)) =
                line.trim().strip_prefix("export ").and_then(|rest| rest.split_once('='))
            {
                variables.push(variable(name, value));
            }
        }
        Self { child, stdout, variables }
    }

    fn value(&self, name: &str) -> &str {
        self.variables.iter().find(|(other, _)| other == name).map_or("", |(_, value)| value)
    }

    /// Sends it SIGTERM, as service managers do; returns the rest of its output.
    fn stop(mut self) -> String {
        kill(Pid::from_raw(i32::try_from(self.child.id()).unwrap()), Signal::SIGTERM).unwrap();
        let mut rest = String::new();
        self.stdout.read_to_string(&mut rest).unwrap();
        assert!(self.child.wait().unwrap().success(), "{rest}");
        rest
    }
}

impl Drop for Cloud {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The output of an invocation and how it ended.
struct Invoked {
    answers: Vec<Value>,
    errors: String,
    code: Option<i32>,
}

impl Invoked {
    fn of(output: &Output) -> Self {
        let answers = serde_json::Deserializer::from_slice(&output.stdout).into_iter();
        Self {
            answers: answers.map(Result::unwrap).collect(),
            errors: String::from_utf8_lossy(&output.stderr).into_owned(),
            code: output.status.code(),
        }
    }

    /// The lines on the invocations.
    fn summaries(&self) -> Vec<&str> {
        self.errors.lines().filter(|line| line.starts_with("invocation ")).collect()
    }

    #[track_caller]
    fn answer(&self) -> &Value {
        assert_eq!((self.code, self.answers.len()), (Some(0), 1), "{}", self.errors);
        &self.answers[0]
    }
}

/// Runs the command with this on its standard input.
fn with_input(mut command: Command, input: &str) -> Invoked {
    let mut child =
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    // A program that does not read its input may have closed it.
    let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
    Invoked::of(&child.wait_with_output().unwrap())
}

fn invoke(variables: &[(String, String)], args: &[&str], event: &str) -> Invoked {
    with_input(obsync_dev(&[&["invoke", "-"], args].concat(), variables), event)
}

fn invoke_locally(args: &[&str], event: &str) -> Invoked {
    invoke(&[], &[&["--local", "--files", "20", "--memory", "256"], args].concat(), event)
}

#[test]
fn the_variables_that_the_cloud_prints_bring_a_vault_into_its_bucket() {
    let cloud = Cloud::start(&["--server", "--fill", "20", "--bucket", "my-notes", "--table", "my-state"]);
    assert_eq!((cloud.value("S3_BUCKET"), cloud.value("STATE_TABLE_NAME")), ("my-notes", "my-state"));
    let folder = tempfile::tempdir().unwrap();
    let event = folder.path().join("event.json");
    fs::write(&event, r#"{"action":"sync","vault_id":"Notes"}"#).unwrap();
    let args = ["invoke", event.to_str().unwrap(), "--memory", "256"];
    let first = Invoked::of(&obsync_dev(&args, &cloud.variables).output().unwrap());
    let answer = first.answer();
    assert_eq!((answer["status"].as_str(), answer["files_count"].as_u64()), (Some("complete"), Some(20)));
    assert_eq!(answer["vaults"][0]["destination"], "s3://my-notes/Notes");
    assert!(first.errors.contains("\"message\":\"Sync metrics\""), "{}", first.errors);
    let [summary] = first.summaries()[..] else { panic!("{}", first.errors) };
    assert!(summary.starts_with("invocation 1: complete in "), "{summary}");
    assert!(summary.contains("cold start ") && summary.contains(" of 256 MB"), "{summary}");
    let again = invoke(&cloud.variables, &["--memory", "256"], SYNC);
    assert_eq!(again.answer()["vaults"][0]["message"], "nothing had changed");
    let told = cloud.stop();
    assert!(told.contains("PutObject 21"), "{told}");
    assert!(told.contains("DynamoDB") && told.contains("Secrets Manager 2 (GetSecretValue 2)"), "{told}");
}

#[test]
fn the_secret_of_a_file_and_the_server_of_a_variable_are_what_the_function_gets() {
    let folder = tempfile::tempdir().unwrap();
    let secret = folder.path().join("secret.json");
    fs::write(&secret, r#"{"auth":{"email":"you@example.com","password":"pw"}}"#).unwrap();
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    // Nobody listens there any more.
    let url = format!("http://127.0.0.1:{port}");
    let cloud = Cloud::start(&["--secret", secret.to_str().unwrap(), "--api-url", &url]);
    assert_eq!((cloud.value("OBSYNC_SECRET_NAME"), cloud.value("OBSYNC_API_URL")), ("obsync", url.as_str()));
    let invoked = invoke(&cloud.variables, &["--memory", "256", "--timeout", "3"], SYNC);
    assert_eq!(invoked.code, Some(1), "{}", invoked.errors);
    assert!(cloud.stop().contains("GetSecretValue 1"));
}

#[test]
fn what_the_cloud_cannot_be_told_is_refused_with_a_sentence() {
    let folder = tempfile::tempdir().unwrap();
    let bad = folder.path().join("bad.json");
    fs::write(&bad, "hunter2").unwrap();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    for (args, status, sentence) in [
        (&["--bucket", "No Bucket"][..], 2, "lower-case letters"),
        (&["--port", "65533"], 2, "the next three ports"),
        (&["--fill", "10"], 2, "--server"),
        (&["--port", "0", "--table", "t"], 1, "cannot make the table"),
        (&["--port", "0", "--secret", bad.to_str().unwrap()], 1, "is not JSON (line 1"),
        (&["--port", "0", "--secret", "no/such/secret"], 1, "cannot be read"),
        (&["--port", &port], 1, "cannot listen"),
    ] {
        let output = obsync_dev(&[&["cloud"], args].concat(), &[]).output().unwrap();
        let told = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(status), "{args:?}: {told}");
        assert!(told.contains(sentence) && !told.contains("hunter2"), "{args:?}: {told}");
    }
}

#[test]
fn one_line_tries_the_function_out() {
    let invoked = invoke_locally(&[], SYNC);
    assert_eq!(invoked.answer()["files_count"], 20);
    for told in ["a cloud and a sync server on this machine", "has 20 objects", "PutObject 21"] {
        assert!(invoked.errors.contains(told), "{}", invoked.errors);
    }
}

/// Each shipped event, without any preparation.
#[test]
fn every_sample_of_an_event_runs() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../deploy/events");
    let mut samples: Vec<_> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    samples.sort();
    assert!(samples.len() >= 20, "{samples:?}");
    for sample in samples {
        let path = sample.to_str().unwrap();
        // One as README runs it, with the memory and the files that are the defaults.
        let defaults: &[&str] = match path.ends_with("/empty.json") {
            true => &[],
            false => &["--files", "5", "--memory", "256"],
        };
        let args = [&["invoke", "--local"], defaults, &[path]].concat();
        let invoked = Invoked::of(&obsync_dev(&args, &[]).output().unwrap());
        let answer = invoked.answer();
        let body = answer["body"].as_str().map(|body| serde_json::from_str::<Value>(body).unwrap());
        let said = body.as_ref().unwrap_or(answer);
        assert!(answer["statusCode"].as_u64().is_none_or(|code| code == 200), "{path}: {answer}");
        let is_well = |field: &str| said[field].as_bool().is_none_or(|well| well);
        assert!(said["error"].is_null() && is_well("success"), "{path}: {answer}");
        assert!(said["errors"].as_array().is_none_or(Vec::is_empty), "{path}: {answer}");
        let failed = said["batchItemFailures"].as_array().map_or(0, Vec::len);
        assert_eq!(failed, 0, "{path}: {answer}\n{}", invoked.errors);
        // Notifications are acknowledged, and everything else is done.
        let syncs = !["status", "api-gateway", "object-created", "s3-test"]
            .contains(&sample.file_stem().unwrap().to_str().unwrap());
        assert_eq!(invoked.errors.contains("PutObject"), syncs, "{path}: {answer}\n{}", invoked.errors);
    }
}

#[test]
fn a_function_that_is_not_built_is_this_program_in_its_place() {
    let folder = tempfile::tempdir().unwrap();
    let alone = folder.path().join("obsync-dev");
    fs::copy(env!("CARGO_BIN_EXE_obsync-dev"), &alone).unwrap();
    let args = ["invoke", "--local", "--files", "20", "--memory", "256", "-"];
    let invoked = with_input(program(&alone, &args, &[]), SYNC);
    assert_eq!(invoked.answer()["status"], "complete");
    assert!(invoked.errors.contains("obsync-dev bootstrap: 256 MB ("), "{}", invoked.errors);
    // A requested program must exist.
    let missing = invoke_locally(&["--function", "no/such/bootstrap"], SYNC);
    assert_eq!(missing.code, Some(1));
    assert!(missing.errors.contains("cargo build --release --package obsync-lambda"), "{}", missing.errors);
}

#[test]
fn an_invocation_that_fails_is_told_as_lambda_tells_it_and_ends_with_1() {
    let invoked = invoke_locally(&[], r#"{"action":"dance"}"#);
    assert_eq!((invoked.code, invoked.answers.len()), (Some(1), 1), "{}", invoked.errors);
    assert_eq!(invoked.answers[0]["errorType"], "InvalidEvent");
    assert!(invoked.answers[0]["errorMessage"].as_str().unwrap().contains("dance"));
    assert!(invoked.errors.contains("obsync-dev: invocation 1 failed: InvalidEvent"), "{}", invoked.errors);
    // Without any variables the function can do nothing.
    let unconfigured = invoke(&[], &["--memory", "256"], SYNC);
    assert_eq!(unconfigured.code, Some(1));
    assert!(unconfigured.errors.contains("S3_BUCKET"), "{}", unconfigured.errors);
}

#[test]
fn a_function_is_held_to_its_time_and_its_memory() {
    let folder = tempfile::tempdir().unwrap();
    let hog = script(folder.path(), "hog", "exec dd if=/dev/zero of=/dev/null bs=400M count=50");
    let out_of_memory = invoke_locally(&["--function", &hog], SYNC);
    assert_eq!(out_of_memory.code, Some(1));
    assert!(out_of_memory.errors.contains("more than 256 MB of memory"), "{}", out_of_memory.errors);
    let broken = script(folder.path(), "broken", "echo about to end; exit 3");
    let ended = invoke_locally(&["--function", &broken], SYNC);
    assert_eq!(ended.code, Some(1));
    assert!(ended.errors.contains("about to end\n"), "{}", ended.errors);
    assert!(ended.errors.contains("ended without an answer (exit status: 3)"), "{}", ended.errors);
}

#[test]
fn the_function_knows_its_deadline_and_answers_before_it() {
    // Accepts connections, and never answers.
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", silent.local_addr().unwrap());
    let variables = [
        variable("S3_BUCKET", "vaults"),
        variable("OBSIDIAN_EMAIL", "me@example.com"),
        variable("OBSIDIAN_PASSWORD", "pw"),
        variable("OBSYNC_API_URL", &url),
    ];
    let invoked = invoke(&variables, &["--memory", "256", "--timeout", "1"], SYNC);
    assert_eq!((invoked.code, invoked.answers.len()), (Some(1), 1), "{}", invoked.errors);
    assert_eq!(invoked.answers[0]["errorType"], "TimeOver");
}

fn script(folder: &Path, name: &str, text: &str) -> String {
    use std::os::unix::fs::PermissionsExt;
    let path = folder.join(name);
    fs::write(&path, format!("#!/bin/sh\n{text}\n")).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    path.to_str().unwrap().to_owned()
}

#[test]
fn an_event_that_is_none_is_refused_before_anything_is_started() {
    for (args, event, sentence) in [
        (&["invoke", "-"][..], "{not json", "standard input is not JSON"),
        (&["invoke", "-"], "", "standard input is not JSON"),
        (&["invoke", "no/such/event.json"], "", "cannot be read"),
    ] {
        let invoked = with_input(obsync_dev(args, &[]), event);
        assert_eq!((invoked.code, invoked.answers.len()), (Some(1), 0), "{}", invoked.errors);
        assert!(invoked.errors.contains(sentence), "{}", invoked.errors);
        assert_eq!(invoked.errors.lines().count(), 1, "{}", invoked.errors);
    }
}

#[test]
fn what_is_not_done_in_time_is_gone_on_with_in_the_same_process() {
    let cloud = Cloud::start(&["--server", "--fill", "1500"]);
    let mut variables = cloud.variables.clone();
    variables.push(variable("LAMBDA_BATCH_SIZE", "20"));
    // Far too short for 1,500 files, and enough for some.
    let short = ["--memory", "256", "--timeout", "2", "--invocations", "200"];
    let invoked = invoke(&variables, &short, r#"{"action":"sync","vault_id":"Notes"}"#);
    assert_eq!(invoked.code, Some(0), "{}", invoked.errors);
    let statuses: Vec<&str> =
        invoked.answers.iter().map(|answer| answer["status"].as_str().unwrap()).collect();
    assert_eq!(statuses.last(), Some(&"complete"), "{statuses:?}");
    assert!(statuses.iter().rev().skip(1).all(|status| *status == "incomplete"), "{statuses:?}");
    let starts = |what: &str| invoked.summaries().iter().filter(|line| line.contains(what)).count();
    assert_eq!((starts("cold start"), starts("warm start")), (1, statuses.len() - 1), "{}", invoked.errors);
}

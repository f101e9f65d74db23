//! Every exit status that each command with `--json` can reach: one value of the command's schema, with the
//! status of the process and a code that docs/JSON.md lists.
//!
//! One server and one home serve all rows of the table, in its order.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use obsync_testkit::{Chance, Faults, VaultSpec};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::json::{check, ended, start};
use crate::world::{Ran, VAULT_PASSWORD, World, put, ran};

const NOON: i64 = 1_767_268_800_000;

/// The setup that makes a command end as in a row.
#[derive(Clone, Copy)]
enum How {
    /// Nothing.
    So,
    /// It has another environment. An empty variable counts as unset.
    With(&'static [(&'static str, &'static str)]),
    /// The server has this fault.
    Fault(&'static str),
    /// The subscription has expired.
    Expired,
    /// SIGINT, while the service does not answer.
    Stopped,
    /// TLS is requested from a server without TLS.
    Tls,
}

use How::{Expired, Fault, So, Stopped, Tls, With};

/// Nobody is signed in, and nothing was pulled.
const STRANGER: How = With(&[("OBSYNC_HOME", "nobody"), ("OBSIDIAN_EMAIL", ""), ("OBSIDIAN_PASSWORD", "")]);
const WRONG_PASSWORD: How = With(&[("OBSYNC_HOME", "nobody"), ("OBSIDIAN_PASSWORD", "wr0ng")]);
/// All states are damaged.
const DAMAGED: How = With(&[("OBSYNC_HOME", "damaged")]);
/// All states are from a later release.
const FUTURE: How = With(&[("OBSYNC_HOME", "future")]);
/// The home of somebody who has opened the vault with a password.
const OPENER: How = With(&[("OBSYNC_HOME", "opener")]);
/// The file with the stored token is damaged.
const SCRIBBLED: How = With(&[("OBSYNC_HOME", "scribbled")]);
const AWAY: How = With(&[("OBSYNC_API_URL", "http://127.0.0.1:1/"), ("OBSYNC_TIMEOUT", "1")]);

/// The setup, the command line without `--json`, the exit status, the code of the error.
type Row = (How, &'static str, i32, &'static str);

const ROWS: &[Row] = &[
    (So, "pull Notes notes", 0, ""),
    (So, "pull Notes file", 1, "destination"),
    (So, "pull Kept notes", 1, "other_vault"),
    (DAMAGED, "pull Notes notes", 1, "state_damaged"),
    (SCRIBBLED, "pull Notes notes", 1, "error"),
    (So, "pull Notes", 2, "usage"),
    (So, "pull Notes s3://bucket/notes --mirror", 2, "usage"),
    (STRANGER, "pull Notes notes", 3, "not_signed_in"),
    (WRONG_PASSWORD, "pull Notes notes", 3, "sign_in"),
    (Expired, "pull Notes notes", 3, "subscription_expired"),
    (So, "pull Private private", 3, "vault_password"),
    (So, "pull Notes notes --encryption end-to-end", 3, "encryption_changed"),
    (So, "pull Nots new", 4, "vault_not_found"),
    (So, "pull Twin new", 4, "vault_ambiguous"),
    (So, "pull Broken broken", 5, "failures"),
    (Stopped, "pull Notes notes", 6, "interrupted"),
    (So, "pull Notes busy", 7, "already_running"),
    (AWAY, "pull Notes notes", 8, "unreachable"),
    (Tls, "pull Notes notes", 8, "certificate"),
    (So, "pull Emptied emptied", 9, "held_back"),
    (So, "sync Notes both --yes", 0, ""),
    (So, "sync Notes file --yes", 1, "destination"),
    (So, "sync Kept both --yes", 1, "other_vault"),
    (DAMAGED, "sync Notes both --yes", 1, "state_damaged"),
    (So, "sync Notes both --bucket-deletes", 2, "usage"),
    (STRANGER, "sync Notes both --yes", 3, "not_signed_in"),
    (WRONG_PASSWORD, "sync Notes both --yes", 3, "sign_in"),
    (Expired, "sync Notes both --yes", 3, "subscription_expired"),
    (So, "sync Private private --yes", 3, "vault_password"),
    (So, "sync Nots both --yes", 4, "vault_not_found"),
    (So, "sync Twin new --yes", 4, "vault_ambiguous"),
    (So, "sync Broken broken --yes", 5, "failures"),
    (Stopped, "sync Notes both --yes", 6, "interrupted"),
    (So, "sync Notes busy --yes", 7, "already_running"),
    (AWAY, "sync Notes both --yes", 8, "unreachable"),
    (So, "sync Kept kept --yes", 9, "held_back"),
    (FUTURE, "sync Notes both --yes", 1, "state_newer"),
    (Fault("vault-full=always"), "sync Refused refused --yes", 5, "failures"),
    (Fault("per-file-max=4"), "sync Refused refused --yes", 5, "failures"),
    (So, "sync Lost emptied-wholly --yes", 0, ""),
    (So, "sync Lost emptied-but-for-ours --yes", 0, ""),
    (So, "sync Lost removed --yes", 0, ""),
    (So, "push Notes both --yes", 0, ""),
    (So, "push Notes file --yes", 1, "destination"),
    (So, "push Kept both --yes", 1, "other_vault"),
    (DAMAGED, "push Notes both --yes", 1, "state_damaged"),
    (So, "push Notes both --bucket-deletes", 2, "usage"),
    (STRANGER, "push Notes both --yes", 3, "not_signed_in"),
    (WRONG_PASSWORD, "push Notes both --yes", 3, "sign_in"),
    (Expired, "push Notes both --yes", 3, "subscription_expired"),
    (So, "push Notes nowhere --yes", 4, "destination_unknown"),
    (So, "push Nots both --yes", 4, "vault_not_found"),
    (So, "push Twin both --yes", 4, "vault_ambiguous"),
    (FUTURE, "push Notes both --yes", 1, "state_newer"),
    (Fault("vault-full=always"), "push Refused refused --yes", 5, "failures"),
    (Fault("per-file-max=4"), "push Refused refused --yes", 5, "failures"),
    (Fault("refuse-push=always"), "push Refused refused --yes", 5, "failures"),
    (Stopped, "push Notes both --yes", 6, "interrupted"),
    (So, "push Notes busy --yes", 7, "already_running"),
    (AWAY, "push Notes both --yes", 8, "unreachable"),
    (So, "push Sent sent --yes", 9, "held_back"),
    (So, "verify notes", 0, ""),
    (DAMAGED, "verify notes", 1, "state_damaged"),
    (So, "verify", 2, "usage"),
    (So, "verify nowhere", 4, "destination_unknown"),
    (So, "verify edited", 5, "differs"),
    (So, "verify broken", 5, "failures"),
    (So, "verify emptied", 5, "held_back"),
    (So, "verify busy", 7, "already_running"),
    (So, "status", 0, ""),
    (So, "status notes --max-age 1h", 0, ""),
    (DAMAGED, "status", 1, "state_damaged"),
    (DAMAGED, "status notes", 1, "state_damaged"),
    (So, "status --max-age soon", 2, "usage"),
    (So, "status nowhere", 4, "destination_unknown"),
    (STRANGER, "status --max-age 1h", 10, "too_old"),
    (So, "log notes", 0, ""),
    (DAMAGED, "log notes", 1, "state_damaged"),
    (So, "log", 2, "usage"),
    (So, "log nowhere", 4, "destination_unknown"),
    (So, "vaults", 0, ""),
    (SCRIBBLED, "vaults", 1, "error"),
    (So, "vaults all", 2, "usage"),
    (STRANGER, "vaults", 3, "not_signed_in"),
    (WRONG_PASSWORD, "vaults", 3, "sign_in"),
    (Stopped, "vaults", 6, "interrupted"),
    (AWAY, "vaults", 8, "unreachable"),
    (Tls, "vaults", 8, "certificate"),
    (Fault("rest-garbage=always"), "vaults", 8, "not_the_service"),
    (So, "create Made --encryption standard", 0, ""),
    (So, "create Notes --encryption standard", 1, "error"),
    (SCRIBBLED, "create Another --encryption standard", 1, "error"),
    (So, "create Another --encryption standard --region moon", 2, "usage"),
    (So, "create", 2, "usage"),
    (STRANGER, "create Another", 3, "not_signed_in"),
    (WRONG_PASSWORD, "create Another", 3, "sign_in"),
    (So, "create Another", 3, "vault_password"),
    (Stopped, "create Another --encryption standard", 6, "interrupted"),
    (AWAY, "create Another", 8, "unreachable"),
    (So, "check-service --yes", 0, ""),
    (SCRIBBLED, "check-service --yes", 1, "error"),
    (So, "check-service", 2, "usage"),
    (STRANGER, "check-service --yes", 3, "not_signed_in"),
    (Fault("refuse-pull=always"), "check-service --yes", 5, "failures"),
    (Stopped, "check-service --yes", 6, "interrupted"),
    (AWAY, "check-service --yes", 8, "unreachable"),
    (So, "confirm notes --yes", 0, ""),
    (So, "confirm emptied --yes", 0, ""),
    (DAMAGED, "confirm notes --yes", 1, "state_damaged"),
    (So, "confirm notes", 2, "usage"),
    (So, "confirm nowhere --yes", 4, "destination_unknown"),
    (So, "unlink busy --yes", 7, "already_running"),
    (So, "unlink spoiled --yes", 1, "destination"),
    (So, "unlink edited", 2, "usage"),
    (So, "unlink nowhere --yes", 4, "destination_unknown"),
    (So, "unlink edited --yes", 0, ""),
    (So, "reset busy --yes", 7, "already_running"),
    (So, "reset spoiled --yes", 1, "destination"),
    (So, "reset emptied", 2, "usage"),
    (So, "reset nowhere --yes", 4, "destination_unknown"),
    (So, "reset emptied --yes", 0, ""),
    (So, "credentials export Notes", 2, "usage"),
    (So, "credentials revoke", 2, "usage"),
    (So, "login", 2, "usage"),
    (So, "logout", 2, "usage"),
    (So, "totp", 2, "usage"),
    (So, "aws init", 2, "usage"),
];

/// After a restored server has rolled the vault back.
const OLDER: &[Row] = &[
    (So, "pull Notes notes", 11, "vault_older"),
    (So, "pull Notes notes --dry-run", 11, "vault_older"),
    (So, "sync Notes both --yes", 11, "vault_older"),
    (So, "push Notes both --yes", 11, "vault_older"),
    (OPENER, "sync Private opened --yes", 3, "encryption_changed"),
    (OPENER, "push Private opened --yes", 3, "encryption_changed"),
];

/// A server, and folders in every condition.
struct Stage {
    /// Locks the folder `busy`. Ended before the world is dropped.
    busy: Child,
    world: World,
}

impl Stage {
    fn new() -> Self {
        let vaults = ["Notes", "Twin", "Twin", "Broken", "Emptied", "Kept", "Sent", "Refused", "Lost"];
        let world = World::with(|builder| {
            let private = builder.vault(VaultSpec::end_to_end("Private", VAULT_PASSWORD));
            vaults.iter().fold(private, |builder, name| builder.vault(VaultSpec::managed(name)))
        });
        let notes = |place: &dyn Fn(&str)| (0..20).for_each(|n| place(&format!("{n:02}.md")));
        for vault in ["Notes", "Emptied", "Kept", "Lost"] {
            notes(&|name| {
                world.vault(vault).write(name, name, NOON).unwrap();
            });
        }
        world.vault("Broken").write_damaged("Broken.md", "lost").unwrap();
        for folder in ["notes", "edited", "spoiled"] {
            world.must(&["pull", "Notes", folder]);
        }
        put(&world.path("edited/00.md"), "edited here");
        fs::remove_dir_all(world.path("spoiled")).unwrap();
        for file in ["file", "spoiled"] {
            put(&world.path(file), "a file of mine");
        }
        world.must(&["pull", "Emptied", "emptied"]);
        notes(&|name| {
            world.vault("Emptied").delete(name).unwrap();
        });
        world.must(&["sync", "Notes", "both", "--yes"]);
        world.must(&["sync", "Kept", "kept", "--yes"]);
        notes(&|name| put(&world.path("sent").join(name), name));
        world.must(&["push", "Sent", "sent", "--yes"]);
        for folder in ["kept", "sent"] {
            (0..15).for_each(|n| fs::remove_file(world.path(&format!("{folder}/{n:02}.md"))).unwrap());
        }
        put(&world.path("refused/Note.md"), "nobody takes it");
        for folder in ["emptied-wholly", "emptied-but-for-ours", "removed"] {
            world.must(&["sync", "Lost", folder, "--yes"]);
            for entry in fs::read_dir(world.path(folder)).unwrap() {
                let entry = entry.unwrap();
                if entry.file_name() != ".obsync" {
                    fs::remove_file(entry.path()).unwrap();
                }
            }
        }
        fs::remove_dir_all(world.path("emptied-wholly/.obsync")).unwrap();
        fs::remove_dir_all(world.path("removed")).unwrap();
        put(&world.path("opened/Note.md"), "text");
        let mut opens = world.command(&["sync", "Private", "opened", "--yes"]);
        opens.env("OBSYNC_HOME", world.path("opener"));
        ran(opens.env("OBSYNC_VAULT_PASSWORD", VAULT_PASSWORD)).expect(0);
        copy(&world.home(), &world.path("damaged"));
        for entry in fs::read_dir(world.path("damaged/state")).unwrap() {
            let file = entry.unwrap().path();
            if file.extension().is_some_and(|extension| extension == "sqlite") {
                fs::write(file, "this is no database, but long enough to look at. ".repeat(100)).unwrap();
            }
        }
        copy(&world.home(), &world.path("future"));
        for entry in fs::read_dir(world.path("future/state")).unwrap() {
            let file = entry.unwrap().path();
            if file.extension().is_some_and(|extension| extension == "sqlite") {
                // SQLite keeps `user_version`, the format, as four bytes from the 60th on.
                let mut bytes = fs::read(&file).unwrap();
                bytes[60..64].copy_from_slice(&9999_u32.to_be_bytes());
                fs::write(&file, bytes).unwrap();
            }
        }
        copy(&world.home().join("config"), &world.path("scribbled/config"));
        fs::write(world.path("scribbled/config/credentials.json"), "scribble").unwrap();
        let busy = stalled(&world, "busy");
        Stage { busy, world }
    }

    fn run(&self, (how, line, ..): Row) -> Ran {
        let args: Vec<&str> = line.split(' ').chain(["--json"]).collect();
        let mut command = self.world.command(&args);
        match how {
            So => ran(&mut command),
            With(environment) => ran(command.envs(environment.iter().copied())),
            Tls => {
                let url = self.world.server.url().to_string().replacen("http:", "https:", 1);
                ran(command.env("OBSYNC_API_URL", url))
            }
            Fault(faults) => {
                self.world.server.faults().set(faults.parse().unwrap());
                let ran = ran(&mut command);
                self.world.server.faults().clear();
                ran
            }
            Expired => {
                self.world.server.set_subscription_expired(true).unwrap();
                let ran = ran(&mut command);
                self.world.server.set_subscription_expired(false).unwrap();
                ran
            }
            Stopped => {
                self.world.server.faults().set("rest-hang=always".parse().unwrap());
                let requests = self.world.server.stats().rest_requests;
                let child = start(&self.world, &args).stdout(Stdio::piped()).spawn().unwrap();
                until(&self.world, move |stats| stats.rest_requests > requests);
                kill_process(Pid::from_child(&child), Signal::INT).unwrap();
                let ran = ended(child);
                self.world.server.faults().clear();
                ran
            }
        }
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        let _ = self.busy.kill();
        let _ = self.busy.wait();
    }
}

#[test]
fn whoever_interrupts_the_making_of_a_vault_is_told_how_to_see_whether_it_was_made() {
    let world = World::with(|builder| builder);
    let rest_path = Some("/vault/create".to_owned());
    world.server.faults().set(Faults { rest_path, rest_hang: Chance::always(), ..Faults::default() });
    let args = ["create", "New", "--encryption", "standard", "--json"];
    let child = start(&world, &args).stdout(Stdio::piped()).spawn().unwrap();
    until(&world, |stats| stats.rest_by_path.contains_key("/vault/create"));
    kill_process(Pid::from_child(&child), Signal::INT).unwrap();
    let document = check("create", &ended(child), 6);
    assert_eq!(
        document["error"]["message"], "interrupted; look with `obsync vaults` whether \"New\" was made",
        "{document:#}"
    );
}

fn until(world: &World, condition: impl Fn(&obsync_testkit::Stats) -> bool) {
    world.runtime.block_on(async {
        tokio::time::timeout(Duration::from_secs(60), world.server.wait_for(condition)).await.unwrap();
    });
}

/// A pull into this folder that has its lock and does nothing more, whatever the server's faults later.
fn stalled(world: &World, folder: &str) -> Child {
    world.server.faults().set(Faults { stall_in_content: Chance::always(), ..Faults::default() });
    let pulls = world.server.stats().pulls;
    let mut pull = start(world, &["pull", "Notes", folder, "--quiet"]);
    let pull = pull.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    until(world, move |stats| stats.pulls > pulls);
    kill_process(Pid::from_child(&pull), Signal::STOP).unwrap();
    world.server.faults().clear();
    pull
}

/// Copies a folder; obsync's own files stay readable only by their owner.
fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to.parent().unwrap()).unwrap();
    let copied = Command::new("cp").arg("-Rp").args([from, to]).status().unwrap();
    assert!(copied.success());
}

fn command(line: &str) -> &str {
    match line.starts_with("aws ") || line.starts_with("credentials ") {
        true => line.split_at(line.match_indices(' ').nth(1).map_or(line.len(), |(at, _)| at)).0,
        false => line.split(' ').next().unwrap(),
    }
}

/// The schema of a command's output. Those without `--json` refuse it like all others.
fn schema(command: &str) -> &str {
    match command {
        "sync" | "push" => "pull",
        "aws init" => "aws-init",
        "credentials export" | "credentials revoke" | "login" | "logout" | "totp" => "vaults",
        command => command,
    }
}

#[test]
fn every_exit_status_of_every_command_is_one_value_with_a_documented_code() {
    let mut stage = Stage::new();
    let mut reached: BTreeMap<&str, BTreeSet<i32>> = BTreeMap::new();
    let mut wrong = Vec::new();
    let mut run = |stage: &Stage, rows: &'static [Row]| {
        for row in rows {
            let (_, line, status, code) = *row;
            let ran = stage.run(*row);
            reached.entry(command(line)).or_default().insert(status);
            let document = serde_json::from_str::<Value>(&ran.stdout).unwrap_or_default();
            let found = document["error"]["code"].as_str().unwrap_or_default();
            if (ran.code, found) == (status, code) {
                check(schema(command(line)), &ran, status);
            } else {
                wrong.push(format!("{line}: {} {found}, not {status} {code}: {}", ran.code, ran.stderr));
            }
        }
    };
    run(&stage, ROWS);
    stage.busy.kill().unwrap();
    let lost = stage.world.vault("Lost").expected().unwrap().files.len();
    assert_eq!(lost, 20, "a folder that was emptied or removed took notes of the vault with it");
    let id = stage.world.vault("Notes").id().clone();
    let private = stage.world.vault("Private").id().clone();
    stage.world.serve_instead(|server| {
        let other_password = VaultSpec::end_to_end("Private", "an0ther-passphrase").id(&private);
        server.vault(VaultSpec::managed("Notes").id(&id)).vault(other_password)
    });
    stage.world.vault("Notes").write("One.md", "one", NOON).unwrap();
    run(&stage, OLDER);
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    let line = |(command, statuses): (&&str, &BTreeSet<i32>)| {
        let statuses: Vec<String> = statuses.iter().map(ToString::to_string).collect();
        format!("{command}: {}", statuses.join(" "))
    };
    // The remaining ones need moments that a test cannot choose: a signal, or another obsync, while a command
    // reads its own files.
    insta::assert_snapshot!(reached.iter().map(line).collect::<Vec<_>>().join("\n"), @r"
    aws init: 2
    check-service: 0 1 2 3 5 6 8
    confirm: 0 1 2 4
    create: 0 1 2 3 6 8
    credentials export: 2
    credentials revoke: 2
    log: 0 1 2 4
    login: 2
    logout: 2
    pull: 0 1 2 3 4 5 6 7 8 9 11
    push: 0 1 2 3 4 5 6 7 8 9 11
    reset: 0 1 2 4 7
    status: 0 1 2 4 10
    sync: 0 1 2 3 4 5 6 7 8 9 11
    totp: 2
    unlink: 0 1 2 4 7
    vaults: 0 1 2 3 6 8
    verify: 0 1 2 4 5 7
    ");
}

/// The values on the lines of a follower's standard output, each validated by the schema of its runs.
#[track_caller]
fn lines(ran: &Ran) -> Vec<Value> {
    let line = |line: &str| {
        let document = serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
        assert_eq!(crate::schemas::faults("pull", &document), [""; 0], "{document:#}");
        document
    };
    ran.stdout.lines().map(line).collect()
}

#[test]
fn a_follower_that_is_refused_says_so_in_one_line() {
    let world = World::new();
    world.vault("Notes").write("Note.md", "a note", NOON).unwrap();
    put(&world.path("file"), "a file of mine");
    let rows: [(&[&str], i32, &str); 4] = [
        (&["pull", "Nots", "notes"], 4, "vault_not_found"),
        (&["sync", "Notes", "file", "--yes"], 1, "destination"),
        (&["push", "Notes", "nowhere", "--yes"], 4, "destination_unknown"),
        (&["pull", "Notes"], 2, "usage"),
    ];
    for (args, status, code) in rows {
        let refused = world.run(&[args, &["--follow", "--json"]].concat()).expect(status);
        let [line] = &lines(&refused)[..] else { panic!("{}", refused.stdout) };
        assert_eq!((&line["exit_code"], &line["error"]["code"]), (&status.into(), &code.into()), "{line}");
    }
}

#[test]
fn a_follower_that_is_stopped_before_its_first_run_ended_says_so_at_once() {
    let world = World::new();
    world.vault("Notes").write("Note.md", "a note", NOON).unwrap();
    world.must(&["vaults"]);
    for fault in ["rest-hang=always", "stall-init=always", "stall-in-content=always", "refuse-upgrade=always"]
    {
        let text: &[&str] = &["sync", "Notes", "both", "--yes", "--follow"];
        for args in [text, &["pull", "Notes", "notes", "--follow", "--json"]] {
            let (mut ran, mut took) = stopped_while(&world, fault, args);
            for _ in 0..2 {
                // Other work of the machine must not interfere for long in one of three attempts.
                if took >= Duration::from_secs(1) {
                    (ran, took) = stopped_while(&world, fault, args);
                }
            }
            assert!(took < Duration::from_secs(1), "{fault} {args:?}: {took:?}");
            assert_eq!(ran.code, 6, "{fault} {args:?}: {}", ran.stderr);
            let said = ran.stderr.lines().filter(|line| line.contains("interrupted")).count();
            assert_eq!(said, 1, "{fault} {args:?}: {}", ran.stderr);
            if args == text {
                continue;
            }
            let [line] = &lines(&ran)[..] else { panic!("{fault} {args:?}: {}", ran.stdout) };
            assert_eq!(
                (&line["outcome"], &line["exit_code"], &line["error"]["code"]),
                (&"interrupted".into(), &6.into(), &"interrupted".into()),
                "{fault} {args:?}"
            );
        }
    }
    assert!(world.files("notes").is_empty());
}

/// Sends SIGTERM to a follower while the server has this fault. Returns how it ended, and the time after the
/// signal.
fn stopped_while(world: &World, fault: &str, args: &[&str]) -> (Ran, Duration) {
    world.server.faults().set(fault.parse().unwrap());
    let before = world.server.stats();
    let mut child = start(world, args).stdout(Stdio::piped()).spawn().unwrap();
    let (mut errors, mut stderr) = (BufReader::new(child.stderr.take().unwrap()), String::new());
    match fault.split('=').next().unwrap() {
        "rest-hang" => until(world, move |stats| stats.rest_requests > before.rest_requests),
        "stall-init" => until(world, move |stats| stats.websocket_connections > before.websocket_connections),
        "stall-in-content" => until(world, move |stats| stats.pulls > before.pulls),
        _ => {
            while !stderr.contains("trying again") {
                assert_ne!(errors.read_line(&mut stderr).unwrap(), 0, "{stderr}");
            }
        }
    }
    let signalled = Instant::now();
    kill_process(Pid::from_child(&child), Signal::TERM).unwrap();
    errors.read_to_string(&mut stderr).unwrap();
    let ran = Ran { stderr, ..ended(child) };
    let took = signalled.elapsed();
    world.server.faults().clear();
    (ran, took)
}

#[test]
fn a_follower_that_is_stopped_later_ends_with_success() {
    let world = World::new();
    world.vault("Notes").write("Note.md", "a note", NOON).unwrap();
    let child =
        start(&world, &["pull", "Notes", "notes", "--follow", "--json"]).stdout(Stdio::piped()).spawn();
    let child = child.unwrap();
    let begun = Instant::now();
    let is_checked = || {
        let status = world.run(&["status", "notes", "--json"]);
        status.code == 0 && !status.json()["destinations"][0]["last_check"].is_null()
    };
    while !is_checked() {
        assert!(begun.elapsed() < Duration::from_secs(60), "it does not come to an end");
        std::thread::sleep(Duration::from_millis(50));
    }
    kill_process(Pid::from_child(&child), Signal::TERM).unwrap();
    let ran = ended(child).expect(0);
    let [line] = &lines(&ran)[..] else { panic!("{}", ran.stdout) };
    assert_eq!((&line["outcome"], &line["exit_code"]), (&"complete".into(), &0.into()));
}

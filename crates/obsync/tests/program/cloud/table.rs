//! State in a DynamoDB table.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use assert_cmd::Command;
use obsync_conformance::not_tested;
use obsync_testcloud::Service;
use obsync_testkit::{Chance, Faults};
use serde_json::{Value, json};

use super::place::{DEST, Place, TABLE};
use crate::json::{check, ended, start};
use crate::world::{EMAIL, PASSWORD, Ran, VAULT_PASSWORD, ran};

const WITH: [&str; 2] = ["--state", TABLE];

fn pulled() -> Place {
    let place = Place::new();
    place.write("Welcome.md", "# Welcome");
    place.write("Daily/2026-01-01.md", "a quiet day");
    place.pull(&WITH);
    place
}

/// The table's only row in `status`.
fn row(place: &Place, wanted: &[&str]) -> Value {
    let status = place.must(&[&["status", "--json"], &WITH[..], wanted].concat()).json();
    assert_eq!(status["destinations"].as_array().unwrap().len(), 1, "{status}");
    status["destinations"][0].clone()
}

#[test]
fn a_pull_and_the_next_one_with_a_table() {
    let place = pulled();
    place.assert_exact();
    assert!(!place.world.home().join("state").exists(), "nothing is kept on this computer");
    place.write("Welcome.md", "# Welcome back");
    // Another computer with the same table.
    let mut elsewhere = place.command(&["pull", "Notes", DEST, "--json"]);
    let home = place.world.path("another home");
    let report = ran(elsewhere.env("OBSYNC_HOME", home).env("OBSYNC_STATE", TABLE)).expect(0).json();
    assert_eq!((&report["pulled"]["files"], &report["previous_version"]), (&json!(1), &json!(3)));
    place.assert_exact();
    place.must(&["verify", DEST, "--state", TABLE]);
}

#[test]
fn the_log_of_a_state_in_a_table_says_that_there_is_none() {
    let place = pulled();
    let said = place.must(&["log", DEST, "--state", TABLE]);
    assert!(said.stdout.contains("in a table, which keeps no journal"), "{}{}", said.stdout, said.stderr);
    assert_eq!(place.must(&["log", DEST, "--json", "--state", TABLE]).json()["entries"], json!([]));
}

#[test]
fn where_nothing_can_be_kept_a_run_signs_in_once_and_out_at_its_end() {
    let place = Place::new();
    place.write("Welcome.md", "# Welcome");
    let pull = |vault: &str| {
        let mut pull = place.command(&["pull", vault, DEST, "--state", TABLE]);
        ran(pull.env("OBSYNC_HOME", "/proc/obsync"))
    };
    let calls = |path: &str| place.world.server.stats().rest_by_path.get(path).copied().unwrap_or(0);
    for run in 1..=2 {
        let pulled = pull("Notes").expect(0);
        assert!(pulled.stderr.contains("Each run signs in and out again"), "{}", pulled.stderr);
        assert_eq!((calls("/user/signin"), calls("/user/signout")), (run, run));
        assert_eq!(place.world.server.tokens(EMAIL), 0);
    }
    place.assert_exact();
    pull("Nothing").expect(4);
    assert_eq!(place.world.server.tokens(EMAIL), 0, "also of a run that fails");
}

/// The program as an unknown user, so without a home.
fn homeless(place: &Place, args: &[&str]) -> Ran {
    let program = place.world.path("obsync");
    if !program.exists() {
        fs::copy(env!("CARGO_BIN_EXE_obsync"), &program).unwrap();
        fs::set_permissions(place.world.path(""), fs::Permissions::from_mode(0o755)).unwrap();
    }
    let mut command = Command::new("setpriv");
    let user = ["--reuid", "54321", "--regid", "54321", "--clear-groups"];
    command.args(user).arg(&program).args(args).current_dir("/").env_clear();
    command.env("OBSYNC_API_URL", place.world.server.url()).envs(place.cloud.env());
    ran(command.env("OBSIDIAN_EMAIL", EMAIL).env("OBSIDIAN_PASSWORD", PASSWORD))
}

#[test]
fn a_user_without_a_home_pulls_with_a_table_and_leaves_no_token() {
    let place = Place::new();
    if !rustix::process::geteuid().is_root() {
        not_tested("only root can become another user");
        return;
    }
    place.write("Welcome.md", "# Welcome");
    let pulled = homeless(&place, &["pull", "Notes", DEST, "--state", TABLE]).expect(0);
    assert!(pulled.stderr.contains("Each run signs in and out again"), "{}", pulled.stderr);
    place.assert_exact();
    let refused = homeless(&place, &["pull", "Notes", DEST]).expect(1);
    assert!(refused.stderr.contains("set OBSYNC_HOME"), "{}", refused.stderr);
    assert_eq!(place.world.server.tokens(EMAIL), 0);
    assert!(!Path::new("/nonexistent").exists());
}

#[test]
fn the_status_of_a_table_is_shown_by_destination_and_by_vault() {
    let place = pulled();
    let vault = place.world.vault("Notes");
    let beginning = &vault.id().as_str()[..8];
    for wanted in [&[][..], &["Notes"], &[vault.id().as_str()], &[beginning], &[DEST]] {
        let row = row(&place, wanted);
        assert_eq!((&row["destination"], &row["vault"]), (&json!(DEST), &json!("Notes")));
        assert_eq!((&row["files"], &row["version"]), (&json!(2), &json!(vault.version().0)));
        assert_eq!(row["at_work"], json!(null), "nobody is at work");
    }
    for unknown in ["Private", "s3://vaults/elsewhere"] {
        let ran = place.run(&["status", unknown, "--state", TABLE]).expect(4);
        assert!(ran.stderr.contains("`obsync status --state dynamodb://obsync-state`"), "{}", ran.stderr);
    }
    let local = place.must(&["status"]).stdout;
    assert!(local.contains("Nothing was pulled yet"), "{local}");
}

#[test]
fn status_shows_how_far_the_function_came_and_what_failed() {
    let place = Place::new();
    place.world.vault("Notes").write_damaged("Broken.md", "lost").unwrap();
    place.write("Good.md", "fine");
    place.run(&["pull", "Notes", DEST, "--state", TABLE]).expect(5);
    let id = place.world.vault("Notes").id().to_string();
    let progress = json!({
        "vault_id": id, "start_time": "2026-01-01T10:00:00Z", "last_update": "2026-01-01T10:20:30Z",
        "files_total": 3000, "files_complete": 2100, "bytes_total": 3_000_000, "bytes_complete": 2_000_000,
        "status": "interrupted", "error": null, "resumable": true, "last_version": 7, "resume_token": "x",
        "invocations": 3,
    });
    let item = json!({
        "vault_id": { "S": format!("progress#{id}") },
        "data": { "S": progress.to_string() },
        "ttl": { "N": "99999999999" },
    });
    place.cloud.dynamodb().put_item("obsync-state", item).unwrap();
    let told = place.must(&["status", "--state", TABLE]).stdout;
    let run = "  last run   interrupted, ended 2026-01-01 10:20:30, after 3 invocations\n";
    assert!(told.contains(run), "{told}");
    assert!(told.contains("  progress   2,100 of 3,000 files, 2.0 MB of 3.0 MB\n"), "{told}");
    assert!(told.contains("1 change, retried by the next run:\n    Broken.md (version 1): "), "{told}");
    let row = row(&place, &[]);
    assert_eq!(row["last_run"]["progress"]["files_complete"], 2100);
    assert_eq!(row["failures"][0]["path"], "Broken.md");
}

#[test]
fn a_second_run_at_once_is_kept_out_and_told_who_is_at_work() {
    let place = pulled();
    place.write("New.md", "new");
    place.fault(|faults| {
        faults.s3.operations = vec!["PutObject".to_owned()];
        faults.s3.hang = Chance::always();
    });
    let before = place.cloud.counts();
    let mut first = place.start(&WITH, &[]);
    place.wait_for(|counts| counts.since(&before).of(Service::S3, "PutObject") > 0);
    let second = place.run(&["pull", "Notes", DEST, "--state", TABLE]).expect(7);
    let process = format!("process {}", first.id());
    assert!(second.stderr.contains(&process), "{}", second.stderr);
    let at_work = row(&place, &[]);
    assert!(at_work["at_work"]["owner"].as_str().unwrap().contains(&process));
    assert_eq!(at_work["unfinished"], json!([]), "he was not killed");
    place.run(&["verify", DEST, "--state", TABLE]).expect(7);
    place.run(&["reset", DEST, "--state", TABLE, "--yes"]).expect(7);
    first.kill().unwrap();
    first.wait().unwrap();
}

#[test]
fn a_run_that_begins_while_a_bucket_is_verified_is_not_taken_for_damage() {
    for state in [&WITH[..], &[]] {
        let place = Place::new();
        place.write("Welcome.md", "# Welcome");
        place.pull(state);
        place.write("Welcome.md", "# Welcome back");
        place.write("New.md", "new");
        place.fault(|faults| {
            faults.s3.operations = vec!["HeadObject".to_owned()];
            faults.s3.latency = Duration::from_secs(4);
        });
        let before = place.cloud.counts();
        let args = [&["verify", DEST, "--json"], state].concat();
        let mut verify = start(&place.world, &args);
        let verify = verify.envs(place.cloud.env()).stdout(Stdio::piped()).spawn().unwrap();
        place.wait_for(|counts| counts.since(&before).of(Service::S3, "HeadObject") > 0);
        place.cloud.faults().clear();
        place.pull(state);
        let verified = check("verify", &ended(verify), 7);
        assert_eq!(verified["error"]["code"], "already_running", "{verified:#}");
        place.must(&[&["verify", DEST], state].concat());
    }
}

#[test]
fn a_dry_run_takes_no_lease_and_writes_nothing() {
    let place = Place::new();
    place.write("Welcome.md", "# Welcome");
    let report = place.pull(&["--dry-run", "--state", TABLE]);
    assert_eq!(report["outcome"], "dry_run");
    assert_eq!(place.cloud.dynamodb().items("obsync-state").unwrap().len(), 0);
}

#[test]
fn a_reset_forgets_the_state_in_the_table() {
    let place = pulled();
    place.must(&["reset", DEST, "--state", TABLE, "--yes"]);
    place.run(&["verify", DEST, "--state", TABLE]).expect(4);
    place.run(&["status", DEST, "--state", TABLE]).expect(4);
    assert_eq!(place.pull(&WITH)["adopted"]["files"], 2);
    place.assert_exact();
}

#[test]
fn a_damaged_state_is_told_and_can_be_reset() {
    let place = pulled();
    let id = place.world.vault("Notes").id().to_string();
    let mut head = place.cloud.dynamodb().item("obsync-state", &id).unwrap().unwrap();
    head["version"] = json!({ "S": "not a number" });
    place.cloud.dynamodb().put_item("obsync-state", head).unwrap();
    for args in [&["pull", "Notes", DEST][..], &["verify", DEST], &["status"], &["status", "--json"]] {
        let told = place.run(&[args, &WITH].concat()).expect(1).stderr;
        assert!(told.contains("is damaged") && told.contains("`obsync reset DEST`"), "{told}");
    }
    place.must(&["reset", DEST, "--state", TABLE, "--yes"]);
    place.pull(&WITH);
    place.assert_exact();
}

#[test]
fn a_prefix_is_of_one_vault_in_a_table_too() {
    let place = pulled();
    let mut other = place.command(&["pull", "Private", DEST, "--state", TABLE]);
    let refused = ran(other.env("OBSYNC_VAULT_PASSWORD", VAULT_PASSWORD)).expect(1).stderr;
    assert!(refused.contains("belongs to the vault \"Notes\""), "{refused}");
    assert!(refused.contains("`obsync reset --help`"), "{refused}");
    place.assert_exact();
}

#[test]
fn the_state_of_a_folder_is_not_kept_in_a_table() {
    let place = Place::new();
    let refused = place.run(&["pull", "Notes", "notes", "--state", TABLE]).expect(2).stderr;
    assert!(refused.contains("--state local"), "{refused}");
    let mut pull = place.command(&["pull", "Notes", "notes", "--state", "local"]);
    ran(pull.env("OBSYNC_STATE", TABLE)).expect(0);
    let refused = place.run(&["status", "--state", "obsync-state"]).expect(2).stderr;
    assert!(refused.contains("it is local or dynamodb://TABLE"), "{refused}");
}

#[test]
fn a_table_tells_how_far_the_last_pull_came() {
    let place = Place::new();
    place.write("Note.md", "a note");
    let row =
        || place.must(&["status", "Notes", "--state", TABLE, "--json"]).json()["destinations"][0].clone();
    place.world.vault("Notes").write_damaged("Broken.md", "lost").unwrap();
    place.run(&["pull", "Notes", DEST, "--state", TABLE]).expect(5);
    let first = row();
    let run = &first["last_run"];
    assert_eq!((&run["outcome"], &run["failures_in_a_row"]), (&json!("failures"), &json!(1)), "{first:#}");
    assert_eq!(run["last_error"]["message"], "1 changes could not be applied");
    let progress = &run["progress"];
    assert_eq!((&progress["files_total"], &progress["files_complete"]), (&json!(2), &json!(1)));
    assert_eq!((&first["version"], &first["invocations"]), (&json!(2), &json!(1)));

    place.write("Broken.md", "found");
    place.fault(|faults| faults.s3.forbidden = Chance::always());
    place.run(&["pull", "Notes", DEST, "--state", TABLE]).expect(1);
    let failed = row();
    let run = &failed["last_run"];
    assert_eq!((&run["outcome"], &run["failures_in_a_row"]), (&json!("failed"), &json!(2)), "{failed:#}");
    assert_eq!(run["last_error"]["code"], "access_denied", "{failed:#}");

    place.cloud.faults().clear();
    place.pull(&["--state", TABLE, "--dry-run"]);
    assert_eq!(row(), failed, "a dry run writes nothing");
    place.pull(&WITH);
    let last = row();
    assert_eq!((&last["last_run"]["outcome"], &last["invocations"]), (&json!("complete"), &json!(2)));
    assert_eq!(last["last_run"]["failures_in_a_row"], 0);
    place.assert_exact();
}

#[test]
fn deletions_are_confirmed_while_another_run_has_the_lease() {
    let place = Place::new();
    for number in 0..20 {
        place.write(&format!("{number}.md"), "note");
    }
    place.must(&["pull", "Notes", DEST, "--state", TABLE]);
    let vault = place.world.vault("Notes");
    for number in 0..20 {
        vault.delete(&format!("{number}.md")).unwrap();
    }
    place.run(&["pull", "Notes", DEST, "--state", TABLE]).expect(9);
    // A stalled run keeps the lease.
    place.write("large.bin", &"x".repeat(1 << 20));
    place.world.server.faults().set(Faults { stall_in_content: Chance::always(), ..Faults::default() });
    let pulls = place.world.server.stats().pulls;
    let mut other = place.start(&["--state", TABLE], &[("OBSYNC_LEASE_SECONDS", "1")]);
    place.world.runtime.block_on(async {
        let stalled = place.world.server.wait_for(|stats| stats.pulls > pulls);
        tokio::time::timeout(Duration::from_secs(60), stalled).await.unwrap();
    });
    let confirmed = place.must(&["confirm", DEST, "--state", TABLE, "--yes", "--json"]).json();
    assert_eq!((&confirmed["in_use"], confirmed["confirmed"].as_array().unwrap().len()), (&true.into(), 20));
    other.kill().unwrap();
    other.wait().unwrap();
    place.world.server.faults().set(Faults::default());
    place.must(&["pull", "Notes", DEST, "--state", TABLE, "--wait", "1m"]);
    place.assert_exact();
}

#[test]
fn runs_that_fail_before_they_have_the_lease_are_in_the_status() {
    let place = pulled();
    let last_run = || row(&place, &[])["last_run"].clone();
    for failures in 1..=2 {
        place.world.server.faults().update(|faults| faults.rest_status_error = Chance::always());
        place.run(&["pull", "Notes", DEST, "--state", TABLE, "--timeout", "1"]).expect(8);
        place.world.server.faults().clear();
        let run = last_run();
        assert_eq!(
            (&run["outcome"], &run["failures_in_a_row"]),
            (&json!("failed"), &json!(failures)),
            "{run:#}"
        );
        assert!(run["last_error"]["code"].is_string() && run["last_error"]["code"] != "error", "{run:#}");
        assert_eq!(run["cut_short"], false, "{run:#}");
    }
    let mut refused = place.command(&["pull", "Notes", DEST, "--state", TABLE]);
    ran(refused.env("OBSIDIAN_AUTH_TOKEN", "not a token")).expect(3);
    let run = last_run();
    let code = &run["last_error"]["code"];
    assert_eq!((&run["failures_in_a_row"], code), (&json!(3), &json!("not_signed_in")), "{run:#}");
    place.must(&["verify", DEST, "--state", TABLE]);
    place.pull(&WITH);
    let run = last_run();
    assert_eq!((&run["outcome"], &run["failures_in_a_row"]), (&json!("complete"), &json!(0)), "{run:#}");
}

#[test]
fn files_that_were_kept_are_counted_apart_from_what_is_left_out() {
    let place = pulled();
    place.write(".obsidian/app.json", "{}");
    place.world.vault("Notes").delete("Welcome.md").unwrap();
    place.pull(&["--state", TABLE, "--keep-deleted", "--configs", "none"]);
    let row = row(&place, &[]);
    assert_eq!((&row["retained"], &row["filtered"]), (&json!(1), &json!(1)), "{row:#}");
    let shown = place.must(&["status", "--state", TABLE]).stdout;
    assert!(shown.contains("kept       1 file that the vault deleted"), "{shown}");
}

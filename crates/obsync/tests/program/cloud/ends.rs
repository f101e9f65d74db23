//! Ends of commands with a bucket and a table: one value with the right status and code, like `ends` for
//! folders.

use std::process::{Child, Stdio};

use obsync_testcloud::Service;
use obsync_testkit::Chance;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use super::place::{NOON, Place};
use crate::json::{check, ended, start};
use crate::world::Ran;

/// The cloud's condition.
#[derive(Clone, Copy, PartialEq)]
enum Cloud {
    Works,
    /// It answers that the credentials are not for this service.
    Forbids(Service),
    /// This service does not answer, and the user interrupts.
    Hangs(Service),
}

use Cloud::{Forbids, Hangs, Works};

const TABLE: Service = Service::DynamoDb;
const BUCKET: Service = Service::S3;

/// The command line without `--json` (`DEST` and `TABLE` are written out), the exit status, the code of the error.
type Row = (Cloud, &'static str, i32, &'static str);

const ROWS: &[Row] = &[
    (Works, "verify DEST TABLE", 0, ""),
    (Works, "status TABLE", 0, ""),
    (Works, "status DEST TABLE --max-age 1h", 0, ""),
    (Works, "log DEST TABLE", 0, ""),
    (Works, "confirm DEST TABLE --yes", 0, ""),
    (Works, "sync Notes s3://vaults/both --yes", 0, ""),
    (Works, "push Notes s3://vaults/both --yes", 0, ""),
    (Works, "sync Notes s3://not-there/both --yes", 1, "no_such_place"),
    (Works, "push Notes s3://not-there/both --yes", 1, "no_such_place"),
    (Works, "pull Notes DEST --state dynamodb://not-there", 1, "no_such_place"),
    (Works, "verify DEST --state dynamodb://not-there", 1, "no_such_place"),
    (Works, "status --state dynamodb://not-there", 1, "no_such_place"),
    (Works, "log DEST --state dynamodb://not-there", 1, "no_such_place"),
    (Works, "confirm DEST --state dynamodb://not-there --yes", 1, "no_such_place"),
    (Works, "reset DEST --state dynamodb://not-there --yes", 1, "no_such_place"),
    (Works, "unlink DEST --state dynamodb://not-there --yes", 1, "no_such_place"),
    (Forbids(TABLE), "pull Notes DEST TABLE", 1, "access_denied"),
    (Forbids(TABLE), "sync Notes DEST TABLE --yes", 1, "access_denied"),
    (Forbids(TABLE), "verify DEST TABLE", 1, "access_denied"),
    (Forbids(TABLE), "status TABLE", 1, "access_denied"),
    (Forbids(TABLE), "log DEST TABLE", 1, "access_denied"),
    (Forbids(TABLE), "confirm DEST TABLE --yes", 1, "access_denied"),
    (Forbids(TABLE), "reset DEST TABLE --yes", 1, "access_denied"),
    (Forbids(TABLE), "unlink DEST TABLE --yes", 1, "access_denied"),
    (Forbids(BUCKET), "verify DEST TABLE", 1, "access_denied"),
    (Forbids(BUCKET), "push Notes s3://vaults/both --yes", 1, "access_denied"),
    (Hangs(TABLE), "verify DEST TABLE", 6, "interrupted"),
    (Hangs(TABLE), "status TABLE", 6, "interrupted"),
    (Hangs(TABLE), "log DEST TABLE", 6, "interrupted"),
    (Hangs(TABLE), "confirm DEST TABLE --yes", 6, "interrupted"),
    (Hangs(TABLE), "reset DEST TABLE --yes", 6, "interrupted"),
    (Hangs(TABLE), "unlink DEST TABLE --yes", 6, "interrupted"),
    (Hangs(BUCKET), "verify DEST TABLE", 6, "interrupted"),
    (Hangs(BUCKET), "sync Notes s3://vaults/both --yes", 6, "interrupted"),
];

/// While a pull has the lease.
const BESIDE_ANOTHER: &[Row] = &[
    (Works, "pull Notes DEST TABLE", 7, "already_running"),
    (Works, "sync Notes DEST TABLE --yes", 7, "already_running"),
    (Works, "push Notes DEST TABLE --yes", 7, "already_running"),
    (Works, "verify DEST TABLE", 7, "already_running"),
    (Works, "reset DEST TABLE --yes", 7, "already_running"),
    (Works, "unlink DEST TABLE --yes", 7, "already_running"),
    (Works, "status DEST TABLE", 0, ""),
    (Works, "log DEST TABLE", 0, ""),
];

const DEST: &str = "s3://vaults/notes";

fn words(line: &str) -> Vec<String> {
    let line = line.replace("DEST", DEST).replace("TABLE", "--state dynamodb://obsync-state");
    line.split(' ').chain(["--json"]).map(str::to_owned).collect()
}

fn child(place: &Place, line: &str) -> Child {
    let words = words(line);
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    start(&place.world, &words).envs(place.cloud.env()).stdout(Stdio::piped()).spawn().unwrap()
}

fn run(place: &Place, (cloud, line, ..): Row) -> Ran {
    let Hangs(service) = cloud else { return ended(child(place, line)) };
    let before = place.cloud.counts();
    let child = child(place, line);
    place.wait_for(|counts| counts.since(&before).total(service) > 0);
    kill_process(Pid::from_child(&child), Signal::INT).unwrap();
    ended(child)
}

fn set(place: &Place, cloud: Cloud) {
    place.fault(|faults| match cloud {
        Works => {}
        Forbids(Service::S3) => faults.s3.forbidden = Chance::always(),
        Forbids(_) => faults.dynamodb.forbidden = Chance::always(),
        Hangs(Service::S3) => faults.s3.hang = Chance::always(),
        Hangs(_) => faults.dynamodb.hang = Chance::always(),
    });
}

/// Runs rows, and reports those with another end.
fn wrong(place: &Place, rows: &[Row]) -> Vec<String> {
    let mut wrong = Vec::new();
    for row in rows {
        let (_, line, status, code) = *row;
        let ran = run(place, *row);
        let document = serde_json::from_str::<Value>(&ran.stdout).unwrap_or_default();
        let found = document["error"]["code"].as_str().unwrap_or_default();
        if (ran.code, found) == (status, code) {
            let command = line.split(' ').next().unwrap();
            check(if matches!(command, "sync" | "push") { "pull" } else { command }, &ran, status);
        } else {
            wrong.push(format!("{line}: {} {found}, not {status} {code}: {}", ran.code, ran.stderr));
        }
    }
    wrong
}

#[test]
fn every_end_of_commands_with_a_bucket_and_a_table_is_one_value_with_a_documented_code() {
    let place = Place::new();
    place.world.vault("Notes").write("Note.md", "a note", NOON).unwrap();
    place.must(&["pull", "Notes", DEST, "--state", "dynamodb://obsync-state"]);
    let mut all_wrong = Vec::new();
    for rows in ROWS.chunk_by(|one, other| one.0 == other.0) {
        set(&place, rows[0].0);
        all_wrong.extend(wrong(&place, rows));
    }
    place.world.vault("Notes").write("New.md", "new", NOON).unwrap();
    place.fault(|faults| {
        faults.s3.operations = vec!["PutObject".to_owned()];
        faults.s3.hang = Chance::always();
    });
    let before = place.cloud.counts();
    let mut other = child(&place, "pull Notes DEST TABLE");
    place.wait_for(|counts| counts.since(&before).of(Service::S3, "PutObject") > 0);
    all_wrong.extend(wrong(&place, BESIDE_ANOTHER));
    other.kill().unwrap();
    other.wait().unwrap();
    assert!(all_wrong.is_empty(), "{}", all_wrong.join("\n"));
}

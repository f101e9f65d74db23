//! The list of vaults.

use std::process::{Command, Stdio};

use obsync_protocol::EncryptionVersion;
use obsync_testkit::VaultSpec;
use serde_json::json;

use crate::world::{EMAIL, PASSWORD, World, ran};

fn several() -> World {
    World::with(|builder| {
        builder
            .vault(VaultSpec::managed("Journal").owner(EMAIL))
            .vault(VaultSpec::end_to_end("日本 \u{1b}[2J", "pw").version(EncryptionVersion::V0).owner(EMAIL))
            .vault(VaultSpec::managed("Team").owner("you@example.com").shared_with(EMAIL))
    })
}

#[test]
fn vaults_are_listed_for_scripts_without_secrets() {
    let world = several();
    let vaults = world.must(&["vaults", "--json"]).json();
    let rows = vaults["vaults"].as_array().unwrap();
    assert_eq!(rows.len(), 3);
    assert_eq!(rows[0]["vault_id"], json!(world.vault("Journal").id().as_str()));
    assert_eq!(rows[1]["encryption"], "end-to-end");
    assert_eq!(rows[1]["encryption_version"], 0);
    assert_eq!((&rows[0]["shared"], &rows[2]["shared"]), (&json!(false), &json!(true)));
    let fields: Vec<&String> = rows[0].as_object().unwrap().keys().collect();
    assert_eq!(
        fields,
        [
            "created",
            "destinations",
            "encryption",
            "encryption_version",
            "fingerprint",
            "region",
            "shared",
            "size",
            "vault",
            "vault_id"
        ],
        "no password, no salt"
    );
}

#[test]
fn vaults_and_resets_say_which_way_a_destination_is_synced() {
    let world = several();
    world.must(&["sync", "Journal", "both", "--yes"]);
    world.must(&["pull", "Journal", "copy"]);
    let row = world.must(&["vaults", "--json"]).json()["vaults"][0].clone();
    let directions: Vec<&str> = row["destinations"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| one["direction"].as_str().unwrap())
        .collect();
    assert_eq!(directions, ["both", "pull"], "{row:#}");
    let told = world.redacted(&world.must(&["vaults"]).stdout);
    let lines =
        "\nJournal is synced with\n  [DIR]/both\n    both ways\n  [DIR]/copy\n    from the vault to here\n";
    assert!(told.contains(lines), "{told}");
    let told = world.must(&["reset", "both", "--yes"]).stdout;
    assert!(
        told.contains("It was synced both ways: the next sync") && told.contains("deletes nothing"),
        "{told}"
    );
    let document = world.must(&["reset", "copy", "--yes", "--json"]).json();
    assert_eq!(document["direction"], "pull", "{document:#}");
}

#[test]
fn an_account_without_vaults_is_no_error() {
    let world = World::with(|builder| builder);
    insta::assert_snapshot!(world.run(&["vaults"]).told(&world), @"
    exit status 0
    --- stderr
    The account has no vaults.
    ");
    assert_eq!(world.must(&["vaults", "--json"]).json()["vaults"], json!([]));
}

#[test]
fn who_is_not_signed_in_is_told_how() {
    let world = several();
    insta::assert_snapshot!(ran(&mut world.anonymous(&["vaults", "--json"])).told(&world), @r#"
    exit status 3
    --- stdout
    {
      "schema_version": 1,
      "outcome": "failed",
      "exit_code": 3,
      "error": {
        "code": "not_signed_in",
        "message": "you are not signed in; run `obsync login`, or set OBSIDIAN_AUTH_TOKEN, or OBSIDIAN_EMAIL and OBSIDIAN_PASSWORD",
        "retryable": false,
        "hint": "run `obsync login`, or set OBSIDIAN_AUTH_TOKEN"
      }
    }
    --- stderr
    obsync: you are not signed in; run `obsync login`, or set OBSIDIAN_AUTH_TOKEN, or OBSIDIAN_EMAIL and OBSIDIAN_PASSWORD
    "#);
}

#[test]
fn a_reader_that_goes_away_is_no_error() {
    let world = several();
    let mut vaults = Command::new(env!("CARGO_BIN_EXE_obsync"))
        .arg("vaults")
        .env_clear()
        .env("OBSYNC_HOME", world.home())
        .env("OBSYNC_API_URL", world.server.url())
        .env("OBSIDIAN_EMAIL", EMAIL)
        .env("OBSIDIAN_PASSWORD", PASSWORD)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(vaults.stdout.take());
    let ended = vaults.wait_with_output().unwrap();
    assert_eq!(ended.status.code(), Some(0));
    assert_eq!(String::from_utf8(ended.stderr).unwrap(), "");
}

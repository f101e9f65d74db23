//! A bucket as a destination, from the command line.

use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use obsync_testcloud::Service;
use obsync_testkit::network::{Authority, Flaw, TlsFront};
use serde_json::json;

use super::place::{BUCKET, DEST, NOON, PREFIX, Place};
use crate::monitor::Follower;
use crate::world::{VAULT_PASSWORD, ran};

fn pulled() -> Place {
    let place = Place::new();
    place.write("Welcome.md", "# Welcome");
    place.write("Daily/2026-01-01.md", "a quiet day");
    place.write("Assets/tree.png", "not really a picture");
    place.pull(&[]);
    place
}

#[test]
fn what_is_told_of_a_bucket() {
    let place = Place::new();
    place.write("Welcome.md", "# Welcome");
    insta::assert_snapshot!(place.run(&["pull", "Notes", DEST]).told(&place.world), @r#"
    exit status 0
    --- stdout
    Pulled 1 file (9 bytes) from "Notes" to s3://vaults/my notes in [TIME] s (version 1).
    "#);
    insta::assert_snapshot!(place.run(&["pull", "Notes", DEST]).told(&place.world), @r#"
    exit status 0
    --- stdout
    Nothing new in "Notes" for s3://vaults/my notes since version 1 ([TIME] s).
    "#);
    insta::assert_snapshot!(place.run(&["verify", DEST]).told(&place.world), @"
    exit status 0
    --- stdout
    All is well: 1 file (9 bytes) of s3://vaults/my notes as pulled (version 1); 1 compared by the SHA-256 and size in the objects' metadata, 0 read.
    ");
    insta::assert_snapshot!(place.run(&["reset", DEST, "--yes"]).told(&place.world), @"
    exit status 0
    --- stdout
    The state of s3://vaults/my notes is forgotten. The next pull compares every file, and downloads only those that differ.
    ");
    insta::assert_snapshot!(place.run(&["status", DEST]).told(&place.world), @"
    exit status 4
    --- stderr
    obsync: nothing was pulled to s3://vaults/my notes yet; `obsync status` lists the destinations that obsync knows
    ");
}

#[test]
fn the_addressing_style_of_the_variable_and_of_the_profile_is_honoured() {
    let place = Place::new();
    place.write("Welcome.md", "# Welcome");
    place.cloud.faults().update(|faults| faults.s3_manners.hosts_only = true);
    // A bucket's host below a numeric address is not valid.
    let endpoint = place.cloud.endpoint(Service::S3).replace("127.0.0.1", "localhost");
    let pull = || {
        let mut command = place.command(&["pull", "Notes", DEST, "--full"]);
        command.env("AWS_ENDPOINT_URL_S3", &endpoint);
        command
    };
    let refused = ran(&mut pull()).expect(1);
    assert!(refused.stderr.contains("AWS_S3_ADDRESSING_STYLE=virtual"), "{}", refused.stderr);
    ran(pull().env("AWS_S3_ADDRESSING_STYLE", "virtual")).expect(0);
    place.assert_exact();
    let profile = place.world.path("aws-config");
    std::fs::write(&profile, "[profile hosts]\ns3 =\n  addressing_style = virtual\n").unwrap();
    place.write("More.md", "more");
    ran(pull().env("AWS_CONFIG_FILE", &profile).env("AWS_PROFILE", "hosts")).expect(0);
    place.assert_exact();
}

#[test]
fn a_bucket_of_a_private_authority_is_trusted_by_the_variable_of_openssl() {
    let place = Place::new();
    place.write("Welcome.md", "# Welcome");
    let authority = Authority::new().unwrap();
    let config = authority.server(&["127.0.0.1"], Flaw::None).unwrap();
    let front = place.world.runtime.block_on(TlsFront::on(Ipv4Addr::LOCALHOST.into(), config)).unwrap();
    let bucket = place.cloud.endpoint(Service::S3);
    front.lead_to(bucket.trim_start_matches("http://").trim_end_matches('/').parse().unwrap());
    let ca_file = place.world.path("ca.pem");
    std::fs::write(&ca_file, authority.pem()).unwrap();
    let pull = || {
        let mut command = place.command(&["pull", "Notes", DEST]);
        command.env("AWS_ENDPOINT_URL_S3", format!("https://{}", front.address()));
        command
    };
    let refused = ran(&mut pull()).expect(1);
    assert!(refused.stderr.contains("SSL_CERT_FILE"), "{}", refused.stderr);
    ran(pull().env("SSL_CERT_FILE", &ca_file)).expect(0);
    place.assert_exact();
}

#[test]
fn renames_are_copies_in_the_bucket_and_download_nothing() {
    let place = Place::new();
    for number in 0..50 {
        place.write(&format!("Inbox/{number}.md"), &format!("note {number}"));
    }
    place.pull(&[]);
    place.world.vault("Notes").rename("Inbox", "Archive/2026").unwrap();
    let (before, pulls) = (place.cloud.counts(), place.world.server.stats().pulls);
    let report = place.pull(&[]);
    assert_eq!((&report["copied"]["files"], &report["pulled"]["files"]), (&json!(50), &json!(0)));
    let counts = place.cloud.counts().since(&before);
    let of = |operation| counts.of(Service::S3, operation);
    assert_eq!(
        (of("CopyObject"), of("GetObject"), of("PutObject")),
        (51, 0, 2),
        "and to find out about conditions a copy, and the object that is there for it: {counts}"
    );
    assert_eq!(place.world.server.stats().pulls, pulls);
    place.assert_exact();
}

#[test]
fn what_the_vault_deletes_goes_unless_it_is_to_be_kept() {
    let place = pulled();
    place.world.vault("Notes").delete("Welcome.md").unwrap();
    place.pull(&["--keep-deleted"]);
    assert!(place.object("Welcome.md").is_some());
    place.world.vault("Notes").delete("Assets/tree.png").unwrap();
    place.pull(&[]);
    assert!(place.object("Assets/tree.png").is_none());
}

#[test]
fn a_dry_run_tells_and_writes_nothing() {
    let place = Place::new();
    place.write("Welcome.md", "# Welcome");
    let report = place.pull(&["--dry-run"]);
    assert_eq!((&report["outcome"], &report["steps"][0]["action"]), (&json!("dry_run"), &json!("download")));
    assert_eq!(place.cloud.s3().objects(BUCKET, ""), []);
    place.run(&["status", DEST]).expect(4);
}

#[test]
fn what_somebody_else_put_there_is_kept_as_a_conflicted_copy() {
    let place = Place::new();
    place.write("Welcome.md", "# Welcome");
    place.cloud.s3().put(BUCKET, &format!("{PREFIX}/Welcome.md"), "mine", &[]);
    let report = place.pull(&[]);
    let kept = report["conflicts"][0]["kept_as"].as_str().unwrap();
    assert_eq!(place.object(kept).unwrap().content.as_ref(), b"mine");
    assert_eq!(place.object("Welcome.md").unwrap().content.as_ref(), b"# Welcome");
}

#[test]
fn objects_are_written_as_asked_for() {
    let place = Place::new();
    place.write("Welcome.md", "# Welcome");
    place.pull(&["--sse-kms-key", "alias/notes", "--storage-class", "STANDARD_IA", "--configs", "none"]);
    let object = place.object("Welcome.md").unwrap();
    assert_eq!(object.encryption.as_deref(), Some("aws:kms"));
    assert_eq!(object.kms_key.as_deref(), Some("alias/notes"));
    assert_eq!(object.storage_class.as_deref(), Some("STANDARD_IA"));
}

#[test]
fn a_choice_of_files_holds_in_a_bucket_too() {
    let place = Place::new();
    place.write("Note.md", "a note");
    place.write("Song.mp3", "la la la");
    let report = place.pull(&["--file-types", "none"]);
    assert_eq!(report["skipped"]["files"], 1);
    assert_eq!(place.paths(), ["Note.md"]);
    place.pull(&[]);
    place.assert_exact();
}

#[test]
fn verify_finds_what_is_missing_changed_and_extra() {
    let place = pulled();
    let key = |path: &str| format!("{PREFIX}/{path}");
    place.cloud.s3().delete(BUCKET, &key("Welcome.md"));
    place.cloud.s3().put(BUCKET, &key("Daily/2026-01-01.md"), "A quiet day", &[]);
    place.cloud.s3().put(BUCKET, &key("New.md"), "of mine", &[]);
    let verified = place.run(&["verify", DEST, "--json"]).expect(5).json();
    assert_eq!(verified["missing"], json!(["Welcome.md"]));
    assert_eq!(verified["changed"], json!([{ "path": "Daily/2026-01-01.md", "checked_by": "read" }]));
    assert_eq!(verified["extra"], json!(["New.md"]));
    let told = place.run(&["verify", DEST]).expect(5).stdout;
    let full = place.world.with_id("`obsync pull Notes 's3://vaults/my notes' --full`");
    assert!(told.contains(&full), "{told}");
    place.pull(&["--full"]);
    let healed = place.run(&["verify", DEST, "--json"]).expect(5).json();
    assert_eq!((&healed["missing"], &healed["changed"]), (&json!([]), &json!([])));
}

#[test]
fn a_bucket_whose_state_was_forgotten_is_adopted() {
    let place = pulled();
    place.must(&["reset", DEST, "--yes"]);
    let pulls = place.world.server.stats().pulls;
    assert_eq!(place.pull(&[])["adopted"]["files"], 3);
    assert_eq!(place.world.server.stats().pulls, pulls, "what was there was downloaded again");
    place.assert_exact();
}

#[test]
fn a_bucket_that_was_parted_from_its_vault_has_its_files_and_no_marker() {
    let place = pulled();
    let marker = format!("{PREFIX}/.obsync/id");
    let files = place.cloud.s3().files(BUCKET, PREFIX).len();
    assert!(place.cloud.s3().object(BUCKET, &marker).is_some());
    place.must(&["unlink", DEST, "--yes"]);
    assert!(place.cloud.s3().object(BUCKET, &marker).is_none());
    assert_eq!(place.cloud.s3().files(BUCKET, PREFIX).len(), files);
    place.run(&["status", DEST]).expect(4);
    assert_eq!(place.pull(&[])["adopted"]["files"], 3);
}

#[test]
fn the_marker_of_another_vault_in_a_bucket_is_told_and_every_object_compared() {
    let place = pulled();
    let key = format!("{PREFIX}/.obsync/id");
    let text = || String::from_utf8(place.cloud.s3().object(BUCKET, &key).unwrap().content.to_vec()).unwrap();
    let (ours, vaults) =
        (text(), ["Notes", "Private"].map(|vault| place.world.vault(vault).id().to_string()));
    let mut marker: serde_json::Value = serde_json::from_str(&ours).unwrap();
    assert_eq!(marker["vault"], json!(vaults[0]));
    marker["vault"] = json!(vaults[1]);
    for name in ["id", "generation"] {
        marker[name] = json!("0123456789abcdef".repeat(2));
    }
    place.cloud.s3().put(BUCKET, &key, marker.to_string(), &[]);
    let pull = place.run(&["pull", "Notes", DEST, "--json"]).expect(0);
    let report = pull.json();
    assert_eq!(
        (&report["doubt"], &report["exit_code"], &report["error"]),
        (&json!("other_destination"), &json!(0), &json!(null)),
        "{report:#}"
    );
    for told in ["another vault was pulled to this destination", "has the marker of another one"] {
        assert!(pull.stderr.contains(told), "{told}: {}", pull.stderr);
    }
    assert_eq!(
        (&report["adopted"]["files"], &report["pulled"]["files"]),
        (&json!(3), &json!(0)),
        "{report:#}"
    );
    // It has its own marker again, and not the other vault's id.
    let next = place.pull(&[]);
    assert!(next.get("doubt").is_none() && next["adopted"]["files"] == 0, "{next:#}");
    assert!(text().contains(&vaults[0]) && !text().contains("0123456789abcdef"), "{}", text());
    place.assert_exact();
}

#[test]
fn status_lists_folders_and_buckets() {
    let place = pulled();
    place.must(&["pull", "Notes", "notes"]);
    let status = place.must(&["status", "--json"]).json();
    let destinations: Vec<&str> = status["destinations"]
        .as_array()
        .unwrap()
        .iter()
        .map(|row| row["destination"].as_str().unwrap())
        .collect();
    assert_eq!(destinations.len(), 2);
    assert!(destinations[0].ends_with("/notes"));
    assert_eq!(destinations[1], DEST);
    let rows = place.must(&["status", &format!("{DEST}/"), "--json"]).json();
    assert_eq!(rows["destinations"][0]["files"], 3);
}

#[test]
fn a_prefix_is_of_one_vault_until_it_is_reset() {
    let place = pulled();
    let mut other = place.command(&["pull", "Private", DEST]);
    let refused = ran(other.env("OBSYNC_VAULT_PASSWORD", VAULT_PASSWORD)).expect(1);
    assert!(refused.stderr.contains("belongs to the vault \"Notes\""), "{}", refused.stderr);
    assert!(refused.stderr.contains("`obsync reset --help`"), "{}", refused.stderr);
    place.assert_exact();
}

#[test]
fn a_destination_that_cannot_be_one_is_refused_before_anything_is_asked() {
    let place = Place::new();
    for (destination, told) in [
        ("file:///notes", "without file://"),
        ("ftp://host/notes", "ftp:// are not supported"),
        ("memory://", "memory:// are not supported"),
        ("s3://", "names no bucket"),
        ("s3://vaults/../x", "the prefix"),
        ("s3:vaults", "write s3://"),
    ] {
        let refused = place.run(&["pull", "Notes", destination]).expect(2);
        assert!(refused.stderr.contains(told), "{}", refused.stderr);
    }
    for (option, value) in [("--sse-kms-key", "k"), ("--storage-class", "COLD")] {
        let refused = place.run(&["pull", "Notes", "notes", option, value]).expect(2);
        assert!(refused.stderr.contains(&format!("{option} is for buckets only")), "{}", refused.stderr);
    }
    let refused = place.run(&["pull", "Notes", "gs://bucket", "--sse-kms-key", "k"]).expect(2);
    assert!(refused.stderr.contains("for buckets of S3 only"), "{}", refused.stderr);
    assert_eq!(place.world.server.stats().rest_requests, 0);
    assert_eq!(place.cloud.requests().len(), 0);
}

#[test]
fn a_second_run_on_this_computer_is_kept_out() {
    let place = Place::new();
    place.world.vault("Notes").write("Note.md", "a note", NOON).unwrap();
    place.fault(|faults| {
        faults.s3.operations = vec!["PutObject".to_owned()];
        faults.s3.hang = obsync_testkit::Chance::always();
    });
    let mut first = place.start(&[], &[]);
    place.wait_for(|counts| counts.of(Service::S3, "PutObject") > 0);
    let second = place.run(&["pull", "Notes", DEST]).expect(7);
    assert!(second.stderr.contains("another obsync is working on s3://vaults/my notes"), "{}", second.stderr);
    first.kill().unwrap();
    first.wait().unwrap();
}

#[test]
fn what_is_kept_is_told_by_pull_and_known_to_verify() {
    let place = pulled();
    let vault = place.world.vault("Notes");
    vault.delete("Welcome.md").unwrap();
    vault.rename("Daily/2026-01-01.md", "Old/2026-01-01.md").unwrap();
    let kept = json!(["Daily/2026-01-01.md", "Welcome.md"]);
    let report = place.pull(&["--keep-deleted"]);
    assert_eq!((&report["deleted"]["files"], &report["retained"]["files"]), (&json!(0), &json!(2)));
    let verified = place.must(&["verify", DEST, "--json"]).json();
    assert_eq!((&verified["clean"], &verified["retained"]), (&json!(true), &kept));
    let told = place.must(&["verify", DEST]).stdout;
    assert!(told.contains("Deleted in the vault, and kept: 2 files\n  Daily/2026-01-01.md\n"), "{told}");
    assert!(told.contains("All is well"), "{told}");

    // Objects of others count separately, even with another vault's metadata.
    let stamp = place.object("Welcome.md").unwrap().metadata;
    let stamp = stamp.iter().map(|(name, value)| (name.as_str(), value.as_str()));
    let stamp: Vec<_> =
        stamp.map(|(name, value)| (name, if name == "vault" { "x" } else { value })).collect();
    place.cloud.s3().put(BUCKET, &format!("{PREFIX}/Of another.md"), "# Welcome", &stamp);
    place.cloud.s3().put(BUCKET, &format!("{PREFIX}/New.md"), "of mine", &[]);
    let verified = place.run(&["verify", DEST, "--json"]).expect(5).json();
    assert_eq!((&verified["extra"], &verified["retained"]), (&json!(["New.md", "Of another.md"]), &kept));

    vault.delete("Old/2026-01-01.md").unwrap();
    let told = place.must(&["pull", "Notes", DEST, "--keep-deleted"]).stdout;
    assert!(
        told.contains("Deleted or renamed in the vault, kept as you asked: 1 file (11 bytes)."),
        "{told}"
    );
}

#[test]
fn a_follower_of_a_bucket_has_a_change_there_within_a_second() {
    let place = pulled();
    let environment = place.cloud.env();
    let environment: Vec<(&str, &str)> =
        environment.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    let follower = Follower::start(&place.world, &["pull", "Notes", DEST], &environment);
    follower.until("/readyz", 200);
    let mut times = Vec::new();
    for number in 0..5 {
        let path = format!("New {number}.md");
        let begun = Instant::now();
        place.write(&path, "new");
        // The metric is that of a finished run, whose records are committed.
        let is_committed = || {
            let text = follower.get("/metrics").1;
            let line = text.lines().find(|line| line.starts_with("obsync_vault_version{"));
            let version = line.and_then(|line| line.rsplit(' ').next()?.trim_end_matches(".0").parse().ok());
            version == Some(place.world.vault("Notes").version().0)
        };
        while place.object(&path).is_none() || !is_committed() {
            assert!(begun.elapsed() < Duration::from_secs(60), "{path}");
            std::thread::sleep(Duration::from_millis(5));
        }
        times.push(begun.elapsed());
    }
    // Other tests run at the same time, so the quickest counts.
    assert!(times.iter().min() < Some(&Duration::from_secs(1)), "{times:?}");
    assert_eq!(follower.stop().0, 0);
    place.assert_exact();
}

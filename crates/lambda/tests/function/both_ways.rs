//! A function that also sends: objects that others put into the bucket reach the vault.

use obsync_testcloud::{Invocation, Service};
use obsync_testkit::{Chance, VaultHandle};
use serde_json::{Value, json};

use crate::world::{BUCKET, PREFIX, World, answered, failed, invoke, invoke_for, report, sync, write_notes};

/// The key of a file of the vault `Notes`.
fn key(path: &str) -> String {
    format!("{PREFIX}/Notes/{path}")
}

/// Puts an object into the bucket, as another program.
fn put(world: &World, path: &str, text: &str) {
    world.cloud.s3().put(BUCKET, &key(path), text.to_owned(), &[]);
}

fn text_in_vault(vault: &VaultHandle, path: &str) -> Option<String> {
    vault.contents().unwrap().remove(path).map(|content| String::from_utf8(content).unwrap())
}

fn text_in_bucket(world: &World, path: &str) -> Option<String> {
    let object = world.cloud.s3().object(BUCKET, &key(path));
    object.map(|object| String::from_utf8(object.content.to_vec()).unwrap())
}

async fn run(world: &World, variables: &[(&str, &str)]) -> Value {
    report(answered(&ran(world, variables, sync("Notes")).await)).clone()
}

async fn ran(world: &World, variables: &[(&str, &str)], event: Value) -> Invocation {
    invoke(&world.function_with(variables), &event).await
}

const SYNC: (&str, &str) = ("OBSYNC_DIRECTION", "sync");

#[tokio::test(flavor = "multi_thread")]
async fn what_others_put_into_the_bucket_reaches_the_vault_and_the_other_way_round() {
    let world = World::new().await;
    let vault = world.vault("Notes");
    write_notes(&vault, 5);
    run(&world, &[SYNC]).await;
    put(&world, "New/from a script.md", "made in the bucket");
    vault.write("here.md", "made in the vault", 1_700_000_000_000).unwrap();
    let done = run(&world, &[SYNC]).await;
    assert_eq!((&done["pushed"]["files"], &done["pulled"]["files"]), (&json!(1), &json!(1)), "{done}");
    assert_eq!(text_in_vault(&vault, "New/from a script.md").as_deref(), Some("made in the bucket"));
    assert_eq!(text_in_bucket(&world, "here.md").as_deref(), Some("made in the vault"));
    // Both sides change one note, in different lines.
    vault.write("list.md", "a\nb\nc\n", 1_700_000_000_000).unwrap();
    run(&world, &[SYNC]).await;
    vault.write("list.md", "a\nb\nc in the vault\n", 1_700_000_001_000).unwrap();
    put(&world, "list.md", "a in the bucket\nb\nc\n");
    let merged = run(&world, &[SYNC]).await;
    assert_eq!(merged["merged"], json!(["list.md"]), "{merged}");
    let both = "a in the bucket\nb\nc in the vault\n";
    assert_eq!(text_in_vault(&vault, "list.md").as_deref(), Some(both));
    assert_eq!(text_in_bucket(&world, "list.md").as_deref(), Some(both));
    // Nothing is left to do.
    let version = vault.version();
    let idle = run(&world, &[SYNC]).await;
    assert_eq!((idle["message"].as_str(), vault.version()), (Some("nothing had changed"), version), "{idle}");
}

#[tokio::test(flavor = "multi_thread")]
async fn as_long_as_the_bucket_is_as_it_was_left_no_record_is_read() {
    let world = World::new().await;
    let vault = world.vault("Notes");
    write_notes(&vault, 5);
    let function = world.function_with(&[SYNC]);
    let event = |direction: &str| json!({ "action": "sync", "vault_id": "Notes", "direction": direction });
    // Returns the report, and true if the whole table was read.
    let run = async |direction: &str| {
        let before = world.cloud.counts().of(Service::DynamoDb, "Scan");
        let done = report(answered(&invoke(&function, &event(direction)).await)).clone();
        (done, world.cloud.counts().of(Service::DynamoDb, "Scan") > before)
    };
    let is_quiet = async || {
        let (done, has_read) = run("sync").await;
        assert_eq!(done["message"], "nothing had changed", "{done}");
        !has_read
    };
    run("sync").await;
    assert!(is_quiet().await && is_quiet().await);
    let (_, has_read) = run("pull").await;
    assert!(!has_read && is_quiet().await, "a pull that brought nothing changes nothing of that");

    put(&world, "folder 0/note 0.md", "edited");
    let (sent, has_read) = run("sync").await;
    assert!(has_read && sent["pushed"]["files"] == 1, "{sent}");
    assert!(is_quiet().await, "what was sent is recorded as it is");

    vault.write("folder 1/note 1.md", "edited", 1_800_000_000_000).unwrap();
    let (brought, has_read) = run("sync").await;
    assert!(has_read && brought["pulled"]["files"] == 1, "{brought}");
    assert!(is_quiet().await);

    // The list is the same as before, byte for byte, but the records are not: the vault deleted the note, and
    // a user put it back into the bucket.
    let text = text_in_bucket(&world, "folder 2/note 2.md").unwrap();
    vault.delete("folder 2/note 2.md").unwrap();
    assert_eq!(run("pull").await.0["deleted"]["files"], 1);
    put(&world, "folder 2/note 2.md", &text);
    let (sent, has_read) = run("sync").await;
    assert!(has_read && sent["pushed"]["files"] == 1, "{sent}");
    assert_eq!(text_in_vault(&vault, "folder 2/note 2.md"), Some(text));

    // Every run warns of a name that a vault cannot have.
    put(&world, "e\u{301}.md", "a name in another form");
    for _ in 0..2 {
        let (told, has_read) = run("sync").await;
        assert!(has_read && told["warnings"].to_string().contains("NFC"), "{told}");
    }
    world.cloud.s3().delete(BUCKET, &key("e\u{301}.md"));
    assert!(is_quiet().await, "it is what it was");

    // A scan with another filter examines other files.
    let without = world.function_with(&[SYNC, ("OBSYNC_EXCLUDE", "folder 3")]);
    let before = world.cloud.counts().of(Service::DynamoDb, "Scan");
    answered(&invoke(&without, &event("sync")).await);
    assert!(world.cloud.counts().of(Service::DynamoDb, "Scan") > before);
}

#[tokio::test(flavor = "multi_thread")]
async fn without_the_setting_nothing_is_ever_sent() {
    let world = World::new().await;
    let vault = world.vault("Notes");
    write_notes(&vault, 3);
    run(&world, &[]).await;
    let version = vault.version();
    put(&world, "stranger.md", "not the vault's");
    run(&world, &[]).await;
    assert_eq!(vault.version(), version);
    for asked in ["sync", "push"] {
        let event = json!({ "action": "sync", "vault_id": "Notes", "direction": asked });
        let refused = ran(&world, &[], event).await;
        let (kind, message) = failed(&refused);
        assert_eq!(kind, "InvalidEvent");
        assert!(message.contains("an event can only narrow it"), "{message}");
    }
    assert_eq!(vault.version(), version);
    assert_eq!(text_in_bucket(&world, "stranger.md").as_deref(), Some("not the vault's"));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_narrows_the_direction() {
    let world = World::new().await;
    let vault = world.vault("Notes");
    write_notes(&vault, 3);
    run(&world, &[SYNC]).await;
    put(&world, "mine.md", "mine");
    vault.write("theirs.md", "theirs", 1_700_000_000_000).unwrap();
    let event = |direction: &str| json!({ "action": "sync", "vault_id": "Notes", "direction": direction });
    answered(&ran(&world, &[SYNC], event("push")).await);
    assert_eq!(text_in_vault(&vault, "mine.md").as_deref(), Some("mine"));
    assert_eq!(text_in_bucket(&world, "theirs.md"), None, "a push applies nothing here");
    put(&world, "mine too.md", "mine");
    answered(&ran(&world, &[SYNC], event("pull")).await);
    assert_eq!(text_in_bucket(&world, "theirs.md").as_deref(), Some("theirs"));
    assert_eq!(text_in_vault(&vault, "mine too.md"), None, "a pull sends nothing");
    // The next sync is not the first one: deletions need no confirmation.
    vault.delete("theirs.md").unwrap();
    let after = run(&world, &[SYNC]).await;
    assert_eq!((&after["held_back"], &after["deleted"]["files"]), (&json!([]), &json!(1)), "{after}");
    assert_eq!(text_in_vault(&vault, "mine too.md").as_deref(), Some("mine"));
    let wrong = ran(&world, &[SYNC], event("both")).await;
    assert_eq!(failed(&wrong).0, "InvalidEvent");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_object_deletes_nothing_in_the_vault_unless_the_owner_says_that_it_does() {
    let world = World::new().await;
    let vault = world.vault("Notes");
    for number in 0..8 {
        vault.write(&format!("{number}.md"), format!("note {number}"), 1_700_000_000_000).unwrap();
    }
    run(&world, &[SYNC]).await;
    world.cloud.s3().delete(BUCKET, &key("1.md"));
    run(&world, &[SYNC]).await;
    assert!(text_in_vault(&vault, "1.md").is_some(), "it may have expired");
    // Files missing before do not count as deleted by anybody; those removed from now on do.
    let deletes = [SYNC, ("OBSYNC_BUCKET_DELETES", "true")];
    run(&world, &deletes).await;
    assert!(text_in_vault(&vault, "1.md").is_some());
    world.cloud.s3().delete(BUCKET, &key("2.md"));
    let deleted = run(&world, &deletes).await;
    assert_eq!(deleted["deleted_in_vault"]["files"], 1, "{deleted}");
    assert_eq!(text_in_vault(&vault, "2.md"), None);
    assert!(text_in_vault(&vault, "1.md").is_some());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_object_that_is_not_sent_within_two_invocations_is_named_and_deletions_go() {
    let world = World::new().await;
    let vault = world.vault("Notes");
    for number in 0..8 {
        vault.write(&format!("{number}.md"), format!("note {number}"), 1_700_000_000_000).unwrap();
    }
    let deletes = [SYNC, ("OBSYNC_BUCKET_DELETES", "true")];
    run(&world, &deletes).await;
    put(&world, "large.bin", &"x".repeat(3 << 20));
    world.cloud.s3().delete(BUCKET, &key("2.md"));
    world.server.faults().update(|faults| faults.stall_in_upload = Chance::always());
    let function = world.function_with(&deletes);
    let mut named = Vec::new();
    // Two of them come far enough to send it, however busy the machine is.
    for _ in 0..6 {
        let cut_off = invoke_for(&function, &sync("Notes"), 9000).await;
        let report = report(answered(&cut_off)).clone();
        assert_eq!(report["status"], "incomplete", "{report}");
        named.push(report["failures"].to_string());
        if named.last().is_some_and(|failures| failures.contains("large.bin")) {
            break;
        }
    }
    assert!(named.len() > 1 && named.last().unwrap().contains("in the time that a run has"), "{named:?}");
    assert!(text_in_vault(&vault, "2.md").is_some(), "deletions come after the files");
    let done = report(answered(&invoke(&function, &sync("Notes")).await)).clone();
    assert_eq!(
        (&done["status"], &done["deleted_in_vault"]["files"]),
        (&json!("partial"), &json!(1)),
        "{done}"
    );
    assert!(done["failures"].to_string().contains("large.bin"), "{done}");
    assert_eq!(text_in_vault(&vault, "2.md"), None);
}

#[tokio::test(flavor = "multi_thread")]
async fn deletions_are_refused_where_objects_expire() {
    let world = World::new().await;
    let vault = world.vault("Notes");
    write_notes(&vault, 3);
    let deletes = [SYNC, ("OBSYNC_BUCKET_DELETES", "true")];
    run(&world, &deletes).await;
    world.cloud.s3().expire_after_days(BUCKET, "notes/", 30);
    let version = vault.version();
    let files = vault.expected().unwrap().files;
    world.cloud.s3().delete(BUCKET, &key(&files[0].path));
    let told = run(&world, &deletes).await;
    let warning = told["warnings"][0].as_str().unwrap();
    assert!(
        warning.contains("expires objects there") && warning.contains("OBSYNC_BUCKET_DELETES"),
        "{warning}"
    );
    assert_eq!(vault.version(), version);
    // Files that expired while there was a rule do not count as deleted afterwards either.
    world.cloud.s3().expire_nothing(BUCKET);
    run(&world, &deletes).await;
    assert_eq!(vault.version(), version);
    let asked = || world.cloud.counts().of(Service::S3, "GetBucketLifecycleConfiguration");
    let before = asked();
    run(&world, &[SYNC]).await;
    assert_eq!(asked(), before, "nobody else asks for it");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_asks_once_whether_objects_expire() {
    let world = World::new().await;
    let vault = world.vault("Notes");
    write_notes(&vault, 8);
    let deletes = [SYNC, ("OBSYNC_BUCKET_DELETES", "true")];
    run(&world, &deletes).await;
    let asked = || world.cloud.counts().of(Service::S3, "GetBucketLifecycleConfiguration");
    let function = world.function_with(&deletes);
    // One process for all of them: each run queries the rules anew.
    for file in vault.expected().unwrap().files.iter().take(2) {
        world.cloud.s3().delete(BUCKET, &key(&file.path));
        let before = asked();
        let done = report(answered(&invoke(&function, &sync("Notes")).await)).clone();
        assert_eq!(done["deleted_in_vault"]["files"], 1, "{done}");
        assert_eq!(asked() - before, 1);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_emptied_bucket_empties_no_vault() {
    let world = World::new().await;
    let vault = world.vault("Notes");
    write_notes(&vault, 20);
    let deletes = [SYNC, ("OBSYNC_BUCKET_DELETES", "true")];
    run(&world, &deletes).await;
    let files = vault.expected().unwrap().files;
    for file in &files {
        world.cloud.s3().delete(BUCKET, &key(&file.path));
    }
    run(&world, &deletes).await;
    assert_eq!(vault.expected().unwrap().files.len(), files.len());
}

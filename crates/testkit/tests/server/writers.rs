//! Faults for devices that write: refusals, lost answers, late or duplicate echoes, rivals, old servers.

use std::time::{Duration, Instant};

use obsync_protocol::{PushMessage, ServerMessage, Uid, VaultPath};
use obsync_testkit::{Server, VaultHandle, VaultSpec};
use serde_json::{Value, json};

use crate::client::{Device, EMAIL, Outcome, PASSWORD, file};

/// A server with a vault that has the note `old.md`, and a device with its listing.
async fn writer(faults: &str) -> Outcome<(Server, VaultHandle, Device)> {
    let server = Server::builder().user(EMAIL, PASSWORD).vault(VaultSpec::managed("Notes")).start().await?;
    let vault = server.vault("Notes")?;
    vault.write("old.md", b"old", 1)?;
    let device = Device::listed(&server, &vault, "one", 1).await?.0;
    server.faults().set(faults.parse()?);
    Ok((server, vault, device))
}

/// A push of a note, and its content.
fn note(vault: &VaultHandle, path: &str, content: &[u8]) -> Outcome<(Value, Vec<u8>)> {
    let blob = vault.keys()?.seal([1; 12], content)?;
    Ok((file(vault.keys()?, path, content, &blob)?, blob))
}

/// Pushes a note as far as its last frame.
async fn send(device: &mut Device, (request, blob): (Value, Vec<u8>)) -> Outcome {
    device.send(request).await?;
    assert!(device.answer().await?.is_next());
    device.send_binary(blob).await
}

fn live(vault: &VaultHandle) -> Outcome<Vec<String>> {
    Ok(vault.expected()?.files.into_iter().map(|file| file.path).collect())
}

fn name(vault: &VaultHandle, entry: &PushMessage) -> Outcome<String> {
    Ok(vault.keys()?.decode_path(&entry.path)?.to_string())
}

#[tokio::test]
async fn a_push_is_refused_in_the_words_that_were_set() -> Outcome {
    let (_server, vault, mut one) =
        writer("refuse-push=next:1,refuse-push-text=The vault is read-only").await?;
    one.send(note(&vault, "new.md", b"x")?.0).await?;
    assert_eq!(one.answer().await?.error().as_deref(), Some("The vault is read-only"));
    Ok(())
}

#[tokio::test]
async fn a_full_vault_takes_no_content_but_everything_else() -> Outcome {
    for faults in ["vault-full", "storage-limit=40"] {
        let (_server, vault, mut one) = writer(faults).await?;
        one.send(note(&vault, "new.md", b"a new content")?.0).await?;
        assert_eq!(one.answer().await?.error().as_deref(), Some("Vault limit exceeded"), "{faults}");
        one.push(note(&vault, "empty.md", b"")?.0.merge(json!({ "size": 0, "pieces": 0 })), b"").await?;
        let folder = json!({
            "op": "push", "path": vault.keys()?.encode_path(&VaultPath::parse("f")?), "relatedpath": null,
            "extension": "", "hash": "", "ctime": 0, "mtime": 0, "folder": true, "deleted": false,
        });
        one.push(folder.clone(), b"").await?;
        one.push(folder.merge(json!({ "deleted": true })), b"").await?;
    }
    let (_server, vault, mut one) = writer("storage-limit=40").await?;
    one.send(json!({ "op": "size" })).await?;
    let answer = one.answer().await?;
    assert_eq!((answer.size, answer.limit), (Some(3 + 28), Some(40)));
    // A known content takes no room.
    one.push(note(&vault, "copy.md", b"old")?.0, b"").await?;
    assert_eq!(live(&vault)?, ["copy.md", "old.md"]);
    Ok(())
}

#[tokio::test]
async fn the_limit_of_a_file_can_be_changed_while_the_server_runs() -> Outcome {
    let (server, vault, mut one) = writer("per-file-max=4").await?;
    let (_, answer) = Device::open(&server, &vault, "two", 1).await?;
    assert_eq!(answer.per_file_max, Some(4));
    let (request, blob) = note(&vault, "five.md", b"12345")?;
    one.send(request.clone()).await?;
    assert_eq!(one.answer().await?.error().as_deref(), Some("File too large"));
    server.faults().clear();
    one.push(request, &blob).await?;
    Ok(())
}

#[tokio::test]
async fn an_answer_or_an_echo_is_lost_after_the_push_was_taken() -> Outcome {
    let (_server, vault, mut one) = writer("lose-echo=next:1").await?;
    send(&mut one, note(&vault, "new.md", b"x")?).await?;
    assert!(!matches!(one.frame().await, Ok(Some(_))));
    assert_eq!(live(&vault)?, ["new.md", "old.md"]);

    let (_server, vault, mut one) = writer("lose-answer=next:1").await?;
    send(&mut one, note(&vault, "new.md", b"x")?).await?;
    assert_eq!(one.pushed().await?.uid, Uid(2));
    assert!(!matches!(one.frame().await, Ok(Some(_))));
    assert_eq!(live(&vault)?, ["new.md", "old.md"]);
    Ok(())
}

#[tokio::test]
async fn nothing_is_recorded_of_an_upload_that_is_cut_off() -> Outcome {
    let (server, vault, mut one) = writer("drop-in-upload=next:1").await?;
    send(&mut one, note(&vault, "new.md", b"x")?).await?;
    assert!(!matches!(one.frame().await, Ok(Some(_))));
    assert_eq!((live(&vault)?.len(), server.faults().strikes("drop-in-upload")), (1, 1));
    Ok(())
}

#[tokio::test]
async fn an_echo_comes_late_or_twice() -> Outcome {
    let (_server, vault, mut one) = writer("late-echo=next:1,double-echo=next:1").await?;
    send(&mut one, note(&vault, "late.md", b"x")?).await?;
    assert!(one.answer().await?.is_ok());
    assert_eq!(one.pushed().await?.uid, Uid(2));
    send(&mut one, note(&vault, "twice.md", b"y")?).await?;
    assert_eq!(one.pushed().await?, one.pushed().await?);
    assert!(one.answer().await?.is_ok());
    Ok(())
}

#[tokio::test]
async fn a_push_and_each_of_its_pieces_wait_for_the_latency() -> Outcome {
    let (_server, vault, mut one) = writer("latency=50ms").await?;
    let started = Instant::now();
    send(&mut one, note(&vault, "new.md", b"x")?).await?;
    assert!(started.elapsed() >= Duration::from_millis(50));
    assert_eq!(one.pushed().await?.uid, Uid(2));
    assert!(started.elapsed() >= Duration::from_millis(100));
    Ok(())
}

#[tokio::test]
async fn a_rival_writes_the_same_path_in_between() -> Outcome {
    let (_server, vault, mut one) = writer("rival-push=next:1").await?;
    send(&mut one, note(&vault, "old.md", b"ours")?).await?;
    let (rival, ours) = (one.pushed().await?, one.pushed().await?);
    assert_eq!((rival.uid, rival.device.as_str()), (Uid(2), "Rival"));
    assert_eq!((ours.uid, ours.device.as_str()), (Uid(3), "one"));
    assert_eq!(name(&vault, &rival)?, "old.md");
    assert!(one.answer().await?.is_ok());
    let path = vault.keys()?.encode_path(&VaultPath::parse("old.md")?);
    one.send(json!({ "op": "history", "path": path, "last": 0 })).await?;
    let uids: Vec<u64> = one.answer().await?.items.iter().flatten().map(|item| item.uid.0).collect();
    assert_eq!(uids, [3, 2, 1]);
    let (_, content) = one.pull(2).await?;
    assert_eq!(vault.keys()?.open(&content)?, b"a rival wrote this after version 1");
    Ok(())
}

#[tokio::test]
async fn a_rename_deletes_the_old_path_or_does_not() -> Outcome {
    for (faults, left) in [("", vec!["new.md"]), ("keep-related", vec!["new.md", "old.md"])] {
        let (_server, vault, mut one) = writer(faults).await?;
        let old = vault.keys()?.encode_path(&VaultPath::parse("old.md")?);
        one.send(note(&vault, "new.md", b"old")?.0.merge(json!({ "relatedpath": old }))).await?;
        if faults.is_empty() {
            assert!(one.pushed().await?.deleted);
        }
        assert_eq!(one.pushed().await?.related_path, Some(old));
        assert!(one.answer().await?.is_ok());
        assert_eq!(live(&vault)?, left, "{faults}");
    }
    Ok(())
}

#[tokio::test]
async fn a_restored_server_forgets_what_came_later_and_gives_its_uids_again() -> Outcome {
    let dir = tempfile::TempDir::new()?;
    let server = Server::builder().user(EMAIL, PASSWORD).data_dir(dir.path());
    let server = server.vault(VaultSpec::managed("Notes")).start().await?;
    let vault = server.vault("Notes")?;
    vault.write("a.md", b"1", 1)?;
    vault.write("a.md", b"2", 2)?;
    vault.write("b.md", b"3", 3)?;
    vault.roll_back(Uid(1))?;
    let (mut one, entries, version) = Device::listed(&server, &vault, "one", 0).await?;
    assert_eq!((entries.len(), version), (1, 1));
    let (answer, _) = one.pull(3).await?;
    assert!(answer.deleted);
    assert_eq!(vault.write("c.md", b"4", 4)?, Uid(2));
    assert!(matches!(one.message().await?, ServerMessage::Push(entry) if entry.uid == Uid(2)));
    server.shutdown().await;

    let server = Server::builder().user(EMAIL, PASSWORD).data_dir(dir.path()).start().await?;
    assert_eq!(live(&server.vault("Notes")?)?, ["a.md", "c.md"]);
    Ok(())
}

/// A JSON object with some fields changed.
trait Merge {
    fn merge(self, fields: Value) -> Self;
}

impl Merge for Value {
    fn merge(mut self, fields: Value) -> Self {
        if let (Some(object), Value::Object(fields)) = (self.as_object_mut(), fields) {
            object.extend(fields);
        }
        self
    }
}

#[tokio::test]
async fn a_late_push_is_recorded_after_so_many_listings_and_histories() -> Outcome {
    let (server, vault, mut one) = writer("late-push=next:1,late-after=3,rival-push=next:1").await?;
    send(&mut one, note(&vault, "new.md", b"late")?).await?;
    assert!(!matches!(one.frame().await, Ok(Some(_))));
    // The first of three requests is its listing.
    let mut two = Device::listed(&server, &vault, "two", 1).await?.0;
    let history = json!({
        "op": "history", "path": vault.keys()?.encode_path(&VaultPath::parse("new.md")?), "last": 0,
    });
    for (asked, versions) in [(1, 1), (2, 3)] {
        two.send(history.clone()).await?;
        while !matches!(two.message().await?, ServerMessage::Answer(_)) {}
        assert_eq!(vault.version(), Uid(versions), "after {asked}");
    }
    Ok(())
}

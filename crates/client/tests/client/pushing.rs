//! Pushed content can be pulled unchanged.

use obsync_client::{
    Client, ClientError, LiveChanges, OldPath, PushFailure, PushFile, SessionTarget, WritingSession,
};
use obsync_protocol::{ContentHash, PushMessage, Uid, VaultPath};
use obsync_testkit::{Server, fixture_dir};

use crate::bed::{Bed, EMAIL, PASSWORD, limited, options};
use crate::collector::Run;

fn path(text: &str) -> VaultPath {
    VaultPath::parse(text).unwrap()
}

fn file<'a>(path: &'a VaultPath, content: &[u8]) -> PushFile<'a> {
    PushFile {
        path,
        hash: ContentHash::of(content),
        ctime: 1_700_000_000_000,
        mtime: 1_700_000_001_234,
        related: None,
    }
}

/// Incompressible bytes without structure.
fn noise(length: usize) -> Vec<u8> {
    let mut state = length as u64;
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as u8
    };
    (0..length).map(|_| next()).collect()
}

#[tokio::test]
async fn files_folders_and_deletions_that_were_pushed_come_back_over_several_connections() {
    let bed = Bed::start().await;
    let (mut session, _) = bed.writer().await;
    session.push_folder(&path("Daily")).await.unwrap();
    session.push_folder(&path("Attic")).await.unwrap();
    let mut contents: Vec<(VaultPath, Vec<u8>)> =
        (0..100).map(|number| (path(&format!("Daily/{number}.md")), noise(number * 37))).collect();
    // Around the borders of pieces: 2 MiB of ciphertext with its 28 bytes of nonce and tag.
    for length in [(2 << 20) - 29, (2 << 20) - 28, (2 << 20) - 27, 2 << 20, (4 << 20) - 28, 5_000_000] {
        contents.push((path(&format!("Daily/{length}.bin")), noise(length)));
    }
    for (path, content) in &contents {
        limited(session.push_file(&file(path, content), content)).await.unwrap();
    }
    let doomed = path("Attic/doomed.md");
    session.push_file(&file(&doomed, b"doomed"), b"doomed").await.unwrap();
    session.push_deletion(&doomed, false).await.unwrap();
    session.push_deletion(&path("Attic"), true).await.unwrap();
    session.close().await;

    let run = Run::of(&bed).await;
    let fetched =
        Run { jobs: run.jobs.into_iter().filter(|job| job.path.starts_with("Daily/")).collect(), ..run };
    let fetched = fetched.fetch(&bed).await;
    assert!(fetched.failures.is_empty(), "{:?}", fetched.failures);
    assert!(fetched.summary().connections > 1);
    let expected = contents.into_iter().map(|(path, content)| (path.to_string(), content)).collect();
    assert!(fetched.files == expected, "what came back is not what was pushed");
    let left = bed.vault.expected().unwrap();
    assert_eq!(left.folders, ["Daily"]);
    assert_eq!(left.files.len(), 106);
    assert!(left.files.iter().all(|file| file.mtime_ms == 1_700_000_001_234));
}

#[tokio::test]
async fn content_that_the_server_knows_is_not_sent_again() {
    let bed = Bed::start().await;
    let (mut session, _) = bed.writer().await;
    let content = noise(100_000);
    let (one, two) = (path("one.bin"), path("two.bin"));
    limited(session.push_file(&file(&one, &content), &content)).await.unwrap();
    let renamed = PushFile { related: Some(&one), ..file(&two, &content) };
    limited(session.push_file(&renamed, &content)).await.unwrap();
    let stats = bed.server.stats();
    assert_eq!((stats.pushes, stats.pushes_without_content), (2, 1));
    assert_eq!(stats.content_bytes_received, 100_028);
}

#[tokio::test]
async fn a_file_beyond_the_vaults_limit_is_not_sent() {
    let bed = Bed::start().await;
    let (mut session, _) = bed.writer().await;
    let large = path("large.bin");
    let size = session.file_limit() + 1;
    let error =
        limited(session.push_file_from(&file(&large, b""), size, tokio::io::empty())).await.unwrap_err();
    assert!(matches!(error, PushFailure::Refused(ClientError::FileTooLarge { .. })), "{error:?}");
    // The session stays usable.
    session.push_folder(&path("Still open")).await.unwrap();
}

#[tokio::test]
async fn a_refused_push_says_why_and_leaves_the_session_usable() {
    let bed = Bed::start().await;
    let (mut session, _) = bed.writer().await;
    bed.fault("refuse-push=next:1");
    let error = limited(session.push_folder(&path("No"))).await.unwrap_err();
    assert!(matches!(error, PushFailure::Refused(ClientError::Service { .. })), "{error:?}");
    limited(session.push_folder(&path("Yes"))).await.unwrap();
}

#[tokio::test]
async fn a_file_that_changes_its_size_while_it_is_sent_is_not_recorded() {
    for actual in [99_999_usize, 100_001] {
        let bed = Bed::start().await;
        let (mut session, _) = bed.writer().await;
        let content = noise(actual);
        let changing = path("changing.bin");
        let file = file(&changing, &content);
        let error = limited(session.push_file_from(&file, 100_000, content.as_slice())).await.unwrap_err();
        assert!(matches!(error, PushFailure::NotRecorded(ClientError::Source { .. })), "{error:?}");
        assert!(!session.is_open());
        let error = limited(session.push_folder(&path("Later"))).await.unwrap_err();
        assert!(matches!(error, PushFailure::NotRecorded(ClientError::ConnectionLost { .. })), "{error:?}");
        assert!(bed.vault.expected().unwrap().files.is_empty());
    }
}

#[tokio::test]
async fn the_echo_of_a_push_is_known_and_heard_by_every_session() {
    let bed = Bed::start().await;
    let (mut session, mut live) = bed.writer().await;
    let (mut other, mut heard) = bed.writer().await;
    let note = path("note.md");
    let pushed = limited(session.push_file(&file(&note, b"text"), b"text")).await.unwrap();
    assert_eq!(pushed.echo, Some(Uid(1)));
    assert_eq!(limited(session.push_folder(&path("Folder"))).await.unwrap().echo, Some(Uid(2)));
    assert_eq!(limited(session.push_deletion(&note, false)).await.unwrap().echo, Some(Uid(3)));
    limited(other.size()).await.unwrap();
    for changes in [&mut live, &mut heard] {
        let uids: Vec<u64> = drained(changes).iter().map(|entry| entry.uid.0).collect();
        assert_eq!(uids, [1, 2, 3]);
    }
}

fn drained(changes: &mut LiveChanges) -> Vec<PushMessage> {
    std::iter::from_fn(|| changes.try_next().unwrap_or_default()).collect()
}

#[tokio::test]
async fn an_echo_that_comes_late_or_twice_is_neither_lost_nor_counted_twice() {
    let bed = Bed::start().await;
    let (mut session, mut live) = bed.writer().await;
    bed.fault("late-echo=next:1,double-echo=next:1");
    assert_eq!(limited(session.push_folder(&path("Late"))).await.unwrap().echo, None);
    assert_eq!(limited(session.push_folder(&path("Twice"))).await.unwrap().echo, Some(Uid(2)));
    limited(session.size()).await.unwrap();
    let uids: Vec<u64> = drained(&mut live).iter().map(|entry| entry.uid.0).collect();
    assert_eq!(uids, [1, 2, 2]);
}

#[tokio::test]
async fn what_another_device_pushed_in_between_is_heard_before_the_echo() {
    let bed = Bed::start().await;
    let note = path("note.md");
    bed.vault.write("note.md", "base", 1).unwrap();
    let (mut session, mut live) = bed.writer().await;
    bed.fault("rival-push=next:1");
    let pushed = limited(session.push_file(&file(&note, b"ours"), b"ours")).await.unwrap();
    assert_eq!(pushed.echo, Some(Uid(3)));
    let heard = drained(&mut live);
    assert_eq!(heard.iter().map(|entry| entry.uid).collect::<Vec<_>>(), [Uid(2), Uid(3)]);
    assert_eq!(heard[0].device, "Rival");
}

#[tokio::test]
async fn a_push_that_was_cut_off_says_whether_the_vault_may_have_it() {
    for (fault, may_have_it, has_it) in [
        ("drop-in-upload=next:1", false, 0),
        ("lose-echo=next:1", true, 1),
        ("lose-answer=next:1", true, 1),
        ("drop-on-request=next:1", true, 0),
    ] {
        let bed = Bed::start().await;
        let (mut session, _) = bed.writer().await;
        bed.fault(fault);
        // Two pieces, so that the connection is lost before the last one.
        let (note, content) = (path("note.bin"), noise(3 << 20));
        let failure = limited(session.push_file(&file(&note, &content), &content)).await.unwrap_err();
        assert!(matches!(failure.error(), ClientError::ConnectionLost { .. }), "{fault}: {failure:?}");
        assert_eq!(matches!(failure, PushFailure::Unknown(_)), may_have_it, "{fault}: {failure:?}");
        assert!(!session.is_open());
        assert_eq!(bed.vault.version(), Uid(has_it), "{fault}");
        // The history of the path has the answer.
        let (mut session, _) = bed.writer().await;
        let history = limited(session.history(&bed.keys().encode_path(&note), Uid(0))).await.unwrap();
        assert_eq!(history.items.len() as u64, has_it, "{fault}");
    }
}

#[tokio::test]
async fn a_content_that_changes_while_it_is_sent_is_given_up_before_its_last_piece() {
    for length in [1, 2 << 20, (4 << 20) - 40, (4 << 20) - 28, 5_000_000] {
        let bed = Bed::start().await;
        let (mut session, _) = bed.writer().await;
        let changing = path("changing.bin");
        let announced = noise(length);
        let mut content = announced.clone();
        content[length - 1] ^= 1;
        let failure = limited(session.push_file(&file(&changing, &announced), &content)).await.unwrap_err();
        assert!(matches!(failure, PushFailure::NotRecorded(ClientError::SourceChanged)), "{failure:?}");
        assert!(!session.is_open());
        limited(bed.server.wait_for(|stats| stats.open_websockets == 0)).await;
        assert_eq!((bed.vault.version(), bed.server.stats().content_bytes_received), (Uid(0), 0));
        // A file that no longer changes is sent.
        let (mut session, _) = bed.writer().await;
        limited(session.push_file(&file(&changing, &content), &content)).await.unwrap();
        assert_eq!(bed.vault.expected().unwrap().files[0].sha256, ContentHash::of(&content).to_string());
    }
}

#[tokio::test]
async fn refusals_have_types_and_leave_the_session_usable() {
    type Is = fn(&ClientError) -> bool;
    let kinds: [(&str, Is); 7] = [
        ("Vault limit exceeded", |error| matches!(error, ClientError::VaultFull)),
        ("File too large", |error| matches!(error, ClientError::FileTooLarge { size: 1, .. })),
        ("This vault is read-only", |error| matches!(error, ClientError::ReadOnly { .. })),
        ("Your subscription to Obsidian Sync has expired", |error| {
            matches!(error, ClientError::SubscriptionExpired)
        }),
        ("Authentication failed", |error| matches!(error, ClientError::NotSignedIn)),
        ("Server overloaded", |error| matches!(error, ClientError::Overloaded)),
        ("Something else", |error| matches!(error, ClientError::Service { .. })),
    ];
    let bed = Bed::start().await;
    let (mut session, _) = bed.writer().await;
    let note = path("note.md");
    for (text, is) in kinds {
        bed.fault(&format!("refuse-push=next:1,refuse-push-text={text}"));
        let failure = limited(session.push_file(&file(&note, b"x"), b"x")).await.unwrap_err();
        assert!(matches!(&failure, PushFailure::Refused(error) if is(error)), "{text}: {failure:?}");
    }
    bed.fault("vault-full");
    let failure = limited(session.push_file(&file(&note, b"x"), b"x")).await.unwrap_err();
    assert!(matches!(failure, PushFailure::Refused(ClientError::VaultFull)), "{failure:?}");
    limited(session.push_folder(&path("Folder"))).await.unwrap();
    assert_eq!(bed.server.stats().websocket_connections, 1);
}

#[tokio::test]
async fn the_old_path_of_a_rename_is_deleted_once_whether_or_not_the_service_does_it() {
    for faults in ["", "keep-related"] {
        let bed = Bed::start().await;
        bed.vault.write("old.md", "text", 1).unwrap();
        let (mut session, mut live) = bed.writer().await;
        bed.fault(faults);
        let (old, new) = (path("old.md"), path("new.md"));
        let file = file(&new, b"text");
        let renamed = session.push_rename(&old, &file, 4, b"text".as_slice(), || true, &|_| {});
        let renamed = limited(renamed).await.unwrap();
        let is_deleted_by_service = matches!(renamed.old, OldPath::DeletedByService(Uid(2)));
        assert_eq!(is_deleted_by_service, faults.is_empty(), "{renamed:?}");
        let left: Vec<String> =
            bed.vault.expected().unwrap().files.into_iter().map(|file| file.path).collect();
        assert_eq!(left, ["new.md"]);
        let deletions = drained(&mut live).into_iter().filter(|entry| entry.deleted).count();
        assert_eq!((deletions, bed.vault.version()), (1, Uid(3)));
        assert_eq!(bed.server.stats().content_bytes_received, 0);
    }
}

#[tokio::test]
async fn a_push_that_is_cancelled_ends_the_connection() {
    let bed = Bed::start().await;
    let (mut session, _) = bed.writer().await;
    bed.fault("stall-request");
    let folder = path("Folder");
    let push = tokio::time::timeout(std::time::Duration::from_millis(50), session.push_folder(&folder));
    assert!(push.await.is_err());
    assert!(!session.is_open());
    assert!(matches!(limited(session.size()).await, Err(ClientError::ConnectionLost { .. })));
    limited(bed.server.wait_for(|stats| stats.open_websockets == 0)).await;
}

#[tokio::test]
async fn a_push_that_is_never_answered_is_given_up_and_may_have_been_taken() {
    let bed = Bed::with(|mut options| {
        options.timeouts.answer = std::time::Duration::from_millis(100);
        options
    })
    .await;
    let (mut session, _) = bed.writer().await;
    bed.fault("stall-request");
    let failure = limited(session.push_folder(&path("Folder"))).await.unwrap_err();
    assert!(matches!(failure, PushFailure::Unknown(ClientError::TimedOut { .. })), "{failure:?}");
    let error = limited(WritingSession::idle(&mut session)).await;
    assert!(matches!(error, ClientError::ConnectionLost { .. }), "{error:?}");
}

/// The encoded hash must equal the official client's, or the content would be requested again.
#[tokio::test]
async fn content_that_the_official_client_uploaded_is_known_by_its_hash() {
    for fixture in ["official-v0", "official-v2", "official-managed"] {
        let server =
            Server::builder().user(EMAIL, PASSWORD).vault_dir(fixture_dir(fixture)).start().await.unwrap();
        let vault = server.vaults().remove(0);
        let client = Client::new(options(&server.url())).unwrap();
        let token = client.sign_in(EMAIL, &PASSWORD.into(), None).await.unwrap().token;
        let keys = vault.keys().unwrap().clone();
        let target = SessionTarget { token, vault_id: vault.id().clone(), host: server.host(), keys };
        let session = limited(WritingSession::open(&client, &target, 0, true)).await.unwrap();
        let (mut session, _live) = limited(session.listing(&mut |_| {})).await.unwrap();
        let known = vault.expected().unwrap().files;
        for (number, known) in known.iter().filter(|file| file.size > 0).enumerate() {
            let copy = path(&format!("copies/{number}"));
            let file = PushFile { hash: known.sha256.parse().unwrap(), ..file(&copy, b"") };
            limited(session.push_file_from(&file, known.size, tokio::io::empty())).await.unwrap();
        }
        assert_eq!(server.stats().content_bytes_received, 0, "{fixture}");
        // A new content is one that the vault's own keys decrypt.
        let new = path("new.md");
        limited(session.push_file(&file(&new, b"a new note"), b"a new note")).await.unwrap();
        let stored = vault.expected().unwrap();
        let stored = stored.files.iter().find(|file| file.path == "new.md").unwrap();
        assert_eq!(stored.sha256, ContentHash::of(b"a new note").to_string());
    }
}

#[tokio::test]
async fn an_empty_file_is_not_recorded_under_the_hash_of_another() {
    let bed = Bed::start().await;
    let (mut session, _) = bed.writer().await;
    let empty = path("empty.md");
    let failure = limited(session.push_file(&file(&empty, b"text"), b"")).await.unwrap_err();
    assert!(matches!(failure, PushFailure::NotRecorded(ClientError::SourceChanged)), "{failure:?}");
    assert_eq!(bed.vault.version(), Uid(0));
}

/// A follower lends its session to a pull in between.
#[tokio::test]
async fn a_permit_makes_a_writer_of_its_own_session_only() {
    let bed = Bed::start().await;
    let (writer, _) = bed.writer().await;
    let (lent, permit) = writer.into_reading().unwrap();
    let (reader, _) = bed.listed().await;
    let reader = permit.writing(reader).unwrap_err();
    assert!(reader.is_listed(), "it is as before");
    let (other, _) = bed.writer().await;
    let (_, permit) = other.into_reading().unwrap();
    assert!(permit.writing(lent).is_err());
    let (writer, _) = bed.writer().await;
    let (lent, permit) = writer.into_reading().unwrap();
    let mut writer = permit.writing(lent).unwrap();
    writer.push_folder(&path("Daily")).await.unwrap();
    writer.close().await;
}

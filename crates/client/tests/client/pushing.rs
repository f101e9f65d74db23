//! What is pushed comes back when it is pulled.

use obsync_client::{ClientError, PushFile};
use obsync_protocol::{ContentHash, VaultPath};

use crate::bed::{Bed, limited};
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

/// Bytes that look like nothing in particular.
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
    let (mut session, _) = bed.listed().await;
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
    let (mut session, _) = bed.listed().await;
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
async fn nothing_is_pushed_before_the_listing_is_complete() {
    let bed = Bed::start().await;
    let mut session = bed.open().await.unwrap();
    assert!(matches!(session.push_folder(&path("Early")).await, Err(ClientError::NotReady)));
    assert!(matches!(session.push_deletion(&path("Early"), true).await, Err(ClientError::NotReady)));
    assert!(matches!(session.restore(obsync_protocol::Uid(1)).await, Err(ClientError::NotReady)));
    let early = path("early.md");
    assert!(matches!(session.push_file(&file(&early, b"x"), b"x").await, Err(ClientError::NotReady)));
    assert_eq!(bed.vault.version().0, 0);
}

#[tokio::test]
async fn a_file_beyond_the_vaults_limit_is_not_sent() {
    let bed = Bed::start().await;
    let (mut session, _) = bed.listed().await;
    let large = path("large.bin");
    let size = session.file_limit() + 1;
    let error =
        limited(session.push_file_from(&file(&large, b""), size, tokio::io::empty())).await.unwrap_err();
    assert!(matches!(error, ClientError::FileTooLarge { .. }), "{error:?}");
    // The session is none the worse for it.
    session.push_folder(&path("Still open")).await.unwrap();
}

#[tokio::test]
async fn a_refused_push_says_why_and_leaves_the_session_usable() {
    let bed = Bed::start().await;
    let (mut session, _) = bed.listed().await;
    bed.fault("refuse-push=next:1");
    let error = limited(session.push_folder(&path("No"))).await.unwrap_err();
    assert!(matches!(error, ClientError::Service { .. }), "{error:?}");
    limited(session.push_folder(&path("Yes"))).await.unwrap();
}

#[tokio::test]
async fn a_file_that_changes_its_size_while_it_is_sent_is_not_recorded() {
    for actual in [99_999_usize, 100_001] {
        let bed = Bed::start().await;
        let (mut session, _) = bed.listed().await;
        let content = noise(actual);
        let changing = path("changing.bin");
        let file = file(&changing, &content);
        let error = limited(session.push_file_from(&file, 100_000, content.as_slice())).await.unwrap_err();
        assert!(matches!(error, ClientError::Source { .. }), "{error:?}");
        drop(session);
        assert!(bed.vault.expected().unwrap().files.is_empty());
    }
}

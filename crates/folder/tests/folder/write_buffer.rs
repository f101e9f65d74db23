//! Small files wait in memory until there are many of them, or until they are published.

use std::fs;

use obsync_conformance::{place, publish_one, stage};
use obsync_core::{DestinationExt, Expect, Publication, PublicationContent, Receive, Staged};
use obsync_folder::FolderDestination;

use crate::destination::{TestFolder, mtime};

async fn stage_many(store: &FolderDestination, count: usize, size: usize) -> Vec<Staged> {
    let mut staged = Vec::new();
    for number in 0..count {
        let mut content = format!("{number:010}").into_bytes();
        content.resize(size, b'.');
        staged.push(stage(store, &format!("folder {}/{number}.md", number % 3), &content, 1000).await);
    }
    staged
}

fn staged_files(destination: &TestFolder) -> usize {
    fs::read_dir(destination.path(".obsync/staging")).map_or(0, Iterator::count)
}

async fn publish_all(store: &FolderDestination, staged: Vec<Staged>) {
    let batch = staged
        .into_iter()
        .map(|staged| Publication { content: PublicationContent::Staged(staged), expect: Expect::Absent });
    for published in store.publish(batch.collect()).await {
        published.unwrap();
    }
}

#[tokio::test]
async fn many_small_files_come_out_exact_with_their_times() {
    let destination = TestFolder::new();
    let store = destination.store();
    let staged = stage_many(&store, 300, 40).await;
    assert_eq!(
        destination.tree().iter().filter(|path| path.starts_with("folder")).count(),
        0,
        "not visible yet"
    );
    publish_all(&store, staged).await;
    for number in 0..300 {
        let path = format!("folder {}/{number}.md", number % 3);
        assert_eq!(destination.read(&path), format!("{number:010}{}", ".".repeat(30)));
        assert_eq!(mtime(&destination.path(&path)), Some(1000));
    }
    store.discard_staged().await.unwrap();
    assert!(!destination.path(".obsync").exists());
}

#[tokio::test]
async fn what_is_prepared_is_written_and_only_that() {
    let destination = TestFolder::new();
    let store = destination.store();
    let mut staged = stage_many(&store, 20, 40).await;
    let later = staged.split_off(10);
    store.prepare(staged.iter().map(|staged| staged.handle.clone()).collect()).await;
    assert_eq!(staged_files(&destination), 10);
    publish_all(&store, staged).await;
    publish_all(&store, later).await;
    assert_eq!(destination.tree().iter().filter(|path| path.ends_with(".md")).count(), 20);
}

#[tokio::test]
async fn the_first_file_is_written_at_once_and_the_next_small_ones_wait() {
    let destination = TestFolder::new();
    let store = destination.store();
    let first = stage(&store, "first.md", b"first", 0).await;
    assert_eq!(staged_files(&destination), 1);
    let waiting = stage_many(&store, 3, 10).await;
    assert_eq!(staged_files(&destination), 1);
    stage(&store, "large.bin", &vec![7; 600 << 10], 0).await;
    assert_eq!(staged_files(&destination), 2, "a large one does not wait");
    publish_one(&store, first, None).await.unwrap();
    publish_all(&store, waiting).await;
    assert_eq!(destination.read("folder 1/1.md"), "0000000001");
}

#[tokio::test]
async fn what_waits_has_its_bounds() {
    let destination = TestFolder::new();
    let store = destination.store();
    // 20 MB: more than may wait.
    let staged = stage_many(&store, 100, 200 << 10).await;
    assert!(staged_files(&destination) > 50, "{}", staged_files(&destination));
    publish_all(&store, staged).await;
    assert_eq!(destination.read("folder 0/99.md").len(), 200 << 10);
}

#[tokio::test]
async fn what_waits_is_discarded_with_all_that_is_staged() {
    let destination = TestFolder::new();
    let store = destination.store();
    place(&store, "kept.md", b"kept", 0, None).await;
    let mut staged = stage_many(&store, 100, 10).await;
    store.discard_staged().await.unwrap();
    assert_eq!(destination.tree(), ["kept.md"]);
    assert!(publish_one(&store, staged.remove(5), None).await.is_err(), "it is not staged any more");
}

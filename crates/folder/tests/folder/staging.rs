//! Files that interrupted runs leave in the staging folder, and their cleanup.

use obsync_core::{Inspect, Receive};
use std::fs;

use obsync_conformance::{at, meta, place, publish_one, stage};
use obsync_protocol::ContentHash;

use crate::destination::{TestFolder, mtime};

/// Path of a content in the staging folder, with a suffix to its name.
fn staged(content: &[u8], suffix: &str) -> String {
    format!(".obsync/staging/{}{suffix}", ContentHash::of(content))
}

#[tokio::test]
async fn what_a_killed_run_had_complete_is_used_and_what_it_had_not_is_removed() {
    let destination = TestFolder::new();
    destination.write(&staged(b"complete", ""), b"complete");
    destination.write(&staged(b"cut off", ""), b"cut");
    destination.write(&staged(b"garbled", ""), b"GARBLED");
    destination.write(".obsync/staging/not a hash", b"?");
    let store = destination.store();
    assert!(store.is_empty().await.unwrap(), "what is staged does not count");
    for content in [&b"cut off"[..], b"garbled", b"never staged"] {
        assert!(store.recover(&at("a.md"), &meta(content, 0)).await.unwrap().is_none());
    }
    let found = store.recover(&at("a.md"), &meta(b"complete", 77_000)).await.unwrap().unwrap();
    assert_eq!(destination.tree().len(), 4, "{:?}", destination.tree());
    publish_one(&store, found, None).await.unwrap();
    assert_eq!(mtime(&destination.path("a.md")), Some(77_000));
    store.discard_staged().await.unwrap();
    assert_eq!(destination.tree(), ["a.md"]);
}

#[tokio::test]
async fn one_content_staged_twice_is_recovered_twice_or_not_at_all_if_spoiled() {
    let destination = TestFolder::new();
    destination.write(&staged(b"text", ""), b"TEXT");
    destination.write(&staged(b"text", "-1"), b"text");
    destination.write(&staged(b"text", "-2"), b"text");
    let store = destination.store();
    for path in ["a.md", "b.md"] {
        let found = store.recover(&at(path), &meta(b"text", 0)).await.unwrap().unwrap();
        publish_one(&store, found, None).await.unwrap();
        assert_eq!(destination.read(path), "text");
    }
    assert!(store.recover(&at("c.md"), &meta(b"text", 0)).await.unwrap().is_none());
}

#[tokio::test]
async fn what_is_staged_anew_does_not_disturb_what_was_left() {
    let destination = TestFolder::new();
    destination.write(&staged(b"text", ""), b"te");
    let store = destination.store();
    place(&store, "a.md", b"text", 0, None).await;
    let (one, two) = (stage(&store, "b.md", b"same", 0).await, stage(&store, "c.md", b"same", 0).await);
    publish_one(&store, two, None).await.unwrap();
    publish_one(&store, one, None).await.unwrap();
    for (path, content) in [("a.md", "text"), ("b.md", "same"), ("c.md", "same")] {
        assert_eq!(destination.read(path), content);
    }
}

#[tokio::test]
async fn a_file_named_obsync_is_left_alone_and_files_are_staged_elsewhere() {
    let destination = TestFolder::new();
    destination.write(".obsync", b"somebody's");
    let store = destination.store();
    place(&store, "a.md", b"text", 0, None).await;
    store.discard_staged().await.unwrap();
    assert_eq!(
        (destination.read("a.md"), destination.read(".obsync")),
        ("text".to_owned(), "somebody's".to_owned())
    );
    assert_eq!(destination.tree(), [".obsync", "a.md"], "nothing else is left");
}

#[tokio::test]
async fn staging_that_is_removed_meanwhile_ends_the_run_with_a_sentence() {
    let destination = TestFolder::new();
    let store = destination.store();
    let gone = stage(&store, "a.md", b"text", 0).await;
    fs::remove_dir_all(destination.path(".obsync")).unwrap();
    assert!(publish_one(&store, gone, None).await.is_err());
    // It is small, so it is only written when it is published.
    let staged = stage(&store, "b.md", b"text", 0).await;
    let error = publish_one(&store, staged, None).await.unwrap_err().error;
    assert!(
        error.is_fatal() && error.to_string().contains("was removed while obsync was working"),
        "{error}"
    );
    assert_eq!(destination.tree(), [""; 0]);
}

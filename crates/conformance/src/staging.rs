//! The contract of [`Destination`] for staged files.

use obsync_core::{
    Destination, DestinationError, DestinationExt, Expect, FileMeta, Found, Inspect, KnownContent,
    Publication, PublicationContent, Receive, Removable, Removal, Staged, Wanted,
};

use super::destination::{DestinationUnderTest, TIME, assert_file, listed};
use super::tools::{at, meta, place, publish_one, stage};

pub(super) async fn nothing_is_visible_before_it_is_published(scene: &impl DestinationUnderTest) {
    let destination = scene.open().await;
    scene.plant("a.md", b"old").await;
    let staged = stage(&destination, "a.md", b"new", TIME).await;
    assert_eq!(scene.content("a.md").await.as_deref(), Some(&b"old"[..]));
    assert_eq!(listed(&destination).await, ["a.md"]);
    publish_one(&destination, staged, Some(KnownContent::of(b"old"))).await.expect("publish");
    assert_file(scene, "a.md", b"new", TIME).await;
}

pub(super) async fn a_file_can_come_in_pieces_of_any_size(scene: &impl DestinationUnderTest) {
    let destination = scene.open().await;
    let content: Vec<u8> = (0..5_000_003_u32).map(|byte| (byte % 251) as u8).collect();
    for (path, size) in [("one piece", content.len()), ("large", 2 << 20), ("odd", 65_537), ("small", 4_099)]
    {
        let mut writer = destination.begin(&at(path), &meta(&content, TIME)).await.expect("begin");
        writer.write(Vec::new()).await.expect("an empty piece");
        for piece in content.chunks(size) {
            writer.write(piece.to_vec()).await.expect("write");
        }
        let staged = writer.finish().await.expect("finish");
        publish_one(&destination, staged, None).await.expect("publish");
        assert_file(scene, path, &content, TIME).await;
    }
}

pub(super) async fn a_writer_that_is_dropped_leaves_nothing(scene: &impl DestinationUnderTest) {
    let destination = scene.open().await;
    let content = vec![7; 3 << 20];
    let mut writer = destination.begin(&at("a.md"), &meta(&content, TIME)).await.expect("begin");
    writer.write(content.clone()).await.expect("write");
    drop(writer);
    drop(destination);
    let destination = scene.open().await;
    assert!(destination.recover(&at("a.md"), &meta(&content, TIME)).await.expect("recover").is_none());
    assert!(destination.is_empty().await.expect("is_empty"));
}

pub(super) async fn staged_content_outlives_the_run(scene: &impl DestinationUnderTest) {
    if !scene.keeps_staged() {
        return;
    }
    drop(stage(&scene.open().await, "a.md", b"text", TIME).await);
    let destination = scene.open().await;
    let staged = destination
        .recover(&at("b.md"), &meta(b"text", TIME + 5))
        .await
        .expect("recover")
        .expect("the content");
    let again = destination.recover(&at("c.md"), &meta(b"text", TIME)).await.expect("recover");
    assert!(again.is_none(), "one content was staged, so one is found");
    publish_one(&destination, staged, None).await.expect("publish");
    assert_file(scene, "b.md", b"text", TIME + 5).await;
}

pub(super) async fn what_is_staged_is_gone_when_it_is_discarded(scene: &impl DestinationUnderTest) {
    let destination = scene.open().await;
    drop(stage(&destination, "a.md", b"text", TIME).await);
    scene.plant("b.md", b"copied").await;
    let copy = destination.copy(&at("b.md"), &at("c.md"), &meta(b"copied", TIME)).await.expect("copy");
    drop(copy.expect("the content"));
    destination.discard_staged().await.expect("discard");
    destination.end_run().await;
    drop(destination);
    let destination = scene.open().await;
    for content in [&b"text"[..], b"copied"] {
        let found = destination.recover(&at("a.md"), &meta(content, TIME)).await.expect("recover");
        assert!(found.is_none(), "what is discarded is gone");
    }
    assert_eq!(listed(&destination).await, ["b.md"]);
}

pub(super) async fn what_does_not_hold_its_content_is_not_recovered(scene: &impl DestinationUnderTest) {
    let destination = scene.open().await;
    // The state that a run leaves when it announced a content and was killed before all of it had arrived.
    for (promised, came) in [(&b"the whole text"[..], &b"the who"[..]), (b"text", b"TEXT")] {
        let mut writer = destination.begin(&at("a.md"), &meta(promised, TIME)).await.expect("begin");
        writer.write(came.to_vec()).await.expect("write");
        drop(writer.finish().await.expect("finish"));
    }
    drop(destination);
    let destination = scene.open().await;
    for promised in [&b"the whole text"[..], b"text"] {
        assert!(destination.recover(&at("a.md"), &meta(promised, TIME)).await.expect("recover").is_none());
    }
}

pub(super) async fn a_copy_is_checked(scene: &impl DestinationUnderTest) {
    let destination = scene.open().await;
    scene.plant("a.md", b"text").await;
    let copy = async |from: &str, content: &[u8]| {
        destination.copy(&at(from), &at("new/b.md"), &meta(content, TIME)).await.expect("copy")
    };
    assert!(copy("a.md", b"TEXT").await.is_none(), "other content");
    assert!(copy("a.md", b"longer text").await.is_none(), "another size");
    assert!(copy("missing.md", b"text").await.is_none(), "no file");
    assert!(copy("no/folder.md", b"text").await.is_none(), "no folder");
    let staged = copy("a.md", b"text").await.expect("the content");
    publish_one(&destination, staged, None).await.expect("publish");
    assert_file(scene, "new/b.md", b"text", TIME).await;
    assert_eq!(scene.content("a.md").await.as_deref(), Some(&b"text"[..]), "the source stays");
}

/// A vault can list a size that is not that of the content. Every destination relies on it: then there is no
/// such content, even if a file has the hash.
pub(super) async fn a_content_of_another_size_than_listed_is_not_there(scene: &impl DestinationUnderTest) {
    let destination = scene.open().await;
    place(&destination, "a.md", b"text", TIME, None).await;
    scene.plant("planted.md", b"text").await;
    for size in [0, 3, 5] {
        let lie = FileMeta { size, ..meta(b"text", TIME) };
        for path in ["a.md", "planted.md"] {
            let wanted = || vec![Wanted { path: at(path), hash: lie.hash, size }];
            assert_eq!(
                destination.holds(wanted()).await.expect("holds"),
                [false],
                "{path} as of {size} bytes"
            );
            let found = destination.look(wanted()).await.expect("look");
            assert!(!found.contains(&Found::Wanted), "{path} as of {size} bytes");
            let copy = destination.copy(&at(path), &at("b.md"), &lie).await.expect("copy");
            assert!(copy.is_none(), "{path} as of {size} bytes");
        }
        let file = Removable { path: at("a.md"), content: KnownContent { hash: lie.hash, size } };
        let removal = destination.remove_files(vec![file]).await.pop().expect("an answer").expect("removal");
        assert_eq!(removal, Removal::Kept, "as of {size} bytes");
    }
    assert_file(scene, "a.md", b"text", TIME).await;
}

pub(super) async fn a_copy_can_outlast_its_source(scene: &impl DestinationUnderTest) {
    let destination = scene.open().await;
    for (path, content) in [("a.md", &b"one"[..]), ("b.md", b"two")] {
        place(&destination, path, content, TIME, None).await;
    }
    // Two files are swapped, and one of them gets a copy.
    let mut swap = Vec::new();
    for (from, to, content) in
        [("a.md", "b.md", &b"one"[..]), ("b.md", "a.md", b"two"), ("a.md", "c.md", b"one")]
    {
        let copy = destination.copy(&at(from), &at(to), &meta(content, TIME + 1)).await.expect("copy");
        swap.push(copy.expect("the content"));
    }
    for staged in swap {
        let path = staged.path.clone();
        let before: &[u8] = if path.as_str() == "a.md" { b"one" } else { b"two" };
        publish_one(&destination, staged, Some(KnownContent::of(before))).await.expect("publish");
        assert_eq!(scene.mtime(path.as_str()).await, Some(TIME + 1));
    }
    assert_file(scene, "a.md", b"two", TIME + 1).await;
    assert_file(scene, "b.md", b"one", TIME + 1).await;
    assert_file(scene, "c.md", b"one", TIME + 1).await;
    assert_eq!(listed(&destination).await, ["a.md", "b.md", "c.md"]);
}

pub(super) async fn a_content_is_staged_once_for_any_number_of_paths(scene: &impl DestinationUnderTest) {
    // Small enough to wait in memory, and large enough to be uploaded in parts.
    for content in [b"text".to_vec(), vec![b'x'; 9 << 20]] {
        let destination = scene.open().await;
        scene.plant("others.md", b"a user's text").await;
        place(&destination, "ours.md", b"old", TIME, None).await;
        let paths =
            [("first.md", None), ("others.md", None), ("ours.md", Some(&b"old"[..])), ("new/last.md", None)];
        let staged = stage(&destination, "first.md", &content, TIME).await;
        let mut batch: Vec<Publication> = Vec::new();
        for (index, (path, replaces)) in paths.iter().enumerate() {
            let meta = meta(&content, TIME + index as i64);
            let copy = Staged { path: at(path), meta, handle: staged.handle.clone() };
            let content = match index + 1 == paths.len() {
                true => PublicationContent::Staged(copy),
                false => PublicationContent::CopyOfStaged(copy),
            };
            batch.push(Publication { content, expect: replaces.map(KnownContent::of).into() });
        }
        // In two batches: the content stays staged between them.
        let second = batch.split_off(2);
        let mut answers = destination.publish(batch).await;
        answers.extend(destination.publish(second).await);
        let failed: Vec<_> = answers.into_iter().filter_map(Result::err).collect();
        let [failure] = &failed[..] else { panic!("all but the user's: {failed:?}") };
        assert!(matches!(failure.error, DestinationError::Changed { .. }), "{}", failure.error);
        // A handed-back copy can be published by itself.
        let PublicationContent::Staged(again) = &failure.publication.content else { panic!("staged") };
        publish_one(&destination, again.clone(), Some(KnownContent::of(b"a user's text")))
            .await
            .expect("publish");
        for (index, (path, _)) in paths.iter().enumerate() {
            assert_file(scene, path, &content, TIME + index as i64).await;
        }
        destination.discard_staged().await.expect("discard");
        for (path, _) in paths {
            let file = Removable { path: at(path), content: KnownContent::of(&content) };
            assert_eq!(
                destination.remove_files(vec![file]).await.pop().expect("one").expect("gone"),
                Removal::Removed
            );
        }
        destination.end_run().await;
    }
}

pub(super) async fn a_path_that_fails_takes_no_other_with_it(scene: &impl DestinationUnderTest) {
    let destination = scene.open().await;
    scene.plant("first.md", b"a user's text").await;
    let content = vec![b'x'; 100];
    let staged = stage(&destination, "first.md", &content, TIME).await;
    let copy = |path: &str| Staged { path: at(path), ..staged.clone() };
    let batch = vec![
        PublicationContent::CopyOfStaged(copy("first.md")),
        PublicationContent::CopyOfStaged(copy("second.md")),
        PublicationContent::Staged(copy("third.md")),
    ];
    let batch = batch.into_iter().map(|content| Publication { content, expect: Expect::Absent });
    let answers: Vec<bool> = destination.publish(batch.collect()).await.iter().map(Result::is_ok).collect();
    assert_eq!(answers, [false, true, true]);
    assert_file(scene, "second.md", &content, TIME).await;
    assert_file(scene, "third.md", &content, TIME).await;
    assert_eq!(scene.content("first.md").await.as_deref(), Some(&b"a user's text"[..]));
}

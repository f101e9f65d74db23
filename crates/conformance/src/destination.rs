//! The contract of [`Destination`] for visible files.

use async_trait::async_trait;
use obsync_core::{
    Destination, DestinationError, DestinationExt, Expect, Inspect, KnownContent, Publication,
    PublicationContent, Removable, Removal, Wanted,
};
use obsync_protocol::{ContentHash, VaultPath};

use super::tools::{at, meta, place, publish_one, stage};
use super::{identity, staging};

/// A time with milliseconds, as vaults have them.
pub(super) const TIME: i64 = 1_722_222_222_123;
/// Another time, before the epoch.
const OLD_TIME: i64 = -86_400_001;

/// A place for one destination, and a way to inspect it that does not use the destination.
#[async_trait]
pub trait DestinationUnderTest: Send + Sync {
    /// The kind of destination.
    type Store: Destination;

    /// The destination, opened like by a new run.
    async fn open(&self) -> Self::Store;

    /// Creates a file there, as a program other than obsync.
    async fn plant(&self, path: &str, content: &[u8]);

    /// The content at a path.
    async fn content(&self, path: &str) -> Option<Vec<u8>>;

    /// The modification time of the file at a path, milliseconds since the epoch.
    async fn mtime(&self, path: &str) -> Option<i64>;

    /// True if empty folders can exist. Otherwise every folder counts as existing.
    fn has_folders(&self) -> bool {
        true
    }

    /// True if files have the version of the vault in their metadata.
    fn says_versions(&self) -> bool {
        false
    }

    /// True if staged files outlive the run.
    fn keeps_staged(&self) -> bool {
        true
    }
}

/// Checks the whole contract of [`Destination`], each part at an empty scene made by `fresh`.
///
/// # Panics
///
/// If the contract is violated.
pub async fn check_destination<S: DestinationUnderTest>(fresh: impl AsyncFn() -> S) {
    what_is_published_is_there_with_its_time(&fresh().await).await;
    a_batch_is_answered_in_its_order(&fresh().await).await;
    what_is_not_expected_is_left_alone_and_told(&fresh().await).await;
    what_obsync_wrote_is_left_alone_where_something_else_is_expected(&fresh().await).await;
    a_rejected_file_can_be_published_once_its_place_is_free(&fresh().await).await;
    a_content_that_is_kept_beside_twice_is_there_once(&fresh().await).await;
    what_obsync_wrote_is_replaced(&fresh().await).await;
    what_obsync_did_not_write_is_kept_beside(&fresh().await).await;
    what_is_there_already_is_adopted(&fresh().await).await;
    times_are_set_in_place(&fresh().await).await;
    only_the_very_content_is_held(&fresh().await).await;
    only_what_obsync_wrote_is_removed(&fresh().await).await;
    folders_are_made_and_removed_when_empty(&fresh().await).await;
    what_is_set_aside_gets_a_free_name(&fresh().await).await;
    an_empty_store_says_so(&fresh().await).await;
    identity::a_marker_is_found_as_it_was_written_last(&fresh().await).await;
    identity::a_look_tells_which_content_is_there(&fresh().await).await;
    identity::facts_are_those_of_the_file_as_long_as_nobody_changes_it(&fresh().await).await;
    staging::nothing_is_visible_before_it_is_published(&fresh().await).await;
    staging::a_file_can_come_in_pieces_of_any_size(&fresh().await).await;
    staging::a_writer_that_is_dropped_leaves_nothing(&fresh().await).await;
    staging::staged_content_outlives_the_run(&fresh().await).await;
    staging::what_is_staged_is_gone_when_it_is_discarded(&fresh().await).await;
    staging::what_does_not_hold_its_content_is_not_recovered(&fresh().await).await;
    staging::a_copy_is_checked(&fresh().await).await;
    staging::a_content_of_another_size_than_listed_is_not_there(&fresh().await).await;
    staging::a_copy_can_outlast_its_source(&fresh().await).await;
    staging::a_content_is_staged_once_for_any_number_of_paths(&fresh().await).await;
    staging::a_path_that_fails_takes_no_other_with_it(&fresh().await).await;
}

/// Asserts the content and the time at a path.
pub(super) async fn assert_file(scene: &impl DestinationUnderTest, path: &str, content: &[u8], mtime: i64) {
    assert_eq!(scene.content(path).await.as_deref(), Some(content), "content of {path}");
    assert_eq!(scene.mtime(path).await, Some(mtime), "modification time of {path}");
}

/// The paths of all files, sorted.
pub(super) async fn listed(destination: &impl Destination) -> Vec<String> {
    let mut paths: Vec<String> =
        destination.list().await.expect("list").files.into_iter().map(|file| file.path).collect();
    paths.sort();
    paths
}

async fn what_is_published_is_there_with_its_time(scene: &impl DestinationUnderTest) {
    let destination = scene.open().await;
    assert_eq!(place(&destination, "deep/er/Note é.md", b"text", TIME, None).await.conflict, None);
    place(&destination, "empty.md", b"", OLD_TIME, None).await;
    assert_file(scene, "deep/er/Note é.md", b"text", TIME).await;
    assert_file(scene, "empty.md", b"", OLD_TIME).await;
    assert_eq!(listed(&destination).await, ["deep/er/Note é.md", "empty.md"]);
}

async fn a_batch_is_answered_in_its_order(scene: &impl DestinationUnderTest) {
    let destination = scene.open().await;
    scene.plant("c.md", b"foreign").await;
    let mut batch = Vec::new();
    for path in ["a.md", "b/b.md", "c.md", "b/d.md"] {
        let content = PublicationContent::Staged(stage(&destination, path, path.as_bytes(), TIME).await);
        batch.push(Publication { content, expect: Expect::Absent });
    }
    let answers = destination.publish(batch).await;
    let published: Vec<bool> = answers.iter().map(Result::is_ok).collect();
    assert_eq!(published, [true, true, false, true]);
    for path in ["a.md", "b/b.md", "b/d.md"] {
        assert_file(scene, path, path.as_bytes(), TIME).await;
    }
    assert_eq!(scene.content("c.md").await.as_deref(), Some(&b"foreign"[..]));
}

async fn what_is_not_expected_is_left_alone_and_told(scene: &impl DestinationUnderTest) {
    let destination = scene.open().await;
    let rejected = async |expect: Expect| {
        let content = PublicationContent::Staged(stage(&destination, "a.md", b"new one", TIME).await);
        let failure =
            destination.publish(vec![Publication { content, expect }]).await.pop().expect("one answer");
        match failure.expect_err("rejected").error {
            DestinationError::Changed { path, found, .. } => {
                assert_eq!(path, "a.md");
                found
            }
            error => panic!("{error:?}"),
        }
    };
    scene.plant("a.md", b"a user's").await;
    let (user, other) = (KnownContent::of(b"a user's"), KnownContent::of(b"recorded"));
    assert_eq!(user.size, other.size);
    assert_eq!(rejected(Expect::Absent).await, None, "not worth reading");
    assert_eq!(rejected(Expect::Content(other)).await, Some(user));
    assert_eq!(rejected(Expect::Content(KnownContent::of(b"longer text"))).await, None);
    assert_eq!(scene.content("a.md").await.as_deref(), Some(&b"a user's"[..]));
    assert_eq!(listed(&destination).await, ["a.md"]);
}

/// The engine decides whether an earlier or a later version may be replaced.
async fn what_obsync_wrote_is_left_alone_where_something_else_is_expected(scene: &impl DestinationUnderTest) {
    let known = KnownContent::of(b"written");
    place(&scene.open().await, "a.md", b"written", TIME, None).await;
    for expect in [Expect::Absent, Expect::Content(KnownContent::of(b"another"))] {
        let destination = scene.open().await;
        let content = PublicationContent::Staged(stage(&destination, "a.md", b"new text", TIME).await);
        let publication = Publication { content, expect };
        let failure =
            destination.publish(vec![publication]).await.pop().expect("one answer").expect_err("rejected");
        match failure.error {
            DestinationError::Changed { found, version, .. } if scene.says_versions() => {
                assert_eq!((found, version), (Some(known), Some(meta(b"", 0).uid)));
            }
            DestinationError::Changed { version, .. } => assert_eq!(version, None),
            error => panic!("{error:?}"),
        }
        assert_file(scene, "a.md", b"written", TIME).await;
    }
    let destination = scene.open().await;
    let staged = stage(&destination, "a.md", b"new text", TIME).await;
    publish_one(&destination, staged, Some(known)).await.expect("what is expected is replaced");
    assert_eq!(listed(&destination).await, ["a.md"]);
}

/// A program that writes the same text repeatedly would leave one more copy in each run.
async fn a_content_that_is_kept_beside_twice_is_there_once(scene: &impl DestinationUnderTest) {
    let destination = scene.open().await;
    let mut names = Vec::new();
    for _ in 0..2 {
        scene.plant("a.md", b"a user's").await;
        names.push(place(&destination, "a.md", b"ours", TIME, None).await.conflict.expect("a conflict"));
    }
    assert_eq!(names[0], names[1]);
    assert_eq!(scene.content(names[0].as_str()).await.as_deref(), Some(&b"a user's"[..]));
    assert_eq!(listed(&destination).await.len(), 2);
    // Another text is no copy of it, although it has its size.
    scene.plant("a.md", b"a USER's").await;
    let other = place(&destination, "a.md", b"ours", TIME, None).await.conflict.expect("a conflict");
    assert_ne!(other, names[0]);
    assert_eq!(scene.content(other.as_str()).await.as_deref(), Some(&b"a USER's"[..]));
}

async fn a_rejected_file_can_be_published_once_its_place_is_free(scene: &impl DestinationUnderTest) {
    let destination = scene.open().await;
    scene.plant("a.md", b"a user's").await;
    let content = PublicationContent::Staged(stage(&destination, "a.md", b"new", TIME).await);
    let publication = Publication { content, expect: Expect::Absent };
    let failure =
        destination.publish(vec![publication]).await.pop().expect("one answer").expect_err("rejected");
    let kept = destination.keep_beside(&at("a.md")).await.expect("kept");
    assert_eq!(scene.content(kept.kept_as.as_str()).await.as_deref(), Some(&b"a user's"[..]));
    let publication = Publication { expect: kept.expect, ..*failure.publication };
    destination.publish(vec![publication]).await.pop().expect("one answer").expect("published");
    assert_file(scene, "a.md", b"new", TIME).await;
    assert!(matches!(
        destination.keep_beside(&at("missing.md")).await,
        Err(DestinationError::Changed { .. })
    ));
}

async fn what_obsync_wrote_is_replaced(scene: &impl DestinationUnderTest) {
    let destination = scene.open().await;
    place(&destination, "a.md", b"first", TIME, None).await;
    assert_eq!(place(&destination, "a.md", b"second", TIME + 1, Some(b"first")).await.conflict, None);
    assert_file(scene, "a.md", b"second", TIME + 1).await;
    assert_eq!(listed(&destination).await, ["a.md"]);
}

async fn what_obsync_did_not_write_is_kept_beside(scene: &impl DestinationUnderTest) {
    let destination = scene.open().await;
    place(&destination, "a.md", b"first", TIME, None).await;
    scene.plant("a.md", b"edited here").await;
    let conflict =
        place(&destination, "a.md", b"second", TIME, Some(b"first")).await.conflict.expect("a conflict");
    assert_file(scene, "a.md", b"second", TIME).await;
    assert_eq!(scene.content(conflict.as_str()).await.as_deref(), Some(&b"edited here"[..]));
    assert!(
        conflict.as_str().starts_with("a (Conflicted copy ") && conflict.as_str().ends_with(").md"),
        "{conflict}"
    );
}

async fn what_is_there_already_is_adopted(scene: &impl DestinationUnderTest) {
    let destination = scene.open().await;
    scene.plant("a.md", b"same").await;
    assert_eq!(place(&destination, "a.md", b"same", TIME, None).await.conflict, None);
    assert_file(scene, "a.md", b"same", TIME).await;
    assert_eq!(listed(&destination).await, ["a.md"]);
}

async fn times_are_set_in_place(scene: &impl DestinationUnderTest) {
    let destination = scene.open().await;
    scene.plant("a.md", b"same").await;
    let in_place = |path: VaultPath| Publication {
        content: PublicationContent::InPlace { path, meta: meta(b"same", OLD_TIME) },
        expect: Expect::Absent,
    };
    scene.plant("saved.md", b"saved meanwhile").await;
    let batch = ["a.md", "missing.md", "saved.md"].map(|path| in_place(at(path)));
    let mut answers = destination.publish(batch.into()).await;
    // A user can save or remove a file after it was checked: then the content is fetched from the vault.
    for answer in answers.split_off(1) {
        let error = answer.expect_err("it has another content").error;
        assert!(matches!(error, DestinationError::ContentNeeded { .. }), "{error:?}");
    }
    assert_eq!(scene.content("saved.md").await.as_deref(), Some(b"saved meanwhile".as_slice()));
    assert_eq!(
        answers.pop().expect("one answer").expect("published").facts.map(|facts| facts.size()).unwrap_or(4),
        4
    );
    assert_file(scene, "a.md", b"same", OLD_TIME).await;
}

async fn only_the_very_content_is_held(scene: &impl DestinationUnderTest) {
    let destination = scene.open().await;
    let wanted = |path: &str, content: &[u8]| Wanted {
        path: at(path),
        hash: ContentHash::of(content),
        size: content.len() as u64,
    };
    assert_eq!(destination.holds(vec![wanted("a.md", b"")]).await.expect("holds"), [false]);
    scene.plant("a.md", b"text").await;
    scene.plant("empty.md", b"").await;
    let questions = vec![
        wanted("a.md", b"text"),
        wanted("a.md", b"TEXT"),
        wanted("a.md", b"longer text"),
        wanted("b.md", b"text"),
        wanted("no/folder.md", b"text"),
        wanted("a.md/below", b"text"),
        wanted("empty.md", b""),
    ];
    let present = destination.holds(questions).await.expect("holds");
    assert_eq!(present, [true, false, false, false, false, false, true]);
}

async fn only_what_obsync_wrote_is_removed(scene: &impl DestinationUnderTest) {
    let destination = scene.open().await;
    let file = |path: &str, content: &[u8]| Removable { path: at(path), content: KnownContent::of(content) };
    place(&destination, "a.md", b"ours", TIME, None).await;
    scene.plant("b.md", b"edited here").await;
    let files = vec![
        file("a.md", b"ours"),
        file("b.md", b"ours"),
        file("c.md", b"ours"),
        file("no/folder.md", b"ours"),
    ];
    let removals: Vec<Removal> = destination
        .remove_files(files)
        .await
        .into_iter()
        .map(|removal| removal.expect("an answer"))
        .collect();
    assert_eq!(removals, [Removal::Removed, Removal::Kept, Removal::Missing, Removal::Missing]);
    destination.flush().await.expect("flush");
    assert_eq!(listed(&destination).await, ["b.md"]);
}

async fn folders_are_made_and_removed_when_empty(scene: &impl DestinationUnderTest) {
    let destination = scene.open().await;
    let made: Vec<bool> = destination
        .create_folders(vec![at("a/b/c"), at("a/b"), at("d")])
        .await
        .into_iter()
        .map(|made| made.expect("a folder"))
        .collect();
    let expected = if scene.has_folders() { [true, false, true] } else { [false; 3] };
    assert_eq!(made, expected);
    scene.plant("a/b/note.md", b"text").await;
    let gone: Vec<bool> = destination
        .remove_folders(vec![at("a/b/c"), at("a/b"), at("a"), at("d"), at("never/was")])
        .await
        .into_iter()
        .map(|gone| gone.expect("an answer"))
        .collect();
    let expected = if scene.has_folders() { [true, false, false, true, true] } else { [true; 5] };
    assert_eq!(gone, expected);
    destination.flush().await.expect("flush");
    assert_eq!(listed(&destination).await, ["a/b/note.md"]);
}

async fn what_is_set_aside_gets_a_free_name(scene: &impl DestinationUnderTest) {
    let destination = scene.open().await;
    let mut names = Vec::new();
    for content in ["one", "two", "three"] {
        scene.plant("a/note.md", content.as_bytes()).await;
        let kept_as = destination.set_aside(&at("a/note.md")).await.expect("set aside");
        assert_eq!(scene.content("a/note.md").await, None);
        assert_eq!(kept_as.parent(), Some(at("a")));
        names.push((kept_as, content));
    }
    for (kept_as, content) in names {
        assert_eq!(scene.content(kept_as.as_str()).await.as_deref(), Some(content.as_bytes()));
    }
    assert!(destination.set_aside(&at("a/note.md")).await.is_err());
}

async fn an_empty_store_says_so(scene: &impl DestinationUnderTest) {
    let destination = scene.open().await;
    assert!(destination.is_empty().await.expect("is_empty"));
    assert!(listed(&destination).await.is_empty());
    let staged = stage(&destination, "a.md", b"text", TIME).await;
    assert!(destination.is_empty().await.expect("is_empty"), "what is staged does not count");
    publish_one(&destination, staged, None).await.expect("publish");
    assert!(!destination.is_empty().await.expect("is_empty"));
}

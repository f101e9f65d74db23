//! Symbolic links in a destination: obsync follows none that leads out, and never writes through one in place
//! of a file.

use std::fs;
use std::os::unix::fs::symlink;

use obsync_conformance::{at, meta, place, publish_one, stage};
use obsync_core::{
    Destination, DestinationError, DestinationExt, Inspect, KnownContent, Receive, Removable, Removal, Wanted,
};

use crate::destination::TestFolder;

/// A destination with links that lead out of it: `up` (relative), `abs` (absolute) and `a/chain` (through
/// `up`), to a folder `outside` with a file `secret.md`.
fn trapped() -> TestFolder {
    let destination = TestFolder::new();
    fs::create_dir_all(destination.path("a")).unwrap();
    fs::create_dir_all(destination.home().join("outside")).unwrap();
    fs::write(destination.home().join("outside/secret.md"), "secret").unwrap();
    symlink("../outside", destination.path("up")).unwrap();
    symlink(destination.home().join("outside"), destination.path("abs")).unwrap();
    symlink("../up", destination.path("a/chain")).unwrap();
    destination
}

const LINKS: [&str; 3] = ["up", "abs", "a/chain"];

/// Asserts that nothing changed outside.
fn assert_untouched(destination: &TestFolder) {
    let outside = destination.home().join("outside");
    assert_eq!(fs::read_dir(&outside).unwrap().count(), 1);
    assert_eq!(fs::read_to_string(outside.join("secret.md")).unwrap(), "secret");
}

#[tokio::test]
async fn no_file_is_written_through_a_link_that_leads_out() {
    let destination = trapped();
    let store = destination.store();
    for link in LINKS {
        for path in [format!("{link}/new.md"), format!("{link}/deep/new.md"), format!("{link}/secret.md")] {
            let staged = stage(&store, &path, b"text", 0).await;
            let failure = publish_one(&store, staged, None).await.unwrap_err();
            assert!(matches!(failure.error, DestinationError::LeadsOut { .. }), "{path}: {}", failure.error);
        }
    }
    assert_untouched(&destination);
}

#[tokio::test]
async fn no_folder_is_made_through_a_link_that_leads_out() {
    let destination = trapped();
    let store = destination.store();
    for link in LINKS {
        for folder in [at(link), at(&format!("{link}/new"))] {
            let error = store.create_folders(vec![folder]).await.pop().unwrap().unwrap_err();
            assert!(matches!(error, DestinationError::LeadsOut { .. }), "{link}: {error}");
        }
    }
    assert_untouched(&destination);
}

#[tokio::test]
async fn nothing_is_read_or_removed_through_a_link_that_leads_out() {
    let destination = trapped();
    let store = destination.store();
    let content = KnownContent::of(b"secret");
    for link in LINKS {
        let path = at(&format!("{link}/secret.md"));
        let wanted = Wanted { path: path.clone(), hash: content.hash, size: content.size };
        assert_eq!(store.holds(vec![wanted]).await.unwrap(), [false]);
        assert!(!matches!(store.copy(&path, &at("b.md"), &meta(b"secret", 0)).await, Ok(Some(_))));
        assert!(store.set_aside(&path).await.is_err());
        let removal = store
            .remove_files(vec![Removable { path, content: KnownContent::of(b"secret") }])
            .await
            .pop()
            .unwrap();
        assert!(matches!(removal, Err(DestinationError::LeadsOut { .. })));
    }
    let listed: Vec<String> = store.list().await.unwrap().files.into_iter().map(|file| file.path).collect();
    assert!(listed.iter().all(|path| !path.contains("secret")), "{listed:?}");
    assert_untouched(&destination);
}

#[tokio::test]
async fn a_link_at_the_place_of_a_file_is_set_aside_itself() {
    let destination = trapped();
    symlink("../outside/secret.md", destination.path("note.md")).unwrap();
    let store = destination.store();
    let content = KnownContent::of(b"secret");
    let wanted = Wanted { path: at("note.md"), hash: content.hash, size: content.size };
    assert_eq!(store.holds(vec![wanted]).await.unwrap(), [false], "a link is not the file");
    let file = Removable { path: at("note.md"), content: KnownContent::of(b"secret") };
    assert_eq!(store.remove_files(vec![file]).await.pop().unwrap().unwrap(), Removal::Kept);
    let conflict = place(&store, "note.md", b"text", 0, Some(b"secret")).await.conflict.unwrap();
    assert!(fs::symlink_metadata(destination.path("note.md")).unwrap().is_file());
    let aside = fs::read_link(destination.path(conflict.as_str())).unwrap();
    assert_eq!(aside.to_str(), Some("../outside/secret.md"));
    assert_untouched(&destination);
}

#[tokio::test]
async fn a_link_to_a_folder_of_the_destination_is_followed() {
    let destination = TestFolder::new();
    fs::create_dir_all(destination.path("real")).unwrap();
    symlink("real", destination.path("alias")).unwrap();
    place(&destination.store(), "alias/note.md", b"text", 0, None).await;
    assert_eq!(destination.read("real/note.md"), "text");
}

#[tokio::test]
async fn a_link_to_nowhere_is_in_the_way_of_a_folder() {
    let destination = TestFolder::new();
    fs::create_dir_all(destination.root()).unwrap();
    symlink("nowhere", destination.path("a")).unwrap();
    let store = destination.store();
    let staged = stage(&store, "a/b.md", b"text", 0).await;
    let failure = publish_one(&store, staged, None).await.unwrap_err();
    assert!(matches!(&failure.error, DestinationError::InTheWay { occupant, .. } if *occupant == at("a")));
    store.set_aside(&at("a")).await.unwrap();
    assert!(store.publish(vec![*failure.publication]).await[0].is_ok());
    assert_eq!(destination.read("a/b.md"), "text");
}

#[tokio::test]
async fn links_in_a_circle_are_an_error() {
    let destination = TestFolder::new();
    fs::create_dir_all(destination.root()).unwrap();
    symlink("b", destination.path("a")).unwrap();
    symlink("a", destination.path("b")).unwrap();
    let store = destination.store();
    let staged = stage(&store, "a/c.md", b"text", 0).await;
    assert!(matches!(
        publish_one(&store, staged, None).await.unwrap_err().error,
        DestinationError::LeadsOut { .. }
    ));
}

#[tokio::test]
async fn a_link_in_the_place_of_obsyncs_own_folder_is_not_followed() {
    let destination = trapped();
    symlink("../outside", destination.path(".obsync")).unwrap();
    let store = destination.store();
    place(&store, "a.md", b"text", 0, None).await;
    store.discard_staged().await.unwrap();
    assert_eq!(destination.read("a.md"), "text");
    assert_untouched(&destination);
}

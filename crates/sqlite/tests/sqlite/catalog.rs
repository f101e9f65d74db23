//! Paths of state databases, and how databases are found and removed.

use std::fs;
use std::path::Path;

use obsync_core::{StateError, StateStore};
use obsync_protocol::VaultId;
use obsync_sqlite::{SqliteState, StateCatalog, StateIdentity, canonical_destination};

use crate::database::commit_of;

fn identity(vault: &str, destination: &str) -> StateIdentity {
    StateIdentity {
        vault_id: VaultId::try_new(vault).unwrap(),
        vault_name: "Vault".to_owned(),
        destination: destination.to_owned(),
    }
}

async fn pull(catalog: &StateCatalog, vault: &str, destination: &str) -> SqliteState {
    let identity = identity(vault, destination);
    let path = catalog.path_of(&identity.destination, &identity.vault_id);
    let state = SqliteState::open(&path, &identity).unwrap();
    state.commit(commit_of(1)).await.unwrap();
    state
}

#[tokio::test]
async fn the_databases_of_a_destination_are_found_among_all() {
    let home = tempfile::tempdir().unwrap();
    let catalog = StateCatalog::new(home.path().join("state"));
    assert!(catalog.databases().unwrap().is_empty(), "no folder, no databases");
    for (vault, destination) in [("v-1", "/a"), ("v_2", "/a"), ("v-1", "/b")] {
        drop(pull(&catalog, vault, destination).await);
    }
    fs::write(home.path().join("state/notes.txt"), "not a database").unwrap();
    assert_eq!(catalog.databases().unwrap().len(), 3);
    let found = catalog.of_destination("/a").unwrap();
    let vaults: Vec<String> = found
        .iter()
        .map(|path| SqliteState::read(path).unwrap().identity().unwrap().vault_id.to_string())
        .collect();
    assert_eq!(vaults, ["v-1", "v_2"]);
    assert!(catalog.of_destination("/c").unwrap().is_empty());
}

#[tokio::test]
async fn a_database_is_removed_with_all_that_belongs_to_it() {
    let home = tempfile::tempdir().unwrap();
    let catalog = StateCatalog::new(home.path());
    drop(pull(&catalog, "v", "/a").await);
    let path = catalog.path_of("/a", &VaultId::try_new("v").unwrap());
    let name = path.file_name().unwrap().to_str().unwrap();
    for ending in ["-journal", "-run", "-run.new", "-confirmed.new"] {
        fs::write(home.path().join(format!("{name}{ending}")), "x").unwrap();
    }
    catalog.remove(&path, "/a").unwrap();
    assert_eq!(fs::read_dir(home.path()).unwrap().count(), 0);
    catalog.remove(&path, "/a").unwrap();
    assert_eq!(
        fs::read_dir(home.path()).unwrap().count(),
        0,
        "removing what is not there leaves nothing either"
    );
}

#[tokio::test]
async fn a_damaged_database_can_be_found_and_removed() {
    let home = tempfile::tempdir().unwrap();
    let catalog = StateCatalog::new(home.path());
    let path = catalog.path_of("/a", &VaultId::try_new("v").unwrap());
    fs::write(&path, "no database at all, but some text that is long enough to be looked at".repeat(20))
        .unwrap();
    assert!(matches!(SqliteState::read(&path), Err(StateError::Corrupt { .. })));
    assert_eq!(catalog.of_destination("/a").unwrap(), std::slice::from_ref(&path));
    catalog.remove(&path, "/a").unwrap();
    assert!(catalog.databases().unwrap().is_empty());
}

#[tokio::test]
async fn a_database_in_use_is_not_removed() {
    let home = tempfile::tempdir().unwrap();
    let catalog = StateCatalog::new(home.path());
    let state = pull(&catalog, "v", "/a").await;
    assert!(matches!(catalog.remove(state.path(), "/a"), Err(StateError::Locked { .. })));
    assert_eq!(state.load().await.unwrap().version, 1);
}

#[test]
fn a_destination_has_one_text_whatever_way_leads_to_it() {
    let home = tempfile::tempdir().unwrap();
    let root = home.path().canonicalize().unwrap();
    fs::create_dir_all(root.join("real/inner")).unwrap();
    std::os::unix::fs::symlink(root.join("real"), root.join("link")).unwrap();
    let text = |path: &str| canonical_destination(&root.join(path)).unwrap();
    let inner = root.join("real/inner").to_str().unwrap().to_owned();
    for path in ["real/inner", "link/inner", "link/inner/", "link/./inner", "real/inner/../inner"] {
        assert_eq!(text(path), inner, "{path}");
    }
}

#[test]
fn a_destination_has_the_same_text_before_and_after_it_is_made() {
    let home = tempfile::tempdir().unwrap();
    fs::create_dir_all(home.path().join("real")).unwrap();
    std::os::unix::fs::symlink("real", home.path().join("link")).unwrap();
    let destination = home.path().join("link/new/vault");
    let before = canonical_destination(&destination).unwrap();
    fs::create_dir_all(&destination).unwrap();
    assert_eq!(canonical_destination(&destination).unwrap(), before);
    assert!(canonical_destination(&home.path().join("absent/../vault")).is_err());
    assert!(Path::new(&canonical_destination(Path::new("relative")).unwrap()).is_absolute());
}

#[test]
fn destinations_that_are_no_text_do_not_share_one() {
    use std::os::unix::ffi::OsStrExt;
    let home = tempfile::tempdir().unwrap();
    let texts = [b"a\xff", b"a\xfe"]
        .map(|name| canonical_destination(&home.path().join(std::ffi::OsStr::from_bytes(name))).unwrap());
    assert_ne!(texts[0], texts[1]);
}

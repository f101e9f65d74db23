//! The keys of vaults whose password the service provides: stored, and reasons for deriving them anew.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use obsync_protocol::{EncryptionVersion, MasterKey, VaultKeys};
use obsync_testkit::{Expected, fixture_dir};
use serde_json::{Value, json};

use crate::world::{World, put};

const NOON: i64 = 1_767_268_800_000;

/// The kinds of encryption, with their names in `vault.json`.
const MANAGED: &str = "managed_password";
const END_TO_END: &str = "end_to_end_password";

/// An empty vault `Notes`, always with the same id.
fn vault(place: &Path, encryption: &str, password: &str, salt: &str) -> PathBuf {
    let master = MasterKey::derive(&password.into(), salt);
    let mut vault = json!({
        "id": "11".repeat(16),
        "name": "Notes",
        "encryption_version": 3,
        "salt": salt,
        "keyhash": VaultKeys::new(&master, EncryptionVersion::V3, salt).key_hash().as_str(),
    });
    vault[encryption] = json!(password);
    let folder = place.join(format!("{encryption} {password} {salt}"));
    put(&folder.join("vault.json"), &vault.to_string());
    folder
}

/// A server with such a vault, which has a note.
fn world_with(place: &Path, encryption: &str, password: &str, salt: &str) -> World {
    let world = World::with(|builder| builder.vault_dir(vault(place, encryption, password, salt)));
    world.vault("Notes").write("Note.md", salt, NOON).unwrap();
    world
}

fn now_with(world: &mut World, place: &Path, encryption: &str, password: &str, salt: &str) {
    world.serve_instead(|builder| builder.vault_dir(vault(place, encryption, password, salt)));
    world.vault("Notes").write("Note.md", salt, NOON).unwrap();
}

/// Number of keys sent to the server in a complete pull to `destination`.
fn keys_shown(world: &World, destination: &str) -> u64 {
    let shown = || world.server.stats().rest_by_path.get("/vault/access").copied().unwrap_or_default();
    let before = shown();
    let pull = world.must(&["pull", "Notes", destination, "--quiet"]);
    assert_eq!(pull.errors(), "");
    assert_eq!(world.differences("Notes", destination), [""; 0]);
    shown() - before
}

fn kept(world: &World) -> Vec<Value> {
    let text = fs::read_to_string(world.home().join("config/keys.json")).unwrap();
    serde_json::from_str::<Value>(&text).unwrap()["keys"].as_array().unwrap().clone()
}

#[test]
fn the_key_of_a_standard_vault_is_derived_once() {
    let fixture = fixture_dir("official-managed");
    let mut world = World::with(|builder| builder.vault_dir(&fixture));
    world.must(&["pull", "official-managed", "first"]);

    // The same vault, but this password's key does not open it: only the stored key does.
    let copy = tempfile::tempdir().unwrap();
    copy_folder(&fixture, copy.path());
    let file = copy.path().join("vault.json");
    let mut vault: Value = serde_json::from_str(&fs::read_to_string(&file).unwrap()).unwrap();
    vault["managed_password"] = json!("of no use");
    fs::write(&file, vault.to_string()).unwrap();
    world.serve_instead(|builder| builder.vault_dir(copy.path()));

    world.must(&["pull", "official-managed", "second"]);
    let expected = Expected::load(&fixture).unwrap();
    assert_eq!(expected.differences(&world.path("second")).unwrap(), [""; 0]);
    assert_eq!(world.server.stats().rest_by_path["/vault/access"], 1);
}

#[test]
fn the_key_of_a_standard_vault_is_kept_privately_and_without_the_password() {
    let place = tempfile::tempdir().unwrap();
    let world = world_with(place.path(), MANAGED, "handed-0ut", "salt");
    assert_eq!(keys_shown(&world, "notes"), 1);
    let file = world.home().join("config/keys.json");
    assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    assert!(!fs::read_to_string(&file).unwrap().contains("handed-0ut"));
    let fields: Vec<String> = kept(&world)[0].as_object().unwrap().keys().cloned().collect();
    assert_eq!(
        fields,
        ["api_url", "encryption_version", "handed_out", "master_key", "salt", "vault"],
        "nothing else that could be tried passwords on"
    );
    world.must(&["logout"]);
    assert_eq!(kept(&world), [] as [Value; 0]);
}

#[test]
fn a_key_is_derived_anew_when_the_password_or_the_salt_is_another() {
    let place = tempfile::tempdir().unwrap();
    let mut world = world_with(place.path(), MANAGED, "old", "salt");
    assert_eq!(keys_shown(&world, "first"), 1);

    now_with(&mut world, place.path(), MANAGED, "new", "salt");
    assert_eq!(keys_shown(&world, "second"), 2, "the kept key is refused, then one is derived");
    assert_eq!(kept(&world).len(), 1);
    assert_eq!(keys_shown(&world, "third"), 1, "that one is kept in its place");

    now_with(&mut world, place.path(), MANAGED, "new", "other salt");
    assert_eq!(keys_shown(&world, "fourth"), 1, "a key for another salt is not tried");
}

#[test]
fn a_key_that_the_service_chose_never_opens_an_end_to_end_vault() {
    let place = tempfile::tempdir().unwrap();
    let salt = "0123456789abcdef0123456789abcdef";
    let mut world = world_with(place.path(), MANAGED, "chosen", salt);
    world.must(&["pull", "Notes", "first"]);
    now_with(&mut world, place.path(), END_TO_END, "chosen", salt);
    let refused = world.run(&["pull", "Notes", "second"]).expect(3);
    assert!(refused.stderr.contains("(it is end-to-end encrypted)"), "{refused:?}");
}

#[test]
fn a_standard_vault_is_pulled_where_no_key_can_be_read_or_kept() {
    let place = tempfile::tempdir().unwrap();
    let world = world_with(place.path(), MANAGED, "handed-0ut", "salt");
    assert_eq!(keys_shown(&world, "notes"), 1);
    put(&world.home().join("config/keys.json"), "{ \"keys");
    assert_eq!(keys_shown(&world, "notes"), 1);
}

fn copy_folder(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap().map(Result::unwrap) {
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy_folder(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).unwrap();
        }
    }
}

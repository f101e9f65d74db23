//! Vaults that the official client wrote are pulled exactly as the official client would.

use obsync_testkit::{Expected, fixture_dir};

use crate::world::{World, ran};

#[track_caller]
fn pulls_exactly(name: &str, password: &str) {
    let world = World::with(|builder| builder.vault_dir(fixture_dir(name)));
    let mut pull = world.command(&["pull", name, "vault"]);
    ran(pull.env("OBSYNC_VAULT_PASSWORD", password)).expect(0);
    let expected = Expected::load(&fixture_dir(name)).unwrap();
    assert!(!expected.files.is_empty() && !expected.folders.is_empty());
    assert_eq!(expected.differences(&world.path("vault")).unwrap(), [""; 0]);
    world.must(&["verify", "vault"]);
}

/// The password of a fixture, from its `vault.json`.
fn password(name: &str) -> String {
    let text = std::fs::read_to_string(fixture_dir(name).join("vault.json")).unwrap();
    let vault: serde_json::Value = serde_json::from_str(&text).unwrap();
    vault["end_to_end_password"].as_str().unwrap_or_default().to_owned()
}

#[test]
fn official_v0_is_pulled_exactly() {
    pulls_exactly("official-v0", &password("official-v0"));
}

#[test]
fn official_v2_is_pulled_exactly() {
    pulls_exactly("official-v2", &password("official-v2"));
}

#[test]
fn official_managed_is_pulled_exactly_without_a_password() {
    pulls_exactly("official-managed", "");
}

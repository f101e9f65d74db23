//! `obsync credentials export`.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use obsync_protocol::MasterKey;
use secrecy::ExposeSecret;
use serde_json::Value;

use crate::world::{PASSWORD, VAULT_PASSWORD, World, ran};

/// What an export looks like. A test of the function reads this very text, so what fits it is understood there.
const EXPORTED: &str = include_str!("exported-secret.json");

/// The text of an export that is right: the token that is kept, and the key of `Private`.
fn expected(world: &World) -> String {
    let kept = fs::read_to_string(world.home().join("config/credentials.json")).unwrap();
    let kept: Value = serde_json::from_str(&kept).unwrap();
    let (_, account) = kept["accounts"].as_object().unwrap().iter().next().unwrap();
    let vault = world.vault("Private");
    let key = MasterKey::derive(&VAULT_PASSWORD.into(), vault.salt()).expose_hex();
    let form: Value = serde_json::from_str(EXPORTED).unwrap();
    let placeholder = form["vaults"]["VAULT_ID"]["key"].as_str().unwrap();
    EXPORTED
        .replace("TOKEN", account["token"].as_str().unwrap())
        .replace("SALT", vault.salt())
        .replace("VAULT_ID", vault.id().as_str())
        .replace(placeholder, key.expose_secret())
}

#[test]
fn token_and_keys_are_exported_and_no_password() {
    let world = World::new();
    let mut export = world.command(&["credentials", "export", "Private"]);
    let exported = ran(export.env("OBSYNC_VAULT_PASSWORD", VAULT_PASSWORD)).expect(0);
    assert_eq!(exported.stdout, expected(&world));
    assert!(!exported.stdout.contains(PASSWORD) && !exported.stdout.contains(VAULT_PASSWORD));
    assert!(exported.stderr.contains("this is secret"), "{}", exported.stderr);
    // The key is kept: it is not asked for again.
    assert_eq!(world.must(&["credentials", "export"]).stdout, expected(&world));
}

#[test]
fn passwords_can_be_piped_in() {
    let world = World::new();
    let mut export = world.command(&["credentials", "export", "Private", "--password-stdin"]);
    let exported = ran(export.write_stdin(format!("{VAULT_PASSWORD}\n"))).expect(0);
    assert_eq!(exported.stdout, expected(&world));
    let mut export = world.command(&["credentials", "export", "Private", "--password-stdin"]);
    ran(export.write_stdin("wrong\n")).expect(3);
    world.run(&["credentials", "export", "--password-stdin"]).expect(2);
}

#[test]
fn a_file_is_only_for_its_owner_and_not_replaced_unasked() {
    let world = World::new();
    let args = ["credentials", "export", "Private", "--output", "secret.json"];
    let export = |more: &[&str]| {
        let mut export = world.command(&[&args, more].concat());
        ran(export.env("OBSYNC_VAULT_PASSWORD", VAULT_PASSWORD))
    };
    assert_eq!(export(&[]).expect(0).stdout, "");
    let file = world.path("secret.json");
    assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(fs::read_to_string(&file).unwrap(), expected(&world));
    fs::write(&file, "mine").unwrap();
    let refused = export(&[]).expect(2);
    assert!(refused.stderr.contains("--force"), "{}", refused.stderr);
    assert_eq!(fs::read_to_string(&file).unwrap(), "mine");
    export(&["--force"]).expect(0);
    assert_eq!(fs::read_to_string(&file).unwrap(), expected(&world));
}

#[test]
fn without_a_name_what_cannot_be_opened_is_left_out_and_told() {
    let world = World::new();
    let exported = world.must(&["credentials", "export"]);
    let secret = exported.json();
    assert_eq!(secret["vaults"].as_object().unwrap().len(), 0);
    assert!(secret["auth"]["token"].as_str().is_some_and(|token| !token.is_empty()));
    assert!(exported.stderr.contains("\"Private\" is left out"), "{}", exported.stderr);
    assert!(exported.stderr.contains("\"Notes\" needs no key"), "{}", exported.stderr);
    // One that was named is wanted.
    world.run(&["credentials", "export", "Private"]).expect(3);
    world.run(&["credentials", "export", "Nothing"]).expect(4);
    let exported = world.must(&["credentials", "export", "Notes"]).json();
    assert_eq!(exported["vaults"], serde_json::json!({}));
}

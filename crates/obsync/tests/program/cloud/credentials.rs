//! `obsync credentials export` and `revoke`.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use obsync_protocol::MasterKey;
use secrecy::ExposeSecret;
use serde_json::Value;

use crate::world::{EMAIL, PASSWORD, VAULT_PASSWORD, World, ran};

/// An example of an export. A test of the function parses this very text, so a matching export is valid
/// there.
const EXPORTED: &str = include_str!("exported-secret.json");

fn token(exported: &str) -> String {
    let secret: Value = serde_json::from_str(exported).unwrap();
    secret["auth"]["token"].as_str().unwrap().to_owned()
}

/// Checks the text of an export: returns its token, and the key of `Private`.
fn expected(world: &World, exported: &str) -> String {
    let vault = world.vault("Private");
    let key = MasterKey::derive(&VAULT_PASSWORD.into(), vault.salt()).expose_hex();
    let form: Value = serde_json::from_str(EXPORTED).unwrap();
    let placeholder = form["vaults"]["VAULT_ID"]["key"].as_str().unwrap();
    EXPORTED
        .replace("TOKEN", &token(exported))
        .replace("SALT", vault.salt())
        .replace("VAULT_ID", vault.id().as_str())
        .replace(placeholder, key.expose_secret())
}

fn is_valid(world: &World, token: &str) -> bool {
    ran(world.anonymous(&["vaults"]).env("OBSIDIAN_AUTH_TOKEN", token)).code == 0
}

#[test]
fn token_and_keys_are_exported_and_no_password() {
    let world = World::new();
    let mut export = world.command(&["credentials", "export", "Private"]);
    let exported = ran(export.env("OBSYNC_VAULT_PASSWORD", VAULT_PASSWORD)).expect(0);
    assert_eq!(exported.stdout, expected(&world, &exported.stdout));
    assert!(!exported.stdout.contains(PASSWORD) && !exported.stdout.contains(VAULT_PASSWORD));
    assert!(exported.stderr.contains("this is secret"), "{}", exported.stderr);
    // The key is stored: it is not asked for again.
    let again = world.must(&["credentials", "export"]).stdout;
    assert_eq!(again, expected(&world, &again));
    assert_ne!(token(&again), token(&exported.stdout));
}

#[test]
fn a_sign_out_at_home_does_not_end_the_token_of_an_export_and_revoking_it_does() {
    let world = World::new();
    world.must(&["login"]);
    let exported = world.must(&["credentials", "export", "Notes", "--output", "secret.json"]);
    assert!(exported.stderr.contains("`obsync credentials revoke`"), "{}", exported.stderr);
    let other = world.must(&["credentials", "export", "Notes"]).stdout;
    let first = token(&fs::read_to_string(world.path("secret.json")).unwrap());
    assert_eq!(world.server.tokens(EMAIL), 3);
    ran(&mut world.anonymous(&["logout"])).expect(0);
    assert!(is_valid(&world, &first) && is_valid(&world, &token(&other)));
    let mut revoke = world.anonymous(&["credentials", "revoke", "secret.json"]);
    insta::assert_snapshot!(ran(&mut revoke).told(&world), @r"
    exit status 0
    --- stdout
    The token of me@example.com in this secret is revoked. Its keys can still decrypt copies of the vaults' contents.
    ");
    assert!(!is_valid(&world, &first) && is_valid(&world, &token(&other)));
    let again = ran(&mut revoke).expect(0);
    assert_eq!(again.stdout, "The token of this secret was no longer valid.\n");
    let mut piped = world.anonymous(&["credentials", "revoke"]);
    ran(piped.write_stdin(other.as_str())).expect(0);
    assert_eq!(world.server.tokens(EMAIL), 0);
}

#[test]
fn a_sign_in_at_home_is_enough_but_for_the_password() {
    let world = World::new();
    world.must(&["login"]);
    let refused = ran(&mut world.anonymous(&["credentials", "export", "Notes"])).expect(3);
    assert!(refused.stderr.contains("the password of the account me@example.com"), "{}", refused.stderr);
    fs::write(world.path("password"), format!("{PASSWORD}\n")).unwrap();
    let command = ["--account-password-command", "cat password"];
    ran(&mut world.anonymous(&[&["credentials", "export", "Notes"], &command[..]].concat())).expect(0);
    assert_eq!(world.server.tokens(EMAIL), 2);
}

#[test]
fn an_export_that_fails_leaves_no_token_behind() {
    let world = World::new();
    world.run(&["credentials", "export", "Private"]).expect(3);
    world.run(&["credentials", "export", "Nothing"]).expect(4);
    world.run(&["credentials", "export", "Notes", "--output", "no/such/folder"]).expect(1);
    assert_eq!(world.server.tokens(EMAIL), 0);
    assert!(world.server.stats().rest_by_path["/user/signin"] > 0);
}

#[test]
fn a_token_of_the_environment_is_exported_as_it_is() {
    let world = World::new();
    let given = token(&world.must(&["credentials", "export", "Notes"]).stdout);
    let mut export = world.anonymous(&["credentials", "export", "Notes"]);
    let exported = ran(export.env("OBSIDIAN_AUTH_TOKEN", &given)).expect(0);
    assert_eq!(token(&exported.stdout), given);
    assert!(is_valid(&world, &given));
    let mut export = world.anonymous(&["credentials", "export", "Notes"]);
    ran(export.env("OBSIDIAN_AUTH_TOKEN", "n0-such-token")).expect(3);
}

#[test]
fn what_is_no_secret_is_refused_without_repeating_it() {
    let world = World::new();
    let text = ["geheim", "[\"geheim\"]", r#"{"auth":{"email":"geheim"}}"#, r#"{"auth":{"token":" "}}"#, ""];
    for text in text {
        let mut revoke = world.anonymous(&["credentials", "revoke"]);
        let refused = ran(revoke.write_stdin(text)).expect(2);
        assert!(refused.stderr.contains("no secret of `obsync credentials export`"), "{}", refused.stderr);
        assert!(!refused.stderr.contains("geheim"), "{}", refused.stderr);
    }
    world.run(&["credentials", "revoke", "no/such/file"]).expect(1);
    assert_eq!(world.server.stats().rest_requests, 0);
}

#[test]
fn the_token_of_this_computer_is_forgotten_when_it_is_revoked() {
    let world = World::new();
    world.must(&["login"]);
    let kept = fs::read_to_string(world.home().join("config/credentials.json")).unwrap();
    let kept: Value = serde_json::from_str(&kept).unwrap();
    let token = kept["accounts"].as_object().unwrap().values().next().unwrap()["token"].clone();
    let secret = serde_json::json!({ "auth": { "token": token }, "vaults": {} }).to_string();
    let mut revoke = world.anonymous(&["credentials", "revoke"]);
    let revoked = ran(revoke.write_stdin(secret)).expect(0);
    assert!(revoked.stderr.contains("signed out here, too"), "{}", revoked.stderr);
    let mut logout = world.anonymous(&["logout"]);
    assert_eq!(ran(&mut logout).expect(0).stdout, "You were not signed in.\n");
}

#[test]
fn passwords_can_be_piped_in_or_come_from_a_program() {
    let world = World::new();
    let mut export = world.command(&["credentials", "export", "Private", "--password-stdin"]);
    let exported = ran(export.write_stdin(format!("{VAULT_PASSWORD}\n"))).expect(0);
    assert_eq!(exported.stdout, expected(&world, &exported.stdout));
    let mut export = world.command(&["credentials", "export", "Private", "--password-stdin"]);
    ran(export.write_stdin("wrong\n")).expect(3);
    world.run(&["credentials", "export", "--password-stdin"]).expect(2);
    fs::remove_dir_all(world.home()).unwrap();
    fs::write(world.path("vault-password"), format!("{VAULT_PASSWORD}\n")).unwrap();
    let args = ["credentials", "export", "Private", "--password-command", "cat vault-password"];
    let exported = world.must(&args).stdout;
    assert_eq!(exported, expected(&world, &exported));
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
    let text = fs::read_to_string(&file).unwrap();
    assert_eq!(text, expected(&world, &text));
    fs::write(&file, "mine").unwrap();
    let refused = export(&[]).expect(2);
    assert!(refused.stderr.contains("--force"), "{}", refused.stderr);
    assert_eq!(fs::read_to_string(&file).unwrap(), "mine");
    export(&["--force"]).expect(0);
    let text = fs::read_to_string(&file).unwrap();
    assert_eq!(text, expected(&world, &text));
}

#[test]
fn without_a_name_what_cannot_be_opened_is_left_out_and_told() {
    let world = World::new();
    let exported = world.must(&["credentials", "export"]);
    let secret: serde_json::Value = serde_json::from_str(&exported.stdout).unwrap();
    assert_eq!(secret["vaults"].as_object().unwrap().len(), 0);
    assert!(secret["auth"]["token"].as_str().is_some_and(|token| !token.is_empty()));
    assert!(exported.stderr.contains("\"Private\" is left out"), "{}", exported.stderr);
    assert!(exported.stderr.contains("\"Notes\" needs no key"), "{}", exported.stderr);
    // A named vault is exported.
    world.run(&["credentials", "export", "Private"]).expect(3);
    world.run(&["credentials", "export", "Nothing"]).expect(4);
    let exported: serde_json::Value =
        serde_json::from_str(&world.must(&["credentials", "export", "Notes"]).stdout).unwrap();
    assert_eq!(exported["vaults"], serde_json::json!({}));
}

//! Secrets from containers, files and programs.

use std::fs;

use obsync_testkit::VaultSpec;

use crate::sign_in::{TOTP_SECRET, saved_token, with_second_factor};
use crate::world::{EMAIL, PASSWORD, VAULT_PASSWORD, World, ran};

#[test]
fn secrets_of_variables_work_with_a_line_break_at_the_end_and_that_is_said() {
    let world = World::with(|builder| builder.vault(VaultSpec::end_to_end("Private", VAULT_PASSWORD)));
    world.vault("Private").write("a.md", "text", 1_700_000_000_000).unwrap();
    let mut pull = world.anonymous(&["pull", "Private", "there"]);
    pull.env("OBSIDIAN_EMAIL", format!("{EMAIL}\n"))
        .env("OBSIDIAN_PASSWORD", format!("{PASSWORD}\n"))
        .env("OBSYNC_VAULT_PASSWORD", format!("{VAULT_PASSWORD}\r\n"));
    let pulled = ran(&mut pull).expect(0);
    for name in ["OBSIDIAN_PASSWORD", "OBSYNC_VAULT_PASSWORD"] {
        assert!(pulled.stderr.contains(&format!("{name} ends with a line break")), "{}", pulled.stderr);
    }
    assert!(world.differences("Private", "there").is_empty());
}

#[test]
fn line_breaks_around_secrets_of_the_environment_are_not_part_of_them() {
    let world = with_second_factor();
    let mut login = world.anonymous(&["login"]);
    login
        .env("OBSIDIAN_EMAIL", format!("{EMAIL}\n"))
        .env("OBSIDIAN_PASSWORD", format!("{PASSWORD}\n"))
        .env("OBSIDIAN_TOTP_SECRET", format!("{TOTP_SECRET}\r\n"));
    let login = ran(&mut login).expect(0);
    assert!(login.stderr.contains("OBSIDIAN_PASSWORD ends with a line break"), "{}", login.stderr);
    let token = format!("{}\n", saved_token(&world).unwrap());
    ran(world.anonymous(&["vaults"]).env("OBSIDIAN_AUTH_TOKEN", token)).expect(0);
}

#[test]
fn a_wrong_password_with_a_line_break_says_that_both_were_tried() {
    let world = World::new();
    let refused = ran(world.command(&["login"]).env("OBSIDIAN_PASSWORD", "wr0ng\n")).expect(3);
    assert!(refused.stderr.contains("tried with and without"), "{}", refused.stderr);
    let mut pull = world.command(&["pull", "Private", "there"]);
    let refused = ran(pull.env("OBSYNC_VAULT_PASSWORD", "wr0ng\n")).expect(3);
    assert!(refused.stderr.contains("tried with and without"), "{}", refused.stderr);
}

#[test]
fn a_password_that_ends_with_a_line_break_is_taken_as_it_is() {
    let password = "odd\n";
    let world = World::with(|builder| builder.vault(VaultSpec::end_to_end("Odd", password)));
    let pulled =
        ran(world.command(&["pull", "Odd", "there"]).env("OBSYNC_VAULT_PASSWORD", password)).expect(0);
    assert!(!pulled.stderr.contains("line break"), "{}", pulled.stderr);
}

#[test]
fn secrets_are_read_from_the_files_that_variables_name() {
    let world = World::new();
    let file = |name: &str, text: &str| {
        let path = world.path(name);
        fs::write(&path, format!("{text}\n")).unwrap();
        path
    };
    let mut pull = world.anonymous(&["pull", "Private", "there"]);
    pull.env("OBSIDIAN_EMAIL", EMAIL)
        .env("OBSIDIAN_PASSWORD_FILE", file("password", PASSWORD))
        .env("OBSYNC_VAULT_PASSWORD_FILE", file("vault", VAULT_PASSWORD));
    assert_eq!(ran(&mut pull).expect(0).errors(), "");
    let mut both = world.command(&["vaults"]);
    let refused = ran(both.env("OBSIDIAN_PASSWORD_FILE", world.path("password"))).expect(2);
    assert!(refused.stderr.contains("OBSIDIAN_PASSWORD and OBSIDIAN_PASSWORD_FILE"), "{}", refused.stderr);
    let mut none = world.anonymous(&["vaults"]);
    let refused = ran(none.env("OBSIDIAN_AUTH_TOKEN_FILE", world.path("nowhere"))).expect(2);
    assert!(refused.stderr.contains("OBSIDIAN_AUTH_TOKEN_FILE"), "{}", refused.stderr);
}

#[test]
fn each_secret_of_the_environment_can_be_in_a_file() {
    let world = with_second_factor();
    let file = |name: &str, text: &str| {
        fs::write(world.path(name), format!("{text}\n")).unwrap();
        world.path(name)
    };
    let mut login = world.anonymous(&["login"]);
    login
        .env("OBSIDIAN_EMAIL_FILE", file("email", EMAIL))
        .env("OBSIDIAN_PASSWORD_FILE", file("password", PASSWORD))
        .env("OBSIDIAN_TOTP_SECRET_FILE", file("totp", TOTP_SECRET));
    ran(&mut login).expect(0);
    let token = file("token", &saved_token(&world).unwrap());
    ran(world.anonymous(&["vaults"]).env("OBSIDIAN_AUTH_TOKEN_FILE", &token)).expect(0);
    let mut both = world.anonymous(&["vaults"]);
    both.env("OBSIDIAN_AUTH_TOKEN_FILE", &token).env("OBSIDIAN_AUTH_TOKEN", "x");
    insta::assert_snapshot!(ran(&mut both).told(&world), @r"
    exit status 2
    --- stderr
    obsync: both OBSIDIAN_AUTH_TOKEN and OBSIDIAN_AUTH_TOKEN_FILE are set; unset one of them
    ");
    let mut none = world.anonymous(&["vaults"]);
    insta::assert_snapshot!(ran(none.env("OBSIDIAN_AUTH_TOKEN_FILE", "/nowhere/token")).told(&world), @r"
    exit status 2
    --- stderr
    obsync: cannot read the file /nowhere/token that OBSIDIAN_AUTH_TOKEN_FILE names: No such file or directory (os error 2)
    ");
}

#[test]
fn passwords_are_taken_from_programs() {
    let world = World::new();
    let echo = |password: &str| format!("sh -c 'echo {password}'");
    let login = ["login", "--email", EMAIL, "--password-command", &echo(PASSWORD)];
    ran(&mut world.anonymous(&login)).expect(0);
    let pull = ["pull", "Private", "there", "--password-command", &echo(VAULT_PASSWORD)];
    ran(&mut world.anonymous(&pull)).expect(0);
    // The stored key opens it from now on: nobody is asked again.
    ran(&mut world.anonymous(&["pull", "Private", "there", "--password-command", "false"])).expect(0);
    let refused =
        ran(&mut world.anonymous(&["login", "--email", EMAIL, "--password-command", "false"])).expect(3);
    assert!(
        refused.stderr.contains("\"false\"") && refused.stderr.contains("exit status: 1"),
        "{}",
        refused.stderr
    );
}

#[test]
fn a_program_that_gives_no_password_is_named_with_the_last_line_that_it_said() {
    let world = World::new();
    let command = "sh -c 'echo s3cret-of-nobody; echo one >&2; echo no such entry >&2; exit 4'";
    let mut login = world.anonymous(&["login", "--email", EMAIL, "--password-command", command]);
    insta::assert_snapshot!(ran(&mut login).told(&world), @r#"
    exit status 3
    --- stderr
    obsync: cannot get the password from the program "sh": it ended with exit status: 4 (no such entry)
    "#);
}

//! What the program says of itself.

use crate::world::{World, ran};

fn help_of(command: &[&str]) -> String {
    let world = World::without_account(|builder| builder);
    let args: Vec<&str> = command.iter().copied().chain(["--help"]).collect();
    let help = ran(&mut world.anonymous(&args)).expect(0);
    assert_eq!(help.stderr, "");
    help.stdout
}

#[test]
fn the_help_of_the_program_teaches_it() {
    insta::assert_snapshot!("obsync", help_of(&[]));
}

#[test]
fn the_help_of_every_command_teaches_it() {
    for command in [
        "login",
        "logout",
        "vaults",
        "create",
        "pull",
        "status",
        "verify",
        "reset",
        "unlink",
        "credentials",
        "credentials export",
        "credentials revoke",
        "aws",
        "aws init",
        "totp",
        "completions",
    ] {
        let words: Vec<&str> = command.split(' ').collect();
        insta::assert_snapshot!(format!("obsync {command}"), help_of(&words));
    }
}

#[test]
fn help_does_not_show_what_is_in_the_environment() {
    let world = World::new();
    let mut command = world.command(&["login", "--help"]);
    let help = ran(command
        .env("OBSIDIAN_EMAIL", "hidden@example.com")
        .env("OBSYNC_API_URL", "http://hidden.example"));
    assert!(!help.stdout.contains("hidden"));
}

#[test]
fn every_exit_status_is_documented() {
    let help = help_of(&[]);
    for code in 0..=8 {
        assert!(help.contains(&format!("\n  {code}  ")), "{code} is missing");
    }
}

#[test]
fn the_version_is_told() {
    let world = World::without_account(|builder| builder);
    let version = ran(&mut world.anonymous(&["--version"])).expect(0);
    assert_eq!(version.stdout, format!("obsync {}\n", env!("CARGO_PKG_VERSION")));
}

#[test]
fn every_shell_gets_a_completion_script() {
    let world = World::without_account(|builder| builder);
    for shell in ["bash", "elvish", "fish", "powershell", "zsh"] {
        let script = ran(&mut world.anonymous(&["completions", shell])).expect(0);
        assert!(script.stdout.contains("obsync") && script.stdout.contains("verify"), "{shell}");
    }
    ran(&mut world.anonymous(&["completions", "tcsh"])).expect(2);
}

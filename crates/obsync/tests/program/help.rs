//! The program's help and version.

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
        "sync",
        "push",
        "status",
        "log",
        "check-service",
        "verify",
        "reset",
        "confirm",
        "help",
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

fn help_on(subject: &[&str]) -> String {
    let world = World::without_account(|builder| builder);
    let args: Vec<&str> = ["help"].iter().chain(subject).copied().collect();
    ran(&mut world.anonymous(&args)).expect(0).stdout
}

#[test]
fn topics_are_explained() {
    for topic in ["options", "environment", "exit-codes", "destinations"] {
        insta::assert_snapshot!(format!("topic {topic}"), help_on(&[topic]));
    }
}

#[test]
fn help_on_a_command_is_its_help() {
    assert_eq!(help_on(&[]), help_of(&[]));
    for command in [&["pull"][..], &["aws", "init"]] {
        assert_eq!(help_on(command), help_of(command));
    }
    let world = World::without_account(|builder| builder);
    let unknown = ran(&mut world.anonymous(&["help", "nonsense"])).expect(2);
    assert!(unknown.stderr.contains("there is no command or topic \"nonsense\""), "{}", unknown.stderr);
    assert!(!unknown.stderr.contains("did you mean"), "{}", unknown.stderr);
    for (words, meant) in [
        (&["help", "pul"][..], "`obsync help pull`"),
        (&["help", "clone"], "`obsync help pull`"),
        (&["help", "exit-code"], "`obsync help exit-codes`"),
        (&["help", "aws", "int"], "`obsync help aws init`"),
    ] {
        let unknown = ran(&mut world.anonymous(words)).expect(2).stderr;
        assert!(unknown.contains(&format!("did you mean {meant}?")), "{words:?}: {unknown}");
    }
}

#[test]
fn a_command_that_needs_another_one_shows_its_help_whatever_variables_are_set() {
    let world = World::without_account(|builder| builder);
    for (words, shown) in [
        (&[][..], "Common commands:"),
        (&["aws"], "Usage: obsync aws [OPTIONS] <COMMAND>"),
        (&["credentials"], "Usage: obsync credentials [OPTIONS] <COMMAND>"),
        (&["-v"], "Common commands:"),
    ] {
        let with_variable = ran(world.anonymous(words).env("OBSYNC_TIMEOUT", "30")).expect(2);
        assert!(with_variable.stderr.contains(shown), "{words:?}: {}", with_variable.stderr);
        assert!(!with_variable.stderr.contains("requires a subcommand"), "{}", with_variable.stderr);
        if words != ["-v"] {
            let without = ran(world.anonymous(words).env_remove("OBSYNC_API_URL")).expect(2);
            assert_eq!(with_variable.stderr, without.stderr, "{words:?}");
        }
    }
    let refused = ran(world.anonymous(&["--json"]).env("OBSYNC_TIMEOUT", "30"));
    assert_eq!(refused.code, 2, "{refused:?}");
}

#[test]
fn only_what_was_meant_is_suggested() {
    let world = World::without_account(|builder| builder);
    let said = |word: &str| ran(&mut world.anonymous(&[word])).expect(2).stderr;
    assert!(said("stauts").contains("'status'"));
    assert!(said("ls").contains("'vaults'"));
    for word in ["resume", "rename", "notes"] {
        assert!(!said(word).contains("similar"), "{}", said(word));
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
    let help = help_on(&["exit-codes"]);
    for code in 0..=11 {
        let is_there = help.lines().any(|line| line.starts_with(&format!("{code:>3}  ")));
        assert!(is_there, "{code} is missing");
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
    let refused = ran(&mut world.anonymous(&["completions", "tcsh"])).expect(2);
    assert!(!refused.stderr.contains("similar"), "another shell is no similar one: {}", refused.stderr);
}

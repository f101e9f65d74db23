//! Signing in and out, and the files stored for it.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use obsync_testkit::VaultSpec;
use serde_json::Value;

use crate::world::{EMAIL, PASSWORD, VAULT_PASSWORD, World, ran};

pub(crate) const TOTP_SECRET: &str = "GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ";

pub(crate) fn with_second_factor() -> World {
    World::without_account(|builder| {
        builder.user_with_totp(EMAIL, PASSWORD, TOTP_SECRET).vault(VaultSpec::managed("Notes"))
    })
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

pub(crate) fn saved_token(world: &World) -> Option<String> {
    let text = fs::read_to_string(world.home().join("config/credentials.json")).ok()?;
    let accounts = serde_json::from_str::<Value>(&text).unwrap()["accounts"].clone();
    Some(accounts.as_object()?.values().next()?["token"].as_str()?.to_owned())
}

#[test]
fn a_login_is_kept_and_only_its_owner_can_read_it() {
    let world = World::new();
    let login = world.must(&["login"]);
    insta::assert_snapshot!(login.told(&world), @r"
    exit status 0
    --- stdout
    Signed in as me@example.com. `obsync vaults` lists your vaults.
    ");
    assert_eq!(mode(&world.home().join("config")), 0o700);
    assert_eq!(mode(&world.home().join("config/credentials.json")), 0o600);
    ran(&mut world.anonymous(&["vaults"])).expect(0);
    assert_eq!(world.server.stats().rest_by_path["/user/signin"], 1);
}

#[test]
fn the_password_can_be_piped_in() {
    let world = World::new();
    let mut login = world.anonymous(&["login", "--email", EMAIL, "--password-stdin", "--quiet"]);
    let login = ran(login.write_stdin(format!("{PASSWORD}\nnot the password\n"))).expect(0);
    assert_eq!((login.stdout.as_str(), login.stderr.as_str()), ("", ""));
    let mut empty = world.anonymous(&["login", "--email", EMAIL, "--password-stdin"]);
    insta::assert_snapshot!(ran(empty.write_stdin("")).told(&world), @r"
    exit status 2
    --- stderr
    obsync: standard input has no password; pipe it in as one line
    ");
}

#[test]
fn without_a_terminal_the_options_are_named() {
    let world = World::new();
    insta::assert_snapshot!(ran(&mut world.anonymous(&["login"])).told(&world), @r"
    exit status 2
    --- stderr
    obsync: the email address is missing; give --email EMAIL or set OBSIDIAN_EMAIL
    ");
    insta::assert_snapshot!(ran(&mut world.anonymous(&["login", "--email", EMAIL])).told(&world), @r"
    exit status 3
    --- stderr
    obsync: the password is missing; pipe it in with --password-stdin, or set OBSIDIAN_PASSWORD or OBSIDIAN_PASSWORD_FILE
    ");
}

#[test]
fn a_wrong_account_password_is_refused_at_once() {
    let world = World::new();
    let mut login = world.command(&["login"]);
    insta::assert_snapshot!(ran(login.env("OBSIDIAN_PASSWORD", "wr0ng")).told(&world), @"
    exit status 3
    --- stderr
    obsync: the service did not accept this email and password; check both and sign in again
    ");
    assert_eq!(world.server.stats().rest_by_path["/user/signin"], 1, "a wrong password was tried again");
    assert_eq!(saved_token(&world), None);
}

#[test]
fn a_missing_code_is_asked_for_by_naming_the_ways_to_give_it() {
    let world = with_second_factor();
    insta::assert_snapshot!(world.run(&["login"]).told(&world), @"
    exit status 3
    --- stderr
    obsync: this account needs a two-factor code; run `obsync login --mfa CODE`, or set OBSIDIAN_TOTP_SECRET for obsync to compute the codes
    ");
    insta::assert_snapshot!(world.run(&["pull", "Notes", "notes"]).told(&world), @"
    exit status 3
    --- stderr
    obsync: this account needs a two-factor code; run `obsync login --mfa CODE`, or set OBSIDIAN_TOTP_SECRET for obsync to compute the codes
    ");
    assert!(!world.path("notes").exists());
}

#[test]
fn a_wrong_code_is_refused() {
    let world = with_second_factor();
    insta::assert_snapshot!(world.run(&["login", "--mfa", "000000"]).told(&world), @"
    exit status 3
    --- stderr
    obsync: the two-factor code is not right; codes change every 30 seconds, try again with a fresh one
    ");
    insta::assert_snapshot!(world.run(&["login", "--mfa", "12345"]).told(&world), @"
    exit status 2
    --- stderr
    error: invalid value '12345' for '--mfa <CODE>': a two-factor code has 6 digits

    For more information, try '--help'.
    ");
}

#[test]
fn a_code_that_is_given_is_used() {
    let world = with_second_factor();
    let code = world.server.totp_code(EMAIL).unwrap();
    world.must(&["login", "--mfa", &code]);
    assert_eq!(world.server.stats().rest_by_path["/user/signin"], 1);
}

#[test]
fn a_code_is_computed_from_the_secret() {
    let world = with_second_factor();
    let mut login = world.command(&["login"]);
    ran(login.env("OBSIDIAN_TOTP_SECRET", "gezd gnbv gy3t qojq gezd gnbv gy3t qojq")).expect(0);
    let mut pull = world.command(&["pull", "Notes", "notes"]);
    ran(pull.env("OBSIDIAN_TOTP_SECRET", TOTP_SECRET)).expect(0);
}

#[test]
fn a_secret_that_is_none_is_refused_without_repeating_it() {
    let world = with_second_factor();
    let login = |secret| ran(world.command(&["login"]).env("OBSIDIAN_TOTP_SECRET", secret));
    let none = login("1nv4lid-s3cret").expect(2);
    assert!(!none.stderr.contains("1nv4lid"));
    insta::assert_snapshot!(none.told(&world), @"
    exit status 2
    --- stderr
    obsync: OBSIDIAN_TOTP_SECRET is not a base32 secret; set it to the text that was shown beside the QR code when you turned two-factor authentication on (letters and the digits 2 to 7)
    ");
}

#[test]
fn the_code_of_the_moment_is_printed_for_scripts() {
    let world = with_second_factor();
    let mut totp = world.anonymous(&["totp"]);
    let before = world.server.totp_code(EMAIL).unwrap();
    let printed = ran(totp.env("OBSIDIAN_TOTP_SECRET", TOTP_SECRET)).expect(0);
    let after = world.server.totp_code(EMAIL).unwrap();
    assert!([before, after].contains(&printed.stdout.trim().to_owned()), "{printed:?}");
    assert!(printed.stderr.starts_with("valid for ") && printed.stderr.ends_with(" more\n"), "{printed:?}");
    insta::assert_snapshot!(ran(&mut world.anonymous(&["totp"])).told(&world), @"
    exit status 2
    --- stderr
    obsync: OBSIDIAN_TOTP_SECRET is not set; set it to the base32 secret of your account's two-factor authentication
    ");
}

#[test]
fn a_token_of_the_environment_is_checked_and_used_but_not_kept() {
    let world = World::new();
    world.must(&["login"]);
    let token = saved_token(&world).unwrap();
    fs::remove_dir_all(world.home()).unwrap();
    let with_token = |token: &str, args: &[&str]| {
        let ran = ran(world.anonymous(args).env("OBSIDIAN_AUTH_TOKEN", token));
        assert!(!ran.stdout.contains(token) && !ran.stderr.contains(token));
        ran
    };
    insta::assert_snapshot!(with_token(&token, &["login"]).told(&world), @"
    exit status 0
    --- stdout
    OBSIDIAN_AUTH_TOKEN is valid: it is the token of me@example.com. Nothing was kept.
    ");
    with_token(&token, &["vaults"]).expect(0);
    assert_eq!(saved_token(&world), None);
    insta::assert_snapshot!(with_token("n0-such-token", &["login"]).told(&world), @"
    exit status 3
    --- stderr
    obsync: the service does not accept OBSIDIAN_AUTH_TOKEN (any more); set it to a valid token, or unset it and run `obsync login`
    ");
    insta::assert_snapshot!(with_token("n0-such-token", &["vaults"]).told(&world), @"
    exit status 3
    --- stderr
    obsync: the service does not accept OBSIDIAN_AUTH_TOKEN (any more); set it to a valid token, or unset it and run `obsync login`
    ");
}

#[test]
fn a_token_never_goes_to_another_address() {
    let (world, other) = (World::new(), World::new());
    world.must(&["login"]);
    let mut vaults = world.anonymous(&["vaults", "--api-url", &other.server.url()]);
    let told = ran(&mut vaults).expect(3).stderr;
    let (here, elsewhere) = (other.server.url(), world.server.url());
    let expected = format!("you are not signed in at {here}/, but at {elsewhere}/;");
    assert!(told.contains(&expected), "{told}");
    assert_eq!(other.server.stats().rest_requests, 0);
}

#[test]
fn a_token_that_has_expired_is_renewed_where_there_are_credentials() {
    let world = World::new();
    world.must(&["login"]);
    world.server.expire_tokens().unwrap();
    insta::assert_snapshot!(ran(&mut world.anonymous(&["vaults"])).told(&world), @"
    exit status 3
    --- stderr
    obsync: the sign-in is not valid (any more); sign in again (`obsync login`)
    ");
    world.must(&["pull", "Notes", "notes"]);
    assert_eq!(world.server.stats().rest_by_path["/user/signin"], 2);
    // The new token is the stored one now.
    ran(&mut world.anonymous(&["vaults"])).expect(0);
}

#[test]
fn another_account_in_the_environment_is_not_served_with_the_saved_token() {
    let world = World::with(|builder| {
        builder
            .user("you@example.com", "y0ur-secret")
            .vault(VaultSpec::managed("Mine").owner(EMAIL))
            .vault(VaultSpec::managed("Yours").owner("you@example.com"))
    });
    world.must(&["login"]);
    let mut vaults = world.anonymous(&["vaults"]);
    vaults.env("OBSIDIAN_EMAIL", "you@example.com").env("OBSIDIAN_PASSWORD", "y0ur-secret");
    let vaults = ran(&mut vaults).expect(0);
    assert!(vaults.stdout.contains("Yours") && !vaults.stdout.contains("Mine"));
}

#[test]
fn a_logout_makes_the_token_worthless_and_forgets_the_keys() {
    let world = World::new();
    world.must(&["login"]);
    let mut pull = world.anonymous(&["pull", "Private", "private", "--password-stdin"]);
    ran(pull.write_stdin(format!("{VAULT_PASSWORD}\n"))).expect(0);
    let token = saved_token(&world).unwrap();
    insta::assert_snapshot!(ran(&mut world.anonymous(&["logout"])).told(&world), @"
    exit status 0
    --- stdout
    Signed out me@example.com.
    ");
    assert_eq!(saved_token(&world), None);
    ran(world.anonymous(&["vaults"]).env("OBSIDIAN_AUTH_TOKEN", &token)).expect(3);
    world.run(&["pull", "Private", "private"]).expect(3);
    let mut again = world.anonymous(&["logout"]);
    assert_eq!(ran(&mut again).expect(0).stdout, "Signed out me@example.com.\n");
    let mut again = world.anonymous(&["logout"]);
    assert_eq!(ran(&mut again).expect(0).stdout, "You were not signed in.\n");
}

#[test]
fn a_logout_can_leave_the_keys() {
    let world = World::new();
    ran(world.command(&["pull", "Private", "private"]).env("OBSYNC_VAULT_PASSWORD", VAULT_PASSWORD))
        .expect(0);
    world.must(&["logout", "--keep-keys"]);
    world.must(&["pull", "Private", "private"]);
}

#[test]
fn a_logout_without_the_service_forgets_the_token_all_the_same() {
    let world = World::new();
    world.must(&["login"]);
    world.server.faults().set("rest-drop".parse().unwrap());
    let logout = ran(&mut world.anonymous(&["logout", "--timeout", "1"])).expect(8);
    assert!(logout.stderr.contains("\nobsync: the token was deleted here, but not revoked at the service: "));
    assert_eq!(saved_token(&world), None);
}

#[test]
fn a_damaged_credentials_file_is_told_as_such() {
    let world = World::new();
    world.must(&["login"]);
    let file = world.home().join("config/credentials.json");
    fs::write(&file, "{ \"accounts\": { \"token-of-mine\"").unwrap();
    let vaults = world.run(&["vaults"]);
    assert!(!vaults.stderr.contains("token-of-mine"));
    insta::assert_snapshot!(vaults.told(&world), @"
    exit status 1
    --- stderr
    obsync: [DIR]/home/config/credentials.json is damaged at line 1; remove it and sign in again with `obsync login`
    ");
}

#[test]
fn a_credentials_file_that_others_can_read_is_closed_to_them() {
    let world = World::new();
    world.must(&["login"]);
    let file = world.home().join("config/credentials.json");
    fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).unwrap();
    let vaults = world.must(&["vaults"]);
    assert_eq!(mode(&file), 0o600);
    insta::assert_snapshot!(world.redacted(&vaults.stderr), @"obsync: warning: [DIR]/home/config/credentials.json was readable by other users of this computer. It is no longer, but anyone who read it has your token or keys: `obsync logout` revokes the token");
}

#[test]
fn where_nothing_can_be_kept_the_work_goes_on() {
    let world = World::new();
    // A file in place of the directory: unlike a mode, that stops root too.
    fs::create_dir_all(world.home()).unwrap();
    fs::write(world.home().join("config"), "").unwrap();
    let vaults = world.must(&["vaults"]);
    assert!(vaults.stderr.contains("warning: the sign-in could not be stored: cannot "), "{vaults:?}");
    world.run(&["login"]).expect(1);
    assert_eq!(world.server.tokens(EMAIL), 0, "what is not kept is signed out");
}

#[test]
fn a_clock_that_is_off_is_named_and_does_not_keep_anybody_from_signing_in() {
    let world = with_second_factor();
    world.server.set_clock_ahead(90);
    let login = ran(world.command(&["login"]).env("OBSIDIAN_TOTP_SECRET", TOTP_SECRET)).expect(0);
    assert!(login.stderr.contains("s behind the service's, set it right"), "{}", login.stderr);
    world.server.set_clock_ahead(-90);
    let wrong =
        ran(world.command(&["login"]).env("OBSIDIAN_TOTP_SECRET", "JBSWY3DPEHPK3PXPJBSWY3DPEHPK3PXP"));
    let wrong = wrong.expect(3);
    assert!(wrong.stderr.contains("s ahead of the service's"), "{}", wrong.stderr);
    assert!(
        wrong.stderr.contains("(OBSIDIAN_TOTP_SECRET)") && !wrong.stderr.contains("JBSW"),
        "{}",
        wrong.stderr
    );
}

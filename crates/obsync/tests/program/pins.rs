//! Pins: a vault that was opened end-to-end encrypted is never opened by a password from the service,
//! whatever is lost on this side; owners who convert a vault themselves can continue.

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};

use assert_cmd::Command;
use obsync_conformance::not_tested;
use obsync_protocol::{EncryptionVersion, MasterKey, VaultKeys};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::world::{Ran, VAULT_PASSWORD, World, put, ran};

const NOON: i64 = 1_767_268_800_000;
const SALT: &str = "0123456789abcdef0123456789abcdef";
const OTHER_SALT: &str = "fedcba9876543210fedcba9876543210";
const FIRST_ID: &str = "11";
const MANAGED: &str = "managed_password";
const END_TO_END: &str = "end_to_end_password";

/// A vault as a server presents it.
#[derive(Clone, Copy)]
pub(crate) struct Shown<'a> {
    id: &'a str,
    encryption: &'a str,
    password: &'a str,
    salt: &'a str,
    note: &'a str,
}

pub(crate) const OWN: Shown<'static> = Shown {
    id: FIRST_ID,
    encryption: END_TO_END,
    password: VAULT_PASSWORD,
    salt: SALT,
    note: "my own words",
};
pub(crate) const FORGED: Shown<'static> =
    Shown { id: FIRST_ID, encryption: MANAGED, password: "handed-0ut", salt: SALT, note: "forged" };

/// A server and a home, where several vaults named `Notes` are presented one after the other.
struct Play {
    world: World,
    place: TempDir,
    shown: usize,
}

impl Play {
    fn with(first: Shown<'_>) -> Self {
        let place = tempfile::tempdir().unwrap();
        let folder = vault(place.path(), 0, first);
        let world = World::with(|builder| builder.vault_dir(folder));
        write(&world, first);
        Play { world, place, shown: 0 }
    }

    /// The same address presents another vault from now on.
    fn now(&mut self, next: Shown<'_>) {
        self.shown += 1;
        let folder = vault(self.place.path(), self.shown, next);
        self.world.serve_instead(|builder| builder.vault_dir(folder));
        write(&self.world, next);
    }

    fn pull(&self, more: &[&str]) -> Command {
        self.world.command(&[&["pull", "Notes", "notes"], more].concat())
    }

    /// A pull with the password of the owner in the environment.
    fn pull_with_password(&self, more: &[&str]) -> Ran {
        ran(self.pull(more).env("OBSYNC_VAULT_PASSWORD", VAULT_PASSWORD))
    }

    fn note(&self) -> String {
        fs::read_to_string(self.world.path("notes/Note.md")).unwrap()
    }

    /// Runs a pull that must be refused with nothing sent except the sign-in, and nothing changed in the
    /// folder.
    #[track_caller]
    fn refused(&self, pull: &mut Command) -> Ran {
        let before = self.world.files("notes");
        let refused = ran(pull).expect(3);
        let stats = self.world.server.stats();
        assert_eq!(stats.rest_by_path.get("/vault/access"), None, "a key hash was sent: {refused:?}");
        assert_eq!(stats.websocket_connections, 0, "a session was opened: {refused:?}");
        assert_eq!(self.world.files("notes"), before);
        for command in ["`obsync pull --accept", "`obsync reset", "--accept-encryption-change`"] {
            assert!(!refused.stderr.contains(command), "a command to accept it was offered: {refused:?}");
        }
        refused
    }
}

/// A folder of a server's vault named `Notes`, as presented.
pub(crate) fn vault(place: &Path, number: usize, shown: Shown<'_>) -> PathBuf {
    let master = MasterKey::derive(&shown.password.into(), shown.salt);
    let mut vault = json!({
        "id": shown.id.repeat(16),
        "name": "Notes",
        "encryption_version": 3,
        "salt": shown.salt,
        "keyhash": VaultKeys::new(&master, EncryptionVersion::V3, shown.salt).key_hash().as_str(),
    });
    vault[shown.encryption] = json!(shown.password);
    let folder = place.join(number.to_string());
    put(&folder.join("vault.json"), &vault.to_string());
    folder
}

fn write(world: &World, shown: Shown<'_>) {
    world.vault("Notes").write("Note.md", shown.note, NOON).unwrap();
}

/// A folder that was pulled from the owner's own end-to-end encrypted vault.
fn pulled() -> Play {
    let play = Play::with(OWN);
    play.pull_with_password(&[]).expect(0);
    assert_eq!(play.note(), OWN.note);
    play
}

fn pins(play: &Play) -> Value {
    let text = fs::read_to_string(play.world.home().join("config/pins.json")).unwrap();
    serde_json::from_str(&text).unwrap()
}

#[test]
fn a_password_for_a_known_end_to_end_vault_is_refused_before_anything_is_sent() {
    let mut play = pulled();
    play.now(FORGED);
    let refused = play.refused(&mut play.pull(&[]));
    assert!(refused.stderr.contains("hands out a password for the vault \"Notes\""), "{refused:?}");
    play.refused(play.pull(&[]).env("OBSYNC_VAULT_PASSWORD", VAULT_PASSWORD));
    play.refused(&mut play.pull(&["--full"]));
    play.refused(&mut play.world.command(&["pull", "Notes", "elsewhere"]));
    play.refused(&mut play.world.command(&["credentials", "export", "Notes"]));
}

#[test]
fn a_lost_home_does_not_undo_the_pin_of_a_folder() {
    let mut play = pulled();
    fs::remove_dir_all(play.world.home()).unwrap();
    play.now(FORGED);
    let refused = play.refused(&mut play.pull(&[]));
    assert!(refused.stderr.contains("the destination knows it as end-to-end encrypted"), "{refused:?}");
}

#[test]
fn a_folder_that_an_older_release_filled_gets_its_pin_from_a_run_that_changes_nothing() {
    let mut play = pulled();
    fs::remove_dir_all(play.world.path("notes/.obsync")).unwrap();
    play.pull_with_password(&[]).expect(0);
    fs::remove_dir_all(play.world.home()).unwrap();
    play.now(FORGED);
    play.refused(&mut play.pull(&[]));
}

#[test]
fn a_lost_state_and_a_lost_folder_do_not_undo_the_pin_of_the_home() {
    let mut play = pulled();
    fs::remove_dir_all(play.world.home().join("state")).unwrap();
    fs::remove_dir_all(play.world.path("notes")).unwrap();
    fs::create_dir(play.world.path("notes")).unwrap();
    play.now(FORGED);
    let refused = play.refused(&mut play.pull(&[]));
    assert!(refused.stderr.contains("this computer knows it as end-to-end encrypted"), "{refused:?}");
}

#[test]
fn keys_that_were_kept_before_there_were_pins_are_pins() {
    let mut play = pulled();
    fs::remove_file(play.world.home().join("config/pins.json")).unwrap();
    fs::remove_dir_all(play.world.path("notes/.obsync")).unwrap();
    play.now(FORGED);
    play.refused(&mut play.pull(&[]));
}

#[test]
fn logout_and_reset_keep_pins() {
    let mut play = pulled();
    fs::remove_file(play.world.home().join("config/pins.json")).unwrap();
    play.world.must(&["logout"]);
    assert!(pins(&play)["pins"][0]["pin"]["encryption"]["salt"].is_string(), "{}", pins(&play));
    play.world.must(&["reset", "notes", "--yes"]);
    assert!(play.world.path("notes/.obsync/pin.json").exists());
    play.now(FORGED);
    play.refused(&mut play.pull(&[]));
}

#[test]
fn a_pin_that_cannot_be_understood_is_no_first_contact() {
    let mut play = pulled();
    play.now(FORGED);
    for file in [play.world.home().join("config/pins.json"), play.world.path("notes/.obsync/pin.json")] {
        let whole = fs::read(&file).unwrap();
        for damaged in ["", "{}", "{\"format\":9,\"pins\":[]}", "nonsense"] {
            fs::write(&file, damaged).unwrap();
            let refused = ran(&mut play.pull(&[])).expect(1);
            assert!(refused.stderr.contains(file.file_name().unwrap().to_str().unwrap()), "{refused:?}");
            assert_eq!(play.note(), OWN.note);
        }
        fs::write(&file, whole).unwrap();
    }
    assert_eq!(play.world.server.stats().rest_by_path.get("/vault/access"), None);
}

#[test]
fn a_new_id_under_the_old_name_or_for_the_old_folder_is_not_opened_with_weaker_encryption() {
    let mut play = pulled();
    play.now(Shown { id: "22", ..FORGED });
    let refused = play.refused(&mut play.world.command(&["pull", "Notes", "elsewhere"]));
    assert!(refused.stderr.contains("the vault that had this name"), "{refused:?}");
    fs::remove_dir_all(play.world.home()).unwrap();
    let refused = play.refused(&mut play.pull(&[]));
    assert!(refused.stderr.contains("the vault that was brought there"), "{refused:?}");
}

#[test]
fn an_id_that_was_a_name_and_a_name_that_was_an_id_are_refused_like_the_name() {
    let mut play = pulled();
    let id = FIRST_ID.repeat(16);
    play.now(Shown { id: "22", ..FORGED });
    play.world.server.faults().set(format!("listing-name={id}").parse().unwrap());
    play.refused(&mut play.world.command(&["pull", &id, "elsewhere"]));
}

#[test]
fn the_names_of_vaults_whose_keys_were_kept_before_there_were_pins_are_pinned_too() {
    let mut play = pulled();
    fs::remove_file(play.world.home().join("config/pins.json")).unwrap();
    play.now(Shown { id: "22", ..FORGED });
    play.refused(&mut play.world.command(&["pull", "Notes", "elsewhere"]));
}

#[test]
fn keys_that_are_all_that_is_known_are_neither_set_aside_nor_to_be_removed() {
    let mut play = pulled();
    fs::remove_file(play.world.home().join("config/pins.json")).unwrap();
    fs::remove_dir_all(play.world.path("notes/.obsync")).unwrap();
    let keys = play.world.home().join("config/keys.json");
    let kept = fs::read(&keys).unwrap();
    play.now(FORGED);
    for damaged in [vec![b' '; 65 << 20], kept[..kept.len() - 3].to_vec()] {
        fs::write(&keys, &damaged).unwrap();
        let refused = ran(&mut play.pull(&[])).expect(1);
        assert!(refused.stderr.contains("restore it from a copy"), "{refused:?}");
        assert_eq!(fs::metadata(&keys).unwrap().len(), damaged.len() as u64);
    }
    fs::write(&keys, kept).unwrap();
    play.refused(&mut play.pull(&[]));
}

#[test]
fn a_kept_key_whose_salt_is_too_long_is_a_pin_all_the_same() {
    let mut play = pulled();
    fs::remove_file(play.world.home().join("config/pins.json")).unwrap();
    fs::remove_dir_all(play.world.path("notes/.obsync")).unwrap();
    let keys = play.world.home().join("config/keys.json");
    let mut kept: Value = serde_json::from_str(&fs::read_to_string(&keys).unwrap()).unwrap();
    kept["keys"][0]["salt"] = json!("s".repeat(5 << 20));
    fs::write(&keys, kept.to_string()).unwrap();
    play.now(FORGED);
    for _ in 0..2 {
        play.refused(&mut play.pull(&[]));
    }
}

#[test]
fn what_another_users_folder_hides_is_not_taken_for_a_first_contact() {
    let mut play = pulled();
    let own = play.world.path("notes/.obsync");
    if chown(&own, Some(65_534), Some(65_534)).is_err() {
        not_tested("only root can act as another user");
        return;
    }
    fs::remove_dir_all(play.world.home()).unwrap();
    play.now(FORGED);
    let refused = play.refused(&mut play.pull(&[]));
    assert!(refused.stderr.contains("belongs to another user"), "{refused:?}");
    // A user without a pin has to state the encryption; one with a pin need not.
    play.now(OWN);
    play.pull_with_password(&[]).expect(0);
    play.now(FORGED);
    let refused = play.refused(&mut play.pull(&["--encryption", "standard"]));
    assert!(refused.stderr.contains("this computer knows it as end-to-end"), "{refused:?}");
    fs::remove_dir_all(play.world.home()).unwrap();
    ran(&mut play.pull(&["--encryption", "standard"])).expect(0);
    ran(&mut play.pull(&[])).expect(0);
}

#[test]
fn accepting_a_change_without_any_pin_keeps_everything_too() {
    let mut play = pulled();
    play.world.vault("Notes").write("Gone.md", "mine", NOON).unwrap();
    play.pull_with_password(&[]).expect(0);
    fs::remove_file(play.world.home().join("config/pins.json")).unwrap();
    fs::remove_file(play.world.home().join("config/keys.json")).unwrap();
    fs::remove_dir_all(play.world.path("notes/.obsync")).unwrap();
    play.now(FORGED);
    ran(&mut play.pull(&["--full", "--accept-encryption-change"])).expect(0);
    let files = play.world.files("notes");
    let has = |content: &str| files.iter().any(|(_, found)| found == content);
    assert!(has("my own words") && has("mine") && has("forged"), "{files:?}");
}

#[test]
fn accepting_a_change_accepts_no_password_that_the_vault_does_not_need() {
    let play = Play::with(FORGED);
    play.pull_with_password(&["--accept-encryption-change"]).expect(3);
    let mut piped = play.pull(&["--accept-encryption-change", "--password-stdin"]);
    ran(piped.write_stdin("mine\n")).expect(3);
    let program = ["--accept-encryption-change", "--password-command", "echo mine"];
    ran(&mut play.pull(&program)).expect(3);
}

#[test]
fn a_program_that_prints_the_password_says_that_the_vault_has_one() {
    let play = Play::with(FORGED);
    ran(&mut play.pull(&["--password-command", "echo mine"])).expect(3);
    let stats = play.world.server.stats();
    assert_eq!((stats.rest_by_path.get("/vault/access"), stats.websocket_connections), (None, 0));
}

#[test]
fn an_owner_who_encrypts_anew_may_give_the_password_by_a_program() {
    let mut play = pulled();
    play.now(Shown { salt: OTHER_SALT, password: "another-s3cret", ..OWN });
    let program = ["--accept-encryption-change", "--password-command", "echo another-s3cret"];
    ran(&mut play.pull(&program)).expect(0);
}

#[test]
fn another_salt_is_refused_before_anything_is_sent() {
    let mut play = pulled();
    play.now(Shown { salt: OTHER_SALT, ..OWN });
    let refused = play.refused(play.pull(&[]).env("OBSYNC_VAULT_PASSWORD", VAULT_PASSWORD));
    assert!(refused.stderr.contains("the salt of the end-to-end encrypted vault"), "{refused:?}");
}

#[test]
fn an_end_to_end_vault_under_a_new_id_is_free() {
    let mut play = pulled();
    play.now(Shown { id: "22", salt: OTHER_SALT, note: "moved", ..OWN });
    ran(play.world.command(&["pull", "Notes", "new"]).env("OBSYNC_VAULT_PASSWORD", VAULT_PASSWORD)).expect(0);
}

#[test]
fn an_owner_who_converts_to_standard_says_so_once_and_loses_nothing() {
    let mut play = pulled();
    play.now(Shown { note: "after the conversion", ..FORGED });
    play.world.vault("Notes").write("New.md", "new", NOON).unwrap();
    put(&play.world.path("notes/Mine.md"), "mine");
    let pull = ran(&mut play.pull(&["--accept-encryption-change"])).expect(0);
    assert!(pull.stderr.contains("Before: end-to-end encrypted"), "{pull:?}");
    assert!(pull.stderr.contains("Now: standard encrypted"), "{pull:?}");
    let files = play.world.files("notes");
    for kept in ["my own words", "after the conversion", "mine", "new"] {
        assert!(files.iter().any(|(_, content)| content == kept), "{kept} is not there: {files:?}");
    }
    let pin = &pins(&play)["pins"][0]["pin"];
    assert!(pin["accepted"]["by"].as_str().is_some_and(|by| by.contains('@')), "{pin}");
    ran(&mut play.pull(&[])).expect(0);
}

#[test]
fn an_owner_who_converts_to_end_to_end_is_told_and_pinned() {
    let mut play = Play::with(FORGED);
    ran(&mut play.pull(&[])).expect(0);
    play.now(OWN);
    let pull = play.pull_with_password(&["--quiet"]).expect(0);
    assert!(pull.stderr.contains("was standard encrypted and is end-to-end encrypted now"), "{pull:?}");
    assert_eq!(play.pull_with_password(&["--quiet"]).expect(0).stderr, "");
    play.now(FORGED);
    play.refused(&mut play.pull(&[]));
}

#[test]
fn an_owner_who_encrypts_anew_is_asked_for_the_password_again() {
    let mut play = pulled();
    play.now(Shown { salt: OTHER_SALT, password: "another-s3cret", ..OWN });
    ran(&mut play.pull(&["--accept-encryption-change"])).expect(3);
    let mut pull = play.pull(&["--accept-encryption-change", "--password-stdin"]);
    ran(pull.write_stdin("another-s3cret\n")).expect(0);
    ran(&mut play.pull(&[])).expect(0);
    play.world.run(&["pull", "Notes", "notes", "--accept-encryption-change", "--dry-run"]).expect(2);
}

#[test]
fn a_standard_vault_may_change_its_password_and_salt() {
    let mut play = Play::with(FORGED);
    ran(&mut play.pull(&[])).expect(0);
    play.now(Shown { password: "another", salt: "short", ..FORGED });
    play.world.vault("Notes").write("Note.md", "later", NOON + 1).unwrap();
    assert_eq!(ran(&mut play.pull(&["--quiet"])).expect(0).stderr, "");
    assert_eq!(play.note(), "later");
}

#[test]
fn the_kind_is_told_on_first_contact_in_json_and_in_the_status() {
    let play = Play::with(OWN);
    let first = play.pull_with_password(&["--quiet", "--json"]).expect(0);
    assert!(first.stderr.contains("opened for the first time: end-to-end encryption"), "{first:?}");
    assert_eq!(first.json()["encryption"], "end-to-end");
    let second = ran(&mut play.pull(&["--quiet", "--json"])).expect(0);
    assert_eq!((second.stderr.as_str(), &second.json()["encryption"]), ("", &json!("end-to-end")));
    let status = play.world.must(&["status", "--json"]).json();
    assert_eq!(status["destinations"][0]["encryption"], "end-to-end");
    assert!(play.world.must(&["status"]).stdout.contains("encryption end-to-end"));
    // The folder has the pin, too.
    let pins = play.world.home().join("config/pins.json");
    for name in ["pins.json", "keys.json"] {
        fs::remove_file(play.world.home().join("config").join(name)).unwrap();
    }
    let status = play.world.must(&["status", "--json"]).json();
    assert_eq!(status["destinations"][0]["encryption"], "end-to-end");
    put(&pins, "{");
    let status = play.world.must(&["status"]);
    assert!(status.stdout.contains("encryption end-to-end"), "{status:?}");
    assert!(status.stderr.contains("pins.json is damaged"), "{status:?}");
}

#[test]
fn only_the_kind_that_was_asked_for_is_opened() {
    let play = Play::with(FORGED);
    let mut command = play.pull(&[]);
    let refused = ran(command.env("OBSYNC_ENCRYPTION", "end-to-end")).expect(3);
    assert!(refused.stderr.contains("is listed as standard encrypted"), "{refused:?}");
    ran(&mut play.pull(&["--encryption", "end-to-end"])).expect(3);
    ran(&mut play.pull(&["--encryption", "strong"])).expect(2);
    ran(play.pull(&["--encryption", "standard"]).env("OBSYNC_VAULT_PASSWORD", "of another")).expect(0);
    ran(play.pull(&[]).env("OBSYNC_ENCRYPTION", "")).expect(0);
}

#[test]
fn a_password_that_a_new_standard_vault_does_not_need_is_a_refusal_with_both_readings() {
    let play = Play::with(FORGED);
    let refused = play.pull_with_password(&[]).expect(3);
    for reading in ["it is a standard vault", "somebody wants to pass another off"] {
        assert!(refused.stderr.contains(reading), "{refused:?}");
    }
    assert_eq!(play.world.server.stats().rest_by_path.get("/vault/access"), None);
    let mut piped = play.pull(&["--password-stdin"]);
    ran(piped.write_stdin("mine\n")).expect(3);
    assert!(!play.world.path("notes").exists());
}

#[test]
fn a_mistyped_password_is_not_sent_where_the_key_is_known() {
    let play = pulled();
    play.world.must(&["logout"]);
    let sent = || play.world.server.stats().rest_by_path.get("/vault/access").copied();
    let before = sent();
    let mistyped = ran(play.pull(&["--password-stdin"]).write_stdin("mistyped\n")).expect(3);
    assert!(mistyped.stderr.contains("nothing was sent"), "{mistyped:?}");
    assert_eq!(sent(), before);
    play.pull_with_password(&[]).expect(0);
}

#[test]
fn a_short_salt_is_refused_in_a_vault_that_is_not_known() {
    let short = Shown { salt: "short", ..OWN };
    let play = Play::with(short);
    let refused = play.pull_with_password(&[]).expect(3);
    assert!(refused.stderr.contains("has a salt of 5 bytes"), "{refused:?}");
    assert_eq!(play.world.server.stats().rest_by_path.get("/vault/access"), None);
}

#[test]
fn the_pin_of_a_folder_is_private_unseen_by_git_and_of_no_account_to_verify() {
    let play = pulled();
    let own = play.world.path("notes/.obsync");
    let mut names: Vec<_> =
        fs::read_dir(&own).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    assert_eq!(
        names,
        [".gitignore", "id", "lock", "pin.json"],
        "nothing but the marker, the pin and the lock stays"
    );
    assert_eq!(fs::metadata(own.join("pin.json")).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(fs::read_to_string(own.join(".gitignore")).unwrap(), "*\n");
    let text = fs::read_to_string(own.join("pin.json")).unwrap();
    assert!(!text.contains(VAULT_PASSWORD) && !text.contains("fingerprint"), "{text}");
    play.world.must(&["verify", "notes"]);
}

#[test]
fn the_listing_shows_a_fingerprint_to_compare_between_machines() {
    let mut play = Play::with(OWN);
    let fingerprint = |play: &Play| {
        let listed = play.world.must(&["vaults", "--json"]).json();
        listed["vaults"][0]["fingerprint"].as_str().unwrap().to_owned()
    };
    let own = fingerprint(&play);
    play.now(FORGED);
    assert_ne!(fingerprint(&play), own);
    play.now(Shown { salt: OTHER_SALT, ..OWN });
    assert_ne!(fingerprint(&play), own);
    play.now(OWN);
    assert_eq!(fingerprint(&play), own);
}

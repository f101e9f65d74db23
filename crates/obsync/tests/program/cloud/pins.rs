//! Pins in a table, which several machines share.

use obsync_testkit::Faults;

use super::place::{Place, TABLE};
use crate::pins::{FORGED, OWN, vault};
use crate::world::{Ran, VAULT_PASSWORD, World, ran};

/// A pull of the end-to-end encrypted vault from a separate computer.
fn pull_from(place: &Place, machine: &str) -> Ran {
    let mut pull = place.command(&["pull", "Private", "s3://vaults/private", "--state", TABLE]);
    pull.env("OBSYNC_HOME", place.world.path(machine)).env("OBSYNC_VAULT_PASSWORD", VAULT_PASSWORD);
    ran(&mut pull)
}

fn lie(place: &Place) {
    let lie = Faults { listing_password: Some("handed-0ut".to_owned()), ..Faults::default() };
    place.world.server.faults().set(lie);
}

#[test]
fn five_machines_on_one_table_share_its_pin_and_a_new_one_is_warned_by_it() {
    let place = Place::new();
    for machine in ["one", "two", "three", "four", "five"] {
        pull_from(&place, machine).expect(0);
    }
    lie(&place);
    let refused = pull_from(&place, "a new machine").expect(3);
    assert!(refused.stderr.contains("the table knows it as end-to-end encrypted"), "{refused:?}");
}

#[test]
fn a_reset_of_a_state_in_a_table_keeps_its_pin() {
    let place = Place::new();
    pull_from(&place, "one").expect(0);
    place.must(&["reset", "s3://vaults/private", "--state", TABLE, "--yes"]);
    lie(&place);
    pull_from(&place, "a new machine").expect(3);
}

#[test]
fn who_accepted_a_change_and_when_is_in_the_table() {
    let vaults = tempfile::tempdir().unwrap();
    let (own, converted) = (vault(vaults.path(), 0, OWN), vault(vaults.path(), 1, FORGED));
    let mut place = Place::of(World::with(|builder| builder.vault_dir(own)));
    let pull = |place: &Place, more: &[&str]| {
        place.command(&[&["pull", "Notes", "s3://vaults/notes", "--state", TABLE], more].concat())
    };
    ran(pull(&place, &[]).env("OBSYNC_VAULT_PASSWORD", VAULT_PASSWORD)).expect(0);
    place.world.serve_instead(|builder| builder.vault_dir(converted));
    ran(&mut pull(&place, &[])).expect(3);
    ran(&mut pull(&place, &["--accept-encryption-change"])).expect(0);
    let items = place.cloud.dynamodb().items("obsync-state").unwrap();
    let pins: Vec<String> = items
        .iter()
        .filter(|item| item["vault_id"]["S"].as_str().is_some_and(|key| key.starts_with("pin#")))
        .map(ToString::to_string)
        .collect();
    let is_accepted =
        |pin: &String| pin.contains("accepted") && pin.contains('@') && pin.contains("\\\"at\\\"");
    assert!(!pins.is_empty() && pins.iter().all(is_accepted), "{pins:#?}");
    // Another machine need not accept it.
    let elsewhere = place.world.path("another machine");
    ran(pull(&place, &[]).env("OBSYNC_HOME", elsewhere)).expect(0);
}

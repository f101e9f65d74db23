//! Pins in a table, which several machines share.

use obsync_testkit::Faults;

use super::place::{Place, TABLE};
use crate::world::{Ran, VAULT_PASSWORD, ran};

/// A pull of the end-to-end encrypted vault from a computer of its own.
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

//! A bucket contains exactly the vault's files, with their metadata.

use obsync_testcloud::Service;
use obsync_testkit::{Expected, GeneratorOptions, fill_vault, fixture_dir};

use super::place::{DEST, Place};
use crate::world::{World, ran};

#[track_caller]
fn pulls_exactly(name: &str) {
    let place = Place::of(World::with(|builder| builder.vault_dir(fixture_dir(name))));
    let text = std::fs::read_to_string(fixture_dir(name).join("vault.json")).unwrap();
    let vault: serde_json::Value = serde_json::from_str(&text).unwrap();
    let password = vault["end_to_end_password"].as_str().unwrap_or_default();
    ran(place.command(&["pull", name, DEST]).env("OBSYNC_VAULT_PASSWORD", password)).expect(0);
    place.assert_is(&Expected::load(&fixture_dir(name)).unwrap());
    place.must(&["verify", DEST]);
}

#[test]
fn official_v0_comes_out_exact_in_a_bucket() {
    pulls_exactly("official-v0");
}

#[test]
fn official_v2_comes_out_exact_in_a_bucket() {
    pulls_exactly("official-v2");
}

#[test]
fn official_managed_comes_out_exact_in_a_bucket() {
    pulls_exactly("official-managed");
}

#[test]
fn three_thousand_files_come_out_exact_and_the_next_pulls_cost_what_is_new() {
    let place = Place::new();
    let vault = place.world.vault("Notes");
    let options = GeneratorOptions {
        files: 3000,
        seed: 3,
        max_size: 60_000,
        many_scripts: true,
        ..GeneratorOptions::default()
    };
    fill_vault(&vault, &options).unwrap();
    let report = place.pull(&[]);
    assert_eq!((&report["outcome"], &report["destination"]), (&"complete".into(), &DEST.into()));
    place.assert_exact();

    let (before, pulls) = (place.cloud.counts(), place.world.server.stats().pulls);
    assert_eq!(place.pull(&[])["pulled"]["files"], 0);
    let idle = place.cloud.counts().since(&before);
    assert!(idle.total(Service::S3) <= 4, "{idle}");
    assert_eq!(place.world.server.stats().pulls, pulls);

    for number in 0..10 {
        place.write(&format!("New/{number}.md"), &format!("new note {number}"));
    }
    let before = place.cloud.counts();
    assert_eq!(place.pull(&[])["pulled"]["files"], 10);
    let changed = place.cloud.counts().since(&before);
    assert!(changed.total(Service::S3) < 40, "{changed}");
    place.assert_exact();
    place.must(&["verify", DEST]);
}

#[test]
fn a_file_of_many_parts_goes_up_while_it_arrives() {
    let place = Place::new();
    let film: String = "a long film. ".repeat(2_000_000);
    place.write("Film.mp4", &film);
    place.pull(&[]);
    place.assert_exact();
    assert_eq!(place.object("Film.mp4").unwrap().parts, Some(5));
}

//! The reason for a wait is printed while a run waits: for the service and for the destination.

use std::net::TcpListener;
use std::time::{Duration, Instant};

use obsync_testkit::{Chance, Faults, VaultSpec};

use crate::cloud::place::{DEST, Place, TABLE};
use crate::world::{World, ran};

#[test]
fn each_further_attempt_to_reach_the_service_is_said() {
    let world = World::new();
    let nowhere = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let mut vaults = world.command(&["vaults"]);
    let vaults = ran(vaults.env("OBSYNC_API_URL", format!("http://{nowhere}"))).expect(8);
    for attempt in 2..=5 {
        assert!(vaults.stderr.contains(&format!("; attempt {attempt} of 5\n")), "{}", vaults.stderr);
    }
    let mut quiet = world.command(&["vaults", "--quiet"]);
    let quiet = ran(quiet.env("OBSYNC_API_URL", format!("http://{nowhere}"))).expect(8);
    assert_eq!(quiet.stderr.lines().count(), 1, "{}", quiet.stderr);
}

#[test]
fn a_service_that_does_not_answer_is_said_while_it_is_waited_for() {
    let world = World::new();
    world.server.faults().set(Faults { rest_hang: Chance::always(), ..Faults::default() });
    let vaults = world.run(&["vaults", "--timeout", "12"]).expect(8);
    let said = "obsync: the service has not answered for 10 s; waiting for 12 s at most\n";
    assert!(vaults.stderr.contains(said), "{}", vaults.stderr);
}

#[test]
fn a_bucket_that_takes_long_is_said_while_it_is_waited_for() {
    let place = Place::of(World::with(|builder| builder.vault(VaultSpec::managed("Notes"))));
    place.write("Note.md", "a note");
    place.fault(|faults| {
        faults.s3.operations = vec!["PutObject".to_owned()];
        faults.s3.latency = Duration::from_secs(12);
    });
    let pull = place.run(&["pull", "Notes", DEST]).expect(0);
    assert!(pull.stderr.contains("has not answered a request for 10 s"), "{}", pull.stderr);
}

#[test]
fn a_bucket_that_throttles_is_said() {
    let place = Place::new();
    place.write("Note.md", "a note");
    place.fault(|faults| faults.s3.throttled = Chance::next(3));
    let pull = place.run(&["pull", "Notes", DEST]).expect(0);
    assert!(pull.stderr.contains("answers 503"), "{}", pull.stderr);
}

#[test]
fn a_table_that_throttles_is_said() {
    let place = Place::new();
    place.write("Note.md", "a note");
    place.fault(|faults| faults.dynamodb.throttled = Chance::next(3));
    let pull = place.run(&["pull", "Notes", DEST, "--state", TABLE]).expect(0);
    let said = "obsync: the table obsync-state throttles requests; asking again\n";
    assert!(pull.stderr.contains(said), "{}", pull.stderr);
}

#[test]
fn a_bucket_that_refuses_the_connection_is_said_at_once() {
    let place = Place::new();
    place.write("Note.md", "a note");
    let nowhere = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let begun = Instant::now();
    let mut pull = place.command(&["pull", "Notes", DEST]);
    let pull = ran(pull.env("AWS_ENDPOINT_URL_S3", format!("http://{nowhere}"))).expect(1);
    assert!(pull.stderr.contains("cannot be reached") && pull.stderr.contains("refused"), "{}", pull.stderr);
    assert!(begun.elapsed() < Duration::from_secs(10), "it took {:?}", begun.elapsed());
}

#[test]
fn a_table_that_refuses_the_connection_is_said_at_once() {
    let place = Place::new();
    let nowhere = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let begun = Instant::now();
    let mut pull = place.command(&["pull", "Notes", DEST, "--state", TABLE]);
    let pull = ran(pull.env("AWS_ENDPOINT_URL_DYNAMODB", format!("http://{nowhere}"))).expect(1);
    assert!(pull.stderr.contains("refused"), "{}", pull.stderr);
    assert!(begun.elapsed() < Duration::from_secs(10), "it took {:?}", begun.elapsed());
}

#[test]
fn verbose_names_each_file_and_very_verbose_is_for_developers() {
    let world = World::new();
    world.vault("Notes").write("Folder/Note.md", "a note", 1_700_000_000_000).unwrap();
    let pull = world.must(&["pull", "Notes", "notes", "-v"]).stderr;
    assert!(
        pull.contains("\ndownloaded Folder/Note.md\n") || pull.starts_with("downloaded Folder/Note.md\n"),
        "{pull}"
    );
    assert!(!pull.contains("DEBUG") && !pull.contains("obsync_"), "{pull}");
    world.vault("Notes").delete("Folder/Note.md").unwrap();
    assert!(world.must(&["pull", "Notes", "notes", "-v"]).stderr.contains("deleted Folder/Note.md\n"));
    let pull = world.must(&["pull", "Notes", "notes", "-vv"]).stderr;
    assert!(pull.contains("DEBUG obsync_"), "{pull}");
}

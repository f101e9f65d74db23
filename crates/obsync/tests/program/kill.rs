//! SIGKILL at random moments, from another process: nothing is lost, nothing is wrong, and only contents
//! under way are downloaded twice.

use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Duration;

use obsync_testkit::Faults;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::world::{EMAIL, PASSWORD, World};

/// The vault has this many files,
const FILES: usize = 3000;
/// of this many bytes each, so that downloads can be counted in files and in bytes alike.
const SIZE: usize = 4096;
/// Bytes that encryption adds to a file.
const OVERHEAD: usize = 28;

const KILLS: usize = 50;
/// The last kill comes before the server has sent this many files.
const LAST_KILL: u64 = 2600;

const CONNECTIONS: usize = 2;
/// Requests that a session has in flight (`FetchOptions::in_flight`).
const IN_FLIGHT: usize = 32;

fn fill(world: &World) {
    let vault = world.vault("Notes");
    for number in 0..FILES {
        let path = format!("Folder {}/Note {number}.md", number % 60);
        vault.write(&path, format!("{number:>SIZE$}"), 1_700_000_000_000 + number as i64 * 1000).unwrap();
    }
}

fn start(world: &World) -> Child {
    Command::new(env!("CARGO_BIN_EXE_obsync"))
        .args(["pull", "Notes", "notes", "--quiet", "--connections", &CONNECTIONS.to_string()])
        .current_dir(world.path(""))
        .env_clear()
        .env("OBSYNC_HOME", world.home())
        .env("OBSYNC_API_URL", world.server.url())
        .env("OBSIDIAN_EMAIL", EMAIL)
        .env("OBSIDIAN_PASSWORD", PASSWORD)
        .stdin(Stdio::null())
        .spawn()
        .unwrap()
}

/// Lets a pull run until the server has sent `files` contents in all, and a moment longer; then kills it.
fn kill_after(world: &World, files: u64, longer: Duration) {
    let mut pull = start(world);
    world.runtime.block_on(async {
        let sent = world.server.wait_for(|stats| stats.pulls_answered >= files);
        tokio::time::timeout(Duration::from_secs(60), sent).await.unwrap();
    });
    thread::sleep(longer);
    pull.kill().unwrap();
    let status = pull.wait().unwrap();
    assert_eq!(status.signal(), Some(9), "the pull came to its end before it was killed: {status}");
}

#[test]
fn fifty_kills_lose_nothing_and_cost_only_what_was_in_flight() {
    let world = World::new();
    fill(&world);
    // Slow enough for every kill to come in time, whatever the machine.
    world.server.faults().set(Faults { latency: Duration::from_millis(2), ..Faults::default() });
    let mut random = ChaCha8Rng::seed_from_u64(50);
    let mut moments: Vec<u64> = (0..KILLS).map(|_| random.random_range(0..LAST_KILL)).collect();
    moments.sort_unstable();
    for files in moments {
        // Kills in quick succession hit a pull that is still signing in or listing.
        kill_after(&world, files, Duration::from_micros(random.random_range(0..30_000)));
    }
    world.server.faults().clear();
    world.must(&["pull", "Notes", "notes"]);

    assert_eq!(world.differences("Notes", "notes"), [""; 0]);
    world.must(&["verify", "notes"]);
    let stats = world.server.stats();
    let again: u64 = stats.served.values().map(|times| times - 1).sum();
    let in_flight = KILLS * CONNECTIONS * IN_FLIGHT;
    println!("{} bytes sent, {again} of {FILES} files sent again", stats.content_bytes);
    assert!(again <= in_flight as u64, "{again} files were sent again");
    assert!(
        stats.content_bytes <= ((FILES + in_flight) * (SIZE + OVERHEAD)) as u64,
        "{} bytes",
        stats.content_bytes
    );
}

//! Resource use of an idle follower. `OBSYNC_IDLE_SECONDS=300 cargo test --release --workspace --test program
//! idle -- --nocapture` measures it with 10,000 notes in 500 folders, one whole scan included
//! (docs/PERFORMANCE.md).

#![cfg(target_os = "linux")]

use std::fs;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use crate::world::{EMAIL, PASSWORD, World};

const NOON: i64 = 1_767_268_800_000;

/// Processor time of a process so far, in user and system mode.
fn processor_time(program: &Child) -> Duration {
    let stat = fs::read_to_string(format!("/proc/{}/stat", program.id())).unwrap();
    let fields: Vec<&str> = stat.rsplit_once(')').unwrap().1.split_whitespace().collect();
    let ticks: u64 = fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap();
    // Linux counts in hundredths of a second there, whatever its own clock.
    Duration::from_millis(ticks * 10)
}

/// A line of a process's status, in MiB.
fn memory(program: &Child, name: &str) -> f64 {
    let status = fs::read_to_string(format!("/proc/{}/status", program.id())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap();
    line.trim_start_matches(':').trim().trim_end_matches(" kB").parse::<f64>().unwrap() / 1024.0
}

#[test]
fn a_follower_without_anything_to_do_takes_next_to_nothing() {
    let wanted = std::env::var("OBSYNC_IDLE_SECONDS").ok().map(|seconds| seconds.parse().unwrap());
    let (notes, folders, seconds) = match wanted {
        Some(seconds) => (10_000, 500, seconds),
        None => (100, 5, 3),
    };
    let world = World::new();
    let vault = world.vault("Notes");
    for n in 0..notes {
        vault.write(&format!("{}/{n}.md", n % folders), format!("note {n}"), NOON).unwrap();
    }
    world.must(&["sync", "Notes", "notes", "--yes"]);
    let mut follower = Command::new(env!("CARGO_BIN_EXE_obsync"))
        .args(["sync", "Notes", "notes", "--yes", "--follow", "--quiet"])
        .current_dir(world.path(""))
        .env_clear()
        .env("OBSYNC_HOME", world.home())
        .env("OBSYNC_API_URL", world.server.url())
        .env("OBSIDIAN_EMAIL", EMAIL)
        .env("OBSIDIAN_PASSWORD", PASSWORD)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    // It is running once it has synced a change; the start does not count as idling.
    vault.write("begin.md", "begun", NOON).unwrap();
    let begun = Instant::now();
    while !world.path("notes/begin.md").exists() {
        assert!(begun.elapsed() < Duration::from_secs(120), "it never begins");
        thread::sleep(Duration::from_millis(50));
    }
    thread::sleep(Duration::from_secs(3));
    let before = processor_time(&follower);
    thread::sleep(Duration::from_secs(seconds));
    let taken = processor_time(&follower).saturating_sub(before);
    let (now, most) = (memory(&follower, "VmRSS"), memory(&follower, "VmHWM"));
    println!(
        "{notes} notes in {folders} folders, idle for {seconds} s: {taken:.2?} of processor, {now:.1} MiB now, {most:.1} MiB at most"
    );
    assert!(taken < Duration::from_secs(2), "{taken:?}");
    // The limit for a release build, which is the one measured.
    assert!(wanted.is_none() || most < 30.0, "{most} MiB");
    kill_process(Pid::from_child(&follower), Signal::TERM).unwrap();
    assert_eq!(follower.wait().unwrap().code(), Some(0));
}

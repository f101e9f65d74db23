//! What people report about clients that sync two ways, with the real watcher: editors that save by renaming, files that are
//! half written, trees that change at once, and programs that are stopped.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use crate::world::{EMAIL, PASSWORD, World, put};

const NOON: i64 = 1_767_268_800_000;

/// How long anything is waited for.
const LIMIT: Duration = Duration::from_secs(60);

/// A program at work.
struct Running(Child);

impl Running {
    fn start(world: &World, args: &[&str]) -> Self {
        let child = Command::new(env!("CARGO_BIN_EXE_obsync"))
            .args(args)
            .current_dir(world.path(""))
            .env_clear()
            .env("OBSYNC_HOME", world.home())
            .env("OBSYNC_API_URL", world.server.url())
            .env("OBSIDIAN_EMAIL", EMAIL)
            .env("OBSIDIAN_PASSWORD", PASSWORD)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        Running(child)
    }

    /// A follower of the folder `notes` that is in step and watches.
    fn follower(world: &World) -> Self {
        put(&world.path("notes/first sign.md"), "of life");
        let follower = Self::start(world, &["sync", "Notes", "notes", "--follow", "--yes"]);
        until("it has synced", || texts(world).contains_key("first sign.md"));
        // Until its watcher says so, nothing is known of it but by its deeds.
        until("it watches", || {
            put(&world.path("notes/sign.md"), &format!("{:?}", Instant::now()));
            thread::sleep(Duration::from_millis(300));
            texts(world).contains_key("sign.md")
        });
        follower
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.0), signal).unwrap();
    }

    fn end(mut self) -> i32 {
        self.signal(Signal::TERM);
        self.0.wait().unwrap().code().unwrap()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[track_caller]
fn until(what: &str, holds: impl Fn() -> bool) {
    let begun = Instant::now();
    while !holds() {
        assert!(begun.elapsed() < LIMIT, "{what}");
        thread::sleep(Duration::from_millis(10));
    }
}

fn texts(world: &World) -> BTreeMap<String, String> {
    let contents = world.vault("Notes").contents().unwrap().into_iter();
    contents.map(|(path, text)| (path, String::from_utf8_lossy(&text).into_owned())).collect()
}

fn has(world: &World, path: &str, text: &str) -> bool {
    texts(world).get(path).is_some_and(|found| found == text)
}

fn version(world: &World) -> u64 {
    world.vault("Notes").version().0
}

#[test]
fn save_by_rename_is_one_change() {
    let world = World::new();
    let follower = Running::follower(&world);
    let at = |name: &str| world.path(&format!("notes/{name}"));
    put(&at("note.md"), "text");
    until("it is sent", || has(&world, "note.md", "text"));
    let before = version(&world);
    for number in 0..20 {
        // Vim: a probe, a backup, the new file.
        fs::write(at("4913"), "").unwrap();
        fs::remove_file(at("4913")).unwrap();
        fs::rename(at("note.md"), at("note.md~")).unwrap();
        fs::write(at("note.md"), format!("text {number}")).unwrap();
        fs::remove_file(at("note.md~")).unwrap();
        // sed -i
        fs::write(at("sedAb3XyZ"), format!("text {number}, by sed")).unwrap();
        fs::rename(at("sedAb3XyZ"), at("note.md")).unwrap();
        thread::sleep(Duration::from_millis(100));
    }
    // Deleted, and made anew after a moment.
    fs::remove_file(at("note.md")).unwrap();
    thread::sleep(Duration::from_millis(300));
    fs::write(at("note.md"), "made anew").unwrap();
    until("it is sent", || has(&world, "note.md", "made anew"));
    let sent = version(&world) - before;
    assert!(sent <= 4, "{sent} versions of 41 savings");
    assert_eq!(texts(&world).keys().collect::<Vec<_>>(), ["first sign.md", "note.md", "sign.md"]);
    assert_eq!(follower.end(), 0);
}

#[test]
fn half_written_files_wait_until_they_are_whole() {
    let world = World::new();
    let follower = Running::follower(&world);
    let at = |name: &str| world.path(&format!("notes/{name}"));
    let before = version(&world);
    {
        let mut log = fs::File::create(at("log.md")).unwrap();
        for _ in 0..6 {
            log.write_all(&vec![b'x'; 1 << 20]).unwrap();
            thread::sleep(Duration::from_secs(1));
            assert!(!texts(&world).contains_key("log.md"), "it is being written");
        }
    }
    until("it is sent", || texts(&world).get("log.md").is_some_and(|text| text.len() == 6 << 20));
    assert_eq!(version(&world) - before, 1);
    // Truncated, and written after a moment.
    put(&at("note.md"), &"a whole note\n".repeat(50));
    until("it is sent", || texts(&world).contains_key("note.md"));
    thread::sleep(Duration::from_millis(2500));
    let before = version(&world);
    fs::write(at("note.md"), "").unwrap();
    thread::sleep(Duration::from_millis(50));
    let whole = "a longer note\n".repeat(60);
    fs::write(at("note.md"), &whole).unwrap();
    until("it is sent", || has(&world, "note.md", &whole));
    assert_eq!(version(&world) - before, 1, "never the empty one");
    assert_eq!(follower.end(), 0);
}

#[test]
fn another_branch_and_back_after_a_moment_is_no_change() {
    let world = World::new();
    for number in 0..800 {
        put(&world.path(&format!("notes/tree/{number}.md")), &format!("note {number}"));
    }
    world.must(&["sync", "Notes", "notes", "--yes"]);
    let follower = Running::follower(&world);
    let before = version(&world);
    let at = |number: usize| world.path(&format!("notes/tree/{number}.md"));
    for number in 0..700 {
        fs::write(at(number), format!("of the other branch {number}")).unwrap();
    }
    for number in 700..800 {
        fs::remove_file(at(number)).unwrap();
    }
    thread::sleep(Duration::from_millis(500));
    for number in 0..800 {
        put(&at(number), &format!("note {number}"));
    }
    thread::sleep(Duration::from_secs(4));
    // The first of a storm may go before anybody knows of the others; nothing is deleted.
    let sent = version(&world) - before;
    assert!(sent < 800, "{sent}");
    until("all are as they were", || {
        let texts = texts(&world);
        (0..800).all(|number| texts.get(&format!("tree/{number}.md")) == Some(&format!("note {number}")))
    });
    assert_eq!(follower.end(), 0);
}

#[test]
fn stopped_midway_a_push_ends_soon_and_the_next_one_sends_all_of_it_once() {
    let world = World::new();
    put(&world.path("notes/a.md"), "a");
    world.must(&["sync", "Notes", "notes", "--yes"]);
    let before = version(&world);
    put(&world.path("notes/large.bin"), &"0123456789".repeat(10 << 20));
    world.server.faults().update(|faults| faults.service_time = Duration::from_millis(100));
    let running = Running::start(&world, &["sync", "Notes", "notes"]);
    world.runtime.block_on(async {
        let asked = world.server.wait_for(|stats| stats.changes_requested >= 2);
        tokio::time::timeout(LIMIT, asked).await.unwrap();
    });
    // A second one is one too many.
    world.run(&["sync", "Notes", "notes"]).expect(7);
    let begun = Instant::now();
    running.end();
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
    world.server.faults().clear();
    world.must(&["sync", "Notes", "notes"]);
    assert_eq!(version(&world) - before, 1);
    assert!(world.differences("Notes", "notes").is_empty());
}

#[test]
fn asleep_while_both_sides_change_and_the_connection_goes_it_is_exact_afterwards() {
    let world = World::new();
    let follower = Running::follower(&world);
    put(&world.path("notes/note.md"), "a\nb\nc\n");
    put(&world.path("notes/gone.md"), "gone");
    until("they are sent", || texts(&world).contains_key("note.md") && texts(&world).contains_key("gone.md"));
    follower.signal(Signal::STOP);
    world.vault("Notes").write("note.md", "a\nb\nC\n", NOON).unwrap();
    world.vault("Notes").write("new.md", "new", NOON).unwrap();
    put(&world.path("notes/note.md"), "A\nb\nc\n");
    put(&world.path("notes/mine.md"), "mine");
    fs::remove_file(world.path("notes/gone.md")).unwrap();
    world.server.disconnect_all();
    thread::sleep(Duration::from_secs(2));
    follower.signal(Signal::CONT);
    until("both are merged", || has(&world, "note.md", "A\nb\nC\n"));
    until("it is sent", || has(&world, "mine.md", "mine") && !texts(&world).contains_key("gone.md"));
    until("it is here", || fs::read_to_string(world.path("notes/new.md")).is_ok_and(|text| text == "new"));
    assert_eq!(follower.end(), 0);
    assert!(world.differences("Notes", "notes").is_empty());
}

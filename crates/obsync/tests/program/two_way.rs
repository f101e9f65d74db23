//! Features of two-way sync: the log, mirrors, the device's name, and the check of the service.

use std::fs;
use std::io::{BufRead, BufReader};
use std::process::Stdio;
use std::time::{Duration, Instant};

use obsync_testkit::{Chance, Faults};
use rustix::process::{Pid, Signal, kill_process};

use crate::json::start;
use crate::monitor::Follower;
use crate::world::{World, put, ran};

const NOON: i64 = 1_767_268_800_000;

fn in_step() -> World {
    let world = World::new();
    world.vault("Notes").write("a.md", "a", NOON).unwrap();
    world.must(&["sync", "Notes", "notes", "--yes", "--device-name", "laptop"]);
    world
}

fn sync(world: &World) {
    world.must(&["sync", "Notes", "notes", "--yes", "--device-name", "laptop"]);
}

#[test]
fn the_log_shows_what_was_changed_by_whom_the_newest_first() {
    let world = in_step();
    assert_eq!(world.must(&["log", "notes"]).stdout, "No changes are recorded.\n");
    world.vault("Notes").as_device("phone").write("a.md", "edited there", NOON + 1).unwrap();
    sync(&world);
    put(&world.path("notes/b.md"), "new here");
    sync(&world);
    let log = world.must(&["log", "notes"]).stdout;
    let lines: Vec<&str> = log.lines().collect();
    assert_eq!(lines.len(), 3, "{log}");
    assert!(lines[1].contains("vault") && lines[1].contains("laptop") && lines[1].ends_with("b.md"), "{log}");
    assert!(lines[2].contains("here") && lines[2].contains("1 -> 2") && lines[2].contains("phone"), "{log}");
    let document = world.must(&["log", "notes", "a.md", "--json"]).json();
    let [entry] = &document["entries"].as_array().unwrap()[..] else { panic!("{document:#}") };
    assert_eq!(
        (&entry["side"], &entry["change"], &entry["device"]),
        (&"here".into(), &"write".into(), &"phone".into())
    );
    assert_eq!((&entry["base"], &entry["version"]), (&1.into(), &2.into()), "{entry:#}");
    assert_eq!(world.must(&["log", "notes", "--limit", "1"]).stdout.lines().count(), 2);
    world.run(&["log", "nowhere"]).expect(4);
}

#[test]
fn conflicted_copies_and_reports_name_the_device() {
    let world = in_step();
    put(&world.path("notes/a.md"), "mine");
    world.vault("Notes").write("a.md", "theirs", NOON + 1).unwrap();
    let report =
        world.must(&["sync", "Notes", "notes", "--yes", "--device-name", "Ada's laptop", "--json"]).json();
    assert_eq!(report["device"], "Ada's laptop", "{report:#}");
    let kept_as = report["conflicts"][0]["kept_as"].as_str().unwrap();
    assert!(kept_as.starts_with("a (Conflicted copy Ada's laptop 2"), "{kept_as}");
    let differences = world.differences("Notes", "notes");
    assert!(differences.iter().all(|line| line.contains("\".obsync")), "{differences:#?}");
}

#[test]
fn what_a_sync_replaces_merges_and_removes_here_is_in_the_trash() {
    let world = World::new();
    let vault = world.vault("Notes");
    for (path, text) in
        [("gone.md", "gone"), ("merged.md", "1\n2\n3\n"), ("replaced.md", "old"), ("stays.md", "s")]
    {
        vault.write(path, text, NOON).unwrap();
    }
    world.must(&["sync", "Notes", "notes", "--yes"]);
    vault.delete("gone.md").unwrap();
    vault.write("merged.md", "1 there\n2\n3\n", NOON + 1).unwrap();
    vault.write("replaced.md", "new", NOON + 1).unwrap();
    put(&world.path("notes/merged.md"), "1\n2\n3 here\n");
    world.must(&["sync", "Notes", "notes", "--yes"]);
    assert_eq!(fs::read_to_string(world.path("notes/merged.md")).unwrap(), "1 there\n2\n3 here\n");
    let mut texts: Vec<String> =
        world.files("notes/.obsync/trash").into_iter().map(|(_, text)| text).collect();
    texts.sort();
    assert_eq!(texts, ["1\n2\n3 here\n", "gone", "old"]);
}

/// A running follower: a change of the vault has arrived.
fn follower(world: &World, options: &[&str]) -> std::process::Child {
    // Watched before its first scan.
    fs::create_dir_all(world.path("notes")).unwrap();
    let args = [&["sync", "Notes", "notes", "--yes", "--follow", "--quiet"], options].concat();
    let follower = start(world, &args).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    world.vault("Notes").write("begin.md", "begun", NOON).unwrap();
    until("the follower is at work", || world.path("notes/begin.md").exists());
    follower
}

pub(crate) fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !is_so() {
        assert!(begun.elapsed() < Duration::from_secs(60), "never: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn what_is_edited_again_and_again_waits_as_long_as_it_is_to() {
    let world = World::new();
    let follower = follower(&world, &["--quiet-for", "1h"]);
    let text = |name: &str| {
        let contents = world.vault("Notes").contents().unwrap();
        contents.get(name).map(|content| String::from_utf8(content.clone()).unwrap()).unwrap_or_default()
    };
    put(&world.path("notes/log.md"), "first");
    until("what was calm goes at once", || text("log.md") == "first");
    // Later changes in the same folder are reported after it.
    put(&world.path("notes/next.md"), "next");
    until("it goes on", || text("next.md") == "next");
    // A run that scans twice is over by then.
    std::thread::sleep(Duration::from_secs(4));
    for edit in 0..10 {
        put(&world.path("notes/log.md"), &format!("edit {edit}"));
        std::thread::sleep(Duration::from_millis(100));
    }
    // Longer than the default delay of an edit (2 s).
    std::thread::sleep(Duration::from_secs(4));
    assert_eq!(text("log.md"), "first");
    kill_process(Pid::from_child(&follower), Signal::TERM).unwrap();
    let mut follower = follower;
    assert_eq!(follower.wait().unwrap().code(), Some(0));
    // A full run does not wait.
    world.must(&["sync", "Notes", "notes", "--yes"]);
    assert_eq!(text("log.md"), "edit 9");
}

#[test]
fn a_mirror_takes_local_changes_back_into_the_trash() {
    let world = World::new();
    for n in 0..5 {
        world.vault("Notes").write(&format!("{n}.md"), "text", NOON).unwrap();
    }
    world.must(&["pull", "Notes", "notes"]);
    put(&world.path("notes/1.md"), "mine");
    put(&world.path("notes/added.md"), "added");
    fs::remove_file(world.path("notes/2.md")).unwrap();
    let plan = world.must(&["pull", "Notes", "notes", "--mirror", "--dry-run"]).stdout;
    assert!(plan.contains("Would be reverted") && plan.contains("added.md"), "{plan}");
    assert!(plan.contains("revert 2 files") && !plan.contains("change nothing"), "{plan}");
    let told = world.must(&["pull", "Notes", "notes", "--mirror"]).stdout;
    assert!(told.contains("Reverted, as they were changed or added here: 2 files"), "{told}");
    let differences = world.differences("Notes", "notes");
    assert!(differences.iter().all(|line| line.contains("\".obsync")), "{differences:#?}");
    assert!(fs::read_dir(world.path("notes/.obsync/trash")).unwrap().next().is_some());
    world.run(&["pull", "Notes", "s3://bucket/notes", "--mirror"]).expect(2);
}

#[test]
fn a_scratch_vault_goes_also_when_the_check_is_stopped_right_after_it_was_made() {
    let world = World::new();
    let before = world.server.vaults().len();
    world.must(&["vaults"]);
    // The list requested before the creation of the vault is answered, the next one is not.
    let hang = Chance::always().after(1);
    world.server.faults().set(Faults {
        rest_hang: hang,
        rest_path: Some("/vault/list".to_owned()),
        ..Faults::default()
    });
    let check = start(&world, &["check-service", "--yes", "--json"]).stdout(Stdio::piped()).spawn().unwrap();
    world.runtime.block_on(async {
        let made = async {
            while world.server.vaults().len() == before {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(60), made).await.unwrap();
    });
    kill_process(Pid::from_child(&check), Signal::INT).unwrap();
    let ended = check.wait_with_output().unwrap();
    assert_eq!(ended.status.code(), Some(6), "{ended:?}");
    assert_eq!(world.server.vaults().len(), before);
}

#[test]
fn what_sync_rests_on_is_found_out_on_a_scratch_vault_that_goes_again() {
    let world = World::new();
    let before = world.server.vaults().len();
    let document = world.must(&["check-service", "--yes", "--json"]).json();
    let facts = document["facts"].as_array().unwrap();
    assert_eq!(facts.len(), 11, "{document:#}");
    assert!(
        facts.iter().all(|fact| fact["finding"] == "as_expected" || fact["name"] == "rename"),
        "{document:#}"
    );
    assert_eq!(world.server.vaults().len(), before);
    let told = world.must(&["check-service", "--yes", "--keep"]).stdout;
    assert!(
        told.contains("Everything that two-way sync depends on is as expected.")
            && told.contains("still there")
    );
    assert_eq!(world.server.vaults().len(), before + 1);
    // Without a person there is no question.
    world.run(&["check-service"]).expect(2);
}

#[test]
fn a_service_that_is_not_as_expected_is_no_failure_that_a_repetition_resolves() {
    let world = World::new();
    world.server.faults().set("refuse-pull=always".parse().unwrap());
    let checked = world.run(&["check-service", "--yes", "--json"]).expect(5).json();
    assert_eq!(
        (&checked["outcome"], &checked["error"]["code"], &checked["error"]["retryable"]),
        (&"failures".into(), &"failures".into(), &false.into()),
        "{checked:#}"
    );
}

#[test]
fn with_v_a_sync_names_what_the_vault_gets_and_loses() {
    let world = in_step();
    put(&world.path("notes/b.md"), "goes later");
    sync(&world);
    put(&world.path("notes/new.md"), "new");
    fs::remove_file(world.path("notes/b.md")).unwrap();
    let args = ["sync", "Notes", "notes", "--yes", "-v", "--max-delete-in-vault", "none"];
    let said = world.must(&args).stderr;
    assert!(said.contains("sent new.md\n") && said.contains("deleted in the vault b.md\n"), "{said}");
}

#[test]
fn a_follower_tells_once_that_a_file_is_refused_and_status_says_when_it_goes_again() {
    let world = World::new();
    let vault = world.vault("Notes");
    vault.write("there.md", "there", 1_700_000_000_000).unwrap();
    world.must(&["sync", "Notes", "notes", "--yes"]);
    world.server.faults().update(|faults: &mut Faults| faults.vault_full = Chance::always());
    let follower = Follower::start(&world, &["sync", "Notes", "notes", "--yes"], &[]);
    follower.until("/readyz", 200);
    put(&world.path("notes/refused.md"), "refused");
    let until = |what: &str, is_so: &dyn Fn() -> bool| {
        let begun = Instant::now();
        while !is_so() {
            assert!(begun.elapsed() < Duration::from_secs(60), "{what}");
            std::thread::sleep(Duration::from_millis(50));
        }
    };
    let waiting = || world.must(&["status", "notes", "--json"]).json()["destinations"][0]["waiting"].clone();
    until("it is not refused", &|| waiting()[0]["path"] == "refused.md");
    for number in 0..2 {
        let name = format!("new {number}.md");
        vault.write(&name, "new", 1_700_000_000_000).unwrap();
        until("nothing comes", &|| world.path("notes").join(&name).exists());
    }
    let reason = waiting()[0]["reason"].as_str().unwrap().to_owned();
    let moment =
        reason.split("; a follower sends it again after ").nth(1).unwrap_or_else(|| panic!("{reason}"));
    let moment: jiff::Timestamp = moment[.."2026-01-01T12:00:00Z".len()].parse().unwrap();
    let told = ran(world.command(&["status", "notes"]).env("TZ", "<+0530>-05:30")).expect(0).stdout;
    let zone = jiff::tz::TimeZone::fixed(jiff::tz::Offset::from_seconds(19_800).unwrap());
    let local = moment.to_zoned(zone).strftime("%Y-%m-%d %H:%M:%S").to_string();
    assert!(
        told.contains(&format!("; a follower sends it again after {local}, any other run at once")),
        "{told}"
    );
    assert_eq!(world.server.stats().changes_requested, 1);
    let (code, told) = follower.stop();
    assert_eq!((code, told.matches("refused.md").count()), (0, 1), "{told}");
}

/// The lines that a follower prints until one has this exit status, parsed as JSON; then it is ended.
fn lines_until(mut follower: std::process::Child, exit_code: u64) -> Vec<serde_json::Value> {
    let (sender, lines) = std::sync::mpsc::channel();
    let stdout = BufReader::new(follower.stdout.take().unwrap());
    std::thread::spawn(move || {
        stdout.lines().map_while(Result::ok).for_each(|line| drop(sender.send(line)));
    });
    let mut all: Vec<serde_json::Value> = Vec::new();
    while all.last().is_none_or(|line| line["exit_code"] != exit_code) {
        let line = lines.recv_timeout(Duration::from_secs(60));
        let line = line.unwrap_or_else(|error| panic!("{error}, after {all:#?}"));
        all.push(serde_json::from_str(&line).unwrap());
    }
    kill_process(Pid::from_child(&follower), Signal::TERM).unwrap();
    assert_eq!(follower.wait().unwrap().code(), Some(0));
    all
}

#[test]
fn a_follower_prints_a_line_for_each_run_that_holds_deletions_back() {
    for is_local in [true, false] {
        let world = World::new();
        for number in 0..30 {
            world.vault("Notes").write(&format!("{number}.md"), format!("note {number}"), NOON).unwrap();
        }
        world.must(&["sync", "Notes", "notes", "--yes"]);
        let args = ["sync", "Notes", "notes", "--yes", "--follow", "--json"];
        let follower = start(&world, &args).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        world.vault("Notes").write("begin.md", "begun", NOON).unwrap();
        until("the follower is at work", || world.path("notes/begin.md").exists());
        for number in 0..25 {
            let name = format!("{number}.md");
            match is_local {
                true => fs::remove_file(world.path("notes").join(&name)).unwrap(),
                false => drop(world.vault("Notes").delete(&name).unwrap()),
            }
        }
        let lines = lines_until(follower, 9);
        let last = lines.last().unwrap();
        assert_eq!(
            (&last["outcome"], &last["error"]["code"]),
            (&"held_back".into(), &"held_back".into()),
            "{last:#}"
        );
    }
}

#[test]
fn a_sync_that_begins_while_another_ends_gets_the_folder_when_nothing_of_that_goes_on() {
    let world = World::new();
    let sync = ["sync", "Notes", "notes", "--yes"];
    let vault = world.vault("Notes");
    vault.write("there.md", "there", 1_700_000_000_000).unwrap();
    world.must(&sync);
    for number in 0..200 {
        put(&world.path(&format!("notes/{number}.md")), &format!("note {number}"));
    }
    world.server.faults().update(|faults: &mut Faults| faults.service_time = Duration::from_millis(10));
    let mut first = start(&world, &sync).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    world.runtime.block_on(world.server.wait_for(|stats| stats.pushes >= 20));
    kill_process(Pid::from_child(&first), Signal::TERM).unwrap();
    let second = loop {
        let second = world.run(&sync);
        // It still has the folder.
        if second.code != 7 {
            break second.expect(0);
        }
    };
    let pushes = world.server.stats().pushes;
    assert_eq!(first.wait().unwrap().code(), Some(6), "{}", second.stdout);
    assert_eq!((pushes, world.server.stats().pushes), (200, 200), "nothing is sent twice, or afterwards");
    assert_eq!(world.differences("Notes", "notes"), [""; 0]);
}

#[test]
fn vaults_and_reset_know_what_the_last_run_left_to_be_sent() {
    let world = World::new();
    let vault = world.vault("Notes");
    for number in 0..20 {
        vault.write(&format!("{number}.md"), "text", 1_700_000_000_000).unwrap();
    }
    let sync = ["sync", "Notes", "notes", "--yes"];
    world.must(&sync);
    let synced_with = || {
        let vaults = world.must(&["vaults"]).stdout;
        // Its path sorts first.
        let line = vaults.lines().skip_while(|line| *line != "Notes is synced with").nth(2);
        line.unwrap_or_else(|| panic!("{vaults}")).to_owned()
    };
    assert_eq!(synced_with(), "    both ways");
    world.server.faults().update(|faults: &mut Faults| faults.vault_full = Chance::always());
    put(&world.path("notes/refused.md"), "refused");
    world.run(&sync).expect(5);
    assert_eq!(synced_with(), "    both ways; 1 change waits to be sent");
    world.server.faults().clear();
    for number in 0..15 {
        fs::remove_file(world.path(&format!("notes/{number}.md"))).unwrap();
    }
    world.run(&sync).expect(9);
    assert_eq!(synced_with(), "    both ways; 15 changes wait to be sent");
    let forgotten = world.must(&["reset", "notes", "--yes"]).stdout;
    let told = "15 deletions here waited to be confirmed: each of those files comes back.";
    assert!(forgotten.contains(told), "{forgotten}");
    world.must(&sync);
    assert_eq!(world.files("notes").len(), 21);
    assert_eq!(vault.contents().unwrap().len(), 21);
}

#[test]
fn the_first_run_that_sends_is_not_begun_where_there_is_nobody_to_ask() {
    let world = World::new();
    put(&world.path("notes/here.md"), "here");
    for command in ["sync", "push"] {
        for more in [&[][..], &["--json"], &["--quiet"]] {
            let args = [&[command, "Notes", "notes"], more].concat();
            let refused = world.run(&args).expect(2).stderr;
            assert!(refused.contains("confirmation is required to send from notes"), "{refused}");
            assert!(refused.contains("give --yes"), "{refused}");
        }
        assert!(world.vault("Notes").contents().unwrap().is_empty());
    }
    world.must(&["sync", "Notes", "notes", "--yes"]);
    world.must(&["sync", "Notes", "notes"]);
}

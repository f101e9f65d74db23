//! The output of `verify`, `status` and a dry run is true: after an interrupted pull, a failed one, and
//! beside others.

use std::fs;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use obsync_testkit::{Chance, Faults, VaultSpec};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

use crate::json::{check, ended, start};
use crate::monitor::Follower;
use crate::world::{EMAIL, PASSWORD, VAULT_PASSWORD, World, put, ran};

const NOON: i64 = 1_767_268_800_000;
const FILES: usize = 2000;

fn filled() -> World {
    let world = World::new();
    for number in 0..FILES {
        world
            .vault("Notes")
            .write(&format!("{}/{number}.md", number % 20), format!("note {number}"), NOON)
            .unwrap();
    }
    world
}

/// Begins a pull, and waits until a part of the vault has arrived.
fn begin_slowly(world: &World, command: &str) -> Child {
    world.server.faults().set(Faults { latency: Duration::from_millis(2), ..Faults::default() });
    let answered = world.server.stats().pulls_answered;
    let pull = Command::new(env!("CARGO_BIN_EXE_obsync"))
        .args([command, "Notes", "notes", "--quiet", "--connections", "1"])
        .current_dir(world.path(""))
        .env_clear()
        .env("OBSYNC_HOME", world.home())
        .env("OBSYNC_API_URL", world.server.url())
        .env("OBSIDIAN_EMAIL", EMAIL)
        .env("OBSIDIAN_PASSWORD", PASSWORD)
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    world.runtime.block_on(async {
        let some = world.server.wait_for(|stats| stats.pulls_answered >= answered + 700);
        tokio::time::timeout(Duration::from_secs(60), some).await.unwrap();
    });
    pull
}

/// Ends a pull or a sync by a signal when a part of the vault has arrived.
fn cut_off(world: &World, command: &str, signal: Signal) {
    let mut pull = begin_slowly(world, command);
    kill_process(Pid::from_child(&pull), signal).unwrap();
    pull.wait().unwrap();
    world.server.faults().clear();
}

#[test]
fn after_a_first_pull_that_was_interrupted_verify_does_not_say_that_all_is_well() {
    for signal in [Signal::INT, Signal::KILL] {
        let world = filled();
        cut_off(&world, "pull", signal);
        let verified = world.run(&["verify", "notes", "--json"]).expect(5).json();
        assert_eq!(
            (&verified["clean"], &verified["unfinished"][0]),
            (&json!(false), &json!("first_pull")),
            "{verified:#}"
        );
        assert_eq!(verified["extra"], json!([]), "what a killed run left is called that: {verified:#}");
        assert_eq!(verified["commands"], json!([world.with_id("obsync pull Notes notes")]));
        assert_eq!(verified["error"]["code"], "unfinished");
        let text = world.run(&["verify", "notes"]).expect(5);
        assert!(!text.stdout.contains("All is well"), "{}", text.stdout);
        assert!(
            text.stdout.contains("Not the whole vault: the first pull did not finish."),
            "{}",
            text.stdout
        );
        assert!(
            text.stdout
                .contains(&world.with_id("`obsync pull Notes notes` continues where the last pull stopped.")),
            "{}",
            text.stdout
        );
        let status = world.must(&["status", "notes"]).stdout;
        let word = if signal == Signal::INT {
            "last run   interrupted"
        } else {
            "unfinished the first pull is not complete"
        };
        assert!(status.contains(word), "{status}");
        world.must(&["pull", "Notes", "notes"]);
        assert!(world.must(&["verify", "notes"]).stdout.starts_with("All is well: 2,000 files"));
    }
}

/// A complete pull or sync, and then half of one with many changes.
fn cut_off_later(command: &[&str], signal: Signal) -> World {
    let world = filled();
    world.must(command);
    for number in 0..FILES {
        world
            .vault("Notes")
            .write(&format!("{}/{number}.md", number % 20), format!("new {number}"), NOON)
            .unwrap();
    }
    cut_off(&world, command[0], signal);
    world
}

#[test]
fn after_a_later_pull_that_was_interrupted_or_killed_verify_says_so_until_one_is_complete() {
    for signal in [Signal::INT, Signal::KILL] {
        let world = cut_off_later(&["pull", "Notes", "notes"], signal);
        let unfinished = || {
            let verified = world.run(&["verify", "notes", "--json"]).expect(5).json();
            assert_eq!(verified["clean"], false, "{verified:#}");
            verified["unfinished"].clone()
        };
        let cut_off = unfinished();
        let is_known = cut_off == json!(["interrupted"]) || cut_off == json!(["killed"]);
        assert!(is_known, "after {signal:?}: {cut_off}");
        let mut away = world.command(&["pull", "Notes", "notes", "--timeout", "1"]);
        ran(away
            .env("OBSYNC_API_URL", "http://127.0.0.1:1/")
            .env("OBSIDIAN_AUTH_TOKEN", "a-token-of-nobody"))
        .expect(8);
        assert_eq!(unfinished(), cut_off, "a run that cannot begin mends nothing, after {signal:?}");
        world.must(&["pull", "Notes", "notes"]);
        world.must(&["verify", "notes"]);
    }
}

#[test]
fn a_push_does_not_make_good_a_sync_that_was_cut_off_while_it_brought_changes() {
    let sync = ["sync", "Notes", "notes", "--yes"];
    let world = cut_off_later(&sync, Signal::INT);
    let unfinished = || world.run(&["verify", "notes", "--json"]).expect(5).json()["unfinished"].clone();
    assert_ne!(unfinished(), json!([]));
    world.must(&["push", "Notes", "notes", "--yes"]);
    assert_ne!(unfinished(), json!([]));
    let commands = world.run(&["verify", "notes", "--json"]).expect(5).json()["commands"].clone();
    let sync_again = world.with_id("obsync sync Notes notes");
    assert_eq!(commands[0], sync_again.as_str(), "a push does not continue it: {commands:#}");
    world.must(&sync);
    world.must(&["verify", "notes"]);
}

#[test]
fn of_a_synced_folder_verify_names_what_sends_before_what_takes_it_back() {
    let world = World::new();
    for path in ["Edited.md", "Gone.md", "Other.md"] {
        world.vault("Notes").write(path, path, NOON).unwrap();
    }
    let sync = ["sync", "Notes", "notes", "--yes"];
    world.must(&sync);
    put(&world.path("notes/Mine.md"), "of mine");
    let verify = || world.run(&["verify", "notes", "--json"]).expect(5).json();
    let verified = verify();
    assert_eq!(verified["commands"], json!([world.with_id("obsync sync Notes notes")]), "{verified:#}");
    put(&world.path("notes/Edited.md"), "edited here");
    fs::remove_file(world.path("notes/Gone.md")).unwrap();
    let verified = verify();
    let commands =
        json!([world.with_id("obsync sync Notes notes"), world.with_id("obsync pull Notes notes --full")]);
    assert_eq!(verified["commands"], commands, "{verified:#}");
    let hint = verified["error"]["hint"].as_str().unwrap();
    let [sync_again, full] = [0, 1].map(|at| verified["commands"][at].as_str().unwrap());
    let both = format!("`{sync_again}` sends local changes, `{full}` restores the vault's files");
    assert!(hint.starts_with(&both), "{hint}");
    let told = world.run(&["verify", "notes"]).expect(5).stdout;
    for words in [
        "` sends local changes, additions and deletions to the vault.",
        "--full` restores the vault's files instead,",
    ] {
        assert!(told.contains(words), "{told}");
    }
    world.must(&sync);
    world.must(&["verify", "notes"]);
    assert_eq!(world.vault("Notes").contents().unwrap()["Edited.md"], b"edited here");
    // A missing folder proves nothing about anybody's deletions.
    fs::remove_dir_all(world.path("notes")).unwrap();
    assert_eq!(verify()["commands"], json!([world.with_id("obsync pull Notes notes --full")]));
}

#[test]
fn verify_does_not_name_a_sync_for_files_that_no_sync_sends() {
    let world = World::new();
    world.vault("Notes").write("Note.md", "text", NOON).unwrap();
    let sync = ["sync", "Notes", "notes", "--yes"];
    world.must(&sync);
    for name in ["bad:name.md", "two\nlines.md"] {
        put(&world.path("notes").join(name), "of mine");
    }
    std::os::unix::fs::symlink("Note.md", world.path("notes/link.md")).unwrap();
    let verify = || world.run(&["verify", "notes", "--json"]).expect(5).json();
    let verified = verify();
    assert_eq!((&verified["commands"], verified["extra"].as_array().unwrap().len()), (&json!([]), 3));
    let hint = verified["error"]["hint"].as_str().unwrap();
    assert!(hint.starts_with("rename or remove the files that are not of the vault"), "{hint}");
    let told = world.run(&["verify", "notes"]).expect(5).stdout;
    let reason = "Never sent, as the vault cannot have links or such names: 3 files\n";
    assert!(told.contains(reason) && !told.contains("obsync sync"), "{told}");
    put(&world.path("notes/Mine.md"), "of mine");
    assert_eq!(verify()["commands"], json!([world.with_id("obsync sync Notes notes")]));
    world.must(&sync);
    assert_eq!(verify()["extra"].as_array().unwrap().len(), 3, "the others are never sent");
}

#[test]
fn of_a_pulled_folder_verify_names_what_puts_the_files_away_that_are_not_of_the_vault() {
    let world = World::new();
    world.vault("Notes").write("Note.md", "text", NOON).unwrap();
    world.must(&["pull", "Notes", "notes"]);
    put(&world.path("notes/Mine.md"), "of mine");
    let verified = world.run(&["verify", "notes", "--json"]).expect(5).json();
    assert_eq!(
        verified["commands"],
        json!([world.with_id("obsync pull Notes notes --mirror")]),
        "{verified:#}"
    );
    assert_eq!(
        verified["error"]["hint"],
        world.with_id("`obsync pull Notes notes --mirror`, with the other options of your usual run, such as --keep-deleted")
    );
    world.must(&["pull", "Notes", "notes", "--mirror"]);
    world.must(&["verify", "notes"]);
}

#[test]
fn a_dry_run_that_is_stopped_does_not_say_that_nothing_would_change() {
    let world = World::new();
    world.vault("Notes").write("Note.md", "text", NOON).unwrap();
    world.must(&["pull", "Notes", "notes"]);
    world.vault("Notes").write("New.md", "text", NOON).unwrap();
    put(&world.path("notes/Mine.md"), "of mine");
    world.server.faults().update(|faults| faults.set("stall-init=always").unwrap());
    for way in [&["pull"][..], &["pull", "--mirror"], &["sync", "--yes"]] {
        let args = |more: &[&'static str]| [way, &["Notes", "notes", "--dry-run"], more].concat();
        for output in [&[][..], &["--json"]] {
            let contacts = world.server.stats().websocket_connections;
            let run = start(&world, &args(output)).stdout(Stdio::piped()).spawn().unwrap();
            world.runtime.block_on(async {
                let listing = world.server.wait_for(|stats| stats.websocket_connections > contacts);
                tokio::time::timeout(Duration::from_secs(60), listing).await.unwrap();
            });
            kill_process(Pid::from_child(&run), Signal::INT).unwrap();
            let ran = ended(run).expect(6);
            let sentence = "obsync: interrupted; nothing was done, and the plan is not complete\n";
            assert!(ran.stderr.ends_with(sentence), "{way:?}: {}", ran.stderr);
            let is_of_sync = ran.stderr.contains("what the vault has; this one syncs both ways");
            assert_eq!(is_of_sync, way[0] == "sync", "{way:?}: {}", ran.stderr);
            match output.is_empty() {
                true => assert_eq!(ran.stdout, "", "{way:?}"),
                false => assert_eq!(ran.json()["outcome"], "interrupted", "{way:?}"),
            }
        }
        let late = world.run(&args(&["--max-time", "2s"])).expect(6);
        assert_eq!(late.stdout, "", "{way:?}");
        assert!(late.stderr.contains("obsync: stopped after the 2 s of --max-time; "), "{}", late.stderr);
    }
}

#[test]
fn a_dry_run_says_what_would_fail_and_with_q_what_it_found() {
    let world = World::new();
    world.vault("Notes").write("Note.md", "text", NOON).unwrap();
    world.server.faults().update(|faults| faults.set("flood=undecodable:1").unwrap());
    let dry = world.run(&["pull", "Notes", "notes", "--dry-run"]).expect(0);
    assert!(dry.stderr.contains("1 change would fail:\n  "), "{}", dry.stderr);
    assert!(dry.stderr.contains("The run itself would end with exit status 5."), "{}", dry.stderr);
    assert!(!dry.stderr.contains("could not be pulled"), "{}", dry.stderr);
    let quiet = world.run(&["pull", "Notes", "notes", "--dry-run", "-q"]).expect(0);
    assert_eq!(quiet.stdout, dry.stdout);
    world.run(&["pull", "Notes", "notes"]).expect(5);
}

#[test]
fn after_a_pull_with_failures_verify_names_them() {
    let world = World::new();
    world.vault("Notes").write_damaged("Broken.md", "lost").unwrap();
    world.vault("Notes").write("Good.md", "fine", NOON).unwrap();
    world.run(&["pull", "Notes", "notes"]).expect(5);
    let verified = world.run(&["verify", "notes"]).expect(5);
    assert!(verified.stdout.contains("Could not be pulled: 1 change\n  Broken.md: "), "{}", verified.stdout);
    assert!(!verified.stdout.contains("All is well"), "{}", verified.stdout);
    assert!(
        verified.stdout.contains(&world.with_id("`obsync pull Notes notes` tries the failed changes again.")),
        "{verified:?}"
    );
    let verified = check("verify", &world.run(&["verify", "notes", "--json"]), 5);
    assert_eq!((&verified["clean"], &verified["failures"][0]["path"]), (&json!(false), &json!("Broken.md")));
    assert_eq!(verified["commands"], json!([world.with_id("obsync pull Notes notes")]));
}

#[test]
fn of_a_failure_that_no_run_resolves_verify_names_what_accepts_it() {
    let world = World::new();
    // A name that this file system refuses.
    world.vault("Notes").write_hostile_path(&format!("{}.md", "n".repeat(300)), "text").unwrap();
    world.vault("Notes").write("Good.md", "fine", NOON).unwrap();
    world.run(&["pull", "Notes", "notes"]).expect(5);
    let told = world.run(&["verify", "notes"]).expect(5).stdout;
    assert!(told.contains("` accepts what can never be stored here; or rename it in Obsidian"), "{told}");
    assert!(!told.contains("continues where"), "{told}");
    let verified = check("verify", &world.run(&["verify", "notes", "--json"]), 5);
    assert_eq!(verified["lasting_failures"], 1);
    assert_eq!(verified["error"]["retryable"], false);
    let pulled = check("pull", &world.run(&["pull", "Notes", "notes", "--json"]), 5);
    assert_eq!(
        (&pulled["error"]["code"], &pulled["error"]["retryable"]),
        (&json!("failures"), &json!(false))
    );
    let id = format!("such as --keep-deleted. {} is the vault \"Notes\".", world.vault("Notes").id());
    assert!(told.contains(&id), "{told}");
    assert_eq!(verified["commands"], json!([world.with_id("obsync pull Notes notes --accept-failures")]));
    world.must(&["pull", "Notes", "notes", "--accept-failures"]);
    world.must(&["verify", "notes"]);
}

#[test]
fn after_a_push_verify_names_the_sync_that_does_what_a_pull_could_not() {
    let world = World::new();
    let vault = world.vault("Notes");
    vault.write("Good.md", "fine", NOON).unwrap();
    vault.write_damaged("Broken.md", "lost").unwrap();
    world.run(&["pull", "Notes", "notes"]).expect(5);
    let push = ["push", "Notes", "notes", "--yes"];
    world.must(&push);
    let verified = check("verify", &world.run(&["verify", "notes", "--json"]), 5);
    assert_eq!(verified["failures"][0]["path"], "Broken.md", "a push applies nothing here: {verified:#}");
    assert_eq!(verified["commands"], json!([world.with_id("obsync sync Notes notes")]), "{verified:#}");
    let told = world.run(&["verify", "notes"]).expect(5).stdout;
    assert!(
        told.contains("` tries the failed changes again, and applies the vault's changes here"),
        "{told}"
    );
    vault.write("Broken.md", "mended", NOON).unwrap();
    world.must(&["sync", "Notes", "notes", "--yes"]);
    world.must(&["verify", "notes"]);
    // A name that this file system refuses.
    vault.write_hostile_path(&format!("{}.md", "n".repeat(300)), "text").unwrap();
    world.run(&["pull", "Notes", "notes"]).expect(5);
    world.must(&push);
    let verified = check("verify", &world.run(&["verify", "notes", "--json"]), 5);
    assert_eq!(verified["lasting_failures"], 1, "{verified:#}");
    let accept = world.with_id("obsync sync Notes notes --accept-failures");
    assert_eq!(verified["commands"], json!([accept]), "{verified:#}");
    world.must(&["sync", "Notes", "notes", "--yes", "--accept-failures"]);
    world.must(&push);
    world.must(&["verify", "notes"]);
}

#[test]
fn of_deletions_confirmed_before_a_push_verify_names_the_sync_that_makes_them() {
    let world = World::new();
    let vault = world.vault("Notes");
    let names: Vec<String> = (0..20).map(|number| format!("{number:02}.md")).collect();
    names.iter().for_each(|name| vault.write(name, name.as_str(), NOON).map(drop).unwrap());
    world.must(&["pull", "Notes", "notes"]);
    names.iter().for_each(|name| vault.delete(name).map(drop).unwrap());
    world.run(&["pull", "Notes", "notes"]).expect(9);
    world.must(&["confirm", "notes", "--yes"]);
    world.must(&["push", "Notes", "notes", "--yes"]);
    assert_eq!(world.files("notes").len(), 20, "a push deletes nothing here");
    let verified = check("verify", &world.run(&["verify", "notes", "--json"]), 5);
    assert_eq!(verified["error"]["code"], "unfinished", "{verified:#}");
    assert_eq!(verified["confirmed"].as_array().unwrap().len(), 20, "{verified:#}");
    assert_eq!(verified["commands"], json!([world.with_id("obsync sync Notes notes")]), "{verified:#}");
    let told = world.run(&["verify", "notes"]).expect(5).stdout;
    let sentence = "` makes the confirmed deletions, tries what failed again, and applies the vault's changes here, which \
                    a push does not.";
    assert!(told.contains(sentence), "{told}");
    world.must(&["sync", "Notes", "notes", "--yes"]);
    assert!(names.iter().all(|name| !world.path("notes").join(name).exists()));
    world.must(&["verify", "notes"]);
}

#[test]
fn of_deletions_in_the_vault_that_are_confirmed_verify_names_the_push_that_makes_them() {
    let world = World::new();
    let names: Vec<String> = (0..20).map(|number| format!("{number:02}.md")).collect();
    names.iter().for_each(|name| put(&world.path("notes").join(name), name));
    let push = ["push", "Notes", "notes", "--yes"];
    world.must(&push);
    names[..15].iter().for_each(|name| std::fs::remove_file(world.path("notes").join(name)).unwrap());
    world.run(&push).expect(9);
    world.must(&["confirm", "notes", "--yes"]);
    let verified = check("verify", &world.run(&["verify", "notes", "--json"]), 5);
    assert_eq!(verified["confirmed"].as_array().unwrap().len(), 15, "{verified:#}");
    let commands = verified["commands"].as_array().unwrap();
    assert_eq!(commands[0], world.with_id("obsync push Notes notes"), "{verified:#}");
    world.must(&push);
    assert_eq!(world.vault("Notes").expected().unwrap().files.len(), 5);
    world.must(&["verify", "notes"]);
}

#[test]
fn what_a_push_left_alone_is_named_with_what_applies_and_what_replaces_it() {
    let world = World::new();
    put(&world.path("notes/a.md"), "a");
    let push = ["push", "Notes", "notes", "--yes"];
    world.must(&push);
    world.vault("Notes").write("a.md", "theirs", NOON).unwrap();
    let told = world.must(&push).stdout;
    assert!(told.contains("\nLeft alone in the vault: 1 change. `obsync sync` applies"), "{told}");
    let verified = check("verify", &world.run(&["verify", "notes", "--json"]), 5);
    assert_eq!((&verified["clean"], &verified["diverged"]), (&json!(false), &json!(["a.md"])));
    assert_eq!(verified["accepted_failures"], 0);
    let commands =
        json!([world.with_id("obsync sync Notes notes"), world.with_id("obsync push Notes notes --mirror")]);
    assert_eq!(verified["commands"], commands, "{verified:#}");
    let told = world.run(&["verify", "notes"]).expect(5).stdout;
    assert!(told.contains("Changed in the vault, and left alone by a push: 1 change\n  a.md\n"), "{told}");
    assert!(!told.contains("All is well") && !told.contains("Accepted"), "{told}");
    let told = world.must(&["status", "notes"]).stdout;
    assert!(
        told.contains(
            &world.with_id("  diverged   1 change of the vault left alone by a push; `obsync sync Notes ")
        ),
        "{told}"
    );
    assert!(told.contains("replaces them:\n    a.md") && !told.contains("  accepted"), "{told}");
    world.must(&["push", "Notes", "notes", "--mirror", "--yes"]);
    world.must(&["verify", "notes"]);
    assert_eq!(world.differences("Notes", "notes"), [""; 0]);
    assert_eq!(world.files("notes"), [("a.md".to_owned(), "a".to_owned())]);
}

#[test]
fn the_command_that_verify_names_pulls_what_was_chosen_and_keeps_what_was_kept() {
    let world = World::new();
    let vault = world.vault("Notes");
    for path in ["Archive/old ideas/2020.md", "Photo.png", "Gone.md", "Note.md"] {
        vault.write(path, path, NOON).unwrap();
    }
    let usual = [
        "pull",
        "Notes",
        "notes",
        "--exclude",
        "Archive/old ideas",
        "--file-types",
        "none",
        "--keep-deleted",
    ];
    world.must(&usual);
    vault.delete("Gone.md").unwrap();
    world.must(&usual);
    fs::remove_file(world.path("notes/Note.md")).unwrap();
    let verified = world.run(&["verify", "notes", "--json"]).expect(5).json();
    let command = verified["commands"][0].as_str().unwrap();
    assert_eq!(
        command,
        world.with_id(
            "obsync pull Notes notes --full --file-types none --exclude 'Archive/old ideas' --keep-deleted"
        )
    );
    let hint = format!("`{command}`, with the other options of your usual run, such as --keep-deleted");
    assert_eq!(verified["error"]["hint"], hint);
    let words = [
        "pull",
        "Notes",
        "notes",
        "--full",
        "--file-types",
        "none",
        "--exclude",
        "Archive/old ideas",
        "--keep-deleted",
    ];
    world.must(&words);
    let there: Vec<String> = world.files("notes").into_iter().map(|(name, _)| name).collect();
    assert_eq!(there, ["Gone.md", "Note.md"]);
    world.must(&["verify", "notes"]);
}

#[test]
fn every_file_is_listed_by_its_own_name_also_where_something_is_wrong() {
    let world = World::new();
    for path in ["Daily/\u{dc}ber.md", "Other.md", "Gone.md"] {
        world.vault("Notes").write(path, path, NOON).unwrap();
    }
    world.must(&["pull", "Notes", "notes"]);
    let listed = world.must(&["verify", "notes", "--list-files"]).stdout;
    assert!(
        listed.contains("\n  read      Daily/\u{dc}ber.md\n")
            || listed.starts_with("  read      Daily/\u{dc}ber.md\n"),
        "{listed}"
    );
    put(&world.path("notes/Other.md"), "another text");
    fs::remove_file(world.path("notes/Gone.md")).unwrap();
    let listed = world.run(&["verify", "notes", "--list-files"]).expect(5).stdout;
    for line in [
        "  read      Daily/\u{dc}ber.md\n",
        "  read      Other.md (changed)\n",
        "Missing: 1 file\n  Gone.md\n",
    ] {
        assert!(listed.contains(line), "{listed}");
    }
}

#[test]
fn status_says_who_is_at_work_and_not_that_he_was_killed_and_verify_waits_for_him() {
    let world = filled();
    world.must(&["pull", "Notes", "notes"]);
    for number in 0..FILES {
        world
            .vault("Notes")
            .write(&format!("{}/{number}.md", number % 20), format!("new {number}"), NOON)
            .unwrap();
    }
    let mut pull = begin_slowly(&world, "pull");
    let row = world.must(&["status", "notes", "--json"]).json()["destinations"][0].clone();
    world.run(&["verify", "notes"]).expect(7);
    kill_process(Pid::from_child(&pull), Signal::KILL).unwrap();
    pull.wait().unwrap();
    assert_eq!(row["unfinished"], json!([]), "{row:#}");
    assert_eq!(row["last_run"]["outcome"], "running", "{row:#}");
    let process = format!("process {}", pull.id());
    assert!(row["at_work"]["owner"].as_str().unwrap().contains(&process), "{row:#}");
}

#[test]
fn a_run_that_is_kept_out_by_a_follower_with_nothing_to_do_names_it_and_so_does_status() {
    let world = World::new();
    world.vault("Notes").write("Note.md", "text", NOON).unwrap();
    world.must(&["pull", "Notes", "notes"]);
    // It writes nothing to the folder.
    let follower = Follower::start(&world, &["pull", "Notes", "notes"], &[]);
    follower.until("/readyz", 200);
    let process = format!(", process {} since 20", follower.id());
    for line in ["pull Notes notes", "pull Notes notes --json", "reset notes --yes"] {
        let words: Vec<&str> = line.split(' ').collect();
        let kept_out = world.run(&words).expect(7);
        let sentence = "obsync: another obsync is working on notes (held by host ";
        assert!(kept_out.stderr.starts_with(sentence), "{line}: {}", kept_out.stderr);
        assert!(kept_out.stderr.contains(&process), "{line}: {}", kept_out.stderr);
    }
    let row = world.must(&["status", "notes", "--json"]).json()["destinations"][0].clone();
    let owner = row["at_work"]["owner"].as_str().unwrap();
    assert!(owner.ends_with(&format!(", process {}", follower.id())), "{row:#}");
    let since: jiff::Timestamp = row["at_work"]["since"].as_str().unwrap().parse().unwrap();
    let local = since.to_zoned(jiff::tz::TimeZone::fixed(jiff::tz::offset(5)));
    let local = format!("{owner} since {}", local.strftime("%Y-%m-%d %H:%M:%S"));
    for line in ["status notes", "pull Notes notes"] {
        let words: Vec<&str> = line.split(' ').collect();
        let told = ran(world.command(&words).env("TZ", "<+05>-05"));
        assert!(told.stdout.contains(&local) || told.stderr.contains(&local), "{local} in {told:?}");
    }
    assert_eq!(follower.stop().0, 0);
    world.must(&["pull", "Notes", "notes"]);
}

#[test]
fn status_differs_after_a_success_after_nothing_new_and_after_a_failure() {
    let world = World::new();
    world.vault("Notes").write("Good.md", "fine", NOON).unwrap();
    world.must(&["pull", "Notes", "notes"]);
    let row = || world.must(&["status", "notes", "--json"]).json()["destinations"][0].clone();
    let success = row();
    world.must(&["pull", "Notes", "notes"]);
    let nothing_new = row();
    assert_ne!(success["last_check"], nothing_new["last_check"]);
    assert_eq!(success["last_change"], nothing_new["last_change"]);
    for failures in 1..=2 {
        let mut away = world.command(&["pull", "Notes", "notes", "--timeout", "1"]);
        ran(away
            .env("OBSYNC_API_URL", "http://127.0.0.1:1/")
            .env("OBSIDIAN_AUTH_TOKEN", "a-token-of-nobody"))
        .expect(8);
        let failed = row();
        assert_eq!(failed["last_run"]["outcome"], "failed", "{failed:#}");
        assert_eq!(failed["last_run"]["failures_in_a_row"], failures, "{failed:#}");
        assert_eq!(failed["last_run"]["last_error"]["code"], "unreachable", "{failed:#}");
        assert_eq!(failed["last_check"], nothing_new["last_check"]);
    }
    let text = world.must(&["status", "notes"]).stdout;
    assert!(
        text.contains("  last run   failed, ended ") && text.contains("  in a row   2 runs failed"),
        "{text}"
    );
    assert!(text.contains("(unreachable): "), "{text}");
    world.must(&["pull", "Notes", "notes"]);
    let mended = row();
    assert_eq!(
        (&mended["last_run"]["outcome"], &mended["last_run"]["failures_in_a_row"]),
        (&json!("complete"), &json!(0))
    );
    assert_eq!(mended["last_run"]["last_error"]["code"], "unreachable", "it stays the last one");
    let text = world.must(&["status", "notes"]).stdout;
    assert!(text.contains(" (unreachable, resolved since): "), "{text}");
    fs::remove_dir_all(world.path("notes")).unwrap();
    assert_eq!(row()["present"], false);
    assert!(world.must(&["status", "notes"]).stdout.contains("not there  the folder is missing"));
}

#[test]
fn a_dry_run_of_a_full_pull_says_what_the_pull_then_does() {
    let world = filled();
    world.must(&["pull", "Notes", "notes"]);
    fs::remove_file(world.path("notes/7/7.md")).unwrap();
    let said = world.must(&["pull", "Notes", "notes", "--full", "--dry-run"]);
    assert_eq!(
        said.stdout,
        "  download       7/7.md (6 bytes)\nA pull of \"Notes\" to notes would take 1 step: download 1 file (6 bytes).\n"
    );
    let did = world.must(&["pull", "Notes", "notes", "--full", "--json"]).json();
    assert_eq!(did["pulled"], json!({ "files": 1, "bytes": 6 }));
}

#[test]
fn a_folder_left_out_that_the_vault_does_not_have_is_a_warning_with_the_nearest_name() {
    let world = World::new();
    world.vault("Notes").write("Archive/2020.md", "old", NOON).unwrap();
    world.vault("Notes").write("Note.md", "new", NOON).unwrap();
    let pulled = world.must(&["pull", "Notes", "notes", "--exclude", "Archiv"]);
    assert!(
        pulled.stderr.contains("the excluded folder \"Archiv\" is not in the vault, so nothing is left out for it; the nearest name is \"Archive\""),
        "{}",
        pulled.stderr
    );
    let pulled = world.must(&["pull", "Notes", "notes", "--exclude", "Archive"]);
    assert!(!pulled.stderr.contains("excluded folder"), "{}", pulled.stderr);
    let pulled = world.must(&["pull", "Notes", "notes", "--exclude", "Archive", "--exclude", "Receipts"]);
    assert!(
        pulled.stderr.contains("\"Receipts\" is not in the vault") && !pulled.stderr.contains("nearest"),
        "{}",
        pulled.stderr
    );
}

#[test]
fn a_vault_made_anew_and_another_of_the_same_name_are_told_as_what_they_are() {
    let mut world = World::with(|server| server.vault(VaultSpec::managed("Notes")));
    world.vault("Notes").write("Note.md", "text", NOON).unwrap();
    let first = world.vault("Notes").id().clone();
    world.must(&["pull", "Notes", "notes"]);
    world.serve_instead(|server| server.vault(VaultSpec::managed("Notes")));
    world.vault("Notes").write("Note.md", "text", NOON).unwrap();
    let anew = world.run(&["pull", "Notes", "notes"]).expect(1);
    assert!(
        anew.stderr.contains("a new vault of that name") && anew.stderr.contains("obsync reset notes"),
        "{}",
        anew.stderr
    );
    assert_eq!(
        world.run(&["pull", "Notes", "notes", "--json"]).expect(1).json()["error"]["code"],
        "other_vault"
    );

    world.serve_instead(|server| {
        server.vault(VaultSpec::managed("Notes").id(&first)).vault(VaultSpec::managed("Notes"))
    });
    let vaults = world.server.vaults();
    let other = vaults.iter().find(|vault| *vault.id() != first).unwrap().id().to_string();
    let same = world.run(&["pull", &other, "notes"]).expect(1);
    assert!(same.stderr.contains("belongs to another vault of the same name"), "{}", same.stderr);

    world.must(&["pull", &other, "others"]);
    fs::remove_file(world.path("notes/Note.md")).unwrap();
    let verified = world.run(&["verify", "notes", "--json"]).expect(5).json();
    assert_eq!(verified["commands"], json!([format!("obsync pull {first} notes --full")]));
}

#[test]
fn a_vault_made_anew_is_told_before_a_password_is_asked_for_and_before_its_encryption_is_judged() {
    let mut world = World::with(|server| server.vault(VaultSpec::end_to_end("Notes", VAULT_PASSWORD)));
    world.vault("Notes").write("Note.md", "text", NOON).unwrap();
    ran(world.command(&["pull", "Notes", "notes"]).env("OBSYNC_VAULT_PASSWORD", VAULT_PASSWORD)).expect(0);
    // One needs a password that nobody gives, the other has weaker encryption than the vault of that name
    // had.
    for anew in [VaultSpec::end_to_end("Notes", "another-s3cret"), VaultSpec::managed("Notes")] {
        world.serve_instead(|server| server.vault(anew));
        let refused = world.run(&["pull", "Notes", "notes", "--json"]).expect(1);
        assert_eq!(refused.json()["error"]["code"], "other_vault", "{refused:?}");
        assert!(refused.stderr.contains("a new vault of that name"), "{refused:?}");
        assert_eq!(world.server.stats().rest_by_path.get("/vault/access"), None, "nothing was sent");
    }
    // It does not circumvent the pin.
    world.must(&["reset", "notes", "--yes"]);
    let refused = world.run(&["pull", "Notes", "notes", "--json"]).expect(3);
    assert_eq!(refused.json()["error"]["code"], "encryption_changed", "{refused:?}");
}

#[test]
fn a_destination_inside_another_is_told_as_what_it_is() {
    let world =
        World::with(|server| server.vault(VaultSpec::managed("Notes")).vault(VaultSpec::managed("Work")));
    world.vault("Notes").write("Note.md", "text", NOON).unwrap();
    world.vault("Work").write("Task.md", "text", NOON).unwrap();
    world.vault("Work").write(".obsidian/app.json", "{}", NOON).unwrap();
    world.must(&["pull", "Notes", "notes"]);
    let inner = world.must(&["pull", "Work", "notes/work"]);
    assert!(inner.stderr.contains("is around this destination"), "{}", inner.stderr);
    let verified = world.must(&["verify", "notes"]);
    assert!(verified.stdout.contains("Another destination, not checked: "), "{}", verified.stdout);
    assert!(verified.stdout.contains("/notes/work (2 files of the vault \"Work\")"), "{}", verified.stdout);
    let verified = world.must(&["verify", "notes", "--json"]).json();
    let counted = (&verified["extra"], &verified["nested"][0]["files"], &verified["never_synced"]);
    assert_eq!(counted, (&json!([]), &json!(2), &json!(0)), "configuration is its own, too: {verified:#}");
    // Other files do not belong to it.
    put(&world.path("notes/mine.md"), "of mine");
    assert_eq!(world.run(&["verify", "notes", "--json"]).expect(5).json()["extra"], json!(["mine.md"]));
}

#[test]
fn status_shows_each_run_of_a_follower_and_that_it_is_at_work() {
    let world = World::new();
    world.vault("Notes").write("Note.md", "text", NOON).unwrap();
    let follower = Follower::start(&world, &["pull", "Notes", "notes", "--timeout", "1"], &[]);
    let row = || world.run(&["status", "notes", "--json"]).json()["destinations"][0].clone();
    let until = |what: &str, is_so: &dyn Fn(&Value) -> bool| {
        let begun = Instant::now();
        loop {
            let row = row();
            if is_so(&row) {
                return;
            }
            assert!(begun.elapsed() < Duration::from_secs(60), "{what}: {row:#}");
            thread::sleep(Duration::from_millis(100));
        }
    };
    until("the first run is not noted", &|row| row["last_run"]["outcome"] == "complete");
    assert!(row()["at_work"].is_object(), "it waits: {:#}", row());
    world.server.faults().update(|faults| faults.refuse_upgrade = Chance::always());
    follower.signal(Signal::HUP);
    until("failures are not counted", &|row| row["last_run"]["failures_in_a_row"].as_u64() >= Some(2));
    assert!(row()["last_run"]["last_error"].is_object(), "{:#}", row());
    world.server.faults().clear();
    follower.signal(Signal::HUP);
    until("it is not mended", &|row| {
        row["last_run"]["outcome"] == "complete" && row["last_run"]["failures_in_a_row"] == 0
    });
    assert_eq!(follower.stop().0, 0);
    assert_eq!(row()["at_work"], Value::Null);
    world.must(&["verify", "notes"]);
}

#[test]
fn what_a_mirror_does_not_take_back_is_named_with_what_takes_it_back() {
    let world = World::new();
    for number in 0..20 {
        world.vault("Notes").write(&format!("{number:02}.md"), "text", NOON).unwrap();
    }
    world.must(&["pull", "Notes", "notes"]);
    for number in 0..15 {
        put(&world.path(&format!("notes/{number:02}.md")), "mine");
    }
    let mirror = ["pull", "Notes", "notes", "--mirror"];
    let ran = world.run(&mirror).expect(9);
    assert!(ran.stderr.contains("Not reverted, because too many files were changed"), "{}", ran.stderr);
    assert!(ran.stderr.contains("--max-delete none") && !ran.stderr.contains("confirm"), "{}", ran.stderr);
    let report = world.run(&[&mirror[..], &["--json"]].concat()).expect(9).json();
    assert_eq!(report["not_taken_back"].as_array().unwrap().len(), 15, "{report:#}");
    assert_eq!(report["error"]["hint"], "--max-delete none reverts them");
    let status = world.must(&["status", "notes"]).stdout;
    assert!(status.contains("  last run   local changes not reverted, too many, "), "{status}");
    assert!(!status.contains("held back  "), "{status}");
    let planned = world.must(&[&mirror[..], &["--dry-run", "--max-delete", "none"]].concat());
    let summary = planned.stdout.trim_end().lines().last().unwrap_or_default();
    assert!(summary.starts_with("A pull of \"Notes\" to notes would take"), "{}", planned.stdout);
    assert!(!planned.stdout.contains("keep beside"), "{}", planned.stdout);
    world.must(&[&mirror[..], &["--max-delete", "none"]].concat());
    assert!(world.differences("Notes", "notes").iter().all(|line| line.contains("\".obsync")));
}

#[test]
fn status_shows_times_in_the_zone_of_the_user() {
    let world = World::new();
    world.vault("Notes").write("Note.md", "text", NOON).unwrap();
    world.must(&["pull", "Notes", "notes"]);
    let row = world.must(&["status", "notes", "--json"]).json()["destinations"][0].clone();
    let checked: jiff::Timestamp = row["last_check"].as_str().unwrap().parse().unwrap();
    let shown = ran(world.command(&["status", "notes"]).env("TZ", "<+0530>-05:30")).expect(0).stdout;
    let there = checked.to_zoned(jiff::tz::TimeZone::fixed(jiff::tz::offset(5))).datetime();
    let there = there.checked_add(jiff::Span::new().minutes(30)).unwrap();
    let line = format!("  checked    {}", there.strftime("%Y-%m-%d %H:%M:%S"));
    assert!(shown.contains(&line), "{line:?} in {shown}");
}

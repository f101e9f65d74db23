//! Entries that a pull excludes or refuses one by one, and files that it lists because Obsidian would run
//! them.

use std::time::{Duration, Instant};

use obsync_core::{Filter, Outcome, StateStore};
use obsync_protocol::VaultPath;
use obsync_sqlite::SqliteState;
use obsync_testkit::RawEntry;

use crate::bench::Bench;
use crate::following::until;

const T: i64 = 1_700_000_000_000;

#[tokio::test(flavor = "multi_thread")]
async fn what_is_left_out_is_counted_by_its_reason() {
    let mut bench = Bench::new().await;
    for path in
        ["a/.envrc", "Projects/.vscode/tasks.json", "a/.b.md", ".hidden.md", "picture.png", "private/x.md"]
    {
        bench.vault.write(path, "text", T).unwrap();
    }
    bench.vault.write(".obsidian/workspace.json", "{}", T).unwrap();
    bench.vault.write("a/good.md", "good", T).unwrap();
    bench.filter(Filter {
        file_types: "none".parse().unwrap(),
        excluded: vec![VaultPath::parse("private").unwrap()],
        ..Filter::default()
    });
    let report = bench.pull().await;
    assert_eq!((report.outcome, report.skipped.files), (Outcome::Complete, 7));
    let reasons: Vec<(&str, u64)> =
        report.skipped_reasons.iter().map(|(name, tally)| (*name, tally.files)).collect();
    assert_eq!(reasons, [("excluded", 1), ("file_type", 1), ("hidden", 4), ("never_synced", 1)]);
    assert_eq!(bench.files(), ["a/good.md"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_configuration_folder_is_named_when_it_is_left_out_and_comes_when_it_is_chosen() {
    let mut bench = Bench::new().await;
    let files = ["app.json", "plugins/x/main.js", "plugins/x/data.json"];
    for folder in [".obsidian", ".obsidian-mobile"] {
        for file in files {
            bench.vault.write(&format!("{folder}/{file}"), "text", T).unwrap();
        }
    }
    bench.vault.write(".obsidian-mobile/workspace-mobile.json", "{}", T).unwrap();
    bench.vault.write(".vscode/settings.json", "{}", T).unwrap();
    let report = bench.pull().await;
    assert_eq!(report.other_config_dirs.iter().collect::<Vec<_>>(), [".obsidian-mobile"]);
    assert_eq!((report.outcome, report.skipped_reasons["hidden"].files), (Outcome::Complete, 5));

    let config_dirs = vec![".obsidian".to_owned(), ".obsidian-mobile".to_owned()];
    bench.filter(Filter { config_dirs, ..Filter::default() });
    let report = bench.pull().await;
    assert_eq!(report.other_config_dirs.len(), 0);
    assert_eq!(
        report.code.iter().map(VaultPath::as_str).collect::<Vec<_>>(),
        [".obsidian-mobile/plugins/x/main.js"]
    );
    assert_eq!(
        (report.skipped_reasons["hidden"].files, report.skipped_reasons["never_synced"].files),
        (1, 1)
    );
    assert_eq!(bench.files().len(), 6);
}

#[tokio::test(flavor = "multi_thread")]
async fn code_with_new_content_is_named() {
    let bench = Bench::new().await;
    let code = ["community-plugins.json", "plugins/x/main.js", "plugins/x/styles.css", "snippets/wide.css"];
    let named = |report: &obsync_core::Report| -> Vec<String> {
        report.code.iter().map(ToString::to_string).collect()
    };
    let paths = code.map(|path| format!(".obsidian/{path}"));
    for path in &paths {
        bench.vault.write(path, "first", T).unwrap();
    }
    bench.vault.write(".obsidian/plugins/x/data.json", "{}", T).unwrap();
    bench.vault.write("main.js", "a note", T).unwrap();
    assert_eq!(named(&bench.pull().await), paths);
    assert_eq!(named(&bench.pull().await), [""; 0]);
    bench.vault.write(".obsidian/plugins/x/main.js", "second", T).unwrap();
    bench.vault.write(".obsidian/app.json", "{}", T).unwrap();
    assert_eq!(named(&bench.pull().await), [".obsidian/plugins/x/main.js"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn without_code_plugins_and_styles_are_left_out_and_counted() {
    let mut bench = Bench::new().await;
    bench.vault.write(".obsidian/plugins/x/main.js", "code", T).unwrap();
    bench.vault.write(".obsidian/plugins/x/data.json", "{}", T).unwrap();
    bench.filter(Filter { code: false, ..Filter::default() });
    let report = bench.pull().await;
    assert_eq!((report.outcome, report.skipped_reasons["code"].files), (Outcome::Complete, 1));
    assert_eq!(bench.files(), [".obsidian/plugins/x/data.json"]);
    bench.filter(Filter::default());
    assert_eq!(bench.pull().await.pulled.files, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_report_lists_a_thousand_failures_and_counts_the_others() {
    let bench = Bench::new().await;
    for n in 0..1005 {
        bench.vault.write_hostile_path(&format!("p/.git/{n}"), "x").unwrap();
    }
    let report = bench.pull().await;
    assert_eq!((report.failures.len(), report.failures_unlisted, report.failed()), (1000, 5, 1005));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_path_of_more_than_a_hundred_parts_fails_alone() {
    let bench = Bench::new().await;
    let deep = |parts: usize| vec!["a"; parts - 1].join("/") + "/x.md";
    bench.vault.write(&deep(100), "deep", T).unwrap();
    bench.vault.write(&deep(101), "deeper", T).unwrap();
    let report = bench.pull().await;
    assert_eq!((report.failures.len(), report.pulled.files), (1, 1));
    assert_eq!(report.failures[0].path, deep(101));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_with_a_colon_fails_alone_where_it_would_name_a_stream() {
    let mut bench = Bench::new().await;
    bench.folder.refuses_colons = Some(true);
    bench.vault.write("a.md", "a", T).unwrap();
    bench.vault.write("a.md:hidden", "stream", T).unwrap();
    let report = bench.pull().await;
    assert_eq!((report.failures.len(), report.outcome), (1, Outcome::Failures));
    assert_eq!(bench.files(), ["a.md"]);
    bench.folder.refuses_colons = Some(false);
    assert_eq!(bench.pull().await.outcome, Outcome::Complete);
}

/// Windows has neither of these names; this file system has both.
#[tokio::test(flavor = "multi_thread")]
async fn a_name_that_only_another_system_refuses_comes_as_it_is() {
    let bench = Bench::new().await;
    for path in ["CON.md", "aux/NUL", "trailing. ", "folder. /note.md", " leading.md"] {
        bench.vault.write(path, path, T).unwrap();
    }
    let report = bench.pull().await;
    assert_eq!((report.outcome, report.pulled.files), (Outcome::Complete, 5), "{report:#?}");
    bench.assert_exact().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_can_never_be_here_is_accepted_once_and_new_failures_stand_out() {
    // A name that is too long here, and others that are refused before the destination is checked.
    let [long, other_long] = ["n", "o"].map(|letter| format!("{}.md", letter.repeat(300)));
    let cases = [
        (long.as_str(), other_long.as_str()),
        ("a\\b.md", "a\\c.md"),
        ("a\tb.md", "a\tc.md"),
        ("a\nb.md", "a\nc.md"),
    ];
    for (never, other) in cases {
        check_acceptance(never, other).await;
    }
}

/// Accepts that `never` cannot be stored here; `other` cannot either.
async fn check_acceptance(never: &str, other: &str) {
    let mut bench = Bench::new().await;
    bench.vault.write_hostile_path(never, "text").unwrap();
    bench.vault.write("good.md", "good", T).unwrap();
    let report = bench.pull().await;
    assert_eq!((report.outcome, report.failed(), report.accepted_failures), (Outcome::Failures, 1, 0));
    assert!(report.has_lasting_failures);

    bench.options.accept_failures = true;
    let report = bench.pull().await;
    assert_eq!((report.outcome, report.failed(), report.accepted_failures), (Outcome::Complete, 0, 1));
    bench.options.accept_failures = false;
    for full in [false, true, false] {
        let report = if full { bench.pull_full().await } else { bench.pull().await };
        assert_eq!((report.outcome, report.accepted_failures), (Outcome::Complete, 1), "full: {full}");
    }

    // Another one, and the same one with a new content, are failures of their own.
    bench.vault.write_hostile_path(other, "text").unwrap();
    let report = bench.pull().await;
    assert_eq!((report.outcome, report.failed(), report.accepted_failures), (Outcome::Failures, 1, 1));
    bench.vault.write_hostile_path(never, "another text").unwrap();
    let report = bench.pull().await;
    assert_eq!((report.outcome, report.failed(), report.accepted_failures), (Outcome::Failures, 2, 0));

    // Once it is fixed in the vault, nothing is left of it.
    for path in [never, other] {
        let path = bench.source.keys.encode_text(path).unwrap();
        bench.vault.write_raw(RawEntry { path, deleted: true, ..RawEntry::default() }).unwrap();
    }
    let report = bench.pull().await;
    assert_eq!((report.outcome, report.accepted_failures), (Outcome::Complete, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_fails_for_the_moment_cannot_be_accepted() {
    let mut bench = Bench::new().await;
    bench.vault.write("note.md", "text", T).unwrap();
    bench.options.accept_failures = true;
    bench.server.faults().update(|faults| faults.set("wrong-hash").unwrap());
    let report = bench.pull().await;
    assert_eq!((report.outcome, report.failed(), report.accepted_failures), (Outcome::Failures, 1, 0));
}

/// Waits until the state has this many records while a run is at work.
async fn until_recorded(bench: &Bench, records: usize) {
    let begun = Instant::now();
    loop {
        let state = SqliteState::read(&bench.home().join("state.sqlite")).unwrap();
        let recorded = state.all_records().await.unwrap().len();
        if recorded >= records {
            break;
        }
        assert!(begun.elapsed() < Duration::from_secs(60), "{recorded} are recorded");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_is_never_answered_costs_two_limits_and_the_others_are_in_place_meanwhile() {
    let mut bench = Bench::new().await;
    let clock = bench.set_clock().await;
    let limit = bench.source.client.options().timeouts.answer;
    for number in 0..50 {
        bench.vault.write(&format!("{number}.md"), format!("file {number}"), T).unwrap();
    }
    bench.vault.write("stuck.md", "never answered", T).unwrap();
    let stuck = bench.vault.version();
    for number in 50..100 {
        bench.vault.write(&format!("{number}.md"), format!("file {number}"), T).unwrap();
    }
    bench.server.faults().set(format!("stall-pull=uid:{stuck}").parse().unwrap());
    let strikes = || bench.server.faults().strikes("stall-pull");
    let time = async {
        until("it is stuck", || strikes() == 1).await;
        clock.advance(limit);
        until("it is stuck alone", || strikes() == 2).await;
        let are_others_here = || (0..100).all(|number| bench.dest().join(format!("{number}.md")).exists());
        until("the others are in place", are_others_here).await;
        until_recorded(&bench, 100).await;
        clock.advance(limit);
    };
    let (report, ()) = tokio::join!(bench.pull(), time);
    assert_eq!(
        report.failures.iter().map(|failure| failure.path.to_string()).collect::<Vec<_>>(),
        ["stuck.md"]
    );
    assert_eq!(strikes(), 2);
    bench.server.faults().clear();
    bench.pull().await;
    bench.assert_exact().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_history_that_is_never_answered_costs_two_limits_and_the_others_are_in_place_meanwhile() {
    let mut bench = Bench::new().await;
    let clock = bench.set_clock().await;
    let limit = bench.source.client.options().timeouts.answer;
    // Listed first.
    bench.vault.write("mine.md", "the vault's", T).unwrap();
    for number in 0..100 {
        bench.vault.write(&format!("{number}.md"), format!("file {number}"), T).unwrap();
    }
    bench.edit("mine.md", "mine");
    bench.server.faults().set("stall-history=always".parse().unwrap());
    let strikes = || bench.server.faults().strikes("stall-history");
    let time = async {
        until("it is asked", || strikes() == 1).await;
        let are_others_here = || (0..100).all(|number| bench.dest().join(format!("{number}.md")).exists());
        until("the others are in place", are_others_here).await;
        until_recorded(&bench, 100).await;
        clock.advance(limit);
        until("it is asked once more", || strikes() == 2).await;
        clock.advance(limit);
    };
    let (report, ()) = tokio::join!(bench.pull(), time);
    assert_eq!((report.outcome, report.pulled.files), (Outcome::Complete, 101), "{report:#?}");
    assert_eq!(strikes(), 2);
    let [conflict] = &report.conflicts[..] else { panic!("{report:#?}") };
    assert_eq!(bench.read(conflict.kept_as.as_str()), "mine");
    assert_eq!(bench.read("mine.md"), "the vault's");
}

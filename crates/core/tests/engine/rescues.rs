//! Files that are renamed, or whose content is wanted elsewhere, while a local file is in the way.

use std::os::unix::fs::symlink;

use obsync_conformance::at;
use obsync_conformance::confined::{Confinement, confined};
use obsync_core::Outcome;
use obsync_protocol::limits::FAILURES_LISTED;
use obsync_testkit::Chance;

use crate::bench::Bench;

const T: i64 = 1_700_000_000_000;

#[tokio::test(flavor = "multi_thread")]
async fn a_place_that_cannot_be_reached_does_not_keep_the_others_from_a_content() {
    let mut bench = Bench::new().await;
    let outside = tempfile::tempdir().unwrap();
    bench.vault.write("old.md", "the text", T).unwrap();
    bench.pull().await;
    bench.vault.delete("old.md").unwrap();
    bench.vault.write("dup1/a.md", "the text", T).unwrap();
    bench.vault.write("dup2/a.md", "the text", T).unwrap();
    symlink(outside.path(), bench.dest().join("dup1")).unwrap();
    for full in [false, true] {
        let report = if full { bench.pull_full().await } else { bench.pull().await };
        assert_eq!(report.outcome, Outcome::Failures, "{report:#?}");
        assert!(report.failures.iter().any(|failure| failure.path == "dup1/a.md"), "{report:#?}");
        assert_eq!(bench.read("dup2/a.md"), "the text");
    }
    assert_eq!(std::fs::read_dir(outside.path()).unwrap().count(), 0);
    std::fs::remove_file(bench.dest().join("dup1")).unwrap();
    bench.pull().await;
    bench.assert_exact().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_keeps_its_old_name_until_it_has_the_new_one() {
    let bench = Bench::new().await;
    let outside = tempfile::tempdir().unwrap();
    bench.vault.write("b", "a file", T).unwrap();
    bench.vault.write("a.md", "the text", T).unwrap();
    bench.pull().await;
    bench.vault.delete("b").unwrap();
    bench.vault.rename("a.md", "b/c.md").unwrap();
    std::fs::remove_file(bench.dest().join("b")).unwrap();
    symlink(outside.path(), bench.dest().join("b")).unwrap();
    for _ in 0..2 {
        let report = bench.pull().await;
        assert_eq!(report.outcome, Outcome::Failures, "{report:#?}");
        assert_eq!(bench.read("a.md"), "the text");
    }
    assert_eq!(std::fs::read_dir(outside.path()).unwrap().count(), 0);
    std::fs::remove_file(bench.dest().join("b")).unwrap();
    bench.pull().await;
    bench.assert_exact().await;
}

/// Either of two equal files can be the source of a copy, and it can have another text by then.
#[tokio::test(flavor = "multi_thread")]
async fn each_of_two_equal_files_keeps_its_old_name_until_the_content_is_under_a_new_one() {
    for renamed in [&["a1.md", "a2.md"][..], &["a1.md"], &["a2.md"]] {
        for edited in ["a1.md", "a2.md"] {
            let bench = Bench::new().await;
            for path in ["a1.md", "a2.md"] {
                bench.vault.write(path, "the template", T).unwrap();
            }
            bench.pull().await;
            for path in renamed {
                bench.vault.rename(path, &format!("new/{path}")).unwrap();
            }
            bench.edit(edited, "a user's text");
            bench.server.faults().update(|faults| faults.refuse_pull = Chance::always());
            bench.pull().await;
            let texts: Vec<String> = bench.files().iter().map(|path| bench.read(path)).collect();
            assert!(texts.iter().any(|text| text == "the template"), "{renamed:?}, {edited}: {texts:?}");
            bench.server.faults().clear();
            bench.pull().await;
            let texts: Vec<String> = bench.files().iter().map(|path| bench.read(path)).collect();
            assert!(texts.iter().any(|text| text == "a user's text"), "{renamed:?}, {edited}: {texts:?}");
            for path in renamed {
                assert_eq!(bench.read(format!("new/{path}")), "the template");
            }
        }
    }
}

/// Beside an equal file that stays, so that the copy is made of that one.
#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_becomes_a_folder_goes_for_its_content_that_is_below_it_now() {
    let bench = Bench::new().await;
    bench.vault.write("a", "the template", T).unwrap();
    bench.vault.write("stays.md", "the template", T).unwrap();
    bench.pull().await;
    bench.vault.delete("a").unwrap();
    bench.vault.write("a/x.md", "the template", T).unwrap();
    bench.pull().await;
    bench.assert_exact().await;
}

/// A name that leads to the very file to be removed is no safe place for its content.
#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_is_seen_under_its_new_name_through_a_link_is_not_lost() {
    let mut bench = Bench::new().await;
    bench.vault.write("A/note.md", "the template", T).unwrap();
    bench.vault.write("stays.md", "the template", T).unwrap();
    bench.pull().await;
    symlink("A", bench.dest().join("B")).unwrap();
    bench.vault.rename("A/note.md", "B/note.md").unwrap();
    bench.pull().await;
    assert_eq!(bench.read("B/note.md"), "the template");
    std::fs::remove_file(bench.dest().join("B")).unwrap();
    bench.pull_full().await;
    assert_eq!(bench.read("B/note.md"), "the template");
}

/// Each of many equal files can move to each of as many new names: memory must not grow with the number of
/// pairs.
#[tokio::test(flavor = "multi_thread")]
async fn many_equal_files_are_renamed_at_once() {
    const FILES: usize = 3_000;
    let bench = Bench::new().await;
    bench.vault.write("template.md", "the template", T).unwrap();
    for number in 0..FILES {
        bench.vault.write(&format!("notes/{number}.md"), "the template", T).unwrap();
    }
    bench.pull().await;
    for number in 0..FILES {
        bench.vault.rename(&format!("notes/{number}.md"), &format!("days/{number}.md")).unwrap();
    }
    let begun = std::time::Instant::now();
    bench.pull().await;
    assert!(begun.elapsed() < std::time::Duration::from_secs(60), "{:?}", begun.elapsed());
    bench.assert_exact().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_becomes_a_folder_is_not_lost_when_the_folder_cannot_be_made() {
    let bench = Bench::new().await;
    bench.vault.write("a", "the text", T).unwrap();
    bench.vault.write("b", "another", T).unwrap();
    bench.pull().await;
    bench.vault.rename("a", "moved").unwrap();
    bench.vault.rename("b", "a/deep/b.md").unwrap();
    bench.vault.rename("moved", "b/deep/a.md").unwrap();
    bench.pull().await;
    bench.assert_exact().await;
}

/// Contents that change places on a disk that has room for few of them twice.
#[tokio::test(flavor = "multi_thread")]
async fn contents_that_change_places_on_a_disk_that_is_nearly_full_come_by_and_by() {
    let test = "rescues::contents_that_change_places_on_a_disk_that_is_nearly_full_come_by_and_by";
    let Some(disk) = confined(test, Confinement::Disk("size=16m")) else { return };
    const FILES: u8 = 12;
    let content = |number: u8| vec![number % FILES; 1 << 20];
    let bench = Bench::new().await.at(&disk);
    for number in 0..FILES {
        bench.vault.write(&format!("{number}.bin"), content(number), T).unwrap();
    }
    bench.pull().await;
    for number in 0..FILES {
        bench.vault.write(&format!("{number}.bin"), content(number + 1), T + 1).unwrap();
    }
    let first = bench.pull().await;
    assert_eq!(first.outcome, Outcome::Failures, "{first:#?}");
    assert!(first.failures.iter().all(|failure| failure.reason.contains("bytes free")), "{first:#?}");
    assert!(first.failures.len() < usize::from(FILES), "{first:#?}");
    let mut runs = 1;
    while bench.pull().await.outcome != Outcome::Complete {
        runs += 1;
        assert!(runs < 8, "it is stuck");
    }
    bench.assert_exact().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_move_is_told_from_a_deletion_and_every_folder_that_it_makes_is_counted() {
    let mut bench = Bench::new().await;
    bench.vault.write("Old/note.md", "to be moved", T).unwrap();
    bench.vault.write("gone.md", "to be deleted", T).unwrap();
    bench.pull().await;
    bench.vault.create_folder("New").unwrap();
    bench.vault.create_folder("New/deep").unwrap();
    bench.vault.rename("Old/note.md", "New/deep/note.md").unwrap();
    bench.vault.delete("gone.md").unwrap();
    bench.options.dry_run = true;
    let said = bench.pull().await;
    bench.options.dry_run = false;
    let did = bench.pull().await;
    for report in [&said, &did] {
        assert_eq!((report.copied.files, report.deleted.files), (1, 2), "{report:#?}");
        assert_eq!((report.moved.files, report.folders_created), (1, 2), "{report:#?}");
        let [moved] = &report.moved_files[..] else { panic!("{report:#?}") };
        assert_eq!((moved.from.as_str(), moved.path.as_str()), ("Old/note.md", "New/deep/note.md"));
    }
    bench.assert_exact().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn however_many_notes_were_moved_a_deleted_one_is_named() {
    let bench = Bench::new().await;
    for number in 0..=FAILURES_LISTED {
        bench.vault.write(&format!("Old/{number}.md"), format!("note {number}"), T).unwrap();
    }
    bench.vault.write("gone.md", "to be deleted", T).unwrap();
    bench.pull().await;
    bench.vault.rename("Old", "New").unwrap();
    bench.vault.delete("gone.md").unwrap();
    let report = bench.pull().await;
    assert_eq!(report.deleted_files, [at("gone.md")]);
    assert_eq!(report.moved.files, FAILURES_LISTED as u64 + 1);
    assert_eq!(report.moved_files.len(), FAILURES_LISTED);
    bench.assert_exact().await;
}

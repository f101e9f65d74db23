//! Pulls into a folder below which another file system is mounted, which may be gone or full.

use std::fs;
use std::path::Path;
use std::process::Command;

use obsync_conformance::confined::{Confinement, confined};
use obsync_core::Outcome;

use crate::bench::Bench;

const T: i64 = 1_700_000_000_000;

fn run(command: &str, arguments: &[&str], place: &Path) {
    let status = Command::new(command).args(arguments).arg(place).status().unwrap();
    assert!(status.success(), "{command} {arguments:?} {}", place.display());
}

/// No pull scans the folder, so each notes the mounts below which it writes.
#[tokio::test(flavor = "multi_thread")]
async fn a_pull_notices_that_a_file_system_below_its_folder_is_not_mounted() {
    let test = "mounted::a_pull_notices_that_a_file_system_below_its_folder_is_not_mounted";
    let Some(disk) = confined(test, Confinement::Disk("size=64m")) else { return };
    // The second is the root's own file system, mounted once more: its device does not show it.
    for is_another in [true, false] {
        let mut bench = Bench::new().await.at(&disk);
        let (stick, media) = (bench.home().join("stick"), bench.dest().join("Media"));
        fs::create_dir(&stick).unwrap();
        fs::create_dir_all(&media).unwrap();
        if is_another {
            run("mount", &["-t", "tmpfs", "none"], &stick);
        }
        let mount = || run("mount", &["--bind", stick.to_str().unwrap()], &media);
        mount();
        for (path, text) in [("Media/deep/a.md", "one"), ("Media/b.md", "to be deleted"), ("c.md", "one")] {
            bench.vault.write(path, text, T).unwrap();
        }
        assert_eq!(bench.pull().await.outcome, Outcome::Complete);
        assert_eq!(bench.read(".obsync/mounts"), "Media\n", "another file system: {is_another}");
        run("umount", &[], &media);
        bench.vault.write("Media/deep/a.md", "two", T + 1000).unwrap();
        bench.vault.delete("Media/b.md").unwrap();
        bench.vault.write("c.md", "two", T + 1000).unwrap();
        for is_full in [false, true] {
            let report = if is_full { bench.pull_full().await } else { bench.pull().await };
            assert_eq!(report.outcome, Outcome::Failures, "{report:#?}");
            let waiting: Vec<&str> = report.failures.iter().map(|failure| failure.path.as_str()).collect();
            assert!(waiting.contains(&"Media/deep/a.md") && waiting.contains(&"Media/b.md"), "{report:#?}");
            let said = "\"Media\" is not mounted";
            assert!(report.failures.iter().all(|failure| failure.reason.contains(said)), "{report:#?}");
            assert_eq!(bench.read("c.md"), "two");
            assert_eq!(fs::read_dir(&media).unwrap().count(), 0, "nothing is written below the mount point");
        }
        mount();
        let report = bench.pull().await;
        assert_eq!((report.outcome, report.conflicts.len()), (Outcome::Complete, 0), "{report:#?}");
        bench.assert_exact().await;
    }
}

/// Its files and folders are counted, not only its bytes, so that it is full without notice.
#[tokio::test(flavor = "multi_thread")]
async fn a_full_file_system_below_the_folder_keeps_back_only_its_own_files() {
    let test = "mounted::a_full_file_system_below_the_folder_keeps_back_only_its_own_files";
    let Some(disk) = confined(test, Confinement::Disk("size=64m")) else { return };
    let bench = Bench::new().await.at(&disk);
    let media = bench.dest().join("Media");
    fs::create_dir_all(&media).unwrap();
    run("mount", &["-t", "tmpfs", "-o", "size=4m,nr_inodes=3", "none"], &media);
    for path in ["Media/1.md", "Media/2.md", "Media/3.md", "Media/4.md", "a.md", "z/b.md"] {
        bench.vault.write(path, path, T).unwrap();
    }
    let report = bench.pull().await;
    assert_eq!(report.outcome, Outcome::Failures, "{report:#?}");
    assert_eq!(report.failures.len(), 2, "{report:#?}");
    for failure in &report.failures {
        let said = "the file system mounted at \"Media\" is full";
        assert!(failure.path.starts_with("Media/") && failure.reason.contains(said), "{failure:?}");
    }
    assert_eq!(["a.md", "z/b.md"].map(|path| bench.read(path)), ["a.md", "z/b.md"]);
    run("mount", &["-o", "remount,nr_inodes=100"], &media);
    assert_eq!(bench.pull().await.outcome, Outcome::Complete);
    bench.assert_exact().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_a_file_system_below_the_folder_has_no_space_for_is_not_downloaded() {
    let test = "mounted::a_file_that_a_file_system_below_the_folder_has_no_space_for_is_not_downloaded";
    let Some(disk) = confined(test, Confinement::Disk("size=64m")) else { return };
    let bench = Bench::new().await.at(&disk);
    let media = bench.dest().join("Media");
    fs::create_dir_all(&media).unwrap();
    run("mount", &["-t", "tmpfs", "-o", "size=1m", "none"], &media);
    bench.vault.write("Media/large.md", "large ".repeat(1 << 18), T).unwrap();
    // This content has room elsewhere.
    for path in ["Media/twice.md", "twice.md"] {
        bench.vault.write(path, "twice ".repeat(1 << 19), T).unwrap();
    }
    bench.vault.write("Media/small.md", "small", T).unwrap();
    let report = bench.pull().await;
    assert_eq!(report.outcome, Outcome::Failures, "{report:#?}");
    let mut failed: Vec<&str> = report.failures.iter().map(|failure| failure.path.as_str()).collect();
    failed.sort_unstable();
    assert_eq!(failed, ["Media/large.md", "Media/twice.md"]);
    assert!(
        report
            .failures
            .iter()
            .all(|failure| failure.reason.contains("bytes free in ")
                && failure.reason.contains("notes/Media, ")),
        "{report:#?}"
    );
    assert_eq!((bench.read("twice.md").len(), bench.read("Media/small.md")), (6 << 19, "small".to_owned()));
    run("mount", &["-o", "remount,size=16m"], &media);
    assert_eq!(bench.pull().await.outcome, Outcome::Complete);
    bench.assert_exact().await;
}

//! A full pull writes only the differing records to the state.

use std::collections::BTreeSet;
use std::fs;
use std::sync::Arc;

use obsync_conformance::WatchedState;
use obsync_core::{
    Commit, Deferred, DeferredCause, DeferredKey, DeferredKind, Filter, Intent, Mode, NoProgress, Outcome,
    Record, Report, StateStore, pull,
};
use obsync_protocol::{PushMessage, VaultPath};
use tokio_util::sync::CancellationToken;

use crate::bench::Bench;

const T: i64 = 1_700_000_000_000;

#[tokio::test(flavor = "multi_thread")]
async fn a_full_pull_writes_no_record_of_what_is_as_it_was() {
    let bench = with_notes().await;
    // More than are checked at once.
    for number in 0..2_500 {
        bench.vault.write(&format!("many/{number}.md"), format!("{number}"), T).unwrap();
    }
    bench.pull().await;
    let (report, commits) = full_pull(&bench).await;
    assert!(report.is_unchanged(), "{report:#?}");
    assert_eq!((paths(&commits, announced), paths(&commits, recorded)), (set([]), set([])));
    let passed = commits.iter().filter_map(|commit| commit.state.full_up_to).max();
    assert!(passed > Some(0), "what was looked at is not looked at again by a run that has to go on");
    bench.assert_exact().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_pull_announces_and_records_what_is_new_changed_or_missing() {
    let bench = with_notes().await;
    bench.vault.write("folder/changed.md", "another note", T).unwrap();
    bench.vault.write("folder/new.md", "a new note", T).unwrap();
    fs::remove_file(bench.dest().join("folder/missing.md")).unwrap();
    fs::remove_dir(bench.dest().join("empty")).unwrap();
    bench.vault.create_folder("new folder").unwrap();
    let (report, commits) = full_pull(&bench).await;
    assert_eq!((report.pulled.files, report.folders_created), (3, 2), "{report:#?}");
    let brought = ["folder/changed.md", "folder/new.md", "folder/missing.md"];
    assert_eq!(paths(&commits, announced), set(brought));
    assert_eq!(&paths(&commits, recorded) - &set(brought), set(["empty", "new folder"]));
    assert!(commits.last().unwrap().intents.is_empty(), "nothing stays announced");
    bench.assert_exact().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_pull_records_other_times_and_versions_of_contents_that_are_in_place() {
    let bench = with_notes().await;
    bench.vault.write("folder/changed.md", "changed", T + 60_000).unwrap();
    bench.vault.write("folder/missing.md", "missing", T).unwrap();
    // Changed times are repaired. The file has other facts then, which identify it for a later scan.
    let file = fs::File::options().append(true).open(bench.dest().join("folder/7.md")).unwrap();
    file.set_modified(std::time::UNIX_EPOCH).unwrap();
    let (report, commits) = full_pull(&bench).await;
    assert_eq!(report.requests, 0, "{report:#?}");
    assert_eq!(paths(&commits, announced), set([]));
    assert_eq!(paths(&commits, recorded), set(["folder/7.md", "folder/changed.md", "folder/missing.md"]));
    bench.assert_exact().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_folder_that_a_full_pull_could_not_make_again_is_made_by_the_next_pull() {
    let bench = with_notes().await;
    let elsewhere = tempfile::tempdir().unwrap();
    fs::remove_dir(bench.dest().join("empty")).unwrap();
    std::os::unix::fs::symlink(elsewhere.path(), bench.dest().join("empty")).unwrap();
    let (report, _) = full_pull(&bench).await;
    assert_eq!(report.failures.len(), 1, "{report:#?}");
    fs::remove_file(bench.dest().join("empty")).unwrap();
    let report = bench.pull().await;
    assert!(report.failures.is_empty(), "{report:#?}");
    bench.assert_exact().await;
}

/// A destination in sync with a vault of notes and folders.
async fn with_notes() -> Bench {
    let bench = Bench::new().await;
    for name in (0..50).map(|n| n.to_string()).chain(["changed".to_owned(), "missing".to_owned()]) {
        bench.vault.write(&format!("folder/{name}.md"), &name, T).unwrap();
    }
    bench.vault.create_folder("empty").unwrap();
    bench.pull().await;
    bench
}

/// Pulls with everything checked again, and returns the commits.
async fn full_pull(bench: &Bench) -> (Report, Vec<Commit>) {
    let mut options = bench.options.clone();
    options.mode = Mode::Full;
    let state = Arc::new(WatchedState::new(bench.state()));
    let (none, stop) = (Arc::new(NoProgress), CancellationToken::new());
    let report = pull(&bench.source, bench.store(), state.clone(), &options, none, stop).await.unwrap();
    (report, state.commits())
}

fn announced(commit: &Commit) -> Vec<&Record> {
    commit.intents.iter().filter_map(Intent::placed).collect()
}

fn recorded(commit: &Commit) -> Vec<&Record> {
    commit.records.iter().collect()
}

fn paths(commits: &[Commit], of: fn(&Commit) -> Vec<&Record>) -> BTreeSet<String> {
    commits.iter().flat_map(of).map(|record| record.path.to_string()).collect()
}

fn set<const N: usize>(paths: [&str; N]) -> BTreeSet<String> {
    paths.map(str::to_owned).into()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_pull_forgets_what_was_left_out_and_is_no_more_and_not_what_is_kept() {
    let mut bench = Bench::new().await;
    bench.filter(Filter { file_types: "none".parse().unwrap(), ..Filter::default() });
    bench.vault.write("picture.png", "p", T).unwrap();
    bench.vault.write("note.md", "text", T).unwrap();
    bench.pull().await;
    let deferred = |name: &str, cause| {
        let path = VaultPath::parse(name).unwrap();
        let message = PushMessage { path: bench.source.keys.encode_path(&path), ..PushMessage::default() };
        Deferred { key: DeferredKey::plain(&path), message, cause }
    };
    let deferred =
        vec![deferred("gone.png", DeferredCause::Filtered), deferred("kept.md", DeferredCause::Retained)];
    let state = bench.state();
    let known = state.load().await.unwrap();
    state.commit(Commit { deferred, state: known, ..Commit::default() }).await.unwrap();
    drop(state);
    bench.pull().await;
    assert_eq!(left_out(&bench).await, ["gone.png", "kept.md", "picture.png"]);
    assert_eq!(bench.pull_full().await.outcome, Outcome::Complete);
    assert_eq!(left_out(&bench).await, ["kept.md", "picture.png"]);
}

async fn left_out(bench: &Bench) -> Vec<String> {
    let left = bench.state().deferred(DeferredKind::Filtered).await.unwrap();
    left.iter().map(|deferred| deferred.key.as_str().to_owned()).collect()
}

/// All records of a vault take more memory than a folder in the way is worth.
#[tokio::test(flavor = "multi_thread")]
async fn for_a_folder_in_the_way_not_all_records_are_read() {
    let bench = Bench::new().await;
    bench.vault.write("folder/note.md", "text", T).unwrap();
    bench.pull().await;
    bench.vault.write("new.md", "new", T).unwrap();
    bench.vault.write("below/new.md", "new", T).unwrap();
    bench.edit("new.md/mine.md", "mine");
    bench.edit("below", "mine");
    let state = Arc::new(WatchedState::new(bench.state()));
    let (progress, stop) = (Arc::new(NoProgress), CancellationToken::new());
    let pulled = pull(&bench.source, bench.store(), state.clone(), &bench.options, progress, stop).await;
    let report = pulled.unwrap();
    assert_eq!((report.outcome, report.conflicts.len()), (Outcome::Complete, 2), "{report:#?}");
    assert_eq!(state.whole_reads(), 0);
}

//! Another client sends a text of a note right after ours, without having seen ours: neither text is lost.

use std::sync::{Arc, Mutex};

use obsync_core::{FileAction, Outcome, Progress, Report, StepAction};
use obsync_folder::FolderDestination;
use obsync_protocol::VaultPath;
use tokio_util::sync::CancellationToken;

use crate::bench::Bench;
use crate::two_way::{has, in_step};

const BASE: &str = "a\nb\nc\nd\n";
const OURS: &str = "a milk\nb\nc\nd\n";
/// Edits of another line than in [`OURS`], and of the same line.
const BESIDE: &str = "a\nb\nc\nd eggs\n";
const ACROSS: &str = "a bread\nb\nc\nd\n";

fn now() -> i64 {
    jiff::Timestamp::now().as_millisecond()
}

/// Returns a bench that has just sent [`OURS`], and a time right before that.
async fn just_sent() -> (Bench, i64) {
    let bench = in_step(&[("note.md", BASE)]).await;
    let before = now();
    bench.edit("note.md", OURS);
    let report = bench.sync().await;
    assert_eq!(report.pushed.files, 1, "{report:#?}");
    (bench, before)
}

/// The official client sends a text that was saved at this time.
fn official(bench: &Bench, path: &str, text: &str, saved: i64) {
    bench.vault.as_device("phone").write(path, text, saved).unwrap();
}

/// Returns the report of a sync, and checks that both sides are then equal and that nothing is left to do.
async fn settled(bench: &Bench) -> Report {
    let report = bench.sync().await;
    assert_eq!(report.outcome, Outcome::Complete, "{report:#?}");
    bench.assert_in_step().await;
    let again = bench.sync().await;
    assert!(again.is_unchanged(), "{again:#?}");
    report
}

#[tokio::test(flavor = "multi_thread")]
async fn sent_without_a_look_at_ours_other_lines_are_merged() {
    let (bench, before) = just_sent().await;
    official(&bench, "note.md", BESIDE, before);
    let report = settled(&bench).await;
    assert_eq!((report.merged.len(), report.conflicts.len()), (1, 0), "{report:#?}");
    assert_eq!(bench.read("note.md"), "a milk\nb\nc\nd eggs\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn sent_without_a_look_at_ours_the_same_line_is_kept_in_both_forms() {
    let (bench, before) = just_sent().await;
    official(&bench, "note.md", ACROSS, before);
    let report = settled(&bench).await;
    assert_eq!((report.merged.len(), report.conflicts.len()), (0, 1), "{report:#?}");
    assert_eq!(bench.read("note.md"), ACROSS);
    assert!(has(&bench, report.conflicts[0].kept_as.as_str(), OURS));
}

#[tokio::test(flavor = "multi_thread")]
async fn sent_without_a_look_at_ours_a_note_that_is_new_on_both_sides_is_kept_in_both_forms() {
    let bench = in_step(&[("other.md", "other")]).await;
    let before = now();
    bench.edit("today.md", "milk\n");
    bench.sync().await;
    official(&bench, "today.md", "eggs\n", before);
    let report = settled(&bench).await;
    assert_eq!(report.conflicts.len(), 1, "{report:#?}");
    assert_eq!(bench.read("today.md"), "eggs\n");
    assert!(has(&bench, report.conflicts[0].kept_as.as_str(), "milk\n"));
}

#[tokio::test(flavor = "multi_thread")]
async fn sent_without_a_look_at_ours_a_note_is_merged_though_its_user_went_on() {
    let (bench, before) = just_sent().await;
    official(&bench, "note.md", BESIDE, before);
    official(&bench, "note.md", "a\nb\nc\nd eggs and bread\n", before + 3_600_000);
    let report = settled(&bench).await;
    assert_eq!(report.merged.len(), 1, "{report:#?}");
    assert_eq!(bench.read("note.md"), "a milk\nb\nc\nd eggs and bread\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn sent_without_a_look_at_ours_all_that_was_sent_in_that_time_is_merged() {
    let (bench, before) = just_sent().await;
    bench.edit("note.md", "a milk\nb butter\nc\nd\n");
    bench.sync().await;
    // Edited once more, before this device receives anything.
    bench.edit("note.md", "a milk, two\nb butter\nc\nd\n");
    official(&bench, "note.md", BESIDE, before);
    let report = settled(&bench).await;
    assert_eq!(report.merged.len(), 1, "{report:#?}");
    assert_eq!(bench.read("note.md"), "a milk, two\nb butter\nc\nd eggs\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_saw_ours_takes_text_out_of_it() {
    let (bench, before) = just_sent().await;
    // Saved after its device had received ours.
    let later = now() + 60_000;
    official(&bench, "note.md", BESIDE, later);
    let report = settled(&bench).await;
    assert_eq!((report.merged.len(), report.conflicts.len()), (0, 0), "{report:#?}");
    assert_eq!(bench.read("note.md"), BESIDE);
    // Saved with a clock that is behind, but with all new words of ours.
    bench.edit("note.md", "a milk\nb\nc\nd eggs\n");
    bench.sync().await;
    for text in ["- a milk\n- b\n- c\n- d eggs\n", "a milk\nc\nd eggs\nbread\n"] {
        official(&bench, "note.md", text, before);
        let version = bench.vault.version();
        let report = settled(&bench).await;
        assert_eq!((report.merged.len(), report.conflicts.len()), (0, 0), "{report:#?}");
        assert_eq!((bench.read("note.md").as_str(), bench.vault.version()), (text, version));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_earlier_text_that_is_put_back_stays() {
    let (bench, before) = just_sent().await;
    official(&bench, "note.md", BASE, before);
    let report = settled(&bench).await;
    assert_eq!((report.merged.len(), report.conflicts.len()), (0, 0), "{report:#?}");
    assert_eq!(bench.read("note.md"), BASE);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_another_obsync_sent_over_and_kept_is_not_kept_twice() {
    let (bench, before) = just_sent().await;
    official(&bench, "note.md", ACROSS, before);
    official(&bench, "note (Conflicted copy phone 202611272300).md", OURS, before);
    let report = settled(&bench).await;
    assert_eq!(report.conflicts.len(), 0, "{report:#?}");
    assert_eq!(bench.files().len(), 2);
}

/// Lets the official client send its text as soon as ours is accepted, during the run that sent ours.
struct RightAfter {
    act: Mutex<Option<Box<dyn FnOnce() + Send>>>,
}

impl Progress for RightAfter {
    fn file(&self, _: &VaultPath, action: FileAction) {
        if action == FileAction::Sent
            && let Some(act) = self.act.lock().unwrap().take()
        {
            act();
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn sent_without_a_look_at_ours_while_the_run_goes_on_lines_are_merged_too() {
    let bench = in_step(&[("note.md", BASE)]).await;
    let (vault, before) = (bench.vault.as_device("phone"), now());
    bench.edit("note.md", OURS);
    let act = move || {
        vault.write("note.md", BESIDE, before).unwrap();
    };
    let progress = Arc::new(RightAfter { act: Mutex::new(Some(Box::new(act))) });
    let destination = FolderDestination::open(&bench.dest(), bench.folder).unwrap();
    bench.sync_through(destination, progress, CancellationToken::new()).await.unwrap();
    settled(&bench).await;
    assert_eq!(bench.read("note.md"), "a milk\nb\nc\nd eggs\n");
}

/// Kills a run after this many events.
struct Dies {
    left: Mutex<u32>,
    dies: CancellationToken,
}

impl Dies {
    fn news(&self) {
        let mut left = self.left.lock().unwrap();
        match left.checked_sub(1) {
            Some(fewer) => *left = fewer,
            None => self.dies.cancel(),
        }
    }
}

impl Progress for Dies {
    fn phase(&self, _: obsync_core::Phase) {
        self.news();
    }

    fn placed(&self, _: u64) {
        self.news();
    }

    fn file(&self, _: &VaultPath, _: FileAction) {
        self.news();
    }

    fn notice(&self, _: &str) {
        self.news();
    }
}

/// Runs a sync that is killed after this many events.
async fn killed_after(bench: &Bench, news: u32) {
    let dies = CancellationToken::new();
    let progress = Arc::new(Dies { left: Mutex::new(news), dies: dies.clone() });
    let destination = FolderDestination::open(&bench.dest(), bench.folder).unwrap();
    tokio::select! {
        biased;
        () = dies.cancelled() => {}
        _ = bench.sync_through(destination, progress, CancellationToken::new()) => {}
    }
    bench.until_dead().await;
}

/// The texts of a note and of its conflicted copies, in the folder.
fn texts_of(bench: &Bench, note: &str) -> Vec<String> {
    let files = bench.files().into_iter().filter(|path| path.starts_with(note));
    files.map(|path| bench.read(path)).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn sent_without_a_look_at_ours_nothing_is_lost_wherever_a_run_is_killed() {
    let bench = in_step(&[("other.md", "other")]).await;
    let forms = [(BESIDE, &["a milk\nb\nc\nd eggs\n"][..]), (ACROSS, &[OURS, ACROSS][..])];
    for (theirs, expected) in forms {
        // Either the run that sends ours is killed, or the one that receives theirs.
        for (first, news) in (0..28).map(|n| (n % 2 == 0, n / 2)) {
            let note = format!("{} {first} {news:02}", theirs.len());
            let path = format!("{note}.md");
            bench.vault.write(&path, BASE, now()).unwrap();
            bench.sync().await;
            let before = now();
            bench.edit(&path, OURS);
            match first {
                true => killed_after(&bench, news).await,
                false => drop(bench.sync().await),
            }
            official(&bench, &path, theirs, before);
            if !first {
                killed_after(&bench, news).await;
            }
            bench.sync().await;
            bench.sync().await;
            bench.assert_in_step().await;
            let texts = texts_of(&bench, &note);
            assert!(expected.iter().all(|text| texts.iter().any(|found| found == text)), "{note}: {texts:?}");
            assert_eq!(texts.len(), expected.len(), "{note}: {texts:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dry_run_foresees_what_becomes_of_a_text_that_was_sent_without_a_look_at_ours() {
    for (theirs, expected) in [
        (BESIDE, [StepAction::Merge, StepAction::Push]),
        (ACROSS, [StepAction::KeepBeside, StepAction::Push]),
    ] {
        let (mut bench, before) = just_sent().await;
        official(&bench, "note.md", theirs, before);
        bench.options.dry_run = true;
        let said = bench.sync().await;
        let actions: Vec<StepAction> = said.steps.iter().map(|step| step.action).collect();
        assert!(expected.iter().all(|action| actions.contains(action)), "{said:#?}");
        assert_eq!(bench.read("note.md"), OURS, "a dry run changes nothing");
        bench.options.dry_run = false;
        let did = settled(&bench).await;
        assert_eq!(did.merged.len() + did.conflicts.len(), 1, "{did:#?}");
    }
}

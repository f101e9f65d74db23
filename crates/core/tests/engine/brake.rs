//! Too many deletions are held back until a user confirms them.

use obsync_core::{MaxDelete, Outcome, Report, StateStore, confirm, held_back, leave_confirmation};

use crate::bench::Bench;

const T: i64 = 1_700_000_000_000;

/// A pulled vault of this many notes, under the default limit.
async fn bench(notes: usize) -> Bench {
    let mut bench = Bench::new().await;
    bench.options.max_delete = MaxDelete::Usual;
    for number in 0..notes {
        bench.vault.write(&note(number), format!("note {number}"), T).unwrap();
    }
    bench.pull().await;
    bench
}

fn note(number: usize) -> String {
    format!("Notes/{number:03}.md")
}

fn delete(bench: &Bench, numbers: std::ops::Range<usize>) {
    for number in numbers {
        bench.vault.delete(&note(number)).unwrap();
    }
}

/// Confirms all held-back deletions. Returns their paths.
async fn confirm_all(bench: &Bench) -> Vec<String> {
    let state = bench.state();
    let paths = held_back(state.as_ref()).await.unwrap();
    confirm(state.as_ref(), &paths, jiff::Timestamp::now()).await.unwrap()
}

/// The outcome, the number of deleted files, and that of held-back deletions.
fn account(report: &Report) -> (Outcome, u64, u64) {
    (report.outcome, report.deleted.files, report.held_back())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_vault_that_was_emptied_empties_no_destination() {
    let bench = bench(20).await;
    delete(&bench, 0..20);
    bench.vault.delete_folder("Notes").unwrap();
    bench.vault.write("new.md", "new", T).unwrap();
    let report = bench.pull().await;
    assert_eq!(account(&report), (Outcome::HeldBack, 0, 20));
    assert_eq!(report.pulled.files, 1, "all else is done");
    assert!(report.warnings[0].contains("20 of the 20 files"), "{:?}", report.warnings);
    assert_eq!(bench.files().len(), 21);
    // The report stays the same, and nothing is deleted.
    assert_eq!(account(&bench.pull().await), (Outcome::HeldBack, 0, 20));

    let confirmed = confirm_all(&bench).await;
    assert_eq!(confirmed.len(), 20, "the folder goes with its files");
    assert_eq!(account(&bench.pull().await), (Outcome::Complete, 20, 0));
    bench.assert_exact().await;
    assert_eq!(account(&bench.pull().await), (Outcome::Complete, 0, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn only_what_was_confirmed_goes() {
    let mut bench = bench(30).await;
    bench.options.max_delete = MaxDelete::Files(5);
    delete(&bench, 0..20);
    assert_eq!(account(&bench.pull().await), (Outcome::HeldBack, 0, 20));
    confirm_all(&bench).await;
    // A file that the vault changed since is not deleted; one that it deleted since is held back again.
    bench.vault.write(&note(0), "is back", T).unwrap();
    delete(&bench, 20..30);
    bench.edit(note(1), "edited here");
    let report = bench.pull().await;
    assert_eq!(account(&report), (Outcome::HeldBack, 18, 10));
    assert_eq!(report.kept.len(), 1, "each deletion is checked against what is here");
    assert_eq!(bench.read(note(0)), "is back");
    assert_eq!(bench.read(note(1)), "edited here");
    assert_eq!(bench.files().len(), 12);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_pull_holds_back_too_and_remembers_what_was_confirmed() {
    let mut bench = bench(20).await;
    delete(&bench, 0..15);
    assert_eq!(account(&bench.pull().await), (Outcome::HeldBack, 0, 15));
    assert_eq!(account(&bench.pull_full().await), (Outcome::HeldBack, 0, 15));
    confirm_all(&bench).await;
    assert_eq!(account(&bench.pull_full().await), (Outcome::Complete, 15, 0));
    bench.assert_exact().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_renamed_folder_is_no_deletion() {
    let bench = bench(40).await;
    delete(&bench, 0..40);
    for number in 0..40 {
        bench.vault.write(&format!("There/{number:03}.md"), format!("note {number}"), T).unwrap();
    }
    assert_eq!(account(&bench.pull().await), (Outcome::Complete, 40, 0));
    bench.assert_exact().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn files_that_become_empty_count() {
    let bench = bench(20).await;
    for number in 0..20 {
        bench.vault.write(&note(number), "", T).unwrap();
    }
    assert_eq!(account(&bench.pull().await), (Outcome::HeldBack, 0, 20));
    assert_eq!(bench.read(note(3)), "note 3");
    confirm_all(&bench).await;
    assert_eq!(account(&bench.pull().await), (Outcome::Complete, 0, 0));
    bench.assert_exact().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn many_small_runs_within_an_hour_are_held_back_like_a_large_one() {
    let bench = bench(20).await;
    let mut deleted = 0;
    for number in 0..20 {
        delete(&bench, number..number + 1);
        deleted += bench.pull().await.deleted.files;
    }
    assert_eq!(deleted, 10, "half of the files");
    assert_eq!(bench.files().len(), 10);
}

#[tokio::test(flavor = "multi_thread")]
async fn many_small_syncs_within_an_hour_are_held_back_in_the_vault_like_a_large_one() {
    let bench = bench(20).await;
    let sync =
        async || bench.sync_with(|options| options.max_delete_in_vault = MaxDelete::InVault).await.unwrap();
    sync().await;
    let (mut deleted, mut held) = (0, 0);
    for number in 0..15 {
        std::fs::remove_file(bench.dest().join(note(number))).unwrap();
        let report = sync().await;
        deleted += report.deleted_in_vault.files;
        held = report.held_back_in_vault.len();
    }
    assert_eq!((deleted, held), (10, 5), "half of the files");
    assert_eq!(bench.vault.expected().unwrap().files.len(), 10);
}

/// A sync under the default limit for the vault.
async fn sync(bench: &Bench) -> Report {
    bench.sync_with(|options| options.max_delete_in_vault = MaxDelete::InVault).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn files_that_were_emptied_here_count_for_an_hour_in_the_vault() {
    let bench = bench(100).await;
    sync(&bench).await;
    let mut held = 0;
    for run in 0..3 {
        for number in 10 * run..10 * (run + 1) {
            std::fs::write(bench.dest().join(note(number)), "").unwrap();
        }
        held = sync(&bench).await.held_back_in_vault.len();
    }
    let contents = bench.vault.contents().unwrap();
    let emptied = (0..100).filter(|number| contents[&note(*number)].is_empty()).count();
    assert_eq!((emptied, held), (20, 10));
}

#[tokio::test(flavor = "multi_thread")]
async fn confirmed_deletions_do_not_count_for_an_hour_in_the_vault() {
    let bench = bench(40).await;
    sync(&bench).await;
    for number in 0..22 {
        std::fs::remove_file(bench.dest().join(note(number))).unwrap();
    }
    assert_eq!(sync(&bench).await.held_back_in_vault.len(), 22);
    confirm_all(&bench).await;
    assert_eq!(sync(&bench).await.deleted_in_vault.files, 22);
    std::fs::remove_file(bench.dest().join(note(22))).unwrap();
    let report = sync(&bench).await;
    assert_eq!((report.outcome, report.deleted_in_vault.files), (Outcome::Complete, 1), "{report:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_run_sent_elsewhere_does_not_count_for_an_hour_in_the_vault() {
    let bench = Bench::new().await;
    for number in 0..24 {
        // Equal contents without a common file number are no certain renames.
        bench.vault.write(&note(number), "the same", T).unwrap();
    }
    bench.pull().await;
    sync(&bench).await;
    // All of them before one goes, whose file number would be used again.
    for number in 0..20 {
        bench.edit(format!("There/{number:03}.md"), "the same");
    }
    for number in 0..20 {
        std::fs::remove_file(bench.dest().join(note(number))).unwrap();
    }
    assert_eq!(sync(&bench).await.deleted_in_vault.files, 20);
    std::fs::remove_file(bench.dest().join(note(20))).unwrap();
    let report = sync(&bench).await;
    assert_eq!((report.outcome, report.deleted_in_vault.files), (Outcome::Complete, 1), "{report:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_limit_of_ones_own_counts_and_none_lets_go_what_was_held_back() {
    let mut bench = bench(20).await;
    bench.options.max_delete = "0".parse().unwrap();
    delete(&bench, 0..1);
    assert_eq!(account(&bench.pull().await), (Outcome::HeldBack, 0, 1));
    bench.options.max_delete = "none".parse().unwrap();
    delete(&bench, 1..20);
    assert_eq!(account(&bench.pull().await), (Outcome::Complete, 20, 0));
    bench.assert_exact().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dry_run_names_what_would_be_held_back() {
    let mut bench = bench(20).await;
    delete(&bench, 0..20);
    bench.options.dry_run = true;
    let report = bench.pull().await;
    assert_eq!(account(&report), (Outcome::DryRun, 0, 20));
    assert_eq!(report.held_back[0].as_str(), "Notes/000.md");
    assert_eq!(bench.files().len(), 20);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_held_back_counts_for_the_runs_after_it() {
    let bench = bench(100).await;
    delete(&bench, 0..60);
    assert_eq!(account(&bench.pull().await), (Outcome::HeldBack, 0, 60));
    delete(&bench, 60..100);
    assert_eq!(account(&bench.pull().await), (Outcome::HeldBack, 0, 100), "not forty by themselves");
    confirm_all(&bench).await;
    assert_eq!(account(&bench.pull().await), (Outcome::Complete, 100, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn files_that_become_empty_count_though_an_empty_file_goes() {
    let bench = bench(20).await;
    bench.vault.write("Untitled.md", "", T).unwrap();
    bench.pull().await;
    bench.vault.delete("Untitled.md").unwrap();
    for number in 0..20 {
        bench.vault.write(&note(number), "", T).unwrap();
    }
    assert_eq!(account(&bench.pull().await), (Outcome::HeldBack, 0, 21));
    assert_eq!(bench.read(note(3)), "note 3");
}

#[tokio::test(flavor = "multi_thread")]
async fn files_that_were_emptied_count_for_an_hour() {
    let bench = bench(100).await;
    for run in 0..10 {
        for number in 10 * run..10 * (run + 1) {
            bench.vault.write(&note(number), "", T).unwrap();
        }
        bench.pull().await;
    }
    let emptied = (0..100).filter(|number| bench.read(note(*number)).is_empty()).count();
    assert_eq!(emptied, 50);
}

#[tokio::test(flavor = "multi_thread")]
async fn only_what_was_shown_is_confirmed() {
    let bench = bench(40).await;
    delete(&bench, 0..25);
    bench.pull().await;
    let state = bench.state();
    let shown = held_back(state.as_ref()).await.unwrap();
    drop(state);
    delete(&bench, 25..35);
    bench.pull().await;
    let confirmed = confirm(bench.state().as_ref(), &shown, jiff::Timestamp::now()).await.unwrap();
    assert_eq!(confirmed.len(), 25);
    assert_eq!(account(&bench.pull().await), (Outcome::HeldBack, 25, 10));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_confirmation_that_was_left_beside_the_state_counts_for_exactly_what_it_names() {
    let bench = bench(40).await;
    delete(&bench, 0..25);
    bench.pull().await;
    let state = bench.state();
    let shown = held_back(state.as_ref()).await.unwrap();
    assert_eq!(leave_confirmation(state.as_ref(), &shown[..20]).await.unwrap(), shown[..20]);
    assert_eq!(
        held_back(state.as_ref()).await.unwrap().len(),
        25,
        "nothing is confirmed before a run takes that over"
    );
    drop(state);
    assert_eq!(account(&bench.pull().await), (Outcome::HeldBack, 20, 5));
    assert_eq!(bench.state().confirmations().await.unwrap(), [0; 0]);
    assert_eq!(account(&bench.pull().await), (Outcome::HeldBack, 0, 5));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_was_changed_since_survives_a_confirmation_that_was_left() {
    let bench = bench(20).await;
    delete(&bench, 0..20);
    bench.pull().await;
    let state = bench.state();
    let shown = held_back(state.as_ref()).await.unwrap();
    leave_confirmation(state.as_ref(), &shown).await.unwrap();
    drop(state);
    bench.edit(note(7), "mine");
    bench.pull().await;
    assert_eq!(bench.read(note(7)), "mine");
    assert_eq!(bench.files().len(), 1);
}

//! Results of `verify` about incomplete runs, unapplied changes and unreadable folders.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use obsync_conformance::confined::{Confinement, confined};
use obsync_core::{
    Commit, Intent, MaxDelete, NoProgress, Outcome, Outstanding, StateStore, SyncDirection, SyncOptions,
    Unfinished, VaultState, confirm, held_back, verify,
};
use obsync_protocol::{Redactor, VaultPath};

use crate::bench::Bench;

const T: i64 = 1_700_000_000_000;

async fn pulled() -> Bench {
    let bench = Bench::new().await;
    for path in ["a.md", "b.md", "folder/c.md"] {
        bench.vault.write(path, path, T).unwrap();
    }
    bench.pull().await;
    bench
}

/// Changes the state of the vault as a whole.
async fn edit_state(bench: &Bench, edit: impl FnOnce(&mut VaultState)) {
    let state = bench.state();
    let mut known = state.load().await.unwrap();
    edit(&mut known);
    state.commit(Commit { state: known, ..Commit::default() }).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_did_not_come_to_its_end_is_never_clean() {
    type Edit = fn(&mut VaultState);
    let edits: [(Edit, Unfinished); 4] = [
        (|known| known.listed = false, Unfinished::FirstPull),
        (|known| known.full_up_to = Some(1), Unfinished::FullPull),
        (|known| known.filter = None, Unfinished::OtherChoice),
        (|known| known.keeping = true, Unfinished::KeepEverything),
    ];
    for (edit, reason) in edits {
        let bench = pulled().await;
        assert!(bench.verify().await.is_clean());
        edit_state(&bench, edit).await;
        let verification = bench.verify().await;
        assert!(!verification.is_clean() && verification.is_as_recorded(), "{verification:#?}");
        assert_eq!(verification.unfinished, [reason]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_killed_run_put_there_is_called_that_and_what_others_put_there_is_not() {
    let bench = pulled().await;
    // The state that a run leaves when it dies between publishing and recording.
    let state = bench.state();
    let records = state.all_records().await.unwrap();
    let left = records.into_iter().find(|record| record.path.as_str() == "b.md").unwrap();
    let known = state.load().await.unwrap();
    let forgotten = vec![left.path.clone()];
    let intents = vec![Intent::Place(left)];
    state.commit(Commit { forgotten, intents, state: known, ..Commit::default() }).await.unwrap();
    drop(state);
    fs::write(bench.dest().join("mine.md"), "mine").unwrap();
    let verification = bench.verify().await;
    let left: Vec<&str> = verification.left_by_killed_run.iter().map(|path| path.as_str()).collect();
    assert_eq!((left, verification.extra.as_slice()), (vec!["b.md"], &["mine.md".to_owned()][..]));
    assert_eq!(verification.unfinished, [Unfinished::Killed]);
    let while_at_work = Unfinished::of(bench.state().as_ref(), true).await.unwrap();
    assert_eq!(while_at_work, [], "a run that is at work was not killed");
    bench.pull().await;
    fs::remove_file(bench.dest().join("mine.md")).unwrap();
    assert!(bench.verify().await.is_clean());
}

#[tokio::test(flavor = "multi_thread")]
async fn failures_and_deletions_that_are_held_back_are_named() {
    let mut bench = pulled().await;
    bench.vault.write_damaged("Broken.md", "lost").unwrap();
    bench.vault.delete("a.md").unwrap();
    bench.options.max_delete = MaxDelete::Files(0);
    bench.pull().await;
    let verification = bench.verify().await;
    assert!(!verification.is_clean() && verification.is_as_recorded(), "{verification:#?}");
    assert_eq!((&*verification.failures[0].path, verification.lasting_failures), ("Broken.md", 0));
    assert_eq!(verification.held_back, ["a.md"]);
}

fn push(options: &mut SyncOptions) {
    options.direction = SyncDirection::Push { mirrors: false };
}

fn mirror(options: &mut SyncOptions) {
    options.direction = SyncDirection::Push { mirrors: true };
}

/// A folder whose last push left a change of `a.md` in the vault alone.
async fn diverged() -> Bench {
    let bench = pulled().await;
    bench.sync_with(push).await.unwrap();
    bench.vault.write("a.md", "theirs", T + 5000).unwrap();
    let report = bench.sync_with(push).await.unwrap();
    assert_eq!((report.outcome, report.diverged.len()), (Outcome::Complete, 1), "{report:#?}");
    bench
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_push_left_alone_is_named_until_a_sync_applies_it_or_a_mirror_replaces_it() {
    for mirrors in [false, true] {
        let bench = diverged().await;
        for _ in 0..2 {
            let verification = bench.verify().await;
            assert!(!verification.is_clean() && verification.is_as_recorded(), "{verification:#?}");
            assert_eq!(
                (verification.diverged.as_slice(), verification.accepted_failures),
                (&["a.md".into()][..], 0)
            );
            let outstanding = Outstanding::of(bench.state().as_ref(), &Redactor::default()).await.unwrap();
            assert_eq!((outstanding.diverged, outstanding.accepted.len()), (vec!["a.md".to_owned()], 0));
            bench.sync_with(push).await.unwrap();
        }
        let report = match mirrors {
            true => {
                let dry = |options: &mut SyncOptions| {
                    mirror(options);
                    options.pull.dry_run = true;
                };
                let said = bench.sync_with(dry).await.unwrap();
                assert_eq!(said.steps.len(), 1, "{said:#?}");
                bench.sync_with(mirror).await.unwrap()
            }
            false => bench.sync().await,
        };
        assert_eq!(report.pushed.files, u64::from(mirrors), "{report:#?}");
        assert_eq!(bench.read("a.md"), if mirrors { "a.md" } else { "theirs" });
        assert!(bench.verify().await.is_clean());
        bench.assert_in_step().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_push_left_alone_was_accepted_by_nobody() {
    let bench = pulled().await;
    bench.sync_with(push).await.unwrap();
    // A name that this file system refuses.
    bench.vault.write_hostile_path(&format!("{}.md", "n".repeat(300)), "text").unwrap();
    bench.sync_with(push).await.unwrap();
    for _ in 0..2 {
        let report = bench.sync().await;
        assert_eq!((report.outcome, report.failed(), report.accepted_failures), (Outcome::Failures, 1, 0));
        let verification = bench.verify().await;
        assert_eq!((verification.failures.len(), verification.lasting_failures), (1, 1), "{verification:#?}");
    }
}

async fn confirm_all(bench: &Bench) {
    let state = bench.state();
    let waiting = held_back(state.as_ref()).await.unwrap();
    confirm(state.as_ref(), &waiting, jiff::Timestamp::now()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn deletions_that_were_confirmed_are_named_until_a_run_makes_them() {
    let mut bench = pulled().await;
    bench.vault.delete("a.md").unwrap();
    bench.options.max_delete = MaxDelete::Files(0);
    bench.pull().await;
    confirm_all(&bench).await;
    let verification = bench.verify().await;
    assert!(!verification.is_clean(), "{verification:#?}");
    assert_eq!(
        (verification.held_back.as_slice(), verification.confirmed.as_slice()),
        (&[][..], &["a.md".to_owned()][..])
    );
    let outstanding = Outstanding::of(bench.state().as_ref(), &Redactor::default()).await.unwrap();
    assert_eq!(outstanding.confirmed, ["a.md"]);
    bench.pull().await;
    assert!(bench.verify().await.is_clean());
}

#[tokio::test(flavor = "multi_thread")]
async fn files_that_were_deleted_here_are_not_missing_while_their_deletion_in_the_vault_waits() {
    let bench = Bench::new().await;
    for path in ["a.md", "b.md"] {
        bench.vault.write(path, path, T).unwrap();
    }
    bench.sync().await;
    fs::remove_file(bench.dest().join("a.md")).unwrap();
    bench.sync_with(|options| options.max_delete_in_vault = MaxDelete::Files(0)).await.unwrap();
    let verification = bench.verify().await;
    assert!(!verification.is_clean(), "{verification:#?}");
    assert_eq!((verification.missing.len(), verification.held_back.len()), (0, 0));
    assert_eq!(verification.held_back_in_vault, ["a.md"]);
    confirm_all(&bench).await;
    let verification = bench.verify().await;
    assert_eq!(
        (verification.missing.len(), verification.confirmed.as_slice()),
        (0, &["a.md".to_owned()][..])
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn every_file_is_named_with_how_it_was_compared_if_that_is_asked_for() {
    let bench = pulled().await;
    assert_eq!(bench.verify().await.files, None);
    let named = verify(bench.store().as_ref(), bench.state().as_ref(), true, &NoProgress).await.unwrap();
    let files: Vec<String> = named.files.unwrap().iter().map(|file| file.path.to_string()).collect();
    assert_eq!(files, ["a.md", "b.md", "folder/c.md"]);
    assert_eq!((named.read.files, named.compared.files), (3, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn files_of_the_vault_in_a_folder_that_cannot_be_read_are_neither_missing_nor_well() {
    let test =
        "verifications::files_of_the_vault_in_a_folder_that_cannot_be_read_are_neither_missing_nor_well";
    let Some(place) = confined(test, Confinement::NoPrivileges) else { return };
    let bench = Bench::new().await.at(&place);
    bench.vault.write("a.md", "text", T).unwrap();
    bench.vault.write("folder/c.md", "text", T).unwrap();
    bench.vault.write("locked.md", "text", T).unwrap();
    bench.pull().await;
    let set_mode = |path, mode| {
        fs::set_permissions(bench.dest().join(path), fs::Permissions::from_mode(mode)).unwrap();
    };
    set_mode("folder", 0o000);
    set_mode("locked.md", 0o000);
    let verification = bench.verify().await;
    set_mode("folder", 0o755);
    assert_eq!(
        (verification.missing.len(), verification.unreadable.as_slice()),
        (0, &["folder".to_owned()][..])
    );
    assert!(!verification.is_clean());
    let unverified: Vec<&str> = verification.unverified.iter().map(VaultPath::as_str).collect();
    assert_eq!((unverified, verification.changed), (vec!["folder/c.md", "locked.md"], vec![]));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_no_run_syncs_is_no_fault_and_is_counted_apart() {
    let bench = pulled().await;
    for path in [".obsidian/workspace.json", ".git/config", "folder/.hidden.md"] {
        bench.edit(path, "not of the vault");
    }
    let verification = bench.verify().await;
    assert!(verification.is_clean(), "{verification:#?}");
    assert_eq!(verification.never_synced, 3);
    // A vault could have this one.
    bench.edit(".obsidian/app.json", "{}");
    let verification = bench.verify().await;
    assert_eq!((verification.extra, verification.never_synced), (vec![".obsidian/app.json".to_owned()], 3));
    // A sync does not send it.
    std::fs::remove_dir_all(bench.dest().join(".git")).unwrap();
    bench.sync().await;
    let verification = bench.verify().await;
    assert!(verification.is_clean(), "{verification:#?}");
    assert_eq!(verification.never_synced, 3);
}

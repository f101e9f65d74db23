//! Tests of plans.

use super::*;

fn path(text: &str) -> VaultPath {
    VaultPath::parse(text).unwrap()
}

fn hash(text: &str) -> ContentHash {
    ContentHash::of(text.as_bytes())
}

fn file(at: &str, content: &str, uid: u64) -> RemoteEntry {
    let kind = EntryKind::File { hash: hash(content), size: content.len() as u64 };
    RemoteEntry { path: path(at), uid: Uid(uid), kind, mtime: 1000, ctime: 500 }
}

fn folder(at: &str, uid: u64) -> RemoteEntry {
    RemoteEntry { path: path(at), uid: Uid(uid), kind: EntryKind::Folder, mtime: 0, ctime: 0 }
}

fn deleted(at: &str, uid: u64) -> RemoteEntry {
    RemoteEntry {
        path: path(at),
        uid: Uid(uid),
        kind: EntryKind::Deleted { folder: false },
        mtime: 0,
        ctime: 0,
    }
}

fn known_file(at: &str, content: &str, uid: u64) -> Record {
    let meta =
        FileMeta { hash: hash(content), size: content.len() as u64, mtime: 1000, ctime: 500, uid: Uid(uid) };
    Record::new(path(at), RecordKind::File(meta))
}

fn known_folder(at: &str, uid: u64) -> Record {
    Record::new(path(at), RecordKind::Folder(Uid(uid)))
}

struct Given {
    records: Vec<Record>,
    unclear: Unclear,
    filter: Filter,
    mode: Mode,
    reach: Reach,
    full_up_to: u64,
    is_sequel: bool,
    folds_names: NameFolding,
}

fn given(records: impl IntoIterator<Item = Record>) -> Given {
    let records = records.into_iter().collect();
    Given {
        records,
        unclear: Unclear::default(),
        filter: Filter::default(),
        mode: Mode::Incremental,
        reach: Reach::Everything,
        full_up_to: 0,
        is_sequel: false,
        folds_names: NameFolding::Nothing,
    }
}

impl Given {
    fn plan(self, entries: impl IntoIterator<Item = RemoteEntry>) -> Schedule {
        let sources = self
            .records
            .iter()
            .filter_map(|record| Some((record.file()?.hash, record.path.clone())))
            .collect();
        Schedule::new(ScheduleInput {
            entries: entries.into_iter().collect(),
            unclear: self.unclear,
            records: Records::from(self.records),
            sources,
            filter: &self.filter,
            mode: self.mode,
            reach: self.reach,
            full_up_to: self.full_up_to,
            is_sequel: self.is_sequel,
            folds_names: self.folds_names,
        })
    }
}

fn targets(transfer: &Transfer) -> Vec<&str> {
    transfer.targets.iter().map(|target| target.path.as_str()).collect()
}

fn removed(plan: &Schedule) -> Vec<&str> {
    plan.removals.iter().map(|removal| removal.file.path.as_str()).collect()
}

fn refused(plan: &Schedule) -> Vec<&str> {
    plan.refused.iter().map(|(entry, _)| entry.path.as_str()).collect()
}

#[test]
fn a_new_file_is_downloaded() {
    let plan = given([]).plan([file("a.md", "one", 1)]);
    assert_eq!(plan.transfers.len(), 1);
    assert_eq!(plan.transfers[0].source, Source::Remote);
    assert_eq!(targets(&plan.transfers[0]), ["a.md"]);
}

#[test]
fn one_content_at_many_paths_is_downloaded_once() {
    let plan = given([]).plan([file("a.md", "same", 1), file("b.md", "same", 2), file("c.md", "other", 3)]);
    assert_eq!(plan.transfers.iter().map(targets).collect::<Vec<_>>(), [vec!["a.md", "b.md"], vec!["c.md"]]);
}

#[test]
fn what_is_recorded_already_costs_nothing() {
    let plan = given([known_file("a.md", "one", 4)]).plan([file("a.md", "one", 4)]);
    assert_eq!(plan, Schedule { unchanged: vec![path("a.md")], ..Schedule::default() });
}

#[test]
fn a_newer_uid_for_the_same_content_only_renews_the_record() {
    let plan = given([known_file("a.md", "one", 4)]).plan([file("a.md", "one", 9)]);
    assert_eq!(plan, Schedule { renewed: vec![known_file("a.md", "one", 9)], ..Schedule::default() });
}

#[test]
fn a_newer_time_for_the_same_content_is_set_without_a_transfer() {
    let entry = RemoteEntry { mtime: 2000, ..file("a.md", "one", 9) };
    let plan = given([known_file("a.md", "one", 4)]).plan([entry]);
    assert!(plan.transfers.is_empty());
    assert_eq!(targets(&plan.touches[0]), ["a.md"]);
    assert_eq!(plan.touches[0].targets[0].mtime, 2000);
}

#[test]
fn an_overwritten_file_says_what_it_replaces() {
    let plan = given([known_file("a.md", "one", 1)]).plan([file("a.md", "two", 2)]);
    assert_eq!(plan.transfers[0].targets[0].replaces.map(|recorded| recorded.hash), Some(hash("one")));
}

#[test]
fn a_rename_is_a_rescue_and_a_removal_and_no_download() {
    let plan =
        given([known_file("old.md", "text", 1)]).plan([deleted("old.md", 2), file("new.md", "text", 3)]);
    assert_eq!(plan.rescues.len(), 1);
    assert_eq!(plan.rescues[0].source, Source::Local(path("old.md")));
    assert!(!plan.rescues[0].targets[0].obstructed);
    assert_eq!(removed(&plan), ["old.md"]);
    assert!(plan.transfers.is_empty());
}

#[test]
fn a_swap_of_two_files_rescues_both_and_holds_both_back() {
    let plan = given([known_file("a.md", "one", 1), known_file("b.md", "two", 2)])
        .plan([file("a.md", "two", 3), file("b.md", "one", 4)]);
    assert_eq!(plan.rescues.len(), 2);
    assert!(plan.rescues.iter().all(|rescue| rescue.targets[0].obstructed));
    assert!(plan.transfers.is_empty());
}

#[test]
fn a_copy_of_a_file_that_stays_is_copied_here() {
    let plan = given([known_file("a.md", "one", 1)]).plan([file("b.md", "one", 2)]);
    assert_eq!(plan.transfers[0].source, Source::Local(path("a.md")));
    assert!(plan.rescues.is_empty());
}

#[test]
fn a_file_moved_into_a_folder_of_its_own_old_name_waits_for_the_removal() {
    let plan =
        given([known_file("a", "text", 1)]).plan([deleted("a", 2), folder("a", 3), file("a/a", "text", 4)]);
    // The folder's entry is the latest of the path; the listing keeps only that one.
    assert!(plan.rescues[0].targets[0].obstructed);
}

#[test]
fn a_folder_that_becomes_a_file_is_removed_first() {
    let plan = given([known_folder("a", 1), known_file("a/b.md", "text", 2)])
        .plan([deleted("a/b.md", 3), file("a", "text", 4)]);
    assert_eq!(removed(&plan), ["a/b.md"]);
    assert_eq!(plan.folder_removals[0].path, path("a"));
    assert!(plan.rescues[0].targets[0].obstructed);
}

#[test]
fn folders_are_removed_deepest_first_and_made_shallowest_first() {
    let deleted_folder =
        |at, uid| RemoteEntry { kind: EntryKind::Deleted { folder: true }, ..deleted(at, uid) };
    let plan = given([known_folder("x", 1), known_folder("x/y", 2)]).plan([
        deleted_folder("x", 8),
        deleted_folder("x/y", 7),
        folder("p/q", 9),
        folder("p", 10),
    ]);
    assert_eq!(plan.folder_removals.iter().map(|f| f.path.as_str()).collect::<Vec<_>>(), ["x/y", "x"]);
    assert_eq!(plan.folders.iter().map(|f| f.path.as_str()).collect::<Vec<_>>(), ["p", "p/q"]);
}

#[test]
fn the_deletion_of_what_never_was_here_needs_nothing() {
    let plan = given([]).plan([deleted("a.md", 1)]);
    assert_eq!(plan, Schedule { unchanged: vec![path("a.md")], ..Schedule::default() });
}

#[test]
fn what_the_filter_leaves_out_is_remembered_and_its_local_file_left_alone() {
    let filter = Filter { excluded: vec![path("private")], ..Filter::default() };
    let plan = Given { filter, ..given([known_file("private/a.md", "one", 1)]) }.plan([
        deleted("private/a.md", 2),
        file("private/b.md", "two", 3),
        deleted("private/c.md", 4),
    ]);
    assert_eq!(
        plan.filtered.iter().map(|e| e.path.as_str()).collect::<Vec<_>>(),
        ["private/a.md", "private/b.md"]
    );
    assert!(plan.removals.is_empty() && plan.transfers.is_empty());
    assert_eq!(plan.unchanged, [path("private/c.md")]);
}

#[test]
fn what_lies_below_a_file_is_refused() {
    let plan = given([]).plan([file("a", "one", 1), file("a/b.md", "two", 2)]);
    assert_eq!(refused(&plan), ["a/b.md"]);
    assert_eq!(plan.transfers.len(), 1);
}

#[test]
fn where_names_are_folded_the_older_of_two_is_kept_and_the_other_refused() {
    let plan = Given { folds_names: NameFolding::Case, ..given([]) }
        .plan([file("Note.md", "one", 1), file("note.md", "two", 2)]);
    assert_eq!(targets(&plan.transfers[0]), ["Note.md"]);
    assert_eq!(refused(&plan), ["note.md"]);
    assert!(plan.refused[0].1.contains("letter case"));
}

#[test]
fn of_twins_in_normalisation_one_is_had_and_it_is_always_the_same() {
    let (composed, decomposed) = ("Caf\u{e9}.md", "Cafe\u{301}.md");
    let twins = || [file(decomposed, "one", 1), file(composed, "two", 2)];
    let folding = || Given { folds_names: NameFolding::Normalization, ..given([]) };
    let plan = folding().plan(twins());
    assert_eq!((targets(&plan.transfers[0]), refused(&plan)), (vec![decomposed], vec![composed]));
    assert!(plan.refused[0].1.contains("normalisation"), "{}", plan.refused[0].1);
    // Names that differ only in case are two files there.
    assert!(refused(&folding().plan([file("a.md", "one", 1), file("A.md", "two", 2)])).is_empty());

    // The other one changes; both are recorded since another system pulled them: the present file stays.
    let known = || [known_file(decomposed, "one", 1), known_file(composed, "two", 2)];
    for _ in 0..20 {
        let changed = [file(composed, "three", 3), file(decomposed, "four", 4)];
        let plan = Given { folds_names: NameFolding::Normalization, ..given(known()) }.plan(changed);
        assert_eq!(refused(&plan), [composed]);
    }
    assert!(refused(&given([]).plan(twins())).is_empty(), "both are had where they are two names");
}

#[test]
fn where_names_are_folded_a_change_of_case_is_a_rename_that_waits_for_the_removal() {
    let plan = Given { folds_names: NameFolding::Case, ..given([known_file("Note.md", "one", 1)]) }
        .plan([deleted("Note.md", 2), file("note.md", "one", 3)]);
    assert!(plan.refused.is_empty());
    assert!(plan.rescues[0].targets[0].obstructed);
}

#[test]
fn where_names_are_folded_folders_that_differ_in_case_are_one() {
    let plan =
        Given { folds_names: NameFolding::Case, ..given([]) }.plan([folder("Notes", 1), folder("notes", 2)]);
    assert!(plan.refused.is_empty());
}

#[test]
fn a_full_pull_looks_at_everything_again_and_removes_what_is_not_listed() {
    let records = [known_file("a.md", "one", 1), known_file("gone.md", "two", 2), known_folder("empty", 3)];
    let plan = Given { mode: Mode::Full, ..given(records) }.plan([file("a.md", "one", 1)]);
    assert_eq!(targets(&plan.transfers[0]), ["a.md"]);
    assert_eq!(plan.transfers[0].source, Source::Remote, "a file is no source for itself");
    assert_eq!(removed(&plan), ["gone.md"]);
    assert_eq!(plan.folder_removals[0].path, path("empty"));
}

#[test]
fn a_full_pull_keeps_what_is_listed_in_a_way_that_makes_no_sense_and_doubts_it() {
    let unclear = Unclear { paths: [path("a.md"), path("never.md")].into(), nowhere: 0 };
    let records = [known_file("a.md", "one", 1), known_file("gone.md", "two", 2)];
    let plan = Given { mode: Mode::Full, unclear, ..given(records) }.plan([]);
    assert_eq!(removed(&plan), ["gone.md"]);
    assert_eq!(plan.doubted, [Wanted { path: path("a.md"), hash: hash("one"), size: 3 }]);
}

#[test]
fn a_full_pull_removes_nothing_unlisted_while_something_is_listed_nobody_knows_where() {
    let unclear = Unclear { paths: HashSet::new(), nowhere: 1 };
    let records = [known_file("a.md", "one", 1), known_folder("empty", 2), known_file("there.md", "two", 3)];
    let plan = Given { mode: Mode::Full, unclear, ..given(records) }.plan([file("there.md", "two", 3)]);
    assert!(plan.removals.is_empty() && plan.folder_removals.is_empty());
    let mut unlisted = plan.unlisted;
    unlisted.sort();
    assert_eq!(unlisted, [path("a.md"), path("empty")]);
}

#[test]
fn a_full_pull_that_goes_on_looks_only_at_what_was_not_looked_at() {
    let records = [known_file("a.md", "one", 1), known_file("b.md", "two", 2), known_folder("f", 1)];
    let listed = [file("a.md", "one", 1), file("b.md", "two", 2), folder("f", 1), file("lost.md", "lost", 1)];
    let plan = Given { mode: Mode::Full, full_up_to: 1, ..given(records) }.plan(listed);
    let wanted: Vec<&str> = plan.transfers.iter().flat_map(targets).collect();
    assert_eq!(wanted, ["lost.md", "b.md"], "what is not recorded is wanted all the same");
    assert!(plan.folders.is_empty());
}

#[test]
fn a_full_pull_leaves_alone_what_a_narrower_filter_left_behind() {
    let filter = Filter { excluded: vec![path("private")], ..Filter::default() };
    let given = Given { mode: Mode::Full, filter, ..given([known_file("private/a.md", "one", 1)]) };
    assert!(given.plan([]).removals.is_empty());
}

#[test]
fn a_full_pull_knows_of_what_the_state_says_everything_already() {
    let records = [
        known_file("same.md", "one", 1),
        known_file("newer.md", "two", 2),
        known_file("later.md", "three", 3),
    ];
    let later = RemoteEntry { mtime: 2000, ..file("later.md", "three", 3) };
    let listed =
        [file("same.md", "one", 1), file("newer.md", "two", 4), later, folder("f", 5), folder("g", 6)];
    let records = records.into_iter().chain([known_folder("f", 5), known_folder("g", 5)]);
    let plan = Given { mode: Mode::Full, ..given(records) }.plan(listed);
    let files = plan.transfers.iter().flat_map(|transfer| &transfer.targets);
    let recorded: Vec<&VaultPath> =
        files.filter(|target| target.recorded).map(|target| &target.path).collect();
    assert_eq!(recorded, [&path("same.md")]);
    assert_eq!(plan.folders.iter().map(|folder| folder.recorded).collect::<Vec<_>>(), [true, false]);
}

#[test]
fn every_change_that_is_to_be_done_holds_the_watermark_back() {
    let plan = given([known_file("old.md", "text", 1), known_file("t.md", "t", 1)]).plan([
        deleted("old.md", 2),
        file("new.md", "text", 3),
        folder("f", 4),
        file("fresh.md", "fresh", 5),
        RemoteEntry { mtime: 7, ..file("t.md", "t", 6) },
        deleted("never.md", 7),
    ]);
    let mut pending: Vec<u64> = plan.pending().map(|uid| uid.0).collect();
    pending.sort_unstable();
    assert_eq!(pending, [2, 3, 4, 5, 6]);
}

#[test]
fn of_an_older_vault_only_entries_above_their_records_are_applied_and_nothing_is_removed() {
    let known = [
        known_file("newer.md", "one", 5),
        known_file("same.md", "one", 5),
        known_file("deleted.md", "one", 5),
        known_file("unlisted.md", "one", 5),
        known_file("becomes a folder", "one", 5),
        known_folder("becomes a file", 5),
    ];
    let plan = Given { reach: Reach::Additions, ..given(known) }.plan([
        file("newer.md", "two", 6),
        file("same.md", "two", 4),
        deleted("deleted.md", 7),
        folder("becomes a folder", 7),
        file("becomes a file", "two", 7),
        file("new.md", "three", 3),
    ]);
    let wanted: Vec<_> = plan.transfers.iter().flat_map(targets).collect();
    assert_eq!(wanted, ["new.md", "newer.md"]);
    assert!(plan.removals.is_empty() && plan.folder_removals.is_empty() && plan.folders.is_empty());
}

#[test]
fn a_vault_that_was_accepted_though_it_is_older_replaces_and_renews_but_keeps_what_it_does_not_list() {
    let known = [known_file("a.md", "one", 5), known_file("b.md", "one", 5), known_file("c.md", "c", 5)];
    let plan =
        Given { reach: Reach::Listed, ..given(known) }.plan([file("a.md", "old", 2), file("b.md", "one", 3)]);
    assert_eq!(targets(&plan.transfers[0]), ["a.md"]);
    assert_eq!(plan.renewed[0].uid(), Uid(3));
    assert!(plan.removals.is_empty());
}

#[test]
fn a_plan_that_keeps_everything_gives_up_what_differs_and_removes_nothing() {
    let known = [
        known_file("same.md", "same", 5),
        known_file("differs.md", "mine", 5),
        known_file("deleted.md", "mine too", 5),
        known_file("unlisted.md", "mine as well", 5),
        known_folder("folder", 5),
        known_file("folder/a.md", "a", 5),
    ];
    let plan = Given { reach: Reach::KeepEverything, ..given(known) }.plan([
        file("same.md", "same", 1),
        file("differs.md", "other", 2),
        deleted("deleted.md", 3),
        file("folder", "a file now", 4),
    ]);
    let released: Vec<_> = plan.released.iter().map(VaultPath::as_str).collect();
    assert_eq!(released, ["deleted.md", "differs.md", "folder", "folder/a.md", "unlisted.md"]);
    assert!(plan.removals.is_empty() && plan.folder_removals.is_empty());
    assert!(
        plan.transfers.iter().flat_map(|transfer| &transfer.targets).all(|target| target.replaces.is_none())
    );
    assert_eq!(plan.renewed[0].uid(), Uid(1));
}

#[test]
fn an_entry_that_lies_about_its_size_is_a_transfer_of_its_own() {
    let kind = EntryKind::File { hash: hash("same"), size: 1 << 40 };
    let plan = given([]).plan([
        file("a.md", "same", 1),
        RemoteEntry { kind, ..file("b.md", "same", 2) },
        file("c.md", "same", 3),
    ]);
    assert_eq!(plan.transfers.iter().map(targets).collect::<Vec<_>>(), [vec!["a.md", "c.md"], vec!["b.md"]]);
}

#[test]
fn a_plan_has_work_whatever_kind_of_work_it_is() {
    let transfer = || given([]).plan([file("a.md", "one", 1)]).transfers;
    let removal = || given([known_file("a.md", "one", 1)]).plan([deleted("a.md", 2)]).removals;
    let change = || given([]).plan([folder("f", 1)]).folders;
    let kinds = [
        Schedule { rescues: transfer(), ..Schedule::default() },
        Schedule { touches: transfer(), ..Schedule::default() },
        Schedule { transfers: transfer(), ..Schedule::default() },
        Schedule { removals: removal(), ..Schedule::default() },
        Schedule { folder_removals: change(), ..Schedule::default() },
        Schedule { folders: change(), ..Schedule::default() },
    ];
    for plan in kinds {
        assert!(plan.has_work(), "{plan:?}");
    }
    let unchanged = given([known_file("a.md", "one", 4)]).plan([file("a.md", "one", 9)]);
    assert!(!unchanged.renewed.is_empty() && !unchanged.has_work(), "a record costs the destination nothing");
}

#[test]
fn a_transfer_knows_which_of_its_paths_have_the_content_already() {
    let records = [known_file("same.md", "text", 1), known_file("other.md", "old", 2)];
    let listed = [file("same.md", "text", 1), file("other.md", "text", 3), file("new.md", "text", 4)];
    let plan = Given { mode: Mode::Full, ..given(records) }.plan(listed.clone());
    let [transfer] = &plan.transfers[..] else { panic!("{plan:#?}") };
    let renewed: Vec<&str> = transfer.renewed_targets().map(|target| target.path.as_str()).collect();
    assert_eq!(renewed, ["other.md", "new.md"]);
    assert_eq!(transfer.confirmed_targets().collect::<Vec<_>>(), ["text".len() as u64]);
    assert_eq!(transfer.entries().collect::<Vec<_>>(), listed, "it stands for what was listed");
    let meta = transfer.targets[0].meta(transfer.hash, transfer.size);
    assert_eq!(Some(&meta), known_file("same.md", "text", 1).file());
}

#[test]
fn what_a_plan_brings_or_looks_at_again_is_wanted() {
    let plan = given([known_file("old.md", "text", 1), known_file("t.md", "t", 1)]).plan([
        deleted("old.md", 2),
        file("rescued.md", "text", 3),
        file("fetched.md", "new", 4),
        folder("f", 5),
        RemoteEntry { mtime: 7, ..file("t.md", "t", 6) },
    ]);
    let wanted: Vec<&str> = plan.wanted_paths().map(VaultPath::as_str).collect();
    assert_eq!(wanted, ["rescued.md", "fetched.md", "f"]);
}

#[test]
fn a_sequel_of_a_plan_that_keeps_everything_gives_up_only_what_it_lists() {
    let known = || [known_file("listed.md", "mine", 5), known_file("unlisted.md", "mine too", 5)];
    let keeping = |is_sequel| Given { reach: Reach::KeepEverything, is_sequel, ..given(known()) };
    let listed = || [file("listed.md", "theirs", 6)];
    assert_eq!(keeping(true).plan(listed()).released, [path("listed.md")]);
    assert_eq!(keeping(false).plan(listed()).released, [path("listed.md"), path("unlisted.md")]);
}

#[test]
fn what_is_moved_aside_by_a_plan_that_keeps_everything_is_rescued_before() {
    let known = [known_file("a.md", "text", 5), known_file("deleted.md", "more", 5)];
    let plan = Given { reach: Reach::KeepEverything, ..given(known) }.plan([
        file("a.md", "other", 6),
        file("b.md", "text", 7),
        deleted("deleted.md", 8),
        file("c.md", "more", 9),
    ]);
    let rescues: Vec<_> =
        plan.rescues.iter().map(|rescue| (rescue.source.local(), targets(rescue))).collect();
    assert_eq!(rescues, [(Some(&path("a.md")), vec!["b.md"])]);
    // A file that stays in place despite the vault's deletion is no vanishing source.
    let sources: Vec<_> = plan.transfers.iter().map(|transfer| transfer.source.local()).collect();
    assert_eq!(sources, [None, Some(&path("deleted.md"))]);
}

#[test]
fn a_sequel_removes_nothing_that_it_does_not_list() {
    let records = || [known_file("a.md", "one", 1), known_file("unlisted.md", "two", 2)];
    let full = |is_sequel| Given { mode: Mode::Full, is_sequel, ..given(records()) };
    assert!(full(true).plan([file("a.md", "one", 1)]).removals.is_empty());
    assert_eq!(removed(&full(false).plan([file("a.md", "one", 1)])), ["unlisted.md"]);
}

/// If names are folded, the new name of a file is that very file, whatever its content could be copied from.
#[test]
fn a_removal_is_in_the_way_of_a_rename_by_case_beside_an_equal_file_that_stays() {
    let known = [known_file("daily.md", "text", 2), known_file("Template.md", "text", 1)];
    let given = Given { folds_names: NameFolding::Case, ..given(known) };
    let plan = given.plan([deleted("daily.md", 3), file("Daily.md", "text", 4)]);
    assert!(plan.rescues.is_empty());
    assert!(plan.removals.iter().all(|removal| removal.in_the_way), "{:?}", plan.removals);
}

#[test]
fn a_removal_is_in_the_way_of_what_comes_to_its_place_above_or_below_it() {
    let known = [
        known_file("at", "text", 1),
        known_file("becomes a folder", "other", 1),
        known_file("below/a.md", "deep", 1),
        known_folder("below", 1),
        known_file("elsewhere.md", "else", 1),
    ];
    let plan = given(known).plan([
        deleted("at", 2),
        file("at/new.md", "text", 3),
        folder("becomes a folder", 4),
        deleted("below/a.md", 5),
        file("below", "deep", 6),
        deleted("elsewhere.md", 7),
    ]);
    let in_the_way: Vec<(&str, bool)> =
        plan.removals.iter().map(|removal| (removal.file.path.as_str(), removal.in_the_way)).collect();
    let wanted = [("at", true), ("becomes a folder", true), ("below/a.md", true), ("elsewhere.md", false)];
    assert_eq!(in_the_way, wanted);
    // Paths that only begin alike do not overlap.
    let paths: BTreeSet<String> = ["a/b".to_owned(), "ab/c".to_owned()].into();
    for (path, is_there, is_in_its_way) in [
        ("a", true, true),
        ("a/b", true, true),
        ("a/b/c", false, true),
        ("ab", true, true),
        ("a/", false, false),
    ] {
        assert_eq!(is_at_or_below(path, &paths), is_there, "{path}");
        assert_eq!(is_obstructed(path, &paths), is_in_its_way, "{path}");
    }
    assert!(!is_at_or_below("b", &paths) && !is_obstructed("a-b", &paths));
}

#[test]
fn a_content_that_is_at_its_path_already_is_no_source_for_another_that_replaces_it() {
    // The only file with the content gets another one, and its content is wanted elsewhere.
    let plan =
        given([known_file("a.md", "text", 1)]).plan([file("a.md", "other", 2), file("b.md", "text", 3)]);
    assert_eq!(plan.rescues.iter().map(targets).collect::<Vec<_>>(), [vec!["b.md"]]);
    assert_eq!(plan.transfers.iter().map(targets).collect::<Vec<_>>(), [vec!["a.md"]]);
    // A file that becomes empty is not rescued for another empty one.
    let plan = given([known_file("a.md", "", 1)]).plan([deleted("a.md", 2), file("b.md", "", 3)]);
    assert!(plan.rescues.is_empty() && plan.transfers[0].source == Source::Remote);
}

/// A killed run may have removed it without recording that.
#[test]
fn a_folder_with_a_newer_uid_is_made_if_it_is_not_there() {
    let plan = given([known_folder("f", 4)]).plan([folder("f", 9)]);
    let made = FolderChange { path: path("f"), uid: Uid(9), recorded: false };
    assert_eq!(plan, Schedule { folders: vec![made], ..Schedule::default() });
}

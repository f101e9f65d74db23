//! Decisions about what to send, case by case.

use obsync_protocol::FileTypes;

use super::*;
use crate::model::KnownContent;
use crate::scan::{Unknown, UnknownCause};

fn path(text: &str) -> VaultPath {
    VaultPath::parse(text).unwrap()
}

fn facts(size: u64) -> LocalFacts {
    LocalFacts::File { size, modified: 1, changed: 1, inode: 1 }
}

/// A recorded file with this text, or a folder.
fn record(at: &str, text: Option<&str>) -> Record {
    let kind = match text {
        Some(text) => {
            let content = KnownContent::of(text.as_bytes());
            let KnownContent { hash, size } = content;
            RecordKind::File(FileMeta { hash, size, mtime: 0, ctime: 0, uid: Uid(7) })
        }
        None => RecordKind::Folder(Uid(7)),
    };
    Record::seen(path(at), kind, None)
}

fn file(at: &str, text: &str) -> LocalFile {
    let content = KnownContent::of(text.as_bytes());
    LocalFile { path: path(at), content, mtime: 2, ctime: 1, facts: facts(content.size) }
}

struct Case {
    records: Vec<Record>,
    tree: LocalTree,
    unapplied: HashSet<VaultPath>,
    held_back: HashSet<VaultPath>,
    sends_configuration: bool,
    may_delete: bool,
    excluded: Vec<VaultPath>,
}

impl Case {
    fn new(records: &[(&str, Option<&str>)]) -> Self {
        Case {
            records: records.iter().map(|(at, text)| record(at, *text)).collect(),
            tree: LocalTree::default(),
            unapplied: HashSet::new(),
            held_back: HashSet::new(),
            sends_configuration: false,
            may_delete: true,
            excluded: Vec::new(),
        }
    }

    fn found(mut self, files: &[(&str, &str)], folders: &[&str], absent: &[&str]) -> Self {
        self.tree.files = files.iter().map(|(at, text)| file(at, text)).collect();
        self.tree.folders = folders.iter().map(|at| path(at)).collect();
        self.tree.absent = absent.iter().map(|at| path(at)).collect();
        self
    }

    fn outgoing(&self) -> Outgoing {
        Outgoing::decide(OutgoingInput {
            records: &self.records,
            tree: self.tree.clone(),
            filter: &Filter {
                file_types: FileTypes::all(),
                excluded: self.excluded.clone(),
                ..Filter::default()
            },
            sends_configuration: self.sends_configuration,
            unapplied: &self.unapplied,
            held_back: &self.held_back,
            now: 1000,
            may_delete: self.may_delete,
        })
    }

    /// Steps in the order in which they are sent.
    fn steps(&self) -> Vec<String> {
        let outgoing = self.outgoing();
        let deleted = |absent: &Absent| format!("delete {}", absent.path());
        let mut steps: Vec<String> = outgoing.replaced.iter().map(deleted).collect();
        steps.extend(outgoing.folders.iter().map(|path| format!("folder {path}")));
        steps.extend(outgoing.files.iter().map(|file| match &file.from {
            Some(from) => format!("rename {} to {}", from.path(), file.local.path),
            None => format!("send {}", file.local.path),
        }));
        steps.extend(outgoing.deletions.iter().chain(&outgoing.folder_deletions).map(deleted));
        steps
    }
}

#[test]
fn new_and_changed_files_are_sent_after_their_folders_the_smallest_first() {
    let case = Case::new(&[("changed.md", Some("before"))]).found(
        &[("b/large.md", "larger than the others"), ("changed.md", "after"), ("b/c/x.md", "x")],
        &["b/c", "b"],
        &[],
    );
    assert_eq!(
        case.steps(),
        ["folder b", "folder b/c", "send b/c/x.md", "send changed.md", "send b/large.md"]
    );
    let outgoing = case.outgoing();
    assert_eq!(outgoing.files[1].base.as_ref().map(|base| base.uid), Some(Uid(7)));
}

#[test]
fn what_is_gone_is_deleted_the_deepest_folder_last_but_one() {
    let case =
        Case::new(&[("a", None), ("a/b", None), ("a/b/note.md", Some("text")), ("kept.md", Some("k"))])
            .found(&[], &[], &["a", "a/b", "a/b/note.md"]);
    assert_eq!(case.steps(), ["delete a/b/note.md", "delete a/b", "delete a"]);
    let outgoing = case.outgoing();
    assert!(outgoing.absent().all(|absent| absent.uid() == Uid(7)), "the version that is to go is named");
}

#[test]
fn nothing_is_deleted_that_was_not_seen_or_that_nobody_may_miss() {
    let gone = || Case::new(&[("note.md", Some("text"))]).found(&[], &[], &["note.md"]);
    assert_eq!(gone().steps(), ["delete note.md"]);
    let nothing: [&str; 0] = [];
    let mut case = gone();
    case.may_delete = false;
    assert_eq!(case.steps(), nothing, "the first run");
    let mut case = gone();
    case.tree.is_in_flux = true;
    assert_eq!(case.steps(), nothing, "git is at work");
    let mut case = gone();
    case.records[0].witnessed = false;
    assert_eq!(case.steps(), nothing, "nobody saw it here");
    let mut case = gone();
    case.unapplied.insert(path("note.md"));
    assert_eq!(case.steps(), nothing, "a change of the vault waits");
    let mut case = gone();
    case.tree.unknown.push(Unknown { path: "note.md".to_owned(), why: UnknownCause::Link });
    assert_eq!(case.steps(), nothing, "a link is in its place");
    let mut case = Case::new(&[("a/note.md", Some("text"))]).found(&[], &[], &["a/note.md"]);
    let why = UnknownCause::Unreadable { reason: "no permission".to_owned() };
    case.tree.unknown.push(Unknown { path: "a".to_owned(), why });
    assert_eq!(case.steps(), nothing, "its folder cannot be read");
    let case = Case::new(&[("x/.hidden.md", Some("text"))]).found(&[], &[], &["x/.hidden.md"]);
    assert_eq!(case.steps(), nothing, "no scan sees it");
}

#[test]
fn a_rename_is_what_certainly_is_one() {
    let renamed = Case::new(&[("old.md", Some("text"))]).found(&[("new.md", "text")], &[], &["old.md"]);
    assert_eq!(renamed.steps(), ["rename old.md to new.md"]);
    let edited = Case::new(&[("old.md", Some("text"))]).found(&[("new.md", "edited")], &[], &["old.md"]);
    assert_eq!(edited.steps(), ["send new.md", "delete old.md"]);
    let empty = Case::new(&[("old.md", Some(""))]).found(&[("new.md", "")], &[], &["old.md"]);
    assert_eq!(empty.steps(), ["send new.md", "delete old.md"]);
    let two = Case::new(&[("a.md", Some("text")), ("b.md", Some("text"))]).found(
        &[("new.md", "text")],
        &[],
        &["a.md", "b.md"],
    );
    assert_eq!(two.steps(), ["send new.md", "delete a.md", "delete b.md"]);
    let copied =
        Case::new(&[("a.md", Some("text"))]).found(&[("x.md", "text"), ("y.md", "text")], &[], &["a.md"]);
    assert_eq!(copied.steps(), ["send x.md", "send y.md", "delete a.md"]);
    // Swaps and chains are sent as contents.
    let chain = Case::new(&[("a.md", Some("A")), ("b.md", Some("B"))]).found(
        &[("b.md", "A"), ("c.md", "B")],
        &[],
        &["a.md"],
    );
    assert_eq!(chain.steps(), ["send b.md", "send c.md", "delete a.md"]);
    // The folder that has the old name now is something else.
    let occupied = Case::new(&[("a", Some("text"))]).found(&[("b.md", "text"), ("a/n.md", "n")], &["a"], &[]);
    assert_eq!(occupied.steps(), ["delete a", "folder a", "send a/n.md", "send b.md"]);
}

#[test]
fn a_file_and_a_folder_take_each_others_place() {
    let to_folder = Case::new(&[("a", Some("text"))]).found(&[("a/note.md", "n")], &["a"], &[]);
    assert_eq!(to_folder.steps(), ["delete a", "folder a", "send a/note.md"]);
    let to_file =
        Case::new(&[("a", None), ("a/note.md", Some("n"))]).found(&[("a", "text")], &[], &["a/note.md"]);
    assert_eq!(to_file.steps(), ["delete a/note.md", "delete a", "send a"]);
}

#[test]
fn configuration_goes_only_when_it_is_wanted_and_hidden_files_never() {
    let files = [(".obsidian/app.json", "{}"), ("x/.secret", "s"), (".env", "e")];
    let mut case = Case::new(&[]).found(&files, &[], &[]);
    let nothing: [&str; 0] = [];
    assert_eq!(case.steps(), nothing);
    case.sends_configuration = true;
    assert_eq!(case.steps(), ["send .obsidian/app.json"]);
}

#[test]
fn an_editors_litter_is_not_sent_as_long_as_it_is_new() {
    let mut case = Case::new(&[]).found(&[("note.md~", "x"), ("note.md", "x")], &[], &[]);
    assert_eq!(case.steps(), ["send note.md"]);
    case.tree.files[0].mtime = -58_999;
    assert_eq!(case.steps(), ["send note.md"]);
    // A minute old, or from a clock that is ahead.
    for mtime in [-59_000, -600_000, 61_000] {
        case.tree.files[0].mtime = mtime;
        assert_eq!(case.steps(), ["send note.md", "send note.md~"]);
    }
    let recorded = Case::new(&[("a.tmp", Some("x"))]).found(&[("a.tmp", "y")], &[], &[]);
    assert_eq!(recorded.steps(), ["send a.tmp"], "what the vault has is no litter");
}

#[test]
fn a_name_that_the_vault_must_not_get_is_refused() {
    let case = Case::new(&[]).found(&[("git~1/config", "x"), ("fine.md", "x")], &[], &[]);
    assert_eq!(case.steps(), ["send fine.md"]);
    assert_eq!(case.outgoing().refused.len(), 1);
}

#[test]
fn a_name_with_a_colon_is_sent_only_where_the_vault_has_it() {
    let files = [("10:30.md", "y"), ("11:30.md", "new"), ("a:b/c.md", "new")];
    let case = Case::new(&[("10:30.md", Some("x"))]).found(&files, &["a:b"], &[]);
    assert_eq!(case.steps(), ["send 10:30.md"]);
    let refused: Vec<String> =
        case.outgoing().refused.into_iter().map(|(path, _)| path.to_string()).collect();
    assert_eq!(refused, ["a:b", "11:30.md", "a:b/c.md"]);
    let copy = "10:30 (Conflicted copy laptop 202501312359).md";
    let case = Case::new(&[("10:30.md", Some("x")), ("a:b", None)]).found(
        &[("10:30.md", "y"), (copy, "z"), ("a:b/c.md", "new"), ("a:b/c:d.md", "new")],
        &[],
        &[],
    );
    assert_eq!(case.steps(), [&format!("send {copy}"), "send 10:30.md", "send a:b/c.md"]);
}

#[test]
fn what_got_a_name_that_is_refused_is_not_deleted_there() {
    let known =
        [("Meeting.md", Some("text")), ("gone.md", Some("gone")), ("dir", None), ("dir/in.md", Some("in"))];
    let case = Case::new(&known).found(
        &[("10:30 Meeting.md", "text"), ("A: b/in.md", "in")],
        &["A: b"],
        &["Meeting.md", "gone.md", "dir", "dir/in.md"],
    );
    assert_eq!(case.steps(), ["delete gone.md"]);
    assert_eq!(case.outgoing().kept, [path("Meeting.md"), path("dir/in.md")]);
    // Edited since, or with a name that is no valid path: matched by file number.
    let mut case = Case::new(&known[..2]).found(&[("10:30.md", "edited")], &[], &["Meeting.md", "gone.md"]);
    case.records[0].facts = Some(facts(4));
    assert_eq!(case.steps(), ["delete gone.md"]);
    let mut case = Case::new(&known[..2]).found(&[], &[], &["Meeting.md", "gone.md"]);
    case.records[0].facts = Some(facts(4));
    let why = UnknownCause::Name { reason: "backslash".to_owned(), inode: Some(1) };
    case.tree.unknown.push(Unknown { path: "a\\b.md".to_owned(), why });
    assert_eq!(case.steps(), ["delete gone.md"]);
}

#[test]
fn deletions_are_counted_without_moves_and_with_emptied_files() {
    let case =
        Case::new(&[("a.md", Some("a")), ("b.md", Some("b")), ("c.md", Some("c")), ("d.md", Some("d"))])
            .found(&[("x/a.md", "a"), ("c.md", "")], &["x"], &["a.md", "b.md"]);
    let mut outgoing = case.outgoing();
    assert_eq!(outgoing.count_deletions(&HashSet::new()), 2, "b and c");
    assert_eq!(outgoing.counted, HashSet::from([path("b.md"), path("c.md")]));
    assert_eq!(outgoing.count_deletions(&HashSet::from([path("b.md")])), 1);
    let held_back = outgoing.hold_back(&HashSet::from([path("b.md")]));
    assert_eq!(held_back.iter().map(Absent::path).collect::<Vec<_>>(), [&path("c.md")]);
    assert_eq!(outgoing.deletions.len(), 1);
    let mut outgoing = case.outgoing();
    let held_back = outgoing.hold_back(&HashSet::new());
    assert_eq!(held_back.len(), 2);
    assert!(outgoing.deletions.is_empty());
    assert_eq!(outgoing.files.len(), 1, "the rename goes");
}

#[test]
fn what_would_take_the_place_of_what_stays_stays_here() {
    let case =
        Case::new(&[("a", None), ("a/note.md", Some("n"))]).found(&[("a", "text")], &[], &["a/note.md"]);
    let mut outgoing = case.outgoing();
    assert_eq!(outgoing.hold_back(&HashSet::new()).len(), 2);
    assert!(outgoing.is_empty(), "{outgoing:?}");
}

#[test]
fn nothing_is_sent_where_a_change_of_the_vault_waits() {
    let mut case = Case::new(&[]).found(&[("note.md", "mine")], &[], &[]);
    case.unapplied.insert(path("note.md"));
    let outgoing = case.outgoing();
    assert!(outgoing.is_empty());
    assert_eq!(outgoing.waiting, [path("note.md")]);
    let mut case = Case::new(&[("b.md", Some("b"))]).found(&[("a.md", "old"), ("b.md", "edited")], &[], &[]);
    case.held_back = HashSet::from([path("a.md"), path("b.md")]);
    assert_eq!(case.steps(), ["send b.md"], "an edit survives a deletion that waits");
    let mut case = Case::new(&[]).found(&[], &["f", "g"], &[]);
    case.unapplied.insert(path("f"));
    assert_eq!(case.steps(), ["folder g"]);
}

#[test]
fn what_lost_half_of_its_bytes_is_left_unless_it_was_found_so_before() {
    let records = ["a.md", "b.md", "c.md"].map(|at| (at, Some("12345678")));
    let found = [("a.md", "1234"), ("b.md", "12345"), ("c.md", ""), ("new.md", "x")];
    let mut outgoing = Case::new(&records).found(&found, &[], &[]).outgoing();
    assert_eq!(outgoing.shrunk(), HashSet::from([path("a.md"), path("c.md")]));
    outgoing.leave_what_shrank_but(&HashSet::from([path("c.md")]));
    let left: Vec<&VaultPath> = outgoing.files.iter().map(|file| &file.local.path).collect();
    assert_eq!(left, [&path("c.md"), &path("new.md"), &path("b.md")]);
}

#[test]
fn a_folder_of_the_configuration_is_never_sent_nor_deleted() {
    let mut case = Case::new(&[(".obsidian/plugins", None)]).found(
        &[],
        &[".obsidian", ".obsidian/themes"],
        &[".obsidian/plugins"],
    );
    case.sends_configuration = true;
    let nothing: [&str; 0] = [];
    assert_eq!(case.steps(), nothing);
}

#[test]
fn whatever_is_deleted_is_named_once_a_rename_among_it() {
    let case = Case::new(&[("a.md", Some("A")), ("b.md", Some("B")), ("x", None), ("y", Some("text"))])
        .found(&[("c.md", "A"), ("y/n.md", "n")], &["y"], &["a.md", "b.md", "x"]);
    let outgoing = case.outgoing();
    let mut absent: Vec<&str> = outgoing.absent().map(|absent| absent.path().as_str()).collect();
    absent.sort_unstable();
    assert_eq!(absent, ["a.md", "b.md", "x", "y"]);
    assert!(outgoing.has_absent() && !outgoing.is_empty());
    assert!(!Case::new(&[]).outgoing().has_absent());
}

#[test]
fn there_is_something_to_send_whatever_kind_of_change_it_is() {
    let gone = || vec![Absent::of(&record("a.md", Some("a")))];
    let file = || Case::new(&[]).found(&[("new.md", "n")], &[], &[]).outgoing().files;
    let kinds = [
        Outgoing { replaced: gone(), ..Outgoing::default() },
        Outgoing { folders: vec![path("f")], ..Outgoing::default() },
        Outgoing { files: file(), ..Outgoing::default() },
        Outgoing { deletions: gone(), ..Outgoing::default() },
        Outgoing { folder_deletions: gone(), ..Outgoing::default() },
    ];
    for outgoing in kinds {
        assert!(!outgoing.is_empty(), "{outgoing:?}");
    }
    assert!(Outgoing { waiting: vec![path("a.md")], ..Outgoing::default() }.is_empty(), "that is not sent");
}

#[test]
fn a_deletion_counts_unless_its_content_has_a_new_place_of_its_own() {
    let counted = |records: &[(&str, Option<&str>)], found: &[(&str, &str)]| {
        let absent: Vec<&str> = records.iter().map(|(at, _)| *at).collect();
        Case::new(records).found(found, &[], &absent).outgoing().count_deletions(&HashSet::new())
    };
    let two = [("a.md", Some("text")), ("b.md", Some("text"))];
    assert_eq!(counted(&two, &[]), 2);
    assert_eq!(counted(&two, &[("x.md", "text")]), 1);
    assert_eq!(counted(&two, &[("x.md", "text"), ("y.md", "text")]), 0);
    assert_eq!(counted(&[two[0], two[1], ("c.md", Some("text"))], &[("x.md", "text"), ("y.md", "text")]), 1);
    assert_eq!(counted(&[("a.md", Some(""))], &[("x.md", "")]), 1, "no empty file is another one's");
}

/// A file with this file number.
fn numbered(inode: u64, size: u64) -> LocalFacts {
    LocalFacts::File { size, modified: 1, changed: 1, inode }
}

/// Renames among equal notes that are gone and equal notes that are new, each with its file number.
fn renamed_among(text: &str, gone: &[(&str, u64)], new: &[(&str, &str, u64)]) -> Vec<String> {
    let records: Vec<(&str, Option<&str>)> = gone.iter().map(|(at, _)| (*at, Some(text))).collect();
    let files: Vec<(&str, &str)> = new.iter().map(|(at, text, _)| (*at, *text)).collect();
    let absent: Vec<&str> = gone.iter().map(|(at, _)| *at).collect();
    let mut case = Case::new(&records).found(&files, &[], &absent);
    for (record, (_, inode)) in case.records.iter_mut().zip(gone) {
        record.facts = Some(numbered(*inode, text.len() as u64));
    }
    for (file, (_, text, inode)) in case.tree.files.iter_mut().zip(new) {
        file.facts = numbered(*inode, text.len() as u64);
    }
    case.steps().into_iter().filter(|step| step.starts_with("rename")).collect()
}

#[test]
fn of_equal_notes_those_are_renamed_that_are_the_same_file() {
    let gone = [("a.md", 1), ("b.md", 2)];
    let renamed = |new: &[(&str, &str, u64)]| renamed_among("text", &gone, new);
    assert_eq!(
        renamed(&[("x.md", "text", 2), ("y.md", "text", 1)]),
        ["rename b.md to x.md", "rename a.md to y.md"]
    );
    assert_eq!(renamed(&[("x.md", "text", 2)]), ["rename b.md to x.md"], "the other is gone");
    assert_eq!(renamed(&[("x.md", "text", 2), ("y.md", "text", 9)]), ["rename b.md to x.md"], "and a copy");
    let copied = renamed_among("text", &gone[..1], &[("copy.md", "text", 9), ("x.md", "text", 1)]);
    assert_eq!(copied, ["rename a.md to x.md"]);
}

#[test]
fn the_number_of_a_file_alone_makes_no_rename() {
    let nothing: [&str; 0] = [];
    let gone = [("a.md", 1), ("b.md", 2)];
    let renamed = |new: &[(&str, &str, u64)]| renamed_among("text", &gone, new);
    assert_eq!(renamed(&[("x.md", "other", 1), ("y.md", "other", 2)]), nothing, "it was given to another");
    assert_eq!(renamed(&[("x.md", "text", 8), ("y.md", "text", 9)]), nothing, "which is which?");
    assert_eq!(renamed(&[("x.md", "text", 1), ("y.md", "text", 1)]), nothing, "links to one file");
    let linked = [("a.md", 1), ("b.md", 1)];
    assert_eq!(renamed_among("text", &linked, &[("x.md", "text", 1)]), nothing, "it had two names");
    assert_eq!(renamed_among("", &gone, &[("x.md", "", 1), ("y.md", "", 2)]), nothing, "they are empty");
}

#[test]
fn only_what_would_take_the_place_of_what_stays_waits() {
    let case =
        Case::new(&[("a", Some("text"))]).found(&[("a/note.md", "n"), ("b/x.md", "x")], &["a", "b"], &[]);
    let mut outgoing = case.outgoing();
    assert_eq!(outgoing.hold_back(&HashSet::new()).len(), 1);
    assert_eq!(outgoing.folders, [path("b")]);
    let files: Vec<&VaultPath> = outgoing.files.iter().map(|file| &file.local.path).collect();
    assert_eq!(files, [&path("b/x.md")]);
}

#[test]
fn recorded_files_with_other_facts_and_the_same_content_are_renewed() {
    let mut case = Case::new(&[("a.md", Some("a"))]);
    case.tree.renewed = vec![(path("a.md"), facts(1)), (path("unrecorded.md"), facts(2))];
    let outgoing = case.outgoing();
    assert_eq!(outgoing.renewed, [(record("a.md", Some("a")), facts(1))]);
    assert!(outgoing.is_empty());
    let (known, facts) = outgoing.renewed[0].clone();
    let record = renewed((known.clone(), facts.clone()));
    assert_eq!(record, Record { facts: Some(facts), ..known });
}

/// The only path of the table, below a folder that a filter can exclude.
const AT: &str = "x/a.md";

/// Records of the path.
const BASES: [(&str, Option<Option<&str>>, bool); 5] = [
    ("-", None, true),
    ("file A", Some(Some("A")), true),
    ("file A, unseen", Some(Some("A")), false),
    ("folder", Some(None), true),
    ("folder, unseen", Some(None), false),
];

/// Scan results for the path.
fn scans() -> Vec<(&'static str, LocalTree)> {
    let found = |text: &str| LocalTree { files: vec![file(AT, text)], ..LocalTree::default() };
    let absent = || LocalTree { absent: vec![path(AT)], ..LocalTree::default() };
    let unknown = |why| LocalTree { unknown: vec![Unknown { path: AT.to_owned(), why }], ..absent() };
    vec![
        ("nothing", LocalTree::default()),
        ("absent", absent()),
        ("absent, git at work", LocalTree { is_in_flux: true, ..absent() }),
        ("absent, a link there", unknown(UnknownCause::Link)),
        ("absent, not mounted", unknown(UnknownCause::NotMounted)),
        ("missing object", LocalTree { missing: vec![path(AT)], ..LocalTree::default() }),
        ("file B", found("B")),
        ("file B, git at work", LocalTree { is_in_flux: true, ..found("B") }),
        ("folder", LocalTree { folders: vec![path(AT)], ..LocalTree::default() }),
    ]
}

/// Waiting changes of the vault, first run or not, path excluded by the filter or not.
const CIRCUMSTANCES: [(&str, bool, bool, bool, bool); 5] = [
    ("all is applied", false, false, true, false),
    ("a change of the vault waits", true, false, true, false),
    ("its deletion there is held back here", false, true, true, false),
    ("a first run", false, false, false, false),
    ("left out by the filter", false, false, true, true),
];

#[test]
fn the_table_of_what_the_vault_gets() {
    let mut table = String::new();
    for (circumstance, waits, is_held_back, may_delete, is_left_out) in CIRCUMSTANCES {
        table.push_str(&format!("# {circumstance}\n"));
        for (base, recorded, witnessed) in BASES {
            for (scan, tree) in scans() {
                let mut case = Case::new(&recorded.map(|text| (AT, text)).into_iter().collect::<Vec<_>>());
                case.records.iter_mut().for_each(|record| record.witnessed = witnessed);
                case.tree = tree;
                case.may_delete = may_delete;
                case.excluded.extend(is_left_out.then(|| path("x")));
                case.unapplied.extend(waits.then(|| path(AT)));
                case.held_back.extend(is_held_back.then(|| path(AT)));
                let mut steps = case.steps();
                steps.extend(case.outgoing().waiting.iter().map(|_| "wait".to_owned()));
                let shown = if steps.is_empty() { "-".to_owned() } else { steps.join("; ") };
                table.push_str(&format!("{base:14} | {scan:20} | {shown}\n"));
                let deletes = case.outgoing().has_absent();
                let may = witnessed && may_delete && !waits && !is_left_out && !case.tree.is_in_flux;
                assert!(!deletes || may, "{circumstance}, {base}, {scan}");
            }
        }
        table.push('\n');
    }
    insta::assert_snapshot!(table);
}

//! A scan of a folder finds differences from the records, and nothing else.

use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::os::unix::net::UnixListener;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime};

use obsync_conformance::at;
use obsync_conformance::confined::{Confinement, confined};
use obsync_core::{
    DestinationExt as _, FileMeta, KnownContent, LocalFacts, LocalTree, Naming, Record, RecordKind,
    Removable, Removal, Scan, ScanInput, Unknown, UnknownCause,
};
use obsync_folder::{FolderDestination, FolderOptions};
use obsync_protocol::{ContentHash, FileType, FileTypes, Filter, Uid, VaultPath};
use tokio::io::AsyncReadExt;

use crate::destination::TestFolder;

const NFC: &str = "Caf\u{e9}.md";
const NFD: &str = "Cafe\u{301}.md";

/// A destination with obsync's own folder, which is used to read the file system's time.
pub(crate) fn destination() -> TestFolder {
    let destination = TestFolder::new();
    fs::create_dir_all(destination.path(".obsync")).unwrap();
    destination
}

pub(crate) async fn scan(store: &FolderDestination, records: &[Record]) -> LocalTree {
    scan_with(store, records, Filter::default()).await
}

pub(crate) async fn scan_with(store: &FolderDestination, records: &[Record], filter: Filter) -> LocalTree {
    let input = ScanInput { records: Arc::new(records.to_vec()), filter };
    store.scan(input).await.unwrap().unwrap()
}

/// Records of everything that a scan found to be new.
pub(crate) fn recorded(tree: &LocalTree) -> Vec<Record> {
    let files = tree.files.iter().map(|file| {
        let (hash, size) = (file.content.hash, file.content.size);
        let meta = FileMeta { hash, size, mtime: file.mtime, ctime: file.ctime, uid: Uid(1) };
        Record::seen(file.path.clone(), RecordKind::File(meta), Some(file.facts.clone()))
    });
    let folders =
        tree.folders.iter().map(|path| Record::seen(path.clone(), RecordKind::Folder(Uid(1)), None));
    files.chain(folders).collect()
}

/// A record of a file with facts that no file has.
fn record(path: &str, content: &[u8]) -> Record {
    let KnownContent { hash, size } = KnownContent::of(content);
    let meta = FileMeta { hash, size, mtime: 0, ctime: 0, uid: Uid(1) };
    Record::seen(at(path), RecordKind::File(meta), None)
}

fn folder(path: &str) -> Record {
    Record::seen(at(path), RecordKind::Folder(Uid(1)), None)
}

fn texts(paths: &[VaultPath]) -> Vec<&str> {
    paths.iter().map(VaultPath::as_str).collect()
}

fn files(tree: &LocalTree) -> Vec<&str> {
    tree.files.iter().map(|file| file.path.as_str()).collect()
}

fn unknown(tree: &LocalTree) -> Vec<(&str, &UnknownCause)> {
    tree.unknown.iter().map(|unknown| (unknown.path.as_str(), &unknown.why)).collect()
}

/// A tree without differences; only the number of found files is set.
fn unchanged(found: u64) -> LocalTree {
    LocalTree { found, ..LocalTree::default() }
}

#[tokio::test]
async fn what_is_not_recorded_is_found_with_its_content_and_times() {
    let destination = destination();
    destination.write("a/b/note.md", b"text");
    destination.write("empty.md", b"");
    fs::create_dir_all(destination.path("a/c")).unwrap();
    let tree = scan(&destination.store(), &[]).await;
    assert_eq!(files(&tree), ["a/b/note.md", "empty.md"]);
    assert_eq!(texts(&tree.folders), ["a", "a/b", "a/c"]);
    assert_eq!((tree.found, tree.read), (2, 2));
    let note = &tree.files[0];
    assert_eq!(note.content, KnownContent::of(b"text"));
    assert_eq!(Some(note.mtime), crate::destination::mtime(&destination.path("a/b/note.md")));
    assert!((0..=note.mtime + 1000).contains(&note.ctime));
    assert!(matches!(note.facts, LocalFacts::File { size: 4, .. }));
}

#[tokio::test]
async fn a_file_with_the_facts_of_its_record_is_not_read() {
    let destination = destination();
    destination.write("a/note.md", b"text");
    let store = destination.store();
    let mut records = recorded(&scan(&store, &[]).await);
    assert_eq!(scan(&store, &records).await, unchanged(1));
    // So that a wrong record is trusted.
    if let RecordKind::File(meta) = &mut records[0].kind {
        meta.hash = ContentHash::of(b"else");
    }
    assert_eq!(scan(&store, &records).await, unchanged(1));
}

#[tokio::test]
async fn an_edit_is_found_whose_author_set_the_time_back() {
    let destination = destination();
    destination.write("note.md", b"one");
    let store = destination.store();
    let records = recorded(&scan(&store, &[]).await);
    let modified = fs::metadata(destination.path("note.md")).unwrap().modified().unwrap();
    destination.write("note.md", b"two");
    fs::File::options()
        .write(true)
        .open(destination.path("note.md"))
        .unwrap()
        .set_modified(modified)
        .unwrap();
    let tree = scan(&store, &records).await;
    assert_eq!(tree.files[0].content, KnownContent::of(b"two"));
}

#[tokio::test]
async fn a_touched_file_is_read_and_its_facts_are_renewed() {
    let destination = destination();
    destination.write("note.md", b"text");
    let store = destination.store();
    let mut records = recorded(&scan(&store, &[]).await);
    let times = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000_000);
    fs::File::options().write(true).open(destination.path("note.md")).unwrap().set_modified(times).unwrap();
    let tree = scan(&store, &records).await;
    assert!(tree.files.is_empty() && tree.read == 1);
    let (path, facts) = tree.renewed.into_iter().next().unwrap();
    assert_eq!(path, at("note.md"));
    records[0].facts = Some(facts);
    assert_eq!(scan(&store, &records).await, unchanged(1));
}

/// Each edit comes right after the scan that recorded the text before it, has the same size, and must be
/// found.
#[tokio::test]
async fn an_edit_within_the_same_tick_of_the_clock_is_found() {
    let destination = destination();
    let store = destination.store();
    for number in 0..100 {
        destination.write("note.md", format!("{number:04} before").as_bytes());
        let records = recorded(&scan(&store, &[]).await);
        let text = format!("{number:04} after!");
        destination.write("note.md", text.as_bytes());
        let tree = scan(&store, &records).await;
        assert_eq!(tree.files[0].content, KnownContent::of(text.as_bytes()), "{number}");
    }
}

#[tokio::test]
async fn a_file_whose_times_may_not_show_the_next_change_is_left_to_a_later_scan() {
    let destination = destination();
    destination.write("note.md", b"text");
    let soon = SystemTime::now() + Duration::from_millis(1500);
    let file = fs::File::options().write(true).open(destination.path("note.md")).unwrap();
    file.set_modified(soon).unwrap();
    let store = destination.store();
    assert_eq!(unknown(&scan(&store, &[]).await), [("note.md", &UnknownCause::Changing)]);
    // A made-up time does no harm.
    file.set_modified(soon + Duration::from_secs(1_000_000)).unwrap();
    let tree = scan(&store, &[]).await;
    assert_eq!(files(&tree), ["note.md"]);
    assert_eq!(scan(&store, &recorded(&tree)).await, unchanged(1));
}

#[tokio::test]
async fn what_is_recorded_and_gone_is_absent_with_all_that_was_in_it() {
    let destination = destination();
    destination.write("stays/note.md", b"text");
    let records = [
        folder("stays"),
        record("stays/note.md", b"text"),
        record("stays/gone.md", b"text"),
        folder("gone"),
        record("gone/deep/note.md", b"text"),
        record("not recorded itself/deep/note.md", b"text"),
        record(".obsidian/app.json", b"{}"),
    ];
    let tree = scan(&destination.store(), &records).await;
    let absent = [
        ".obsidian/app.json",
        "gone",
        "gone/deep/note.md",
        "not recorded itself/deep/note.md",
        "stays/gone.md",
    ];
    assert_eq!(texts(&tree.absent), absent);
    assert!(tree.unknown.is_empty() && tree.files.is_empty());
}

#[tokio::test]
async fn a_folder_in_a_files_place_and_a_file_in_a_folders_place_are_no_absence_of_it() {
    let destination = destination();
    destination.write("was a file.md/note.md", b"text");
    destination.write("was a folder", b"text");
    let records = [record("was a file.md", b""), folder("was a folder"), record("was a folder/note.md", b"")];
    let tree = scan(&destination.store(), &records).await;
    assert_eq!(files(&tree), ["was a file.md/note.md", "was a folder"]);
    assert_eq!(texts(&tree.folders), ["was a file.md"]);
    assert_eq!(texts(&tree.absent), ["was a folder/note.md"]);
}

#[tokio::test]
async fn links_pipes_and_sockets_are_unknown_and_never_opened_or_followed() {
    let destination = destination();
    fs::write(destination.home().join("secret.md"), "secret").unwrap();
    destination.write("real/note.md", b"text");
    for (target, link) in [
        ("../secret.md", "out.md"),
        ("..", "up"),
        ("real", "alias"),
        ("self.md", "self.md"),
        ("nowhere", "dangling.md"),
    ] {
        symlink(target, destination.path(link)).unwrap();
    }
    assert!(Command::new("mkfifo").arg(destination.path("fifo.md")).status().unwrap().success());
    let _socket = UnixListener::bind(destination.path("socket.md")).unwrap();
    let records: Vec<Record> =
        ["out.md", "up/note.md", "alias/note.md", "fifo.md", "self.md", "dangling.md", "socket.md"]
            .map(|path| record(path, b"text"))
            .into();
    let tree = scan(&destination.store(), &records).await;
    assert_eq!(files(&tree), ["real/note.md"]);
    assert!(tree.absent.is_empty(), "{:?}", tree.absent);
    let (link, special) = (&UnknownCause::Link, &UnknownCause::Special);
    let expected = [
        ("alias", link),
        ("dangling.md", link),
        ("fifo.md", special),
        ("out.md", link),
        ("self.md", link),
        ("socket.md", special),
        ("up", link),
    ];
    assert_eq!(unknown(&tree), expected);
    for record in &records {
        assert!(tree.is_unknown(&record.path), "{}", record.path);
    }
}

/// Runs a test as a user without privileges.
fn as_a_mere_user(test: impl Future<Output = ()> + Send + 'static) {
    let run = || {
        if rustix::process::geteuid().is_root() {
            let nobody = rustix::thread::Uid::from_raw(65_534);
            // For this thread only, and those that it starts.
            rustix::thread::set_thread_res_uid(nobody, nobody, nobody).unwrap();
        }
        tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(test);
    };
    std::thread::spawn(run).join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
}

#[test]
fn below_a_folder_that_cannot_be_read_nothing_is_absent() {
    let destination = destination();
    destination.write("closed/note.md", b"text");
    destination.write("half/note.md", b"text");
    destination.write("unreadable.md", b"text");
    let set_mode = |path: &str, mode| {
        fs::set_permissions(destination.path(path), fs::Permissions::from_mode(mode)).unwrap();
    };
    fs::set_permissions(destination.home(), fs::Permissions::from_mode(0o755)).unwrap();
    set_mode("closed", 0o000);
    set_mode("half", 0o444);
    set_mode("unreadable.md", 0o000);
    let records = [
        "closed/note.md",
        "closed/gone.md",
        "closed/deep/gone.md",
        "half/note.md",
        "half/gone.md",
        "unreadable.md",
        "gone.md",
    ]
    .map(|path| record(path, b"text"));
    let store = destination.store();
    as_a_mere_user(async move {
        let tree = scan(&store, &records).await;
        let places: Vec<&str> = tree.unknown.iter().map(|unknown| unknown.path.as_str()).collect();
        assert_eq!(places, ["closed", "half", "unreadable.md"]);
        for Unknown { why, .. } in &tree.unknown {
            assert!(
                matches!(why, UnknownCause::Unreadable { reason } if reason.contains("denied")),
                "{why:?}"
            );
        }
        assert_eq!(texts(&tree.absent), ["gone.md"]);
        assert!(tree.is_unknown(&at("closed/deep/gone.md")));
    });
    set_mode("closed", 0o755);
    set_mode("half", 0o755);
}

#[tokio::test]
async fn a_known_name_is_taken_as_it_is_and_another_is_normalised() {
    let destination = destination();
    destination.write(&format!("known/{NFD}"), b"text");
    destination.write(&format!("new/{NFD}"), b"text");
    destination.write("new/a\u{a0}b.md", b"text");
    destination.write(&format!("Cafe\u{301}/{NFC}"), b"text");
    let store = destination.store();
    let records = [record(&format!("known/{NFD}"), b"text"), record(&format!("Caf\u{e9}/{NFC}"), b"text")];
    let tree = scan(&store, &records).await;
    let expected = ["new/Caf\u{e9}.md".to_owned(), "new/a b.md".to_owned()];
    assert_eq!(
        {
            let mut found = files(&tree);
            found.sort_unstable();
            found
        },
        {
            let mut expected = expected.iter().map(String::as_str).collect::<Vec<_>>();
            expected.sort_unstable();
            expected
        }
    );
    assert!(tree.absent.is_empty() && tree.respelled.is_empty() && tree.unknown.is_empty());
    let mut spellings: Vec<&str> = tree.spellings.iter().map(|spelling| spelling.name.as_str()).collect();
    spellings.sort_unstable();
    assert_eq!(spellings, ["Cafe\u{301}", "new/Cafe\u{301}.md", "new/a\u{a0}b.md"]);
    // Each can be opened by its path.
    for path in ["new/Caf\u{e9}.md", "new/a b.md", "Caf\u{e9}/Caf\u{e9}.md"] {
        let mut text = String::new();
        store.open_file(&at(path)).await.unwrap().content.read_to_string(&mut text).await.unwrap();
        assert_eq!(text, "text", "{path}");
    }
}

#[tokio::test]
async fn a_recorded_name_of_which_another_spelling_is_there_is_not_absent() {
    let destination = destination();
    destination.write(NFC, b"text");
    destination.write("Note.md", b"text");
    destination.write("Folder/a.md", b"text");
    let records = [record(NFD, b"other"), record("note.md", b"text"), record("folder/a.md", b"text")];
    let tree = scan(&destination.store(), &records).await;
    assert!(tree.absent.is_empty(), "{:?}", tree.absent);
    let respelled: Vec<(&str, &str)> =
        tree.respelled.iter().map(|one| (one.recorded.as_str(), one.found.as_str())).collect();
    assert_eq!(respelled, [("folder", "Folder"), ("note.md", "Note.md")]);
    // Where only the normal form is another, it is the recorded file.
    let mut found = files(&tree);
    found.sort_unstable();
    assert_eq!(found, [NFD, "Folder/a.md", "Note.md"]);
    let mut text = String::new();
    destination.store().open_file(&at(NFD)).await.unwrap().content.read_to_string(&mut text).await.unwrap();
    assert_eq!(text, "text");
}

#[tokio::test]
async fn of_twins_one_is_had_and_the_others_are_unknown() {
    let destination = destination();
    for path in [NFC, NFD, "NOTE.md", "note.md", "Folder/a.md", "folder/a.md"] {
        destination.write(path, b"text");
    }
    if fs::read_dir(destination.root()).unwrap().count() < 7 {
        return obsync_conformance::not_tested("the file system folds names");
    }
    let twin = |of: &str| UnknownCause::Twin { of: at(of) };
    let tree = scan(&destination.store(), &[record("note.md", b"text"), record(NFD, b"text")]).await;
    assert_eq!(files(&tree), ["Folder/a.md"]);
    let expected = [(NFC, &twin(NFD)), ("NOTE.md", &twin("note.md")), ("folder", &twin("Folder"))];
    let mut found = unknown(&tree);
    found.sort_unstable_by_key(|(path, _)| *path);
    let mut expected = expected.to_vec();
    expected.sort_unstable_by_key(|(path, _)| *path);
    assert_eq!(found, expected);
}

#[tokio::test]
async fn names_that_no_vault_can_have_are_unknown() {
    let destination = destination();
    for path in ["back\\slash.md", "fol\\der/note.md", "tab\t.md", "git~1/config"] {
        destination.write(path, b"text");
    }
    fs::write(destination.root().join(std::ffi::OsStr::from_bytes(b"latin-\xe9.md")), "text").unwrap();
    let tree = scan(&destination.store(), &[]).await;
    assert!(files(&tree).is_empty());
    let is_folder = |why: &UnknownCause| match why {
        UnknownCause::Name { .. } => Some(false),
        UnknownCause::FolderName { .. } => Some(true),
        _ => None,
    };
    let folders: Vec<(&str, Option<bool>)> =
        unknown(&tree).into_iter().map(|(path, why)| (path, is_folder(why))).collect();
    let expected = [
        ("back\\slash.md", Some(false)),
        ("fol\\der", Some(true)),
        ("git~1", Some(true)),
        ("latin-\u{fffd}.md", Some(false)),
        ("tab\t.md", Some(false)),
    ];
    assert_eq!(folders, expected);
}

#[tokio::test]
async fn what_the_protocol_never_syncs_is_neither_found_nor_missed() {
    let destination = destination();
    for path in [
        ".hidden.md",
        ".git/config",
        ".obsidian-mobile/app.json",
        "a/.b.md",
        "a/.venv/c.md",
        ".trash/x.md",
        ".obsidian/workspace.json",
        ".obsidian/plugins/x/node_modules/main.js",
        ".obsidian/plugins/x/src/main.js",
        ".obsidian/plugins/.x/main.js",
        ".obsidian/other/app.json",
        ".obsync/staging/x.md",
        ".obsync/trash/1/x.md",
        ".obsync-0123456789abcdef/x.md",
    ] {
        destination.write(path, b"text");
    }
    symlink("nowhere", destination.path("a/.link")).unwrap();
    for path in [".obsidian/app.json", ".obsidian/plugins/x/main.js", ".obsidian/snippets/a.css"] {
        destination.write(path, b"text");
    }
    let records =
        ["a/.b/c.md", ".hidden/x.md", ".obsidian/workspace-mobile.json"].map(|path| record(path, b""));
    let tree = scan(&destination.store(), &records).await;
    assert_eq!(
        files(&tree),
        [".obsidian/app.json", ".obsidian/plugins/x/main.js", ".obsidian/snippets/a.css"]
    );
    assert_eq!(texts(&tree.folders), ["a"]);
    assert!(tree.absent.is_empty() && tree.unknown.is_empty(), "{tree:?}");
}

#[tokio::test]
async fn conflicted_copies_are_ordinary_files() {
    let destination = destination();
    let name = "note (Conflicted copy obsync 202501312359).md";
    destination.write(name, b"text");
    assert_eq!(files(&scan(&destination.store(), &[]).await), [name]);
}

#[tokio::test]
async fn a_narrower_filter_makes_nothing_absent() {
    let destination = destination();
    destination.write("note.md", b"text");
    destination.write("photo.png", b"text");
    destination.write("Archive/note.md", b"text");
    let records =
        ["gone.png", "Archive/gone.md", ".obsidian/app.json", "gone.md"].map(|path| record(path, b""));
    let filter = Filter {
        file_types: FileTypes::all().without(FileType::Image),
        configs: obsync_protocol::ConfigCategories::none(),
        excluded: vec![at("Archive")],
        ..Filter::default()
    };
    let tree = scan_with(&destination.store(), &records, filter).await;
    assert_eq!(files(&tree), ["note.md"]);
    assert_eq!(texts(&tree.absent), ["gone.md"]);
    assert!(tree.folders.is_empty() && tree.found == 1);
}

#[tokio::test]
async fn a_folder_that_git_rewrites_is_in_flux() {
    let destination = destination();
    let store = destination.store();
    assert!(!scan(&store, &[]).await.is_in_flux);
    destination.write(".git/index.lock", b"");
    assert!(scan(&store, &[]).await.is_in_flux);
}

#[tokio::test]
async fn of_a_destination_that_is_not_there_everything_is_unknown() {
    let destination = TestFolder::new();
    let tree = scan(&destination.store(), &[record("a.md", b"")]).await;
    assert!(tree.absent.is_empty() && tree.is_unknown(&at("a.md")));
}

#[tokio::test]
async fn a_destination_that_was_replaced_is_not_scanned() {
    let destination = destination();
    destination.write("a.md", b"text");
    let store = destination.store();
    scan(&store, &[]).await;
    fs::rename(destination.root(), destination.home().join("elsewhere")).unwrap();
    fs::create_dir(destination.root()).unwrap();
    let input = ScanInput { records: Arc::default(), filter: Filter::default() };
    let error = store.scan(input.clone()).await.unwrap_err();
    assert!(error.is_fatal() && error.to_string().contains("unmounted"), "{error}");
    fs::remove_dir(destination.root()).unwrap();
    assert!(store.scan(input).await.is_err());
}

/// The reported content of a file that is appended to without a pause is its content at the time of the
/// reported facts.
#[tokio::test]
async fn a_file_that_changes_while_it_is_read_is_reported_as_one_state_of_it_or_not_at_all() {
    let destination = destination();
    let text = vec![b'x'; 4 << 20];
    destination.write("log.md", &text);
    let done = Arc::new(AtomicBool::new(false));
    let (path, stop) = (destination.path("log.md"), done.clone());
    let writer = std::thread::spawn(move || {
        let mut file = fs::File::options().append(true).open(path).unwrap();
        while !stop.load(Ordering::Relaxed) {
            std::io::Write::write_all(&mut file, b"x").unwrap();
        }
    });
    let store = destination.store();
    let mut changing = 0;
    // On a machine under load the writer may have to wait.
    for _ in 0..1000 {
        if changing == 3 {
            break;
        }
        let tree = scan(&store, &[]).await;
        match &tree.files[..] {
            [file] => {
                assert_eq!(file.facts.size(), file.content.size);
                let content = vec![b'x'; usize::try_from(file.content.size).unwrap()];
                assert_eq!(file.content, KnownContent::of(&content));
            }
            _ => {
                assert_eq!(unknown(&tree), [("log.md", &UnknownCause::Changing)]);
                changing += 1;
            }
        }
    }
    done.store(true, Ordering::Relaxed);
    writer.join().unwrap();
    assert!(changing > 0);
    assert_eq!(files(&scan(&store, &[]).await), ["log.md"]);
}

#[tokio::test]
async fn files_are_opened_to_be_sent_with_their_facts() {
    let destination = destination();
    destination.write("a/note.md", b"text");
    let store = destination.store();
    let tree = scan(&store, &[]).await;
    let mut opened = store.open_file(&at("a/note.md")).await.unwrap();
    assert_eq!(opened.facts, tree.files[0].facts);
    let mut text = String::new();
    opened.content.read_to_string(&mut text).await.unwrap();
    assert_eq!(text, "text");
}

#[tokio::test]
async fn only_a_file_of_the_destination_itself_is_opened() {
    let destination = destination();
    fs::write(destination.home().join("secret.md"), "secret").unwrap();
    destination.write("real/note.md", b"text");
    destination.write(".obsync/id", b"id");
    symlink("../secret.md", destination.path("link.md")).unwrap();
    symlink("real", destination.path("alias")).unwrap();
    assert!(Command::new("mkfifo").arg(destination.path("fifo.md")).status().unwrap().success());
    let store = destination.store();
    for path in ["link.md", "alias/note.md", "fifo.md", "real", "nowhere.md", "real/note.md/x", ".obsync/id"]
    {
        let error = store.open_file(&at(path)).await.unwrap_err();
        assert!(!error.is_fatal(), "{path}: {error}");
    }
}

/// Writes the list of mounted folders, like an earlier scan.
fn remember_mounts(destination: &TestFolder, names: &str) {
    let list = destination.path(".obsync/mounts");
    fs::write(&list, names).unwrap();
    fs::set_permissions(&list, fs::Permissions::from_mode(0o600)).unwrap();
}

#[tokio::test]
async fn below_a_folder_that_was_mounted_and_is_not_nothing_is_absent_found_or_written() {
    let destination = destination();
    destination.write("Media/under the mount.md", b"hidden by it before");
    destination.write("Other/note.md", b"text");
    fs::create_dir_all(destination.path("Nothing recorded")).unwrap();
    remember_mounts(&destination, "Deep/Media\nMedia\nNothing recorded\n");
    let records =
        [folder("Media"), record("Media/a.md", b"a"), record("Deep/Media/b.md", b"b"), folder("Deep")];
    let store = destination.store();
    let tree = scan(&store, &records).await;
    let not_mounted = &UnknownCause::NotMounted;
    assert_eq!(
        unknown(&tree),
        [("Deep", not_mounted), ("Media", not_mounted), ("Nothing recorded", not_mounted)]
    );
    assert!(tree.absent.is_empty(), "{:?}", tree.absent);
    assert_eq!(files(&tree), ["Other/note.md"]);
    // The same without records, as when a destination in doubt is scanned again.
    let tree = scan(&store, &[]).await;
    assert_eq!(files(&tree), ["Other/note.md"]);
    assert_eq!(destination.read(".obsync/mounts"), "Deep/Media\nMedia\nNothing recorded\n");
    // Files of the vault are not written where the file system would hide them, even if the mount point is
    // gone as well.
    for path in ["Media/a.md", "Deep/Media/b.md"] {
        let error = store.admits(&at(path)).unwrap_err();
        assert!(!error.is_fatal() && error.to_string().contains("not mounted"), "{error}");
    }
    store.admits(&at("Other/note.md")).unwrap();
    // A file that the vault deletes there is not reported as gone because it cannot be seen.
    let content = KnownContent::of(b"a");
    let removals = ["Media/a.md", "Deep/Media/b.md", "Other/gone.md"];
    let removals = removals.map(|path| Removable { path: at(path), content }).to_vec();
    let outcomes = store.remove_files(removals).await;
    assert!(
        outcomes[..2].iter().all(|outcome| outcome.as_ref().is_err_and(|error| !error.is_fatal())),
        "{outcomes:?}"
    );
    assert!(matches!(outcomes[2], Ok(Removal::Missing)), "{outcomes:?}");
    let outcomes = store.remove_folders(vec![at("Nothing recorded"), at("Deep")]).await;
    assert!(outcomes[0].is_err() && destination.path("Nothing recorded").is_dir(), "{outcomes:?}");
    // Its user decides that it is an ordinary folder from now on.
    remember_mounts(&destination, "");
    let tree = scan(&store, &records).await;
    assert_eq!(texts(&tree.absent), ["Deep", "Deep/Media/b.md", "Media/a.md"]);
    store.admits(&at("Media/a.md")).unwrap();
}

#[tokio::test]
async fn a_file_system_that_is_mounted_in_the_destination_is_remembered_and_missed_when_it_is_gone() {
    let test =
        "scan::a_file_system_that_is_mounted_in_the_destination_is_remembered_and_missed_when_it_is_gone";
    let Some(disk) = confined(test, Confinement::Disk("size=4m")) else { return };
    let root = disk.join("vault");
    let mount = |arguments: &[&str], place: &str| {
        let status = Command::new("mount").args(arguments).arg(root.join(place)).status().unwrap();
        assert!(status.success(), "{place}");
    };
    for place in [".obsync", "Media", "Again", "Plain"] {
        fs::create_dir_all(root.join(place)).unwrap();
    }
    fs::set_permissions(root.join(".obsync"), fs::Permissions::from_mode(0o700)).unwrap();
    fs::create_dir(disk.join("elsewhere")).unwrap();
    mount(&["-t", "tmpfs", "none"], "Media");
    // The same file system mounted once more: its device does not show it.
    mount(&["--bind", disk.join("elsewhere").to_str().unwrap()], "Again");
    for path in ["Media/a.md", "Again/b.md", "Plain/c.md"] {
        fs::write(root.join(path), "text").unwrap();
    }
    let store = FolderDestination::open(&root, FolderOptions::default()).unwrap();
    let records = recorded(&scan(&store, &[]).await);
    let list = root.join(".obsync/mounts");
    assert_eq!(fs::read_to_string(&list).unwrap(), "Again\nMedia\n");
    assert_eq!(fs::metadata(&list).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(scan(&store, &records).await, unchanged(3));

    for place in ["Media", "Again"] {
        assert!(Command::new("umount").arg(root.join(place)).status().unwrap().success());
    }
    fs::remove_file(root.join("Plain/c.md")).unwrap();
    let tree = scan(&store, &records).await;
    assert_eq!(texts(&tree.absent), ["Plain/c.md"]);
    assert_eq!(unknown(&tree), [("Again", &UnknownCause::NotMounted), ("Media", &UnknownCause::NotMounted)]);
}

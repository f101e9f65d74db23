//! A user saves, deletes or keeps writing at each step of publishing and removing: no text is lost, and none
//! is taken for obsync's own.

use std::collections::BTreeSet;
use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex};

use obsync_conformance::confined::{Confinement, confined};
use obsync_conformance::{at, meta, place, publish_one, stage};
use obsync_core::{
    Describe, Destination, DestinationError, DestinationExt, Expect, KnownContent, Publication,
    PublicationContent, Receive, Removable, Removal, Staged,
};
use obsync_folder::{FolderDestination, FolderOptions, Step};
use tempfile::TempDir;

use crate::destination::mtime;

const RECORDED: &str = "recorded";
const FROM_VAULT: &str = "from the vault";
const USERS: &str = "a user's";

const PUBLISHING: [Step; 7] = [
    Step::Prepared,
    Step::Compared,
    Step::Renamed,
    Step::Exchanged,
    Step::Placed,
    Step::Flushed,
    Step::Released,
];

/// A user's action on `note.md`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Deed {
    /// Writes another text of the same length into the file.
    Overwrite,
    /// Saves like an editor: renames a new file to the name.
    Replace,
    /// Deletes the file.
    Delete,
    /// Keeps writing to the file that was open before.
    WriteOn,
    /// Writes another text of the same length into the file, and resets its time.
    Backdate,
}

const DEEDS: [Deed; 5] = [Deed::Overwrite, Deed::Replace, Deed::Delete, Deed::WriteOn, Deed::Backdate];

struct Scene {
    home: TempDir,
    /// The file that a program has open from the beginning.
    open: Arc<Mutex<File>>,
}

impl Scene {
    /// A folder with `note.md`, written by obsync.
    async fn new() -> Self {
        let home = TempDir::new().unwrap();
        let store = FolderDestination::open(home.path(), FolderOptions::default()).unwrap();
        place(&store, "note.md", RECORDED.as_bytes(), 1_700_000_000_000, None).await;
        let open = OpenOptions::new().append(true).open(home.path().join("note.md")).unwrap();
        Scene { home, open: Arc::new(Mutex::new(open)) }
    }

    /// A store in which a user acts when this step is first reached. Also returns whether it was.
    fn store(&self, at_step: Step, deed: Deed) -> (FolderDestination, Arc<Mutex<bool>>) {
        let (path, open) = (self.note(), self.open.clone());
        let done = Arc::new(Mutex::new(false));
        let is_done = done.clone();
        let watch = move |step: Step, _: Option<&obsync_protocol::VaultPath>| {
            let mut done = done.lock().unwrap();
            if step == at_step && !*done {
                *done = true;
                do_it(deed, &path, &open);
            }
        };
        (FolderDestination::open_watched(self.home.path(), FolderOptions::default(), watch).unwrap(), is_done)
    }

    fn note(&self) -> PathBuf {
        self.home.path().join("note.md")
    }

    /// All texts in the folder, including obsync's own folder.
    fn texts(&self) -> BTreeSet<String> {
        let mut texts = BTreeSet::new();
        collect(self.home.path(), &mut texts);
        texts
    }

    fn has_staging(&self) -> bool {
        self.home.path().join(".obsync/staging").exists()
    }
}

fn do_it(deed: Deed, path: &Path, open: &Mutex<File>) {
    match deed {
        Deed::Overwrite => fs::write(path, USERS).unwrap(),
        Deed::Replace => {
            let beside = path.with_extension("tmp");
            fs::write(&beside, USERS).unwrap();
            fs::rename(beside, path).unwrap();
        }
        Deed::Delete => {
            let _ = fs::remove_file(path);
        }
        Deed::WriteOn => open.lock().unwrap().write_all(USERS.as_bytes()).unwrap(),
        Deed::Backdate => {
            let before = fs::metadata(path).and_then(|facts| facts.modified());
            fs::write(path, USERS).unwrap();
            if let Ok(before) = before {
                File::options().append(true).open(path).unwrap().set_modified(before).unwrap();
            }
        }
    }
}

fn collect(folder: &Path, texts: &mut BTreeSet<String>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        match path.is_dir() {
            true => collect(&path, texts),
            false => {
                texts.insert(fs::read_to_string(path).unwrap());
            }
        }
    }
}

/// True if a text of the user is among these, whole or appended to the earlier one.
fn has_users(texts: &BTreeSet<String>) -> bool {
    texts.iter().any(|text| text.ends_with(USERS))
}

#[tokio::test]
async fn what_a_user_does_at_any_step_of_publishing_is_kept() {
    let mut reached = BTreeSet::new();
    for step in PUBLISHING {
        for deed in DEEDS {
            let scene = Scene::new().await;
            let (store, done) = scene.store(step, deed);
            let staged = stage(&store, "note.md", FROM_VAULT.as_bytes(), 1_700_000_001_000).await;
            let placed = publish_one(&store, staged, Some(KnownContent::of(RECORDED.as_bytes()))).await;
            let placed = placed.unwrap_or_else(|failure| panic!("{step:?}, {deed:?}: {}", failure.error));
            if *done.lock().unwrap() {
                reached.insert(step);
            }
            store.flush().await.unwrap();
            store.discard_staged().await.unwrap();
            let texts = scene.texts();
            if deed != Deed::Delete && !(deed == Deed::WriteOn && step == Step::Released) {
                assert!(has_users(&texts), "{step:?}, {deed:?}: {texts:?}");
            }
            // A user who deletes or saves after the new file is in place acts on the new file.
            let is_before = step <= Step::Renamed;
            if is_before || deed == Deed::WriteOn {
                assert_eq!(fs::read_to_string(scene.note()).unwrap(), FROM_VAULT, "{step:?}, {deed:?}");
            }
            // A text that is detected only when the old file is released is kept by then.
            if is_before && deed != Deed::Delete && deed != Deed::Backdate {
                assert!(placed.conflict.is_some(), "{step:?}, {deed:?}");
            }
            assert!(!scene.has_staging(), "{step:?}, {deed:?}: {texts:?}");
        }
    }
    assert_eq!(reached, BTreeSet::from(PUBLISHING));
}

#[tokio::test]
async fn what_a_user_does_at_any_step_of_publishing_without_exchange_is_kept() {
    let home = TempDir::new().unwrap();
    let steps = [Step::Prepared, Step::Compared, Step::Placed, Step::Flushed];
    for (number, options) in [false, true].map(with_trash).into_iter().enumerate() {
        replace_at_each_step(home.path(), &format!("{number}"), options, &steps, false).await;
    }
}

/// A rename from the staging folder cannot reach below a mount, but a copy beside the place can be exchanged.
#[tokio::test]
async fn what_a_user_does_at_any_step_of_publishing_below_a_mount_is_kept() {
    let test = "interleaved::what_a_user_does_at_any_step_of_publishing_below_a_mount_is_kept";
    let Some(disk) = confined(test, Confinement::Disk("size=16m")) else { return };
    mount_below(&disk);
    let steps = [Step::Prepared, Step::Copied, Step::Compared, Step::Placed, Step::Flushed];
    replace_at_each_step(&disk, "mounted/looked at", FolderOptions::default(), &steps, false).await;
    let steps = [steps.as_slice(), &[Step::Renamed, Step::Exchanged, Step::Released]].concat();
    for (number, options) in [false, true].map(with_trash).into_iter().enumerate() {
        replace_at_each_step(&disk, &format!("mounted/{number}"), options, &steps, true).await;
    }
}

fn mount_below(disk: &Path) {
    let mounted = disk.join("mounted");
    fs::create_dir(&mounted).unwrap();
    assert!(Command::new("mount").args(["-t", "tmpfs", "none"]).arg(&mounted).status().unwrap().success());
}

fn with_trash(trash: bool) -> FolderOptions {
    FolderOptions { trash, ..FolderOptions::default() }
}

/// Replaces a note for each step and each action of a user there, each note in a folder of its own below
/// `folder`. The files are exchanged or, as where that is impossible, renamed.
async fn replace_at_each_step(
    root: &Path,
    folder: &str,
    options: FolderOptions,
    steps: &[Step],
    exchanges: bool,
) {
    let mut reached = BTreeSet::new();
    let cases = steps.iter().flat_map(|step| DEEDS.map(|deed| (*step, deed)));
    for (number, (at_step, deed)) in cases.enumerate() {
        let path = format!("{folder}/{number}/note.md");
        let store = FolderDestination::open(root, options).unwrap();
        place(&store, &path, RECORDED.as_bytes(), 1_700_000_000_000, None).await;
        drop(store);
        let note = root.join(&path);
        let open = Mutex::new(OpenOptions::new().append(true).open(&note).unwrap());
        let done = Arc::new(Mutex::new(false));
        let (is_done, edited) = (done.clone(), note.clone());
        let watch = move |step: Step, _: Option<&obsync_protocol::VaultPath>| {
            let mut done = is_done.lock().unwrap();
            if step == at_step && !*done {
                *done = true;
                do_it(deed, &edited, &open);
            }
        };
        let store = FolderDestination::open_watched(root, options, watch).unwrap();
        let store = if exchanges { store } else { store.without_exchange() };
        let staged = stage(&store, &path, FROM_VAULT.as_bytes(), 1_700_000_001_000).await;
        let case = format!("{at_step:?}, {deed:?}");
        let placed = publish_one(&store, staged, Some(KnownContent::of(RECORDED.as_bytes()))).await;
        let placed = placed.unwrap_or_else(|failure| panic!("{case}: {}", failure.error));
        if *done.lock().unwrap() {
            reached.insert(at_step);
        }
        store.flush().await.unwrap();
        store.discard_staged().await.unwrap();
        let mut texts = BTreeSet::new();
        collect(note.parent().unwrap(), &mut texts);
        let is_before = at_step <= if exchanges { Step::Renamed } else { Step::Compared };
        if is_before {
            assert_eq!(fs::read_to_string(&note).unwrap(), FROM_VAULT, "{case}");
            // An exchanged file whose time was set back is kept when it is released.
            let is_certain = !exchanges || deed != Deed::Backdate;
            assert!(!is_certain || placed.conflict.is_some() == (deed != Deed::Delete), "{case}");
        }
        // A program that keeps writing to a file that was renamed over, or released, writes to a removed one.
        let is_last = if exchanges { at_step == Step::Released } else { !is_before };
        let is_gone = is_last && deed == Deed::WriteOn;
        assert!(deed == Deed::Delete || is_gone || has_users(&texts), "{case}: {texts:?}");
        assert!(!root.join(".obsync/staging").exists(), "{case}");
        assert!(!has_hidden(note.parent().unwrap()), "{case}: nothing of obsync is left beside it");
    }
    assert_eq!(reached, BTreeSet::from_iter(steps.iter().copied()));
}

/// True if a folder has a hidden file.
fn has_hidden(folder: &Path) -> bool {
    fs::read_dir(folder).unwrap().any(|entry| entry.unwrap().file_name().to_str().unwrap().starts_with('.'))
}

#[tokio::test]
async fn what_a_user_does_at_any_step_of_removing_below_a_mount_is_kept() {
    let test = "interleaved::what_a_user_does_at_any_step_of_removing_below_a_mount_is_kept";
    let Some(disk) = confined(test, Confinement::Disk("size=16m")) else { return };
    mount_below(&disk);
    let cases =
        [Step::ToBeRemoved, Step::TakenOut].into_iter().flat_map(|step| DEEDS.map(|deed| (step, deed)));
    for (number, (at_step, deed)) in cases.enumerate() {
        let (case, path) = (format!("{at_step:?}, {deed:?}"), format!("mounted/{number}/note.md"));
        let first = FolderDestination::open(&disk, FolderOptions::default()).unwrap();
        place(&first, &path, RECORDED.as_bytes(), 1_700_000_000_000, None).await;
        drop(first);
        let note = disk.join(&path);
        let open = Mutex::new(OpenOptions::new().append(true).open(&note).unwrap());
        let done = Arc::new(Mutex::new(false));
        let (is_done, edited) = (done.clone(), note.clone());
        let watch = move |step: Step, _: Option<&obsync_protocol::VaultPath>| {
            if step == at_step && !std::mem::replace(&mut *is_done.lock().unwrap(), true) {
                do_it(deed, &edited, &open);
            }
        };
        let store = FolderDestination::open_watched(&disk, FolderOptions::default(), watch).unwrap();
        let file = Removable { path: at(&path), content: KnownContent::of(RECORDED.as_bytes()) };
        let removal = store.remove_files(vec![file]).await.pop().unwrap().unwrap();
        assert!(*done.lock().unwrap(), "{case}");
        store.flush().await.unwrap();
        let mut texts = BTreeSet::new();
        collect(note.parent().unwrap(), &mut texts);
        assert_eq!(has_users(&texts), deed != Deed::Delete, "{case}: {removal:?} {texts:?}");
        assert!(!has_hidden(note.parent().unwrap()), "{case}: nothing of obsync is left beside it");
    }
}

#[tokio::test]
async fn what_a_user_does_at_any_step_of_removing_is_kept() {
    for step in [Step::ToBeRemoved, Step::TakenOut] {
        for deed in DEEDS {
            let scene = Scene::new().await;
            let (store, done) = scene.store(step, deed);
            let file = Removable { path: at("note.md"), content: KnownContent::of(RECORDED.as_bytes()) };
            let removal = store.remove_files(vec![file]).await.pop().unwrap().unwrap();
            assert!(*done.lock().unwrap(), "{step:?}");
            store.flush().await.unwrap();
            store.discard_staged().await.unwrap();
            let texts = scene.texts();
            match deed {
                Deed::Delete => {
                    assert!(matches!(removal, Removal::Removed | Removal::Missing), "{step:?}: {removal:?}");
                    assert_eq!(texts, BTreeSet::new(), "{step:?}");
                }
                _ => assert!(has_users(&texts), "{step:?}, {deed:?}: {removal:?} {texts:?}"),
            }
            if step == Step::ToBeRemoved && deed != Deed::Delete {
                assert!(removal == Removal::Kept || deed == Deed::Backdate, "{deed:?}");
                assert!(fs::read_to_string(scene.note()).unwrap().ends_with(USERS), "{deed:?}");
            }
            assert!(!scene.has_staging(), "{step:?}, {deed:?}: {texts:?}");
        }
    }
}

/// A file of the same path that an earlier run could not judge is still in staging.
#[tokio::test]
async fn files_change_places_and_come_out_beside_what_is_in_staging_still() {
    const LEFT: &str = "left by an earlier run";
    for deed in [Deed::Overwrite, Deed::Replace, Deed::WriteOn, Deed::Backdate] {
        for (step, removes) in [(Step::Renamed, false), (Step::TakenOut, true)] {
            let scene = Scene::new().await;
            let (path, content) =
                [b"note.md".as_slice(), RECORDED.as_bytes()].map(|bytes| KnownContent::of(bytes).hash).into();
            let (store, done) = scene.store(step, deed);
            let staged = stage(&store, "other.md", b"other", 1_700_000_001_000).await;
            let left = scene.home.path().join(format!(".obsync/staging/taken-{path}-{content}"));
            fs::write(&left, LEFT).unwrap();
            publish_one(&store, staged, None).await.unwrap();
            match removes {
                true => {
                    let file =
                        Removable { path: at("note.md"), content: KnownContent::of(RECORDED.as_bytes()) };
                    store.remove_files(vec![file]).await.pop().unwrap().unwrap();
                }
                false => {
                    let staged = stage(&store, "note.md", FROM_VAULT.as_bytes(), 1_700_000_001_000).await;
                    let replaces = Some(KnownContent::of(RECORDED.as_bytes()));
                    publish_one(&store, staged, replaces).await.unwrap_or_else(|failure| {
                        panic!("{step:?}, {deed:?}: {}", failure.error);
                    });
                }
            }
            assert!(*done.lock().unwrap(), "{step:?} was not reached");
            store.flush().await.unwrap();
            store.discard_staged().await.unwrap();
            assert!(has_users(&scene.texts()), "{step:?}, {deed:?}: {:?}", scene.texts());
            assert_eq!(fs::read_to_string(left).unwrap(), LEFT, "the next run judges it");
        }
    }
}

#[tokio::test]
async fn what_a_user_does_at_any_step_of_adopting_is_kept_and_is_not_the_vaults() {
    const TIME: i64 = 1_700_000_001_000;
    for step in [Step::Recognized, Step::Timed] {
        for deed in DEEDS {
            let scene = Scene::new().await;
            let (store, done) = scene.store(step, deed);
            let content =
                PublicationContent::InPlace { path: at("note.md"), meta: meta(RECORDED.as_bytes(), TIME) };
            let expect = Expect::Content(KnownContent::of(RECORDED.as_bytes()));
            let published = store.publish(vec![Publication { content, expect }]).await.pop().unwrap();
            assert!(*done.lock().unwrap(), "{step:?}");
            let error = published.map(drop).unwrap_err().error;
            assert!(matches!(error, DestinationError::ContentNeeded { .. }), "{step:?}, {deed:?}: {error}");
            if deed == Deed::Delete {
                assert_eq!(scene.texts(), BTreeSet::new(), "{step:?}");
                continue;
            }
            assert!(has_users(&scene.texts()), "{step:?}, {deed:?}");
            assert_ne!(mtime(&scene.note()), Some(TIME), "{step:?}, {deed:?}: it has its own time");
        }
    }
}

#[tokio::test]
async fn what_a_user_does_while_a_file_goes_of_which_there_is_a_copy_is_kept() {
    for step in [Step::CopyFound, Step::TakenOut] {
        for (to_the_copy, deed) in DEEDS.map(|deed| (false, deed)).into_iter().chain([(true, Deed::Replace)])
        {
            let scene = Scene::new().await;
            let first = FolderDestination::open(scene.home.path(), FolderOptions::default()).unwrap();
            let copy = first.set_aside(&at("note.md")).await.unwrap();
            let copy = scene.home.path().join(copy.as_str());
            fs::write(scene.note(), RECORDED).unwrap();
            let open = OpenOptions::new().append(true).open(scene.note()).unwrap();
            let open = Mutex::new(open);
            let path = if to_the_copy { copy } else { scene.note() };
            let done = Arc::new(Mutex::new(false));
            let is_done = done.clone();
            let watch = move |reached: Step, _: Option<&obsync_protocol::VaultPath>| {
                let mut done = is_done.lock().unwrap();
                if reached == step && !*done {
                    *done = true;
                    do_it(deed, &path, &open);
                }
            };
            let store =
                FolderDestination::open_watched(scene.home.path(), FolderOptions::default(), watch).unwrap();
            let aside = store.set_aside(&at("note.md")).await;
            assert!(*done.lock().unwrap(), "{step:?}");
            store.flush().await.unwrap();
            store.discard_staged().await.unwrap();
            let texts = scene.texts();
            let case = format!("{step:?}, {deed:?}, to the copy: {to_the_copy}: {aside:?} {texts:?}");
            let is_there = |text: &str| texts.iter().any(|found| found.starts_with(text));
            assert!(is_there(RECORDED), "{case}");
            assert!(deed == Deed::Delete || has_users(&texts), "{case}");
            assert!(!scene.has_staging(), "{case}");
        }
    }
}

/// A file that was taken from the path before and not judged yet, as when the trash refused it.
#[tokio::test]
async fn what_a_user_does_is_kept_beside_what_came_out_of_the_place_before() {
    const UNJUDGED: &str = "came out before";
    for (step, deed) in [Step::Renamed, Step::Exchanged, Step::TakenOut]
        .into_iter()
        .flat_map(|step| DEEDS.map(|deed| (step, deed)))
    {
        let case = format!("{step:?}, {deed:?}");
        let scene = Scene::new().await;
        let staging = scene.home.path().join(".obsync/staging");
        fs::create_dir_all(&staging).unwrap();
        for folder in [staging.parent().unwrap(), &staging] {
            fs::set_permissions(folder, fs::Permissions::from_mode(0o700)).unwrap();
        }
        let (place, recorded) = (KnownContent::of(b"note.md").hash, KnownContent::of(RECORDED.as_bytes()));
        fs::write(staging.join(format!("taken-{place}-{}", recorded.hash)), UNJUDGED).unwrap();
        let (destination, done) = scene.store(step, deed);
        if step == Step::TakenOut {
            let file = Removable { path: at("note.md"), content: recorded };
            destination.remove_files(vec![file]).await.pop().unwrap().unwrap();
        } else {
            let staged = stage(&destination, "note.md", FROM_VAULT.as_bytes(), 1_700_000_001_000).await;
            let placed = publish_one(&destination, staged, Some(recorded)).await;
            placed.unwrap_or_else(|failure| panic!("{case}: {}", failure.error));
        }
        assert!(*done.lock().unwrap(), "{case}: the step is reached all the same");
        destination.flush().await.unwrap();
        let texts = scene.texts();
        assert!(deed == Deed::Delete || has_users(&texts), "{case}: {texts:?}");
        assert!(texts.contains(UNJUDGED), "{case}: {texts:?}");
    }
}

/// One content goes to several paths: a copy is staged for each but the last.
#[tokio::test]
async fn what_a_user_does_while_a_content_is_copied_for_several_paths_is_kept() {
    let home = TempDir::new().unwrap();
    bring_to_several_paths(home.path(), ["a/note.md", "b/note.md", "c/note.md"]).await;
}

#[tokio::test]
async fn what_a_user_does_while_a_content_is_copied_for_several_paths_below_a_mount_is_kept() {
    let test =
        "interleaved::what_a_user_does_while_a_content_is_copied_for_several_paths_below_a_mount_is_kept";
    let Some(disk) = confined(test, Confinement::Disk("size=16m")) else { return };
    mount_below(&disk);
    bring_to_several_paths(&disk, ["a/note.md", "mounted/b/note.md", "mounted/c/note.md"]).await;
}

/// Replaces notes with one content. A user acts on one of them each time that a copy is complete.
async fn bring_to_several_paths(root: &Path, paths: [&'static str; 3]) {
    for (edited, deed) in paths.into_iter().flat_map(|path| DEEDS.map(|deed| (path, deed))) {
        // Below a mount each is copied once more.
        for copy in 1.. {
            let case = format!("{edited}, {deed:?}, copy {copy}");
            let _ = fs::remove_dir_all(root.join(".obsync"));
            for path in paths {
                let _ = fs::remove_dir_all(root.join(path).parent().unwrap());
                let destination = FolderDestination::open(root, FolderOptions::default()).unwrap();
                place(&destination, path, RECORDED.as_bytes(), 1_700_000_000_000, None).await;
            }
            let note = root.join(edited);
            let open = Mutex::new(OpenOptions::new().append(true).open(&note).unwrap());
            // The number of copies made, and whether the new note was in place when the user acted.
            let seen = Arc::new(Mutex::new((0, false)));
            let (seen_by, user) = (seen.clone(), note.clone());
            let watch = move |step: Step, path: Option<&obsync_protocol::VaultPath>| {
                let mut seen = seen_by.lock().unwrap();
                match step {
                    Step::Copied => {
                        seen.0 += 1;
                        if seen.0 == copy {
                            do_it(deed, &user, &open);
                        }
                    }
                    Step::Placed if path == Some(&at(edited)) && seen.0 < copy => seen.1 = true,
                    _ => {}
                }
            };
            let destination = FolderDestination::open_watched(root, FolderOptions::default(), watch).unwrap();
            let kept = publish_copies(&destination, paths, &case).await;
            destination.flush().await.unwrap();
            destination.discard_staged().await.unwrap();
            let (copies, was_placed) = *seen.lock().unwrap();
            if copies < copy {
                assert!(copy > 2, "{case}: a copy for each path but the last");
                break;
            }
            for path in paths {
                let text = fs::read_to_string(root.join(path)).unwrap_or_default();
                // A user who edits or deletes a note that is in place already acts on the new one.
                let is_users = path == edited && was_placed && (text.is_empty() || text == USERS);
                assert!(text == FROM_VAULT || is_users, "{case}: {path} is {text:?}");
            }
            let mut texts = BTreeSet::new();
            collect(note.parent().unwrap(), &mut texts);
            assert!(deed == Deed::Delete || has_users(&texts), "{case}: {texts:?}");
            assert!(kept <= 1, "{case}");
            assert!(!root.join(".obsync/staging").exists(), "{case}");
        }
    }
}

/// Publishes one content at several paths as one batch; files in the way are kept under another name. Returns
/// their number.
async fn publish_copies(destination: &FolderDestination, paths: [&str; 3], case: &str) -> usize {
    let staged = stage(destination, paths[0], FROM_VAULT.as_bytes(), 1_700_000_001_000).await;
    let expect = Expect::Content(KnownContent::of(RECORDED.as_bytes()));
    let batch = paths.iter().enumerate().map(|(index, path)| {
        let copy = Staged { path: at(path), ..staged.clone() };
        let content = match index + 1 == paths.len() {
            true => PublicationContent::Staged(copy),
            false => PublicationContent::CopyOfStaged(copy),
        };
        Publication { content, expect: expect.clone() }
    });
    let mut kept = 0;
    for failure in destination.publish(batch.collect()).await.into_iter().filter_map(Result::err) {
        assert!(matches!(failure.error, DestinationError::Changed { .. }), "{case}: {}", failure.error);
        let PublicationContent::Staged(again) = failure.publication.content else {
            panic!("{case}: not staged")
        };
        let placed = publish_one(destination, again, Some(KnownContent::of(RECORDED.as_bytes()))).await;
        let placed = placed.unwrap_or_else(|failure| panic!("{case}: {}", failure.error));
        kept += usize::from(placed.conflict.is_some());
    }
    kept
}

#[tokio::test]
async fn a_program_that_had_the_file_open_and_goes_on_writing_is_told_of() {
    let scene = Scene::new().await;
    let (store, _) = scene.store(Step::Placed, Deed::WriteOn);
    let staged = stage(&store, "note.md", FROM_VAULT.as_bytes(), 1_700_000_001_000).await;
    publish_one(&store, staged, Some(KnownContent::of(RECORDED.as_bytes()))).await.unwrap();
    let warnings = store.warnings();
    assert!(warnings.iter().any(|warning| warning.contains("went on writing to it")), "{warnings:?}");
    assert!(scene.texts().contains(&format!("{RECORDED}{USERS}")));
}

/// The state that a killed run leaves: the store is dropped at a step, and another one is opened.
#[tokio::test]
async fn what_a_killed_run_had_taken_out_is_judged_by_the_next() {
    for (deed, is_kept) in [(None, false), (Some(Deed::Overwrite), true), (Some(Deed::Replace), true)] {
        let scene = Scene::new().await;
        let (path, open) = (scene.note(), scene.open.clone());
        let watch = move |step: Step, _: Option<&obsync_protocol::VaultPath>| match (step, deed) {
            (Step::Renamed, Some(deed)) => do_it(deed, &path, &open),
            // The publishing thread dies here.
            (Step::Exchanged, _) => std::panic::panic_any("killed"),
            _ => {}
        };
        let store =
            FolderDestination::open_watched(scene.home.path(), FolderOptions::default(), watch).unwrap();
        let staged = stage(&store, "note.md", FROM_VAULT.as_bytes(), 1_700_000_001_000).await;
        let publishing = tokio::spawn(async move {
            let _ = publish_one(&store, staged, Some(KnownContent::of(RECORDED.as_bytes()))).await;
        });
        assert!(publishing.await.is_err(), "the panic is passed on");
        let next = FolderDestination::open(scene.home.path(), FolderOptions::default()).unwrap();
        assert!(next.has_taken(false).await.unwrap());
        let known = vec![(at("note.md"), Some(KnownContent::of(FROM_VAULT.as_bytes())))];
        let kept = next.return_taken(known).await.unwrap();
        assert_eq!(kept.len(), usize::from(is_kept), "{deed:?}");
        assert_eq!(has_users(&scene.texts()), is_kept, "{deed:?}");
        assert_eq!(fs::read_to_string(scene.note()).unwrap(), FROM_VAULT);
        assert!(!next.has_taken(false).await.unwrap());
        next.discard_staged().await.unwrap();
        assert!(!scene.has_staging());
    }
}

/// A user's file that was taken out because a conflicted copy has its text, by a run that was killed then.
#[tokio::test]
async fn a_text_that_was_taken_out_for_its_copy_stays_if_the_copy_is_gone() {
    for is_gone in [false, true] {
        let scene = Scene::new().await;
        fs::write(scene.note(), USERS).unwrap();
        let store = FolderDestination::open(scene.home.path(), FolderOptions::default()).unwrap();
        let copy = store.set_aside(&at("note.md")).await.unwrap();
        fs::write(scene.note(), USERS).unwrap();
        drop(store);
        let watch = move |step: Step, _: Option<&obsync_protocol::VaultPath>| {
            if step == Step::TakenOut {
                std::panic::panic_any("killed");
            }
        };
        let store =
            FolderDestination::open_watched(scene.home.path(), FolderOptions::default(), watch).unwrap();
        let killed = tokio::spawn(async move { store.set_aside(&at("note.md")).await.is_ok() });
        assert!(killed.await.is_err(), "the panic is passed on");
        assert!(!scene.note().exists());
        if is_gone {
            fs::remove_file(scene.home.path().join(copy.as_str())).unwrap();
        }
        let next = FolderDestination::open(scene.home.path(), FolderOptions::default()).unwrap();
        next.return_taken(vec![(at("note.md"), None)]).await.unwrap();
        let is_at = |path: PathBuf| fs::read_to_string(path).is_ok_and(|text| text == USERS);
        assert_eq!(is_at(scene.note()), is_gone);
        assert_eq!(is_at(scene.home.path().join(copy.as_str())), !is_gone);
        assert!(!next.has_taken(false).await.unwrap());
    }
}

#[tokio::test]
async fn a_file_that_was_taken_out_to_be_removed_and_is_a_users_gets_its_name_back() {
    let scene = Scene::new().await;
    let (path, open) = (scene.note(), scene.open.clone());
    let watch = move |step: Step, _: Option<&obsync_protocol::VaultPath>| match step {
        Step::ToBeRemoved => do_it(Deed::Replace, &path, &open),
        Step::TakenOut => std::panic::panic_any("killed"),
        _ => {}
    };
    let store = FolderDestination::open_watched(scene.home.path(), FolderOptions::default(), watch).unwrap();
    let file = Removable { path: at("note.md"), content: KnownContent::of(RECORDED.as_bytes()) };
    let removing = tokio::spawn(async move { store.remove_files(vec![file]).await.len() });
    assert!(removing.await.is_err(), "the panic is passed on");
    assert!(!scene.note().exists());
    let next = FolderDestination::open(scene.home.path(), FolderOptions::default()).unwrap();
    assert_eq!(next.return_taken(vec![(at("note.md"), None)]).await.unwrap(), []);
    assert_eq!(fs::read_to_string(scene.note()).unwrap(), USERS);
}

#[tokio::test]
async fn without_its_path_a_users_file_is_recovered_at_the_root() {
    let scene = Scene::new().await;
    let staging = scene.home.path().join(".obsync/staging");
    fs::create_dir_all(&staging).unwrap();
    let hash = KnownContent::of(b"x").hash;
    fs::write(staging.join(format!("taken-{hash}-{hash}")), USERS).unwrap();
    let store = FolderDestination::open(scene.home.path(), FolderOptions::default()).unwrap();
    // Until it is judged, it is not removed.
    store.discard_staged().await.unwrap();
    assert!(has_users(&scene.texts()));
    let kept = store.return_taken(Vec::new()).await.unwrap();
    assert_eq!(kept, [(None, at("Recovered.md"))]);
    assert_eq!(fs::read_to_string(scene.home.path().join("Recovered.md")).unwrap(), USERS);
}

#[tokio::test]
async fn what_was_taken_out_while_the_usual_folder_was_open_to_others_is_judged_once_it_is_not() {
    let scene = Scene::new().await;
    let elsewhere = scene.home.path().join(".obsync-0123456789abcdef");
    fs::create_dir(&elsewhere).unwrap();
    fs::set_permissions(&elsewhere, fs::Permissions::from_mode(0o700)).unwrap();
    let hash = KnownContent::of(b"x").hash;
    fs::write(elsewhere.join(format!("taken-{hash}-{hash}")), USERS).unwrap();
    let staging = scene.home.path().join(".obsync/staging");
    fs::create_dir_all(&staging).unwrap();
    for folder in [staging.parent().unwrap(), &staging] {
        fs::set_permissions(folder, fs::Permissions::from_mode(0o700)).unwrap();
    }
    let store = FolderDestination::open(scene.home.path(), FolderOptions::default()).unwrap();
    // Only a run that has a reason to reads the root for it.
    assert!(!store.has_taken(false).await.unwrap());
    assert!(store.has_taken(true).await.unwrap());
    assert_eq!(store.return_taken(Vec::new()).await.unwrap(), [(None, at("Recovered.md"))]);
    assert_eq!(fs::read_to_string(scene.home.path().join("Recovered.md")).unwrap(), USERS);
    assert!(!elsewhere.exists(), "nothing is left in it");
}

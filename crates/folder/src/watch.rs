//! Reports changes of other programs in a folder, as soon as the system reports them.
//!
//! Each folder in which files can sync is watched by itself, so that `.git` and excluded folders cost no
//! watches. A watcher is a help, never the truth: it can miss changes (network file systems, queue overflows,
//! limits of the system). It reports that, and its user scans the folder from time to time in any case.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::thread;
use std::time::Duration;

use notify::event::{AccessKind, AccessMode, EventKind, Flag, ModifyKind, RenameMode};
use notify::{Config, Event, RecommendedWatcher, RecursiveMode, Watcher as _};
use obsync_core::quiet::Touch;
use obsync_protocol::{Filter, VaultPath};
use tokio::sync::mpsc;

use crate::file_system;
use crate::own_folder::is_own_name;
use crate::place::{FolderId, folder_at};
use crate::transplant::is_own_beside;

/// Events of the system that may wait. More are an overflow.
const EVENTS_WAITING: usize = 16 * 1024;
/// Time in which related events are collected, such as those of one save.
const GATHERING: Duration = Duration::from_millis(5);
/// Sets of changes that may wait to be taken. More are an overflow.
const SETS_WAITING: usize = 64;

/// Event of a watcher.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LocalEvent {
    /// These paths changed, as they are spelled here. For a folder: the folder itself, and perhaps anything
    /// in it.
    Paths(BTreeMap<VaultPath, Touch>),
    /// From now on everything that can be watched is. Sent once; earlier changes are not reported.
    Standing,
    /// Changes were missed: the folder has to be scanned.
    Overflow,
    /// Changes may be missed from now on: the folder has to be scanned often. With the reason as a sentence.
    Failed(String),
}

/// Options of a [`Watcher`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct WatchOptions {
    /// Limit of watched folders; if `None`, that of the system.
    pub most_watches: Option<usize>,
}

/// Watches a folder until it is dropped.
#[derive(Debug)]
pub struct Watcher {
    events: mpsc::Receiver<LocalEvent>,
    stop: Arc<AtomicBool>,
    stands: Arc<AtomicBool>,
}

impl Watcher {
    /// Starts to watch a folder. Folders that cannot be watched are the first [event](Self::next), not an
    /// error.
    pub fn new(dest: &Path, filter: Filter, options: WatchOptions) -> Self {
        let (sender, events) = mpsc::channel(SETS_WAITING);
        let stop = Arc::new(AtomicBool::new(false));
        let place = WatchedPlace { root: dest.to_path_buf(), filter };
        let stands = Arc::new(AtomicBool::new(false));
        let (stopped, failing, standing) = (stop.clone(), sender.clone(), stands.clone());
        let work = move || {
            if let Some(mut watch) = Watch::begin(place, options, sender, stopped) {
                standing.store(true, Ordering::Release);
                let _ = watch.sender.blocking_send(LocalEvent::Standing);
                watch.run();
            }
        };
        if let Err(error) = thread::Builder::new().name("watch".to_owned()).spawn(work) {
            let _ = failing.try_send(LocalEvent::Failed(format!("it cannot be watched: {error}")));
        }
        Watcher { events, stop, stands }
    }

    /// The next event; `None` once nothing is watched any more, which an event reported before.
    pub async fn next(&mut self) -> Option<LocalEvent> {
        self.events.recv().await
    }

    /// True if everything that can be watched is.
    pub fn stands(&self) -> bool {
        self.stands.load(Ordering::Acquire)
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

/// The watched folder and its filter.
struct WatchedPlace {
    root: PathBuf,
    filter: Filter,
}

impl WatchedPlace {
    /// The path of a place in the file system; `None` for the folder itself, and for files that never sync.
    fn path_of(&self, place: &Path) -> Option<VaultPath> {
        let path = place.strip_prefix(&self.root).ok()?.to_str()?;
        let path = VaultPath::parse(path).ok()?;
        let is_own = path.segments().next().is_some_and(is_own_name) || is_own_beside(path.file_name());
        (!is_own).then_some(path)
    }

    /// True if a folder has to be watched. (In the single folder that is watched, everything is.)
    fn reaches(&self, folder: &Path) -> bool {
        folder == self.root || self.path_of(folder).is_some_and(|path| self.filter.reaches(&path))
    }

    fn is_of_interest(&self, path: &VaultPath) -> bool {
        path.parent().is_none_or(|folder| self.filter.reaches(&folder))
            && (self.filter.reaches(path)
                || self.filter.verdict(path, false) == obsync_protocol::Verdict::Sync)
    }
}

/// The watching thread.
struct Watch {
    place: WatchedPlace,
    /// The folder's path as it was given, which may lead through a link.
    given: PathBuf,
    /// The watched folder itself: another one may be put at its path.
    root: Option<FolderId>,
    watcher: RecommendedWatcher,
    watched: BTreeSet<PathBuf>,
    most: usize,
    raw: Receiver<notify::Result<Event>>,
    overflowed: Arc<AtomicBool>,
    sender: mpsc::Sender<LocalEvent>,
    stop: Arc<AtomicBool>,
    /// An overflow could not be reported yet.
    untold: bool,
    has_failed: bool,
}

impl Watch {
    fn begin(
        mut place: WatchedPlace,
        options: WatchOptions,
        sender: mpsc::Sender<LocalEvent>,
        stop: Arc<AtomicBool>,
    ) -> Option<Self> {
        let (raw_sender, raw) = sync_channel(EVENTS_WAITING);
        let overflowed = Arc::new(AtomicBool::new(false));
        let handler = handler(raw_sender, overflowed.clone());
        let config = Config::default().with_follow_symlinks(false);
        let watcher = match RecommendedWatcher::new(handler, config) {
            Ok(watcher) => watcher,
            Err(error) => {
                let _ = sender.blocking_send(LocalEvent::Failed(reason(&error)));
                return None;
            }
        };
        if !wait_for(&place.root, &sender, &stop) {
            return None;
        }
        let (given, watched_root) = (place.root.clone(), folder_at(&place.root));
        // Events have the whole path of their place, and a link would be watched itself.
        if let Ok(root) = place.root.canonicalize() {
            place.root = root;
        }
        let most = options.most_watches.unwrap_or(usize::MAX);
        let (watched, untold, has_failed) = (BTreeSet::new(), false, false);
        let mut watch = Watch {
            place,
            given,
            root: watched_root,
            watcher,
            watched,
            most,
            raw,
            overflowed,
            sender,
            stop,
            untold,
            has_failed,
        };
        if std::fs::File::open(&watch.place.root).is_ok_and(file_system::is_served) {
            watch.fail("its file system does not report changes by other machines".to_owned());
        }
        let root = watch.place.root.clone();
        watch.add(&root, &mut BTreeMap::new());
        Some(watch)
    }

    fn run(&mut self) {
        /// Time until the thread notices that the receiver is gone.
        const LOOK_UP: Duration = Duration::from_secs(1);
        while !self.stop.load(Ordering::Relaxed) && !self.sender.is_closed() {
            let mut gathered = match self.raw.recv_timeout(LOOK_UP) {
                Ok(event) => vec![event],
                Err(RecvTimeoutError::Timeout) => Vec::new(),
                Err(RecvTimeoutError::Disconnected) => return,
            };
            if !gathered.is_empty() {
                thread::sleep(GATHERING);
                gathered.extend(self.raw.try_iter().take(EVENTS_WAITING));
            }
            self.look_at_root();
            self.tell(gathered);
        }
    }

    fn tell(&mut self, gathered: Vec<notify::Result<Event>>) {
        let mut touched = BTreeMap::new();
        for event in gathered {
            match event {
                Ok(event) => self.take_in(&event, &mut touched),
                Err(error) => self.fail(reason(&error)),
            }
        }
        self.untold |= self.overflowed.swap(false, Ordering::Relaxed);
        if self.untold {
            self.untold = self.sender.try_send(LocalEvent::Overflow).is_err();
        }
        if !touched.is_empty() && self.sender.try_send(LocalEvent::Paths(touched)).is_err() {
            self.untold = true;
        }
    }

    fn take_in(&mut self, event: &Event, touched: &mut BTreeMap<VaultPath, Touch>) {
        if event.flag() == Some(Flag::Rescan) {
            self.untold = true;
        }
        // A rename is also reported for each name by itself.
        if event.kind == EventKind::Modify(ModifyKind::Name(RenameMode::Both)) {
            return;
        }
        for place in &event.paths {
            let is_saved = match event.kind {
                EventKind::Access(AccessKind::Close(AccessMode::Write))
                | EventKind::Modify(ModifyKind::Name(RenameMode::To)) => true,
                EventKind::Modify(ModifyKind::Metadata(_)) if !self.is_unwatched_folder(place) => continue,
                EventKind::Access(_) => continue,
                _ => false,
            };
            if *place == self.place.root {
                continue;
            }
            let Some(path) = self.place.path_of(place).filter(|path| self.place.is_of_interest(path)) else {
                continue;
            };
            let touch = match std::fs::symlink_metadata(place) {
                Err(_) => {
                    self.forget(place);
                    Touch::Gone
                }
                Ok(facts) if facts.is_dir() => {
                    // A folder that was moved here is watched again, under its new name.
                    self.forget(place);
                    self.add(place, touched);
                    Touch::Changed
                }
                Ok(facts) if is_saved => Touch::Saved { size: Some(facts.len()) },
                // It may have been closed already: that is another event.
                Ok(_) => match touched.get(&path) {
                    Some(saved @ Touch::Saved { .. }) => *saved,
                    _ => Touch::Changed,
                },
            };
            touched.insert(path, touch);
        }
    }

    /// True for a folder that could not be read, and perhaps can be now.
    fn is_unwatched_folder(&self, place: &Path) -> bool {
        !self.watched.contains(place) && self.place.reaches(place) && place.is_dir()
    }

    /// Reports a watched folder that is no longer at its path. An unmounted one causes no event.
    fn look_at_root(&mut self) {
        if self.has_failed {
            return;
        }
        match folder_at(&self.given) {
            None => self.fail("it was removed or moved".to_owned()),
            there if there != self.root => {
                self.fail(
                    "another folder is at its path now; start obsync again to have it watched".to_owned(),
                );
            }
            Some(_) => {}
        }
    }

    /// Watches a folder with all below it. The entries of a new one are reported.
    fn add(&mut self, folder: &Path, touched: &mut BTreeMap<VaultPath, Touch>) {
        let mut pending = vec![folder.to_path_buf()];
        while let Some(folder) = pending.pop() {
            if !self.place.reaches(&folder) || self.watched.contains(&folder) {
                continue;
            }
            if self.watched.len() >= self.most {
                return self.fail(limit());
            }
            match self.watcher.watch(&folder, RecursiveMode::NonRecursive) {
                Ok(()) => {}
                Err(error) if is_gone_or_closed(&error) && folder != self.place.root => continue,
                Err(error) => {
                    self.fail(reason(&error));
                    if matches!(error.kind, notify::ErrorKind::MaxFilesWatch) {
                        return;
                    }
                    continue;
                }
            }
            self.watched.insert(folder.clone());
            // Listed after it is watched: nothing is missed in between.
            for entry in std::fs::read_dir(&folder).into_iter().flatten().flatten() {
                let place = entry.path();
                let is_folder = entry.file_type().is_ok_and(|kind| kind.is_dir());
                if let Some(path) = self.place.path_of(&place).filter(|path| self.place.is_of_interest(path))
                {
                    touched.entry(path).or_insert(Touch::Changed);
                }
                if is_folder {
                    pending.push(place);
                }
            }
        }
    }

    /// Stops watching a folder and all below it.
    fn forget(&mut self, folder: &Path) {
        let below: Vec<PathBuf> = self
            .watched
            .range(folder.to_path_buf()..)
            .take_while(|watched| watched.starts_with(folder))
            .cloned()
            .collect();
        for folder in below {
            let _ = self.watcher.unwatch(&folder);
            self.watched.remove(&folder);
        }
    }

    /// Reports once that changes may be missed.
    fn fail(&mut self, reason: String) {
        if !self.has_failed {
            self.has_failed = self.sender.try_send(LocalEvent::Failed(reason)).is_ok();
        }
    }
}

/// Waits until a folder exists: the first run creates it. `false` if the receiver is gone.
fn wait_for(folder: &Path, sender: &mpsc::Sender<LocalEvent>, stop: &AtomicBool) -> bool {
    const LOOK_AGAIN: Duration = Duration::from_millis(200);
    while !folder.is_dir() {
        if stop.load(Ordering::Relaxed) || sender.is_closed() {
            return false;
        }
        thread::sleep(LOOK_AGAIN);
    }
    true
}

/// Passes events on without blocking: the watcher's own thread has to respond.
fn handler(raw: SyncSender<notify::Result<Event>>, overflowed: Arc<AtomicBool>) -> impl notify::EventHandler {
    move |event: notify::Result<Event>| {
        if let Ok(event) = &event
            && matches!(event.kind, EventKind::Access(kind) if kind != AccessKind::Close(AccessMode::Write))
        {
            return;
        }
        if let Err(TrySendError::Full(_)) = raw.try_send(event) {
            overflowed.store(true, Ordering::Relaxed);
        }
    }
}

/// True if a folder is gone again, or may not be read: then no scan reads it either.
fn is_gone_or_closed(error: &notify::Error) -> bool {
    use std::io::ErrorKind::{NotFound, PermissionDenied};
    match &error.kind {
        notify::ErrorKind::PathNotFound | notify::ErrorKind::WatchNotFound => true,
        notify::ErrorKind::Io(error) => matches!(error.kind(), NotFound | PermissionDenied),
        _ => false,
    }
}

fn reason(error: &notify::Error) -> String {
    match &error.kind {
        notify::ErrorKind::MaxFilesWatch => limit(),
        notify::ErrorKind::Io(error) => format!("it cannot be watched: {error}"),
        _ => format!("it cannot be watched: {error}"),
    }
}

fn limit() -> String {
    "it has more folders than the system lets a user watch; raise the number, as by `sysctl fs.inotify.max_user_watches=1048576`".to_owned()
}

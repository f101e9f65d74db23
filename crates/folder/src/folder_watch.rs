//! Wakes a sending follower when changes of the folder have come to rest.

use std::collections::HashSet;
use std::fmt;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use async_trait::async_trait;
use obsync_core::quiet::{Quiet, QuietRule};
use obsync_core::{StateStore, Watch};
use obsync_protocol::{Filter, VaultPath};

use super::watch::{LocalEvent, WatchOptions, Watcher};

/// A watched folder.
pub struct FolderWatch {
    watcher: Option<Watcher>,
    /// A received event that is not handled yet: the wait may be cancelled in between.
    received: Option<LocalEvent>,
    /// True if everything was watched before the first run scanned the folder; `None` until one did.
    stood_first: Option<bool>,
    state: Arc<dyn StateStore>,
    quiet: Quiet,
    /// Paths that came to rest; `None` if something was missed.
    touched: Option<HashSet<VaultPath>>,
    /// The reason why it does not see every change.
    blind: Option<String>,
}

impl FolderWatch {
    /// Starts to watch a folder. The records in the state show whether a file shrank.
    pub fn new(folder: &Path, filter: Filter, rule: QuietRule, state: Arc<dyn StateStore>) -> Self {
        FolderWatch {
            watcher: Some(Watcher::new(folder, filter, WatchOptions::default())),
            received: None,
            stood_first: None,
            state,
            quiet: Quiet::new(rule),
            touched: Some(HashSet::new()),
            blind: None,
        }
    }

    /// Handles an event of the system. `true`: the folder has to be scanned at once. Cancel safe.
    async fn take(&mut self) -> bool {
        let Some(LocalEvent::Paths(paths)) = &self.received else {
            return self.received.take().is_some_and(|event| self.is_missing_changes(event));
        };
        let names: Vec<VaultPath> = paths.keys().cloned().collect();
        // A file of unknown earlier size may have lost nothing.
        let records = self.state.records(&names).await.unwrap_or_default();
        let Some(LocalEvent::Paths(paths)) = self.received.take() else { return false };
        let now = Instant::now();
        for (at, (path, touch)) in paths.into_iter().enumerate() {
            let record = records.get(at).and_then(Option::as_ref);
            let known = record.and_then(|record| record.file()).map(|file| file.size);
            self.quiet.touch(&path, touch, known, now);
        }
        false
    }

    /// True if, according to an event, changes may have been missed.
    fn is_missing_changes(&mut self, event: LocalEvent) -> bool {
        match event {
            LocalEvent::Paths(_) => false,
            // The first run may have finished its scan before.
            LocalEvent::Standing => self.stood_first != Some(true),
            LocalEvent::Overflow => true,
            LocalEvent::Failed(reason) => {
                self.blind = Some(reason);
                true
            }
        }
    }
}

impl fmt::Debug for FolderWatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FolderWatch").field("waiting", &self.quiet.waiting()).finish_non_exhaustive()
    }
}

#[async_trait]
impl Watch for FolderWatch {
    async fn changed(&mut self) {
        loop {
            if self.received.is_some() && self.take().await {
                self.touched = None;
                return;
            }
            let quiet = self.quiet.take(Instant::now());
            if !quiet.is_empty() {
                self.touched.iter_mut().for_each(|touched| touched.extend(quiet.iter().cloned()));
                return;
            }
            let due = self.quiet.due();
            let rest = async {
                match due {
                    Some(due) => tokio::time::sleep_until(due.into()).await,
                    None => std::future::pending().await,
                }
            };
            let Some(watcher) = &mut self.watcher else {
                return std::future::pending().await;
            };
            tokio::select! {
                biased;
                event = watcher.next() => match event {
                    Some(event) => self.received = Some(event),
                    None => {
                        self.watcher = None;
                        self.blind.get_or_insert_with(|| "it is not watched any more".to_owned());
                        self.touched = None;
                        return;
                    }
                },
                () = rest => {}
            }
        }
    }

    fn restless(&self) -> HashSet<VaultPath> {
        let received = match &self.received {
            Some(LocalEvent::Paths(paths)) => Some(paths.keys()),
            _ => None,
        };
        self.quiet.paths().chain(received.into_iter().flatten()).cloned().collect()
    }

    fn touched(&mut self) -> Option<HashSet<VaultPath>> {
        let stands = self.watcher.as_ref().is_some_and(Watcher::stands);
        self.stood_first.get_or_insert(stands);
        self.touched.replace(HashSet::new())
    }

    fn blind(&self) -> Option<String> {
        self.blind.clone()
    }
}

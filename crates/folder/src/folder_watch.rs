//! What wakes a follower that sends: changes of the folder that have come to rest.

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

/// A folder that is watched.
pub struct FolderWatch {
    watcher: Option<Watcher>,
    state: Arc<dyn StateStore>,
    quiet: Quiet,
    /// What came to rest; `None`: something was missed.
    touched: Option<HashSet<VaultPath>>,
    /// Why it does not see every change.
    blind: Option<String>,
}

impl FolderWatch {
    /// Begins to watch a folder. What is recorded in the state says whether a file shrank.
    pub fn new(folder: &Path, filter: Filter, rule: QuietRule, state: Arc<dyn StateStore>) -> Self {
        let watcher = Some(Watcher::new(folder, filter, WatchOptions::default()));
        FolderWatch { watcher, state, quiet: Quiet::new(rule), touched: Some(HashSet::new()), blind: None }
    }

    /// Takes in what the system says. `true`: the folder is to be scanned at once.
    async fn take(&mut self, event: Option<LocalEvent>) -> bool {
        match event {
            Some(LocalEvent::Paths(paths)) => {
                let names: Vec<VaultPath> = paths.keys().cloned().collect();
                // Where nobody knows how large a file was it may have lost nothing.
                let records = self.state.records(&names).await.unwrap_or_default();
                let now = Instant::now();
                for (at, (path, touch)) in paths.into_iter().enumerate() {
                    let record = records.get(at).and_then(Option::as_ref);
                    let known = record.and_then(|record| record.file()).map(|file| file.size);
                    self.quiet.touch(&path, touch, known, now);
                }
                false
            }
            Some(LocalEvent::Overflow) => true,
            Some(LocalEvent::Failed(reason)) => {
                self.blind = Some(reason);
                true
            }
            None => {
                self.watcher = None;
                self.blind.get_or_insert_with(|| "it is not watched any more".to_owned());
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
                event = watcher.next() => {
                    if self.take(event).await {
                        self.touched = None;
                        return;
                    }
                }
                () = rest => {}
            }
        }
    }

    fn restless(&self) -> HashSet<VaultPath> {
        self.quiet.paths().cloned().collect()
    }

    fn touched(&mut self) -> Option<HashSet<VaultPath>> {
        self.touched.replace(HashSet::new())
    }

    fn blind(&self) -> Option<String> {
        self.blind.clone()
    }
}

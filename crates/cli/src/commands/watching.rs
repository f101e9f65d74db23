//! What wakes a follower that sends: changes of the folder that have come to rest.

use std::collections::HashSet;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use async_trait::async_trait;
use obsync_core::quiet::{Quiet, QuietRule};
use obsync_core::{StateStore, Watch};
use obsync_folder::watch::{LocalEvent, WatchOptions, Watcher};
use obsync_protocol::{Filter, VaultPath};

/// A folder that is watched.
pub(super) struct FolderWatch {
    watcher: Option<Watcher>,
    state: Arc<dyn StateStore>,
    quiet: Quiet,
    /// Why it does not see every change.
    blind: Option<String>,
}

impl FolderWatch {
    pub(super) fn new(folder: &Path, filter: Filter, rule: QuietRule, state: Arc<dyn StateStore>) -> Self {
        let watcher = Some(Watcher::new(folder, filter, WatchOptions::default()));
        FolderWatch { watcher, state, quiet: Quiet::new(rule), blind: None }
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

#[async_trait]
impl Watch for FolderWatch {
    async fn changed(&mut self) {
        loop {
            if !self.quiet.take(Instant::now()).is_empty() {
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

    fn blind(&self) -> Option<String> {
        self.blind.clone()
    }
}

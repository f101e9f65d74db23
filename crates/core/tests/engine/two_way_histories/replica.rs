//! A folder that is synced with the vault.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use obsync_client::{Client, ClientOptions, RetryPolicy};
use obsync_core::{
    Filter, JournalEntry, MaxDelete, Progress, PullError, PullSource, Report, StateError, StateStore,
    SyncOptions, confirm, held_back, pull, sync,
};
use obsync_folder::{FolderDestination, FolderOptions};
use obsync_protocol::VaultPath;
use obsync_sqlite::SqliteState;
use tempfile::TempDir;
use tokio_util::sync::CancellationToken;

use crate::bench::{Bench, identity};

use super::clock::JumpingClock;

pub(super) struct Replica {
    home: TempDir,
    source: PullSource,
    pub(super) is_narrow: bool,
    pub(super) is_careful: bool,
    pub(super) clock: Arc<JumpingClock>,
}

/// Returns a folder in memory, if possible: flushing files costs nothing there.
fn new_home() -> TempDir {
    let memory = Path::new("/dev/shm");
    match memory.is_dir() {
        true => TempDir::new_in(memory).unwrap(),
        false => TempDir::new().unwrap(),
    }
}

impl Replica {
    pub(super) fn new(bench: &Bench, name: &str) -> Self {
        let home = new_home();
        std::fs::create_dir(home.path().join("notes")).unwrap();
        let retry = RetryPolicy {
            attempts: 3,
            min_delay: Duration::from_millis(1),
            max_delay: Duration::from_millis(4),
        };
        let clock = JumpingClock::new();
        let options = ClientOptions {
            clock: clock.clone(),
            api_url: bench.server.url(),
            device: name.to_owned(),
            retry,
            ..ClientOptions::default()
        };
        let client = Client::new(options).unwrap();
        let source = PullSource { client, ..bench.source.clone() };
        Replica { home, source, is_narrow: false, is_careful: false, clock }
    }

    /// Starts again with a new folder.
    pub(super) fn begin(&mut self) {
        self.home = new_home();
        std::fs::create_dir(self.dest()).unwrap();
        (self.is_narrow, self.is_careful) = (false, false);
        self.clock.set_right();
    }

    pub(super) fn dest(&self) -> PathBuf {
        self.home.path().join("notes")
    }

    pub(super) fn state(&self) -> Result<SqliteState, StateError> {
        SqliteState::open(&self.home.path().join("state.sqlite"), &identity(&self.source, &self.dest()))
    }

    fn options(&self) -> SyncOptions {
        let (second_look, sends_configuration) = (Duration::ZERO, true);
        let mut options = SyncOptions { second_look, sends_configuration, ..SyncOptions::default() };
        let limit = if self.is_careful { MaxDelete::Files(0) } else { MaxDelete::Unlimited };
        options.pull.max_delete = limit;
        options.max_delete_in_vault = limit;
        if self.is_narrow {
            let excluded = vec![VaultPath::parse("x").unwrap()];
            options.pull.filter = Filter { excluded, ..Filter::default() };
        }
        options
    }

    pub(super) async fn sync(&self, progress: Arc<dyn Progress>) -> Result<Report, PullError> {
        self.sync_until(progress, CancellationToken::new()).await
    }

    pub(super) async fn sync_until(
        &self,
        progress: Arc<dyn Progress>,
        stop: CancellationToken,
    ) -> Result<Report, PullError> {
        self.sync_recorded_by(Arc::new(self.state().unwrap()), progress, stop).await
    }

    /// The same with this state.
    pub(super) async fn sync_recorded_by(
        &self,
        state: Arc<dyn StateStore>,
        progress: Arc<dyn Progress>,
        stop: CancellationToken,
    ) -> Result<Report, PullError> {
        let destination = Arc::new(FolderDestination::open(&self.dest(), FolderOptions::default()).unwrap());
        sync(&self.source, destination, state, &self.options(), progress, stop).await
    }

    /// Replaces the folder with an empty one, until [`put_back`](Self::put_back) restores it.
    pub(super) fn take_away(&self) {
        std::fs::rename(self.dest(), self.home.path().join("away")).unwrap();
        std::fs::create_dir(self.dest()).unwrap();
    }

    pub(super) fn put_back(&self) {
        std::fs::remove_dir_all(self.dest()).unwrap();
        std::fs::rename(self.home.path().join("away"), self.dest()).unwrap();
    }

    pub(super) async fn pull(&self, progress: Arc<dyn Progress>) -> Result<Report, PullError> {
        let destination = Arc::new(FolderDestination::open(&self.dest(), FolderOptions::default()).unwrap());
        let (state, stop) = (Arc::new(self.state().unwrap()), CancellationToken::new());
        pull(&self.source, destination, state, &self.options().pull, progress, stop).await
    }

    /// Confirms the held-back deletions, and returns their number.
    pub(super) async fn confirm(&self) -> u64 {
        let state = self.state().unwrap();
        let waiting = held_back(&state).await.unwrap();
        confirm(&state, &waiting, jiff::Timestamp::now()).await.unwrap().len() as u64
    }

    /// Returns the entries of its journal.
    pub(super) async fn journal(&self) -> Vec<JournalEntry> {
        self.state().unwrap().journal(None, 10_000).await.unwrap()
    }

    /// Returns the announced changes that are not settled.
    pub(super) async fn intents(&self) -> Vec<obsync_core::Intent> {
        self.state().unwrap().intents().await.unwrap()
    }

    /// Waits until all calls of a dropped run have ended, as they do when a process dies.
    pub(super) async fn until_dead(&self) {
        while FolderDestination::open(&self.dest(), FolderOptions::default()).unwrap().lock().is_err()
            || self.state().is_err()
        {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }
}

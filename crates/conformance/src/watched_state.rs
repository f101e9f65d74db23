//! A state that records its commits.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use obsync_core::{
    Commit, DeferredKind, DeferredPart, Intent, JournalEntry, LastRun, ProblemCode, Record, StateError,
    StateStore, VaultState,
};
use obsync_protocol::{ContentHash, VaultPath};

/// A state with all commits since it was opened.
pub struct WatchedState {
    state: Arc<dyn StateStore>,
    commits: Mutex<Vec<Commit>>,
    around_commits: Box<dyn Fn() + Send + Sync>,
    has_texts: bool,
    is_held: Box<dyn Fn() -> bool + Send + Sync>,
    is_lost: AtomicBool,
    whole_reads: AtomicUsize,
}

impl WatchedState {
    /// Wraps a state.
    pub fn new(state: Arc<dyn StateStore>) -> Self {
        Self::with(state, || {})
    }

    /// The same, with a callback before and after each commit.
    pub fn with(state: Arc<dyn StateStore>, around_commits: impl Fn() + Send + Sync + 'static) -> Self {
        let around_commits = Box::new(around_commits);
        let (commits, is_held) = (Mutex::default(), Box::new(|| true));
        WatchedState {
            state,
            commits,
            around_commits,
            has_texts: true,
            is_held,
            is_lost: AtomicBool::new(false),
            whole_reads: AtomicUsize::new(0),
        }
    }

    /// The same, with a table of texts that cannot be read.
    #[must_use]
    pub fn without_texts(self) -> Self {
        WatchedState { has_texts: false, ..self }
    }

    /// The same, with a lease that lasts while `is_held` returns true: after that a commit is refused, as by
    /// a table.
    #[must_use]
    pub fn held_while(self, is_held: impl Fn() -> bool + Send + Sync + 'static) -> Self {
        WatchedState { is_held: Box::new(is_held), ..self }
    }

    /// Number of times that all records were read.
    pub fn whole_reads(&self) -> usize {
        self.whole_reads.load(Ordering::Relaxed)
    }

    /// The commits, in order.
    pub fn commits(&self) -> Vec<Commit> {
        self.commits.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

#[async_trait]
impl StateStore for WatchedState {
    async fn load(&self) -> Result<VaultState, StateError> {
        self.state.load().await
    }

    async fn records(&self, paths: &[VaultPath]) -> Result<Vec<Option<Record>>, StateError> {
        self.state.records(paths).await
    }

    async fn sources(&self, contents: &[ContentHash]) -> Result<Vec<Option<VaultPath>>, StateError> {
        self.state.sources(contents).await
    }

    async fn all_records(&self) -> Result<Vec<Record>, StateError> {
        self.whole_reads.fetch_add(1, Ordering::Relaxed);
        self.state.all_records().await
    }

    async fn files(&self) -> Result<u64, StateError> {
        self.state.files().await
    }

    async fn sample(&self, most: usize) -> Result<Vec<Record>, StateError> {
        self.state.sample(most).await
    }

    async fn has_below(&self, folder: &VaultPath) -> Result<bool, StateError> {
        self.state.has_below(folder).await
    }

    async fn deferred_part(
        &self,
        kind: DeferredKind,
        from: Option<String>,
    ) -> Result<DeferredPart, StateError> {
        self.state.deferred_part(kind, from).await
    }

    async fn intents(&self) -> Result<Vec<Intent>, StateError> {
        self.state.intents().await
    }

    fn keeps_journal(&self) -> bool {
        self.state.keeps_journal()
    }

    async fn journal(&self, path: Option<&VaultPath>, limit: usize) -> Result<Vec<JournalEntry>, StateError> {
        self.state.journal(path, limit).await
    }

    async fn texts_wanted(&self, largest: u64, most: usize) -> Result<Vec<Record>, StateError> {
        match self.has_texts {
            true => self.state.texts_wanted(largest, most).await,
            false => Err(StateError::Unavailable {
                database: "state.sqlite".to_owned(),
                reason: "the disk is full".to_owned(),
                code: ProblemCode::Error,
            }),
        }
    }

    async fn keep_texts(&self, texts: Vec<(ContentHash, Option<Vec<u8>>)>) -> bool {
        self.state.keep_texts(texts).await
    }

    async fn text(&self, hash: &ContentHash) -> Option<Vec<u8>> {
        self.state.text(hash).await
    }

    async fn in_step(&self) -> Option<String> {
        self.state.in_step().await
    }

    async fn note_in_step(&self, known_by: String) {
        self.state.note_in_step(known_by).await;
    }

    async fn commit(&self, commit: Commit) -> Result<(), StateError> {
        self.commits.lock().unwrap_or_else(PoisonError::into_inner).push(commit.clone());
        (self.around_commits)();
        if self.is_lost.load(Ordering::SeqCst) {
            return Err(StateError::LeaseLost { destination: "a test".to_owned() });
        }
        let committed = self.state.commit(commit).await;
        (self.around_commits)();
        committed
    }

    fn is_held(&self) -> bool {
        let is_held = (self.is_held)();
        self.is_lost.fetch_or(!is_held, Ordering::SeqCst);
        is_held
    }

    async fn leave_confirmations(&self, uids: Vec<u64>) -> Result<(), StateError> {
        self.state.leave_confirmations(uids).await
    }

    async fn confirmations(&self) -> Result<Vec<u64>, StateError> {
        self.state.confirmations().await
    }

    async fn forget_confirmations(&self, uids: &[u64]) -> Result<(), StateError> {
        self.state.forget_confirmations(uids).await
    }

    async fn confirmed(&self) {
        self.state.confirmed().await;
    }

    async fn last_check(&self) -> Result<Option<i64>, StateError> {
        self.state.last_check().await
    }

    async fn last_run(&self) -> Result<Option<LastRun>, StateError> {
        self.state.last_run().await
    }

    async fn note_run(&self, run: &LastRun) {
        self.state.note_run(run).await;
    }

    async fn note_check(&self, at: i64) {
        self.state.note_check(at).await;
    }
}

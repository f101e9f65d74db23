//! A receiver that keeps whole contents, and a run of the pool from a vault's listing to its results.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use obsync_client::{
    ClientError, Content, FetchFailure, FetchOptions, FetchPool, FetchResult, FetchSummary, PullRequest,
    Receiver, Session,
};
use obsync_protocol::{ContentHash, PushMessage, Uid, VaultKeys};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::bed::{Bed, limited};

/// A file of the listing.
#[derive(Clone, Debug)]
pub(crate) struct Job {
    pub(crate) path: String,
    pub(crate) uid: Uid,
    pub(crate) hash: ContentHash,
    pub(crate) size: u64,
}

/// Decrypts and checks contents, and keeps them.
pub(crate) struct Collector {
    keys: VaultKeys,
    /// Calls of `receive`.
    pub(crate) calls: AtomicU32,
    /// The path of a file to refuse unseen.
    pub(crate) averse_to: Option<String>,
    /// Refused files may be offered again.
    pub(crate) forgiving: bool,
    /// Time to store each piece.
    pub(crate) slow: Duration,
}

impl Collector {
    pub(crate) fn new(keys: VaultKeys) -> Self {
        Self { keys, calls: AtomicU32::new(0), averse_to: None, forgiving: true, slow: Duration::ZERO }
    }
}

impl Receiver for Collector {
    type Job = Job;
    type Output = Vec<u8>;
    type Error = String;

    fn request(&self, job: &Job) -> PullRequest {
        PullRequest { uid: job.uid, hash: job.hash, size: job.size }
    }

    async fn receive(&self, job: &mut Job, content: &mut Content<'_>) -> Result<Vec<u8>, String> {
        self.calls.fetch_add(1, Ordering::Relaxed);
        if self.averse_to.as_ref() == Some(&job.path) {
            return Err("turned down".to_owned());
        }
        let mut decryptor = self.keys.content_decryptor();
        let mut plain = Vec::new();
        while let Some(piece) = content.next_piece().await.map_err(|error| error.to_string())? {
            decryptor.update(&piece, &mut plain).map_err(|error| error.to_string())?;
            if !self.slow.is_zero() {
                content.keep_alive_while(tokio::time::sleep(self.slow)).await;
            }
        }
        if content.size() > 0 {
            decryptor.finish().map_err(|error| error.to_string())?;
        }
        if ContentHash::of(&plain) != job.hash {
            return Err("the content does not have its hash".to_owned());
        }
        Ok(plain)
    }

    fn is_worth_another_try(&self, _: &String) -> bool {
        self.forgiving
    }
}

/// The results of a run.
#[derive(Debug)]
pub(crate) struct Fetched {
    pub(crate) files: BTreeMap<String, Vec<u8>>,
    pub(crate) failures: BTreeMap<String, FetchFailure<String>>,
    pub(crate) run: Result<FetchSummary, ClientError>,
    pub(crate) calls: u32,
}

impl Fetched {
    pub(crate) fn summary(&self) -> FetchSummary {
        *self.run.as_ref().unwrap()
    }

    /// The only failure there is.
    pub(crate) fn failure(&self) -> &FetchFailure<String> {
        assert_eq!(self.failures.len(), 1, "{:?}", self.failures);
        self.failures.values().next().unwrap()
    }
}

/// The files of a listing as jobs.
pub(crate) fn jobs(keys: &VaultKeys, entries: &[PushMessage]) -> Vec<Job> {
    let files = entries.iter().filter(|entry| !entry.folder && !entry.deleted);
    files
        .map(|entry| Job {
            path: keys.decode_path(&entry.path).unwrap().to_string(),
            uid: entry.uid,
            hash: keys.decode_hash(&entry.hash).unwrap(),
            size: entry.size,
        })
        .collect()
}

/// The parts of a run that tests often change.
pub(crate) struct Run {
    pub(crate) options: FetchOptions,
    pub(crate) collector: Collector,
    pub(crate) jobs: Vec<Job>,
    pub(crate) version: u64,
    pub(crate) session: Option<Session>,
}

impl Run {
    /// All files of the bed's vault, over four connections, the one with the listing included.
    pub(crate) async fn of(bed: &Bed) -> Self {
        let (session, entries) = bed.listed().await;
        Self {
            options: FetchOptions { connections: 4, ..FetchOptions::default() },
            collector: Collector::new(bed.keys()),
            jobs: jobs(&bed.keys(), &entries),
            version: session.version(),
            session: Some(session),
        }
    }

    pub(crate) fn connections(mut self, connections: usize) -> Self {
        self.options.connections = connections;
        self
    }

    /// Runs the pool to its end.
    pub(crate) async fn fetch(self, bed: &Bed) -> Fetched {
        let (feed, jobs) = mpsc::channel(32);
        let (results, mut outcomes) = mpsc::channel(64);
        let receiver = Arc::new(self.collector);
        let pool = FetchPool {
            client: bed.client.clone(),
            target: bed.target(),
            version: self.version,
            options: self.options,
            receiver: Arc::clone(&receiver),
            jobs,
            results,
            cancel: CancellationToken::new(),
            first_session: self.session,
        };
        let feeding = async move {
            for job in self.jobs {
                // A run that fails accepts no more jobs.
                if feed.send(job).await.is_err() {
                    break;
                }
            }
        };
        let mut fetched = Fetched {
            files: BTreeMap::new(),
            failures: BTreeMap::new(),
            run: Ok(FetchSummary::default()),
            calls: 0,
        };
        let reading = async {
            let mut results = Vec::new();
            while let Some(result) = outcomes.recv().await {
                results.push(result);
            }
            results
        };
        let (run, (), results) = limited(async { tokio::join!(pool.run(), feeding, reading) }).await;
        for FetchResult { job, outcome } in results {
            let earlier = match outcome {
                Ok(content) => fetched.files.insert(job.path.clone(), content).is_some(),
                Err(failure) => fetched.failures.insert(job.path.clone(), failure).is_some(),
            };
            assert!(!earlier, "{} has two results", job.path);
        }
        fetched.run = run;
        fetched.calls = receiver.calls.load(Ordering::Relaxed);
        fetched
    }
}

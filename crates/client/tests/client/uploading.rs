//! Many changes over several connections: each is sent once, those of one path in order, whatever breaks.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::io::Cursor;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use obsync_client::{
    ClientError, PushFailure, PushFile, Upload, UploadFailure, UploadOptions, UploadPool, UploadResult,
    UploadSource, UploadSummary, Uploaded, WritingSession,
};
use obsync_protocol::{ContentHash, Uid, VaultPath};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::bed::{Bed, limited};

/// A change whose content is in memory.
#[derive(Clone, Debug)]
enum Job {
    Folder(VaultPath),
    Deletion(VaultPath),
    File { path: VaultPath, content: String, from: Option<VaultPath> },
}

impl Job {
    fn file(path: &str, content: impl Into<String>) -> Self {
        Self::File { path: parse(path), content: content.into(), from: None }
    }

    fn path(&self) -> &VaultPath {
        match self {
            Self::Folder(path) | Self::Deletion(path) | Self::File { path, .. } => path,
        }
    }
}

fn parse(path: &str) -> VaultPath {
    VaultPath::parse(path).unwrap()
}

/// Records how many bytes of each job were sent.
#[derive(Default)]
struct AtHand(Mutex<BTreeMap<VaultPath, Vec<u64>>>);

impl UploadSource for AtHand {
    type Job = Job;
    type Content = Cursor<Vec<u8>>;
    type Error = Infallible;

    fn upload<'a>(&self, job: &'a Job) -> Upload<'a> {
        match job {
            Job::Folder(path) => Upload::Folder(path),
            Job::Deletion(path) => Upload::Deletion { path, folder: false },
            Job::File { path, content, from } => {
                let hash = ContentHash::of(content.as_bytes());
                let file = PushFile { path, hash, ctime: 1, mtime: 2, related: from.as_ref() };
                Upload::File(file, content.len() as u64)
            }
        }
    }

    fn sent(&self, job: &Job, bytes: u64) {
        self.0.lock().unwrap().entry(job.path().clone()).or_default().push(bytes);
    }

    async fn open(&self, job: &Job) -> Result<Self::Content, Infallible> {
        match job {
            Job::File { content, .. } => Ok(Cursor::new(content.clone().into_bytes())),
            _ => Ok(Cursor::default()),
        }
    }
}

/// A run of the pool.
struct Uploads {
    options: UploadOptions,
    jobs: Vec<Job>,
    cancel: CancellationToken,
    first_session: Option<WritingSession>,
    source: Arc<AtHand>,
}

type Results = Vec<(Job, Result<Uploaded, UploadFailure<Infallible>>)>;

impl Uploads {
    fn of(jobs: impl IntoIterator<Item = Job>) -> Self {
        Self {
            options: UploadOptions::default(),
            jobs: jobs.into_iter().collect(),
            cancel: CancellationToken::new(),
            first_session: None,
            source: Arc::default(),
        }
    }

    async fn run(self, bed: &Bed) -> (Result<UploadSummary, ClientError>, Results) {
        let (feed, jobs) = mpsc::channel(8);
        let (results, mut taken) = mpsc::channel(8);
        let pool = UploadPool {
            client: bed.client.clone(),
            target: bed.target(),
            version: 0,
            options: self.options,
            source: self.source,
            jobs,
            results,
            cancel: self.cancel,
            first_session: self.first_session,
        };
        let feeding = async move {
            for job in self.jobs {
                if feed.send(job).await.is_err() {
                    return;
                }
            }
        };
        let collecting = async {
            let mut results = Vec::new();
            while let Some(UploadResult { job, outcome }) = taken.recv().await {
                results.push((job, outcome));
            }
            results
        };
        let (summary, (), results) = limited(async { tokio::join!(pool.run(), feeding, collecting) }).await;
        (summary, results)
    }

    /// A run in which the server accepts everything.
    async fn taken(self, bed: &Bed) -> UploadSummary {
        let jobs = self.jobs.len();
        let (summary, results) = self.run(bed).await;
        let failures: Vec<_> = results.iter().filter(|(_, outcome)| outcome.is_err()).collect();
        assert!(failures.is_empty(), "{failures:?}");
        assert_eq!(results.len(), jobs);
        summary.unwrap()
    }
}

fn notes(count: usize) -> impl Iterator<Item = Job> {
    (0..count).map(|number| Job::file(&format!("{number}.md"), format!("note {number}")))
}

/// Number of versions of each path in the vault's history.
async fn states(bed: &Bed, paths: impl IntoIterator<Item = VaultPath>) -> BTreeMap<VaultPath, usize> {
    let (mut session, _) = bed.listed().await;
    let mut states = BTreeMap::new();
    for path in paths {
        let history = limited(session.history(&bed.keys().encode_path(&path), Uid(0))).await.unwrap();
        states.insert(path, history.items.len());
    }
    states
}

#[tokio::test]
async fn every_change_is_taken_over_several_connections() {
    let bed = Bed::start().await;
    bed.vault.write("old.md", "moved", 1).unwrap();
    bed.vault.write("gone.md", "gone", 1).unwrap();
    let (first_session, mut live) = bed.writer().await;
    let others = [
        Job::Folder(parse("Folder")),
        Job::Deletion(parse("gone.md")),
        Job::File { path: parse("new.md"), content: "moved".to_owned(), from: Some(parse("old.md")) },
        Job::file("empty.md", ""),
    ];
    bed.fault("latency=2ms");
    let mut uploads = Uploads::of(notes(300).chain(others));
    uploads.first_session = Some(first_session);
    let summary = uploads.taken(&bed).await;
    assert_eq!((summary.taken, summary.reconnects), (304, 0));
    assert_eq!(summary.connections, 8);
    let left = bed.vault.expected().unwrap();
    assert_eq!((left.files.len(), left.folders.len()), (302, 1));
    // The owner of the first session received the changes that all connections sent.
    let heard = std::iter::from_fn(|| live.try_next().unwrap_or_default()).count() as u64;
    assert!(heard > 0 && heard <= bed.vault.version().0 - 2);
}

#[tokio::test]
async fn changes_of_one_path_keep_their_order() {
    let bed = Bed::start().await;
    bed.fault("latency=1ms");
    let jobs = (0..20).flat_map(|version| {
        (0..10).map(move |path| match version % 5 {
            4 => Job::Deletion(parse(&format!("{path}.md"))),
            _ => Job::file(&format!("{path}.md"), format!("{path} in version {version}")),
        })
    });
    // The last version, a deletion, is left out.
    let mut jobs: Vec<Job> = jobs.take(190).collect();
    // A rename waits for both of its paths.
    jobs.push(Job::File {
        path: parse("moved.md"),
        content: "3 in version 18".to_owned(),
        from: Some(parse("3.md")),
    });
    jobs.push(Job::file("3.md", "written after the rename"));
    Uploads::of(jobs).taken(&bed).await;
    let left = bed.vault.expected().unwrap();
    let content =
        |path: &str| left.files.iter().find(|file| file.path == path).map(|file| file.sha256.clone());
    for path in (0..10).filter(|path| *path != 3) {
        let last = ContentHash::of(format!("{path} in version 18").as_bytes()).to_string();
        assert_eq!(content(&format!("{path}.md")), Some(last));
    }
    assert_eq!(content("3.md"), Some(ContentHash::of(b"written after the rename").to_string()));
    assert_eq!(content("moved.md"), Some(ContentHash::of(b"3 in version 18").to_string()));
}

#[tokio::test]
async fn eight_connections_take_a_fraction_of_the_time_of_one() {
    // Measured with 3,000 notes (docs/PERFORMANCE.md).
    let count = std::env::var("OBSYNC_UPLOAD_NOTES").ok().map(|count| count.parse().unwrap());
    let bed = Bed::start().await;
    bed.fault("latency=20ms");
    let started = Instant::now();
    let summary = Uploads::of(notes(count.unwrap_or(300))).taken(&bed).await;
    let took = started.elapsed();
    // Two messages of 20 ms a note.
    let one = Duration::from_millis(20) * 2 * u32::try_from(count.unwrap_or(300)).unwrap();
    println!("{took:?}, at least {:?}, {summary:?}", one / 8);
    // Leaves room for other work of the machine.
    let most = if count.is_some() { one * 3 / 16 } else { one / 3 };
    assert!(took >= one / 8 && took < most, "{took:?}");
}

#[tokio::test]
async fn a_change_that_was_certainly_not_recorded_is_sent_again_and_recorded_once() {
    let bed = Bed::start().await;
    // Files of two pieces, so that a cut comes before the last one.
    let large =
        |number: usize| Job::file(&format!("{number}.bin"), format!("{number}").repeat(1 << 20).repeat(3));
    bed.fault("drop-in-upload=next:6");
    let jobs: Vec<Job> = (10..20).map(large).collect();
    let mut uploads = Uploads::of(jobs.clone());
    uploads.options.connections = 3;
    let summary = uploads.taken(&bed).await;
    assert_eq!(bed.server.faults().strikes("drop-in-upload"), 6);
    assert!(summary.reconnects >= 3, "{summary:?}");
    let states = states(&bed, jobs.iter().map(|job| job.path().clone())).await;
    assert!(states.values().all(|count| *count == 1), "{states:?}");
}

#[tokio::test]
async fn each_attempt_tells_how_much_it_has_sent_and_a_known_content_is_not_sent() {
    let bed = Bed::start().await;
    let size: u64 = 5 << 20;
    let content = "x".repeat(size as usize);
    bed.fault("drop-in-upload=next:1+after:1");
    let mut uploads = Uploads::of([
        Job::file("large.bin", &content),
        Job::file("large.bin", "changed"),
        Job::file("same.bin", &content),
        Job::file("large.bin", ""),
    ]);
    uploads.options.connections = 1;
    let source = uploads.source.clone();
    uploads.taken(&bed).await;
    let sent = std::mem::take(&mut *source.0.lock().unwrap());
    assert!(!sent.contains_key(&parse("same.bin")), "{sent:?}");
    // Each attempt counts from zero: one that was cut after its second piece, one that succeeded, and one for
    // the next text.
    let mut attempts: Vec<u64> = Vec::new();
    for (at, bytes) in sent[&parse("large.bin")].iter().enumerate() {
        match attempts.last_mut() {
            Some(last) if *bytes >= *last && at > 0 => *last = *bytes,
            _ => attempts.push(*bytes),
        }
    }
    assert_eq!(attempts, [4 << 20, size, 7], "{sent:?}");
}

#[tokio::test]
async fn a_change_whose_answer_was_lost_is_not_sent_again() {
    let bed = Bed::start().await;
    bed.fault("lose-echo=next:5,lose-answer=next:5,seed=3");
    let jobs: Vec<Job> = notes(60).collect();
    let (summary, results) = Uploads::of(jobs.clone()).run(&bed).await;
    assert_eq!(results.len(), 60);
    let unknown = results
        .iter()
        .filter(|(_, outcome)| matches!(outcome, Err(UploadFailure::Push(PushFailure::Unknown(_)))))
        .count();
    assert_eq!((unknown, summary.unwrap().taken), (10, 50));
    let states = states(&bed, jobs.iter().map(|job| job.path().clone())).await;
    assert!(states.values().all(|count| *count == 1), "{states:?}");
}

#[tokio::test]
async fn an_overloaded_server_is_asked_again_and_a_full_one_is_not() {
    let bed = Bed::start().await;
    bed.fault("refuse-push=next:4,refuse-push-text=The server is overloaded");
    Uploads::of(notes(20)).taken(&bed).await;

    bed.fault("storage-limit=1");
    let jobs = [
        Job::file("new.md", "a content that nobody has"),
        Job::Folder(parse("Folder")),
        Job::file("copy.md", "note 1"),
    ];
    let (summary, results) = Uploads::of(jobs).run(&bed).await;
    assert_eq!(summary.unwrap().taken, 2);
    let (refused, failure) = results.iter().find(|(_, outcome)| outcome.is_err()).unwrap();
    assert_eq!(refused.path().as_str(), "new.md");
    let is_full = |failure: &PushFailure| matches!(failure, PushFailure::Refused(ClientError::VaultFull));
    assert!(matches!(failure, Err(UploadFailure::Push(failure)) if is_full(failure)), "{failure:?}");
}

#[tokio::test]
async fn a_subscription_that_expires_midway_ends_the_run() {
    let bed = Bed::start().await;
    bed.fault("refuse-push=always+after:10,refuse-push-text=Your subscription to Obsidian Sync has expired");
    let (summary, results) = Uploads::of(notes(100)).run(&bed).await;
    assert!(matches!(summary, Err(ClientError::SubscriptionExpired)), "{summary:?}");
    assert!(results.len() <= 10 && results.iter().all(|(_, outcome)| outcome.is_ok()));
}

#[tokio::test]
async fn a_server_that_takes_few_connections_gets_everything_over_them() {
    let bed = Bed::start().await;
    let (first_session, _live) = bed.writer().await;
    bed.fault("refuse-upgrade,latency=1ms");
    let mut uploads = Uploads::of(notes(100));
    uploads.first_session = Some(first_session);
    let summary = uploads.taken(&bed).await;
    assert_eq!(summary.connections, 1);
}

#[tokio::test]
async fn a_server_that_is_gone_ends_the_run() {
    let bed = Bed::start().await;
    bed.fault("refuse-upgrade");
    let (summary, results) = Uploads::of(notes(10)).run(&bed).await;
    assert!(matches!(summary, Err(ClientError::Http { status: 503 })), "{summary:?}");
    assert!(results.is_empty());
}

#[tokio::test]
async fn a_cancelled_run_ends_at_once() {
    let bed = Bed::start().await;
    bed.fault("stall-request");
    let uploads = Uploads::of(notes(100));
    let cancel = uploads.cancel.clone();
    let started = Instant::now();
    let cancelling = async {
        bed.server.wait_for(|stats| stats.open_websockets > 0).await;
        cancel.cancel();
    };
    let ((summary, results), ()) = tokio::join!(uploads.run(&bed), cancelling);
    assert_eq!((summary.unwrap().taken, results.len()), (0, 0));
    assert!(started.elapsed() < Duration::from_secs(5));
    limited(bed.server.wait_for(|stats| stats.open_websockets == 0)).await;
}

/// Whatever breaks: a result agrees with the history of its path.
#[tokio::test]
async fn every_result_is_true_whatever_breaks() {
    let mut kinds = BTreeMap::new();
    for seed in 0..6 {
        let bed = Bed::start().await;
        bed.fault(&format!(
            "seed={seed},drop-in-upload=6%,lose-echo=4%,lose-answer=4%,drop-on-request=6%,refuse-push=4%,late-echo=10%,\
             double-echo=10%,drop-in-listing=5%,refuse-upgrade=5%,unknown-ops=5%"
        ));
        let mut uploads = Uploads::of(notes(60));
        uploads.options.connections = 5;
        let (summary, results) = uploads.run(&bed).await;
        let taken = summary.unwrap().taken;
        assert_eq!(results.len(), 60);
        bed.server.faults().clear();
        let states = states(&bed, results.iter().map(|(job, _)| job.path().clone())).await;
        let mut count = 0;
        for (job, outcome) in &results {
            let (kind, possible) = match outcome {
                Ok(_) => ("taken", 1..=1),
                Err(UploadFailure::Push(PushFailure::Unknown(_))) => ("unknown", 0..=1),
                Err(UploadFailure::Push(PushFailure::NotRecorded(_))) => ("not recorded", 0..=0),
                Err(UploadFailure::Push(PushFailure::Refused(_))) => ("refused", 0..=0),
                Err(UploadFailure::Source(never)) => match *never {},
            };
            *kinds.entry(kind).or_insert(0) += 1;
            count += u64::from(kind == "taken");
            assert!(possible.contains(&states[job.path()]), "{job:?}: {outcome:?}, {}", states[job.path()]);
        }
        assert_eq!(count, taken);
    }
    println!("{kinds:?}");
    for kind in ["taken", "unknown", "refused"] {
        assert!(kinds.contains_key(kind), "no result was {kind}: {kinds:?}");
    }
}

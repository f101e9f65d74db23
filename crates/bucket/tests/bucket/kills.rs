//! Kills a run at each of its steps, one after the other: before and after each request that changes
//! something in the bucket, and before and after each commit. The next run repairs everything.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::{Stdio, abort};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use obsync_bucket::{BucketDestination, BucketOptions};
use obsync_client::FetchOptions;
use obsync_conformance::WatchedState;
use obsync_core::{MaxDelete, NoProgress, Outcome, PullOptions, pull};
use obsync_testcloud::{RequestRecord, ServiceFaults};
use obsync_testkit::Chance;
use tokio::io::AsyncReadExt;
use tokio::process::{Child, Command};
use tokio_util::sync::CancellationToken;

use crate::bench::{Bench, open_state, source_at};
use crate::buckets::{BUCKET, config, location, options};

/// Environment of the child: server, bucket, the folder with its state, and the commit around which it kills
/// itself.
const SERVER: &str = "OBSYNC_TEST_SERVER";
const ENDPOINT: &str = "OBSYNC_TEST_ENDPOINT";
const KEY: &str = "OBSYNC_TEST_KEY";
const SECRET: &str = "OBSYNC_TEST_SECRET";
const HOME: &str = "OBSYNC_TEST_HOME";
const DIES_AT: &str = "OBSYNC_TEST_DIES_AT";
const NEVER: usize = usize::MAX;

/// The requests that change something.
const CHANGING: [&str; 7] = [
    "PutObject",
    "CopyObject",
    "CreateMultipartUpload",
    "UploadPart",
    "CompleteMultipartUpload",
    "AbortMultipartUpload",
    "DeleteObjects",
];
/// Holds the bucket as it was before the run.
const PRISTINE: &str = "pristine";

const USERS: &str = "a user's text";
const TIME: i64 = 1_700_000_000_000;
/// Bytes of a content that goes up in parts.
const LARGE: usize = 6 << 20;

const BEFORE: &[(&str, &str)] = &[
    ("changed.md", "one"),
    ("deleted.md", "to be deleted"),
    ("edited.md", "as pulled"),
    ("edited and deleted.md", "as pulled, too"),
    ("renamed.md", "to be renamed"),
    ("moved/a.md", "in a folder"),
    ("left.md", "on the left"),
    ("right.md", "on the right"),
    ("touched.md", "only its time changes"),
];
const AFTER: &[(&str, &str)] = &[
    ("changed.md", "two, and longer"),
    ("edited.md", "changed in the vault"),
    ("new name.md", "to be renamed"),
    ("moved there/a.md", "in a folder"),
    ("left.md", "on the right"),
    ("right.md", "on the left"),
    ("touched.md", "only its time changes"),
    ("copy 1.md", "at two places"),
    ("copy 2.md", "at two places"),
    ("taken.md", "where a user has a file"),
];

/// The way in which a run is killed.
#[derive(Clone, Copy, Debug)]
enum Death {
    /// This request that changes something, and all after it, are not carried out.
    Before(u64),
    /// This one is carried out, and none after it.
    After(u64),
    /// Before or after a commit.
    Commit(usize),
}

/// Small portions, so that many are announced while others are published.
fn child_options(endpoint: &str, vault: &str) -> BucketOptions {
    let vault = Some(vault.parse().unwrap());
    BucketOptions {
        batch_files: 3,
        part_size: 5 << 20,
        endpoint: Some(endpoint.to_owned()),
        vault,
        ..options()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_is_killed_at_any_of_its_steps_is_made_good_by_the_next() {
    if let Ok(dies_at) = std::env::var(DIES_AT) {
        return run(dies_at.parse().unwrap()).await;
    }
    let scene = Scene::new().await;
    let mut struck = BTreeSet::new();
    let (mut requests, mut commits) = ([0, 0], 0);
    for (count, death) in requests.iter_mut().zip([Death::Before as fn(u64) -> Death, Death::After]) {
        while let Some(request) = scene.survives(death(*count)).await {
            struck.insert(request);
            *count += 1;
        }
    }
    while scene.survives(Death::Commit(commits)).await.is_some() {
        commits += 1;
    }
    println!("{requests:?} kills around requests, {commits} around commits");
    let operations =
        ["PutObject", "CopyObject", "CreateMultipartUpload", "UploadPart", "CompleteMultipartUpload"];
    for wanted in operations.into_iter().chain(["DeleteObjects"]) {
        assert!(
            struck.iter().any(|request| request.starts_with(wanted)),
            "{wanted} was not struck: {struck:#?}"
        );
    }
    // The run divides its work slightly differently each time.
    let made = scene.requests_of_a_run().await;
    assert!(
        requests.iter().all(|steps| steps + 2 >= made),
        "{requests:?} steps, {made} requests that change something"
    );
    assert!(commits >= 8, "{commits} steps around commits");
}

/// The vault has again the files that a run removed without hearing the answers, or without recording them.
#[tokio::test(flavor = "multi_thread")]
async fn what_a_killed_run_had_removed_comes_back_when_the_vault_has_it_again() {
    const NOTES: [(&str, &str); 3] =
        [("renamed.md", "renamed"), ("deleted.md", "deleted"), ("kept.md", "kept")];
    let deaths: [fn(u64) -> Death; 3] =
        [Death::Before, Death::After, |step| Death::Commit(usize::try_from(step).unwrap())];
    for death in deaths {
        let mut steps = 0;
        loop {
            let bench = Scene::bench().await;
            for (path, text) in NOTES {
                bench.vault.write(path, text, TIME).unwrap();
            }
            bench.pull().await;
            bench.vault.rename("renamed.md", "new name.md").unwrap();
            bench.vault.delete("deleted.md").unwrap();
            let scene = Scene { bench, state: tempfile::tempdir().unwrap() };
            let is_killed = scene.die(death(steps)).await.is_some();
            let bench = &scene.bench;
            bench.bucket.cloud.faults().clear();
            if !is_killed {
                break;
            }
            bench.vault.rename("new name.md", "renamed.md").unwrap();
            bench.vault.write("deleted.md", "deleted", TIME).unwrap();
            for _ in 0..2 {
                let report = bench.pull().await;
                assert_eq!(report.outcome, Outcome::Complete, "{:?}: {report:#?}", death(steps));
            }
            for (path, text) in NOTES {
                assert_eq!(bench.bucket.text(path).as_deref(), Some(text), "{:?}: {path}", death(steps));
            }
            assert_eq!(bench.bucket.keys().len(), NOTES.len(), "{:?}", death(steps));
            steps += 1;
        }
        assert!(steps >= 2, "{steps} steps of {:?}", death(0));
    }
}

/// A bucket with a user's changes, whose vault changed in every supported way since it was pulled.
struct Scene {
    bench: Bench,
    /// The state as it was before the run.
    state: tempfile::TempDir,
}

impl Scene {
    /// A bench whose bucket is configured as in the child.
    async fn bench() -> Bench {
        let mut bench = Bench::new().await;
        let vault = bench.source.vault.id.to_string();
        let endpoint = bench.bucket.options.endpoint.clone().unwrap();
        bench.bucket.options = child_options(&endpoint, &vault);
        bench.options.max_delete = MaxDelete::Unlimited;
        bench
    }

    async fn new() -> Self {
        let bench = Self::bench().await;
        for (path, text) in BEFORE {
            bench.vault.write(path, text.as_bytes(), TIME).unwrap();
        }
        bench.vault.write("large.bin", vec![1; LARGE], TIME).unwrap();
        bench.pull().await;
        for path in ["edited.md", "edited and deleted.md", "taken.md", "beside.md"] {
            bench.bucket.put(path, USERS.as_bytes());
        }
        let deleted = ["deleted.md", "edited and deleted.md", "renamed.md", "moved/a.md", "large.bin"];
        for path in deleted {
            bench.vault.delete(path).unwrap();
        }
        for (path, text) in AFTER {
            bench.vault.write(path, text.as_bytes(), TIME + 1000).unwrap();
        }
        bench.vault.write("moved there/large.bin", vec![1; LARGE], TIME).unwrap();
        bench.vault.write("new large.bin", vec![2; LARGE], TIME).unwrap();
        bench.bucket.cloud.s3().copy_objects(BUCKET, PRISTINE);
        let state = tempfile::tempdir().unwrap();
        copy_files(bench.home.path(), state.path());
        Scene { bench, state }
    }

    /// Kills a run in the initial bucket, and checks the result of the next one. Returns how it was killed;
    /// `None`: it has fewer steps.
    async fn survives(&self, death: Death) -> Option<String> {
        let bucket = &self.bench.bucket;
        bucket.cloud.s3().copy_objects(PRISTINE, BUCKET);
        copy_files(self.state.path(), self.bench.home.path());
        let struck = self.die(death).await;
        bucket.cloud.faults().clear();
        let report = self.bench.pull().await;
        assert_eq!(report.outcome, Outcome::Complete, "{death:?}: {report:#?}");
        self.assert_exact(death).await;
        struck
    }

    /// Runs a pull in a process of its own and kills it.
    async fn die(&self, death: Death) -> Option<String> {
        let cloud = &self.bench.bucket.cloud;
        let before = cloud.requests().len();
        let (at, commit) = match death {
            Death::Before(at) | Death::After(at) => (at, NEVER),
            Death::Commit(commit) => (0, commit),
        };
        cloud.faults().update(|faults| {
            let operations = CHANGING.map(str::to_owned).to_vec();
            let (hang, unanswered) = match death {
                Death::Before(_) => (Chance::always().after(at), Chance::never()),
                Death::After(_) => (Chance::always().after(at + 1), Chance::always().after(at)),
                Death::Commit(_) => (Chance::never(), Chance::never()),
            };
            faults.s3 = ServiceFaults { operations, hang, unanswered, ..ServiceFaults::default() };
        });
        let is_change = |request: &&RequestRecord| CHANGING.contains(&request.operation.as_str());
        let has_struck = cloud.wait_for_requests(|log| {
            let mut changes = log.iter().skip(before).filter(is_change);
            match death {
                Death::Before(at) => changes.count() as u64 > at,
                Death::After(_) => changes.any(|request| request.is_withheld),
                Death::Commit(_) => false,
            }
        });
        let mut child = self.child(commit);
        tokio::select! {
            status = child.wait() => {
                let status = status.unwrap();
                if status.success() {
                    return None;
                }
                let died = matches!(death, Death::Commit(_)) && status.code().is_none();
                assert!(died, "{death:?}: {status}: {}", errors_of(&mut child).await);
                return Some(String::new());
            }
            () = has_struck => {}
        }
        child.kill().await.unwrap();
        let log = cloud.requests();
        let mut changes = log.iter().skip(before).filter(is_change);
        let struck = match death {
            Death::Before(at) => changes.nth(usize::try_from(at).unwrap()),
            _ => changes.find(|request| request.is_withheld),
        };
        Some(struck.map_or_else(String::new, |request| format!("{} {}", request.operation, request.resource)))
    }

    fn child(&self, dies_at: usize) -> Child {
        let test = "kills::a_run_that_is_killed_at_any_of_its_steps_is_made_good_by_the_next";
        let mut child = Command::new(std::env::current_exe().unwrap());
        child.args([test, "--exact", "--nocapture"]).stdout(Stdio::null()).stderr(Stdio::piped());
        child.env(SERVER, self.bench.server.url()).env(HOME, self.bench.home.path());
        child.env(ENDPOINT, self.bench.bucket.options.endpoint.as_ref().unwrap());
        let (key, secret) = self.bench.bucket.cloud.credentials();
        child.env(KEY, key).env(SECRET, secret);
        child.env(DIES_AT, dies_at.to_string()).kill_on_drop(true);
        child.spawn().unwrap()
    }

    /// Asserts that the bucket contains the vault's files, each text of the user once, and nothing else.
    async fn assert_exact(&self, death: Death) {
        let bench = &self.bench;
        let mut others: BTreeMap<String, String> = BTreeMap::new();
        let expected = bench.vault.expected().unwrap();
        for file in &expected.files {
            let object =
                bench.bucket.object(&file.path).unwrap_or_else(|| panic!("{death:?}: {}", file.path));
            let hash = obsync_protocol::ContentHash::of(&object.content).to_string();
            assert_eq!(
                (&hash, &object.metadata["sha256"]),
                (&file.sha256, &file.sha256),
                "{death:?}: {}",
                file.path
            );
            assert_eq!(object.metadata["mtime"], file.mtime_ms.to_string(), "{death:?}: {}", file.path);
        }
        for path in bench.bucket.keys() {
            if expected.files.iter().all(|file| file.path != path) {
                let text = bench.bucket.text(&path).unwrap();
                others.insert(path, text);
            }
        }
        assert!(others.values().all(|text| text == USERS), "{death:?}: {others:#?}");
        for (count, name) in [(1, "beside.md"), (1, "edited and deleted.md"), (1, "edited ("), (1, "taken (")]
        {
            let found = others.keys().filter(|path| path.starts_with(name)).count();
            assert_eq!(found, count, "{death:?}: {name}: {others:#?}");
        }
        assert_eq!(others.len(), 4, "{death:?}: {others:#?}");
        assert_eq!(bench.bucket.open_uploads(), 0, "{death:?}");
        let verification = bench.verify().await;
        assert_eq!((verification.missing, verification.changed), (vec![], vec![]), "{death:?}");
        assert!(bench.pull().await.is_unchanged(), "{death:?}");
    }

    /// Number of changing requests in a run that nobody kills.
    async fn requests_of_a_run(&self) -> u64 {
        let cloud = &self.bench.bucket.cloud;
        cloud.s3().copy_objects(PRISTINE, BUCKET);
        copy_files(self.state.path(), self.bench.home.path());
        let before = cloud.requests().len();
        let mut child = self.child(NEVER);
        assert!(child.wait().await.unwrap().success(), "{}", errors_of(&mut child).await);
        let log = cloud.requests();
        log.iter().skip(before).filter(|request| CHANGING.contains(&request.operation.as_str())).count()
            as u64
    }
}

async fn errors_of(child: &mut Child) -> String {
    let mut said = String::new();
    if let Some(mut stderr) = child.stderr.take() {
        stderr.read_to_string(&mut said).await.unwrap();
    }
    said
}

/// The run of the child.
async fn run(dies_at: usize) {
    let home = PathBuf::from(std::env::var_os(HOME).unwrap());
    let source = source_at(&std::env::var(SERVER).unwrap()).await;
    let reached = Arc::new(AtomicUsize::new(0));
    let step = move || {
        if reached.fetch_add(1, Ordering::Relaxed) == dies_at {
            abort();
        }
    };
    let bucket = child_options(&std::env::var(ENDPOINT).unwrap(), source.vault.id.as_str());
    let [key, secret] = [KEY, SECRET].map(|name| std::env::var(name).unwrap());
    let store = BucketDestination::open_s3(&location(), bucket, &config(&key, &secret)).await.unwrap();
    let state = open_state(&home, &source).unwrap();
    let state = Arc::new(WatchedState::with(Arc::new(state), step));
    let options = PullOptions {
        fetch: FetchOptions { connections: 2, ..FetchOptions::default() },
        max_delete: MaxDelete::Unlimited,
        ..PullOptions::default()
    };
    let stop = CancellationToken::new();
    let report = pull(&source, Arc::new(store), state, &options, Arc::new(NoProgress), stop).await.unwrap();
    assert_eq!(report.outcome, Outcome::Complete, "{report:#?}");
}

/// Makes a folder's files those of another.
fn copy_files(from: &Path, to: &Path) {
    for file in std::fs::read_dir(to).unwrap() {
        std::fs::remove_file(file.unwrap().path()).unwrap();
    }
    for file in std::fs::read_dir(from).unwrap() {
        let file = file.unwrap();
        std::fs::copy(file.path(), to.join(file.file_name())).unwrap();
    }
}

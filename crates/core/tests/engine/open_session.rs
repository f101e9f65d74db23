//! A follower works over its open session: no change of either side needs a new connection, and no change
//! that arrives meanwhile is lost.

use std::collections::HashSet;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use obsync_client::RetryPolicy;
use obsync_core::{
    FollowOptions, FollowWay, Following, MaxDelete, NoProgress, Observer, PullError, Report, SyncOptions,
    Watch, follow,
};
use obsync_protocol::{ContentHash, VaultPath};
use obsync_testkit::Chance;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::bench::Bench;

const T: i64 = 1_700_000_000_000;
const PATIENCE: Duration = Duration::from_secs(60);

/// Reports changed paths, as a watcher of the folder does.
struct Paths {
    changed: mpsc::UnboundedReceiver<VaultPath>,
    touched: HashSet<VaultPath>,
}

#[async_trait]
impl Watch for Paths {
    async fn changed(&mut self) {
        match self.changed.recv().await {
            Some(path) => {
                self.touched.insert(path);
            }
            None => std::future::pending().await,
        }
    }

    fn touched(&mut self) -> Option<HashSet<VaultPath>> {
        Some(std::mem::take(&mut self.touched))
    }
}

#[derive(Default)]
struct Reports {
    reports: Mutex<Vec<Report>>,
    waits: AtomicUsize,
}

impl Observer for Reports {
    fn following(&self, following: &Following) {
        match following {
            Following::Waiting => self.waits.fetch_add(1, Ordering::SeqCst),
            _ => self.waits.fetch_and(0, Ordering::SeqCst),
        };
    }

    fn ran(&self, report: &Report) {
        self.reports.lock().unwrap().push(report.clone());
    }
}

struct Follower {
    changed: mpsc::UnboundedSender<VaultPath>,
    reports: Arc<Reports>,
    stop: CancellationToken,
    task: JoinHandle<Result<(), PullError>>,
}

impl Follower {
    async fn begin(bench: &Bench) -> Self {
        let way = FollowWay::Sync(SyncOptions {
            pull: bench.options.clone(),
            max_delete_in_vault: MaxDelete::Unlimited,
            second_look: Duration::ZERO,
            ..SyncOptions::default()
        });
        let (min_delay, max_delay) = (Duration::from_millis(20), Duration::from_millis(50));
        let retry = RetryPolicy { attempts: usize::MAX, min_delay, max_delay };
        let options = FollowOptions { retry, ..FollowOptions::new(way) };
        let (sender, changed) = mpsc::unbounded_channel();
        let (reports, stop) = (Arc::new(Reports::default()), CancellationToken::new());
        let watch: Box<dyn Watch> = Box::new(Paths { changed, touched: HashSet::new() });
        let (source, destination, state) = (bench.source.clone(), bench.store(), bench.state());
        let (observer, stopped) = (reports.clone(), stop.clone());
        let task = tokio::spawn(async move {
            let progress = Arc::new(NoProgress);
            follow(&source, destination, state, &options, Some(watch), progress, observer.as_ref(), stopped)
                .await
        });
        let follower = Follower { changed: sender, reports, stop, task };
        follower.at_rest().await;
        follower
    }

    fn touch(&self, path: &str) {
        self.changed.send(VaultPath::parse(path).unwrap()).unwrap();
    }

    async fn at_rest(&self) {
        until("it waits", || self.reports.waits.load(Ordering::SeqCst) > 0).await;
    }

    async fn end(self) {
        self.stop.cancel();
        self.task.await.unwrap().unwrap();
    }
}

async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !holds() {
        assert!(begun.elapsed() < PATIENCE, "{what}");
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

fn has_text(bench: &Bench, path: &str, text: &str) -> bool {
    std::fs::read_to_string(bench.dest().join(path)).is_ok_and(|found| found == text)
}

fn in_vault(bench: &Bench, path: &str, text: &str) -> bool {
    let sha256 = ContentHash::of(text.as_bytes()).to_string();
    bench.vault.expected().unwrap().files.iter().any(|file| file.path == path && file.sha256 == sha256)
}

#[tokio::test(flavor = "multi_thread")]
async fn changes_of_both_sides_cost_no_new_connection() {
    let bench = Bench::new().await;
    for n in 0..20 {
        bench.vault.write(&format!("folder/{n}.md"), n.to_string(), T).unwrap();
    }
    let follower = Follower::begin(&bench).await;
    let sessions = bench.server.stats().websocket_connections;
    for n in 0..20 {
        let (there, here) = (format!("there {n}"), format!("here {n}"));
        bench.vault.write("folder/3.md", &there, T + n).unwrap();
        until("it is here", || has_text(&bench, "folder/3.md", &there)).await;
        bench.edit("folder/4.md", &here);
        follower.touch("folder/4.md");
        until("it is in the vault", || in_vault(&bench, "folder/4.md", &here)).await;
        let new = format!("folder/new {n}.md");
        bench.edit(&new, "new");
        follower.touch(&new);
        until("the new one is in the vault", || in_vault(&bench, &new, "new")).await;
    }
    assert_eq!(bench.server.stats().websocket_connections, sessions);
    follower.at_rest().await;
    // No change is reported twice, and a deletion here is found by a full scan.
    std::fs::remove_file(bench.dest().join("folder/5.md")).unwrap();
    follower.touch("folder/5.md");
    until("it is gone", || {
        !bench.vault.expected().unwrap().files.iter().any(|file| file.path == "folder/5.md")
    })
    .await;
    follower.at_rest().await;
    assert_eq!(bench.server.stats().websocket_connections, sessions);
    follower.end().await;
    bench.assert_in_step().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_both_change_at_once_is_lost_on_neither_side() {
    let bench = Bench::new().await;
    bench.vault.write("note.md", "a\nb\nc\n", T).unwrap();
    let follower = Follower::begin(&bench).await;
    for n in 0..10 {
        bench.vault.write(&format!("there {n}.md"), "there", T).unwrap();
        bench.edit(format!("here {n}.md"), "here");
        follower.touch(&format!("here {n}.md"));
    }
    // A rival's change comes between the last push and its echo.
    bench.server.faults().update(|faults| faults.rival_push = Chance::next(1));
    bench.edit("rivalled.md", "mine");
    follower.touch("rivalled.md");
    until("all is there", || {
        (0..10).all(|n| in_vault(&bench, &format!("here {n}.md"), "here"))
            && in_vault(&bench, "rivalled.md", "mine")
    })
    .await;
    until("all is here", || (0..10).all(|n| has_text(&bench, &format!("there {n}.md"), "there"))).await;
    follower.at_rest().await;
    follower.end().await;
    bench.sync().await;
    bench.assert_in_step().await;
    let copies = bench.files().iter().filter(|file| file.contains("Conflicted copy")).count();
    assert!(copies <= 1, "{:?}", bench.files());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_that_breaks_is_replaced_and_nothing_between_is_missed() {
    let bench = Bench::new().await;
    bench.vault.write("note.md", "text", T).unwrap();
    let follower = Follower::begin(&bench).await;
    for n in 0..5 {
        bench.server.disconnect_all();
        let text = format!("text {n}");
        bench.vault.write("note.md", &text, T + n).unwrap();
        bench.edit("here.md", &text);
        follower.touch("here.md");
        until("it is here", || has_text(&bench, "note.md", &text)).await;
        until("it is there", || in_vault(&bench, "here.md", &text)).await;
    }
    follower.at_rest().await;
    follower.end().await;
    bench.assert_in_step().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_two_entries_of_a_rename_may_come_apart_and_share_a_version() {
    let bench = Bench::new().await;
    bench.vault.write("a.md", "text", T).unwrap();
    let follower = Follower::begin(&bench).await;
    for n in 0..5 {
        let (from, to) = if n % 2 == 0 { ("a.md", "b.md") } else { ("b.md", "a.md") };
        bench.vault.rename_sharing_uid(from, to).unwrap();
        until("it has its new name", || has_text(&bench, to, "text") && !bench.dest().join(from).exists())
            .await;
    }
    follower.at_rest().await;
    follower.end().await;
    bench.assert_in_step().await;
}

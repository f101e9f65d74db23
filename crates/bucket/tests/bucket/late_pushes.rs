//! Changes of objects whose answer was lost and that the vault takes much later.

use std::sync::Arc;
use std::time::Duration;

use obsync_core::{NoProgress, PullError, Report, SyncOptions, sync};
use obsync_testkit::Chance;
use tokio_util::sync::CancellationToken;

use crate::bench::Bench;

const T: i64 = 1_722_222_222_123;

async fn sync_until(bench: &Bench, stop: CancellationToken) -> Result<Report, PullError> {
    let store = Arc::new(bench.bucket.store().await);
    let pull = bench.options.clone();
    let options = SyncOptions { pull, second_look: Duration::ZERO, ..SyncOptions::default() };
    sync(&bench.source, store, bench.state().await, &options, Arc::new(NoProgress), stop).await
}

/// Cuts a sync off while its first change is on its way, which the vault takes after this many requests.
async fn cut_off(bench: &Bench, late_after: u64) {
    bench.server.faults().update(|faults| {
        faults.late_push = Chance::next(1);
        faults.late_after = late_after;
    });
    let stop = CancellationToken::new();
    let strike = async {
        while bench.server.faults().strikes("late-push") == 0 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        stop.cancel();
    };
    let (ended, ()) = tokio::join!(sync_until(bench, stop.clone()), strike);
    ended.unwrap();
    bench.server.faults().clear();
}

/// An object that others put has no metadata of obsync, and nobody reads it to find out what it is.
#[tokio::test(flavor = "multi_thread")]
async fn a_late_change_does_not_replace_what_others_put_since() {
    for moment in 1..=8 {
        let bench = Bench::new().await;
        bench.vault.write("note.bin", "base", T).unwrap();
        sync_until(&bench, CancellationToken::new()).await.unwrap();
        bench.bucket.put("note.bin", b"first");
        cut_off(&bench, moment).await;
        bench.bucket.put("note.bin", b"a newer text");
        for runs in 0.. {
            let is_late = bench.server.late_pushes() > 0;
            let report = sync_until(&bench, CancellationToken::new()).await.unwrap();
            if !is_late && report.is_unchanged() {
                break;
            }
            assert!(runs < 20, "{moment}: {report:#?}");
        }
        assert_eq!(bench.bucket.text("note.bin").unwrap(), "a newer text", "{moment}");
        assert_eq!(bench.vault.contents().unwrap()["note.bin"], b"a newer text", "{moment}");
    }
}

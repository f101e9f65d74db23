//! Live changes reach their subscriber whatever the session does, and pools pass them on.

use std::collections::BTreeSet;
use std::time::Duration;

use obsync_client::{LiveChanges, LiveEnd, PushFile, Session};
use obsync_protocol::{ContentHash, Uid, VaultPath};
use obsync_testkit::VaultHandle;

use crate::bed::{Bed, limited};
use crate::collector::Run;

/// Another device that writes 50 notes, a moment apart.
async fn busy_device(vault: &VaultHandle) {
    for number in 0..50 {
        vault.write(&format!("live/{number}.md"), format!("{number}"), number).unwrap();
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

fn drained(changes: &mut LiveChanges) -> Vec<u64> {
    std::iter::from_fn(|| changes.try_next().unwrap_or_default()).map(|entry| entry.uid.0).collect()
}

#[tokio::test]
async fn no_change_is_lost_while_a_session_lists_idles_asks_and_sends() {
    let bed = Bed::start().await;
    for number in 0..500 {
        bed.vault.write(&format!("old/{number}.md"), format!("old {number}"), 1).unwrap();
    }
    let unlisted = obsync_client::WritingSession::open(&bed.client, &bed.target(), 0, true).await.unwrap();
    let mut listed = BTreeSet::new();
    // Changes from here on are live: the server has made its list.
    let mut on_entry = |entry: obsync_protocol::PushMessage| {
        listed.insert(entry.uid.0);
    };
    let (opened, ()) = tokio::join!(limited(unlisted.listing(&mut on_entry)), busy_device(&bed.vault));
    let (mut session, mut live) = opened.unwrap();

    let device = busy_device(&bed.vault);
    tokio::pin!(device);
    tokio::select! {
        error = session.idle() => panic!("{error}"),
        () = &mut device => {}
    }
    let device = busy_device(&bed.vault);
    let asking = async {
        for _ in 0..50 {
            session.size().await.unwrap();
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        session
    };
    let (mut session, ()) = tokio::join!(limited(asking), device);
    let device = busy_device(&bed.vault);
    let content = vec![7; 6 << 20];
    let path = VaultPath::parse("large.bin").unwrap();
    let file = PushFile { path: &path, hash: ContentHash::of(&content), ctime: 0, mtime: 0, related: None };
    let (sent, ()) = tokio::join!(limited(session.push_file(&file, &content)), device);
    let echo = sent.unwrap().echo.unwrap();
    limited(session.size()).await.unwrap();

    let heard = drained(&mut live);
    assert!(heard.contains(&echo.0) && heard.is_sorted());
    let all: BTreeSet<u64> = listed.iter().copied().chain(heard).collect();
    let expected: BTreeSet<u64> = (1..=bed.vault.version().0).collect();
    // The folders `old` and `live`, 500 notes, four times 50 (of each the last counts in the list), and the file.
    assert_eq!(all.len(), expected.len(), "{:?}", expected.difference(&all));
    drop(session);
    assert_eq!(live.try_next(), Err(LiveEnd::Closed));
}

#[tokio::test]
async fn no_change_is_lost_while_a_session_fetches_for_a_pool() {
    let bed = Bed::start().await;
    for number in 0..200 {
        bed.vault.write(&format!("{number}.bin"), vec![number as u8; 100_000], 1).unwrap();
    }
    let mut session = limited(Session::open(&bed.client, &bed.target(), 0, true)).await.unwrap();
    let mut live = session.live_changes();
    let mut entries = Vec::new();
    limited(session.listing(&mut |entry| entries.push(entry))).await.unwrap();
    let before = bed.vault.version().0;
    bed.fault("live-pushes=30%");
    let mut run = Run::of(&bed).await;
    run.session = Some(session);
    run.options.connections = 1;
    let fetched = run.fetch(&bed).await;
    assert!(fetched.failures.is_empty(), "{:?}", fetched.failures);
    let heard = drained(&mut live);
    let written = (before + 1..=bed.vault.version().0).collect::<Vec<_>>();
    assert!(written.len() > 20, "{} live changes", written.len());
    assert_eq!(heard, written);
}

#[tokio::test]
async fn changes_that_nobody_takes_are_bounded_and_their_loss_is_said() {
    let bed = Bed::start().await;
    let (mut session, mut live) = bed.writer().await;
    // Each change has a path of some 8 KB on the wire.
    let folder = "f".repeat(200);
    for number in 0..5000 {
        let path = format!("{}/{number}", [folder.as_str(); 18].join("/"));
        bed.vault.write(&path, "x", 1).unwrap();
        if number % 100 == 0 {
            limited(session.size()).await.unwrap();
        }
    }
    limited(session.size()).await.unwrap();
    let mut kept = 0;
    let end = loop {
        match live.next().await {
            Ok(entry) => {
                kept += 1;
                assert_eq!(entry.uid, Uid(kept));
            }
            Err(end) => break end,
        }
    };
    assert_eq!(end, LiveEnd::Overflow);
    assert!((3000..5000).contains(&kept), "{kept}");
    // The session stays open; a new one lists the missed changes.
    assert_eq!(session.version(), Some(bed.vault.version().0));
}

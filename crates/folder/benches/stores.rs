//! Speed of the stores: `cargo bench -p obsync-folder`. Each figure is the time for all items together.

#![expect(clippy::expect_used, reason = "a benchmark that cannot run is told by a panic")]

use divan::Bencher;
use divan::counter::ItemsCount;
use obsync_conformance::{at, meta, stage};
use obsync_core::{
    Commit, DestinationExt, Expect, FileMeta, Publication, PublicationContent, Receive, Record, RecordKind,
    StateStore, VaultState,
};
use obsync_folder::{Durability, FolderDestination, FolderOptions};
use obsync_protocol::{ContentHash, Uid, VaultId, VaultPath};
use obsync_sqlite::{SqliteState, StateIdentity};
use tempfile::TempDir;
use tokio::runtime::Runtime;

const FILES: usize = 10_000;
const RECORDS: usize = 100_000;
const BATCH: usize = 1_000;

fn main() {
    divan::main();
}

fn content(number: usize) -> Vec<u8> {
    format!("{number:08}").repeat(256).into_bytes()
}

fn path(number: usize) -> String {
    format!("Area {}/Topic {}/Note number {number}.md", number / 1_000, number / 50)
}

fn runtime() -> Runtime {
    Runtime::new().expect("a runtime")
}

async fn stage_and_publish(store: &FolderDestination) {
    for first in (0..FILES).step_by(BATCH) {
        let mut batch = Vec::with_capacity(BATCH);
        for number in first..first + BATCH {
            let staged = stage(store, &path(number), &content(number), 1_700_000_000_000).await;
            batch.push(Publication { content: PublicationContent::Staged(staged), expect: Expect::Absent });
        }
        assert!(store.publish(batch).await.iter().all(Result::is_ok));
    }
    store.discard_staged().await.expect("discard");
}

/// 10,000 files of 2 KB, staged one after the other and published in batches of a thousand.
#[divan::bench(sample_count = 5, sample_size = 1, args = [Durability::FileSystem, Durability::EachFile])]
fn pull_10000_files(bencher: Bencher<'_, '_>, durability: &Durability) {
    let runtime = runtime();
    let options = FolderOptions { durability: *durability, ..FolderOptions::default() };
    bencher
        .counter(ItemsCount::new(FILES))
        .with_inputs(|| {
            let home = TempDir::new().expect("a folder");
            let store = FolderDestination::open(&home.path().join("vault"), options).expect("a store");
            (home, store)
        })
        .bench_refs(|(_, store)| runtime.block_on(stage_and_publish(store)));
}

/// One file of 190 MB in pieces of 2 MiB, including publishing.
#[divan::bench(sample_count = 3, sample_size = 1)]
fn pull_190_megabytes(bencher: Bencher<'_, '_>) {
    let runtime = runtime();
    let piece = vec![7; 2 << 20];
    bencher.with_inputs(|| TempDir::new().expect("a folder")).bench_refs(|home| {
        runtime.block_on(async {
            let store = FolderDestination::open(&home.path().join("vault"), FolderOptions::default())
                .expect("a store");
            let mut writer = store.begin(&at("large"), &meta(b"large", 0)).await.expect("begin");
            for _ in 0..91 {
                writer.write(piece.clone()).await.expect("write");
            }
            let staged = writer.finish().await.expect("finish");
            let content = PublicationContent::Staged(staged);
            assert!(store.publish(vec![Publication { content, expect: Expect::Absent }]).await[0].is_ok());
        });
    });
}

fn database(home: &TempDir) -> SqliteState {
    let identity = StateIdentity {
        vault_id: VaultId::try_new("vault").expect("an id"),
        vault_name: "Vault".to_owned(),
        destination: "/notes".to_owned(),
    };
    SqliteState::open(&home.path().join("vault.sqlite"), &identity).expect("a database")
}

fn all_records() -> Commit {
    let record = |number: usize| {
        Record::new(
            at(&path(number)),
            RecordKind::File(FileMeta {
                hash: ContentHash::of(&number.to_le_bytes()),
                size: 2_048,
                mtime: 1_700_000_000_000,
                ctime: 1_700_000_000_000,
                uid: Uid(number as u64),
            }),
        )
    };
    let state = VaultState { version: RECORDS as u64, listed: true, ..VaultState::default() };
    Commit { records: (0..RECORDS).map(record).collect(), state, ..Commit::default() }
}

/// 100,000 records in one transaction.
#[divan::bench(sample_count = 5, sample_size = 1)]
fn commit_100000_records(bencher: Bencher<'_, '_>) {
    let runtime = runtime();
    bencher
        .counter(ItemsCount::new(RECORDS))
        .with_inputs(|| {
            let home = TempDir::new().expect("a folder");
            let state = database(&home);
            (home, state, all_records())
        })
        .bench_values(|(home, state, commit)| {
            runtime.block_on(state.commit(commit)).expect("commit");
            (home, state)
        });
}

/// 100,000 records, a thousand in each transaction.
#[divan::bench(sample_count = 3, sample_size = 1)]
fn commit_100000_records_by_the_thousand(bencher: Bencher<'_, '_>) {
    let runtime = runtime();
    let commit = all_records();
    bencher
        .counter(ItemsCount::new(RECORDS))
        .with_inputs(|| {
            let home = TempDir::new().expect("a folder");
            let state = database(&home);
            (home, state)
        })
        .bench_refs(|(_, state)| {
            runtime.block_on(async {
                for records in commit.records.chunks(BATCH) {
                    let part = Commit {
                        records: records.to_vec(),
                        state: commit.state.clone(),
                        ..Commit::default()
                    };
                    state.commit(part).await.expect("commit");
                }
            });
        });
}

/// The records of 100,000 paths.
#[divan::bench(sample_count = 5, sample_size = 1)]
fn look_up_100000_paths(bencher: Bencher<'_, '_>) {
    let runtime = runtime();
    let home = TempDir::new().expect("a folder");
    let state = database(&home);
    runtime.block_on(state.commit(all_records())).expect("commit");
    let paths: Vec<VaultPath> = (0..RECORDS).map(|number| at(&path(number))).collect();
    bencher
        .counter(ItemsCount::new(RECORDS))
        .bench_local(|| runtime.block_on(state.records(&paths)).expect("records").len());
}

/// A path for each of 100,000 contents: after a first pull, when contents have no index yet, and after
/// another commit, when they have.
#[divan::bench(sample_count = 5, sample_size = 1, args = [false, true])]
fn find_100000_sources(bencher: Bencher<'_, '_>, is_indexed: bool) {
    let runtime = runtime();
    let home = TempDir::new().expect("a folder");
    let state = database(&home);
    let commit = all_records();
    let version = commit.state.version + 1;
    let next = Commit { state: VaultState { version, ..commit.state.clone() }, ..Commit::default() };
    runtime.block_on(state.commit(commit)).expect("commit");
    if is_indexed {
        runtime.block_on(state.commit(next)).expect("commit");
    }
    let contents: Vec<ContentHash> =
        (0..RECORDS).map(|number| ContentHash::of(&number.to_le_bytes())).collect();
    bencher
        .counter(ItemsCount::new(RECORDS))
        .bench_local(|| runtime.block_on(state.sources(&contents)).expect("sources").len());
}

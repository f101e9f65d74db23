//! Time of a pull's work on a listing before it transfers anything: `cargo bench -p obsync-core --features
//! benching`. Each figure is the time for all entries together.

#![expect(clippy::expect_used, reason = "a benchmark that cannot run is told by a panic")]

use std::collections::HashMap;

use divan::counter::ItemsCount;
use divan::{AllocProfiler, Bencher};
use obsync_core::benching::{Entries, Planned, PlannedDestination, count, list, plan};
use obsync_core::{FileMeta, Filter, Mode, Record, RecordKind};
use obsync_protocol::{
    CONTENT_OVERHEAD, ContentHash, EncryptionVersion, MasterKey, NameFolding, PushMessage, Uid, VaultKeys,
    VaultPath,
};

/// Counts allocations and the peak of allocated memory.
#[global_allocator]
static ALLOCATIONS: AllocProfiler = AllocProfiler::system();

const ENTRIES: usize = 100_000;
const RENAMES: usize = 1_000;
const SIZE: u64 = 2_048;
const TIME: i64 = 1_700_000_000_000;

fn main() {
    divan::main();
}

fn keys() -> VaultKeys {
    let master = MasterKey::from_hex(&"5a".repeat(32)).expect("64 digits");
    VaultKeys::new(&master, EncryptionVersion::V3, "salt")
}

fn path(number: usize) -> VaultPath {
    let text = format!("Area {}/Topic {}/Note number {number}.md", number / 1_000, number / 50);
    VaultPath::parse(&text).expect("a path")
}

fn hash(number: usize) -> ContentHash {
    ContentHash::of(&number.to_le_bytes())
}

fn file(path: &VaultPath, number: usize, uid: usize, keys: &VaultKeys) -> PushMessage {
    PushMessage {
        uid: Uid(uid as u64),
        path: keys.encode_path(path),
        hash: keys.encode_hash(&hash(number)),
        size: SIZE + CONTENT_OVERHEAD,
        ctime: TIME,
        mtime: TIME,
        device: "Laptop".to_owned(),
        user: "someone@example.com".to_owned(),
        ..PushMessage::default()
    }
}

fn deletion(path: &VaultPath, uid: usize, keys: &VaultKeys) -> PushMessage {
    PushMessage {
        uid: Uid(uid as u64),
        path: keys.encode_path(path),
        deleted: true,
        ..PushMessage::default()
    }
}

fn record(number: usize) -> Record {
    let meta =
        FileMeta { hash: hash(number), size: SIZE, mtime: TIME, ctime: TIME, uid: Uid(number as u64 + 1) };
    Record::new(path(number), RecordKind::File(meta))
}

/// The entries of a first listing of the vault.
fn everything(keys: &VaultKeys) -> Vec<PushMessage> {
    (0..ENTRIES).map(|number| file(&path(number), number, number + 1, keys)).collect()
}

/// The entries of a listing after some files were renamed.
fn renames(keys: &VaultKeys) -> Vec<PushMessage> {
    let renamed = |number| {
        let new = VaultPath::parse(&format!("Archive/{}", path(number))).expect("a path");
        let uid = ENTRIES + 2 * number;
        [deletion(&path(number), uid, keys), file(&new, number, uid + 1, keys)]
    };
    (0..RENAMES).flat_map(renamed).collect()
}

fn destination(records: usize, mode: Mode) -> PlannedDestination {
    let records = (0..records).map(record).collect();
    PlannedDestination { records, sources: HashMap::new(), folds_names: NameFolding::Nothing, mode }
}

/// Makes the plan repeatedly, and checks once that it is the expected one.
fn bench_plan(
    bencher: Bencher<'_, '_>,
    entries: &Entries,
    destination: &PlannedDestination,
    expected: &Planned,
) {
    let filter = Filter::default();
    assert_eq!(&plan(entries.clone(), destination.clone(), &filter).summary(), expected);
    bencher
        .with_inputs(|| (entries.clone(), destination.clone()))
        .bench_values(|(entries, destination)| plan(entries, destination, &filter));
}

const NOTHING: Planned = Planned { transfers: 0, rescues: 0, removals: 0, resolved: 0 };

/// 100,000 entries of a listing, decoded and checked.
#[divan::bench(sample_count = 10, sample_size = 1)]
fn list_100000_entries(bencher: Bencher<'_, '_>) {
    let keys = keys();
    let messages = everything(&keys);
    assert_eq!(list(messages.clone(), &keys).entries().paths(), ENTRIES);
    bencher
        .counter(ItemsCount::new(ENTRIES))
        .with_inputs(|| messages.clone())
        .bench_values(|messages| list(messages, &keys));
}

/// The first pull of 100,000 files.
#[divan::bench(sample_count = 10, sample_size = 1)]
fn plan_100000_new_files(bencher: Bencher<'_, '_>) {
    let keys = keys();
    let entries = list(everything(&keys), &keys).entries();
    let expected = Planned { transfers: ENTRIES, ..NOTHING };
    let bencher = bencher.counter(ItemsCount::new(ENTRIES));
    bench_plan(bencher, &entries, &destination(0, Mode::Incremental), &expected);
}

/// 100,000 files that are recorded as they are listed: nothing to do, or in a full pull all to be looked at.
#[divan::bench(sample_count = 10, sample_size = 1, args = [Mode::Incremental, Mode::Full])]
fn plan_100000_known_files(bencher: Bencher<'_, '_>, mode: Mode) {
    let keys = keys();
    let entries = list(everything(&keys), &keys).entries();
    let expected = match mode {
        Mode::Incremental => Planned { resolved: ENTRIES, ..NOTHING },
        Mode::Full => Planned { transfers: ENTRIES, ..NOTHING },
    };
    let bencher = bencher.counter(ItemsCount::new(ENTRIES));
    bench_plan(bencher, &entries, &destination(ENTRIES, mode), &expected);
}

/// 1,000 renames. Where names are folded, all 100,000 records are at hand, else those of the paths that are listed.
#[divan::bench(sample_count = 20, sample_size = 1, args = [false, true])]
fn plan_1000_renames(bencher: Bencher<'_, '_>, folds: bool) {
    let folds_names = if folds { NameFolding::Case } else { NameFolding::Nothing };
    let keys = keys();
    let entries = list(renames(&keys), &keys).entries();
    let records = if folds { ENTRIES } else { RENAMES };
    let sources = (0..RENAMES).map(|number| (hash(number), path(number))).collect();
    let destination = PlannedDestination { folds_names, sources, ..destination(records, Mode::Incremental) };
    let expected = Planned { rescues: RENAMES, removals: RENAMES, ..NOTHING };
    bench_plan(bencher.counter(ItemsCount::new(RENAMES)), &entries, &destination, &expected);
}

/// 100,000 changes begun in order and done by the thousand, the later half of each thousand first.
#[divan::bench(sample_count = 20, sample_size = 1)]
fn count_100000_changes(bencher: Bencher<'_, '_>) {
    let changes: Vec<Uid> = (1..=ENTRIES as u64).map(Uid).collect();
    let mut done = changes.clone();
    done.chunks_mut(1_000).for_each(|part| part.rotate_left(500));
    assert_eq!(count(&changes, &done, 1_000), ENTRIES as u64);
    bencher.counter(ItemsCount::new(ENTRIES)).bench(|| count(&changes, &done, 1_000));
}

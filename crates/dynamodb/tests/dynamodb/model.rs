//! A state checked against a small model on random sequences of commits, while the table throttles, leaves
//! batches unprocessed and loses answers.

use std::collections::BTreeMap;

use obsync_conformance::at;
use obsync_core::{
    Commit, Deferred, DeferredCause, DeferredKey, DeferredKind, Intent, Record, RecordKind, StateStore,
    VaultState,
};
use obsync_dynamodb::{DynamoOptions, DynamoState};
use obsync_protocol::{Uid, VaultPath};
use obsync_testcloud::{CloudFaults, ServiceFaults};
use obsync_testkit::Chance;
use proptest::prelude::*;

use crate::scene::{DESTINATION, Scene, change_key, failure, file, key, left_out, quick};

/// Few enough that they collide, and enough for several transactions and pages.
const PATHS: u64 = 150;

fn path(number: u64) -> VaultPath {
    at(&format!("folder/{number}.md"))
}

fn record() -> impl Strategy<Value = Record> {
    (0..PATHS, 0..1_000_u64, any::<bool>()).prop_map(|(number, uid, folder)| match folder {
        false => file(path(number).as_str(), uid),
        true => Record::new(path(number), RecordKind::Folder(Uid(uid))),
    })
}

fn deferred() -> impl Strategy<Value = Deferred> {
    let texts = prop_oneof![9 => Just(String::new()), 1 => any::<String>()];
    (0..PATHS, any::<bool>(), texts).prop_map(|(number, failed, device)| {
        let mut change = if failed { failure(number) } else { left_out(number) };
        if let (DeferredCause::Failed { reason }, false) = (&mut change.cause, device.is_empty()) {
            reason.clone_from(&device);
        }
        change.message.device = device;
        change
    })
}

fn commit() -> impl Strategy<Value = Commit> {
    let state = (0..2_000_u64, any::<bool>(), prop::option::of("[a-z]{0,8}"), prop::option::of(0..2_000_u64))
        .prop_map(|(version, listed, filter, full_up_to)| VaultState {
            version,
            listed,
            filter,
            full_up_to,
            ..VaultState::default()
        });
    (
        prop::collection::vec((0..PATHS).prop_map(path), 0..30),
        prop::collection::vec(record(), 0..200),
        prop::collection::vec((0..PATHS).prop_map(change_key), 0..60),
        prop::collection::vec(deferred(), 0..150),
        prop::collection::vec(record().prop_map(Intent::Place), 0..5),
        state,
    )
        .prop_map(|(forgotten, records, resolved, deferred, intents, state)| Commit {
            forgotten,
            records,
            resolved,
            deferred,
            intents,
            state,
            ..Commit::default()
        })
}

fn by_path(records: Vec<Record>) -> BTreeMap<VaultPath, Record> {
    records.into_iter().map(|record| (record.path.clone(), record)).collect()
}

#[derive(Default)]
struct Model {
    records: BTreeMap<VaultPath, Record>,
    deferred: BTreeMap<DeferredKey, Deferred>,
    intents: Vec<Intent>,
    state: VaultState,
}

impl Model {
    fn apply(&mut self, commit: Commit) {
        commit.forgotten.iter().for_each(|path| drop(self.records.remove(path)));
        self.records.extend(by_path(commit.records));
        commit.resolved.iter().for_each(|key| drop(self.deferred.remove(key)));
        self.deferred.extend(commit.deferred.into_iter().map(|change| (change.key.clone(), change)));
        self.intents = commit.intents;
        self.state = commit.state;
    }

    async fn compare(&self, state: &DynamoState) {
        assert_eq!(state.load().await.unwrap(), self.state);
        assert_eq!(state.intents().await.unwrap(), self.intents);
        assert_eq!(by_path(state.all_records().await.unwrap()), self.records);
        let paths: Vec<VaultPath> = (0..PATHS).map(path).collect();
        let wanted: Vec<Option<Record>> = paths.iter().map(|path| self.records.get(path).cloned()).collect();
        assert_eq!(state.records(&paths).await.unwrap(), wanted);
        for kind in [DeferredKind::Filtered, DeferredKind::Failed] {
            assert_eq!(state.deferred(kind).await.unwrap(), self.deferred_of(kind));
        }
        self.compare_counts(state).await;
    }

    async fn compare_counts(&self, state: &DynamoState) {
        let summary = state.summary().await.unwrap().unwrap();
        let files = self.records.values().filter_map(Record::file);
        assert_eq!(summary.files, files.clone().count() as u64);
        assert_eq!(summary.bytes, files.map(|meta| meta.size).sum::<u64>());
        assert_eq!(summary.folders, self.records.len() as u64 - summary.files);
        assert_eq!(summary.failed, self.deferred_of(DeferredKind::Failed).len() as u64);
        assert_eq!(summary.filtered, self.deferred_of(DeferredKind::Filtered).len() as u64);
    }

    fn deferred_of(&self, kind: DeferredKind) -> Vec<Deferred> {
        let is_filtered = kind == DeferredKind::Filtered;
        let is_kind = |change: &&Deferred| (change.cause == DeferredCause::Filtered) == is_filtered;
        let mut all: Vec<Deferred> = self.deferred.values().filter(is_kind).cloned().collect();
        all.sort_by_key(|change| change.message.uid);
        all
    }
}

fn trouble(seed: u64) -> CloudFaults {
    let dynamodb = ServiceFaults {
        throttled: Chance::probability(0.1),
        lost_answer: Chance::probability(0.1),
        dropped: Chance::probability(0.05),
        ..ServiceFaults::default()
    };
    CloudFaults { seed, dynamodb, unprocessed: Chance::probability(0.2), ..CloudFaults::default() }
}

async fn run(commits: Vec<(Commit, bool)>, seed: u64) {
    let scene = Scene::new().await;
    scene.cloud.faults().set(trouble(seed));
    let patient = DynamoOptions { attempts: 20, ..quick() };
    let table = scene.table_with(patient);
    let open = async || DynamoState::open(&table, key(DESTINATION), &scene.lease_of("a run")).await.unwrap();
    let mut model = Model::default();
    let mut state = open().await;
    for (commit, reopen) in commits {
        model.apply(commit.clone());
        state.commit(commit).await.unwrap();
        if reopen {
            state.close().await.unwrap();
            state = open().await;
        }
        model.compare(&state).await;
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 16, max_shrink_iters: 64, ..ProptestConfig::default() })]

    #[test]
    fn dynamodb_does_what_its_model_does(
        commits in prop::collection::vec((commit(), any::<bool>()), 1..6),
        seed in any::<u64>(),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(run(commits, seed));
    }
}

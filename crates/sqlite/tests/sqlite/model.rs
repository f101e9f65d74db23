//! A state database compared with a small model of it, on random sequences of commits.

use std::collections::BTreeMap;

use obsync_conformance::at;
use obsync_core::{
    Commit, Deferred, DeferredCause, DeferredKey, DeferredKind, FileMeta, Intent, KnownContent, LocalFacts,
    Record, RecordKind, StateStore, VaultState,
};
use obsync_protocol::{ContentHash, PushMessage, Uid, VaultPath};
use obsync_sqlite::SqliteState;
use proptest::option;
use proptest::prelude::*;

use crate::database::DatabaseFile;

/// Few of each, so that they meet.
fn path() -> impl Strategy<Value = VaultPath> {
    prop::sample::select(vec!["a", "A", "a.md", "b/a.md", "b", "é", "e\u{301}", "it's 100%_.md", "語/🦀"])
        .prop_map(at)
}

fn content() -> impl Strategy<Value = ContentHash> {
    (0..4_u8).prop_map(|content| ContentHash::of(&[content]))
}

/// Versions and sizes that the database can store.
fn number() -> impl Strategy<Value = u64> {
    prop_oneof![0..20_u64, Just(i64::MAX as u64)]
}

fn record() -> impl Strategy<Value = Record> {
    let file = (content(), number(), any::<i64>(), any::<i64>(), number()).prop_map(
        |(hash, size, mtime, ctime, uid)| {
            RecordKind::File(FileMeta { hash, size, mtime, ctime, uid: Uid(uid) })
        },
    );
    let folder = number().prop_map(|uid| RecordKind::Folder(Uid(uid)));
    (path(), prop_oneof![3 => file, 1 => folder]).prop_map(|(path, kind)| Record::new(path, kind))
}

/// A record with the destination's facts, or without.
fn seen() -> impl Strategy<Value = Record> {
    let times = (number(), any::<i64>(), any::<i64>(), any::<u64>());
    let file = times.prop_map(|(size, modified, changed, inode)| LocalFacts::File {
        size,
        modified,
        changed,
        inode,
    });
    let object =
        (number(), any::<String>()).prop_map(|(size, entity_tag)| LocalFacts::Object { size, entity_tag });
    (record(), option::of(prop_oneof![file, object]), any::<bool>())
        .prop_map(|(record, facts, witnessed)| Record { facts, witnessed, ..record })
}

fn intent() -> impl Strategy<Value = Intent> {
    let known = || (content(), number()).prop_map(|(hash, size)| KnownContent { hash, size });
    prop_oneof![
        record().prop_map(Intent::Place),
        (path(), any::<String>(), option::of(known()))
            .prop_map(|(path, staged, expected)| Intent::Exchange { path, staged, expected }),
        (path(), known()).prop_map(|(path, content)| Intent::Remove { path, content }),
        (path(), option::of(path()), option::of(known()), number(), option::of(any::<i64>())).prop_map(
            |(path, from, content, base, missing_since)| {
                let base = Uid(base);
                Intent::Push { path, from, content, base, missing_since }
            }
        ),
    ]
}

fn key() -> impl Strategy<Value = DeferredKey> {
    prop_oneof![
        path().prop_map(|path| DeferredKey::plain(&path)),
        "[a-c]".prop_map(|text| DeferredKey::encoded(&text))
    ]
}

fn message() -> impl Strategy<Value = PushMessage> {
    let texts = (any::<String>(), option::of(any::<String>()), any::<String>(), any::<String>());
    let numbers = (number(), number(), any::<i64>(), any::<i64>());
    (texts, numbers, any::<bool>(), any::<bool>()).prop_map(|(texts, numbers, folder, deleted)| PushMessage {
        uid: Uid(numbers.0),
        path: texts.0.into(),
        related_path: texts.1.map(Into::into),
        hash: texts.2.into(),
        size: numbers.1,
        ctime: numbers.2,
        mtime: numbers.3,
        folder,
        deleted,
        device: texts.3,
        user: String::new(),
    })
}

fn deferred() -> impl Strategy<Value = Deferred> {
    let cause = prop_oneof![
        Just(DeferredCause::Filtered),
        any::<String>().prop_map(|reason| DeferredCause::Failed { reason }),
        any::<String>().prop_map(|reason| DeferredCause::Acknowledged { reason }),
        any::<String>().prop_map(|reason| DeferredCause::Lasting { reason }),
        Just(DeferredCause::Diverged),
        option::of(any::<i64>()).prop_map(|confirmed| DeferredCause::HeldBack { confirmed }),
    ];
    (key(), message(), cause).prop_map(|(key, message, cause)| Deferred { key, message, cause })
}

fn commit() -> impl Strategy<Value = Commit> {
    let state = (number(), any::<bool>(), option::of(any::<String>()), prop::option::of(0..2_000_u64))
        .prop_map(|(version, listed, filter, full_up_to)| VaultState {
            version,
            listed,
            filter,
            full_up_to,
            ..VaultState::default()
        });
    (
        prop::collection::vec(path(), 0..4),
        prop::collection::vec(seen(), 0..6),
        prop::collection::vec(key(), 0..3),
        prop::collection::vec(deferred(), 0..4),
        prop::collection::vec(intent(), 0..3),
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

fn by_path(records: Vec<Record>) -> impl Iterator<Item = (VaultPath, Record)> {
    records.into_iter().map(|record| (record.path.clone(), record))
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
        for path in &commit.forgotten {
            self.records.remove(path);
        }
        self.records.extend(by_path(commit.records));
        self.intents = commit.intents;
        for key in &commit.resolved {
            self.deferred.remove(key);
        }
        self.deferred.extend(commit.deferred.into_iter().map(|deferred| (deferred.key.clone(), deferred)));
        self.state = commit.state;
    }

    async fn compare(&self, state: &SqliteState) {
        assert_eq!(state.load().await.unwrap(), self.state);
        assert_eq!(by_path(state.all_records().await.unwrap()).collect::<BTreeMap<_, _>>(), self.records);
        assert_eq!(state.intents().await.unwrap(), self.intents);
        let mut paths: Vec<VaultPath> = self.records.keys().cloned().collect();
        paths.push(at("never recorded"));
        let found = state.records(&paths).await.unwrap();
        assert_eq!(found, paths.iter().map(|path| self.records.get(path).cloned()).collect::<Vec<_>>());
        self.compare_sources(state).await;
        for kind in [DeferredKind::Filtered, DeferredKind::Failed] {
            assert_eq!(state.deferred(kind).await.unwrap(), self.deferred_of(kind));
        }
    }

    async fn compare_sources(&self, state: &SqliteState) {
        let contents: Vec<ContentHash> = (0..5_u8).map(|content| ContentHash::of(&[content])).collect();
        for (content, source) in contents.iter().zip(state.sources(&contents).await.unwrap()) {
            let has = |record: &Record| record.file().is_some_and(|meta| meta.hash == *content);
            match source {
                Some(path) => assert!(has(&self.records[&path])),
                None => assert!(!self.records.values().any(has)),
            }
        }
    }

    fn deferred_of(&self, kind: DeferredKind) -> Vec<Deferred> {
        let is_kind = |deferred: &&Deferred| {
            (deferred.cause == DeferredCause::Filtered) == (kind == DeferredKind::Filtered)
        };
        let mut all: Vec<Deferred> = self.deferred.values().filter(is_kind).cloned().collect();
        all.sort_by_key(|deferred| deferred.message.uid);
        all
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn sqlite_does_what_its_model_does(commits in prop::collection::vec((commit(), any::<bool>()), 1..8)) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let file = DatabaseFile::new();
            let mut model = Model::default();
            let mut state = file.state();
            for (commit, reopen) in commits {
                model.apply(commit.clone());
                state.commit(commit).await.unwrap();
                if reopen {
                    drop(state);
                    state = file.state();
                }
                model.compare(&state).await;
            }
        });
    }
}

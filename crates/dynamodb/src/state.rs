//! The state of one destination in a table, used by one run at a time.

use std::collections::HashMap;
use std::sync::{Arc, Mutex as Slot};

use async_trait::async_trait;
use obsync_core::{
    Commit, DeferredKind, DeferredPart, Intent, LastRun, Record, StateError, StateStore, VaultState,
};
use obsync_protocol::{ContentHash, VaultPath};
use tokio::sync::{Mutex, MutexGuard};

use super::attributes::Item;
use super::batch::Wanted;
use super::chain::{ChainEnd, ChainEntry, Opened};
use super::commit::{Known, look_up, read_record};
use super::confirmations;
use super::deferred::{self, DeferredPages};
use super::head::Head;
use super::holding::{Holding, Keeper, Moment};
use super::keys::{ItemKeys, StateKey};
use super::lease::{self, LeaseOptions, too_new};
use super::progress::{ProgressRecord, StoredProgress};
use super::records::Presence;
use super::rows::{self, IntentRow};
use super::table::DynamoTable;
use super::transaction::{WriteError, Writer};
use obsync_core::blocking::lock;

/// Attempts at planning a commit when earlier requests take effect late.
const PLANS: usize = 5;
/// Attempts at reading when another run keeps changing the state.
const LOOKS: usize = 3;

/// The state of one destination, in a DynamoDB table.
///
/// An [opened](Self::open) state holds the destination's lease, and renews it in the background, until it is
/// [closed](Self::close). If it is only dropped, the lease has to run out.
#[derive(Debug)]
pub struct DynamoState {
    pub(super) table: DynamoTable,
    key: StateKey,
    pub(super) keys: ItemKeys,
    /// `None` when the state is opened for reading.
    lease: Option<(Arc<Holding>, Keeper)>,
    /// `None` after a failure in the middle of a commit: it is read again then.
    known: Mutex<Option<Known>>,
    /// The progress record to write with the next commit.
    pub(super) progress: Slot<Option<ProgressRecord>>,
}

impl DynamoState {
    /// Takes the lease of a destination's state and opens it. Call it within a tokio runtime. One request;
    /// two for further destinations of a vault.
    ///
    /// # Errors
    ///
    /// [`StateError::Locked`] if another run has it, [`StateError::Corrupt`] if the state is damaged,
    /// [`StateError::Newer`] if a newer obsync wrote it, [`StateError::Unavailable`] if the table is
    /// unusable.
    pub async fn open(
        table: &DynamoTable,
        key: StateKey,
        options: &LeaseOptions,
    ) -> Result<Self, StateError> {
        let asked = Moment::now(table.clock());
        let taken = lease::take(table, &key, options).await?;
        DynamoState::of(table, key, taken, asked, false).await
    }

    /// The same for an invocation in a chain: begins the given step, if it may begin.
    ///
    /// # Errors
    ///
    /// As for [`open`](Self::open).
    pub async fn open_step(
        table: &DynamoTable,
        key: StateKey,
        options: &LeaseOptions,
        entry: ChainEntry,
    ) -> Result<Opened, StateError> {
        let asked = Moment::now(table.clock());
        match lease::take_for(table, &key, options, Some(entry)).await? {
            None => Ok(Opened::Superseded),
            Some(taken) => {
                let step = taken.head.chain.run(table.now());
                Ok(Opened::Step(Box::new(DynamoState::of(table, key, taken, asked, true).await?), step))
            }
        }
    }

    /// The state of a granted lease.
    async fn of(
        table: &DynamoTable,
        key: StateKey,
        mut taken: lease::Taken,
        asked: Moment,
        is_step: bool,
    ) -> Result<Self, StateError> {
        if let Err(error) = make_ready(table, &key, &mut taken).await {
            lease::give_back(table, &taken.keys, &taken.lease.id).await;
            return Err(error);
        }
        let chain = is_step.then(|| taken.head.chain.clone());
        let holding = Arc::new(Holding::new(taken.lease, chain, asked));
        let in_step = taken.head.in_step.clone();
        // Only from the lease before this one: a run in between may have changed records.
        let in_step = in_step.filter(|noted| noted.fencing.checked_add(1) == Some(holding.lease.fencing));
        holding.note_in_step(in_step.map(|noted| noted.known_by));
        let keeper = Keeper::of(table, &taken.keys, &holding);
        Ok(DynamoState::new(table, key, taken.keys, Some((holding, keeper)), taken.head))
    }

    /// Opens a destination's state for reading: takes no lease, writes nothing, and a commit is an error. A
    /// missing state is that of a destination that was never pulled to.
    ///
    /// # Errors
    ///
    /// As for [`open`](Self::open), without those of the lease.
    pub async fn read(table: &DynamoTable, key: StateKey) -> Result<Self, StateError> {
        let mut keys = ItemKeys::of_vault(&key.vault_id);
        let mut head = read_head(table, &keys).await?;
        if head.as_ref().is_some_and(|head| head.destination != key.destination) {
            keys = ItemKeys::of_destination(&key);
            head = read_head(table, &keys).await?;
        }
        Ok(DynamoState::new(table, key, keys, None, head.unwrap_or_default()))
    }

    fn new(
        table: &DynamoTable,
        key: StateKey,
        keys: ItemKeys,
        lease: Option<(Arc<Holding>, Keeper)>,
        head: Head,
    ) -> Self {
        let known = Mutex::new(Some(Known::new(head)));
        DynamoState { table: table.clone(), key, keys, lease, known, progress: Slot::new(None) }
    }

    /// Releases the lease, so that another run need not wait for its expiry. Nothing can be committed from
    /// then on.
    ///
    /// # Errors
    ///
    /// [`StateError::Unavailable`] if the table is unusable; the lease then expires by itself.
    pub async fn close(&self) -> Result<(), StateError> {
        self.close_step(ChainEnd::Again).await.map(drop)
    }

    /// The same, and records the state of the chain that this step belongs to: the last write of the step.
    /// `false`: it was not written, because another run has the lease.
    ///
    /// # Errors
    ///
    /// As for [`close`](Self::close).
    pub async fn close_step(&self, end: ChainEnd) -> Result<bool, StateError> {
        let Some((holding, keeper)) = &self.lease else { return Ok(false) };
        holding.close();
        keeper.stop();
        // A commit under way finishes first.
        let _alone = self.known.lock().await;
        holding.release(&self.table, &self.keys, end).await
    }

    /// Returns when another run has the lease: all further work is useless. Never returns while the lease is
    /// held.
    pub async fn lost(&self) {
        match &self.lease {
            Some((holding, _)) => holding.lost().await,
            None => std::future::pending().await,
        }
    }

    /// The table that it is in.
    pub fn table(&self) -> &DynamoTable {
        &self.table
    }

    pub(super) fn item_keys(&self) -> &ItemKeys {
        &self.keys
    }

    /// The state's key.
    pub fn key(&self) -> &StateKey {
        &self.key
    }

    /// True if nothing was ever recorded: no run has done anything yet. Costs a request only after a failed
    /// commit.
    ///
    /// # Errors
    ///
    /// [`StateError::LeaseLost`] if another run has the lease, [`StateError::Unavailable`] if the table is
    /// unusable.
    pub async fn is_blank(&self) -> Result<bool, StateError> {
        Ok(self.known().await?.get().head.last_sync.is_none())
    }

    /// Adds the progress record to the next commit that changes anything, in the same transaction, without a
    /// further request. Its `last_version` becomes that of the commit.
    pub fn note_progress(&self, record: ProgressRecord) {
        *lock(&self.progress) = Some(record);
    }

    /// Writes the progress record now. One request.
    ///
    /// # Errors
    ///
    /// [`StateError::LeaseLost`] if another run has the lease, [`StateError::Unavailable`] if the table is
    /// unusable.
    pub async fn write_progress(&self, record: &ProgressRecord) -> Result<(), StateError> {
        let holding = self.holding()?;
        *lock(&self.progress) = None;
        let write =
            record.write(&self.keys, self.table.now()).map_err(|damage| self.table.unavailable(damage))?;
        let _alone = self.known.lock().await;
        match self.writer(holding).write_beside(&[write]).await {
            Ok(()) => Ok(()),
            Err(WriteError::State(error)) => Err(error),
            Err(WriteError::LeaseLost | WriteError::Stale) => Err(self.lease_lost(holding)),
        }
    }

    /// The progress of the last run. One request.
    ///
    /// # Errors
    ///
    /// [`StateError::Unavailable`] if the table is unusable. A damaged record is not an error.
    pub async fn progress(&self) -> Result<StoredProgress, StateError> {
        self.table.read_progress(&self.keys).await
    }
}

/// Building blocks of the trait's methods.
impl DynamoState {
    /// The lease, as long as writing under it is allowed.
    fn holding(&self) -> Result<&Holding, StateError> {
        let Some((holding, _)) = &self.lease else {
            return Err(self.table.unavailable("its state was opened to be looked at only"));
        };
        if holding.is_lost() {
            return Err(self.lease_lost(holding));
        }
        match holding.is_closed() {
            true => Err(self.table.unavailable("its state was closed already")),
            false => Ok(holding),
        }
    }

    /// Records that another run has the lease now.
    pub(super) fn lease_lost(&self, holding: &Holding) -> StateError {
        holding.note_loss();
        StateError::LeaseLost { destination: self.key.destination.clone() }
    }

    pub(super) fn writer<'a>(&'a self, holding: &'a Holding) -> Writer<'a> {
        Writer { table: &self.table, keys: &self.keys, lease: &holding.lease, revisions: &holding.revisions }
    }

    /// The cache, read again if need be, with its lock. It is not empty.
    pub(super) async fn known(&self) -> Result<KnownGuard<'_>, StateError> {
        let mut place = self.known.lock().await;
        if place.is_none() {
            *place = Some(Known::new(self.read_head().await?));
        }
        Ok(KnownGuard(place))
    }

    /// The cached head, unless a failure emptied the cache.
    pub(super) async fn seen_head(&self) -> Option<Head> {
        self.known.lock().await.as_ref().map(|known| known.head.clone())
    }

    /// Reads the head, as long as no other run has the lease.
    pub(super) async fn read_head(&self) -> Result<Head, StateError> {
        let head = read_head(&self.table, &self.keys).await?;
        match (&self.lease, head) {
            (None, head) => Ok(head.unwrap_or_default()),
            (Some((holding, _)), Some(head)) if holding.lease.holds(&head) => Ok(head),
            (Some((holding, _)), _) => Err(self.lease_lost(holding)),
        }
    }

    /// Called when something differs from the head. Returns true if the head changed: another run is active
    /// while this one only reads, or a given-up request of this one took effect after all; the caller then
    /// reads again. False means damage. If another run took over the lease, that is the error.
    async fn is_overtaken(&self) -> Result<bool, StateError> {
        let head = self.read_head().await?;
        let mut place = self.known.lock().await;
        let is_overtaken = place.as_ref().is_none_or(|known| known.head != head);
        if is_overtaken {
            *place = Some(Known::new(head));
        }
        Ok(is_overtaken)
    }

    async fn read_all_records(&self) -> Result<Vec<Record>, StateError> {
        if !self.known().await?.get().head.recorded {
            return Ok(Vec::new());
        }
        let mut records = Vec::new();
        let prefix = self.keys.files();
        let take = |item: Item| {
            records.push(read_record(&self.table, item)?);
            Ok(())
        };
        self.table.scan(Wanted::BeginningWith(&prefix), take).await?;
        Ok(records)
    }

    async fn read_deferred(
        &self,
        kind: DeferredKind,
        from: Option<&str>,
    ) -> Result<DeferredPart, StateError> {
        let mut known = self.known().await?;
        let known = known.get();
        let pages = DeferredPages::new(&self.table, &self.keys, kind, &known.head);
        pages.part(from, known.index(kind)).await
    }

    async fn read_intents(&self) -> Result<Vec<Intent>, StateError> {
        let pages = self.known().await?.get().head.intent_pages;
        let mut intents = Vec::new();
        for page in 0..pages {
            let key = self.keys.intents(page);
            let item = self.table.get(&key).await?;
            let rows = match &item {
                Some(item) => rows::read::<IntentRow>(item),
                None => Err("it is not there".to_owned()),
            };
            let read = rows.and_then(|rows| rows.into_iter().map(IntentRow::intent).collect());
            let read: Vec<Intent> = read.map_err(|damage| self.table.corrupt(&key, damage))?;
            intents.extend(read);
        }
        Ok(intents)
    }
}

/// The head of a state, if there is one.
pub(super) async fn read_head(table: &DynamoTable, keys: &ItemKeys) -> Result<Option<Head>, StateError> {
    let Some(item) = table.get(keys.head()).await? else { return Ok(None) };
    head_of(table, keys.head(), &item).map(Some)
}

/// Parses the item of this key as a usable head.
pub(super) fn head_of(table: &DynamoTable, key: &str, item: &Item) -> Result<Head, StateError> {
    let damaged = |damage| table.corrupt(key, damage);
    if let Some(error) = too_new(table, Head::format(item).map_err(damaged)?) {
        return Err(error);
    }
    let head = Head::read(item).map_err(damaged)?;
    head.obstacle().map_or(Ok(head), |obstacle| Err(damaged(obstacle)))
}

/// The cache with its lock. It is not empty.
pub(super) struct KnownGuard<'a>(pub(super) MutexGuard<'a, Option<Known>>);

impl KnownGuard<'_> {
    fn get(&mut self) -> &mut Known {
        self.0.get_or_insert_default()
    }
}

/// Refuses an unusable state, and drops deferred changes beyond the limit.
async fn make_ready(table: &DynamoTable, key: &StateKey, taken: &mut lease::Taken) -> Result<(), StateError> {
    if let Some(obstacle) = taken.head.obstacle() {
        return Err(table.corrupt(taken.keys.head(), obstacle));
    }
    for kind in deferred::surplus(&taken.head) {
        if !deferred::forget(kind, table, &taken.keys, &taken.lease, &mut taken.head).await? {
            return Err(StateError::LeaseLost { destination: key.destination.clone() });
        }
    }
    Ok(())
}

#[async_trait]
impl StateStore for DynamoState {
    /// No request: the lease came with it.
    async fn load(&self) -> Result<VaultState, StateError> {
        Ok(self.known().await?.get().head.state.clone())
    }

    /// A request for every 100 paths, and none as long as nothing is recorded.
    async fn records(&self, paths: &[VaultPath]) -> Result<Vec<Option<Record>>, StateError> {
        let (recorded, revision) = {
            let mut known = self.known().await?;
            (known.get().head.recorded, known.get().head.revision)
        };
        let found = match recorded {
            true => look_up(&self.table, &self.keys, paths.iter()).await?,
            false => HashMap::new(),
        };
        let mut known = self.known().await?;
        // A simultaneous commit wrote newer records.
        if known.get().head.revision == revision {
            paths.iter().for_each(|path| known.get().note(path, Presence::from(found.get(path))));
        }
        Ok(paths.iter().map(|path| found.get(path).cloned()).collect())
    }

    /// There is no index by content: always `None`.
    async fn sources(&self, contents: &[ContentHash]) -> Result<Vec<Option<VaultPath>>, StateError> {
        Ok(vec![None; contents.len()])
    }

    /// Reads the whole table, a request for every megabyte; no request as long as nothing is recorded.
    async fn all_records(&self) -> Result<Vec<Record>, StateError> {
        let revision = self.known().await?.get().head.revision;
        let records = self.read_all_records().await?;
        let mut known = self.known().await?;
        if known.get().head.revision == revision {
            known.get().note_all(&records);
        }
        Ok(records)
    }

    /// No request if there are none.
    async fn deferred_part(
        &self,
        kind: DeferredKind,
        from: Option<String>,
    ) -> Result<DeferredPart, StateError> {
        for _ in 1..LOOKS {
            match self.read_deferred(kind, from.as_deref()).await {
                Err(StateError::Corrupt { .. }) if self.is_overtaken().await? => {}
                outcome => return outcome,
            }
        }
        self.read_deferred(kind, from.as_deref()).await
    }

    /// No request if the last run ended well.
    async fn intents(&self) -> Result<Vec<Intent>, StateError> {
        for _ in 1..LOOKS {
            match self.read_intents().await {
                Err(StateError::Corrupt { .. }) if self.is_overtaken().await? => {}
                outcome => return outcome,
            }
        }
        self.read_intents().await
    }

    /// Sends no request: the text was read with the lease.
    async fn in_step(&self) -> Option<String> {
        self.lease.as_ref().and_then(|(holding, _)| holding.in_step())
    }

    /// Sends no request: the text is written when the lease is released.
    async fn note_in_step(&self, known_by: String) {
        if let Some((holding, _)) = &self.lease {
            holding.note_in_step(Some(known_by));
        }
    }

    async fn commit(&self, commit: Commit) -> Result<(), StateError> {
        let holding = self.holding()?;
        if !(commit.records.is_empty() && commit.forgotten.is_empty()) {
            holding.note_in_step(None);
        }
        for _ in 0..PLANS {
            if self.try_commit(holding, &commit).await? {
                return Ok(());
            }
        }
        Err(self.table.unavailable("requests that were given up keep coming in; run again later"))
    }

    /// No request: the lease came with it.
    async fn files(&self) -> Result<u64, StateError> {
        Ok(u64::try_from(self.known().await?.get().head.counts.files).unwrap_or_default())
    }

    fn is_held(&self) -> bool {
        self.lease.as_ref().is_some_and(|(holding, _)| holding.is_held(self.table.clock()))
    }

    async fn leave_confirmations(&self, uids: Vec<u64>) -> Result<(), StateError> {
        confirmations::add(&self.table, &self.keys, &uids).await
    }

    async fn confirmations(&self) -> Result<Vec<u64>, StateError> {
        confirmations::read(&self.table, &self.keys).await
    }

    async fn forget_confirmations(&self, uids: &[u64]) -> Result<(), StateError> {
        confirmations::remove(&self.table, &self.keys, uids).await
    }

    async fn confirmed(&self) {
        loop {
            self.table.clock().sleep(confirmations::LOOKED_FOR).await;
            if self.confirmations().await.is_ok_and(|uids| !uids.is_empty()) {
                return;
            }
        }
    }

    /// One request.
    async fn last_run(&self) -> Result<Option<LastRun>, StateError> {
        Ok(self.progress().await?.last_run())
    }

    /// No request: the lease came with it.
    async fn last_check(&self) -> Result<Option<i64>, StateError> {
        Ok(self.known().await?.get().head.checked)
    }

    /// No request: it is written when the lease is released.
    async fn note_check(&self, at: i64) {
        if let Some((holding, _)) = &self.lease {
            holding.note_check(at);
        }
    }
}

//! Writes a commit: its records, its deferred changes, its intents, and the head.

use std::collections::{BTreeMap, HashMap, HashSet};

use obsync_core::{Commit, DeferredKind, Intent, Record, StateError};
use obsync_protocol::VaultPath;

use super::deferred::{Changed, DeferredPages};
use super::head::{Counts, Head};
use super::index::Index;
use super::keys::ItemKeys;
use super::pages::Fingerprint;
use super::records::{self, Presence};
use super::rows::{self, IntentRow};
use super::table::DynamoTable;
use super::transaction::{Needs, Write, WritePlan};

/// Most bytes of intents in one item.
const INTENTS: usize = 256 << 10;

/// Cached contents of a state: valid as long as the lease is held and every commit succeeds.
#[derive(Debug, Default)]
pub(super) struct Known {
    pub(super) head: Head,
    /// Records of the paths looked up so far.
    presence: HashMap<Fingerprint, Presence>,
    /// `presence` covers all records.
    is_complete: bool,
    failed: Index,
    filtered: Index,
}

impl Known {
    pub(super) fn new(head: Head) -> Self {
        // A state that never had a record needs no look-up.
        Known { is_complete: !head.recorded, head, ..Known::default() }
    }

    /// The index of one kind of deferred changes.
    pub(super) fn index(&mut self, kind: DeferredKind) -> &mut Index {
        match kind {
            DeferredKind::Failed => &mut self.failed,
            DeferredKind::Filtered => &mut self.filtered,
        }
    }

    /// Caches the record of a path.
    pub(super) fn note(&mut self, path: &VaultPath, presence: Presence) {
        self.presence.insert(Fingerprint::of(path.as_str()), presence);
    }

    /// Caches all records.
    pub(super) fn note_all(&mut self, records: &[Record]) {
        records.iter().for_each(|record| self.note(&record.path, Presence::from(Some(record))));
        self.is_complete = true;
    }

    fn presence(&self, path: &VaultPath) -> Option<Presence> {
        match self.presence.get(&Fingerprint::of(path.as_str())) {
            None if self.is_complete => Some(Presence::Absent),
            known => known.copied(),
        }
    }

    /// True if a commit would change nothing.
    pub(super) fn has_all_of(&self, commit: &Commit) -> bool {
        let is_empty = commit.forgotten.is_empty()
            && commit.records.is_empty()
            && commit.resolved.is_empty()
            && commit.deferred.is_empty()
            && commit.intents.is_empty();
        is_empty && self.head.intent_pages == 0 && self.head.state == commit.state
    }

    /// Plans a commit. Updates the cache as if it had succeeded already: discard the cache if it does not, or
    /// if the plan needs something first. `are_deferred`: its deferred changes are written already.
    pub(super) async fn plan(
        &mut self,
        table: &DynamoTable,
        keys: &ItemKeys,
        commit: &Commit,
        are_deferred: bool,
    ) -> Result<WritePlan, StateError> {
        let head = Head { state: commit.state.clone(), last_sync: Some(table.now()), ..self.head.clone() };
        let mut plan = WritePlan { head, ..WritePlan::default() };
        plan.before = self.plan_records(table, keys, commit).await?;
        let mut has_moved = false;
        for (kind, changed) in Changed::of(commit) {
            let changed = if are_deferred { changed.without_arrivals() } else { changed };
            has_moved |= self.plan_deferred(table, keys, kind, changed, &mut plan).await?;
        }
        let intents = plan_intents(keys, &commit.intents).map_err(|damage| table.unavailable(damage))?;
        plan.head.intent_pages = u32::try_from(intents.len()).unwrap_or(u32::MAX);
        plan.with_head = intents;
        let obsolete = plan.head.intent_pages..self.head.intent_pages;
        plan.after.extend(obsolete.map(|page| Write::removal(keys.intents(page), Counts::default())));
        // The write of the progress record is the extra one.
        let must_arrive = has_moved && !are_deferred && !plan.is_single(1);
        plan.needs = plan.needs.or(must_arrive.then_some(Needs::Arrivals));
        Ok(plan)
    }

    /// Plans the addition of some deferred changes alone.
    pub(super) async fn plan_portion(
        &mut self,
        table: &DynamoTable,
        keys: &ItemKeys,
        kind: DeferredKind,
        portion: Changed,
    ) -> Result<WritePlan, StateError> {
        let mut plan = WritePlan { head: self.head.clone(), ..WritePlan::default() };
        self.plan_deferred(table, keys, kind, portion, &mut plan).await?;
        Ok(plan)
    }

    /// Plans the writes of deferred changes of one kind. Returns true if one moves to the other kind.
    async fn plan_deferred(
        &mut self,
        table: &DynamoTable,
        keys: &ItemKeys,
        kind: DeferredKind,
        changed: Changed,
        plan: &mut WritePlan,
    ) -> Result<bool, StateError> {
        let pages = DeferredPages::new(table, keys, kind, &self.head);
        let planned = pages.plan(changed, self.index(kind)).await?;
        if planned.needs_pages {
            plan.needs = Some(Needs::Pages(kind));
        }
        plan.before.extend(planned.before);
        plan.after.extend(planned.after);
        plan.delta = plan.delta.plus(planned.delta);
        *plan.head.pages_of(kind) = planned.pages;
        Ok(planned.has_moved)
    }

    /// Plans the writes of records: one for each path, however often a commit names it.
    async fn plan_records(
        &mut self,
        table: &DynamoTable,
        keys: &ItemKeys,
        commit: &Commit,
    ) -> Result<Vec<Write>, StateError> {
        let mut last: BTreeMap<&VaultPath, Option<&Record>> =
            commit.forgotten.iter().map(|path| (path, None)).collect();
        last.extend(commit.records.iter().map(|record| (&record.path, Some(record))));
        let unknown: Vec<&VaultPath> =
            last.keys().copied().filter(|path| self.presence(path).is_none()).collect();
        let found = look_up(table, keys, unknown.iter().copied()).await?;
        unknown.iter().for_each(|path| self.note(path, Presence::from(found.get(*path))));
        let mut writes = Vec::with_capacity(last.len());
        for (path, record) in last {
            let old = self.presence(path).unwrap_or(Presence::Absent);
            let new = Presence::from(record);
            let (key, delta) = (keys.file(path), new.instead_of(old));
            match record {
                Some(record) => {
                    let item = records::item(&key, record).map_err(|damage| table.unavailable(damage))?;
                    writes.push(Write::record(key, item, delta));
                }
                None if old == Presence::Absent => {}
                None => writes.push(Write::removal(key, delta)),
            }
            self.note(path, new);
        }
        Ok(writes)
    }
}

/// The records of some paths.
pub(super) async fn look_up(
    table: &DynamoTable,
    keys: &ItemKeys,
    paths: impl Iterator<Item = &VaultPath>,
) -> Result<HashMap<VaultPath, Record>, StateError> {
    let wanted: HashSet<String> = paths.map(|path| keys.file(path)).collect();
    let items = table.look_up(wanted.into_iter().collect()).await?;
    let records =
        items.into_iter().map(|item| read_record(table, item).map(|record| (record.path.clone(), record)));
    records.collect()
}

/// Parses the record of an item.
pub(super) fn read_record(table: &DynamoTable, item: super::attributes::Item) -> Result<Record, StateError> {
    let key = super::attributes::Reader(&item).key().unwrap_or_default().to_owned();
    records::read(item).map_err(|damage| table.corrupt(&key, damage))
}

fn plan_intents(keys: &ItemKeys, intents: &[Intent]) -> Result<Vec<Write>, String> {
    let mut pages: Vec<Vec<IntentRow>> = Vec::new();
    let mut size = usize::MAX;
    for intent in intents {
        let row = IntentRow::from(intent);
        let row_size = serde_json::to_string(&row).map_err(|error| error.to_string())?.len() + 1;
        if size.saturating_add(row_size) > INTENTS {
            pages.push(Vec::new());
            size = 0;
        }
        size += row_size;
        if let Some(page) = pages.last_mut() {
            page.push(row);
        }
    }
    let write = |(number, rows): (u32, Vec<IntentRow>)| {
        let key = keys.intents(number);
        let item = rows::item(&key, &rows)?;
        Ok(Write::put(key, item, Counts::default()))
    };
    (0..).zip(pages).map(write).collect()
}

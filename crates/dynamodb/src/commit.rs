//! Writes a commit: its records, its deferred changes, what is about to be done, and the head that tells of them.

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
use super::transaction::{Write, WritePlan};

/// How many bytes of intents one item holds.
const INTENTS: usize = 256 << 10;

/// What is known of a state without asking: true as long as the lease is held and every commit succeeded.
#[derive(Debug, Default)]
pub(super) struct Known {
    pub(super) head: Head,
    /// What is recorded for paths that were looked at.
    presence: HashMap<Fingerprint, Presence>,
    /// Whether all that is recorded is in `presence`.
    is_complete: bool,
    failed: Index,
    filtered: Index,
}

impl Known {
    pub(super) fn new(head: Head) -> Self {
        // As long as there never was a record there is none to be looked up.
        Known { is_complete: !head.recorded, head, ..Known::default() }
    }

    /// What is known of one kind of deferred changes.
    pub(super) fn index(&mut self, kind: DeferredKind) -> &mut Index {
        match kind {
            DeferredKind::Failed => &mut self.failed,
            DeferredKind::Filtered => &mut self.filtered,
        }
    }

    /// Notes what is recorded for a path.
    pub(super) fn note(&mut self, path: &VaultPath, presence: Presence) {
        self.presence.insert(Fingerprint::of(path.as_str()), presence);
    }

    /// Notes all that is recorded.
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

    /// Whether a commit would change nothing.
    pub(super) fn has_all_of(&self, commit: &Commit) -> bool {
        let is_empty = commit.forgotten.is_empty()
            && commit.records.is_empty()
            && commit.resolved.is_empty()
            && commit.deferred.is_empty()
            && commit.intents.is_empty();
        is_empty && self.head.intent_pages == 0 && self.head.state == commit.state
    }

    /// Plans a commit. What is known is brought up to date as if it had succeeded already: it must be thrown away
    /// when it does not.
    pub(super) async fn plan(
        &mut self,
        table: &DynamoTable,
        keys: &ItemKeys,
        commit: &Commit,
    ) -> Result<WritePlan, StateError> {
        let head = Head { state: commit.state.clone(), last_sync: Some(table.now()), ..self.head.clone() };
        let mut plan = WritePlan { head, ..WritePlan::default() };
        plan.before = self.plan_records(table, keys, commit).await?;
        let has_moved = self.plan_deferred(table, keys, Changed::of(commit), &mut plan).await?;
        let intents = plan_intents(keys, &commit.intents).map_err(|damage| table.unavailable(damage))?;
        plan.head.intent_pages = u32::try_from(intents.len()).unwrap_or(u32::MAX);
        plan.with_head = intents;
        let obsolete = plan.head.intent_pages..self.head.intent_pages;
        plan.after.extend(obsolete.map(|page| Write::removal(keys.intents(page), Counts::default())));
        // One more will say how far the run is.
        plan.needs_arrivals = has_moved && !plan.is_single(1);
        Ok(plan)
    }

    /// Plans only what a commit adds to the deferred changes. To be carried out before a commit that moves some from
    /// one kind to the other in several transactions: at no time must one be in neither.
    pub(super) async fn plan_arrivals(
        &mut self,
        table: &DynamoTable,
        keys: &ItemKeys,
        commit: &Commit,
    ) -> Result<WritePlan, StateError> {
        let mut plan = WritePlan { head: self.head.clone(), ..WritePlan::default() };
        let arrivals = Changed::of(commit).map(|(kind, changed)| (kind, changed.arrivals()));
        self.plan_deferred(table, keys, arrivals, &mut plan).await?;
        Ok(plan)
    }

    /// Adds to a plan what is written for deferred changes. Tells whether one moves from one kind to the other.
    async fn plan_deferred(
        &mut self,
        table: &DynamoTable,
        keys: &ItemKeys,
        all: [(DeferredKind, Changed); 2],
        plan: &mut WritePlan,
    ) -> Result<bool, StateError> {
        let mut has_moved = false;
        for (kind, changed) in all {
            let pages = DeferredPages::new(table, keys, kind, &self.head);
            let planned = pages.plan(changed, self.index(kind)).await?;
            plan.before.extend(planned.before);
            plan.after.extend(planned.after);
            plan.delta = plan.delta.plus(planned.delta);
            match kind {
                DeferredKind::Failed => plan.head.failed_pages = planned.pages,
                DeferredKind::Filtered => plan.head.filtered_pages = planned.pages,
            }
            has_moved |= planned.has_moved;
        }
        Ok(has_moved)
    }

    /// What is written for records: one write for each path, whatever a commit says of it.
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

/// What is recorded of some paths.
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

/// The record of an item.
pub(super) fn read_record(table: &DynamoTable, item: super::attributes::Item) -> Result<Record, StateError> {
    let key = super::attributes::Reader(&item).key().unwrap_or_default().to_owned();
    records::read(item).map_err(|damage| table.corrupt(&key, damage))
}

/// The items that say what is about to be done.
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

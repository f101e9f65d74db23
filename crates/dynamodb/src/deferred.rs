//! Deferred changes: reads them, and plans the writes of their pages.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::atomic::AtomicU64;

use obsync_core::{Commit, DeferredKind, DeferredPart, StateError};
use obsync_protocol::limits::{DEFERRED_CHANGES, FILTERED_CHANGES};

use super::attributes::Reader;
use super::head::{Counts, Head};
use super::index::Index;
use super::keys::ItemKeys;
use super::lease::{self, Lease};
use super::pages::{self, Fingerprint, LARGEST_PAGE, Page, Pages, kind_name};
use super::rows::{self, DeferredRow, stored_key};
use super::table::DynamoTable;
use super::transaction::{self, WRITES, Write, WriteError, Writer};

/// Pages in memory at a time while many are read or written.
const AT_A_TIME: usize = 25;
/// Most bytes of changes that are added to pages at a time.
const PORTION: usize = 1 << 20;
/// Most changes that a commit writes together with its records.
pub(super) const AT_ONCE: usize = 1_000;

/// The kinds with more changes than any run remembers: all of them would have to be in memory.
pub(super) fn surplus(head: &Head) -> Vec<DeferredKind> {
    let exceeds = |count: i64, most: usize| usize::try_from(count).is_ok_and(|count| count > most);
    let failed = exceeds(head.counts.failed, DEFERRED_CHANGES).then_some(DeferredKind::Failed);
    let filtered = exceeds(head.counts.filtered, FILTERED_CHANGES).then_some(DeferredKind::Filtered);
    failed.into_iter().chain(filtered).collect()
}

/// Drops all changes of a kind. The next run checks everything again. `false`: another run has the lease.
pub(super) async fn forget(
    kind: DeferredKind,
    table: &DynamoTable,
    keys: &ItemKeys,
    lease: &Lease,
    head: &mut Head,
) -> Result<bool, StateError> {
    let (count, pages) = match kind {
        DeferredKind::Failed => (&mut head.counts.failed, &mut head.failed_pages),
        DeferredKind::Filtered => (&mut head.counts.filtered, &mut head.filtered_pages),
    };
    let (count, pages) = (std::mem::take(count), std::mem::take(pages));
    head.state.full_up_to = Some(0);
    if !lease::update_under_lease(table, keys, lease, head.changes()).await? {
        return Ok(false);
    }
    tracing::warn!(
        "{count} changes that were not applied were forgotten, as there were too many; the next run looks at everything again"
    );
    let pages: Vec<Write> = (0..pages)
        .map(|number| Write::removal(keys.page(kind_name(kind), pages, number), Counts::default()))
        .collect();
    let revisions = AtomicU64::new(0);
    let writer = Writer { table, keys, lease, revisions: &revisions };
    for removals in pages.chunks(WRITES) {
        match writer.write_beside(removals).await {
            Ok(()) => {}
            Err(WriteError::LeaseLost | WriteError::Stale) => return Ok(false),
            // Nothing refers to these pages any more; a reset removes them.
            Err(WriteError::State(error)) => {
                tracing::debug!(%error, "pages of forgotten changes stay");
                break;
            }
        }
    }
    Ok(true)
}

/// The effect of a commit on the changes of one kind.
#[derive(Clone, Debug, Default)]
pub(super) struct Changed {
    /// No longer deferred, or for another reason.
    gone: BTreeSet<String>,
    /// Those of them that are deferred for the other reason from now on.
    moved: BTreeSet<String>,
    /// Newly deferred; replaces older ones with the same keys.
    put: BTreeMap<String, DeferredRow>,
}

/// The writes for one kind.
#[derive(Debug, Default)]
pub(super) struct PagesPlan {
    /// Writes before the head's update.
    pub(super) before: Vec<Write>,
    /// Removals after the head's update.
    pub(super) after: Vec<Write>,
    /// The new number of pages.
    pub(super) pages: u32,
    /// Change of the head's counts beyond those of the single writes.
    pub(super) delta: Counts,
    /// A change moves from these pages to those of the other kind. It must be written there before it is
    /// removed here.
    pub(super) has_moved: bool,
    /// Nothing was planned: there must be more pages first, see [`DeferredPages::halve`].
    pub(super) needs_pages: bool,
}

impl Changed {
    /// The effect of a commit on the changes of each kind.
    pub(super) fn of(commit: &Commit) -> [(DeferredKind, Changed); 2] {
        let resolved =
            || Changed { gone: commit.resolved.iter().map(stored_key).collect(), ..Changed::default() };
        let (mut failed, mut filtered) = (resolved(), resolved());
        for deferred in &commit.deferred {
            let row = DeferredRow::from(deferred);
            let (here, there) = match deferred.cause.kind() {
                DeferredKind::Failed => (&mut failed, &mut filtered),
                DeferredKind::Filtered => (&mut filtered, &mut failed),
            };
            there.put.remove(&row.key);
            there.gone.insert(row.key.clone());
            there.moved.insert(row.key.clone());
            here.gone.remove(&row.key);
            here.moved.remove(&row.key);
            here.put.insert(row.key.clone(), row);
        }
        [(DeferredKind::Failed, failed), (DeferredKind::Filtered, filtered)]
    }

    /// The same without the additions, which are written already.
    pub(super) fn without_arrivals(self) -> Self {
        Changed { put: BTreeMap::new(), ..self }
    }

    /// Its additions, those of one page beside each other.
    pub(super) fn into_arrivals(self) -> Arrivals {
        let mut rows: Vec<DeferredRow> = self.put.into_values().collect();
        rows.sort_by_key(|row| Fingerprint::of(&row.key).place());
        Arrivals(rows.into())
    }
}

/// Changes to be deferred, those of one page beside each other.
pub(super) struct Arrivals(VecDeque<DeferredRow>);

impl Arrivals {
    /// The next ones, as many as are written at a time; `None` after the last.
    pub(super) fn next(&mut self, pages: u32) -> Option<Changed> {
        let (mut numbers, mut bytes) = (BTreeSet::new(), 0);
        let mut portion = Changed::default();
        while let Some(row) = self.0.front() {
            numbers.insert(Fingerprint::of(&row.key).page(pages));
            bytes += pages::row_size(row);
            if numbers.len() > AT_A_TIME || (bytes > PORTION && !portion.put.is_empty()) {
                break;
            }
            portion.put.extend(self.0.pop_front().map(|row| (row.key.clone(), row)));
        }
        (!portion.put.is_empty()).then_some(portion)
    }

    /// Takes a portion back that could not be written yet.
    pub(super) fn put_back(&mut self, portion: Changed) {
        let Arrivals(mut rest) = portion.into_arrivals();
        rest.append(&mut self.0);
        self.0 = rest;
    }
}

/// The pages of one kind of changes in the table.
pub(super) struct DeferredPages<'a> {
    table: &'a DynamoTable,
    keys: &'a ItemKeys,
    kind: DeferredKind,
    /// Number of pages.
    pages: u32,
    /// Number of changes on them.
    count: i64,
}

impl<'a> DeferredPages<'a> {
    pub(super) fn new(table: &'a DynamoTable, keys: &'a ItemKeys, kind: DeferredKind, head: &Head) -> Self {
        let (pages, count) = match kind {
            DeferredKind::Failed => (head.failed_pages, head.counts.failed),
            DeferredKind::Filtered => (head.filtered_pages, head.counts.filtered),
        };
        DeferredPages { table, keys, kind, pages, count }
    }

    /// The changes of some pages, from the page of this mark on. If they were divided anew since, the first
    /// ones.
    pub(super) async fn part(
        &self,
        from: Option<&str>,
        index: &mut Index,
    ) -> Result<DeferredPart, StateError> {
        let division = format!("{}/", self.pages);
        let first = from.and_then(|mark| mark.strip_prefix(&division)?.parse().ok()).unwrap_or(0);
        let numbers: Vec<u32> = (first..self.pages).take(AT_A_TIME).collect();
        let Some(last) = numbers.last() else { return Ok(DeferredPart::default()) };
        let next = (last + 1 < self.pages).then(|| format!("{division}{}", last + 1));
        let mut changes = Vec::new();
        for (number, page) in self.read(&numbers).await? {
            index.learn(number, &page);
            changes.extend(page.into_values().map(DeferredRow::deferred));
        }
        Ok(DeferredPart { changes, next })
    }

    /// Plans the writes for changed changes.
    pub(super) async fn plan(&self, changed: Changed, index: &mut Index) -> Result<PagesPlan, StateError> {
        let Changed { gone, moved, put } = changed;
        if self.pages == 0 {
            return match put.is_empty() {
                true => Ok(PagesPlan::default()),
                false => self.division(put.into_values(), index),
            };
        }
        let page_of = |key: &String| Fingerprint::of(key).page(self.pages);
        let touched: BTreeSet<u32> = gone.iter().chain(put.keys()).map(page_of).collect();
        for numbers in index.unknown(&touched).chunks(AT_A_TIME) {
            self.read(numbers).await?.iter().for_each(|(number, page)| index.learn(*number, page));
        }
        let leaving: Vec<&String> =
            gone.iter().filter(|key| index.has(page_of(key), Fingerprint::of(key))).collect();
        let has_moved = leaving.iter().any(|key| moved.contains(*key));
        let affected: BTreeSet<u32> = leaving.into_iter().chain(put.keys()).map(page_of).collect();
        let affected: Vec<u32> = affected.into_iter().collect();
        let old = self.read(&affected).await?;
        let mut new = old.clone();
        for (number, page) in &mut new {
            page.retain(|key, _| !gone.contains(key));
            let arriving = put.iter().filter(|(key, _)| page_of(key) == *number);
            page.extend(arriving.map(|(key, row)| (key.clone(), row.clone())));
        }
        if new.values().any(|page| pages::is_too_large(page, self.pages)) {
            return Ok(PagesPlan { pages: self.pages, needs_pages: true, ..PagesPlan::default() });
        }
        Ok(PagesPlan { has_moved, ..self.rewriting(&old, &new, index)? })
    }

    /// Pages to overwrite, if they change; all are removed when none has a change left.
    fn rewriting(&self, old: &Pages, new: &Pages, index: &mut Index) -> Result<PagesPlan, StateError> {
        let lengths = |pages: &Pages| pages.values().map(Page::len).sum::<usize>();
        if lengths(new) == 0 && i64::try_from(lengths(old)) == Ok(self.count) {
            index.reset(&Pages::new());
            let delta = self.counts(0, lengths(old));
            return Ok(PagesPlan { after: self.removal(), delta, ..PagesPlan::default() });
        }
        let mut plan = PagesPlan { pages: self.pages, ..PagesPlan::default() };
        for ((number, page), old) in new.iter().zip(old.values()).filter(|((_, new), old)| new != old) {
            plan.before.push(self.write(self.pages, *number, page, self.counts(page.len(), old.len()))?);
            index.learn(*number, page);
        }
        Ok(plan)
    }

    /// The first pages, with these changes. They are not valid before the head refers to them.
    fn division(
        &self,
        rows: impl IntoIterator<Item = DeferredRow>,
        index: &mut Index,
    ) -> Result<PagesPlan, StateError> {
        let (pages, content) = pages::divide(rows);
        let mut plan = PagesPlan { pages, ..PagesPlan::default() };
        for (number, page) in &content {
            plan.before.push(self.write(pages, *number, page, Counts::default())?);
        }
        plan.delta = self.counts(content.values().map(Page::len).sum(), 0);
        index.reset(&content);
        Ok(plan)
    }

    /// Writes twice as many pages, some at a time, and plans their becoming valid: their items have other
    /// keys, so that nothing refers to them before the head does.
    pub(super) async fn halve(
        &self,
        writer: &Writer<'_>,
        index: &mut Index,
    ) -> Result<PagesPlan, WriteError> {
        let pages = self.pages * 2;
        let mut halved = Index::default();
        for first in (0..self.pages).step_by(AT_A_TIME) {
            let numbers: Vec<u32> = (first..self.pages).take(AT_A_TIME).collect();
            let content = self.read(&numbers).await.map_err(WriteError::State)?;
            let mut writes = Vec::new();
            for (number, page) in pages::halve(content, self.pages) {
                halved.learn(number, &page);
                let write = self.write(pages, number, &page, Counts::default());
                writes.push(write.map_err(WriteError::State)?);
            }
            for part in transaction::divide(writes) {
                writer.write_beside(&part).await?;
            }
        }
        *index = halved;
        Ok(PagesPlan { pages, after: self.removal(), ..PagesPlan::default() })
    }

    /// Removes all pages.
    fn removal(&self) -> Vec<Write> {
        let page = |number| self.keys.page(kind_name(self.kind), self.pages, number);
        (0..self.pages).map(|number| Write::removal(page(number), Counts::default())).collect()
    }

    fn write(&self, pages: u32, number: u32, page: &Page, delta: Counts) -> Result<Write, StateError> {
        let key = self.keys.page(kind_name(self.kind), pages, number);
        if pages::page_size(page) > LARGEST_PAGE {
            return Err(self
                .table
                .unavailable(format!("there are too many {} changes", kind_name(self.kind))));
        }
        let rows: Vec<&DeferredRow> = page.values().collect();
        let item = rows::item(&key, &rows).map_err(|damage| self.table.unavailable(damage))?;
        Ok(Write::put(key, item, delta))
    }

    fn counts(&self, new: usize, old: usize) -> Counts {
        let signed = |count: usize| i64::try_from(count).unwrap_or(i64::MAX);
        let more = signed(new) - signed(old);
        match self.kind {
            DeferredKind::Failed => Counts { failed: more, ..Counts::default() },
            DeferredKind::Filtered => Counts { filtered: more, ..Counts::default() },
        }
    }

    /// Reads some pages, each of which must exist.
    async fn read(&self, numbers: &[u32]) -> Result<Pages, StateError> {
        let key = |number: u32| self.keys.page(kind_name(self.kind), self.pages, number);
        let mut wanted: BTreeMap<String, u32> =
            numbers.iter().map(|number| (key(*number), *number)).collect();
        let items = self.table.look_up(wanted.keys().cloned().collect()).await?;
        let mut pages = Pages::new();
        for item in items {
            let key = Reader(&item).key().unwrap_or_default();
            let Some(number) = wanted.remove(key) else { continue };
            let rows = rows::read::<DeferredRow>(&item).map_err(|damage| self.table.corrupt(key, damage))?;
            pages.insert(number, rows.into_iter().map(|row| (row.key.clone(), row)).collect());
        }
        match wanted.pop_first() {
            None => Ok(pages),
            Some((missing, _)) => Err(self.table.corrupt(&missing, "it is not there")),
        }
    }
}

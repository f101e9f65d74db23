//! Carries commits out: what must be written before one, its plan, and its transactions.

use obsync_core::blocking::lock;
use obsync_core::{Commit, DeferredKind, StateError};

use super::commit::Known;
use super::deferred::{self, Changed, DeferredPages};
use super::head::Head;
use super::holding::{Holding, Moment};
use super::progress::ProgressRecord;
use super::state::DynamoState;
use super::transaction::{Needs, WriteError, WritePlan};

impl DynamoState {
    /// One attempt at a commit. `false`: an earlier given-up request took effect; plan it anew.
    pub(super) async fn try_commit(&self, holding: &Holding, commit: &Commit) -> Result<bool, StateError> {
        let mut place = self.known().await?.0;
        // Taken out of the cache during the commit: if this future is dropped, the cache stays empty.
        let Some(mut known) = place.take() else { return Ok(false) };
        if known.has_all_of(commit) {
            *place = Some(known);
            return Ok(true);
        }
        let Some(mut plan) = self.plan(holding, commit, &mut known).await? else { return Ok(false) };
        let noted = lock(&self.progress).clone();
        if let Some(note) = &noted {
            let note = ProgressRecord { last_version: commit.state.version, ..note.clone() };
            let note =
                note.write(&self.keys, self.table.now()).map_err(|damage| self.table.unavailable(damage))?;
            plan.with_head.push(note);
        }
        let is_done = self.carry_out(holding, plan, &mut known).await?;
        if is_done {
            *place = Some(known);
            // A record set meanwhile waits for the next commit.
            lock(&self.progress).take_if(|newer| noted.as_ref() == Some(newer));
        }
        Ok(is_done)
    }

    /// The plan of a commit, after all that must be written before it. `None`: plan it anew.
    async fn plan(
        &self,
        holding: &Holding,
        commit: &Commit,
        known: &mut Known,
    ) -> Result<Option<WritePlan>, StateError> {
        let mut are_deferred = commit.deferred.len() > deferred::AT_ONCE;
        if are_deferred && !self.defer(holding, commit, known).await? {
            return Ok(None);
        }
        loop {
            let before = known.head.clone();
            let plan = known.plan(&self.table, &self.keys, commit, are_deferred).await;
            let Some(plan) = self.unless_stale(plan, &before).await? else { return Ok(None) };
            let Some(needs) = plan.needs else { return Ok(Some(plan)) };
            *known = Known::new(before);
            let is_done = match needs {
                Needs::Pages(kind) => self.add_pages(holding, kind, known).await?,
                Needs::Arrivals => {
                    are_deferred = true;
                    self.defer(holding, commit, known).await?
                }
            };
            if !is_done {
                return Ok(None);
            }
        }
    }

    /// Writes the deferred changes of a commit, some at a time. `false`: an earlier given-up request took
    /// effect. If the process dies in between, the next run finds them in the vault's list again, since the
    /// state's version is the one before.
    async fn defer(&self, holding: &Holding, commit: &Commit, known: &mut Known) -> Result<bool, StateError> {
        for (kind, changed) in Changed::of(commit) {
            let mut arrivals = changed.into_arrivals();
            while let Some(portion) = arrivals.next(*known.head.pages_of(kind)) {
                let before = known.head.clone();
                let plan = known.plan_portion(&self.table, &self.keys, kind, portion.clone()).await;
                let Some(plan) = self.unless_stale(plan, &before).await? else { return Ok(false) };
                let is_done = match plan.needs {
                    Some(_) => {
                        arrivals.put_back(portion);
                        self.add_pages(holding, kind, known).await?
                    }
                    // They are deferred already.
                    None if plan.is_empty() => true,
                    None => self.carry_out(holding, plan, known).await?,
                };
                if !is_done {
                    return Ok(false);
                }
            }
        }
        Ok(true)
    }

    /// Divides deferred changes of a kind into twice as many pages. `false`: an earlier given-up request took
    /// effect.
    async fn add_pages(
        &self,
        holding: &Holding,
        kind: DeferredKind,
        known: &mut Known,
    ) -> Result<bool, StateError> {
        let before = known.head.clone();
        let pages = DeferredPages::new(&self.table, &self.keys, kind, &before);
        let halves = match pages.halve(&self.writer(holding), known.index(kind)).await {
            Ok(halves) => Ok(halves),
            Err(WriteError::State(error)) => Err(error),
            Err(WriteError::LeaseLost | WriteError::Stale) => return Err(self.lease_lost(holding)),
        };
        let Some(halves) = self.unless_stale(halves, &before).await? else { return Ok(false) };
        let mut plan = WritePlan { head: before, after: halves.after, ..WritePlan::default() };
        *plan.head.pages_of(kind) = halves.pages;
        self.carry_out(holding, plan, known).await
    }

    /// The result of planning from the head `before`. For an overtaken run apparent damage is its successor's
    /// work: then an error; `None` if an earlier given-up request took effect.
    async fn unless_stale<P>(
        &self,
        plan: Result<P, StateError>,
        before: &Head,
    ) -> Result<Option<P>, StateError> {
        match plan {
            Err(StateError::Corrupt { .. }) if self.read_head().await? != *before => Ok(None),
            plan => plan.map(Some),
        }
    }

    /// Carries a plan out. `false`: an earlier given-up request took effect.
    async fn carry_out(
        &self,
        holding: &Holding,
        plan: WritePlan,
        known: &mut Known,
    ) -> Result<bool, StateError> {
        let asked = Moment::now(self.table.clock());
        match self.writer(holding).carry_out(plan, &mut known.head).await {
            Ok(()) => {
                holding.note_renewal(asked);
                Ok(true)
            }
            Err(WriteError::State(error)) => Err(error),
            Err(WriteError::LeaseLost) => Err(self.lease_lost(holding)),
            Err(WriteError::Stale) => Ok(false),
        }
    }
}

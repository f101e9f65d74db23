//! Many vaults at a time, within one memory budget.

use std::collections::HashMap;
use std::sync::Arc;

use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use crate::sync::{Invocation, Job};
use crate::vault_report::{VaultReport, VaultStatus};

/// Memory of a vault besides its transfers: its listing, its plan, its clients.
const VAULT: u64 = 12 << 20;

/// Number of `vaults` to work on at a time, with this budget and this many connections in all.
pub(crate) fn width(vaults: usize, budget: u64, connections: usize) -> usize {
    let affordable = usize::try_from(budget / VAULT).unwrap_or(usize::MAX);
    vaults.min(affordable).min(connections).max(1)
}

/// Syncs these vaults, `width` at a time. The reports are in the order of the jobs; `done` gets each when it
/// is ready.
pub(crate) async fn sync_all(
    invocation: Invocation,
    jobs: Vec<Job>,
    width: usize,
    done: impl Fn(&VaultReport),
) -> Vec<VaultReport> {
    let invocation = Arc::new(invocation);
    let slots = Arc::new(Semaphore::new(width));
    let mut tasks = JoinSet::new();
    let mut names = HashMap::new();
    let mut reports: Vec<Option<VaultReport>> = vec![None; jobs.len()];
    for (index, job) in jobs.into_iter().enumerate() {
        let (invocation, slots, named) = (invocation.clone(), slots.clone(), job.clone());
        let task = tasks.spawn(async move {
            // The semaphore is never closed.
            let _slot = slots.acquire().await;
            // Boxed: otherwise all of a pull nests in this task, deeper than the compiler computes layouts by
            // default.
            Box::pin(invocation.sync(&job)).await
        });
        names.insert(task.id(), (index, named));
    }
    while let Some(ended) = tasks.join_next_with_id().await {
        let (id, report) = match ended {
            Ok((id, report)) => (id, Ok(report)),
            Err(error) => (error.id(), Err(error)),
        };
        let Some((index, job)) = names.remove(&id) else { continue };
        let report = report.unwrap_or_else(|error| {
            let message = format!("the run broke down ({error}); please report this");
            VaultReport::nothing(
                job.vault.info.id.as_str(),
                &job.vault.info.name,
                VaultStatus::Failed,
                message,
            )
        });
        done(&report);
        if let Some(slot) = reports.get_mut(index) {
            *slot = Some(report);
        }
    }
    reports.into_iter().flatten().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_many_vaults_at_a_time_as_memory_and_connections_allow() {
        assert_eq!(width(10, 28 << 20, 5), 2);
        assert_eq!(width(10, 1 << 30, 5), 5);
        assert_eq!(width(2, 1 << 30, 5), 2);
        assert_eq!(width(3, 1, 5), 1);
        assert_eq!(width(0, 1 << 30, 5), 1);
    }
}

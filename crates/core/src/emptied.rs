//! Whether a destination lost everything that was pulled to it, whatever else is in it: a disk's folder for lost files, what
//! a system or another program leaves in every folder.

use std::collections::VecDeque;

use obsync_protocol::{Filter, SkipReason, VaultPath, Verdict};

use crate::error::PullError;
use crate::model::Record;
use crate::state::StateStore;
use crate::store::{FolderEntry, VaultStore, Wanted};

/// How many entries at the top are looked at first: nearly always one of them is recorded.
const GLANCE: usize = 20;
/// How many entries are looked at before nobody can tell.
const MOST: usize = 1000;
/// How many paths the state is asked for at once.
const AT_ONCE: usize = 100;

/// Whether nothing that is recorded is there any more, as far as a look at some of what is there can tell.
pub(crate) async fn is_emptied(
    store: &dyn VaultStore,
    state: &dyn StateStore,
    filter: &Filter,
) -> Result<bool, PullError> {
    let Some(glance) = store.entries(None, GLANCE).await? else { return Ok(false) };
    if is_any_recorded(state, &glance, filter).await? {
        return Ok(false);
    }
    let (mut folders, mut seen) = (VecDeque::from([None::<VaultPath>]), 0);
    while let Some(folder) = folders.pop_front() {
        let Some(entries) = store.entries(folder.as_ref(), MOST - seen).await? else { return Ok(false) };
        seen += entries.len();
        if seen >= MOST || is_any_recorded(state, &entries, filter).await? {
            return Ok(false);
        }
        let below = entries.into_iter().filter(|entry| entry.is_folder && may_be_vaults(entry, filter));
        folders.extend(below.map(|entry| Some(entry.path)));
    }
    Ok(true)
}

/// Whether one of the smallest recorded files is there after all: some file systems give names back in another form than
/// they took them.
pub(crate) async fn is_any_there(store: &dyn VaultStore, records: &[Record]) -> Result<bool, PullError> {
    let mut files: Vec<Wanted> = records
        .iter()
        .filter_map(|record| {
            let meta = record.file()?;
            Some(Wanted { path: record.path.clone(), hash: meta.hash, size: meta.size })
        })
        .collect();
    files.sort_unstable_by_key(|wanted| wanted.size);
    files.truncate(GLANCE);
    Ok(store.holds(files).await?.contains(&true))
}

async fn is_any_recorded(
    state: &dyn StateStore,
    entries: &[FolderEntry],
    filter: &Filter,
) -> Result<bool, PullError> {
    let paths = entries.iter().filter(|entry| may_be_vaults(entry, filter)).map(|entry| entry.path.clone());
    let paths: Vec<VaultPath> = paths.collect();
    for some in paths.chunks(AT_ONCE) {
        if state.records(some).await?.iter().any(Option::is_some) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Whether a vault could have brought it.
fn may_be_vaults(entry: &FolderEntry, filter: &Filter) -> bool {
    filter.verdict(&entry.path, entry.is_folder) != Verdict::Skip(SkipReason::Hidden)
}

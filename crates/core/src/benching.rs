//! The parts of the engine whose time grows with the entries of a vault, for the benchmarks: the work of a
//! pull on a listing before anything is transferred. Not for other use.

use std::collections::HashMap;

use obsync_protocol::{ContentHash, Filter, NameFolding, PushMessage, Uid, VaultKeys, VaultPath};

use crate::entry::RemoteEntry;
use crate::listing::{Listing, Unclear};
use crate::model::Record;
use crate::reconcile::{Mode, Reach};
use crate::records::Records;
use crate::schedule::{Schedule, ScheduleInput};
use crate::watermark::Watermark;

/// A listing of the server.
pub struct BenchListing(Listing);

/// Feeds the server's messages into a listing, one by one.
pub fn list(messages: Vec<PushMessage>, keys: &VaultKeys) -> BenchListing {
    let mut listing = Listing::default();
    for message in messages {
        listing.add(message, keys);
    }
    BenchListing(listing)
}

impl BenchListing {
    /// Its entries, ready for planning.
    pub fn entries(mut self) -> Entries {
        Entries(self.0.entries.take())
    }
}

/// The latest entry of each path.
#[derive(Clone)]
pub struct Entries(Vec<RemoteEntry>);

impl Entries {
    /// Number of paths.
    pub fn paths(&self) -> usize {
        self.0.len()
    }
}

/// The known state of a destination to plan for.
#[derive(Clone)]
pub struct PlannedDestination {
    /// Records of the destination.
    pub records: Vec<Record>,
    /// Paths of the destination that have a wanted content.
    pub sources: HashMap<ContentHash, VaultPath>,
    /// Folding rules of the destination.
    pub folds_names: NameFolding,
    /// Mode of the pull.
    pub mode: Mode,
}

/// Totals of a plan.
#[derive(Debug, PartialEq, Eq)]
pub struct Planned {
    /// Contents to download, or to copy from a file that stays.
    pub transfers: usize,
    /// Contents to copy from a file that is removed.
    pub rescues: usize,
    /// Files to remove.
    pub removals: usize,
    /// Changes that need no work.
    pub resolved: usize,
}

/// A plan, kept so that freeing its memory is not measured.
pub struct Made(Schedule);

/// Makes a plan for a destination that can store every name.
pub fn plan(entries: Entries, destination: PlannedDestination, filter: &Filter) -> Made {
    let PlannedDestination { records, sources, folds_names, mode } = destination;
    let records = Records::from(records);
    let input = ScheduleInput {
        entries: entries.0,
        unclear: Unclear::default(),
        records,
        sources,
        filter,
        mode,
        reach: Reach::Everything,
        is_sequel: false,
        full_up_to: 0,
        folds_names,
    };
    let mut plan = Schedule::new(input);
    plan.refuse(|_| Ok(()));
    Made(plan)
}

impl Made {
    /// Totals of the plan.
    pub fn summary(&self) -> Planned {
        Planned {
            transfers: self.0.transfers.len(),
            rescues: self.0.rescues.len(),
            removals: self.0.removals.len(),
            resolved: self.0.unchanged.len(),
        }
    }
}

/// Counts changes as begun and, in another order, as done: the version after each batch of `batch`.
pub fn count(changes: &[Uid], done: &[Uid], batch: usize) -> u64 {
    let mut watermark = Watermark::new(0, changes.len() as u64);
    changes.iter().for_each(|uid| watermark.begin(*uid));
    let mut version = 0;
    for part in done.chunks(batch) {
        part.iter().for_each(|uid| watermark.done(*uid));
        version = watermark.version();
    }
    version
}

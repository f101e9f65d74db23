//! The parts of the engine that take time for each entry of a vault, for the benchmarks: what a pull does with a listing
//! before anything is transferred. Nobody else needs them.

use std::collections::HashMap;

use obsync_protocol::{ContentHash, Filter, NameFolding, PushMessage, Uid, VaultKeys, VaultPath};

use crate::entry::RemoteEntry;
use crate::listing::{Listing, Unclear};
use crate::model::Record;
use crate::reconcile::{Mode, Reach};
use crate::records::Records;
use crate::schedule::{Schedule, ScheduleInput};
use crate::watermark::Watermark;

/// What the server listed.
pub struct BenchListing(Listing);

/// Takes in what the server sends, an entry after the other.
pub fn list(messages: Vec<PushMessage>, keys: &VaultKeys) -> BenchListing {
    let mut listing = Listing::default();
    for message in messages {
        listing.add(message, keys);
    }
    BenchListing(listing)
}

impl BenchListing {
    /// Its entries, ready to be planned.
    pub fn entries(mut self) -> Entries {
        Entries(self.0.entries.take())
    }
}

/// The latest entry of each path.
#[derive(Clone)]
pub struct Entries(Vec<RemoteEntry>);

impl Entries {
    /// How many paths they speak of.
    pub fn paths(&self) -> usize {
        self.0.len()
    }
}

/// What is known of a destination that a plan is made for.
#[derive(Clone)]
pub struct PlannedDestination {
    /// What is recorded.
    pub records: Vec<Record>,
    /// Which paths have a content that is wanted.
    pub sources: HashMap<ContentHash, VaultPath>,
    /// Which names are one.
    pub folds_names: NameFolding,
    /// How thorough the pull is.
    pub mode: Mode,
}

/// What a plan comes to.
#[derive(Debug, PartialEq, Eq)]
pub struct Planned {
    /// Contents to be downloaded, or copied from a file that stays.
    pub transfers: usize,
    /// Contents to be copied from a file that goes.
    pub rescues: usize,
    /// Files to be removed.
    pub removals: usize,
    /// Changes that need nothing.
    pub resolved: usize,
}

/// A plan, kept so that giving its memory back is not part of the time.
pub struct Made(Schedule);

/// Makes the plan, for a destination that can hold every name.
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
    /// What it comes to.
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

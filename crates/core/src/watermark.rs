//! The version up to which a destination is complete: the highest below which nothing is pending.
//!
//! Changes are applied in any order; the watermark makes it safe to forget them. It only rises, and it never
//! passes a change that is neither applied nor recorded as deferred.

use std::collections::BTreeMap;

use obsync_protocol::Uid;

/// Counts the pending changes by uid (several can share one, docs/PROTOCOL.md section 3).
#[derive(Debug)]
pub(crate) struct Watermark {
    /// Its value when the run began: it never falls below.
    floor: u64,
    /// Its value when nothing is pending.
    ceiling: u64,
    pending: BTreeMap<u64, u32>,
}

impl Watermark {
    /// A watermark at `floor` that may rise to `ceiling`, the version of the listing.
    pub(crate) fn new(floor: u64, ceiling: u64) -> Self {
        Watermark { floor, ceiling: ceiling.max(floor), pending: BTreeMap::new() }
    }

    /// A later version was listed. To be called after the changes up to it were begun.
    pub(crate) fn rise(&mut self, ceiling: u64) {
        self.ceiling = self.ceiling.max(ceiling);
    }

    /// Adds the pending change `uid`.
    pub(crate) fn begin(&mut self, uid: Uid) {
        if uid.0 > self.floor {
            *self.pending.entry(uid.0).or_default() += 1;
        }
    }

    /// Removes a change that was begun and is done.
    pub(crate) fn done(&mut self, uid: Uid) {
        if let Some(count) = self.pending.get_mut(&uid.0) {
            *count -= 1;
            if *count == 0 {
                self.pending.remove(&uid.0);
            }
        }
    }

    /// The version that may be recorded now.
    pub(crate) fn version(&self) -> u64 {
        match self.pending.first_key_value() {
            Some((uid, _)) => self.floor.max((uid - 1).min(self.ceiling)),
            None => self.ceiling,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_stops_below_the_first_change_still_to_be_done() {
        let mut watermark = Watermark::new(3, 10);
        for uid in [4, 6, 6, 9] {
            watermark.begin(Uid(uid));
        }
        assert_eq!(watermark.version(), 3);
        watermark.done(Uid(9));
        watermark.done(Uid(4));
        assert_eq!(watermark.version(), 5);
        watermark.done(Uid(6));
        assert_eq!(watermark.version(), 5, "another change shares the uid");
        watermark.done(Uid(6));
        assert_eq!(watermark.version(), 10);
    }

    #[test]
    fn it_never_falls() {
        let mut watermark = Watermark::new(8, 5);
        watermark.begin(Uid(2));
        assert_eq!(watermark.version(), 8);
    }
}

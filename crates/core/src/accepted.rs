//! Failures that the user accepted: they are not reported any more.

use std::collections::HashMap;

use obsync_protocol::Uid;

use crate::model::DeferredKey;

/// Lasting failures that the user accepted, so they do not count as failures.
#[derive(Debug, Default)]
pub(crate) struct Accepted {
    /// Every lasting failure of this run is accepted.
    pub(crate) all: bool,
    /// Failures that earlier runs accepted, each with the version of the change.
    pub(crate) known: HashMap<DeferredKey, Uid>,
}

impl Accepted {
    pub(crate) fn covers(&self, key: &DeferredKey, uid: Uid) -> bool {
        self.all || self.known.get(key) == Some(&uid)
    }
}

//! Failures that the user accepted: they are told no more.

use std::collections::HashMap;

use obsync_protocol::Uid;

use crate::model::DeferredKey;

/// The lasting failures that are none, because the user accepted them.
#[derive(Debug, Default)]
pub(crate) struct Accepted {
    /// Whatever fails for good in this run is accepted.
    pub(crate) all: bool,
    /// What an earlier run accepted, by the version of the change.
    pub(crate) known: HashMap<DeferredKey, Uid>,
}

impl Accepted {
    pub(crate) fn covers(&self, key: &DeferredKey, uid: Uid) -> bool {
        self.all || self.known.get(key) == Some(&uid)
    }
}

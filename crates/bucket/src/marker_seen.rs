//! The marker as the first page of the list shows it.

use std::sync::Mutex;

use obsync_core::blocking::lock;

use super::objects::Listed;

/// Objects requested to see whether the prefix is empty.
pub(super) const FEW: usize = 10;

/// The marker's state in the first page of the list.
#[derive(Debug, Default)]
pub(super) struct MarkerSeen(Mutex<Seen>);

#[derive(Clone, Debug, Default)]
pub(super) enum Seen {
    #[default]
    Unknown,
    Absent,
    /// With this entity tag, if the service lists it.
    Present(Option<String>),
}

impl MarkerSeen {
    /// Reads the beginning of the list, whose keys are in order.
    pub(super) fn note(&self, key: &str, beginning: &[Listed]) {
        let found = beginning.iter().find(|object| object.key == key);
        let is_past = beginning.len() < FEW || beginning.last().is_some_and(|last| last.key.as_str() > key);
        *lock(&self.0) = match found {
            Some(object) => Seen::Present(object.e_tag.clone()),
            None if is_past => Seen::Absent,
            None => Seen::Unknown,
        };
    }

    /// The state seen.
    pub(super) fn get(&self) -> Seen {
        lock(&self.0).clone()
    }

    /// Forgets it, at the end of a run.
    pub(super) fn clear(&self) {
        *lock(&self.0) = Seen::Unknown;
    }
}

//! The precondition of a write at its key.

use object_store::UpdateVersion;

/// An entity tag that no object has: a service that honours conditions refuses every request that demands it.
#[cfg(feature = "s3")]
pub(super) const NOBODYS: &str = "\"00000000000000000000000000000000\"";

/// Precondition on the object at a key.
#[derive(Clone, Debug)]
pub(super) enum Guard {
    /// There is no object.
    Nothing,
    /// This version of an object.
    Version(UpdateVersion),
    /// None.
    Anything,
}

impl Guard {
    /// True if it demands anything.
    pub(super) fn is_condition(&self) -> bool {
        !matches!(self, Guard::Anything)
    }

    /// A version that no object has.
    #[cfg(feature = "s3")]
    pub(super) fn nobodys() -> Self {
        Guard::Version(UpdateVersion { e_tag: Some(NOBODYS.to_owned()), version: None })
    }
}

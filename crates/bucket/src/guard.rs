//! The precondition of a write at its key.

use object_store::UpdateVersion;

/// An entity tag that no object has: whoever keeps conditions refuses what is to happen to the object that has it.
#[cfg(feature = "s3")]
pub(super) const NOBODYS: &str = "\"00000000000000000000000000000000\"";

/// What must be at a key for a write to happen.
#[derive(Clone, Debug)]
pub(super) enum Guard {
    /// Nothing.
    Nothing,
    /// This version of an object.
    Version(UpdateVersion),
    /// It does not matter.
    Anything,
}

impl Guard {
    /// The version that nothing has.
    #[cfg(feature = "s3")]
    pub(super) fn nobodys() -> Self {
        Guard::Version(UpdateVersion { e_tag: Some(NOBODYS.to_owned()), version: None })
    }
}

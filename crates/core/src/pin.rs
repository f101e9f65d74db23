//! Pins: how a vault was encrypted when it was last opened, so that a service cannot weaken it.
//!
//! The service lists each vault with its kind of encryption, and with a password where it keeps one. Nothing proves
//! that listing. So a program remembers what it opened, in its home, with the destination and in a shared table, and
//! compares before it derives a key or sends anything. [`check`] is that comparison: a pure function of what the
//! service lists, of the pins that were found, and of what the user said.

mod decision;
mod kept;
#[cfg(test)]
mod table_tests;

pub use self::decision::{
    FoundPin, Opening, PasswordAtHand, PinDecision, PinNotice, PinPlace, PinRefusal, PinSubject, Wish, check,
};
pub use self::kept::{Acceptance, Pin, PinError, VaultEncryption, VaultKind, fingerprint};

//! Pins: the encryption of a vault when it was last opened, so that a service cannot weaken it.
//!
//! The service lists each vault with its kind of encryption, and with a password if it stores one. Nothing
//! proves that listing. So a program stores what it opened, in its home, with the destination and in a shared
//! table, and compares before it derives a key or sends anything. [`check`] is that comparison: a pure
//! function of the listed vault, of the pins that were found, and of the user's wishes.

mod decision;
mod kept;
#[cfg(test)]
mod table_tests;

pub use self::decision::{
    FoundPin, Opening, PasswordAtHand, PinDecision, PinNotice, PinPlace, PinRefusal, PinSubject, Wish, check,
};
pub use self::kept::{Acceptance, Pin, PinError, VaultEncryption, VaultKind, fingerprint};

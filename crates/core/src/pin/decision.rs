//! Decides whether a listed vault may be opened, given the pins that were found.

use std::fmt;

use obsync_protocol::{EncryptionVersion, limits};

use super::kept::{Pin, VaultEncryption, VaultKind};

/// Place where a pin was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PinPlace {
    /// In this user's home: a pin, or a stored key.
    Home,
    /// With the destination.
    Destination,
    /// In the table that several machines share.
    Table,
    /// In the function's secret.
    Secret,
}

/// A pin, with the place where it was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FoundPin {
    /// The place.
    pub place: PinPlace,
    /// True if it is stored for the destination of this run, and so concerns every vault that is pulled
    /// there.
    pub is_of_destination: bool,
    /// The pin.
    pub pin: Pin,
}

/// A password that could open an end-to-end encrypted vault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PasswordAtHand {
    /// There is none.
    None,
    /// A password that names no vault (an environment variable).
    Unnamed,
    /// A password that the user gave for this vault (standard input, the function's secret).
    OfThisVault,
}

/// The user's wishes about the vault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wish {
    /// The only kind that may be opened.
    pub encryption: Option<VaultKind>,
    /// The available password.
    pub password: PasswordAtHand,
    /// True if the user accepts that the encryption of the vault has changed.
    pub accepts_change: bool,
}

/// Decision about a listed vault.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PinDecision {
    /// Open it, and store the pin once the service has confirmed the key.
    Open(Box<Opening>),
    /// Ask the user; refuse if nobody can be asked.
    Ask(Box<Opening>, PinRefusal),
    /// Derive nothing, send nothing.
    Refuse(PinRefusal),
}

/// Parameters for opening a vault.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Opening {
    /// The pin to store.
    pub pin: Pin,
    /// True if nothing was known of the vault.
    pub is_first_contact: bool,
    /// Notices for the user.
    pub notices: Vec<PinNotice>,
    /// The refusal that the user overrode by accepting the change.
    pub accepted: Option<PinRefusal>,
}

/// A notice about a vault that is opened nevertheless.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PinNotice {
    /// A standard vault became an end-to-end encrypted one.
    #[error(
        "the vault {0:?} was standard encrypted and is end-to-end encrypted now; from now on, obsync opens it only \
         with end-to-end encryption"
    )]
    NowEndToEnd(String),
    /// The salt of a known vault is short.
    #[error(
        "the vault {name:?} has a salt of {bytes} bytes; {} are usual. Make a new vault in Obsidian and move your notes there \
         if anybody but you made it so",
        limits::LEAST_SALT
    )]
    ShortSalt {
        /// The vault.
        name: String,
        /// Its length in bytes.
        bytes: usize,
    },
}

/// The key that a pin was stored under.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PinSubject {
    /// The vault, by its id.
    Vault,
    /// Another vault, which had the same name.
    Name,
    /// Another vault, which was pulled to the same destination.
    Destination,
}

/// The reason why a vault is not opened. Nothing was derived or sent.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PinRefusal {
    /// The user wants another kind.
    #[error(
        "the vault {name:?} is listed as {listed} encrypted, but {wanted} encryption is required; nothing was sent"
    )]
    NotAsWished {
        /// The vault.
        name: String,
        /// The kind that the user wants.
        wanted: VaultKind,
        /// The kind that the service lists.
        listed: VaultKind,
    },
    /// The service has a password that only the owner had before.
    #[error(
        "the service hands out a password for the vault {name:?}, but {place} knows {subject} as end-to-end encrypted{accepted}: \
         whoever controls the service could read and forge your notes. Nothing was sent or changed. If you converted the \
         vault yourself, docs/SEMANTICS.md (\"Encryption that changes\") says how to continue"
    )]
    Weaker {
        /// The vault.
        name: String,
        /// The place of the pin.
        place: PinPlace,
        /// The key that it was stored under.
        subject: PinSubject,
        /// The user who last accepted a change, or empty.
        accepted: String,
    },
    /// Version or salt of an end-to-end encrypted vault have changed.
    #[error(
        "the {what} of the end-to-end encrypted vault {name:?} is not the one that {place} knows{accepted}, so a key for it \
         could help whoever controls the service to guess your password. Nothing was sent or changed. If you encrypted the vault \
         anew yourself, docs/SEMANTICS.md (\"Encryption that changes\") says how to continue"
    )]
    Changed {
        /// The vault.
        name: String,
        /// The place of the pin.
        place: PinPlace,
        /// The changed property.
        what: &'static str,
        /// The user who last accepted a change, or empty.
        accepted: String,
    },
    /// The user gave a password for a vault for which the service has one.
    #[error(
        "you gave a password for the vault {name:?}, but the service hands out one itself: either the vault is a standard \
         one, which needs no password of yours, or somebody wants to pass another off as yours. Nothing was sent. Give no \
         password if you know that it is a standard vault"
    )]
    PasswordGiven {
        /// The vault.
        name: String,
    },
    /// A password is set, and the service has another one.
    #[error(
        "a vault password is set, but the service hands out one itself for the vault {name:?}, which was not opened before: \
         either it is a standard vault and the password is for another one, or it is yours and somebody wants to pass another \
         off as it. Nothing was sent. If you know that it is a standard vault, give --encryption (`obsync pull --help`)"
    )]
    PasswordUnused {
        /// The vault.
        name: String,
    },
    /// A salt that makes guessing the password cheaper.
    #[error(
        "the vault {name:?} has a salt of {bytes} bytes, and was never opened before; {} are the least for its encryption \
         version, as a short one helps to guess your password. Nothing was sent. Make a new vault in Obsidian, and move your \
         notes there",
        limits::LEAST_SALT
    )]
    ShortSalt {
        /// The vault.
        name: String,
        /// Its length in bytes.
        bytes: usize,
    },
}

impl fmt::Display for PinPlace {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            PinPlace::Home => "this computer",
            PinPlace::Destination => "the destination",
            PinPlace::Table => "the table",
            PinPlace::Secret => "the secret",
        })
    }
}

impl fmt::Display for PinSubject {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            PinSubject::Vault => "it",
            PinSubject::Name => "the vault that had this name",
            PinSubject::Destination => "the vault that was brought there",
        })
    }
}

/// Decides whether a listed vault may be opened: `listed` is the [pin of it](Pin::of), `found` every pin that
/// could concern it, in any order. Pins of other vaults, names and services are ignored.
#[must_use]
pub fn check(listed: Pin, found: &[FoundPin], wish: &Wish) -> PinDecision {
    let kind = listed.encryption.kind();
    if let Some(wanted) = wish.encryption.filter(|wanted| *wanted != kind) {
        return PinDecision::Refuse(PinRefusal::NotAsWished {
            name: listed.name.clone(),
            wanted,
            listed: kind,
        });
    }
    let relevant = relevant(&listed, found);
    let refusal = conflict(&listed, &relevant);
    if let Some(refusal) = refusal.as_ref().filter(|_| !wish.accepts_change) {
        return PinDecision::Refuse(refusal.clone());
    }
    // This is no change of the encryption, so it cannot be accepted.
    if let Some(refusal) = password_given(&listed, wish) {
        return PinDecision::Refuse(refusal);
    }
    let mut notices = Vec::new();
    match short_salt(&listed, &relevant) {
        Some(Ok(notice)) => notices.push(notice),
        Some(Err(refusal)) => return PinDecision::Refuse(refusal),
        None => {}
    }
    let known: Vec<&Pin> = of_vault(&relevant).map(|found| &found.pin).collect();
    let was_standard =
        !known.is_empty() && known.iter().all(|pin| pin.encryption == VaultEncryption::Standard);
    if was_standard && kind == VaultKind::EndToEnd {
        notices.push(PinNotice::NowEndToEnd(listed.name.clone()));
    }
    let (name, is_first_contact) = (listed.name.clone(), known.is_empty());
    let opening =
        Box::new(Opening { pin: renewed(listed, &known), is_first_contact, notices, accepted: refusal });
    let in_doubt = is_first_contact
        && kind == VaultKind::Standard
        && wish.password == PasswordAtHand::Unnamed
        && wish.encryption.is_none();
    match in_doubt {
        true => PinDecision::Ask(opening, PinRefusal::PasswordUnused { name }),
        false => PinDecision::Open(opening),
    }
}

/// A pin that concerns a listed vault, with the key that it is stored under.
struct Relevant<'a> {
    found: &'a FoundPin,
    subject: PinSubject,
}

fn relevant<'a>(listed: &Pin, found: &'a [FoundPin]) -> Vec<Relevant<'a>> {
    let is_of_vault = |found: &FoundPin| {
        found.pin.vault == listed.vault && (found.is_of_destination || found.pin.service == listed.service)
    };
    // The service chooses both: a script that names the old vault would open a new one whose id is the old
    // name, or whose name is the old id.
    let is_of_name = |found: &FoundPin| {
        found.pin.service == listed.service
            && (found.pin.goes_by(&listed.name) || found.pin.goes_by(listed.vault.as_str()))
    };
    // A vault is not new under this very name if a pin of it is in the same place as the other pin, or a user
    // accepted it. A pin that one machine stored first says nothing about the shared ones.
    let is_known_beside = |other: &FoundPin| {
        found.iter().any(|found| {
            is_of_vault(found)
                && found.pin.service == listed.service
                && found.pin.has_name(&listed.name)
                && (found.place == other.place || found.pin.accepted.is_some())
        })
    };
    let subject = |found: &FoundPin| match () {
        () if is_of_vault(found) => Some(PinSubject::Vault),
        () if found.is_of_destination => Some(PinSubject::Destination),
        () if is_of_name(found) && !is_known_beside(found) => Some(PinSubject::Name),
        () => None,
    };
    found.iter().filter_map(|found| subject(found).map(|subject| Relevant { found, subject })).collect()
}

fn of_vault<'a>(relevant: &'a [Relevant<'a>]) -> impl Iterator<Item = &'a FoundPin> {
    relevant.iter().filter(|found| found.subject == PinSubject::Vault).map(|relevant| relevant.found)
}

/// The first pin that the listed encryption violates.
fn conflict(listed: &Pin, relevant: &[Relevant<'_>]) -> Option<PinRefusal> {
    let name = || listed.name.clone();
    relevant.iter().find_map(|Relevant { found, subject }| {
        let place = found.place;
        let accepted = || accepted_by(&found.pin);
        match (&found.pin.encryption, &listed.encryption) {
            (VaultEncryption::EndToEnd { .. }, VaultEncryption::Standard) => {
                Some(PinRefusal::Weaker { name: name(), place, subject: *subject, accepted: accepted() })
            }
            (
                VaultEncryption::EndToEnd { version: pinned, salt: pinned_salt },
                VaultEncryption::EndToEnd { version, salt },
            ) if *subject == PinSubject::Vault => {
                let what = if version != pinned { "encryption version" } else { "salt" };
                let is_same = version == pinned && salt == pinned_salt;
                (!is_same).then(|| PinRefusal::Changed { name: name(), place, what, accepted: accepted() })
            }
            _ => None,
        }
    })
}

fn accepted_by(pin: &Pin) -> String {
    pin.accepted.as_ref().map_or_else(String::new, |accepted| format!(" (accepted by {:?})", accepted.by))
}

fn password_given(listed: &Pin, wish: &Wish) -> Option<PinRefusal> {
    let contradicts = listed.encryption == VaultEncryption::Standard
        && wish.password == PasswordAtHand::OfThisVault
        && wish.encryption.is_none();
    contradicts.then(|| PinRefusal::PasswordGiven { name: listed.name.clone() })
}

/// The reaction to a short salt of versions 2 and 3: a notice for a vault that was opened with it before,
/// else a refusal. Not for a standard vault, whose password the service knows anyway.
fn short_salt(listed: &Pin, relevant: &[Relevant<'_>]) -> Option<Result<PinNotice, PinRefusal>> {
    let VaultEncryption::EndToEnd { version, salt } = &listed.encryption else { return None };
    if *version == EncryptionVersion::V0 || salt.len() >= limits::LEAST_SALT {
        return None;
    }
    let (name, bytes) = (listed.name.clone(), salt.len());
    let is_known = of_vault(relevant).any(|found| found.pin.encryption == listed.encryption);
    Some(match is_known {
        true => Ok(PinNotice::ShortSalt { name, bytes }),
        false => Err(PinRefusal::ShortSalt { name, bytes }),
    })
}

/// The pin to store: the listed one, with the additional data of older pins of the vault.
fn renewed(listed: Pin, known: &[&Pin]) -> Pin {
    let accepted =
        known.iter().filter(|pin| pin.encryption == listed.encryption).find_map(|pin| pin.accepted.clone());
    let renewed = known.iter().fold(listed, |pin, older| pin.with_names_of(older));
    renewed.with_acceptance(accepted)
}

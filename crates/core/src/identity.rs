//! The identity of a destination: recognises a disk, a folder or a bucket's prefix, and distinguishes it from
//! a copy or a restored backup of itself.

use std::fmt;
use std::str::FromStr;

use obsync_protocol::VaultId;
use serde::{Deserialize, Serialize};

/// Bytes of a random id, enough that no two destinations share one.
const BYTES: usize = 16;

/// A random number, written as 32 hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct RandomId([u8; BYTES]);

/// Text that is not 32 hexadecimal digits.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("it is not made of 32 hexadecimal digits")]
pub struct RandomIdError;

impl RandomId {
    /// Draws a new one.
    ///
    /// # Errors
    ///
    /// If the system has no random numbers.
    pub fn draw() -> Result<Self, getrandom::Error> {
        let mut bytes = [0; BYTES];
        getrandom::fill(&mut bytes)?;
        Ok(RandomId(bytes))
    }
}

impl fmt::Display for RandomId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for RandomId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for RandomId {
    type Err = RandomIdError;

    fn from_str(text: &str) -> Result<Self, RandomIdError> {
        if text.len() != 2 * BYTES || !text.bytes().all(|digit| matches!(digit, b'0'..=b'9' | b'a'..=b'f')) {
            return Err(RandomIdError);
        }
        let number = u128::from_str_radix(text, 16).map_err(|_| RandomIdError)?;
        Ok(RandomId(number.to_be_bytes()))
    }
}

impl TryFrom<String> for RandomId {
    type Error = RandomIdError;

    fn try_from(text: String) -> Result<Self, RandomIdError> {
        text.parse()
    }
}

impl From<RandomId> for String {
    fn from(id: RandomId) -> String {
        id.to_string()
    }
}

/// The identity of a destination as stored in its state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DestinationIdentity {
    /// The destination's id, which never changes.
    pub id: RandomId,
    /// Its generation: each run that changes something draws a new one.
    pub generation: RandomId,
    /// The generation that is about to be written to the destination. After a crash either is accepted.
    pub next: Option<RandomId>,
    /// The destination's tag of the marker's bytes, if it has tags: an object with the same tag need not be
    /// read.
    pub tag: Option<String>,
}

impl DestinationIdentity {
    /// True if the first marker of the destination may never have been written.
    pub fn is_unwritten(&self) -> bool {
        self.next == Some(self.generation)
    }
}

/// The destination's description of itself, in a file or object of its own.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Marker {
    /// The marker's format.
    pub format: u32,
    /// The destination's id.
    pub id: RandomId,
    /// The vault of that destination.
    pub vault: VaultId,
    /// The generation.
    pub generation: RandomId,
}

/// The newest marker format that this program knows.
pub const MARKER_FORMAT: u32 = 1;

impl Marker {
    /// The identity of a destination with this marker, for the state.
    pub(crate) fn identity(&self, marked: Marked) -> DestinationIdentity {
        DestinationIdentity { id: self.id, generation: self.generation, next: None, tag: marked.tag }
    }

    /// The marker as text.
    ///
    /// # Errors
    ///
    /// Only for data that JSON cannot represent, which a marker does not have.
    pub fn to_text(&self) -> Result<String, MarkerError> {
        serde_json::to_string(self).map(|text| text + "\n").map_err(MarkerError::damaged)
    }

    /// Parses a marker.
    ///
    /// # Errors
    ///
    /// If a newer obsync wrote it, or it cannot be parsed.
    pub fn from_text(text: &str) -> Result<Self, MarkerError> {
        #[derive(Deserialize)]
        struct Head {
            format: u32,
        }
        let head: Head = serde_json::from_str(text).map_err(MarkerError::damaged)?;
        if head.format > MARKER_FORMAT {
            return Err(MarkerError::Newer { found: head.format });
        }
        serde_json::from_str(text).map_err(MarkerError::damaged)
    }
}

/// The reason why a marker cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MarkerError {
    /// A newer obsync wrote it.
    #[error("a newer obsync wrote it (format {found}, this one knows {MARKER_FORMAT}); update obsync")]
    Newer {
        /// Its format.
        found: u32,
    },
    /// It is not in a format that any obsync writes.
    #[error("it cannot be read: {reason}")]
    Damaged {
        /// The parser's error.
        reason: String,
    },
}

impl MarkerError {
    fn damaged(error: serde_json::Error) -> Self {
        MarkerError::Damaged { reason: error.to_string() }
    }
}

/// Result of looking for a destination's marker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MarkerFound {
    /// There is no marker.
    Absent,
    /// The marker that the state knows, recognised by its tag.
    Unchanged,
    /// A marker.
    Marker {
        /// Its content.
        marker: Marker,
        /// The destination's tag of its present bytes, if it has tags.
        tag: Option<String>,
    },
    /// A file or object that is no marker.
    Damaged {
        /// The parser's error.
        reason: String,
    },
    /// The destination cannot store a marker.
    Impossible,
}

impl MarkerFound {
    /// True if it says that this vault is pulled here.
    pub(crate) fn is_of(&self, vault: &VaultId) -> bool {
        match self {
            MarkerFound::Marker { marker, .. } => marker.vault == *vault,
            MarkerFound::Unchanged => true,
            MarkerFound::Absent | MarkerFound::Damaged { .. } | MarkerFound::Impossible => false,
        }
    }
}

/// Why the state of a destination was not trusted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub enum Doubt {
    /// The destination lost its marker.
    NoMarker,
    /// The marker cannot be read.
    DamagedMarker,
    /// The destination is a copy or a restored backup: same id, other generation.
    OtherGeneration,
    /// The marker belongs to another destination, or to another state.
    OtherDestination,
    /// None of the sampled files is as recorded.
    OtherFiles,
    /// Several files that would be sent are older than when both sides last agreed.
    OlderFiles,
    /// The destination is a copy of one that still exists, and gets an id of its own.
    Copy,
    /// An earlier run doubted the destination and was cut short while it forgot the records.
    CutShort,
}

impl Doubt {
    /// The sentence for the user.
    pub(crate) fn sentence(self) -> &'static str {
        match self {
            Doubt::NoMarker => {
                "the destination has lost its marker (.obsync/id): it was emptied or replaced, or a disk is not mounted. \
                 Its state is not trusted, and every file is compared with the vault"
            }
            Doubt::DamagedMarker => {
                "the destination's marker (.obsync/id) is damaged. Its state is not trusted, and every file is \
                 compared with the vault"
            }
            Doubt::OtherGeneration => {
                "the destination is not as the last pull left it: it is a copy of itself or a restored backup, or \
                 another computer or --state was used for it. Its state is not trusted, and every file is compared \
                 with the vault"
            }
            Doubt::OtherDestination => {
                "the destination has the marker of another one: another disk is mounted here, or another computer \
                 also pulls to it. \
                 Its state is not trusted, and every file is compared with the vault"
            }
            Doubt::Copy => {
                "the destination is a copy of another one that still exists: it gets an identity of its own, and \
                 every file is compared with the vault"
            }
            Doubt::CutShort => {
                "an earlier run did not trust the state of this destination, and was cut short: every file is \
                 compared with the vault"
            }
            Doubt::OlderFiles => {
                "several files are older here than they were at the last sync, as when a backup was restored: nothing is sent \
                 because of it. The state of the destination is not trusted, and every file is compared with the \
                 vault. To restore an older text, put it here again with the present time (`touch`)"
            }
            Doubt::OtherFiles => {
                "none of the checked files is as the last pull left it: the destination was emptied, replaced or \
                 restored. Its state is not trusted, and every file is compared with the vault"
            }
        }
    }
}

/// Result of writing a marker.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Marked {
    /// The destination's tag of its bytes, if it has tags.
    pub tag: Option<String>,
}

/// Checks that the found destination is the one that the state describes.
///
/// `known` is the identity in the state; `begun` is true if the state records any files.
pub(crate) fn judge(
    known: Option<&DestinationIdentity>,
    begun: bool,
    found: &MarkerFound,
    vault: &VaultId,
) -> Result<(), Doubt> {
    match (known, found) {
        // A state of an earlier release has no identity yet, but a marker belongs to some state.
        (None, MarkerFound::Marker { .. }) if begun => Err(Doubt::OtherDestination),
        (None, _) | (Some(_), MarkerFound::Unchanged | MarkerFound::Impossible) => Ok(()),
        (Some(known), MarkerFound::Absent) if known.is_unwritten() => Ok(()),
        (Some(known), MarkerFound::Marker { marker, .. }) => {
            let is_known = marker.generation == known.generation || Some(marker.generation) == known.next;
            match (marker.id == known.id && marker.vault == *vault, is_known) {
                (true, true) => Ok(()),
                (true, false) => Err(Doubt::OtherGeneration),
                (false, _) => Err(Doubt::OtherDestination),
            }
        }
        (Some(_), MarkerFound::Absent) => Err(Doubt::NoMarker),
        (Some(_), MarkerFound::Damaged { .. }) => Err(Doubt::DamagedMarker),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(digit: char) -> RandomId {
        digit.to_string().repeat(32).parse().unwrap()
    }

    fn marker(of: char, generation: char, vault: &str) -> MarkerFound {
        let vault = vault.parse().unwrap();
        let marker = Marker { format: MARKER_FORMAT, id: id(of), vault, generation: id(generation) };
        MarkerFound::Marker { marker, tag: None }
    }

    #[test]
    fn a_destination_is_known_by_its_id_and_by_the_generation_that_was_or_was_to_be_written() {
        let known = DestinationIdentity { id: id('a'), generation: id('1'), next: Some(id('2')), tag: None };
        let vault = "vault-1".parse().unwrap();
        let damaged = MarkerFound::Damaged { reason: String::new() };
        let unwritten = DestinationIdentity { next: Some(id('1')), ..known.clone() };
        assert_eq!(judge(Some(&unwritten), true, &MarkerFound::Absent, &vault), Ok(()), "it never had one");
        for (found, verdict) in [
            (marker('a', '1', "vault-1"), Ok(())),
            (marker('a', '2', "vault-1"), Ok(())),
            (MarkerFound::Unchanged, Ok(())),
            (MarkerFound::Impossible, Ok(())),
            (marker('a', '3', "vault-1"), Err(Doubt::OtherGeneration)),
            (marker('b', '1', "vault-1"), Err(Doubt::OtherDestination)),
            (marker('a', '1', "vault-2"), Err(Doubt::OtherDestination)),
            (MarkerFound::Absent, Err(Doubt::NoMarker)),
            (damaged, Err(Doubt::DamagedMarker)),
        ] {
            assert_eq!(judge(Some(&known), true, &found, &vault), verdict, "{found:?}");
        }
        for found in [MarkerFound::Absent, MarkerFound::Damaged { reason: String::new() }] {
            assert_eq!(judge(None, true, &found, &vault), Ok(()), "{found:?}");
        }
        assert_eq!(judge(None, true, &marker('b', '1', "vault-1"), &vault), Err(Doubt::OtherDestination));
        assert_eq!(judge(None, false, &marker('b', '1', "vault-1"), &vault), Ok(()), "nothing was believed");
    }

    #[test]
    fn a_marker_is_read_as_it_was_written_and_one_of_a_newer_release_is_told() {
        let MarkerFound::Marker { marker, .. } = marker('a', 'f', "vault-1") else { unreachable!() };
        let text = marker.to_text().unwrap();
        assert_eq!(Marker::from_text(&text), Ok(marker));
        let newer = text.replace("\"format\":1", "\"format\":2,\"more\":{}");
        assert_eq!(Marker::from_text(&newer), Err(MarkerError::Newer { found: 2 }));
        for damaged in ["", "{}", "{\"format\":1}", &text.replace("ff", "FF"), &text[..text.len() / 2]] {
            assert!(matches!(Marker::from_text(damaged), Err(MarkerError::Damaged { .. })), "{damaged}");
        }
    }
}

//! Whether a vault may be opened as the service lists it.
//!
//! The service says how each vault is encrypted, and hands out the password of standard ones. Nothing proves what it says.
//! So it is compared with the secret and the settings before a key is derived, sent, or taken from what the process kept:
//! a vault for which the owner gave a password or key is never opened by a password that the service hands out.

use std::fmt;
use std::str::FromStr;

use obsync_protocol::{EncryptionVersion, VaultInfo, limits};

use crate::secrets::VaultSecret;

/// Who knows the password of a vault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// The service, which hands it out.
    Standard,
    /// Its owner alone.
    EndToEnd,
}

/// What is known of a vault without the service.
#[derive(Clone, Copy)]
pub(crate) struct Knowledge<'a> {
    /// What the secret has for it.
    pub(crate) secret: Option<&'a VaultSecret>,
    /// Whether there is a password that does not say for which vault it is.
    pub(crate) has_global_password: bool,
    /// The only kind that is to be opened.
    pub(crate) wanted: Option<Kind>,
    /// Whether it was synced before.
    pub(crate) was_synced: bool,
}

/// Why a vault is not opened. Nothing was derived or sent.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Distrust {
    #[error("the vault is listed as {listed} encrypted, and OBSYNC_ENCRYPTION is {wanted}; nothing was sent")]
    NotAsWanted { listed: Kind, wanted: Kind },
    #[error(
        "the service hands out a password for this vault, but the secret has a password or key for it, so it was end-to-end \
         encrypted: whoever controls the service could read and forge its notes. Nothing was sent or changed; \
         deploy/README.md (\"Encryption\") says how to go on if you converted the vault yourself"
    )]
    Weaker,
    #[error(
        "the {what} of this vault is not the one that the key in the secret was made for, so a key for it could help whoever \
         controls the service to guess its password. Nothing was sent or changed; deploy/README.md (\"Encryption\") says how \
         to go on if you encrypted the vault anew yourself"
    )]
    Changed { what: &'static str },
    #[error(
        "the key in the secret does not say for which encryption version and salt it was made; make the secret anew with \
         `obsync credentials export`"
    )]
    KeyOfUnknownSalt,
    #[error(
        "OBSYNC_VAULT_PASSWORD is set, but the service hands out a password itself for this vault, which was not synced \
         before: either it is a standard vault and the password is for another one, or it is yours and somebody wants to pass \
         another off as it. Nothing was sent; deploy/README.md (\"Encryption\") says how to tell the function which it is"
    )]
    InDoubt,
    #[error(
        "the vault has a salt of {bytes} bytes and was not synced before; {} are the least for its encryption version, as a \
         short one helps to guess the password. Nothing was sent; make a new vault in Obsidian, and move the notes there",
        limits::LEAST_SALT
    )]
    ShortSalt { bytes: usize },
}

impl Kind {
    /// The kind of a listed vault: the service hands a password out, or it does not.
    pub(crate) fn of(vault: &VaultInfo) -> Self {
        match &vault.password {
            Some(_) => Kind::Standard,
            None => Kind::EndToEnd,
        }
    }

    /// The word for it.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Kind::Standard => "standard",
            Kind::EndToEnd => "end-to-end",
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Kind {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        [Kind::Standard, Kind::EndToEnd]
            .into_iter()
            .find(|kind| kind.as_str() == text)
            .ok_or("it is neither standard nor end-to-end")
    }
}

/// Compares what the service lists of a vault, whose encryption version is known, with what is known of it.
///
/// # Errors
/// [`Distrust`] if the vault must not be opened.
pub(crate) fn check(
    listed: &VaultInfo,
    version: EncryptionVersion,
    known: &Knowledge<'_>,
) -> Result<(), Distrust> {
    let kind = Kind::of(listed);
    if let Some(wanted) = known.wanted.filter(|wanted| *wanted != kind) {
        return Err(Distrust::NotAsWanted { listed: kind, wanted });
    }
    match kind {
        Kind::Standard if known.secret.is_some() => Err(Distrust::Weaker),
        Kind::Standard => {
            let in_doubt = known.has_global_password && known.wanted.is_none() && !known.was_synced;
            if in_doubt { Err(Distrust::InDoubt) } else { Ok(()) }
        }
        Kind::EndToEnd => match known.secret {
            Some(VaultSecret::Key { of: None, .. }) => Err(Distrust::KeyOfUnknownSalt),
            Some(VaultSecret::Key { of: Some(of), .. }) if of.version != version => {
                Err(Distrust::Changed { what: "encryption version" })
            }
            Some(VaultSecret::Key { of: Some(of), .. }) if of.salt != listed.salt => {
                Err(Distrust::Changed { what: "salt" })
            }
            // Whoever exported the key has looked at the salt.
            Some(VaultSecret::Key { .. }) => Ok(()),
            Some(VaultSecret::Password(_)) | None => long_enough(listed, version, known),
        },
    }
}

/// A short salt of versions 2 and 3 is refused for a vault that was not synced before.
fn long_enough(
    listed: &VaultInfo,
    version: EncryptionVersion,
    known: &Knowledge<'_>,
) -> Result<(), Distrust> {
    let bytes = listed.salt.len();
    let is_short = version != EncryptionVersion::V0 && bytes < limits::LEAST_SALT;
    if is_short && !known.was_synced { Err(Distrust::ShortSalt { bytes }) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use obsync_protocol::MasterKey;
    use obsync_testkit::vault_info;

    use super::*;
    use crate::secrets::KeySubject;

    const SALT: &str = "0123456789abcdef0123456789abcdef";
    const NOTHING: Knowledge<'_> =
        Knowledge { secret: None, has_global_password: false, wanted: None, was_synced: false };

    fn end_to_end(salt: &str) -> VaultInfo {
        VaultInfo { salt: salt.to_owned(), ..vault_info("v", "Notes") }
    }

    fn standard() -> VaultInfo {
        VaultInfo { password: Some("handed out".into()), ..end_to_end("short") }
    }

    fn key(of: Option<(EncryptionVersion, &str)>) -> VaultSecret {
        let key = MasterKey::from_hex(&"0".repeat(64)).unwrap();
        VaultSecret::Key { key, of: of.map(|(version, salt)| KeySubject { version, salt: salt.to_owned() }) }
    }

    fn checked(listed: &VaultInfo, known: &Knowledge<'_>) -> Result<(), Distrust> {
        check(listed, EncryptionVersion::V3, known)
    }

    #[test]
    fn a_vault_of_the_secret_is_never_opened_by_a_password_that_the_service_hands_out() {
        for secret in [key(Some((EncryptionVersion::V3, "short"))), VaultSecret::Password("mine".into())] {
            for was_synced in [false, true] {
                let known = Knowledge { secret: Some(&secret), was_synced, ..NOTHING };
                assert_eq!(checked(&standard(), &known), Err(Distrust::Weaker));
                let known = Knowledge { wanted: Some(Kind::Standard), ..known };
                assert_eq!(checked(&standard(), &known), Err(Distrust::Weaker));
            }
        }
        assert_eq!(checked(&standard(), &NOTHING), Ok(()));
    }

    #[test]
    fn a_key_opens_only_what_it_was_made_for() {
        let with =
            |secret: &VaultSecret| checked(&end_to_end(SALT), &Knowledge { secret: Some(secret), ..NOTHING });
        assert_eq!(with(&key(Some((EncryptionVersion::V3, SALT)))), Ok(()));
        assert_eq!(
            with(&key(Some((EncryptionVersion::V2, SALT)))),
            Err(Distrust::Changed { what: "encryption version" })
        );
        assert_eq!(
            with(&key(Some((EncryptionVersion::V3, "other")))),
            Err(Distrust::Changed { what: "salt" })
        );
        assert_eq!(with(&key(None)), Err(Distrust::KeyOfUnknownSalt));
    }

    #[test]
    fn only_the_wanted_kind_is_opened() {
        let with =
            |listed: &VaultInfo, wanted| checked(listed, &Knowledge { wanted: Some(wanted), ..NOTHING });
        let refused = |listed, wanted| Err(Distrust::NotAsWanted { listed, wanted });
        assert_eq!(with(&standard(), Kind::EndToEnd), refused(Kind::Standard, Kind::EndToEnd));
        assert_eq!(with(&end_to_end(SALT), Kind::Standard), refused(Kind::EndToEnd, Kind::Standard));
        assert_eq!(with(&end_to_end(SALT), Kind::EndToEnd), Ok(()));
        assert_eq!(with(&standard(), Kind::Standard), Ok(()));
    }

    #[test]
    fn a_standard_vault_beside_a_password_is_refused_until_it_was_synced_or_said_to_be_one() {
        let known = Knowledge { has_global_password: true, ..NOTHING };
        assert_eq!(checked(&standard(), &known), Err(Distrust::InDoubt));
        assert_eq!(checked(&standard(), &Knowledge { was_synced: true, ..known }), Ok(()));
        assert_eq!(checked(&standard(), &Knowledge { wanted: Some(Kind::Standard), ..known }), Ok(()));
    }

    #[test]
    fn a_short_salt_is_refused_for_a_vault_that_was_not_synced_before() {
        let password = VaultSecret::Password("mine".into());
        let known = Knowledge { secret: Some(&password), ..NOTHING };
        assert_eq!(checked(&end_to_end("short"), &known), Err(Distrust::ShortSalt { bytes: 5 }));
        assert_eq!(checked(&end_to_end("short"), &Knowledge { was_synced: true, ..known }), Ok(()));
        assert_eq!(check(&end_to_end("short"), EncryptionVersion::V0, &known), Ok(()));
    }
}

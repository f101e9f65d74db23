//! Decides whether a vault may be opened as the service lists it.
//!
//! The service states how each vault is encrypted, and provides the password of standard ones. Its statements
//! are unproven. So they are compared with the pins in the table, with the secret and with the settings
//! before a key is derived, sent, or taken from the process's cache: a vault for which the owner gave a
//! password or key, or that was end-to-end encrypted before, is never opened by a password from the service.
//! [`obsync_core::pin`] decides; this adds the secret's contents.

use obsync_core::pin::{
    FoundPin, Opening, PasswordAtHand, Pin, PinDecision, PinPlace, PinRefusal, VaultEncryption, VaultKind,
    Wish, check,
};

use crate::secrets::{KeySubject, VaultSecret};

/// Knowledge about a vault independent of the service.
#[derive(Clone)]
pub(crate) struct Knowledge<'a> {
    /// The secret's credentials for it.
    pub(crate) secret: Option<&'a VaultSecret>,
    /// There is a password for any vault.
    pub(crate) has_global_password: bool,
    /// The only kind of encryption to accept.
    pub(crate) wanted: Option<VaultKind>,
    /// The pins of the table.
    pub(crate) pins: Vec<FoundPin>,
}

/// Why a vault is not opened. Nothing was derived or sent.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Distrust {
    #[error("{0}; see deploy/README.md (\"Encryption\") for the function")]
    Pin(#[from] PinRefusal),
    #[error(
        "the service hands out a password for this vault, but the secret has a password or key for it, so it was end-to-end \
         encrypted: whoever controls the service could read and forge its notes. Nothing was sent or changed; \
         deploy/README.md (\"Encryption\") says how to continue if you converted the vault yourself"
    )]
    Weaker,
    #[error(
        "the key in the secret does not say for which encryption version and salt it was made, and no pin in the table does; \
         make the secret anew with `obsync credentials export`"
    )]
    KeyOfUnknownSalt,
}

/// Compares the service's listing of a vault (its [pin](Pin::of)) with the knowledge about it.
///
/// # Errors
/// [`Distrust`] if the vault must not be opened.
pub(crate) fn judge(listed: &Pin, known: &Knowledge<'_>) -> Result<Opening, Distrust> {
    let kind = listed.encryption.kind();
    if kind == VaultKind::Standard && known.secret.is_some() {
        return Err(Distrust::Weaker);
    }
    let password = match known.secret {
        Some(_) => PasswordAtHand::OfThisVault,
        None if known.has_global_password => PasswordAtHand::Unnamed,
        None => PasswordAtHand::None,
    };
    let wish = Wish { encryption: known.wanted, password, accepts_change: false };
    let mut found = known.pins.clone();
    found.extend(known.secret.and_then(|secret| pin_of(secret, listed)));
    let opening = match check(listed.clone(), &found, &wish) {
        PinDecision::Open(opening) => *opening,
        // Nobody can be asked.
        PinDecision::Ask(_, refusal) | PinDecision::Refuse(refusal) => return Err(refusal.into()),
    };
    let is_pinned = || found.iter().any(|found| is_same(&found.pin, listed));
    match known.secret {
        Some(VaultSecret::Key { of: None, .. }) if !is_pinned() => Err(Distrust::KeyOfUnknownSalt),
        _ => Ok(opening),
    }
}

/// The subject of a key in the secret, as a pin.
fn pin_of(secret: &VaultSecret, listed: &Pin) -> Option<FoundPin> {
    let VaultSecret::Key { of: Some(KeySubject { version, salt }), .. } = secret else { return None };
    let encryption = VaultEncryption::EndToEnd { version: *version, salt: salt.clone() };
    let pin = Pin::new(&listed.service, listed.vault.clone(), &listed.name, encryption);
    Some(FoundPin { place: PinPlace::Secret, is_of_destination: false, pin })
}

fn is_same(pin: &Pin, listed: &Pin) -> bool {
    pin.service == listed.service && pin.vault == listed.vault && pin.encryption == listed.encryption
}

#[cfg(test)]
mod tests {
    use obsync_protocol::{EncryptionVersion, MasterKey};

    use obsync_client::Password;

    use super::*;

    const SALT: &str = "0123456789abcdef0123456789abcdef";
    const NOTHING: Knowledge<'_> =
        Knowledge { secret: None, has_global_password: false, wanted: None, pins: Vec::new() };

    fn pin(encryption: VaultEncryption) -> Pin {
        Pin::new("https://api.example/", "v".parse().unwrap(), "Notes", encryption)
    }

    fn end_to_end(version: EncryptionVersion, salt: &str) -> VaultEncryption {
        VaultEncryption::EndToEnd { version, salt: salt.to_owned() }
    }

    fn usual() -> Pin {
        pin(end_to_end(EncryptionVersion::V3, SALT))
    }

    fn standard() -> Pin {
        pin(VaultEncryption::Standard)
    }

    fn key(of: Option<(EncryptionVersion, &str)>) -> VaultSecret {
        let key = MasterKey::from_hex(&"0".repeat(64)).unwrap();
        VaultSecret::Key { key, of: of.map(|(version, salt)| KeySubject { version, salt: salt.to_owned() }) }
    }

    fn in_table(pin: Pin) -> Vec<FoundPin> {
        vec![FoundPin { place: PinPlace::Table, is_of_destination: false, pin }]
    }

    #[test]
    fn a_vault_of_the_secret_is_never_opened_by_a_password_that_the_service_hands_out() {
        for secret in [
            key(Some((EncryptionVersion::V3, SALT))),
            VaultSecret::Password(Password::exactly("mine".into())),
        ] {
            for wanted in [None, Some(VaultKind::Standard)] {
                let known = Knowledge { secret: Some(&secret), wanted, ..NOTHING };
                assert_eq!(judge(&standard(), &known), Err(Distrust::Weaker));
            }
        }
        assert!(judge(&standard(), &NOTHING).is_ok());
    }

    #[test]
    fn a_vault_that_the_table_knows_as_end_to_end_encrypted_is_not_opened_as_a_standard_one() {
        let known = Knowledge { pins: in_table(usual()), ..NOTHING };
        let refused = judge(&standard(), &known);
        assert!(matches!(refused, Err(Distrust::Pin(PinRefusal::Weaker { .. }))), "{refused:?}");
        assert!(judge(&usual(), &known).is_ok());
    }

    #[test]
    fn a_key_opens_only_what_it_was_made_for() {
        let with = |secret: &VaultSecret, pins| {
            judge(&usual(), &Knowledge { secret: Some(secret), pins, ..NOTHING })
        };
        let is_changed = |judged| matches!(judged, Err(Distrust::Pin(PinRefusal::Changed { .. })));
        assert!(with(&key(Some((EncryptionVersion::V3, SALT))), Vec::new()).is_ok());
        assert!(is_changed(with(&key(Some((EncryptionVersion::V2, SALT))), Vec::new())));
        assert!(is_changed(with(&key(Some((EncryptionVersion::V3, "other"))), Vec::new())));
        assert_eq!(with(&key(None), Vec::new()).map(drop), Err(Distrust::KeyOfUnknownSalt));
        assert!(with(&key(None), in_table(usual())).is_ok(), "the pin in the table agrees");
    }

    #[test]
    fn a_standard_vault_beside_a_password_is_refused_until_it_is_pinned_or_said_to_be_one() {
        let known = Knowledge { has_global_password: true, ..NOTHING };
        let refused = judge(&standard(), &known);
        assert!(matches!(refused, Err(Distrust::Pin(PinRefusal::PasswordUnused { .. }))), "{refused:?}");
        assert!(judge(&standard(), &Knowledge { pins: in_table(standard()), ..known.clone() }).is_ok());
        assert!(judge(&standard(), &Knowledge { wanted: Some(VaultKind::Standard), ..known }).is_ok());
    }
}

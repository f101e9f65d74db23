//! Master keys of vaults, stored so that a vault's password is asked for once, and a key derived once.
//!
//! A key is filed under all inputs of its derivation except the password. The file can open the vault's
//! content, but contains neither the password, which people use elsewhere too, nor anything that helps to
//! guess it faster than the key itself does. Only the service can tell whether the password has changed.

use obsync_core::pin::{Pin, VaultEncryption};
use obsync_protocol::{ContentHash, EncryptionVersion, MasterKey, VaultId, VaultKeys, limits};
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};
use url::Url;

use crate::account::pins::{KeptPin, PinFile, key_fingerprint};
use crate::exit::Failed;
use crate::home::Home;
use crate::private_file::{self, PrivateFile};
use crate::ui::console::Console;

/// The file's name.
const FILE: &str = "keys.json";

/// The file `keys.json`.
#[derive(Debug)]
pub(crate) struct KeyFile {
    file: PrivateFile,
}

/// The inputs of a key's derivation except the password.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Subject {
    api_url: String,
    vault: VaultId,
    salt: String,
    encryption_version: u8,
    /// The service provided the password.
    #[serde(default)]
    handed_out: bool,
}

/// The format of the file.
#[derive(Default, Serialize, Deserialize)]
struct KeysFile {
    #[serde(default)]
    keys: Vec<Kept>,
}

#[derive(Serialize, Deserialize)]
struct Kept {
    #[serde(flatten)]
    subject: Subject,
    /// 64 hexadecimal digits.
    #[serde(with = "crate::account::secret_text")]
    master_key: SecretString,
}

impl private_file::Content for KeysFile {
    /// A salt that is too long is unusable, but the key's existence shows that the vault was end-to-end
    /// encrypted.
    fn drop_oversized(&mut self) {
        self.keys.retain(|kept| kept.master_key.expose_secret().len() <= limits::NAME);
        for kept in self.keys.iter_mut().filter(|kept| kept.subject.salt.len() > limits::SALT) {
            kept.subject.salt = format!("too long: {}", ContentHash::of(kept.subject.salt.as_bytes()));
        }
    }
}

impl Subject {
    /// A vault of the service at `api_url`, with its owner's password.
    pub(crate) fn new(api_url: &Url, vault: &VaultId, salt: &str, version: EncryptionVersion) -> Self {
        Subject {
            api_url: api_url.to_string(),
            vault: vault.clone(),
            salt: salt.to_owned(),
            encryption_version: version.number(),
            handed_out: false,
        }
    }

    /// The same vault, with the service's password. The keys are separate: one chosen by the service must
    /// never open a vault that claims to be end-to-end encrypted.
    pub(crate) fn with_password_of_the_service(self) -> Self {
        Subject { handed_out: true, ..self }
    }
}

impl KeyFile {
    /// The file at its path; it need not exist.
    pub(crate) fn new(home: &Home) -> Self {
        // Without pins, only the keys show that a vault was end-to-end encrypted.
        let file = match PinFile::is_there(home) {
            true => {
                PrivateFile::new(home.config(), FILE, "remove it, and obsync asks for the vault passwords again")
            }
            false => PrivateFile::new(
                home.config(),
                FILE,
                "restore it from a copy; docs/SEMANTICS.md (\"Encryption that changes\") says what else can be done",
            )
            .irreplaceable(),
        };
        KeyFile { file }
    }

    /// The stored key for `subject`. An invalid one counts as missing: the password is asked for again.
    pub(crate) fn load(&self, subject: &Subject, console: &Console) -> Result<Option<MasterKey>, Failed> {
        let content: KeysFile = self.file.read(console)?;
        let kept = content.keys.iter().find(|kept| kept.subject == *subject);
        Ok(kept.and_then(|kept| MasterKey::from_hex(kept.master_key.expose_secret()).ok()))
    }

    /// Registers the stored keys and their proofs as secrets of the console, so that it prints neither.
    pub(crate) fn hide(&self, console: &Console) -> Result<(), Failed> {
        let content: KeysFile = self.file.read(console)?;
        for Kept { subject, master_key } in &content.keys {
            console.redactor().know(master_key.expose_secret());
            let version = EncryptionVersion::try_from(u64::from(subject.encryption_version));
            if let (Ok(version), Ok(key)) = (version, MasterKey::from_hex(master_key.expose_secret())) {
                let keys = VaultKeys::new(&key, version, &subject.salt);
                console.redactor().know(keys.key_hash().as_str());
            }
        }
        Ok(())
    }

    /// The pins implied by the keys of end-to-end encrypted vaults, one for each vault: that of its last key.
    pub(crate) fn pins(&self, console: &Console) -> Result<Vec<KeptPin>, Failed> {
        let content: KeysFile = self.file.read(console)?;
        let mut pins: Vec<KeptPin> = Vec::new();
        for kept in content.keys.iter().filter(|kept| !kept.subject.handed_out) {
            let Some(pin) = kept.pin() else { continue };
            pins.retain(|known| known.pin.service != pin.pin.service || known.pin.vault != pin.pin.vault);
            pins.push(pin);
        }
        Ok(pins)
    }

    /// Replaces a stored key.
    pub(crate) fn save(&self, subject: &Subject, key: &MasterKey, console: &Console) -> Result<(), Failed> {
        self.file.update(console, |content: &mut KeysFile| {
            content.keys.retain(|kept| kept.subject != *subject);
            content.keys.push(Kept { subject: subject.clone(), master_key: key.expose_hex() });
            true
        })
    }

    /// Removes the keys of all vaults of the service at `api_url`.
    pub(crate) fn forget_all(&self, api_url: &Url, console: &Console) -> Result<(), Failed> {
        self.file.update(console, |content: &mut KeysFile| {
            let before = content.keys.len();
            content.keys.retain(|kept| kept.subject.api_url != api_url.as_str());
            content.keys.len() != before
        })
    }
}

impl Kept {
    /// The pin implied by the key, if the key is valid. The file has no names of vaults.
    fn pin(&self) -> Option<KeptPin> {
        let Subject { api_url, vault, salt, encryption_version, .. } = &self.subject;
        let version = EncryptionVersion::try_from(u64::from(*encryption_version)).ok()?;
        let encryption = VaultEncryption::EndToEnd { version, salt: salt.clone() };
        let key = MasterKey::from_hex(self.master_key.expose_secret()).ok();
        let key_fingerprint = key.map(|key| key_fingerprint(&key));
        Some(KeptPin { pin: Pin::new(api_url, vault.clone(), "", encryption), key_fingerprint })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn subject(api_url: &str, salt: &str) -> Subject {
        Subject::new(&Url::parse(api_url).unwrap(), &"vault-1".parse().unwrap(), salt, EncryptionVersion::V3)
    }

    fn load(keys: &KeyFile, subject: &Subject) -> Option<String> {
        keys.load(subject, &Console::new(true))
            .unwrap()
            .map(|key| key.expose_hex().expose_secret().to_owned())
    }

    #[test]
    fn a_key_is_found_for_what_it_was_derived_for_and_nothing_else() {
        let directory = tempfile::tempdir().unwrap();
        let keys = KeyFile::new(&Home::find(Some(directory.path().into())).unwrap());
        let (first, second) = ("11".repeat(32), "22".repeat(32));
        let mine = subject("https://a.example", "salt");
        for text in [&first, &second] {
            keys.save(&mine, &MasterKey::from_hex(text).unwrap(), &Console::new(true)).unwrap();
        }
        assert_eq!(load(&keys, &mine), Some(second));
        assert_eq!(load(&keys, &subject("https://a.example", "new salt")), None);
        assert_eq!(load(&keys, &subject("https://b.example", "salt")), None);
        assert_eq!(load(&keys, &mine.clone().with_password_of_the_service()), None);
        keys.forget_all(&Url::parse("https://b.example").unwrap(), &Console::new(true)).unwrap();
        assert!(load(&keys, &mine).is_some());
        keys.forget_all(&Url::parse("https://a.example").unwrap(), &Console::new(true)).unwrap();
        assert_eq!(load(&keys, &mine), None);
    }
}

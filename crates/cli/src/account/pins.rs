//! The pins of this user: each vault's encryption when it was last opened, in `pins.json`.
//!
//! Neither `logout` nor `reset` removes them. Releases before pins stored the keys of end-to-end encrypted
//! vaults, so those imply pins, too, until the file has better ones. A pin has a fingerprint of the key, so
//! that the key of a mistyped password is not sent to the service. The fingerprint has 16 bits: enough to
//! notice a mistake, too few to guess the password by.

use obsync_core::pin::{FoundPin, Pin, PinPlace, VaultEncryption};
use obsync_protocol::{ContentHash, MasterKey, VaultId};
use obsync_sqlite::{SqliteState, StateCatalog};
use secrecy::ExposeSecret;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::account::keys::KeyFile;
use crate::exit::{Exit, Failed};
use crate::home::Home;
use crate::private_file::{self, PrivateFile};
use crate::ui::console::Console;

/// The format of the file that this program writes. 0 stands for a missing file.
const FORMAT: u32 = 1;
/// The file's name.
const FILE: &str = "pins.json";
/// Hexadecimal digits of a key's fingerprint.
const FINGERPRINT_DIGITS: usize = 4;

/// The file `pins.json`.
#[derive(Debug)]
pub(crate) struct PinFile {
    file: PrivateFile,
    states: StateCatalog,
}

/// The format of the file.
#[derive(Default, Serialize, Deserialize)]
struct PinsFile {
    format: u32,
    pins: Vec<KeptPin>,
}

impl private_file::Content for PinsFile {
    /// Pins are bounded when they are made.
    fn drop_oversized(&mut self) {}
}

/// A pin of this user.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct KeptPin {
    pub(crate) pin: Pin,
    /// Fingerprint of the vault's key, if the vault is end-to-end encrypted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) key_fingerprint: Option<String>,
}

/// All pins of this user.
#[derive(Debug, Default)]
pub(crate) struct HomePins(Vec<KeptPin>);

impl PinFile {
    /// The file at its path; it need not exist.
    pub(crate) fn new(home: &Home) -> Self {
        let remedy = "restore it from a copy; docs/SEMANTICS.md (\"Encryption that changes\") says what else can be done";
        // Without it, opening a known vault would count as a first contact.
        let file = PrivateFile::new(home.config(), FILE, remedy).irreplaceable();
        PinFile { file, states: StateCatalog::new(home.state()) }
    }

    /// All pins, including those implied by stored keys.
    ///
    /// # Errors
    /// When the file is unreadable or invalid; or when it was never written, and the file of keys is
    /// unreadable.
    pub(crate) fn load(&self, keys: &KeyFile, console: &Console) -> Result<HomePins, Failed> {
        let content: PinsFile = self.file.read(console)?;
        let of_keys = match (content.format, keys.pins(console)) {
            (0 | FORMAT, Ok(pins)) => pins,
            // The keys were taken over when the file was created.
            (FORMAT, Err(_)) => Vec::new(),
            (0, Err(failed)) => return Err(failed),
            _ => return Err(Failed::new(Exit::Error, "a newer obsync wrote pins.json; update obsync")),
        };
        let mut pins = content.pins;
        for kept in of_keys {
            if !pins.iter().any(|known| known.is_of(&kept.pin.service, &kept.pin.vault)) {
                pins.push(kept);
            }
        }
        self.name(&mut pins);
        Ok(HomePins(pins))
    }

    /// True if it was ever written: if not, only keys stored before there were pins are known.
    pub(crate) fn is_there(home: &Home) -> bool {
        home.config().join(FILE).symlink_metadata().is_ok()
    }

    /// Adds the vault names in this user's states to pins implied by stored keys, which have none. An
    /// unreadable state has no names.
    fn name(&self, pins: &mut [KeptPin]) {
        if pins.iter().all(|kept| !kept.pin.name.is_empty()) {
            return;
        }
        for database in self.states.databases().unwrap_or_default() {
            let Ok(state) = SqliteState::read(&database) else { continue };
            let Some(identity) = state.identity() else { continue };
            for pin in pins.iter_mut().map(|kept| &mut kept.pin).filter(|pin| pin.vault == identity.vault_id)
            {
                pin.learn_name(&identity.vault_name);
            }
        }
    }

    /// Replaces a pin, and writes those implied by stored keys.
    ///
    /// # Errors
    /// As for [`load`](Self::load), and when the file cannot be written.
    pub(crate) fn keep(&self, kept: &KeptPin, keys: &KeyFile, console: &Console) -> Result<(), Failed> {
        let HomePins(mut pins) = self.load(keys, console)?;
        if pins.contains(kept) && self.is_begun(console)? {
            return Ok(());
        }
        // Pins that other processes filed meanwhile stay.
        self.file.update(console, |content: &mut PinsFile| {
            pins.retain(|pin| {
                !content.pins.iter().any(|known| known.is_of(&pin.pin.service, &pin.pin.vault))
            });
            content.pins.append(&mut pins);
            content.pins.retain(|known| !known.is_of(&kept.pin.service, &kept.pin.vault));
            content.pins.push(kept.clone());
            content.format = FORMAT;
            true
        })
    }

    /// Writes the pins implied by stored keys, before the keys are removed.
    ///
    /// # Errors
    /// As for [`keep`](Self::keep).
    pub(crate) fn take_over(&self, keys: &KeyFile, console: &Console) -> Result<(), Failed> {
        let HomePins(pins) = self.load(keys, console)?;
        pins.iter().try_for_each(|pin| self.keep(pin, keys, console))
    }

    fn is_begun(&self, console: &Console) -> Result<bool, Failed> {
        Ok(self.file.read::<PinsFile>(console)?.format == FORMAT)
    }
}

impl HomePins {
    pub(crate) fn found(&self) -> Vec<FoundPin> {
        let found = |kept: &KeptPin| FoundPin {
            place: PinPlace::Home,
            is_of_destination: false,
            pin: kept.pin.clone(),
        };
        self.0.iter().map(found).collect()
    }

    /// The fingerprint of the key that opened a vault with the listed encryption.
    pub(crate) fn key_fingerprint(&self, listed: &Pin) -> Option<&str> {
        let kept = self.0.iter().find(|kept| kept.is_of(&listed.service, &listed.vault))?;
        kept.key_fingerprint.as_deref().filter(|_| kept.pin.encryption == listed.encryption)
    }

    /// The pinned encryption of a vault, of any service.
    pub(crate) fn of_vault(&self, vault: &str) -> Option<&VaultEncryption> {
        let kept = self.0.iter().find(|kept| kept.pin.vault.as_str() == vault)?;
        Some(&kept.pin.encryption)
    }
}

impl KeptPin {
    fn is_of(&self, service: &str, vault: &VaultId) -> bool {
        self.pin.service == service && self.pin.vault == *vault
    }
}

/// A fingerprint of a vault's key.
pub(crate) fn key_fingerprint(key: &MasterKey) -> String {
    let text = Zeroizing::new(format!("obsync key fingerprint\n{}", key.expose_hex().expose_secret()));
    let mut digits = ContentHash::of(text.as_bytes()).to_string();
    digits.truncate(FINGERPRINT_DIGITS);
    digits
}

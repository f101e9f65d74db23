//! Derives a vault's keys from its password, and encodes and decodes names with them (docs/PROTOCOL.md
//! section 1).

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

use data_encoding::{HEXLOWER, HEXLOWER_PERMISSIVE};
use hkdf::Hkdf;
use secrecy::{ExposeSecret as _, SecretString};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use thiserror::Error;
use unicode_normalization::UnicodeNormalization as _;
use zeroize::Zeroizing;

use crate::content::{ContentDecryptor, ContentEncryptor, ContentError, NONCE_LENGTH};
use crate::gcm::{GcmKey, NONCE, TAG};
use crate::siv::Siv;
use crate::untrusted::shown_name;
use crate::{ContentHash, EncodedHash, EncodedPath, EncryptionVersion, PathError, VaultPath};

/// Limit of a deterministic text, in bytes of its plain form. No path is longer than 4096; the limit prevents
/// a server from using up memory, and the 16-bit counter of the name cipher from wrapping around.
const MAX_TEXT: usize = 32 * 1024;

/// Encrypted texts up to this size, in bytes, are decoded without allocating: hashes, and nearly all paths.
const SHORT: usize = 512;

/// The key that all other keys of a vault are derived from: 32 bytes, wiped from memory on drop.
///
/// Deriving it from the password is slow on purpose; a program stores this key, protected like a password.
#[derive(Clone)]
pub struct MasterKey(Zeroizing<[u8; 32]>);

impl MasterKey {
    /// scrypt (RFC 7914) of the password with the vault's salt, both normalised to NFKC; N = 32768, r = 8, p
    /// = 1. Takes 32 MiB of memory and tens of milliseconds of processor time.
    #[must_use]
    pub fn derive(password: &SecretString, salt: &str) -> Self {
        let password: Zeroizing<String> = Zeroizing::new(password.expose_secret().nfkc().collect());
        let salt: String = salt.nfkc().collect();
        let mut key = Zeroizing::new([0; 32]);
        scrypt_32768(password.as_bytes(), salt.as_bytes(), &mut key);
        Self(key)
    }

    /// Parses the output of [`expose_hex`](Self::expose_hex).
    ///
    /// # Errors
    /// [`KeyError`] if the text is not 64 hexadecimal digits.
    pub fn from_hex(text: &str) -> Result<Self, KeyError> {
        let mut key = Zeroizing::new([0; 32]);
        // The length first: the decoder needs an output of exactly the right size.
        if text.len() != 64 || HEXLOWER_PERMISSIVE.decode_mut(text.as_bytes(), &mut *key).is_err() {
            return Err(KeyError);
        }
        Ok(Self(key))
    }

    /// The key as 64 hexadecimal digits, to store it in a protected place.
    #[must_use]
    pub fn expose_hex(&self) -> SecretString {
        HEXLOWER.encode(&*self.0).into()
    }
}

impl fmt::Debug for MasterKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("MasterKey([REDACTED])")
    }
}

/// A text that is not a master key. The message does not show it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("a vault key has 64 hexadecimal digits; this one does not")]
pub struct KeyError;

#[expect(clippy::expect_used, reason = "the parameters and the length are constants that scrypt allows")]
fn scrypt_32768(password: &[u8], salt: &[u8], key: &mut [u8; 32]) {
    let params = scrypt::Params::new(15, 8, 1).expect("valid scrypt parameters");
    scrypt::scrypt(password, salt, &params, key).expect("valid scrypt output length");
}

/// HKDF-SHA-256 (RFC 5869), 32 bytes.
#[expect(clippy::expect_used, reason = "32 bytes are one block of SHA-256, never too many")]
fn hkdf_key(master: &MasterKey, salt: &str, info: &str) -> Zeroizing<[u8; 32]> {
    let mut key = Zeroizing::new([0; 32]);
    let hkdf = Hkdf::<Sha256>::new(Some(salt.as_bytes()), &*master.0);
    hkdf.expand(info.as_bytes(), &mut *key).expect("valid HKDF output length");
    key
}

/// A client's proof that it has a vault's password: hexadecimal text, sent with `init` and `/vault/access`.
/// It opens the vault to anyone with a token, so `Debug` does not show it.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct KeyHash(String);

impl KeyHash {
    /// The hexadecimal text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl From<String> for KeyHash {
    fn from(text: String) -> Self {
        Self(text)
    }
}

impl From<&str> for KeyHash {
    fn from(text: &str) -> Self {
        Self(text.to_owned())
    }
}

impl fmt::Debug for KeyHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("KeyHash([REDACTED])")
    }
}

/// All keys of one vault, expanded and ready to use. Clones share them.
#[derive(Clone)]
pub struct VaultKeys(Arc<Keys>);

struct Keys {
    version: EncryptionVersion,
    key_hash: KeyHash,
    names: NameCipher,
    content: GcmKey,
}

/// Cipher of deterministic text.
enum NameCipher {
    /// Version 0: with the content key and a nonce derived from the plaintext.
    Gcm,
    /// Versions 2 and 3. Boxed because of its size.
    Siv(Box<Siv>),
}

impl VaultKeys {
    /// Derives the keys of a vault from its master key, its encryption version and its salt.
    #[must_use]
    pub fn new(master: &MasterKey, version: EncryptionVersion, salt: &str) -> Self {
        let keys = match version {
            EncryptionVersion::V0 => Keys {
                version,
                key_hash: KeyHash(HEXLOWER.encode(&Sha256::digest(master.0.as_slice()))),
                names: NameCipher::Gcm,
                content: GcmKey::new(&master.0),
            },
            EncryptionVersion::V2 | EncryptionVersion::V3 => Keys {
                version,
                key_hash: KeyHash(HEXLOWER.encode(&*hkdf_key(master, salt, "ObsidianKeyHash"))),
                names: NameCipher::Siv(Box::new(Siv::new(
                    &hkdf_key(master, salt, "ObsidianAesSivMac"),
                    &hkdf_key(master, salt, "ObsidianAesSivEnc"),
                ))),
                content: GcmKey::new(&hkdf_key(master, "", "ObsidianAesGcm")),
            },
        };
        Self(Arc::new(keys))
    }

    /// The version of these keys.
    #[must_use]
    pub fn encryption_version(&self) -> EncryptionVersion {
        self.0.version
    }

    /// The proof of the password for the service.
    #[must_use]
    pub fn key_hash(&self) -> &KeyHash {
        &self.0.key_hash
    }

    /// The encoded form of a path. A path is encoded whole, not by segment.
    #[must_use]
    pub fn encode_path(&self, path: &VaultPath) -> EncodedPath {
        self.encode(path.as_str()).into()
    }

    /// Decodes a path.
    ///
    /// # Errors
    /// [`NameError::Undecodable`] if the text was not encoded with these keys, [`NameError::Hostile`] if it
    /// was and its path must not be used.
    pub fn decode_path(&self, encoded: impl AsRef<str>) -> Result<VaultPath, NameError> {
        self.decode(encoded.as_ref(), |path| {
            VaultPath::parse(path)
                .map_err(|source| NameError::Hostile { name: shown_name(path).into_owned(), source })
        })
    }

    /// The encoded form of a content hash.
    #[must_use]
    pub fn encode_hash(&self, hash: &ContentHash) -> EncodedHash {
        self.encode(&hash.to_string()).into()
    }

    /// Decodes a content hash.
    ///
    /// # Errors
    /// [`NameError::Undecodable`] if the text was not encoded with these keys or is no hash.
    pub fn decode_hash(&self, encoded: impl AsRef<str>) -> Result<ContentHash, NameError> {
        let not_a_hash = |_| NameError::Undecodable(NameDefect::NotAHash);
        self.decode(encoded.as_ref(), |hash| hash.parse().map_err(not_a_hash))
    }

    /// Deterministic text: equal texts have equal encodings.
    ///
    /// # Errors
    /// [`NameError::Undecodable`] for a text of more than 32 KiB, which could not be decoded.
    pub fn encode_text(&self, text: &str) -> Result<String, NameError> {
        if text.len() > MAX_TEXT {
            return Err(NameError::Undecodable(NameDefect::TooLong));
        }
        Ok(self.encode(text))
    }

    /// Decodes a deterministic text.
    ///
    /// # Errors
    /// [`NameError::Undecodable`] with the reason.
    pub fn decode_text(&self, encoded: &str) -> Result<String, NameError> {
        self.decode(encoded, |text| Ok(text.to_owned()))
    }

    /// Decrypts one blob of content, piece by piece.
    #[must_use]
    pub fn content_decryptor(&self) -> ContentDecryptor {
        ContentDecryptor::new(&self.0.content)
    }

    /// Encrypts one content, piece by piece.
    ///
    /// The nonce must be random and new: a second content under the same nonce reveals both.
    #[must_use]
    pub fn content_encryptor(&self, nonce: [u8; NONCE_LENGTH]) -> ContentEncryptor {
        ContentEncryptor::new(&self.0.content, nonce)
    }

    /// Encrypts a complete content; for the nonce see [`content_encryptor`](Self::content_encryptor).
    ///
    /// # Errors
    /// [`ContentError::TooLong`] beyond 64 GiB.
    pub fn seal(&self, nonce: [u8; NONCE_LENGTH], content: &[u8]) -> Result<Vec<u8>, ContentError> {
        let mut blob = Vec::with_capacity(content.len() + NONCE + TAG);
        let mut encryptor = self.content_encryptor(nonce);
        encryptor.update(content, &mut blob)?;
        encryptor.finish(&mut blob);
        Ok(blob)
    }

    /// Decrypts a complete blob.
    ///
    /// # Errors
    /// [`ContentError`] as for [`ContentDecryptor::finish`].
    pub fn open(&self, blob: &[u8]) -> Result<Vec<u8>, ContentError> {
        let mut content = Vec::with_capacity(blob.len().saturating_sub(NONCE + TAG));
        let mut decryptor = self.content_decryptor();
        decryptor.update(blob, &mut content)?;
        decryptor.finish()?;
        Ok(content)
    }

    /// Encodes a text that is known to be short enough.
    fn encode(&self, text: &str) -> String {
        let bytes = match &self.0.names {
            NameCipher::Gcm => self.encrypt_text_v0(text.as_bytes()),
            NameCipher::Siv(siv) => siv.encrypt(text.as_bytes()),
        };
        HEXLOWER.encode(&bytes)
    }

    /// Decodes a text and passes it to `read` without keeping it.
    fn decode<T>(
        &self,
        encoded: &str,
        read: impl FnOnce(&str) -> Result<T, NameError>,
    ) -> Result<T, NameError> {
        let undecodable = NameError::Undecodable;
        if encoded.len() > 2 * (MAX_TEXT + NONCE + TAG) {
            return Err(undecodable(NameDefect::TooLong));
        }
        let (mut short, mut long) = ([0; SHORT], Vec::new());
        let bytes = match short.get_mut(..encoded.len() / 2) {
            Some(bytes) => bytes,
            None => {
                long.resize(encoded.len() / 2, 0);
                long.as_mut_slice()
            }
        };
        // An odd digit first: the decoder needs an output of exactly the right size.
        if !encoded.len().is_multiple_of(2)
            || HEXLOWER_PERMISSIVE.decode_mut(encoded.as_bytes(), bytes).is_err()
        {
            return Err(undecodable(NameDefect::NotHexadecimal));
        }
        let plaintext = match &self.0.names {
            NameCipher::Gcm => self.decrypt_text_v0(bytes).map(Cow::Owned),
            NameCipher::Siv(siv) => siv.decrypt(bytes).map(Cow::Borrowed),
        };
        let plaintext = plaintext.ok_or(undecodable(NameDefect::Forged))?;
        read(std::str::from_utf8(&plaintext).map_err(|_| undecodable(NameDefect::NotText))?)
    }

    /// Version 0: a nonce that is a hash of the plaintext makes GCM deterministic.
    #[expect(clippy::expect_used, reason = "callers pass texts of at most 32 KiB, GCM takes 64 GiB")]
    fn encrypt_text_v0(&self, plaintext: &[u8]) -> Vec<u8> {
        let hash: [u8; 32] = Sha256::digest(plaintext).into();
        let mut nonce = [0; NONCE];
        nonce.copy_from_slice(&hash[..NONCE]);
        self.seal(nonce, plaintext).expect("a text short enough for GCM")
    }

    fn decrypt_text_v0(&self, text: &[u8]) -> Option<Vec<u8>> {
        // A bare nonce is an empty content, but as a name it would not be authenticated.
        if text.len() < NONCE + TAG {
            return None;
        }
        let plaintext = self.open(text).ok()?;
        // Contents are encrypted with the same key, each under a random nonce. Without this check the server
        // could pass a content off as a name.
        let hash = Sha256::digest(&plaintext);
        (text.get(..NONCE) == hash.get(..NONCE)).then_some(plaintext)
    }
}

impl fmt::Debug for VaultKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("VaultKeys").field("version", &self.0.version).finish_non_exhaustive()
    }
}

/// The reason why an encoded name cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum NameError {
    /// It cannot be decoded with this vault's keys.
    #[error("the encoded name cannot be decoded: {0}")]
    Undecodable(NameDefect),
    /// It can be decoded, but must not be used as a path.
    #[error("the name {name} is refused: {source}")]
    Hostile {
        /// The name, escaped for printing.
        name: String,
        /// The reason.
        source: PathError,
    },
}

/// The problem of an encoded name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum NameDefect {
    /// More than 32 KiB.
    #[error("it is too long for any name")]
    TooLong,
    /// Not hexadecimal text.
    #[error("it is not hexadecimal")]
    NotHexadecimal,
    /// It fails the authentication check.
    #[error("it is damaged or was made with another key")]
    Forged,
    /// The plaintext is not UTF-8.
    #[error("it holds no text")]
    NotText,
    /// The plaintext is not a content hash.
    #[error("it holds no content hash")]
    NotAHash,
}

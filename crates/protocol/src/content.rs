//! File content: encrypted and decrypted piece by piece, in memory that does not grow with the file.
//!
//! A blob is nonce (12 bytes) ‖ ciphertext ‖ tag (16 bytes), AES-256-GCM without associated data
//! (docs/PROTOCOL.md section 1). An empty file has no blob at all; a blob of exactly 12 bytes counts as an
//! empty content too, as in the official client.

use thiserror::Error;

use crate::gcm::{GcmKey, GcmStream, NONCE, TAG, TooLong};

/// Length of the nonce at the head of a blob, in bytes.
pub const NONCE_LENGTH: usize = NONCE;

/// Difference between the sizes of a blob and its content, in bytes: nonce and tag.
pub const CONTENT_OVERHEAD: u64 = (NONCE + TAG) as u64;

/// The size of the content of a blob of `encrypted` bytes; `None` if no blob has that size.
#[must_use]
pub fn plain_size(encrypted: u64) -> Option<u64> {
    match encrypted {
        0 | 12 => Some(0),
        _ => encrypted.checked_sub(CONTENT_OVERHEAD),
    }
}

/// The reason why a content cannot be decrypted or encrypted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum ContentError {
    /// The blob is too short for a nonce and a tag.
    #[error("the encrypted content is cut off: {received} bytes are too few for any content")]
    TooShort {
        /// Number of received bytes.
        received: u64,
    },
    /// The tag does not match: damaged, incomplete, or encrypted with another key.
    #[error("the encrypted content is damaged, incomplete or made with another key: its tag does not fit")]
    Forged,
    /// The content is longer than one nonce may encrypt.
    #[error("the content is longer than the 64 GiB that the cipher can take")]
    TooLong,
}

impl From<TooLong> for ContentError {
    fn from(_: TooLong) -> Self {
        Self::TooLong
    }
}

/// Decrypts one blob as its pieces arrive.
///
/// **The output of [`update`](Self::update) is not authentic until [`finish`](Self::finish) returned `Ok`**:
/// keep it hidden until then, and discard it otherwise.
pub struct ContentDecryptor {
    key: GcmKey,
    /// `None` until the nonce is complete.
    stream: Option<GcmStream>,
    /// The last bytes received: the nonce at first, then a possible tag.
    tail: Tail,
    received: u64,
}

impl ContentDecryptor {
    pub(crate) fn new(key: &GcmKey) -> Self {
        Self { key: key.clone(), stream: None, tail: Tail::default(), received: 0 }
    }

    /// Takes the next piece of the blob, of any length, and appends the plaintext known so far to `out`. The
    /// last 16 bytes received are always kept, since they may be the tag.
    ///
    /// # Errors
    /// [`ContentError::TooLong`] beyond 64 GiB.
    pub fn update(&mut self, piece: &[u8], out: &mut Vec<u8>) -> Result<(), ContentError> {
        self.received += piece.len() as u64;
        let mut rest = piece;
        let stream = match &mut self.stream {
            Some(stream) => stream,
            None => {
                let (head, after) = rest.split_at(rest.len().min(NONCE - self.tail.length));
                self.tail.push(head);
                let Some(nonce) = self.tail.take_nonce() else {
                    return Ok(());
                };
                rest = after;
                self.stream.insert(self.key.start(&nonce))
            }
        };

        // All but the last 16 bytes are ciphertext: first those of the tail, then those of this piece.
        let certain = (self.tail.length + rest.len()).saturating_sub(TAG);
        let from_tail = certain.min(self.tail.length);
        stream.decrypt(self.tail.front(from_tail), out)?;
        self.tail.drop_front(from_tail);
        let (ciphertext, after) = rest.split_at(certain - from_tail);
        stream.decrypt(ciphertext, out)?;
        self.tail.push(after);
        Ok(())
    }

    /// Checks the tag at the end of the blob.
    ///
    /// # Errors
    /// [`ContentError::Forged`] if it does not match, [`ContentError::TooShort`] if the blob ended before
    /// there could be one. Either way the output must be discarded.
    pub fn finish(self) -> Result<(), ContentError> {
        let too_short = ContentError::TooShort { received: self.received };
        let stream = self.stream.ok_or(too_short)?;
        if self.tail.length == 0 {
            return Ok(());
        }
        if self.tail.length < TAG {
            return Err(too_short);
        }
        if stream.verify(&self.tail.bytes) { Ok(()) } else { Err(ContentError::Forged) }
    }
}

/// Up to 16 received bytes that are not used yet.
#[derive(Default)]
struct Tail {
    bytes: [u8; TAG],
    length: usize,
}

impl Tail {
    fn push(&mut self, bytes: &[u8]) {
        self.bytes[self.length..self.length + bytes.len()].copy_from_slice(bytes);
        self.length += bytes.len();
    }

    fn front(&self, length: usize) -> &[u8] {
        &self.bytes[..length]
    }

    fn drop_front(&mut self, length: usize) {
        self.bytes.copy_within(length..self.length, 0);
        self.length -= length;
    }

    /// Empties it and returns the nonce, once it is complete.
    fn take_nonce(&mut self) -> Option<[u8; NONCE]> {
        if self.length < NONCE {
            return None;
        }
        self.length = 0;
        self.bytes.first_chunk().copied()
    }
}

/// Encrypts one content as it is read.
///
/// The concatenated output is the blob: the nonce comes first, by itself, with the first
/// [`update`](Self::update) or, for an empty content, with [`finish`](Self::finish).
pub struct ContentEncryptor {
    stream: GcmStream,
    /// The nonce, until it was output.
    nonce: Option<[u8; NONCE]>,
}

impl ContentEncryptor {
    pub(crate) fn new(key: &GcmKey, nonce: [u8; NONCE]) -> Self {
        Self { stream: key.start(&nonce), nonce: Some(nonce) }
    }

    /// Takes the next part of the content, of any length, and appends its part of the blob to `out`.
    ///
    /// # Errors
    /// [`ContentError::TooLong`] beyond 64 GiB.
    pub fn update(&mut self, part: &[u8], out: &mut Vec<u8>) -> Result<(), ContentError> {
        self.give_nonce(out);
        Ok(self.stream.encrypt(part, out)?)
    }

    /// Ends the blob: appends the tag to `out`.
    pub fn finish(mut self, out: &mut Vec<u8>) {
        self.give_nonce(out);
        out.extend_from_slice(&self.stream.tag());
    }

    fn give_nonce(&mut self, out: &mut Vec<u8>) {
        if let Some(nonce) = self.nonce.take() {
            out.extend_from_slice(&nonce);
        }
    }
}

impl std::fmt::Debug for ContentDecryptor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ContentDecryptor").field("received", &self.received).finish_non_exhaustive()
    }
}

impl std::fmt::Debug for ContentEncryptor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ContentEncryptor").finish_non_exhaustive()
    }
}

//! Resumable AES-256-GCM: NIST SP 800-38D with a 96-bit nonce and no associated data.
//!
//! The AEAD crates need a whole message at once. A vault's files have up to hundreds of megabytes, so this
//! module keeps the two halves of GCM, the key stream and GHASH, as state between pieces.

use aes::cipher::{InnerIvInit as _, KeyInit as _, StreamCipher as _};
use aes::{Aes256Enc, Block};
use ctr::cipher::BlockCipherEncrypt as _;
use ctr::cipher::{StreamCipherCore as _, StreamCipherCoreWrapper};
use ghash::GHash;
use ghash::universal_hash::UniversalHash as _;
use subtle::ConstantTimeEq as _;

/// Length of the nonce, in bytes.
pub(crate) const NONCE: usize = 12;
/// Length of the tag, in bytes.
pub(crate) const TAG: usize = 16;

/// Bytes hashed before they are decrypted (or the other way round): a part of the first-level cache, so that
/// the second pass does not go to memory.
const CHUNK: usize = 16 * 1024;

type CounterCore = ctr::CtrCore<Aes256Enc, ctr::flavors::Ctr32BE>;

/// A GCM key, expanded once.
#[derive(Clone)]
pub(crate) struct GcmKey {
    cipher: Aes256Enc,
    ghash: GHash,
}

/// The message is longer than the 64 GiB that GCM can encrypt under one nonce.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TooLong;

impl GcmKey {
    pub(crate) fn new(key: &[u8; 32]) -> Self {
        let cipher = Aes256Enc::new(key.into());
        let mut hash_key = ghash::Key::default();
        cipher.encrypt_block(&mut hash_key);
        let ghash = GHash::new(&hash_key);
        zeroize::Zeroize::zeroize(hash_key.as_mut_slice());
        Self { cipher, ghash }
    }

    /// Starts a message.
    pub(crate) fn start(&self, nonce: &[u8; NONCE]) -> GcmStream {
        let mut first = Block::default();
        first[..NONCE].copy_from_slice(nonce);
        first[15] = 1;
        let mut core = CounterCore::inner_iv_init(self.cipher.clone(), &first);
        let mut tag_mask = Block::default();
        core.write_keystream_block(&mut tag_mask);
        GcmStream {
            keystream: StreamCipherCoreWrapper::from_core(core),
            ghash: self.ghash.clone(),
            partial: [0; 16],
            length: 0,
            tag_mask: tag_mask.into(),
        }
    }
}

/// A message in progress, in either direction.
pub(crate) struct GcmStream {
    keystream: StreamCipherCoreWrapper<CounterCore>,
    ghash: GHash,
    /// Ciphertext that does not fill a block of GHASH yet: the first `length % 16` bytes.
    partial: [u8; 16],
    /// Bytes of ciphertext so far.
    length: u64,
    tag_mask: [u8; 16],
}

impl GcmStream {
    /// Takes the next ciphertext and appends its plaintext to `out`. It is not authentic before
    /// [`verify`](Self::verify) returned true.
    pub(crate) fn decrypt(&mut self, ciphertext: &[u8], out: &mut Vec<u8>) -> Result<(), TooLong> {
        out.reserve(ciphertext.len());
        for chunk in ciphertext.chunks(CHUNK) {
            self.hash(chunk);
            let start = out.len();
            out.extend_from_slice(chunk);
            self.keystream.try_apply_keystream(&mut out[start..]).map_err(|_| TooLong)?;
        }
        Ok(())
    }

    /// Takes the next plaintext and appends its ciphertext to `out`.
    pub(crate) fn encrypt(&mut self, plaintext: &[u8], out: &mut Vec<u8>) -> Result<(), TooLong> {
        out.reserve(plaintext.len());
        for chunk in plaintext.chunks(CHUNK) {
            let start = out.len();
            out.extend_from_slice(chunk);
            self.keystream.try_apply_keystream(&mut out[start..]).map_err(|_| TooLong)?;
            self.hash(&out[start..]);
        }
        Ok(())
    }

    /// The tag of the message.
    pub(crate) fn tag(mut self) -> [u8; TAG] {
        let filled = self.filled();
        if filled > 0 {
            self.partial[filled..].fill(0);
            self.ghash.update(&[self.partial.into()]);
        }
        // The lengths in bits of the associated data, which is empty, and of the ciphertext.
        let lengths = u128::from(self.length) * 8;
        self.ghash.update(&[lengths.to_be_bytes().into()]);
        let hash: [u8; 16] = self.ghash.finalize().into();
        (u128::from_ne_bytes(hash) ^ u128::from_ne_bytes(self.tag_mask)).to_ne_bytes()
    }

    /// True if the message was encrypted with this key: compares the tag in constant time.
    pub(crate) fn verify(self, tag: &[u8; TAG]) -> bool {
        self.tag().ct_eq(tag).into()
    }

    /// Filled bytes of the partial block.
    fn filled(&self) -> usize {
        (self.length % 16) as usize
    }

    /// Feeds ciphertext to GHASH and keeps the rest that does not fill a block.
    fn hash(&mut self, ciphertext: &[u8]) {
        let filled = self.filled();
        self.length += ciphertext.len() as u64;
        let mut rest = ciphertext;
        if filled > 0 {
            let (head, after) = rest.split_at(rest.len().min(16 - filled));
            self.partial[filled..filled + head.len()].copy_from_slice(head);
            if filled + head.len() < 16 {
                return;
            }
            self.ghash.update(&[self.partial.into()]);
            rest = after;
        }
        let (blocks, tail) = ghash::Block::slice_as_chunks(rest);
        self.ghash.update(blocks);
        self.partial[..tail.len()].copy_from_slice(tail);
    }
}

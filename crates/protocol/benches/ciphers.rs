//! Speed of the ciphers: `cargo bench -p obsync-protocol`.
//!
//! Content is measured in the 2 MiB pieces in which it is transferred, beside the `aes-gcm` crate's one-shot
//! call on the same piece, which the streaming cipher should come near to.

#![allow(clippy::expect_used, reason = "a benchmark that cannot be set up has nothing to measure")]

use std::hint::black_box;

use aes_gcm::aead::{AeadInOut, KeyInit};
use aes_gcm::{Aes256Gcm, Nonce};
use divan::Bencher;
use divan::counter::{BytesCount, ItemsCount};
use obsync_protocol::{
    ContentHash, ContentHasher, EncryptionVersion, MasterKey, SecretString, ServerMessage, VaultKeys,
    VaultPath,
};

/// Size of a transferred piece.
const PIECE: usize = 2 << 20;

/// A path of the usual length.
const PATH: &str = "Projects/2024/Meeting notes/note-153722.md";

fn main() {
    divan::main();
}

fn keys(version: EncryptionVersion) -> VaultKeys {
    let master = MasterKey::from_hex(&"5a".repeat(32)).expect("64 digits");
    VaultKeys::new(&master, version, "salt")
}

/// The master key from a password: scrypt.
#[divan::bench(sample_count = 10)]
fn derive_master_key() -> MasterKey {
    MasterKey::derive(&SecretString::from("password"), black_box("salt"))
}

/// All keys of a vault from its master key.
#[divan::bench]
fn derive_vault_keys() -> VaultKeys {
    keys(black_box(EncryptionVersion::V3))
}

#[divan::bench(args = [EncryptionVersion::V0, EncryptionVersion::V3])]
fn decode_path(bencher: Bencher<'_, '_>, version: EncryptionVersion) {
    let keys = keys(version);
    let encoded = keys.encode_path(&VaultPath::parse(PATH).expect("a path"));
    bencher.counter(ItemsCount::new(1_u32)).bench(|| keys.decode_path(black_box(&encoded)));
}

#[divan::bench(args = [EncryptionVersion::V0, EncryptionVersion::V3])]
fn decode_hash(bencher: Bencher<'_, '_>, version: EncryptionVersion) {
    let keys = keys(version);
    let encoded = keys.encode_hash(&ContentHash::EMPTY);
    bencher.counter(ItemsCount::new(1_u32)).bench(|| keys.decode_hash(black_box(&encoded)));
}

/// One entry of a listing, from its text.
#[divan::bench]
fn parse_push_message(bencher: Bencher<'_, '_>) {
    let keys = keys(EncryptionVersion::V3);
    let path = keys.encode_path(&VaultPath::parse(PATH).expect("a path"));
    let hash = keys.encode_hash(&ContentHash::EMPTY);
    let text = format!(
        r#"{{"op":"push","path":"{path}","hash":"{hash}","ctime":1795344174715,"mtime":1795344174715,
            "size":34,"folder":false,"deleted":false,"uid":3,"device":"Laptop","user":"a@example.com"}}"#
    );
    bencher.counter(ItemsCount::new(1_u32)).bench(|| ServerMessage::parse(black_box(&text)));
}

/// Pieces of a long file, one after the other.
#[divan::bench]
fn decrypt_content(bencher: Bencher<'_, '_>) {
    let keys = keys(EncryptionVersion::V3);
    let piece = vec![7; PIECE];
    let mut content = Vec::with_capacity(PIECE);
    let mut decryptor = keys.content_decryptor();
    bencher.counter(BytesCount::new(PIECE)).bench_local(|| {
        content.clear();
        decryptor.update(black_box(&piece), &mut content)
    });
}

/// Pieces of a long file, decrypted and hashed, as in a download.
#[divan::bench]
fn decrypt_and_hash_content(bencher: Bencher<'_, '_>) {
    let keys = keys(EncryptionVersion::V3);
    let piece = vec![7; PIECE];
    let mut content = Vec::with_capacity(PIECE);
    let mut decryptor = keys.content_decryptor();
    let mut hasher = ContentHasher::new();
    bencher.counter(BytesCount::new(PIECE)).bench_local(|| {
        content.clear();
        decryptor.update(black_box(&piece), &mut content).expect("below 64 GiB");
        hasher.update(&content);
    });
}

/// Pieces of a long file, one after the other.
#[divan::bench]
fn encrypt_content(bencher: Bencher<'_, '_>) {
    let keys = keys(EncryptionVersion::V3);
    let piece = vec![7; PIECE];
    let mut blob = Vec::with_capacity(PIECE + 12);
    let mut encryptor = keys.content_encryptor([1; 12]);
    bencher.counter(BytesCount::new(PIECE)).bench_local(|| {
        blob.clear();
        encryptor.update(black_box(&piece), &mut blob)
    });
}

/// A small note: shows the setup cost of a message.
#[divan::bench]
fn decrypt_small_content(bencher: Bencher<'_, '_>) {
    let keys = keys(EncryptionVersion::V3);
    let blob = keys.seal([1; 12], &[7; 2000]).expect("short");
    bencher.counter(BytesCount::new(2000_u32)).bench(|| keys.open(black_box(&blob)));
}

/// `aes-gcm` on a piece: copied, as the streaming cipher does, then decrypted in place.
#[divan::bench]
fn aes_gcm_one_shot(bencher: Bencher<'_, '_>) {
    let cipher = Aes256Gcm::new(&[7; 32].into());
    let nonce = Nonce::from([1; 12]);
    let mut sealed = vec![7; PIECE];
    let tag = cipher.encrypt_inout_detached(&nonce, b"", sealed.as_mut_slice().into()).expect("short");
    let mut content = Vec::with_capacity(PIECE);
    bencher.counter(BytesCount::new(PIECE)).bench_local(|| {
        content.clear();
        content.extend_from_slice(black_box(&sealed));
        cipher.decrypt_inout_detached(&nonce, b"", content.as_mut_slice().into(), &tag)
    });
}

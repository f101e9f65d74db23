//! Content in pieces equals content at once, compared with the `aes-gcm` crate.

use aes_gcm::aead::{Aead, KeyInit};
use aes_gcm::{Aes256Gcm, Nonce};
use data_encoding::HEXLOWER;
use obsync_protocol::{
    CONTENT_OVERHEAD, ContentError, EncryptionVersion, NONCE_LENGTH, VaultKeys, plain_size,
};
use proptest::prelude::*;

use crate::support::{MASTER_KEY, VERSIONS, keys};

/// Version 0 encrypts content with the master key itself, so the other implementation can have the key.
fn keys_v0() -> VaultKeys {
    keys(EncryptionVersion::V0)
}

/// A blob from the other implementation.
fn sealed_elsewhere(nonce: [u8; NONCE_LENGTH], content: &[u8]) -> Vec<u8> {
    let key = HEXLOWER.decode(MASTER_KEY.as_bytes()).expect("hexadecimal");
    let cipher = Aes256Gcm::new_from_slice(&key).expect("32 bytes");
    let mut blob = nonce.to_vec();
    blob.extend(cipher.encrypt(&Nonce::from(nonce), content).expect("a short content"));
    blob
}

/// Cuts `whole` at the given places (modulo its length).
fn pieces<'w>(whole: &'w [u8], cuts: &[usize]) -> Vec<&'w [u8]> {
    let mut places: Vec<usize> = cuts.iter().map(|cut| cut % (whole.len() + 1)).collect();
    places.extend([0, whole.len()]);
    places.sort_unstable();
    places.windows(2).map(|pair| &whole[pair[0]..pair[1]]).collect()
}

/// Decrypts piece by piece: the output, and the result of the tag check.
fn open_in_pieces(keys: &VaultKeys, pieces: &[&[u8]]) -> (Vec<u8>, Result<(), ContentError>) {
    let mut content = Vec::new();
    let mut decryptor = keys.content_decryptor();
    for piece in pieces {
        decryptor.update(piece, &mut content).expect("far below 64 GiB");
    }
    (content, decryptor.finish())
}

/// Contents of all sizes around the cipher's blocks and chunks.
fn any_content() -> impl Strategy<Value = Vec<u8>> {
    let size = prop_oneof![0..70_usize, 8_000..8_400_usize, 16_000..40_000_usize];
    (size, any::<u64>()).prop_map(|(size, seed)| noise(size, seed))
}

/// Bytes without a pattern that a cipher test could miss; cheaper than drawing each one.
fn noise(size: usize, seed: u64) -> Vec<u8> {
    let mut state = seed | 1;
    let step = |_| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 32) as u8
    };
    (0..size).map(step).collect()
}

fn any_cuts() -> impl Strategy<Value = Vec<usize>> {
    prop_oneof![
        proptest::collection::vec(any::<usize>(), 0..12),
        // Many small pieces at the start, where nonce and first block are.
        proptest::collection::vec(0..64_usize, 0..40),
    ]
}

proptest! {
    #[test]
    fn any_blob_in_any_pieces_is_decrypted_as_by_one_call_of_aes_gcm(
        content in any_content(), cuts in any_cuts(), nonce: [u8; NONCE_LENGTH],
    ) {
        let blob = sealed_elsewhere(nonce, &content);
        let (opened, verdict) = open_in_pieces(&keys_v0(), &pieces(&blob, &cuts));
        prop_assert_eq!(verdict, Ok(()));
        prop_assert!(opened == content);
        prop_assert_eq!(plain_size(blob.len() as u64), Some(content.len() as u64));
    }

    #[test]
    fn any_content_in_any_pieces_is_encrypted_as_by_one_call_of_aes_gcm(
        content in any_content(), cuts in any_cuts(), nonce: [u8; NONCE_LENGTH],
    ) {
        let mut blob = Vec::new();
        let mut encryptor = keys_v0().content_encryptor(nonce);
        for part in pieces(&content, &cuts) {
            encryptor.update(part, &mut blob).expect("far below 64 GiB");
        }
        encryptor.finish(&mut blob);
        prop_assert!(blob == sealed_elsewhere(nonce, &content));
    }

    #[test]
    fn what_was_sealed_is_opened_in_every_version(content in any_content(), nonce: [u8; NONCE_LENGTH]) {
        for version in VERSIONS {
            let blob = keys(version).seal(nonce, &content).expect("far below 64 GiB");
            prop_assert_eq!(blob.len() as u64, content.len() as u64 + CONTENT_OVERHEAD);
            prop_assert!(keys(version).open(&blob).expect("just sealed") == content);
        }
    }

    #[test]
    fn a_blob_with_any_bit_changed_is_refused(
        content in any_content(), cuts in any_cuts(), place: usize, bit in 0..8_u32,
    ) {
        let mut blob = sealed_elsewhere([7; NONCE_LENGTH], &content);
        let place = place % blob.len();
        blob[place] ^= 1 << bit;
        let (_, verdict) = open_in_pieces(&keys_v0(), &pieces(&blob, &cuts));
        prop_assert_eq!(verdict, Err(ContentError::Forged));
    }

    #[test]
    fn a_blob_that_is_cut_off_anywhere_is_refused(
        content in any_content(), cuts in any_cuts(), lost in 1_usize..,
    ) {
        let mut blob = sealed_elsewhere([7; NONCE_LENGTH], &content);
        blob.truncate(blob.len() - 1 - lost % blob.len());
        let (_, verdict) = open_in_pieces(&keys_v0(), &pieces(&blob, &cuts));
        match blob.len() {
            12 => prop_assert_eq!(verdict, Ok(()), "a bare nonce is an empty content"),
            0..28 => prop_assert_eq!(verdict, Err(ContentError::TooShort { received: blob.len() as u64 })),
            _ => prop_assert_eq!(verdict, Err(ContentError::Forged)),
        }
    }

    #[test]
    fn a_blob_with_anything_after_it_is_refused(content in any_content(), more in 1..40_usize) {
        let mut blob = sealed_elsewhere([7; NONCE_LENGTH], &content);
        blob.extend(noise(more, 5));
        prop_assert_eq!(keys_v0().open(&blob), Err(ContentError::Forged));
    }
}

#[test]
fn a_blob_is_refused_under_the_keys_of_another_vault() {
    let blob = keys(EncryptionVersion::V3).seal([1; NONCE_LENGTH], b"text").expect("short");
    assert_eq!(keys_v0().open(&blob), Err(ContentError::Forged));
}

#[test]
fn a_bare_nonce_is_an_empty_content_and_no_other_size_below_28_is_any() {
    for size in 0..28_u64 {
        let blob = vec![0; size as usize];
        let expected =
            if size == 12 { Ok(Vec::new()) } else { Err(ContentError::TooShort { received: size }) };
        assert_eq!(keys_v0().open(&blob), expected, "{size} bytes");
    }
}

#[test]
fn sizes_tell_the_size_of_the_content() {
    let none = |size: u64| assert_eq!(plain_size(size), None, "{size} bytes");
    (1..12).for_each(none);
    (13..28).for_each(none);
    for (size, plain) in [(0, 0), (12, 0), (28, 0), (29, 1), (u64::MAX, u64::MAX - 28)] {
        assert_eq!(plain_size(size), Some(plain), "{size} bytes");
    }
}

#[test]
fn the_plaintext_comes_out_as_soon_as_it_is_known_not_to_be_the_tag() {
    let blob = sealed_elsewhere([7; NONCE_LENGTH], b"0123456789");
    let mut content = Vec::new();
    let mut decryptor = keys_v0().content_decryptor();
    for (count, byte) in blob.iter().enumerate() {
        decryptor.update(&[*byte], &mut content).expect("short");
        let certain = (count + 1).saturating_sub(CONTENT_OVERHEAD as usize);
        assert_eq!(content, &b"0123456789"[..certain]);
    }
    assert_eq!(decryptor.finish(), Ok(()));
}

#[test]
fn a_file_of_many_pieces_takes_no_more_memory_than_a_piece() {
    const PIECE: usize = 2 << 20;
    let piece = noise(PIECE, 3);
    let keys = keys(EncryptionVersion::V3);
    let mut encryptor = keys.content_encryptor([9; NONCE_LENGTH]);
    let mut decryptor = keys.content_decryptor();
    let (mut blob, mut content) = (Vec::with_capacity(PIECE + 64), Vec::with_capacity(PIECE + 64));
    let (blob_room, content_room) = (blob.capacity(), content.capacity());
    let mut received = 0;
    for _ in 0..20 {
        encryptor.update(&piece, &mut blob).expect("40 MiB");
        decryptor.update(&blob, &mut content).expect("40 MiB");
        received += content.len();
        blob.clear();
        content.clear();
    }
    encryptor.finish(&mut blob);
    decryptor.update(&blob, &mut content).expect("40 MiB");
    assert_eq!(decryptor.finish(), Ok(()));
    assert_eq!(received + content.len(), 20 * PIECE);
    assert_eq!((blob.capacity(), content.capacity()), (blob_room, content_room));
}

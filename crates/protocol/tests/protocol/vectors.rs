//! Every case of `vectors.json`, computed by WebCrypto, in both directions.

use data_encoding::HEXLOWER;
use obsync_protocol::{
    ContentHash, EncryptionVersion, ExposeSecret, MasterKey, SecretString, VaultKeys, VaultPath,
};
use serde_json::Value;

fn vectors() -> Value {
    serde_json::from_str(include_str!("../data/vectors.json")).expect("the vectors are JSON")
}

fn text<'v>(case: &'v Value, field: &str) -> &'v str {
    case[field].as_str().unwrap_or_else(|| panic!("a vector without {field}"))
}

fn list<'v>(case: &'v Value, field: &str) -> &'v [Value] {
    case[field].as_array().unwrap_or_else(|| panic!("a vector without {field}"))
}

/// The keys of each cipher case, with the case.
fn cipher_cases(vectors: &Value) -> Vec<(VaultKeys, &Value)> {
    let mut cases = Vec::new();
    for (name, versions) in
        [("v0", &[EncryptionVersion::V0][..]), ("v3", &[EncryptionVersion::V2, EncryptionVersion::V3])]
    {
        for case in list(vectors, name) {
            let master = MasterKey::from_hex(text(case, "master_key")).expect("a master key");
            let salt = case["salt"].as_str().unwrap_or_default();
            cases.extend(versions.iter().map(|version| (VaultKeys::new(&master, *version, salt), case)));
        }
    }
    assert_eq!(cases.len(), 5, "one case of version 0, two of version 3 that hold for version 2 as well");
    cases
}

#[test]
fn every_password_gives_its_master_key() {
    let vectors = vectors();
    assert_eq!(list(&vectors, "kdf").len(), 4);
    for case in list(&vectors, "kdf") {
        let password = SecretString::from(text(case, "password"));
        let master = MasterKey::derive(&password, text(case, "salt"));
        assert_eq!(master.expose_hex().expose_secret(), text(case, "master_key"));
    }
}

#[test]
fn every_master_key_gives_its_key_hash() {
    for (keys, case) in cipher_cases(&vectors()) {
        assert_eq!(keys.key_hash().as_str(), text(case, "key_hash"));
    }
}

#[test]
fn every_text_has_its_encoding_and_every_encoding_its_text() {
    let mut checked = 0;
    for (keys, case) in cipher_cases(&vectors()) {
        for table in ["encode", "siv_wrap"] {
            for (plain, encoded) in case[table].as_object().into_iter().flatten() {
                let encoded = encoded.as_str().expect("an encoding is text");
                assert_eq!(keys.encode_text(plain).as_deref(), Ok(encoded), "{table} of {plain:?}");
                assert_eq!(keys.decode_text(encoded).as_deref(), Ok(plain.as_str()), "{table} of {plain:?}");
                checked += 1;
            }
        }
    }
    assert_eq!(checked, 8 + 2 * (2 * 8 + WRAPS));
}

/// Number of texts, in both cases together, with a counter that wraps in its last 16 bits.
const WRAPS: usize = 6;

#[test]
fn names_with_a_wrapping_counter_are_read_as_paths() {
    for (keys, case) in cipher_cases(&vectors()) {
        for (plain, encoded) in case["siv_wrap"].as_object().into_iter().flatten() {
            let path = VaultPath::parse(plain).expect("the vectors are paths");
            let encoded = encoded.as_str().expect("an encoding is text");
            assert_eq!(keys.decode_path(encoded), Ok(path.clone()));
            assert_eq!(keys.encode_path(&path).as_str(), encoded);
        }
    }
}

#[test]
fn the_hash_of_nothing_is_among_the_texts_and_read_as_a_hash() {
    for (keys, case) in cipher_cases(&vectors()) {
        let encoded =
            case["encode"][ContentHash::EMPTY.to_string()].as_str().expect("the case of no content");
        assert_eq!(keys.decode_hash(encoded), Ok(ContentHash::EMPTY));
        assert_eq!(keys.encode_hash(&ContentHash::of(b"")).as_str(), encoded);
    }
}

#[test]
fn every_content_has_its_blob_and_every_blob_its_content() {
    let mut checked = 0;
    for (keys, case) in cipher_cases(&vectors()) {
        for content in list(case, "content") {
            let plaintext = text(content, "plaintext").as_bytes();
            let blob = HEXLOWER.decode(text(content, "blob").as_bytes()).expect("a blob is hexadecimal");
            let nonce = *blob.first_chunk().expect("a blob has a nonce");
            assert_eq!(keys.seal(nonce, plaintext).as_ref(), Ok(&blob));
            assert_eq!(keys.open(&blob).as_deref(), Ok(plaintext));
            checked += 1;
        }
    }
    assert_eq!(checked, 5 * 3);
}
